"""Groups lie where they are put, turned as a whole; items with `apart` keep their distance, in every draw."""

import itertools
import math
from typing import get_args

import numpy as np
import PIL.Image
import pytest

from usim.errors import ConfigError
from usim.phantom.draw import draw
from usim.phantom.load import phantom_from_dict
from usim.phantom.outlines import outline_of
from usim.phantom.regions import AnyRegion
from usim.phantom.truth import echogenicity_db_at, label_at, label_names

MM = 1e-3
BASE = {
    "probe": "L11-5v",
    "image": {"x": ["-15 mm", "15 mm"], "z": ["4 mm", "34 mm"], "pixels": [30, 30]},
    "background": {"echogenicity": 0},
}
CORNERS = [["-3 mm", "-2 mm"], ["3 mm", "-1 mm"], ["2 mm", "3 mm"], ["-1 mm", "1 mm"]]
# One item of every shape, written about (0, 0).
SHAPES = {
    "circle": {"center": ["1 mm", 0], "radius": "2 mm", "wall": {"thickness": "0.5 mm", "echogenicity": 3}},
    "ellipse": {"center": [0, "-1 mm"], "radii": ["4 mm", "2 mm"], "angle": "20 deg"},
    "annulus": {"center": [0, 0], "inner": "1 mm", "outer": "3 mm"},
    "rectangle": {"center": ["1 mm", "1 mm"], "width": "4 mm", "height": "2 mm"},
    "triangle": {"vertices": CORNERS[:3]},
    "polygon": {"vertices": CORNERS, "angle": "40 deg"},
    "spline": {"vertices": CORNERS},
    "tube": {"path": CORNERS[:3], "radius": "0.7 mm", "wall": {"thickness": "0.5 mm", "echogenicity": 3}},
    "layer": {"z": ["-2 mm", "1 mm"], "wave": {"amplitude": "1 mm", "wavelength": "7 mm", "phase": 1}},
    "image": {"file": "m.png", "x": ["-3 mm", "2 mm"], "z": ["-1 mm", "4 mm"], "levels": [-20, 5]},
    "labels": {"file": "m.png", "x": ["-3 mm", "2 mm"], "z": ["-1 mm", "4 mm"],
               "values": {0: "none", 1: {"echogenicity": 2}, 2: {"echogenicity": 5}}},
}  # fmt: skip
# No point of this grid lies on an outline.
X, Z = np.meshgrid(np.linspace(-7e-3, 7e-3, 71) + 13.7e-6, np.linspace(-7e-3, 7e-3, 73) + 11.3e-6)
DISC = {"shape": "circle", "center": [{"uniform": ["-14 mm", "14 mm"]}, {"uniform": ["5 mm", "33 mm"]}],
        "radius": {"uniform": ["0.5 mm", "2 mm"]}, "echogenicity": -8}  # fmt: skip


def phantom_of(*regions, base=".", **change):
    return phantom_from_dict({**BASE, **change, "regions": list(regions)}, base=base)


def item_of(shape):
    return {"shape": shape, **({} if shape in ("image", "labels") else {"echogenicity": 4}), **SHAPES[shape]}


