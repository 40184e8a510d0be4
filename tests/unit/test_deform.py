"""Maps of motions: inverses, areas, rest at time 0, and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usim.errors import ConfigError
from usim.phantom import deform
from usim.phantom.course import course_of
from usim.phantom.draw import draw
from usim.phantom.flow import streams
from usim.phantom.heartbeat import heartbeat, heartbeat_until
from usim.phantom.load import phantom_from_dict

MM = 1e-3
GRID = np.meshgrid(np.linspace(-19, 19, 41) * MM, np.linspace(2, 42, 41) * MM)
VESSEL = {"type": "pulsation", "radius": 3 * MM, "amplitude": 0.2, "heart_rate": 1.3}
MOTIONS = {
    "translation": {"type": "translation", "velocity": [3 * MM, -2 * MM]},
    "to and fro": {"type": "translation", "amplitude": [1 * MM, 2 * MM], "frequency": 1.7, "phase": 0.4},
    "rotation": {"type": "rotation", "center": [2 * MM, 15 * MM], "rate": 0.1},
    "shear": {"type": "shear", "center": [0.0, 20 * MM], "angle": 0.3, "rate": 0.05},
    "strain": {"type": "strain", "center": [1 * MM, 2 * MM], "angle": 1.4, "rate": -0.03},
    "breathing": {"type": "breathing", "amplitude": 3 * MM, "period": 3.0, "phase": 1.0},
    "cross-section": {**VESSEL, "center": [1 * MM, 15 * MM]},
    "within reach": {**VESSEL, "center": [1 * MM, 15 * MM], "reach": 12 * MM, "phase": 0.7},
    "bent": {
        **VESSEL,
        "path": [[-18 * MM, 15 * MM], [-6 * MM, 19 * MM], [6 * MM, 16 * MM], [18 * MM, 18 * MM]],
        "reach": 8 * MM,
    },
    "lengthwise": {**VESSEL, "axis": [[-10 * MM, 14 * MM], [10 * MM, 16 * MM]]},
}
# no vessel: its lumen fills, and lengthwise it is the volume that stays
AREA_STAYS = ("translation", "to and fro", "rotation", "shear", "strain", "breathing")


def scene(*motions, regions=(), times=50, rate=25.0):
    return draw(
        phantom_from_dict(
            {
                "probe": "L11-5v",
                "image": {"x": ["-19 mm", "19 mm"], "z": ["2 mm", "42 mm"], "pixels": [38, 40]},
                "background": {"echogenicity": 0},
                "regions": list(regions),
                "sequence": {"times": times, "rate": rate, "motions": list(motions)},
            }
        )
    )


@pytest.mark.parametrize("name", MOTIONS)
def test_nothing_has_moved_at_time_zero(name):
    one = scene(MOTIONS[name])
    assert not deform.displacement(one, 0.0, *GRID).any()
    # and it does not jump there either
    assert np.abs(deform.displacement(one, 1e-9, *GRID)).max() < 1e-9


@given(time=st.floats(0.0, 2.0), order=st.permutations(sorted(MOTIONS)), count=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_inverse_undoes_any_composition(time, order, count):
    """inverse(forward) is the identity within 1e-9 of a metre, and the order is that of the list."""
    one = scene(*(MOTIONS[name] for name in order[:count]))
    back = deform.inverse(one, time, *deform.forward(one, time, *GRID))
    np.testing.assert_allclose(back, GRID, rtol=0, atol=1e-9)
    x, z = GRID
    for name in order[:count]:
        x, z = deform.forward(scene(MOTIONS[name]), time, x, z)
    np.testing.assert_allclose(deform.forward(one, time, *GRID), (x, z), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MOTIONS)
def test_area_growth_is_the_jacobian(name):
    """Against central differences of the map, away from a vessel's wall, where it has a kink; 1 where areas stay.

    A bent course is a table, whose curvature has steps of a thousandth.
    """
    one, step, time = scene(MOTIONS[name]), 1e-6, 0.33
    x, z = GRID
    right, left = deform.forward(one, time, x + step, z), deform.forward(one, time, x - step, z)
    below, above = deform.forward(one, time, x, z + step), deform.forward(one, time, x, z - step)
    (a, c), (b, d) = ((np.subtract(p, q) / (2 * step)) for p, q in ((right, left), (below, above)))
    found = deform.area_growth(one, time, x, z)
    smooth = np.ones(x.shape, bool)
    if name == "bent":
        course = course_of(tuple(map(tuple, MOTIONS[name]["path"])))
        distance = np.abs(course.of(x.ravel(), z.ravel())[1]).reshape(x.shape)
        smooth = np.min([np.abs(distance - joint) for joint in (3 * MM, 8 * MM)], axis=0) > 0.01 * MM
    elif "center" in MOTIONS[name]:
        distance = np.hypot(x - MOTIONS[name]["center"][0], z - MOTIONS[name]["center"][1])
        smooth = np.min([np.abs(distance - joint) for joint in (3 * MM, 12 * MM)], axis=0) > 0.01 * MM
    np.testing.assert_allclose(found[smooth], (a * d - b * c)[smooth], rtol=1e-3 if name == "bent" else 1e-5)
    if name in AREA_STAYS:
        np.testing.assert_allclose(found, 1.0, rtol=1e-12)


def lumen_radius(motion, time):
    beat = motion.get("phase", 0.0) / (2 * math.pi)
    wave = heartbeat(motion["heart_rate"] * time + beat) - heartbeat(beat)
    return motion["radius"] * (1 + motion["amplitude"] * float(wave))


@pytest.mark.parametrize("time", [0.1, 0.4, 1.1])
def test_vessel_pushes_tissue_aside_without_squeezing_it(time):
    """r^2 = R^2 + a^2 - a0^2 outside, r = R a / a0 in the lumen; angles stay."""
    motion = MOTIONS["cross-section"]
    one, a, (cx, cz) = scene(motion), lumen_radius(motion, time), motion["center"]
    outer = math.sqrt((8 * MM) ** 2 + a**2 - (3 * MM) ** 2)
    for before, after in ((1.5 * MM, 0.5 * a), (8 * MM, outer)):
        angle = np.linspace(0, 6, 7)
        x, z = deform.forward(one, time, cx + before * np.cos(angle), cz + before * np.sin(angle))
        np.testing.assert_allclose(np.hypot(x - cx, z - cz), after, rtol=1e-12)
        np.testing.assert_allclose(np.unwrap(np.arctan2(z - cz, x - cx)), angle, atol=1e-12)
    outside = np.hypot(GRID[0] - cx, GRID[1] - cz) > 3 * MM
    np.testing.assert_allclose(deform.area_growth(one, time, *GRID)[outside], 1.0, rtol=1e-9)


def test_tissue_rests_beyond_the_reach_and_the_wall_is_where_the_pulse_is():
    motion = MOTIONS["within reach"]
    one, (cx, cz) = scene(motion), motion["center"]
    for time in (0.1, 0.3, 0.6):
        ways = np.hypot(*np.moveaxis(deform.displacement(one, time, *GRID), -1, 0))
        far = np.hypot(GRID[0] - cx, GRID[1] - cz) > 12 * MM
        assert ways[far].max() == 0.0
        assert ways[~far].max() > 0.05 * MM
        x, _ = deform.forward(one, time, cx + 3 * MM, cz)
        assert float(x) - cx == pytest.approx(lumen_radius(motion, time), rel=1e-12)


def test_lengthwise_vessel_is_the_same_tube():
    """Distances to the axis follow the cross-section's formula, places along it stay; volume stays: J r / R = 1."""
    motion, time = MOTIONS["lengthwise"], 0.2
    one, a = scene(motion), lumen_radius(motion, time)
    along = np.array([20.0, 2.0]) / math.hypot(20, 2)
    across = np.array([-along[1], along[0]])
    middle = np.array([0.0, 15 * MM])
    for side in (-1, 1):
        place = middle + 5 * MM * along + side * 7 * MM * across
        moved = np.array(deform.forward(one, time, *place)) - middle
        distance = math.sqrt((7 * MM) ** 2 + a**2 - (3 * MM) ** 2)
        assert moved @ along == pytest.approx(5 * MM, rel=1e-12)
        assert moved @ across == pytest.approx(side * distance, rel=1e-12)
        assert deform.area_growth(one, time, *place) * distance / (7 * MM) == pytest.approx(1.0, rel=1e-12)


