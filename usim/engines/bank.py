"""Lateral kernels at depth nodes, as the Numba passes read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.engines.aperture import half_aperture
from usim.engines.beam import Beam
from usim.engines.compiled import kernels
from usim.engines.grid import blend_nodes, kernel_rate
from usim.engines.sector import WINDOWS, SectorBeam
from usim.errors import ResourceError
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
Plane = NDArray[np.float32]
Index = NDArray[np.int64]
KERNEL_TAIL = 4e-6  # energy of a lateral kernel that may lie beyond its reach, on average over the columns
NOISE_TAIL = 3e-3  # the kernels of the noise are normalised, so their tails may go earlier
NOISE_BLEND_TOLERANCE = 0.5
MOST_BANK_BYTES = 2_000_000_000
PROBE_TAPS = 96  # on either side, for finding the reach
BLEND_TOLERANCE = 0.12  # radians that a kernel may turn between depth nodes


@dataclass(frozen=True, eq=False)
class Bank:
    """Lateral kernels at depth nodes, laid out as `build_bank` in _psf_numba.py describes.

    re, im: all kernels, node n from start[n] on.  reach (N,): taps on either side.  low, high (N,): the columns
    low .. high - 1 share one kernel.  node (R,), blend (R,): each row's kernel is (1 - blend) of its node and blend of
    the next.
    """

    re: Plane
    im: Plane
    start: Index
    reach: Index
    low: Index
    high: Index
    node: Index
    blend: Array

    def layout(self) -> tuple[Index, Index, Index, Index, Index, Array]:
        """(start, reach, low, high, node, blend), in the kernels' order of arguments."""
        return self.start, self.reach, self.low, self.high, self.node, self.blend

    def sums(self, columns: int) -> Plane:
        """Sums over all taps of every row's kernel (R, C), where `re` holds powers."""
        at_nodes = np.empty((len(self.reach), columns), np.float32)
        pad, node = int(self.reach.max()), np.arange(len(self.reach))
        ones, layout = np.ones((len(self.reach), columns + 2 * pad), np.float32), self.layout()[:4]
        kernels().lateral_power(ones, False, self.re, *layout, node, np.zeros(len(node)), pad, at_nodes)
        blend = self.blend.astype(np.float32)[:, None]
        return (np.float32(1.0) - blend) * at_nodes[self.node] + blend * at_nodes[self.node + 1]


def lateral_kernels(
    beam: Beam,
    column: Array,
    depth: Array,
    tap: float,
    reach: Index,
    shared: tuple[Index, Index],
    *,
    receive_only: bool = False,
) -> tuple[Plane, Plane, Index]:
    """Kernels (re, im, start) at depths (N,) for image columns (C,), 2 reach + 1 taps `tap` metres apart.

    shared: (low, high), each (N,), the columns that share one kernel.  receive_only: R alone, as electronic noise sees
    the aperture.  The shadow of a plane wave's array is not in them: it is the scatterers'.
    """
    low, high = shared
    start = np.concatenate(([0], np.cumsum((2 * reach + 1) * (1 + low + len(column) - high)))).astype(np.int64)
    if 8 * int(start[-1]) > MOST_BANK_BYTES:
        raise ResourceError(
            f"image: its kernels would take {8e-9 * start[-1]:.1f} GB, at most {1e-9 * MOST_BANK_BYTES:.0f} GB; "
            "lower the extent of image.x or image.z, or choose a focused transmit and an apodized receive aperture"
        )
    re, im = np.empty(start[-1], np.float32), np.empty(start[-1], np.float32)
    if isinstance(beam, SectorBeam):
        beam.kernels(column, depth, tap, reach, shared, start, re, im, receive_only=receive_only)
        return re, im, start
    focused = isinstance(beam.transmit, FocusedScan) and not receive_only
    transmit = (-1.0, math.inf, 0)
    if focused:
        transmit = (beam.transmit_half_aperture(), beam.transmit.depth, WINDOWS[beam.transmit.apodization])
    wavelength = beam.wavelength_at(depth)
    width = -1.0 if receive_only else beam.probe.element_width  # every channel's noise is equally strong
    aperture = (width, WINDOWS[beam.receive.apodization], *transmit)
    phase = (2.0 if focused else 1.0, 0.0 if receive_only else math.sin(beam.steering))
    half_rx = half_aperture(depth, beam.receive.f_number, beam.probe)
    gain = depth ** (-1.0 if focused else -0.5)
    end = beam.probe.aperture / 2.0
    kernels("bank").build_bank(
        np.ascontiguousarray(column),
        end,
        depth,
        2.0 * np.pi / wavelength,
        half_rx,
        aperture,
        phase,
        gain,
        tap,
        reach,
        low,
        high,
        start,
        re,
        im,
    )
    return re, im, start


