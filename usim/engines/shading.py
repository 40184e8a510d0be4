"""Shadow and enhancement: how much more or less than the medium the regions on an echo's way take from it.

The two-way amplitude factor of the echo from a place (x, z), relative to the medium's uniform loss, is

    q(x, z) = <10^(-A/20)>_transmit <10^(-A/20)>_receive,      A = f^p integral (a - a_medium) dl

with a the attenuation in dB/cm/MHz^p along straight rays from the aperture to the place, f the centroid of the echo
there in MHz, and the averages taken over the rays of each aperture: slopes up to 1/2F, cut where the aperture or the
array ends, weighed by apodization and element factor. A plane wave arrives along one ray. Rays neither bend nor
diffract, and what they cross shifts their spectrum no further than the medium does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.elements import window
from usim.engines.aperture import element_factor, half_aperture
from usim.engines.beam import Beam
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
STEP = 0.25e-3  # metres between nodes of the lattice
MOST_NODES = 250_000  # beyond, the lattice is coarser
RAY_GAP = 0.4e-3  # metres between neighbouring rays, as deep below the first attenuating region as the image goes
RAYS = (9, 41)  # at least and at most
SUBSAMPLES = 4  # per direction in cells of the lattice that an edge crosses


@dataclass(frozen=True, eq=False)
class Shading:
    """The factor q (Z, X) on a lattice; x (X,), z (Z,): its nodes, metres."""

    x: Array
    z: Array
    factor: Array

    def __call__(self, x: Array, z: Array) -> Array:
        """q at places (P,), metres; beyond the lattice it goes on as its last value."""
        (row, down), (column, right) = _between(z, self.z), _between(x, self.x)
        q = self.factor
        upper = (1.0 - right) * q[row, column] + right * q[row, column + 1]
        lower = (1.0 - right) * q[row + 1, column] + right * q[row + 1, column + 1]
        return (1.0 - down) * upper + down * lower

    def on_grid(self, x: Array, z: Array) -> Array:
        """q (R, J) on the regular grid of x (J,) and z (R,), metres."""
        (row, down), (column, right) = _between(z, self.z), _between(x, self.x)
        rows = (1.0 - down)[:, None] * self.factor[row] + down[:, None] * self.factor[row + 1]
        return (1.0 - right) * rows[:, column] + right * rows[:, column + 1]


def _between(place: Array, nodes: Array) -> tuple[NDArray[np.int64], Array]:
    """The node at or before each place, and how far the place is towards the next one."""
    u = np.clip((place - nodes[0]) / (nodes[1] - nodes[0]), 0.0, len(nodes) - 1.0)
    index = np.minimum(u.astype(np.int64), len(nodes) - 2)
    return index, u - index


def shading(
    beam: Beam, attenuation: Callable[[Array, Array], Array], extent: tuple[tuple[float, float], tuple[float, float]]
) -> Shading:
    """The shading of places within `extent`, ((x0, x1), (z0, z1)) metres.

    attenuation: one way in dB/cm/MHz^p at points (x, z), metres, broadcast.
    """
    (x0, x1), (_, deepest) = extent
    steepest = max(_slopes(beam))
    end = beam.probe.aperture / 2.0
    left, right = min(x0, max(x0 - steepest * deepest, -end)), max(x1, min(x1 + steepest * deepest, end))
    step = max(STEP, math.sqrt((right - left) * deepest / MOST_NODES))
    x = left + step * np.arange(math.ceil((right - left) / step) + 2)
    z = step * (np.arange(math.ceil(deepest / step) + 2) + 0.5)
    excess = cell_mean(attenuation, x, z) - beam.medium.attenuation
    factor = np.ones((len(z), len(x)))
    attenuates = np.flatnonzero(excess.any(axis=1))
    if len(attenuates):
        _trace(beam, x, z, excess, int(attenuates[0]), factor)
    return Shading(x, z, factor)


def cell_mean(value: Callable[[Array, Array], Array], x: Array, z: Array) -> Array:
    """Means (Z, X) of a piecewise constant function of (x, z) over the cells of a regular grid with centres x, z."""
    cells = value(x[None, :], z[:, None])
    edge = np.zeros(cells.shape, dtype=bool)
    for axis in (0, 1):
        changes = np.diff(cells, axis=axis) != 0.0
        along = [(0, 0), (0, 0)]
        for side in ((0, 1), (1, 0)):
            along[axis] = side
            edge |= np.pad(changes, along)
    row, column = np.nonzero(edge)
    part = (np.arange(SUBSAMPLES) + 0.5) / SUBSAMPLES - 0.5
    dz, dx = (p.ravel()[:, None] for p in np.meshgrid(part * (z[1] - z[0]), part * (x[1] - x[0])))
    if len(row):
        cells[row, column] = value(x[column] + dx, z[row] + dz).mean(axis=0)
    return cells


def _slopes(beam: Beam) -> tuple[float, float]:
    """Steepest slopes of (transmitted, received) rays."""
    if isinstance(beam.transmit, FocusedScan):
        return 0.5 / beam.transmit.f_number, 0.5 / beam.receive.f_number
    return abs(math.tan(beam.steering)), 0.5 / beam.receive.f_number


def _trace(beam: Beam, x: Array, z: Array, excess: Array, first: int, factor: Array) -> None:
    """Fill rows `first` and below of factor (Z, X) with q; excess (Z, X): dB/cm/MHz^p over the medium's.

    Rays of one slope are told apart by where they leave the probe, x - slope z: their integrals grow row by row.
    """
    slope, weights = _rays(beam, z, z[-1] - z[first])
    step, end, columns = z[1] - z[0], beam.probe.aperture / 2.0, np.arange(len(x))
    frequency = (beam.pulse.centroid(z) * 1e-6) ** beam.medium.attenuation_power
    # neper of amplitude per row and unit of excess attenuation
    growth = (np.sqrt(1.0 + slope**2) * step * 1e2 / (20.0 / math.log(10.0)))[:, None]
    total = np.zeros((len(slope), len(x)))
    lit = np.ones_like(total)
    for row in range(first, len(z)):
        shift = slope[:, None] * (z[row] / step)
        crossed = 0.5 * growth * _read(excess[row][None, :], columns + shift)
        seen = _read(total + crossed, columns - shift)
        total += 2.0 * crossed
        loss = np.exp(-frequency[row] * seen)
        np.clip((end - np.abs(x - slope[:, None] * z[row])) / step + 0.5, 0.0, 1.0, out=lit)
        loss *= lit
        for weight in weights:
            # einsum, not a matrix product: the sums of threaded BLAS depend on the number of threads
            heard, whole = (np.einsum("j,jx->x", weight[row], part) for part in (loss, lit))
            factor[row] *= np.divide(heard, whole, out=np.ones_like(heard), where=whole > 0.0)


def _read(lines: Array, place: Array) -> Array:
    """Values of lines (1 or J, X) at fractional indices (J, X), linearly interpolated; the ends go on."""
    below = np.clip(np.floor(place).astype(np.int64), 0, lines.shape[1] - 2)
    part = np.clip(place - below, 0.0, 1.0)
    start = below if len(lines) == 1 else below + lines.shape[1] * np.arange(len(lines))[:, None]
    flat = lines.ravel()
    near = flat[start]
    return near + part * (flat[start + 1] - near)


def _rays(beam: Beam, z: Array, height: float) -> tuple[Array, tuple[Array, Array]]:
    """Slopes (J,) and weights (Z, J) of transmitted and of received rays, that fan out over `height` metres."""
    focused = isinstance(beam.transmit, FocusedScan)
    steepest = max(_slopes(beam)) if focused else _slopes(beam)[1]
    count = int(np.clip(2 * math.ceil(steepest * height / RAY_GAP) + 1, *RAYS))
    slope = steepest * (2.0 * (np.arange(count) + 0.5) / count - 1.0)
    half_rx = half_aperture(z, beam.receive.f_number, beam.probe)
    receive = _weights(beam, z, slope, half_rx, beam.receive.apodization)
    if isinstance(beam.transmit, FocusedScan):
        half_tx = np.minimum(half_aperture(z, beam.transmit.f_number, beam.probe), beam.transmit_half_aperture())
        return slope, (_weights(beam, z, slope, half_tx, beam.transmit.apodization), receive)
    alone = np.zeros((len(z), count + 1))
    alone[:, count] = 1.0
    return np.append(slope, math.tan(beam.steering)), (alone, np.pad(receive, ((0, 0), (0, 1))))


def _weights(beam: Beam, z: Array, slope: Array, half: Array, apodization: str) -> Array:
    """Weights (Z, J) of rays that end at depths z (Z,), from an aperture of +-half (Z,) metres."""
    width, reach = slope[1] - slope[0], (half / z)[:, None]
    inside = np.clip((reach - np.abs(slope)) / width + 0.5, 0.0, 1.0)
    # a ray on the aperture's edge stands for the part of it that is inside
    middle = np.maximum(np.abs(slope) - (1.0 - inside) * width / 2.0, 0.0)
    baffle = element_factor(slope, beam.probe.element_width, beam.wavelength)
    return inside * window(apodization, middle / reach) * baffle