def test_bent_vessel_keeps_its_course_and_tissue_beyond_its_reach():
    """Its wall stays at the lumen's radius from the course; a straight path is an axis with a reach."""
    motion, time = MOTIONS["bent"], 0.2
    one, a, course = scene(motion), lumen_radius(motion, time), course_of(tuple(map(tuple, motion["path"])))
    place = np.linspace(1, 36, 50) * MM
    for side in (-1, 1):
        x, z = course.at(place, np.full(50, side * 3 * MM))
        moved = course.of(*deform.forward(one, time, x, z))
        np.testing.assert_allclose(moved[1], side * a, atol=1e-8)
        np.testing.assert_allclose(moved[0], place, atol=1e-8)
        x, z = course.at(place, np.full(50, side * 8.01 * MM))
        np.testing.assert_array_equal(deform.forward(one, time, x, z), (x, z))
    ends = [[-10 * MM, 14 * MM], [10 * MM, 16 * MM]]
    straight, axis = (scene({**VESSEL, key: ends, "reach": 9 * MM}) for key in ("path", "axis"))
    for function in (deform.forward, deform.inverse, deform.area_growth):
        np.testing.assert_allclose(function(straight, time, *GRID), function(axis, time, *GRID), atol=1e-9)


def test_directions_are_those_of_the_pages():
    """x to the right, z down, angles from x towards z; strain lengthens along its angle and narrows across."""
    at = {"center": [0.0, 20 * MM]}
    place = (5 * MM, 20 * MM)
    turned = deform.forward(scene({"type": "rotation", "rate": math.pi / 2, **at}, times=2), 1.0, *place)
    assert turned == pytest.approx((0.0, 25 * MM), abs=1e-12)
    slid = deform.forward(scene({"type": "shear", "rate": 0.1, **at}), 1.0, 0.0, 25 * MM)
    assert slid == pytest.approx((0.5 * MM, 25 * MM), abs=1e-12)
    pressed = deform.forward(scene({"type": "strain", "rate": -0.05, **at}), 1.0, 5 * MM, 30 * MM)
    assert pressed == pytest.approx((5 * MM / 0.95, 29.5 * MM), abs=1e-12)
    inhaled = deform.forward(scene({"type": "breathing", "amplitude": 3 * MM, "period": 4.0}), 2.0, *place)
    assert inhaled == pytest.approx((5 * MM, 23 * MM), abs=1e-12)


