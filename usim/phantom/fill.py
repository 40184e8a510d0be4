"""Filling a scene with scatterers, and sampling it on cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from usim.engines.geometry import FLAT, Flat
from usim.phantom.schema import Scene
from usim.phantom.truth import Cover, cover_at, densities
from usim.phantom.world import World
from usim.scatterers import Scatterers

Array = NDArray[np.float64]
SUBSAMPLES = 3  # per direction in cells that an edge crosses
SOFT = 2.0  # cells
KURTOSIS = {"unit": 1.0, "gaussian": 3.0}
"""E[a^4] / E[a^2]^2 of the amplitude laws: +-1 with equal odds, and normal."""


def cell_echogenicity(world: World, x: Array, z: Array, geometry: Flat = FLAT) -> NDArray[np.float32]:
    """Mean echogenicity (a power, 0 dB tissue = 1) over each cell (Z, X) of a grid with centres x, z, regular in beam
    space."""
    return _over_cells(world, x, z, geometry, lambda cover: cover.echogenicity()[None])[0]


def cell_moments(world: World, x: Array, z: Array, geometry: Flat = FLAT) -> NDArray[np.float32]:
    """Mean echogenicity as `cell_echogenicity`, and mean echogenicity^2 / density, the density over that of
    `scatterers.per_cell`, which is what scatterers add to the fourth cumulant: (2, Z, X)."""

    def moments(cover: Cover) -> Array:
        power = cover.echogenicity()
        return np.stack((power, power**2 / cover.density()))

    return _over_cells(world, x, z, geometry, moments)


def _over_cells(
    world: World, x: Array, z: Array, geometry: Flat, value: Callable[[Cover], Array]
) -> NDArray[np.float32]:
    """Mean values (K, Z, X) over cells: those of the centres, or of SUBSAMPLES^2 places where an edge crosses the cell;
    where an edge is wider than SOFT cells the centre will do.

    value: of K quantities at places, the first axis.
    """
    cover = world.cover(*geometry.to_space(x[None, :], z[:, None]))
    labels, cells = cover.labels(SOFT * max(x[1] - x[0], z[1] - z[0])), value(cover)
    edge = np.zeros(labels.shape, dtype=bool)
    for differs, near, far in (
        (labels[1:] != labels[:-1], np.s_[1:], np.s_[:-1]),
        (labels[:, 1:] != labels[:, :-1], np.s_[:, 1:], np.s_[:, :-1]),
    ):
        edge[near] |= differs
        edge[far] |= differs
    row, column = np.nonzero(edge)
    if len(row):
        offset = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
        total = np.zeros((len(cells), len(row)))
        for dz in offset * (z[1] - z[0]):
            for dx in offset * (x[1] - x[0]):
                total += value(world.cover(*geometry.to_space(x[column] + dx, z[row] + dz)))
        cells[:, row, column] = total / SUBSAMPLES**2
    return cells.astype(np.float32)


def draw_cloud(
    scene: Scene,
    depth: Array,
    lateral: tuple[Array, Array],
    density: Array,
    strength: Array,
    half_slab: Array | None,
    generator: np.random.Generator,
    geometry: Flat = FLAT,
) -> Scatterers:
    """A Poisson cloud with the scene's echogenicity; in 0 dB tissue density E[a^2] = strength.

    depth: (D,) metres, ascending from the first to the last scatterer.  lateral: (x0, x1), each (D,) metres; both in
    the beam space of `geometry`.
    density: (D,) scatterers per m^2 in the plane, or per m^3 where half_slab (D,), metres, gives the slab's
    half-thickness.
    strength: (D,).  Nothing lies where the scene is anechoic, and fewer scatterers where it is sparse: as many as the
    densest region needs are drawn everywhere, and thinned. Depths come sorted: exponential spacings are sorted
    uniform draws.
    """
    most = max(densities(scene))
    cumulative = expected_above(depth, lateral, most * density * geometry.spread(depth), half_slab)
    count = int(generator.poisson(cumulative[-1]))
    spacing = np.cumsum(generator.standard_exponential(count + 1))
    z = np.interp(spacing[:-1] * (cumulative[-1] / spacing[-1]), cumulative, depth)
    left, right = np.interp(z, depth, lateral[0]), np.interp(z, depth, lateral[1])
    x = left + (right - left) * generator.random(count)
    y = np.zeros(count) if half_slab is None else (2.0 * generator.random(count) - 1.0) * np.interp(z, depth, half_slab)
    amplitude = draw_amplitude(scene.scatterers.amplitude, count, generator)
    relative = np.interp(z, depth, strength / density)
    x, z = geometry.to_space(x, z)
    cover = cover_at(scene, x, z)
    power, local = cover.echogenicity(), cover.density()
    kept = power > 0.0
    if local.min(initial=most) < most:
        kept &= generator.random(count) * most < local
    amplitude = amplitude * np.sqrt(power / local * relative)
    return Scatterers(np.stack((x, y, z), axis=1)[kept], amplitude[kept])


def draw_amplitude(law: str, count: int, generator: np.random.Generator) -> Array:
    """Amplitudes (N,) of unit variance; law: a key of KURTOSIS."""
    if law == "unit":
        return 2.0 * generator.integers(0, 2, count, dtype=np.int8) - 1.0
    return generator.standard_normal(count)


def expected_per_depth(lateral: tuple[Array, Array], density: Array, half_slab: Array | None) -> Array:
    """Mean number of scatterers per metre of depth (D,), in uniform tissue; arguments as for `draw_cloud`."""
    areal = density if half_slab is None else 2.0 * half_slab * density
    return areal * (lateral[1] - lateral[0])


def expected_above(depth: Array, lateral: tuple[Array, Array], density: Array, half_slab: Array | None) -> Array:
    """Mean number of scatterers from the first depth to each, (D,), in uniform tissue; arguments as for
    `draw_cloud`."""
    per_depth = expected_per_depth(lateral, density, half_slab)
    return np.concatenate(([0.0], np.cumsum(0.5 * (per_depth[1:] + per_depth[:-1]) * np.diff(depth))))
