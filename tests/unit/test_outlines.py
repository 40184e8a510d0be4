"""Outlines: areas by counting, distances against the nearest of many points of the curve; soft edges and walls."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from scipy.special import ndtr

from usim.phantom.outlines import Grown, Loop, outline_of
from usim.phantom.schema import Scene
from usim.phantom.truth import (
    attenuation_at,
    echogenicity_at,
    echogenicity_db_at,
    label_at,
    label_names,
    sparsity_at,
)

MM = 1e-3
IMAGE = {"x": [-0.02, 0.02], "z": [0.002, 0.042], "pixels": [64, 64]}
LOOP = [[-6 * MM, 14 * MM], [2 * MM, 13 * MM], [7 * MM, 20 * MM], [1 * MM, 19 * MM], [-4 * MM, 28 * MM]]
PATH = [[-9 * MM, 18 * MM], [-3 * MM, 24 * MM], [4 * MM, 20 * MM], [9 * MM, 26 * MM]]
AT = [1 * MM, 21 * MM]
SHAPES = {
    "circle": {"shape": "circle", "center": AT, "radius": 4 * MM},
    "ellipse": {"shape": "ellipse", "center": AT, "radii": [6 * MM, 2.5 * MM], "angle": 0.6},
    "thin ellipse": {"shape": "ellipse", "center": AT, "radii": [1 * MM, 7 * MM], "angle": -0.3},
    "annulus": {"shape": "annulus", "center": AT, "inner": 2 * MM, "outer": 5 * MM},
    "rectangle": {"shape": "rectangle", "center": AT, "width": 8 * MM, "height": 3 * MM, "angle": 1.0},
    "triangle": {"shape": "triangle", "center": AT, "size": 7 * MM, "angle": 0.2},
    "polygon": {"shape": "polygon", "vertices": LOOP},
    "spline": {"shape": "spline", "vertices": LOOP, "angle": 0.3},
    "tube": {"shape": "tube", "path": PATH, "radius": 2 * MM},
}


def scene(*regions, **more):
    regions = [{"echogenicity": 0, **region} for region in regions]
    return Scene(probe="L11-5v", image=IMAGE, background={"echogenicity": 0}, regions=regions, **more)


def outline(region):
    return outline_of(scene(region).regions[0])


def ring(center, a, b, angle, count=20_000):
    at = 2 * np.pi * np.arange(count) / count
    u, v = a * np.cos(at), b * np.sin(at)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack((center[0] + cos * u - sin * v, center[1] + sin * u + cos * v), axis=1)


def through(points, *, closed, count=40_000):
    points = np.array([*points, points[0]] if closed else points)
    at = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))))
    return CubicSpline(at, points, bc_type="periodic" if closed else "natural")(np.linspace(0, at[-1], count))


def straight(corners, count=4000):
    ends = [*corners[1:], corners[0]]
    return np.concatenate([np.linspace(a, b, count) for a, b in zip(corners, ends, strict=True)])


def curve(name):
    """Points (N, 2) on the outline, by formulas of their own; of a tube, on its middle."""
    given_as = SHAPES[name]
    region = scene(given_as).regions[0]
    if name in ("circle", "ellipse", "thin ellipse"):
        return ring(AT, *region.semi_axes, region.angle)
    if name == "annulus":
        return np.concatenate([ring(AT, r, r, 0.0) for r in (2 * MM, 5 * MM)])
    if name == "spline":
        return through(region.corners, closed=True)
    if name == "tube":
        return through(PATH, closed=False)
    return straight(region.corners)


@pytest.mark.parametrize("name", SHAPES)
def test_distances_are_those_of_the_nearest_point_of_the_curve(name):
    """400 random places: within 2 um of the curve's tolerance and the spacing of the points compared with."""
    random = np.random.default_rng(5)
    x, z = random.uniform(-14 * MM, 14 * MM, 400), random.uniform(8 * MM, 34 * MM, 400)
    shape, points = outline(SHAPES[name]), curve(name)
    away = np.hypot(x[:, None] - points[:, 0], z[:, None] - points[:, 1]).min(axis=1)
    found = shape.distance(x, z)
    wanted = away - 2 * MM if name == "tube" else np.where(shape.inside(x, z), -away, away)
    most = 1e-3 * MM if "ellipse" in name else 3e-6
    np.testing.assert_allclose(found, wanted, atol=most)
    np.testing.assert_array_equal(found <= 0, shape.inside(x, z))
    near = shape.distance(x, z, 1 * MM)
    close = np.abs(wanted) < 0.999 * MM
    np.testing.assert_allclose(near[close], found[close], atol=1e-9)
    assert (np.abs(near[~close]) > 0.99 * MM).all()
    assert (np.sign(near) == np.sign(found)).all()