def shared_columns(beam: Beam, column: Array, depth: Array, *, receive_only: bool) -> tuple[Index, Index]:
    """Columns (low, high), each (N,), whose apertures are not cut at a depth node nor at the next one."""
    if isinstance(beam, SectorBeam):
        return beam.shared(column, depth, receive_only=receive_only)
    half = half_aperture(depth, beam.receive.f_number, beam.probe)
    if isinstance(beam.transmit, FocusedScan) and not receive_only:
        half = np.maximum(half, beam.transmit_half_aperture())
    free = beam.probe.aperture / 2.0 - np.append(half[1:], half[-1])
    low, high = np.searchsorted(column, -free), np.searchsorted(column, free, side="right")
    none = np.searchsorted(column, 0.0)  # an aperture as wide as the array is cut on either side of its axis
    return np.where(low < high, low, none), np.where(low < high, high, none)


def reach_of(beam: Beam, x: Array, depth: Array, tail: float, *, receive_only: bool = False) -> Array:
    """How far (metres) kernels reach at depths (D,): all but `tail` of their energy, over the image's columns x (X,).

    At most half the array or the image's width: where a sidelobe falls no faster than 1/xi, no reach holds it all. The
    columns are taken from the array's axis outwards, where cut apertures ring most.
    """
    width = max(float(x[-1] - x[0]), beam.probe.aperture / 2.0)
    probes = np.geomspace(depth[0], depth[-1], 9)
    column = np.linspace(0.0, 1.0, 5) * min(beam.half_width, float(np.abs(x[[0, -1]]).max()))
    half = np.full(probes.shape, PROBE_TAPS, dtype=np.int64)
    none = np.zeros(probes.shape, dtype=np.int64)
    step = width / half[0]
    re, im, start = lateral_kernels(beam, column, probes, step, half, (none, none), receive_only=receive_only)
    found = np.empty(probes.shape)
    for n in range(len(probes)):
        block = slice(start[n] + 2 * half[0] + 1, start[n + 1])
        power = (re[block].astype(np.float64) ** 2 + im[block].astype(np.float64) ** 2).reshape(-1, 5).sum(axis=1)
        folded = power[half[0] :].copy()
        folded[1:] += power[: half[0]][::-1]
        outside = np.cumsum(folded[::-1])[::-1]
        found[n] = step * (int(np.searchsorted(-outside, -tail * outside[0])) + 1)
    return np.minimum(np.interp(np.log(depth), np.log(probes), found), width)


def taps_of(reach: Array, step: float, most: int) -> Index:
    """Taps on either side (N,) of kernels that reach `reach` (N,) metres, and as many as either neighbour needs."""
    taps = np.minimum(np.ceil(reach / step).astype(np.int64), most)
    return np.maximum(taps, np.maximum(np.append(taps[1:], 0), np.append(0, taps[:-1])))


def make_bank(
    beam: Beam, column: Array, row: Array, reach: Array, pad: int, *, receive_only: bool = False,
    tolerance: float = BLEND_TOLERANCE,
) -> Bank:  # fmt: skip
    """The bank for internal columns (C,) and rows (R,); kernels reach `reach` (R,) metres, at most `pad` taps."""
    nodes, node, blend = blend_nodes(kernel_rate(beam, row), row, tolerance)
    depth = np.maximum(row[nodes], beam.wavelength)
    step = float(column[1] - column[0])
    taps = taps_of(reach[nodes], step, pad)
    shared = shared_columns(beam, column, depth, receive_only=receive_only)
    re, im, start = lateral_kernels(beam, column, depth, step, taps, shared, receive_only=receive_only)
    return Bank(re, im, start, taps, *shared, node, blend)
