"""Shapes: areas, sizing, and points inside and outside."""

import math

import numpy as np
import pytest

from usim.errors import ConfigError
from usim.phantom.schema import Scene
from usim.phantom.texture import texture_at
from usim.phantom.truth import attenuation_at, echogenicity_at, echogenicity_db_at, label_at, label_names

IMAGE = {"x": [-0.02, 0.02], "z": [0.002, 0.042], "pixels": [64, 64]}
X = (np.arange(1600) - 799.5)[None, :] * 12.5e-6
Z = 0.022 + (np.arange(1600) - 799.5)[:, None] * 12.5e-6
PLACE = {"center": [0.5e-3, 22e-3], "echogenicity": -6}


def scene(*regions, **background):
    return Scene(
        probe="L11-5v", image=IMAGE, background={"name": "tissue", "echogenicity": 0, **background}, regions=regions
    )


def area(region):
    return np.count_nonzero(label_at(scene(region), X, Z)) * 12.5e-6**2


@pytest.mark.parametrize("angle", [0, 0.4, 2.0, -3.0])
@pytest.mark.parametrize(
    "shape",
    [
        {"shape": "circle"},
        {"shape": "ellipse"},
        {"shape": "ellipse", "aspect": 0.5},
        {"shape": "rectangle"},
        {"shape": "rectangle", "aspect": 3},
        {"shape": "triangle"},
        {"shape": "polygon"},
        {"shape": "polygon", "sides": 8},
        {"shape": "polygon", "sides": 64},
    ],
)
def test_size_is_the_equal_area_diameter(shape, angle):
    assert area({**shape, **PLACE, "size": 7e-3, "angle": angle}) == pytest.approx(math.pi * 3.5e-3**2, rel=0.002)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ({"shape": "circle", "radius": 3e-3, **PLACE}, math.pi * 9e-6),
        ({"shape": "ellipse", "radii": [4e-3, 2.5e-3], "angle": 0.3, **PLACE}, math.pi * 10e-6),
        ({"shape": "rectangle", "width": 6e-3, "height": 2e-3, "angle": 1, **PLACE}, 12e-6),
        (
            {"shape": "triangle", "vertices": [[0, 0.02], [4e-3, 0.02], [0, 0.025]], "angle": 0.7, "echogenicity": 1},
            10e-6,
        ),
        (
            {"shape": "polygon", "vertices": [[0, 0.02], [4e-3, 0.02], [4e-3, 0.024], [2e-3, 0.022], [0, 0.024]],
             "echogenicity": 1},
            12e-6,
        ),
        ({"shape": "layer", "z": [0.02, 0.025], "echogenicity": 1}, 5e-3 * 20e-3),
    ],
)  # fmt: skip
def test_area_of_given_lengths(region, expected):
    assert area(region) == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_angle_turns_x_towards_z(shape):
    turned = scene({"shape": shape, **PLACE, "size": 8e-3, "aspect": 8, "angle": math.pi / 4})
    step = 3e-3
    assert label_at(turned, 0.5e-3 + step, 22e-3 + step) == 1
    assert label_at(turned, 0.5e-3 + step, 22e-3 - step) == 0


def test_regular_polygons_point_up():
    triangle = scene({"shape": "triangle", **PLACE, "size": 6e-3})
    xs, zs = zip(*triangle.regions[0].corners, strict=True)
    assert min(zs) == pytest.approx(22e-3 - 3e-3 * math.sqrt(4 * math.pi / (3 * math.sqrt(3))))
    assert xs[0] == pytest.approx(0.5e-3)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"shape": "circle", **PLACE}, "needs radius, or size"),
        ({"shape": "circle", **PLACE, "radius": 3e-3, "size": 5e-3}, "radius 0.003 and size 0.005 exclude each other"),
        ({"shape": "rectangle", **PLACE, "width": 3e-3}, "needs height beside width 0.003"),
        ({"shape": "ellipse", **PLACE, "radii": [1e-3, 2e-3], "aspect": 2}, "aspect 2 goes with size, not with radii"),
        ({"shape": "polygon", **PLACE, "size": 3e-3, "vertices": [[0, 1e-2], [1e-2, 1e-2], [0, 2e-2]]}, "exclude"),
        ({"shape": "triangle", "vertices": [[0, 0.01], [0, 0.02], [0, 0.03]], "echogenicity": 1}, "lie on one line"),
        ({"shape": "layer", "z": [0.02, 0.01], "echogenicity": 1}, "must lie below the top 20 mm"),
        ({"shape": "layer", "z": [0.01, 0.02], "size": 0.01, "echogenicity": 1}, "size: unknown key"),
        ({"shape": "circle", "size": 3e-3, "echogenicity": 1}, "center: this key is required"),
    ],
)
def test_a_region_has_exactly_one_size(region, message):
    with pytest.raises(ConfigError, match=message):
        scene(region)