@pytest.mark.parametrize("name", SHAPES)
def test_everything_inside_lies_in_the_box(name):
    left, right, top, bottom = outline(SHAPES[name]).box
    x, z = np.meshgrid(np.linspace(-15 * MM, 15 * MM, 601), np.linspace(5 * MM, 38 * MM, 661))
    inside = outline(SHAPES[name]).inside(x.ravel(), z.ravel()).reshape(x.shape)
    found = x[inside].min(), x[inside].max(), z[inside].min(), z[inside].max()
    assert found == pytest.approx((left, right, top, bottom), abs=0.11 * MM)
    assert left - 1e-9 <= found[0] <= found[1] <= right + 1e-9
    assert top - 1e-9 <= found[2] <= found[3] <= bottom + 1e-9


def shoelace(points):
    (x, z), (u, v) = points.T, np.roll(points, -1, axis=0).T
    return abs((x * v - u * z).sum()) / 2


AREAS = {
    "annulus": math.pi * 21e-6,
    "annulus of a size": math.pi * 9e-6,
    "spline": shoelace(curve("spline")),
    "tube": 4 * MM * np.hypot(*np.diff(curve("tube"), axis=0).T).sum() + math.pi * 4e-6,
}


@pytest.mark.parametrize("name", AREAS)
def test_areas(name):
    """By counting points 20 um apart: 0.3 %. A tube that nowhere meets itself has its length times its width."""
    region = {**SHAPES, "annulus of a size": {"shape": "annulus", "center": AT, "size": 6 * MM}}[name]
    x, z = np.arange(-15 * MM, 15 * MM, 20e-6), np.arange(5 * MM, 38 * MM, 20e-6)
    count = np.count_nonzero(label_at(scene(region), x[None, :], z[:, None]))
    assert count * 400e-12 == pytest.approx(AREAS[name], rel=3e-3)


@settings(max_examples=40, deadline=None)
@given(
    corners=st.lists(st.tuples(st.floats(-0.01, 0.01), st.floats(0.005, 0.03)), min_size=3, max_size=9),
    seed=st.integers(0, 2**32 - 1),
)
def test_even_odd_holds_for_any_corners(corners, seed):
    """Inside is where a ray crosses the outline an odd number of times, in exact arithmetic on 50 places."""
    shape = Loop(np.array(corners))
    random = np.random.default_rng(seed)
    x, z = random.uniform(-0.011, 0.011, 50), random.uniform(0.004, 0.031, 50)
    odd = np.zeros(50, bool)
    for (ax, az), (bx, bz) in zip(corners, [*corners[1:], corners[0]], strict=True):
        for k in range(50):
            if (z[k] < az) != (z[k] < bz):
                odd[k] ^= x[k] <= ax + (z[k] - az) * ((bx - ax) / (bz - az))
    np.testing.assert_array_equal(shape.inside(x, z), odd)