def test_rectangle_of_origins_holds_what_is_seen():
    names = ("rotation", "breathing", "cross-section")
    one = scene(*(MOTIONS[name] for name in names))
    (left, right), (top, bottom) = deform.origins(one, (-19 * MM, 19 * MM), (2 * MM, 42 * MM))
    for step in range(50):
        x, z = deform.inverse(one, step / 25, *GRID)
        assert left <= x.min() <= x.max() <= right
        assert top <= z.min() <= z.max() <= bottom


def test_long_sequences_are_judged_at_moments_that_hide_no_cycle():
    """A thousand images of each of a hundred beats: the farthest way is found within 1 %, and quickly."""
    motion = {"type": "translation", "amplitude": [0, 10 * MM], "frequency": 1.0}
    one = scene(motion, times=100_000, rate=1000.0)
    assert len(deform.moments(one.sequence)) < 1000
    assert deform.farthest(one.sequence, (0, 1 * MM), (2 * MM, 3 * MM)) == pytest.approx(10 * MM, rel=0.01)


def test_heartbeat_has_systole_and_a_notch():
    """0 to 1 in a beat, the rise far faster than the fall, a second wave after the first; its integral fits."""
    beat = np.linspace(0, 1, 2001)
    wave = heartbeat(beat)
    assert wave.min() == pytest.approx(0, abs=1e-3)
    assert wave.max() == pytest.approx(1, abs=1e-3)
    slope = np.diff(wave)
    assert slope.max() > 2.5 * -slope.min()
    peaks = np.nonzero((slope[:-1] > 0) & (slope[1:] <= 0))[0]
    assert len(peaks[wave[peaks] > 0.1]) == 2
    assert np.argmax(wave) < 500
    total = np.concatenate(([0.0], np.cumsum((wave[1:] + wave[:-1]) / 2 * np.diff(beat))))
    np.testing.assert_allclose(heartbeat_until(beat), total, atol=1e-6)
    assert float(heartbeat_until(3.2)) == pytest.approx(3 * total[-1] + float(heartbeat_until(0.2)), abs=1e-9)