def test_later_regions_lie_over_earlier_ones():
    both = scene(
        {"name": "fat", "shape": "layer", "z": [0.02, 0.03], "echogenicity": -10},
        {"name": "cyst", "shape": "circle", "center": [0, 0.025], "radius": 2e-3, "echogenicity": "anechoic"},
    )
    x, z = np.array([0.0, 0.01, 0.0]), np.array([0.025, 0.025, 0.01])
    labels = label_at(both, x, z)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [2, 1, 0]
    assert label_names(both) == ("tissue", "fat", "cyst")
    assert echogenicity_db_at(both, x, z).tolist() == [-100.0, -10.0, 0.0]
    assert echogenicity_at(both, x, z).tolist() == [0.0, pytest.approx(0.1), 1.0]


def test_a_grid_and_its_points_agree():
    every = scene(
        {"shape": "polygon", **PLACE, "size": 8e-3, "angle": 1}, {"shape": "circle", "center": [0, 0.02], "size": 0.004,
         "echogenicity": 3}, texture={"std": 2, "correlation": 2e-3},
    )  # fmt: skip
    x, z = np.linspace(-0.02, 0.02, 50)[None, :], np.linspace(0.002, 0.04, 60)[:, None]
    grid = echogenicity_db_at(every, x, z)
    points = echogenicity_db_at(every, *(a.ravel() for a in np.broadcast_arrays(x, z)))
    assert grid.shape == (60, 50)
    np.testing.assert_allclose(grid.ravel(), points, atol=1e-12)
    np.testing.assert_allclose(10 * np.log10(echogenicity_at(every, x, z)), grid, atol=1e-9)


def texture_scene(seed, correlation=2e-3, image=IMAGE, **change):
    texture = {"std": 3, "correlation": correlation, "seed": seed}
    return Scene(probe="L11-5v", image=image, background={"echogenicity": 0, "texture": texture, **change})


def test_texture_has_its_std_and_correlation():
    x, z = np.linspace(-0.02, 0.02, 41)[None, :], np.linspace(0.003, 0.04, 41)[:, None]
    here, beside, below = [], [], []
    for seed in range(40):
        of_seed = texture_scene(seed, 1.5e-3)
        here.append(texture_at(of_seed, x, z))
        beside.append(texture_at(of_seed, x + 1.5e-3, z))
        below.append(texture_at(of_seed, x, z + 1.5e-3))
    here, beside, below = map(np.array, (here, beside, below))
    # 40 textures of about 270 independent cells each: the standard error of these is near 0.015.
    assert here.std() == pytest.approx(3, rel=0.04)
    assert here.mean() == pytest.approx(0, abs=0.15)
    for other in (beside, below):
        assert np.mean(here * other) / here.var() == pytest.approx(1 / math.e, abs=0.05)


def test_texture_stays_where_it_is_whatever_the_image():
    small = {**IMAGE, "x": [-0.003, 0.004], "z": [0.01, 0.02]}
    x, z = np.linspace(-0.01, 0.01, 30)[None, :], np.linspace(0.01, 0.02, 20)[:, None]
    np.testing.assert_allclose(texture_at(texture_scene(5), x, z), texture_at(texture_scene(5, image=small), x, z))
    assert np.abs(texture_at(texture_scene(5), x, z) - texture_at(texture_scene(6), x, z)).max() > 1


def test_texture_leaves_anechoic_background_and_regions_alone():
    silent = texture_scene(1, echogenicity="anechoic")
    assert echogenicity_db_at(silent, 0.0, 0.02) == -100.0
    assert echogenicity_at(silent, 0.0, 0.02) == 0.0
    assert echogenicity_db_at(
        scene({"shape": "layer", "z": [0.01, 0.03], "echogenicity": -7}, texture={"std": 3, "correlation": 1e-3}),
        0.0, 0.02,
    ) == -7.0  # fmt: skip


def test_attenuation_is_the_regions_own_or_the_mediums():
    both = scene(
        {"shape": "layer", "z": [0.02, 0.03], "echogenicity": 0, "attenuation": "2 dB/cm/MHz"},
        {"shape": "circle", "center": [0, 0.025], "radius": 2e-3, "echogenicity": 0},
        {"shape": "circle", "center": [5e-3, 0.025], "radius": 2e-3, "echogenicity": 0, "attenuation": 0},
    )
    x, z = np.array([[0.0], [0.005]]), np.array([0.01, 0.021, 0.025])
    assert attenuation_at(both, x, z).tolist() == [[0.5, 2.0, 0.5], [0.5, 2.0, 0.0]]