def test_layers_undulate():
    wave = {"amplitude": 1 * MM, "wavelength": 8 * MM, "phase": 0.4}
    layer = {"shape": "layer", "z": [15 * MM, 18 * MM], "wave": wave}
    x = np.linspace(-20 * MM, 20 * MM, 81)
    top = 15 * MM + 1 * MM * np.cos(2 * np.pi * x / (8 * MM) + 0.4)
    for shift, label in ((-1e-6, 0), (1e-6, 1), (2.999 * MM, 1), (3.001 * MM, 0)):
        assert (label_at(scene(layer), x, top + shift) == label).all()
    shape = outline(layer)
    assert shape.box == pytest.approx((-math.inf, math.inf, 14 * MM, 19 * MM))
    # near the curve the distance is that of its nearest point, to second order
    fine = np.linspace(-30 * MM, 30 * MM, 200_001)
    course = 15 * MM + 1 * MM * np.cos(2 * np.pi * fine / (8 * MM) + 0.4)
    z = top[::8] - 0.1 * MM
    nearest = np.hypot(x[::8, None] - fine, z[:, None] - course).min(axis=1)
    np.testing.assert_allclose(shape.distance(x[::8], z), nearest, rtol=0.06)


def test_plain_layers_have_exact_distances():
    shape = outline({"shape": "layer", "z": [15 * MM, 18 * MM]})
    z = np.array([14.0, 15.0, 16.0, 17.5, 20.0]) * MM
    np.testing.assert_allclose(shape.distance(np.zeros(5), z), np.array([1.0, 0.0, -1.0, -0.5, 2.0]) * MM, atol=1e-15)


def test_rough_layers_have_their_std_and_correlation():
    """60 courses of 200 correlation lengths each: the standard error of the std is 1 %, of the correlation 0.01."""
    std, length = 0.5 * MM, 2 * MM
    x = np.arange(-0.2, 0.2, length / 4)
    courses = []
    for seed in range(60):
        rough = {"std": std, "correlation": length, "seed": seed}
        band = outline({"shape": "layer", "z": [0.02, 0.025], "roughness": rough})
        courses.append(0.0 - band.distance(x, np.full(x.shape, 0.02)) * np.hypot(1.0, band._shift(x)[1]))
        np.testing.assert_allclose(courses[-1], -band._shift(x)[0], atol=1e-12)
    values = np.array(courses)
    assert values.std() == pytest.approx(std, rel=0.04)
    assert np.mean(values[:, 4:] * values[:, :-4]) / values.var() == pytest.approx(math.exp(-1), abs=0.04)
    kurtosis = np.mean(values**4) / values.var() ** 2
    assert kurtosis == pytest.approx(3.0, abs=0.15)


def test_layers_of_one_course_fit_together():
    rough = {"std": 0.8 * MM, "correlation": 2 * MM, "seed": 3}
    both = scene(
        {"shape": "layer", "z": [10 * MM, 15 * MM], "roughness": rough},
        {"shape": "layer", "z": [15 * MM, 20 * MM], "roughness": rough},
    )
    x, z = np.linspace(-0.02, 0.02, 300)[None, :], np.linspace(0.005, 0.025, 900)[:, None]
    labels = label_at(both, x, z).astype(int)
    for column in labels.T:
        inside = column[column > 0]
        assert (np.diff(inside) >= 0).all()
        assert column[column > 0].size == pytest.approx(450, abs=2)


def test_walls_have_labels_of_their_own_and_lie_below():
    walls = scene(
        {"shape": "layer", "name": "muscle", "z": [10 * MM, 40 * MM], "echogenicity": -6},
        {"shape": "tube", "name": "artery", "path": PATH, "radius": 2 * MM, "echogenicity": "anechoic",
         "attenuation": 0.1, "wall": {"thickness": 0.5 * MM, "echogenicity": 6, "attenuation": 3}},
        {"shape": "circle", "name": "vein", "center": [-3 * MM, 24 * MM], "radius": 1 * MM, "echogenicity": 3,
         "wall": {"name": "its wall", "thickness": 1 * MM, "echogenicity": 12}},
    )  # fmt: skip
    assert label_names(walls) == ("background", "muscle", "artery", "wall", "vein", "its wall")
    x = np.array([0.0, -9 * MM, -9 * MM, -3 * MM, -3 * MM])
    z = np.array([12 * MM, 18 * MM, 18 * MM, 24 * MM, 24 * MM])
    x = x + np.array([0.0, 0.0, -2.3 * MM, 0.0, -1.5 * MM])
    assert label_at(walls, x, z).tolist() == [1, 2, 3, 4, 5]
    assert echogenicity_db_at(walls, x, z).tolist() == [-6.0, -100.0, 6.0, 3.0, 12.0]
    assert attenuation_at(walls, x, z).tolist() == [0.5, 0.1, 3.0, 0.5, 0.5]


