"""The PSF that the exact engine and the beamformer really make, as a bank of complex kernels of rank R.

At depth nodes d the image of a scatterer at (x_c + xi, d) in column c is computed from the exact fields G,

    PSF(xi, dz; c, d) = 2 integral P R^2 T(f) A(f, dz) exp(i 2 pi f (t(d + dz) - t(d) + dz / c) - i 2 k0 dz) df
    T(f) = sum_j w_j exp(-i 2 pi f tau_j) G_j(f)             A(f, dz) = sum_e v_e exp(i 2 pi f (r_e - dz) / c) G_e(f)

with the receive weights v and distances r_e of the pixel at depth d + dz, t the arrival of the transmission. It is
written as the best sum of R products L_r(xi; c, d) p_r(dz; d) (singular vectors, common to all columns of a depth). Its
square and fourth power, which the truth needs, are written likewise.

A plane wave is taken as it arrives in front of the array, without the waves from the array's ends.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from usim.beamforming import Aperture
from usim.elements import window
from usim.engines.bank import shared_columns, taps_of
from usim.engines.compiled import kernels
from usim.engines.grid import Grid, blend_nodes, kernel_rate
from usim.engines.response import Response
from usim.engines.sir_image import SirPlan
from usim.engines.threads import in_order
from usim.scatterers import Scatterers
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Complex = NDArray[np.complex64]
RANK = 3
FREQUENCIES = 40  # over the band: the pulse repeats after some 3 mm
NODE_TOLERANCE = 0.3  # radians that the kernels turn between nodes
LARGEST_STEP = 2e-3  # metres between nodes
COLUMN_STRIDE = 3  # where ends cut the aperture, every third column is computed; kernels change over millimetres
AXIAL_STEP = 0.12  # cycles of the baseband's edge per sample of dz
FOCI = np.array([-1.0, 0.0, 1.0])  # of half the axial window: depths where A is computed; a parabola in between
NODES_AHEAD = 4  # whose images may wait to be taken apart


@dataclass(frozen=True, eq=False)
class Calibration:
    """The bank: kernels at depth nodes, laid out as `build_bank` in _bank_numba.py describes.

    depth (N,) metres; reach, low, high (N,), start (N + 1,): as in Bank.
    offset (Q,): dz in metres.  lateral (R, K), axial (N, R, Q): complex factors of the PSF.
    power, fourth (R, K) and power_axial, fourth_axial (N, R, Q): real factors of |PSF|^2 and |PSF|^4.
    scale (): what the exact engine's IQ is multiplied with, so that the PSF's peak at mid-depth is 1.
    peak (N, C): |PSF|^2 at its peak, for every column.  error (N,): energy that rank R leaves out.
    """

    depth: Array
    reach: Index
    low: Index
    high: Index
    start: Index
    offset: Array
    lateral: Complex
    axial: Complex
    scale: Array
    power: NDArray[np.float32]
    power_axial: NDArray[np.float32]
    fourth: NDArray[np.float32]
    fourth_axial: NDArray[np.float32]
    peak: NDArray[np.float32]
    error: Array

    def arrays(self) -> dict[str, NDArray]:
        """All arrays by their names."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, eq=False)
