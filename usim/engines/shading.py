"""Shadow and enhancement: how much more or less than the medium the regions on an echo's way take from it.

The two-way amplitude factor of the echo from a place, relative to the medium's uniform loss, is

    q = <10^(-A/20)>_transmit <10^(-A/20)>_receive,      A = f^p integral (a - a_medium) dl

with a the attenuation in dB/cm/MHz^p along straight rays from the aperture to the place, f the centroid of the echo
there in MHz, and the averages taken over the rays of each aperture: slopes up to 1/2F, cut where the aperture or the
array ends, weighed by apodization and element factor. A plane wave arrives along one ray. Rays neither bend nor
diffract, and what they cross shifts their spectrum no further than the medium does.

All of it is done in beam space (geometry.py). Rays are sorted into families whose integrals grow from row to row: of
equal slope s to parallel lines, and of equal distance p from the centre of curvature of a sector, where they lie at
angles -asin(p / (R + r)) from one of their own. The aperture of a phased array is not foreshortened.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from usim.elements import window
from usim.engines.aperture import element_factor, half_aperture
from usim.engines.beam import Beam
from usim.engines.sector import SectorBeam
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
STEP = 0.25e-3  # metres between nodes of the lattice
MOST_NODES = 250_000  # beyond, the lattice is coarser
RAY_GAP = 0.5e-3  # metres between neighbouring rays, as deep below the first attenuating region as the image goes
RAYS = (9, 33)  # at least and at most
GRAZING = 0.95  # sine of the steepest rays that leave an arc
SUBSAMPLES = 4  # per direction in cells of the lattice that an edge crosses


@dataclass(frozen=True, eq=False)
class Shading:
    """The factor q (Z, X) on a lattice of beam space; x (X,), z (Z,): its nodes, metres."""

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
    """The shading of places within `extent`, ((x0, x1), (z0, z1)) metres of beam space.

    attenuation: one way in dB/cm/MHz^p at points (x, z) in space, metres, broadcast.
    """
    (x0, x1), (_, deepest) = extent
    geometry, end = beam.geometry, beam.half_width
    ahead = _widest(beam, deepest)
    left, right = min(x0, max(x0 - ahead, -end)), max(x1, min(x1 + ahead, end))
    step = max(STEP, math.sqrt((right - left) * deepest / MOST_NODES))
    x = left + step * np.arange(math.ceil((right - left) / step) + 2)
    z = step * (np.arange(math.ceil(deepest / step) + 2) + 0.5)
    excess = cell_mean(lambda v, r: attenuation(*geometry.to_space(v, r)), x, z) - beam.medium.attenuation
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


def _trace(beam: Beam, x: Array, z: Array, excess: Array, first: int, factor: Array) -> None:
    """Fill rows `first` and below of factor (Z, X) with q; excess (Z, X): dB/cm/MHz^p over the medium's."""
    rays = _sector_rays(beam, z, first) if isinstance(beam, SectorBeam) else _rays(beam, z, first)
    step, end = z[1] - z[0], beam.half_width
    frequency = (beam.pulse.centroid(z) * 1e-6) ** beam.medium.attenuation_power
    # neper of amplitude per row and unit of excess attenuation
    growth = rays.length * step * 1e2 / (20.0 / math.log(10.0))
    total = np.zeros((rays.shift.shape[1], len(x)))
    lit = np.ones_like(total)
    for row in range(first, len(z)):
        shift = rays.shift[row][:, None] / step
        crossed = 0.5 * growth[row][:, None] * _read(excess[row][None, :], shift)
        seen = _read(total + crossed, -shift)
        total += 2.0 * crossed
        loss = np.exp(-frequency[row] * seen)
        if math.isfinite(end):
            np.clip((end - np.abs(x - rays.shift[row][:, None])) / step + 0.5, 0.0, 1.0, out=lit)
            loss *= lit
        for weight in (rays.transmit, rays.receive):
            # einsum, not a matrix product: the sums of threaded BLAS depend on the number of threads
            heard, whole = (np.einsum("j,jx->x", weight[row], part) for part in (loss, lit))
            factor[row] *= np.divide(heard, whole, out=np.ones_like(heard), where=whole > 0.0)


def _read(lines: Array, shift: Array) -> Array:
    """Lines (1 or J, X) at their indices plus shift (J, 1), linearly interpolated (J, X); the ends go on."""
    whole = np.floor(shift).astype(np.int64)
    start = np.arange(lines.shape[1]) + whole
    near, far = (np.clip(index, 0, lines.shape[1] - 1) for index in (start, start + 1))
    if len(lines) > 1:
        first = lines.shape[1] * np.arange(len(lines))[:, None]
        near, far = near + first, far + first
    flat, part = lines.ravel(), shift - whole
    return (1.0 - part) * flat[near] + part * flat[far]