@pytest.fixture
def folder(tmp_path):
    values = (np.arange(400).reshape(20, 20) // 45 % 3).astype(np.uint8)
    PIL.Image.fromarray(values).save(tmp_path / "m.png")
    return tmp_path


def test_every_shape_has_an_item_here():
    members = get_args(get_args(AnyRegion)[0])
    assert {model.model_fields["shape"].default for model in members} == set(SHAPES)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_group_holds_is_moved_and_turned_with_it(folder, shape):
    angle = 0.0 if shape == "layer" else 0.8
    cos, sin = math.cos(angle), math.sin(angle)
    here = draw(phantom_of({"at": [0, "18 mm"], "group": [item_of(shape)]}, base=folder))
    there = draw(phantom_of({"at": ["3 mm", "20 mm"], "angle": angle, "group": [item_of(shape)]}, base=folder))
    moved = 3e-3 + cos * X - sin * Z, 20e-3 + sin * X + cos * Z
    labels = label_at(here, X, 18e-3 + Z)
    assert 0.02 < (labels > 0).mean() < 0.9
    np.testing.assert_array_equal(label_at(there, *moved), labels)
    level = echogenicity_db_at(there, *moved)
    np.testing.assert_allclose(level, echogenicity_db_at(here, X, 18e-3 + Z), atol=1e-6)


def test_a_group_equals_its_items_written_out():
    points = [{"position": ["2 mm", "1 mm"], "amplitude": 20}]
    item = {"shape": "rectangle", "center": ["1 mm", "-2 mm"], "width": "4 mm", "height": "2 mm", "echogenicity": 3}
    group = {"at": ["-3 mm", "20 mm"], "angle": "90 deg", "group": [item], "points": points}
    scene = draw(phantom_of(group, points=[{"position": [0, "9 mm"], "amplitude": 10}]))
    assert scene.regions[0].center == pytest.approx((-1e-3, 21e-3))
    assert scene.regions[0].angle == pytest.approx(math.pi / 2)
    assert [point.amplitude for point in scene.points] == [10, 20]
    assert scene.points[1].position == pytest.approx((-4e-3, 22e-3))


def test_groups_nest_and_repeat():
    """Two levels: a place is turned and moved by the inner group, then by the outer one."""
    inner = {"repeat": 3, "at": [{"uniform": [-1e-3, 1e-3]}, "1 mm"], "angle": 0.3,
             "group": [{"repeat": 2, **DISC, "center": ["0.5 mm", 0], "radius": "0.1 mm"}]}  # fmt: skip
    outer = {"repeat": {"integer": [1, 2]}, "at": [0, "20 mm"], "angle": {"uniform": [0, 1]}, "group": [inner, DISC]}
    outer["group"][1] = {**DISC, "center": [0, 0]}
    for index in range(8):
        scene = draw(phantom_of(outer), index=index)
        assert len(scene.regions) in (7, 14)
        for copy in (scene.regions[k : k + 7] for k in range(0, len(scene.regions), 7)):
            assert copy[6].center == (0.0, 20e-3)
            assert len({region.angle for region in copy[:6]}) == 1
            turn = copy[0].angle - 0.3
            for first, second in zip(copy[0:6:2], copy[1:6:2], strict=True):
                assert first.center == second.center
            # Undone: the outer turn about (0, 20 mm) leaves the inner groups' own arm of 0.5 mm and their z of 1 mm.
            x, z = copy[0].center[0], copy[0].center[1] - 20e-3
            own = math.cos(turn) * z - math.sin(turn) * x
            assert own == pytest.approx(1e-3 + math.sin(0.3) * 0.5e-3)


def test_a_choice_may_be_a_group_or_a_plain_item():
    group = {"at": [0, "15 mm"], "group": {"choice": [[{**DISC, "center": [0, 0]}], []]}}
    phantom = phantom_of({"choice": [group, DISC]})
    assert {len(draw(phantom, index=i).regions) for i in range(30)} == {0, 1}


def test_apart_keeps_the_distance_in_every_draw():
    """Circles of any sizes, and groups beside them: edges keep 0.7 mm, whatever is drawn."""
    pair = {"at": [{"uniform": ["-12 mm", "12 mm"]}, {"uniform": ["6 mm", "30 mm"]}], "angle": {"uniform": [0, 6]},
            "repeat": {"integer": [1, 3]}, "apart": "0.7 mm",
            "group": [{**DISC, "center": ["-1 mm", 0]}, {**DISC, "center": ["1 mm", 0]}]}  # fmt: skip
    phantom = phantom_of(pair, {"repeat": {"integer": [5, 12]}, "apart": {"choice": ["0.7 mm", "1 mm"]}, **DISC})
    for index in range(60):
        regions = draw(phantom, index=index).regions
        grouped = sum(region.angle != 0 for region in regions)
        units = [(k, k + 1) for k in range(0, grouped, 2)] + [(k,) for k in range(grouped, len(regions))]
        for one, two in itertools.combinations(units, 2):
            gaps = [
                math.dist(regions[a].center, regions[b].center) - regions[a].radius - regions[b].radius
                for a, b in itertools.product(one, two)
            ]
            assert min(gaps) >= 0.7e-3 - 1e-12


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "layer"])
def test_bounding_circles_hold_what_they_bound(folder, shape):
    """Of any shape and its wall: two copies that touch by their circles share no point."""
    at = [{"uniform": ["-8 mm", "8 mm"]}, {"uniform": ["12 mm", "26 mm"]}]
    turned = {"at": at, "angle": {"uniform": [0, 6]}, "group": [item_of(shape)], "repeat": 2, "apart": 0}
    phantom = phantom_of(turned, base=folder)
    x, z = np.meshgrid(np.linspace(-20e-3, 20e-3, 161), np.linspace(1e-3, 40e-3, 157))
    for index in range(5):
        scene = draw(phantom, index=index)
        alone = [scene.model_copy(update={"regions": (region,)}) for region in scene.regions]
        one, two = (label_at(each, x, z) > 0 for each in alone)
        assert one.any()
        assert two.any()
        assert not (one & two).any()


