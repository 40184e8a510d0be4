"""Clouds and cells of a scene."""

import numpy as np
import pytest

from usim.phantom.draw import draw
from usim.phantom.fill import cell_echogenicity, cell_moments, draw_cloud, expected_per_depth
from usim.phantom.load import phantom_from_text
from usim.phantom.world import World

DEPTH = np.linspace(10e-3, 30e-3, 101)
LATERAL = (np.full(101, -5e-3), 5e-3 + 0.1 * (DEPTH - 10e-3))
DENSITY = 1e8 * (1.0 + (DEPTH - 10e-3) / 20e-3)
STRENGTH = np.linspace(2.0, 4.0, 101)


def make(regions="[]", amplitude="unit"):
    text = (
        "probe: L11-5v\nimage: {x: [-5 mm, 5 mm], z: [10 mm, 30 mm], pixels: [20, 20]}\n"
        f"background: {{echogenicity: 0 dB}}\nregions: {regions}\nscatterers: {{per_cell: 4, amplitude: {amplitude}}}\n"
    )
    return draw(phantom_from_text(text))


def cloud(slab=None, **changes):
    return draw_cloud(make(**changes), DEPTH, LATERAL, DENSITY, STRENGTH, slab, np.random.default_rng(1))


@pytest.mark.parametrize("amplitude", ["unit", "gaussian"])
def test_density_and_strength_with_depth(amplitude):
    """Counts per slice of depth follow the density, density E[a^2] the strength: within four standard errors."""
    found = cloud(amplitude=amplitude)
    per_depth = expected_per_depth(LATERAL, DENSITY, None)
    kurtosis = {"unit": 1.0, "gaussian": 3.0}[amplitude]
    for low in (10e-3, 15e-3, 25e-3):
        part = (found.z >= low) & (found.z < low + 5e-3)
        fine = np.linspace(low, low + 5e-3, 501)
        wanted = np.trapezoid(np.interp(fine, DEPTH, per_depth), fine)
        assert abs(part.sum() - wanted) < 4.0 * np.sqrt(wanted)
        power = np.trapezoid(np.interp(fine, DEPTH, STRENGTH * (LATERAL[1] - LATERAL[0])), fine)
        error = power * np.sqrt(kurtosis / wanted)
        assert abs((found.amplitude[part] ** 2).sum() - power) < 4.0 * error


def test_depths_come_sorted_and_inside():
    """Sorted by depth, between the lateral limits of their depth, in the image plane."""
    found = cloud()
    assert (np.diff(found.z) >= 0).all()
    assert (found.x >= -5e-3).all()
    assert (found.x <= np.interp(found.z, DEPTH, LATERAL[1])).all()
    assert not found.y.any()


def test_slab_is_filled_evenly():
    """A 3-D cloud fills its slab: y / half-slab uniform in [-1, 1] (variance 1/3), count by volume."""
    slab = np.linspace(1e-3, 2e-3, 101)
    found = draw_cloud(make(), DEPTH, LATERAL, DENSITY * 1e3, STRENGTH, slab, np.random.default_rng(2))
    scaled = found.y / np.interp(found.z, DEPTH, slab)
    assert np.abs(scaled).max() <= 1.0
    assert np.mean(scaled**2) == pytest.approx(1 / 3, rel=0.02)
    expected = np.trapezoid(expected_per_depth(LATERAL, DENSITY * 1e3, slab), DEPTH)
    assert abs(len(found) - expected) < 4.0 * np.sqrt(expected)


def test_counts_are_poisson():
    """Over 200 draws the number of scatterers has a variance equal to its mean (15 %, four standard errors each)."""
    scene, generator = make(), np.random.default_rng(3)
    counts = [len(draw_cloud(scene, DEPTH, LATERAL, DENSITY * 1e-2, STRENGTH, None, generator)) for _ in range(200)]
    expected = np.trapezoid(expected_per_depth(LATERAL, DENSITY * 1e-2, None), DEPTH)
    assert abs(np.mean(counts) - expected) < 4.0 * np.sqrt(expected / 200)
    assert np.var(counts) / expected == pytest.approx(1.0, abs=0.4)