class Rays(NamedTuple):
    """Families of rays, (Z, J) each.

    shift: metres of x at a depth from where the ray leaves the probe; of a phased array, from its course far away.
    length: of the ray per metre of depth.  transmit, receive: weights of the rays that end at a depth.
    """

    shift: Array
    length: Array
    transmit: Array
    receive: Array


def _widest(beam: Beam, deepest: float) -> float:
    """How far (metres of x) rays lie from the places where they end."""
    if isinstance(beam, SectorBeam):
        return beam.geometry.length * math.pi / 2.0
    return deepest * max(abs(math.tan(beam.steering)), *_slopes(beam))


def _slopes(beam: Beam) -> tuple[float, float]:
    """Steepest slopes to the lines of (transmitted, received) rays; a plane wave's own is not among them."""
    focused = isinstance(beam.transmit, FocusedScan)
    return 0.5 / beam.transmit.f_number if focused else 0.0, 0.5 / beam.receive.f_number


def _families(most: float, wide: float) -> Array:
    """Parameters (J,) of rays up to `most` on either side, that come to lie `wide` metres apart on either side."""
    count = int(np.clip(2 * math.ceil(wide / RAY_GAP) + 1, *RAYS))
    return most * (2.0 * (np.arange(count) + 0.5) / count - 1.0)


def _rays(beam: Beam, z: Array, first: int) -> Rays:
    """Rays of parallel lines: families of one slope."""
    steepest = max(_slopes(beam))
    slope = _families(steepest, steepest * (z[-1] - z[first]))
    half_rx = half_aperture(z, beam.receive.f_number, beam.probe)
    baffle = element_factor(slope, beam.probe.element_width, beam.wavelength)
    receive = _weights(np.outer(z, slope) / half_rx[:, None], beam.receive.apodization) * baffle
    if isinstance(beam.transmit, FocusedScan):
        transmit = _weights(np.outer(z, slope) / _half_tx(beam, z), beam.transmit.apodization) * baffle
    else:
        slope, receive = np.append(slope, math.tan(beam.steering)), np.pad(receive, ((0, 0), (0, 1)))
        transmit = np.zeros_like(receive)
        transmit[:, -1] = 1.0
    return Rays(np.outer(z, slope), np.tile(np.sqrt(1.0 + slope**2), (len(z), 1)), transmit, receive)


def _sector_rays(beam: SectorBeam, z: Array, first: int) -> Rays:
    """Rays of a fan of lines: families of one distance from the centre of curvature."""
    radius, away = beam.radius, (beam.radius + z)[:, None]
    half_tx, half_rx = _half_tx(beam, z), np.minimum(beam.receive_half_aperture(z), beam.end)[:, None]
    needed = np.maximum(half_tx, half_rx)[first:]
    if radius:
        # a ray at p leaves the arc R (asin(p/R) - asin(p/(R + r))) beside the line: to first order p r / (R + r)
        needed = needed * (away / z[:, None])[first:]
    most = min(float(needed.max()), GRAZING * radius if radius else math.inf)
    p = _families(most, min(1.0, most / float(away[first, 0])) * (z[-1] - z[first]))
    sine = np.clip(p / away, -1.0, 1.0)
    start = np.arcsin(p / radius) if radius else np.zeros_like(p)
    angle = start - np.arcsin(sine)
    place = radius * angle if radius else np.tile(p, (len(z), 1))
    length = np.where(np.abs(p) < away, 1.0 / np.sqrt(np.maximum(1.0 - sine**2, 1.0 - GRAZING**2)), 0.0)
    slope = np.tan(start) + 0.0 * z[:, None]
    baffle = element_factor(slope, beam.probe.element_width, beam.wavelength)
    transmit = _weights(place / half_tx, beam.transmit.apodization) * baffle
    receive = _weights(place / half_rx, beam.receive.apodization) * baffle
    return Rays(beam.geometry.length * angle, length, transmit, receive)


def _half_tx(beam: Beam, z: Array) -> Array:
    """Half the transmit aperture (Z, 1) whose rays reach depths z (Z,): above the focus a cone's, metres."""
    return np.clip(z / (2.0 * beam.transmit.f_number), beam.probe.pitch, beam.transmit_half_aperture())[:, None]


def _weights(position: Array, apodization: str) -> Array:
    """Weights (Z, J) of rays that leave the aperture at normalised positions (Z, J), -1 and 1 at its edges."""
    width = np.gradient(position, axis=1)
    inside = np.clip((1.0 - np.abs(position)) / width + 0.5, 0.0, 1.0)
    # a ray on the aperture's edge stands for the part of it that is inside
    middle = np.maximum(np.abs(position) - (1.0 - inside) * width / 2.0, 0.0)
    return inside * width * window(apodization, middle)
