"""Textures of regions: their laws, their lengths and directions, and that they stay where they are."""

import math

import numpy as np
import pytest
from scipy import stats

from usim.errors import ConfigError
from usim.phantom.draw import draw
from usim.phantom.load import phantom_from_dict
from usim.phantom.schema import Scene
from usim.phantom.truth import echogenicity_at, echogenicity_db_at, label_at

MM = 1e-3
IMAGE = {"x": [-20 * MM, 20 * MM], "z": [2 * MM, 42 * MM], "pixels": [64, 64]}
BLOCK = {"shape": "rectangle", "center": [0, 22 * MM], "width": 30 * MM, "height": 30 * MM, "echogenicity": -5}


def scene(texture, region=BLOCK, **more):
    regions = [{**region, "texture": texture}]
    return Scene(probe="L11-5v", image=IMAGE, background={"echogenicity": 0}, regions=regions, **more)


def levels(texture, x, z, seeds):
    return np.array([echogenicity_db_at(scene({**texture, "seed": seed}), x, z) for seed in range(seeds)]) + 5.0


GRID = np.linspace(-14 * MM, 14 * MM, 29)[None, :], np.linspace(8 * MM, 36 * MM, 29)[:, None]


def test_smooth_textures_are_normal_with_their_std_and_correlation():
    """30 fields of some 400 cells each: the standard error of the std is 1 %, of a correlation 0.01."""
    texture, (x, z) = {"std": 4, "correlation": 1.5 * MM}, GRID
    here = levels(texture, x, z, 30)
    assert here.mean() == pytest.approx(0, abs=0.15)
    assert here.std() == pytest.approx(4, rel=0.03)
    for dx, dz in ((1.5 * MM, 0), (0, 1.5 * MM), (1.06 * MM, 1.06 * MM)):
        there = levels(texture, x + dx, z + dz, 30)
        assert np.mean(here * there) / here.var() == pytest.approx(math.exp(-1), abs=0.04)
    # every fourth place, 4 mm = 2.7 correlation lengths apart, is independent of the next
    assert stats.kstest(here[:, ::4, ::4].ravel() / here.std(), "norm").pvalue > 0.01


@pytest.mark.parametrize("direction", [0.0, 0.5, 2.0])
def test_fibres_are_long_in_their_direction(direction):
    """The autocorrelation is 1/e at `correlation` across and `aspect` times as far along; std and law as given."""
    texture = {"type": "fibres", "std": 4, "correlation": 0.8 * MM, "direction": direction, "aspect": 6}
    x, z = GRID
    here = levels(texture, x, z, 30)
    assert here.std() == pytest.approx(4, rel=0.04)
    for length, turn in ((0.8 * MM, math.pi / 2), (4.8 * MM, 0.0)):
        way = length * math.cos(direction + turn), length * math.sin(direction + turn)
        there = levels(texture, x + way[0], z + way[1], 30)
        inside = label_at(scene(texture), x + way[0], z + way[1]) == 1
        correlation = np.mean((here * there)[:, inside]) / here.var()
        assert correlation == pytest.approx(math.exp(-1), abs=0.06)
    assert stats.kstest(here[:, ::9, ::9].ravel() / here.std(), "norm").pvalue > 0.01