CHANNEL = {"shape": "rectangle", "center": [0, 20 * MM], "width": 60 * MM, "height": 4 * MM}
LUMEN = {"name": "lumen", "echogenicity": 0, **CHANNEL}
FLOW = {"type": "flow", "region": "lumen"}


def test_stream_has_the_profile_of_its_region():
    """A turned channel: parabola between its walls along its direction, nothing outside; the tissue's motion on top."""
    angle = 0.3
    flow = {**FLOW, "velocity": 50 * MM, "angle": angle}
    one = scene(flow, regions=[{**LUMEN, "angle": angle}])
    across = np.array([-2.2, -1.5, 0.0, 1.0, 1.9]) * MM
    x, z = -across * math.sin(angle), 20 * MM + across * math.cos(angle)
    found = deform.displacement(one, 0.2, x, z)
    wanted = 10 * MM * np.maximum(1 - (across / (2 * MM)) ** 2, 0)
    np.testing.assert_allclose(found[:, 0] * math.cos(angle) + found[:, 1] * math.sin(angle), wanted, atol=0.1 * MM)
    np.testing.assert_allclose(found[:, 1] * math.cos(angle) - found[:, 0] * math.sin(angle), 0.0, atol=1e-9)
    moved = scene(flow, MOTIONS["translation"], regions=[{**LUMEN, "angle": angle}])
    also = deform.displacement(moved, 0.2, x + 0.6 * MM, z - 0.4 * MM)
    np.testing.assert_allclose(also - found, [[0.6 * MM, -0.4 * MM]] * 5, atol=1e-9)


def test_pulsatile_stream_follows_the_heart():
    """The way grows with the integral of velocity (1 - p + p wave)."""
    flow = {**FLOW, "velocity": 0.1, "pulsatility": 0.7, "heart_rate": 2.0, "profile": "plug"}
    (stream,) = streams(scene(flow, regions=[LUMEN]))
    times = np.linspace(0, 0.4, 401)
    speed = 0.1 * (0.3 + 0.7 * heartbeat(2.0 * times))
    way = np.sum((speed[1:] + speed[:-1]) / 2 * np.diff(times))
    assert float(stream.way(np.zeros(1), 0.4)[0]) == pytest.approx(way, rel=1e-5)


TUBE = {"name": "lumen", "shape": "tube", "radius": 2.5 * MM, "echogenicity": 0}
BENT = {**TUBE, "path": [[-18 * MM, 15 * MM], [-6 * MM, 24 * MM], [6 * MM, 16 * MM], [18 * MM, 22 * MM]]}


def test_stream_follows_a_bent_tube():
    """Along its path without an angle: places come back from the course, lines keep their distance to it, and a step
    along a line is as long as its way."""
    one = scene({**FLOW, "velocity": 60 * MM}, regions=[BENT])
    (stream,) = streams(one)
    side = np.repeat([-2.4, -1.0, 0.0, 1.5, 2.4], 40) * MM
    along = np.tile(np.linspace(0.05, 0.95, 40), 5) * stream.course.length(side)
    x, z = stream.course.at(stream.course.place_of(along, side), side)
    place, found = stream.course.of(x, z)
    np.testing.assert_allclose(found, side, atol=1e-7)
    np.testing.assert_allclose(stream.course.along(place, found), along, atol=1e-7)
    fine = np.linspace(5 * MM, 25 * MM, 4001)
    for distance in (-2 * MM, 0.0, 2 * MM):
        sides = np.full(fine.shape, distance)
        px, pz = stream.course.at(stream.course.place_of(fine, sides), sides)
        assert np.hypot(np.diff(px), np.diff(pz)).sum() == pytest.approx(20 * MM, rel=1e-3)
    way = deform.displacement(one, 0.05, x, z)
    from_x, from_z = x - way[:, 0], z - way[:, 1]
    again = stream.course.of(from_x, from_z)
    np.testing.assert_allclose(again[1], side, atol=1e-6)
    far = along - stream.course.along(*again)
    np.testing.assert_allclose(far, 3 * MM * (1 - (side / (2.5 * MM)) ** 2), atol=2e-6)