def test_points_keep_a_distance_too():
    item = {"repeat": 12, "apart": "2 mm", "amplitude": 20,
            "position": [{"uniform": ["-8 mm", "8 mm"]}, {"uniform": ["5 mm", "20 mm"]}]}  # fmt: skip
    scene = draw(phantom_of(points=[item]), index=1)
    assert min(math.dist(a.position, b.position) for a, b in itertools.combinations(scene.points, 2)) >= 2e-3


def test_items_without_apart_lie_anywhere_and_draw_as_before():
    """A list with `apart` elsewhere does not change what its other items draw before it."""
    with_apart = draw(phantom_of({"repeat": 4, **DISC}, {"repeat": 2, "apart": "1 mm", **DISC}), index=3)
    without = draw(phantom_of({"repeat": 4, **DISC}, {"repeat": 2, **DISC}), index=3)
    assert with_apart.regions[:4] == without.regions[:4]


def test_draws_with_apart_are_reproducible():
    phantom = phantom_of({"repeat": 12, "apart": "0.5 mm", **DISC})
    scenes = [draw(phantom, index=i) for i in range(5)]
    assert [draw(phantom, index=i) for i in reversed(range(5))] == scenes[::-1]


def test_no_room_names_item_frame_and_seed():
    wide = {**DISC, "radius": "3 mm", "repeat": 60, "apart": "0.5 mm"}
    message = r"regions\.1: no room for copy \d+ of 60 after 1000 tries, 0\.5 mm apart; lower"
    with pytest.raises(ConfigError, match=rf"phantom: frame 2 of seed 7: {message}"):
        draw(phantom_of(DISC, wide), seed=7, index=2)
    inside = {"at": [0, "20 mm"], "group": [{"apart": 0, "repeat": 2, **DISC, "center": [0, 0]}]}
    with pytest.raises(ConfigError, match=r"regions\.0\.group\.0: no room for copy 2 of 2"):
        draw(phantom_of(inside))


