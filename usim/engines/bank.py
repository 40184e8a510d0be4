"""Lateral kernels at depth nodes, as the Numba passes read them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from usim.engines.aperture import half_aperture
from usim.engines.beam import Beam
from usim.engines.grid import blend_nodes, kernel_rate
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]
Plane = NDArray[np.float32]
WINDOWS = {"boxcar": 0, "hann": 1, "hamming": 2}
KERNEL_TAIL = 4e-6  # energy of a lateral kernel that may lie beyond its reach, on average over the columns
NOISE_TAIL = 3e-3  # the kernels of the noise are normalised, so their tails may go earlier
NOISE_BLEND_TOLERANCE = 0.5
BLEND_TOLERANCE = 0.12  # radians that a kernel may turn between depth nodes


def kernels() -> ModuleType:
    """The Numba kernels, compiled once per machine into the user's cache."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        from platformdirs import user_cache_dir

        os.environ["NUMBA_CACHE_DIR"] = os.environ.get("USIM_CACHE_DIR") or user_cache_dir("usim")
    from usim.engines import _psf_numba

    return _psf_numba


@dataclass(frozen=True, eq=False)
class Bank:
    """Lateral kernels at depth nodes; node n is `re/im[start[n]:start[n + 1]]`, (2 reach[n] + 1, C) row-major.

    node (R,), blend (R,): each internal row's kernel is (1 - blend) of its node and blend of the next.
    """

    re: Plane
    im: Plane
    start: NDArray[np.int64]
    reach: NDArray[np.int64]
    node: NDArray[np.int64]
    blend: Array

    def kernel(self, row: int, column: int, columns: int) -> NDArray[np.float32]:
        """Real plane of the kernel (T,) at the node nearest to a row, for one of `columns` columns."""
        n = int(self.node[row] + (self.blend[row] >= 0.5))
        return self.re[self.start[n] : self.start[n + 1]].reshape(-1, columns)[:, column]

    def layout(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Array]:
        """(start, reach, node, blend), in the kernels' order of arguments."""
        return self.start, self.reach, self.node, self.blend


def lateral_kernels(
    beam: Beam, column: Array, depth: Array, tap: float, reach: NDArray[np.int64], *, receive_only: bool = False
) -> tuple[Plane, Plane, NDArray[np.int64]]:
    """Kernels (re, im, start) at depths (N,) for image columns (C,), 2 reach + 1 taps `tap` metres apart.

    receive_only: R alone, as electronic noise sees the aperture.
    """
    half_rx = half_aperture(depth, beam.receive.f_number, beam.probe)
    focused = isinstance(beam.transmit, FocusedScan) and not receive_only
    if focused:
        half_tx, focus = beam.transmit_half_aperture(), beam.transmit.depth
        kind_tx = WINDOWS[beam.transmit.apodization]
    else:
        half_tx, focus, kind_tx = -1.0, math.inf, 0
    start = np.concatenate(([0], np.cumsum((2 * reach + 1) * len(column)))).astype(np.int64)
    re, im = np.empty(start[-1], np.float32), np.empty(start[-1], np.float32)
    gain = (beam.wavelength * depth) ** (-1.0 if focused else -0.5)
    kernels().build_bank(
        column, float(column[1] - column[0]), beam.probe.aperture / 2.0, depth, half_tx, focus, kind_tx, half_rx,
        WINDOWS[beam.receive.apodization], beam.wavenumber, beam.probe.element_width / beam.wavelength, tap, reach, start,
        2.0 if focused else 1.0, gain, re, im,
    )  # fmt: skip
    if isinstance(beam.transmit, PlaneScan) and not receive_only:
        for n, z in enumerate(depth):
            offset = tap * (np.arange(2 * reach[n] + 1) - reach[n])
            wave = beam.plane_wave(offset[:, None], column[None, :], z)
            block = slice(start[n], start[n + 1])
            kernel = (re[block] + 1j * im[block]).reshape(wave.shape) * wave
            re[block], im[block] = kernel.real.ravel(), kernel.imag.ravel()
    return re, im, start


def reach_of(beam: Beam, width: float, depth: Array, tail: float, *, receive_only: bool = False) -> Array:
    """How far (metres, at most `width`) kernels reach at depths (D,): all but `tail` of their energy over the columns.

    The image's columns are taken from the array's axis to its end, where cut apertures ring most.
    """
    probes = np.geomspace(depth[0], depth[-1], 9)
    column = np.linspace(0.0, 1.0, 5) * min(beam.probe.aperture / 2.0, width / 2.0)
    half = np.full(probes.shape, 160, dtype=np.int64)
    step = width / half[0]
    re, im, start = lateral_kernels(beam, column, probes, step, half, receive_only=receive_only)
    found = np.empty(probes.shape)
    for n in range(len(probes)):
        block = slice(start[n], start[n + 1])
        power = (re[block].astype(np.float64) ** 2 + im[block].astype(np.float64) ** 2).reshape(-1, 5).sum(axis=1)
        folded = power[half[0] :].copy()
        folded[1:] += power[: half[0]][::-1]
        outside = np.cumsum(folded[::-1])[::-1]
        found[n] = step * (int(np.searchsorted(-outside, -tail * outside[0])) + 1)
    return np.minimum(np.interp(np.log(depth), np.log(probes), found), width)


def make_bank(
    beam: Beam, column: Array, row: Array, reach: Array, pad: int, *, receive_only: bool = False,
    tolerance: float = BLEND_TOLERANCE,
) -> Bank:  # fmt: skip
    """The bank for internal columns (C,) and rows (R,), with kernels that reach `reach` (R,) metres, at most pad taps."""
    nodes, node, blend = blend_nodes(kernel_rate(beam, row), row, tolerance)
    depth = np.maximum(row[nodes], beam.wavelength)
    step = float(column[1] - column[0])
    taps = np.minimum(np.ceil(reach[nodes] / step).astype(np.int64), pad)
    re, im, start = lateral_kernels(beam, column, depth, step, taps, receive_only=receive_only)
    return Bank(re, im, start, taps, node, blend)