def test_bent_streams_keep_their_density():
    """Evenly filled strips stay even after the flow went round: chi-square over squares of a millimetre in the tube."""
    (stream,) = streams(scene({**FLOW, "velocity": 400 * MM}, regions=[BENT]))
    random = np.random.default_rng(5)
    side, along = random.uniform(*stream.across, 200_000), random.uniform(0, stream.longest, 200_000)
    chosen = along < stream.course.length(side)
    for time in (0.0, 0.37):
        x, z = stream.carried(along[chosen], side[chosen], time)
        counts, xs, zs = np.histogram2d(x, z, bins=(np.arange(-12, 13) * MM, np.arange(10, 30) * MM))
        middle = np.stack(np.meshgrid(xs[:-1] + 0.5 * MM, zs[:-1] + 0.5 * MM, indexing="ij"), axis=-1).reshape(-1, 2)
        whole = np.abs(stream.course.of(*middle.T)[1]).reshape(counts.shape) < 1.7 * MM
        inner = counts[whole]
        assert whole.sum() > 60
        assert ((inner - inner.mean()) ** 2).sum() / inner.mean() < whole.sum() + 5 * np.sqrt(2 * whole.sum())


def test_tube_that_bends_too_tightly_is_refused_and_an_angle_is_the_way_out():
    tight = {**TUBE, "path": [[-4 * MM, 15 * MM], [0, 20 * MM], [4 * MM, 15 * MM]], "radius": 4 * MM}
    with pytest.raises(ConfigError, match=r"sequence\.motions\.0\.region: 'lumen' bends about"):
        streams(scene({**FLOW, "velocity": 0.1}, regions=[tight]))
    (stream,) = streams(scene({**FLOW, "velocity": 0.1, "angle": 0.0}, regions=[tight]))
    assert stream.course.bend == 0.0


TURN = {"type": "rotation", "center": [0, 10 * MM]}
REFUSED = {
    "fast": ({"type": "translation", "velocity": [0, 0.1]}, r"sequence\.motions\.0: brings tissue in from"),
    "no region": ({**FLOW, "region": "lumn", "velocity": 0.1}, "did you mean 'lumen'"),
    "both": ({**TURN, "rate": 1, "amplitude": 1, "frequency": 1}, "needs either rate"),
    "no frequency": ({**TURN, "amplitude": 1}, "needs frequency beside amplitude"),
    "frequency": ({**TURN, "rate": 1, "frequency": 1}, "frequency goes with amplitude"),
    "strain": ({"type": "strain", "center": [0, 0.01], "rate": -0.5}, "the strain reaches 98 %"),
    "reach": ({**VESSEL, "center": [0, 0.02], "reach": 4 * MM}, "4.32 mm or more"),
    "neither": (VESSEL, "needs either center"),
    "no reach": ({**VESSEL, "path": MOTIONS["bent"]["path"]}, "a bent vessel needs a reach"),
    "bend": ({**MOTIONS["bent"], "reach": 60 * MM}, r"sequence\.motions\.0\.reach: 60 mm is too far for a path"),
    "no way": ({**VESSEL, "axis": [[0, 0.02], [0, 0.02]]}, "the two points are the same"),
    "unknown": ({"type": "trembling"}, "'trembling' is none of"),
    "unit": ({"type": "translation", "velocity": ["1 mm", "0 mm"]}, "is a length, not a speed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_motions_are_refused(name):
    motion, reason = REFUSED[name]
    with pytest.raises(ConfigError, match=reason):
        scene(motion, regions=[LUMEN])


def test_hidden_region_and_points_that_leave_are_refused():
    away = {**LUMEN, "center": [0.19, 20 * MM], "width": 2 * MM}
    with pytest.raises(ConfigError, match="nothing of 'lumen' lies within 20 mm"):
        streams(scene({**FLOW, "velocity": 0.1}, regions=[away]))
    document = {
        "probe": "L11-5v",
        "image": {"x": ["-9 mm", "9 mm"], "z": ["2 mm", "20 mm"], "pixels": [38, 40]},
        "background": {"echogenicity": 0},
        "points": [{"position": ["0 mm", "3 mm"], "amplitude": 20}],
        "sequence": {"times": 5, "rate": 1, "motions": [{"type": "translation", "velocity": [0, "-1 mm/s"]}]},
    }
    with pytest.raises(ConfigError, match=r"points\.0\.position: the motions carry it to z = (-1|-0|0|-[\d.e-]+) mm"):
        phantom_from_dict(document)
    with pytest.raises(ConfigError, match="model: field has none"):
        phantom_from_dict({**document, "points": [], "scatterers": {"model": "field"}})
