"""Electronic noise as the receive chain colours it: the aperture's lateral correlation and the pulse's spectrum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from usim.engines.bank import NOISE_BLEND_TOLERANCE, NOISE_TAIL, Bank, make_bank, reach_of
from usim.engines.beam import Beam
from usim.engines.compiled import kernels
from usim.engines.psf import Plan, pulse_table, through_kernels, to_pixels, white_noise
from usim.engines.sector import SectorBeam

HEARD = 0.5  # of the power behind an open aperture: between open and closed columns noise ends, it is not amplified


@dataclass(frozen=True, eq=False)
class NoisePlan:
    """White noise of every channel, filtered like the echoes and summed over the receive aperture of each column.

    Neighbouring columns share channels: their noise is correlated as the receive beam is. Along depth it has the power
    spectrum of the pulse (the receive filter is matched to it), without the medium's attenuation.
    """

    plan: Plan

    @cached_property
    def _row(self) -> NDArray[np.float64]:
        return self.plan.grid.row

    @cached_property
    def _beam(self) -> Beam:
        """The receive chain without a medium that attenuates: noise has not travelled."""
        return replace(self.plan.beam, medium=self.plan.beam.medium.model_copy(update={"attenuation": 0.0}))

    @property
    def pad(self) -> int:
        """Cells beside the columns on either side."""
        return self.plan.grid.pad // 2

    @cached_property
    def bank(self) -> Bank:
        """Receive beams at depth nodes, on every second column."""
        beam, grid = self._beam, self.plan.grid
        depth = np.maximum(self._row, beam.wavelength)
        reach = reach_of(beam, grid.x[[0, -1]], depth, NOISE_TAIL, receive_only=True)
        return make_bank(
            beam, grid.column[::2], self._row, reach, self.pad, receive_only=True, tolerance=NOISE_BLEND_TOLERANCE
        )

    @cached_property
    def pulse_rows(self) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
        """First internal row (Z,) and taps (Z, K) of the pulse, as it was received without a medium."""
        # noise has no depth: rows above the probe carry it too
        return pulse_table(self._beam, self.plan.grid, self._row, everywhere=True)

    def _image(self, cells: NDArray[np.float32]) -> NDArray[np.complex64]:
        grid = self.plan.grid
        lateral = np.empty((2, len(self._row), len(grid.column)), np.float32)
        through_kernels(cells, self.bank, self.pad, 2, grid.half_sample, lateral)
        first, table = self.pulse_rows
        return to_pixels(grid, lateral, (first, table.real.astype(np.float32), table.imag.astype(np.float32)))

    @cached_property
    def deviation(self) -> NDArray[np.float32]:
        """Standard deviation (Z, X) of `_image` of unit white noise; inf where a column has no aperture."""
        grid = self.plan.grid
        columns = grid.column[::2]
        lateral = replace(self.bank, re=self.bank.re**2 + self.bank.im**2).sums(len(columns))
        first, table = self.pulse_rows
        variance = np.empty((len(grid.z), len(columns)), np.float32)
        kernels().axial_power(lateral, first, (np.abs(table) ** 2).astype(np.float32), variance)
        pixels = np.array([np.interp(grid.x, columns, line) for line in variance])
        # every beam of a sector leaves the array
        least = 0.0 if isinstance(self.plan.beam, SectorBeam) else HEARD * pixels.max()
        return np.sqrt(np.where(pixels > least, pixels, np.inf)).astype(np.float32)

    @property
    def heard(self) -> NDArray[np.bool_]:
        """(Z, X): where a receive aperture is open at all."""
        return np.isfinite(self.deviation)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the white noise that an image is made of."""
        return len(self._row), len(self.plan.grid.column[::2]) + 2 * self.pad

    def draw(self, generator: np.random.Generator) -> NDArray[np.complex64]:
        """One realisation (Z, X) of unit mean power before TGC."""
        cells = white_noise(generator, self.cells)
        return self._image(cells) / self.deviation