def test_regions_weigh_the_amplitudes():
    """-20 dB is a tenth of the amplitude; nothing at all lies in an anechoic region."""
    regions = (
        "[{shape: layer, z: [10 mm, 15 mm], echogenicity: -20 dB},"
        " {shape: layer, z: [20 mm, 25 mm], echogenicity: anechoic}]"
    )
    found = cloud(regions=regions)
    assert not ((found.z > 20e-3) & (found.z < 25e-3)).any()
    plain = np.sqrt(np.interp(found.z, DEPTH, STRENGTH / DENSITY))
    np.testing.assert_allclose(np.abs(found.amplitude / plain), np.where(found.z <= 15e-3, 0.1, 1.0), rtol=1e-9)


def test_cells_on_an_edge_hold_the_share_of_their_area():
    """Cells that a circle's edge crosses are averaged: the circle's area within 0.5 %."""
    scene = make("[{shape: circle, center: [0 mm, 20 mm], radius: 2 mm, echogenicity: anechoic}]")
    x, z = np.arange(-4e-3, 4e-3, 0.1e-3), np.arange(16e-3, 24e-3, 0.07e-3)
    found = cell_echogenicity(World(scene), x, z)
    assert found.shape == (len(z), len(x))
    area = (1.0 - found.astype(np.float64)).sum() * 0.1e-3 * 0.07e-3
    assert area == pytest.approx(np.pi * 4e-6, rel=5e-3)
    assert set(np.unique(found[:3])) == {1.0}
    assert found[len(z) // 2, len(x) // 2] == 0.0


def test_straight_edge_between_cells():
    """An edge a quarter of a cell beyond a centre leaves the cell three quarters full, as far as samples can tell."""
    scene = make("[{shape: layer, z: [20 mm, 40 mm], echogenicity: anechoic}]")
    z = 20e-3 + 0.1e-3 * np.array([-1.25, -0.25, 0.75])
    found = cell_echogenicity(World(scene), np.array([0.0, 1e-4]), z)[:, 0]
    assert found == pytest.approx([1.0, 0.75, 0.0], abs=0.1)


def test_cells_on_a_soft_edge_hold_its_mean():
    """Edges of 1 to 10 cells against 41 x 41 places in each: power within 0.1 %, cells of a wide edge within 1 %."""
    x, z = np.arange(-3e-3, 3e-3, 0.1e-3), np.arange(17e-3, 23e-3, 0.07e-3)
    for edge in (0.12e-3, 0.3e-3, 1e-3):
        region = f"{{shape: circle, center: [0 mm, 20 mm], radius: 2 mm, echogenicity: 9 dB, edge: {edge}}}"
        world = World(make(f"[{region}]"))
        found = cell_echogenicity(world, x, z)
        offset = (np.arange(41) + 0.5) / 41 - 0.5
        fine = (x[:, None] + 0.1e-3 * offset).ravel(), (z[:, None] + 0.07e-3 * offset).ravel()
        mean = world.cover(fine[0][None, :], fine[1][:, None]).echogenicity()
        mean = mean.reshape(len(z), 41, len(x), 41).mean(axis=(1, 3))
        assert found.sum() == pytest.approx(mean.sum(), rel=1e-3)
    assert np.abs(found / mean - 1).max() < 0.01


def test_both_moments_of_cells_know_the_density():
    region = "{shape: layer, z: [20 mm, 40 mm], echogenicity: 6 dB, per_cell: 1}"
    world = World(make(f"[{region}]"))
    x, z = np.arange(0, 1e-3, 0.1e-3), np.array([19e-3, 19.1e-3, 19.2e-3, 21e-3, 21.1e-3])
    power, fourth = cell_moments(world, x, z)
    np.testing.assert_array_equal(power, cell_echogenicity(world, x, z))
    np.testing.assert_allclose(fourth[:2], 1.0)
    np.testing.assert_allclose(fourth[-1], 10**1.2 * 4, rtol=1e-6)