class Probing:
    """What the nodes of one calibration share."""

    sir: SirPlan
    grid: Grid
    response: Response
    offset: Array
    frequency: Array
    scale: float = 1.0

    @cached_property
    def place(self) -> Array:
        """Lateral positions (J,) of scatterers, metres: all columns, and `pad` more on either side."""
        grid = self.grid
        return grid.column[0] + grid.step[0] * np.arange(-grid.pad, len(grid.column) + grid.pad)

    def exact_fields(self, depth: float) -> Complex:
        """G (F, J, E) of scatterers at `place`, at one depth."""
        x, face = self.place, self.sir.face
        position = np.stack([x, np.zeros_like(x), np.full_like(x, depth)], axis=1)
        step = self.frequency[1] - self.frequency[0]
        phasors = face.phasors(Scatterers(position, np.ones(len(x))))
        out = np.zeros((len(self.frequency) // 4, len(x), 8 * face.padded), np.float32)
        medium = face.kernel_arguments(self.frequency[0], step, len(self.frequency))
        kernels("sir").field_tile(position, face.blocks, phasors, np.zeros(face.padded), *medium, out)
        heard = np.ascontiguousarray(face.unblocked(out.swapaxes(0, 1)).swapaxes(0, 1))
        heard *= face.edge_filter(self.frequency).astype(np.complex64)[:, None, None]
        return heard

    def steering(self, column: Array, depth: float) -> tuple[Complex, Complex]:
        """(transmit (C, F, E), receive (C, F, E, 3)) weights of columns (C,) at a depth; 0 for a plane wave."""
        sir, omega = self.sir, 2.0 * np.pi * self.frequency
        centre, c = sir.elements.centre, sir.medium.sound_speed
        aperture = Aperture.of(
            centre, sir.elements.normal, sir.receive.f_number, sir.receive.apodization, sir.elements.lateral
        )
        receive = np.zeros((len(column), len(omega), len(centre), 3), np.complex64)
        for q, z in enumerate(depth + FOCI * self.offset[-1]):
            points = np.stack([column, np.zeros_like(column), np.full_like(column, z)], axis=1)
            weights = aperture.weights(points)
            energy = np.sqrt((weights**2).sum(axis=1, keepdims=True))
            weights = np.divide(weights, energy, out=np.zeros_like(weights), where=energy > 0.0)
            late = np.linalg.norm(points[:, None] - centre, axis=2) - (z - depth)
            receive[..., q] = weights[:, None] * np.exp(1j * omega[:, None] * late[:, None] / c)
        if not isinstance(sir.transmit, FocusedScan):
            return np.zeros((len(column), len(omega), len(centre)), np.complex64), receive
        _, firings = sir.events_at(column)
        focus = np.where(firings.weights > 0.0, np.hypot(centre[:, 0] - column[:, None], sir.transmit.depth), 0.0)
        arrival = (focus.max(axis=1, keepdims=True) + depth - sir.transmit.depth) / c
        late = (arrival - firings.delays)[:, None] * omega[:, None]
        return (firings.weights[:, None] * np.exp(1j * late)).astype(np.complex64), receive

    def plane_field(self, heard: Complex, depth: float) -> Complex:
        """T (F, J) of a plane wave without edges, at scatterers at `place`, timed at (0, depth)."""
        x, sir, omega = self.place, self.sir, 2.0 * np.pi * self.frequency
        c, angle = sir.medium.sound_speed, sir.transmit.angle
        # the place where the ray from the array's centre arrives, seen by a tapered array: stationary phase
        at = int(np.argmin(np.abs(x - depth * np.tan(angle))))
        place = sir.elements.centre[:, 0]
        taper = window("hann", place / (sir.probe.aperture / 2.0))
        fired = taper * np.exp(-1j * omega[:, None] * (place * np.sin(angle)) / c)
        there = np.einsum("fe,fe->f", fired, heard[:, at])
        # from there to x along the wave, and back in time by its arrival
        late = depth * np.cos(angle) - (x - x[at]) * np.sin(angle)
        return (there[:, None] * np.exp(1j * omega[:, None] * late / c)).astype(np.complex64)

    def images(self, depth: float, reach: int, columns: Index) -> Complex:
        """PSF (C, 2 reach + 1, Q) of the columns with these numbers."""
        grid, sir = self.grid, self.sir
        c = sir.medium.sound_speed
        heard = self.exact_fields(depth)
        step = self.frequency[1] - self.frequency[0]
        response = 2.0 * step * self.scale * self.response(self.frequency)
        focused = isinstance(sir.transmit, FocusedScan)
        stretch = 2.0 if focused else 1.0 + np.cos(sir.transmit.angle)
        turn = (stretch * self.frequency - 2.0 * sir.probe.center_frequency) * (2.0 * np.pi / c)
        to_depth = (response[:, None] * np.exp(1j * np.outer(turn, self.offset))).astype(np.complex64)
        # parabola through the three foci
        s = self.offset / self.offset[-1]
        blend = np.stack([s * (s - 1.0) / 2.0, 1.0 - s * s, s * (s + 1.0) / 2.0]).astype(np.complex64)
        wave = None if focused else self.plane_field(heard, depth)
        out = np.empty((len(columns), 2 * reach + 1, len(self.offset)), np.complex64)
        for part in np.array_split(np.arange(len(columns)), 1 + len(columns) // 16):
            transmit, receive = self.steering(grid.column[columns[part]], depth)
            for i, number in enumerate(columns[part]):
                taps = slice(number + grid.pad - reach, number + grid.pad + reach + 1)
                used = np.flatnonzero((np.abs(receive[i]).max(axis=(0, 2)) > 0) | (np.abs(transmit[i]).max(axis=0) > 0))
                some = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
                weights = np.concatenate([receive[i, :, some], transmit[i, :, some, None]], axis=2)
                sums = np.matmul(heard[:, taps, some], weights)  # (F, taps, 4)
                fired = sums[..., 3]
                if wave is not None:
                    arrival = grid.column[number] * np.sin(sir.transmit.angle) / c
                    fired = wave[:, taps] * np.exp(2j * np.pi * self.frequency * arrival).astype(np.complex64)[:, None]
                two_way = (sums[..., :3] * fired[..., None]).transpose(2, 1, 0)
                out[part[i]] = (np.matmul(two_way, to_depth) * blend[:, None]).sum(axis=0)
        return out


def factors(images: NDArray, weight: Array, rank: int, before: NDArray | None) -> tuple[NDArray, NDArray, float]:
    """Best L (R, M), p (R, Q), and energy left out, of images (M, Q) ~ sum_r L_r p_r, rows weighed by `weight` (M,).

    before: (R, Q), the factors p of the node above; ours are turned as near to them as may be, so that both blend.
    """
    gram = np.einsum("mq,m,mr->qr", images.conj(), weight, images, optimize=True)
    values, vectors = np.linalg.eigh(gram)
    basis = vectors[:, ::-1][:, :rank].conj().T
    if before is not None:
        # orthogonal Procrustes problem: the unitary matrix that turns one basis nearest to the other
        left, _, right = np.linalg.svd(before @ basis.conj().T)
        basis = left @ right @ basis
    error = float(max(values[:-rank].sum(), 0.0) / max(values.sum(), 1e-300))
    return (images @ basis.conj().T).T, basis, error


def calibrate(sir: SirPlan, beam, grid: Grid, reach: Array, rank: int = RANK) -> Calibration:
    """The bank of one setting, for the rows and columns of `grid`; kernels reach `reach` (R,) metres."""
    rate = np.maximum(kernel_rate(beam, grid.row), NODE_TOLERANCE / LARGEST_STEP)
    nodes, _, _ = blend_nodes(rate, grid.row, NODE_TOLERANCE)
    depth = np.maximum(grid.row[nodes], beam.wavelength)
    taps = taps_of(reach[nodes], grid.step[0], grid.pad)
    low, high = shared_columns(beam, grid.column, depth, receive_only=False)
    response = sir.response(float(grid.row[-1]))
    edge = max(response.high - beam.probe.center_frequency, beam.probe.center_frequency - response.low)
    dz = AXIAL_STEP * sir.medium.sound_speed / (2.0 * edge)
    half = int(np.ceil((grid.half_pulse + grid.step[1]) / dz))
    frequency = np.linspace(response.low, response.high, FREQUENCIES, endpoint=False)
    probing = Probing(sir, grid, response, dz * np.arange(-half, half + 1), frequency)
    axis = int(np.argmin(np.abs(grid.column)))
    middle = probing.images(float(depth[len(depth) // 2]), int(taps[len(depth) // 2]), np.array([axis]))
    probing = replace(probing, scale=1.0 / float(np.abs(middle).max()))
    kept: list[tuple] = []

    straight = isinstance(sir.transmit, FocusedScan) or sir.transmit.angle == 0.0
    mirrored = straight and bool(np.allclose(grid.column, -grid.column[::-1], atol=1e-9))

    def node(n: int) -> tuple[Complex, Array, Index, NDArray[np.bool_]]:
        computed, own = _own_columns(int(low[n]), int(high[n]), len(grid.column), mirrored)
        images = probing.images(depth[n], int(taps[n]), np.concatenate([[axis], computed]))
        weight = np.full(len(images), own.sum() / max(len(computed), 1))
        weight[0] = max(high[n] - low[n], 1)
        return images, weight, computed, own

    peak = np.empty((len(depth), len(grid.column)), np.float32)
    before: list[NDArray | None] = [None, None, None]
    errors = np.empty(len(depth))
    for n, (images, weight, computed, own) in enumerate(in_order(node, len(depth), NODES_AHEAD)):
        power = np.abs(images) ** 2
        highest = power.max(axis=(1, 2))
        peak[n] = highest[0]
        peak[n, own] = _all_columns(highest[None, 1:, None], computed, own, mirrored)[0, :, 0]
        result = []
        for i, values in enumerate((images, power, power**2)):
            rows = values.reshape(-1, values.shape[-1]).astype(np.complex128 if i == 0 else np.float64)
            lateral, before[i], error = factors(rows, np.repeat(weight, values.shape[1]), rank, before[i])
            lateral = lateral.reshape(rank, *values.shape[:2])
            whole = _all_columns(lateral[:, 1:], computed, own, mirrored)
            result += [_laid_out(np.concatenate([lateral[:, :1], whole], axis=1), int(low[n])), before[i]]
            errors[n] = error if i == 0 else errors[n]
        kept.append(tuple(result))
    start = np.concatenate(([0], np.cumsum((2 * taps + 1) * (1 + low + len(grid.column) - high)))).astype(np.int64)
    lateral, power, fourth = (np.concatenate([k[i] for k in kept], axis=1) for i in (0, 2, 4))
    axial, power_axial, fourth_axial = (np.stack([k[i] for k in kept]) for i in (1, 3, 5))
    return Calibration(
        depth, taps, low, high, start, probing.offset, lateral.astype(np.complex64), axial.astype(np.complex64),
        np.array(probing.scale), power.astype(np.float32), power_axial.astype(np.float32), fourth.astype(np.float32),
        fourth_axial.astype(np.float32), peak, errors,
    )  # fmt: skip


def _own_columns(low: int, high: int, columns: int, mirrored: bool) -> tuple[Index, NDArray[np.bool_]]:
    """(columns that are computed, which of all columns (C,) have a kernel of their own) at a node.

    Every third of those with a kernel of their own, or only those on the right where the left ones mirror them.
    """
    own = np.ones(columns, bool)
    own[low:high] = False
    left = np.arange(0 if mirrored else low)
    return np.concatenate([_every_third(left), _every_third(np.arange(high, columns))]).astype(np.int64), own


def _every_third(columns: Index) -> Index:
    return np.union1d(columns[::COLUMN_STRIDE], columns[-1:])


def _all_columns(kernels_: NDArray, computed: Index, own: NDArray[np.bool_], mirrored: bool) -> NDArray:
    """Kernels (R, c, T) of the computed columns to those of all columns that have their own (R, sum(own), T)."""
    wanted = np.flatnonzero(own)
    if not len(wanted):
        return kernels_[:, :0]
    source = np.where(wanted < computed[0], len(own) - 1 - wanted, wanted) if mirrored else wanted
    above = np.clip(np.searchsorted(computed, source), 1, len(computed) - 1) if len(computed) > 1 else 0 * source
    below = np.maximum(above - 1, 0)
    gap = np.maximum(computed[above] - computed[below], 1)
    part = np.clip((source - computed[below]) / gap, 0.0, 1.0).astype(np.float32)[None, :, None]
    out = (1.0 - part) * kernels_[:, below] + part * kernels_[:, above]
    turned = wanted < computed[0] if mirrored else np.zeros(len(wanted), bool)
    out[:, turned] = out[:, turned, ::-1]
    return out


def _laid_out(lateral: NDArray, low: int) -> NDArray:
    """(R, 1 + columns, T) kernels, the shared one first, to (R, K): shared, left, right, with columns fastest."""
    parts = [lateral[:, 0], lateral[:, 1 : 1 + low], lateral[:, 1 + low :]]
    return np.concatenate([parts[0], *(p.transpose(0, 2, 1).reshape(len(p), -1) for p in parts[1:])], axis=1)