def test_nested_repeats_that_no_corner_shows_are_stopped_while_drawing():
    """Choices are checked one by one; together they may ask for millions, which ends before memory does."""
    many = {"choice": [1, 4096]}
    few = {"choice": [4096, 1]}
    phantom = phantom_of({"repeat": many, "at": [0, "9 mm"], "group": [{"repeat": few, **DISC, "center": [0, 0]}]})
    with pytest.raises(ConfigError, match=r"frame \d+ of seed 0: regions: more than 4096 with all repeats"):
        [draw(phantom, index=i) for i in range(20)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": None}, r"regions\.0\.at: this key is required and missing"),
        ({"at": [0, "2 s"]}, r"regions\.0\.at\.1: 2 s is a time, not a length"),
        ({"at": [0, "2 m"]}, r"regions\.0\.at\.1: 2 m is beyond"),
        ({"at": [{"uniform": ["9 mm", "199 mm"]}, 0], "group": [{**DISC, "center": ["3 mm", 0]}]},
         r"regions\.0\.group\.0\.center\.0: 0\.202 m is beyond 0\.2 m"),
        ({"angel": 3}, r"regions\.0\.angel: unknown key; did you mean 'angle'\? \(allowed: angle, apart, at, group"),
        ({"echogenicity": 3}, r"regions\.0\.echogenicity: unknown key"),
        ({"repeat": -1}, r"regions\.0\.repeat: -1 is below 0"),
        ({"apart": "-1 mm"}, r"regions\.0\.apart: must be at least 0"),
        ({"group": 3}, r"regions\.0\.group: expected a list of items"),
        ({"group": [3]}, r"regions\.0\.group\.0: expected a mapping of keys, got 3"),
        ({"points": [{"position": [0, 0]}]}, r"regions\.0\.points\.0\.amplitude: this key is required"),
        ({"group": [{"shape": "circle", "center": [0, 0], "radius": "x", "echogenicity": 1}]},
         r"regions\.0\.group\.0\.radius: expected a number"),
        ({"group": [{"at": [0, 0], "group": [{**DISC, "center": ["far", 0]}]}]},
         r"regions\.0\.group\.0\.group\.0\.center\.0: expected a number"),
        ({"group": [{**DISC, "center": [0, 0], "repeat": 4097}]}, r"regions\.0\.group\.0\.repeat: 4097 is beyond 4096"),
        ({"repeat": 4000, "group": [{**DISC, "center": [0, 0], "repeat": 2}]}, "regions: 8000 regions with all"),
        ({"angle": 1, "group": [{"shape": "layer", "z": [0, 1e-3], "echogenicity": 1}]},
         r"regions\.0\.group\.0: a layer has no ends and can't be turned"),
        ({"apart": 0, "group": [{"shape": "layer", "z": [0, 1e-3], "echogenicity": 1}]},
         r"regions\.0\.apart: a layer has no end"),
        ({"group": [{"shape": "layer", "z": [0, 1e-3], "echogenicity": 1, "apart": 0}]},
         r"regions\.0\.group\.0\.apart: a layer has no end"),
    ],
)  # fmt: skip
def test_mistakes_are_refused_where_they_are_written(change, message):
    group = {"at": [0, "20 mm"], "group": [{**DISC, "center": [0, "-3 mm"]}], **change}
    with pytest.raises(ConfigError, match=rf"phantom:\d+:\d+: {message}"):
        phantom_of({key: value for key, value in group.items() if value is not None})


def test_both_ends_of_ranges_are_checked_through_groups():
    aside = {"normal": ["0 mm", "1.5 mm"]}
    group = {"at": [{"uniform": ["-196 mm", "4 mm"]}, "9 mm"], "group": [{**DISC, "center": [aside, 0]}]}
    with pytest.raises(ConfigError, match=r"regions\.0\.group\.0\.center\.0: must be at least -0\.2 m \(got -0\.202"):
        phantom_of(group)
    assert outline_of(draw(phantom_of({**group, "at": [0, "7 mm"]})).regions[0])


def test_names_of_groups_are_those_of_their_items():
    scene = draw(phantom_of({"repeat": 2, "at": [0, "9 mm"], "group": [{**DISC, "name": "disc", "center": [0, 0]}]}))
    assert label_names(scene) == ("background", "disc", "disc")