@pytest.mark.parametrize(("per_mm2", "size"), [(0.3, 0.8 * MM), (3.0, 0.8 * MM), (1.0, 1.6 * MM)])
def test_clusters_follow_shot_noise(per_mm2, size):
    """Campbell: mean 1, variance 1 / (4 pi s^2 density), third cumulant 1 / (12 pi^2 s^4 density^2); 40 fields.

    Their autocovariance is that of two overlapping clumps, exp(-r^2 / 4 s^2).
    """
    texture = {"type": "clusters", "density": f"{per_mm2} /mm^2", "size": size}
    x, z = np.linspace(-14 * MM, 14 * MM, 57)[None, :], np.linspace(8 * MM, 36 * MM, 57)[:, None]
    power = 10 ** (levels(texture, x, z, 40) / 10)
    s, density = size / (2 * math.sqrt(2 * math.log(2))), per_mm2 * 1e6
    variance = 1 / (4 * math.pi * s**2 * density)
    cells = 40 * (28 * MM) ** 2 / (4 * math.pi * s**2)
    assert power.mean() == pytest.approx(1, abs=5 * math.sqrt(variance / cells))
    assert power.var() == pytest.approx(variance, rel=0.05)
    third = np.mean((power - 1) ** 3)
    assert third == pytest.approx(1 / (12 * math.pi**2 * s**4 * density**2), rel=0.2)
    beside = 10 ** (levels(texture, x + 1.5 * s, z, 40) / 10)
    inside = label_at(scene(texture), x + 1.5 * s, z) == 1
    covariance = np.mean(((power - 1) * (beside - 1))[:, inside])
    assert covariance == pytest.approx(variance * math.exp(-(1.5**2) / 4), rel=0.06)


def test_clumps_are_poisson():
    """So few clumps that they lie apart: their number in the region follows Poisson's law, over 200 fields."""
    texture = {"type": "clusters", "density": "0.02 /mm^2", "size": 1 * MM}
    x, z = np.linspace(-15 * MM, 15 * MM, 121)[None, :], np.linspace(7 * MM, 37 * MM, 121)[:, None]
    cell = (0.25 * MM) ** 2
    totals = [echogenicity_at(scene({**texture, "seed": k}), x, z).sum() for k in range(200)]
    # each clump brings 1 / density of power times area, times -5 dB
    counts = np.array(totals) * cell * 0.02e6 / 10**-0.5
    assert counts.mean() == pytest.approx(18, abs=5 * math.sqrt(18 / 200))
    assert counts.var() == pytest.approx(18, rel=0.4)


def test_a_texture_stays_where_it_is_whatever_region_shows_it():
    for texture in (
        {"std": 5, "correlation": 1 * MM, "seed": 3},
        {"type": "fibres", "std": 5, "correlation": 1 * MM, "direction": 0.3, "seed": 3},
        {"type": "clusters", "density": "1 /mm^2", "size": 1 * MM, "seed": 3},
    ):
        small = {"shape": "circle", "center": [3 * MM, 25 * MM], "radius": 4 * MM, "echogenicity": -5}
        x, z = np.linspace(1 * MM, 5 * MM, 40)[None, :], np.linspace(23 * MM, 27 * MM, 30)[:, None]
        whole, part = echogenicity_db_at(scene(texture), x, z), echogenicity_db_at(scene(texture, small), x, z)
        np.testing.assert_allclose(whole, part, atol=1e-9)
        assert whole.std() > 1.0


def test_textures_keep_to_their_region_and_leave_anechoic_ones_alone():
    texture = {"std": 5, "correlation": 1 * MM}
    assert echogenicity_db_at(scene(texture), 18 * MM, 20 * MM) == 0.0
    silent = scene(texture, {**BLOCK, "echogenicity": "anechoic"})
    assert echogenicity_db_at(silent, 0.0, 20 * MM) == -100.0
    assert echogenicity_at(silent, 0.0, 20 * MM) == 0.0


def test_powers_and_decibels_agree():
    x, z = GRID
    for texture in ({"std": 5, "correlation": 1 * MM}, {"type": "clusters", "density": "1 /mm^2", "size": 1 * MM}):
        of_texture = scene(texture)
        level = 10 * np.log10(np.maximum(echogenicity_at(of_texture, x, z), 1e-10))
        np.testing.assert_allclose(echogenicity_db_at(of_texture, x, z), level, atol=1e-6)


RANDOM = {
    "probe": "L11-5v",
    "image": IMAGE,
    "background": {"echogenicity": {"uniform": [-1, 1]}, "texture": {"std": 2, "correlation": 2 * MM}},
    "regions": [
        {**BLOCK, "repeat": 2, "texture": {"type": "clusters", "density": 1e6, "size": 1 * MM}},
        {"shape": "layer", "z": [5 * MM, 6 * MM], "echogenicity": 3, "roughness": {
            "std": 1 * MM, "correlation": 4 * MM}},
        {"shape": "circle", "center": [0, 20 * MM], "radius": 3 * MM, "echogenicity": 3, "texture": {
            "std": 2, "correlation": 2 * MM, "seed": 7}, "wall": {"thickness": 1 * MM, "echogenicity": 6, "texture": {
                "std": 2, "correlation": 2 * MM}}},
    ],
}  # fmt: skip