def test_a_wall_is_as_thick_all_around():
    wall = {"thickness": 1 * MM, "echogenicity": 3}
    region = {"shape": "ellipse", "center": AT, "radii": [5 * MM, 2 * MM], "wall": wall}
    wall = Grown(outline(region), 1 * MM)
    edge = ring(AT, 5 * MM, 2 * MM, 0.0, 720)
    normal = np.stack(((edge[:, 0] - AT[0]) / 25, (edge[:, 1] - AT[1]) / 4), axis=1)
    normal /= np.hypot(*normal.T)[:, None]
    np.testing.assert_allclose(wall.distance(*(edge + 1 * MM * normal).T), 0.0, atol=2e-6)
    labels = label_at(scene(region), *(edge + np.array([0.99 * MM]) * normal).T)
    assert set(labels.tolist()) == {2}
    assert set(label_at(scene(region), *(edge + np.array([1.01 * MM]) * normal).T).tolist()) == {0}


@pytest.mark.parametrize("name", [*SHAPES, "layer"])
def test_soft_edges_mix_powers_by_an_error_function(name):
    """Along any line the power follows the error function of the distance; 10 to 90 % take the width that is given."""
    region = {**SHAPES, "layer": {"shape": "layer", "z": [15 * MM, 25 * MM]}}[name]
    soft = scene({**region, "echogenicity": 10, "edge": 1.5 * MM})
    random = np.random.default_rng(1)
    x, z = random.uniform(-14 * MM, 14 * MM, 3000), random.uniform(8 * MM, 34 * MM, 3000)
    shape = outline(region)
    distance = shape.distance(x, z)
    share = ndtr(-distance * 2.5631 / (1.5 * MM))
    np.testing.assert_allclose(echogenicity_at(soft, x, z), 1.0 + 9.0 * share, rtol=2e-4)
    np.testing.assert_allclose(echogenicity_db_at(soft, x, z), 10 * np.log10(1.0 + 9.0 * share), atol=1e-3)
    np.testing.assert_array_equal(label_at(soft, x, z), distance <= 0)


def test_soft_width_is_from_10_to_90_percent():
    soft = scene({"shape": "layer", "z": [20 * MM, 60 * MM], "echogenicity": "anechoic", "edge": 2 * MM})
    z = np.linspace(15 * MM, 25 * MM, 20_001)
    power = echogenicity_at(soft, 0.0, z)
    ninety, ten = np.interp([-0.9, -0.1], -power, z)
    assert ten - ninety == pytest.approx(2 * MM, rel=1e-4)
    assert power[10_000] == pytest.approx(0.5)


def test_soft_regions_mix_with_what_lies_below_them():
    both = scene(
        {"shape": "layer", "z": [10 * MM, 20 * MM], "echogenicity": 10, "attenuation": 2, "per_cell": 1},
        {"shape": "circle", "center": [0, 15 * MM], "radius": 3 * MM, "echogenicity": 20, "attenuation": 1,
         "edge": 1 * MM, "per_cell": 4},
        scatterers={"per_cell": 10},
    )  # fmt: skip
    x, z = np.array([0.0, 3 * MM, 9 * MM, 0.0]), np.array([15 * MM, 15 * MM, 15 * MM, 30 * MM])
    np.testing.assert_allclose(echogenicity_at(both, x, z), [100.0, 55.0, 10.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(attenuation_at(both, x, z), [1.0, 1.5, 2.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(1 / sparsity_at(both, x, z), [0.4, 0.25, 0.1, 1.0], rtol=1e-6)


def test_no_step_shows_where_a_soft_region_ends():
    """60 dB over the surroundings: the power is continuous where its softness is cut off."""
    soft = scene({"shape": "circle", "center": AT, "radius": 1 * MM, "echogenicity": 60, "edge": 1 * MM})
    level = echogenicity_db_at(soft, np.linspace(1 * MM, 12 * MM, 4000), AT[1])
    assert np.abs(np.diff(level)).max() < 0.3