def test_seeds_are_drawn_for_each_region_of_a_random_phantom():
    phantom = phantom_from_dict(RANDOM)
    first, second = draw(phantom, index=0), draw(phantom, index=1)
    seeds = []
    for of_scene in (first, second):
        a, b, layer, circle = of_scene.regions
        assert circle.texture.seed == 7
        seeds += [of_scene.background.texture.seed, a.texture.seed, b.texture.seed]
        seeds += [layer.roughness.seed, circle.wall.texture.seed]
    assert len(set(seeds)) == 10
    assert 0 not in seeds


def test_seeds_of_regions_come_after_the_backgrounds():
    """A random phantom whose regions get textures keeps the background, texture included, that it had without."""
    lesion = {**BLOCK, "echogenicity": {"uniform": [-9, -3]}}
    textured = {**lesion, "texture": {"type": "clusters", "density": 1e6, "size": 1 * MM}}
    for index in range(3):
        scenes = [draw(phantom_from_dict({**RANDOM, "regions": [one]}), index=index) for one in (lesion, textured)]
        assert scenes[0].background == scenes[1].background
    fixed = {**RANDOM, "background": {"echogenicity": 0}, "regions": [{**textured, "echogenicity": 3}]}
    assert draw(phantom_from_dict(fixed)).regions[0].texture.seed == 0


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([{**BLOCK, "texture": {"std": 2, "correlation": 0.1 * MM, "colour": 1}}], "colour: unknown key"),
        ([{**BLOCK, "texture": {"type": "fiber", "std": 2}}], "'fiber' is none of smooth, fibres"),
        ([{**BLOCK, "texture": {"type": "clusters", "size": 1e-3}}], r"texture\.density: this key is required"),
        ([{**BLOCK, "texture": {"type": "clusters", "density": "2 mm"}}], "is a length, not a number per area"),
        ([{**BLOCK, "texture": {"std": 2, "correlation": 1e-3, "aspect": 2}}], "aspect: unknown key"),
        ([{**BLOCK, "texture": 3}], "texture: expected a mapping of keys, got 3"),
    ],
)
def test_nonsense_is_refused(regions, message):
    with pytest.raises(ConfigError, match=message):
        Scene(probe="L11-5v", image=IMAGE, background={"echogenicity": 0}, regions=regions)


def test_lattices_are_bounded_together():
    """Each of these textures is fine alone; together they are too many nodes, and the finest is named."""
    layer = {"shape": "layer", "z": [5 * MM, 40 * MM], "echogenicity": 0}
    fine = [{**layer, "texture": {"std": 2, "correlation": 0.15 * MM}} for _ in range(2)]
    alone = Scene(probe="L11-5v", image=IMAGE, background={"echogenicity": 0}, regions=fine[:1])
    assert alone.regions
    with pytest.raises(ConfigError, match=r"regions\.0\.texture\.correlation 0\.15 mm .* use 0\.16 mm or more"):
        Scene(probe="L11-5v", image=IMAGE, background={"echogenicity": 0}, regions=fine)
    cured = [{**layer, "texture": {"std": 2, "correlation": 0.16 * MM}}] * 2
    assert Scene(probe="L11-5v", image=IMAGE, background={"echogenicity": 0}, regions=cured).regions
    small = {"shape": "circle", "radius": 1 * MM, "echogenicity": 0, "texture": {"std": 2, "correlation": 0.1 * MM}}
    many = [{**small, "center": [k * MM, 20 * MM]} for k in range(-20, 20)]
    assert Scene(probe="L11-5v", image=IMAGE, background={"echogenicity": 0}, regions=many).regions
