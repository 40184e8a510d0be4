"""The image engine with the PSF that the exact engine makes: plans and their incoherent twins from a calibration."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from usim.engines import calibrate, clutter, psf, sir_image
from usim.engines.bank import Bank
from usim.engines.calibrate import Calibration
from usim.engines.clutter import Clutter
from usim.engines.compiled import cached_arrays, kernels
from usim.engines.expect import PowerPlan, Reference
from usim.engines.grid import Grid, Zone
from usim.errors import ConfigError
from usim.medium import Medium
from usim.probe import Probe
from usim.scan import Image, Receive
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]
Index = NDArray[np.int64]
DENSER = 16  # samples of the axial factors between those that were computed; linear interpolation is then at -70 dB
LEAST_PEAK = 1e-30  # |PSF|^2 below which no echo comes back
STEEPEST = 20.0  # degrees, of plane waves: at 30 the exact engine's truth is 0.6 dB off (measured)
RECIPE = 3  # of the calibration; a new number makes old files on disk unused


def blend_depths(depth: Array, row: Array) -> tuple[Index, Array]:
    """Node at or above each row (R,) and how far the row is towards the next one."""
    node = np.clip(np.searchsorted(depth, row, side="right") - 1, 0, len(depth) - 2)
    gap = depth[node + 1] - depth[node]  # none between nodes above a wavelength's depth
    return node, np.clip((row - depth[node]) / np.where(gap > 0.0, gap, 1.0), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class CalibratedPlan(psf.Plan):
    """A plan whose PSF is a bank of rank R from the exact engine; `sir` is that engine's own plan."""

    sir: sir_image.SirPlan
    calibration: Calibration

    @cached_property
    def clutter(self) -> Clutter:
        """What the exact engine's images hold beyond the bank; kept on disk too."""
        (_, depth), rows, descriptions = self.extent, self.grid.row, self.sir.descriptions
        arrays = cached_arrays(
            _name("clutter", clutter.LATERAL_STEP, clutter.AXIAL_STEP, clutter.WIDEST, _mark(self), *descriptions),
            lambda: vars(clutter.measure(self.sir, self.scale, depth, rows, self.reach, self.grid.half_pulse)),
            {f.name for f in fields(Clutter)},
        )
        return Clutter(**arrays)

    @property
    def scale(self) -> float:
        """What the exact engine's IQ is multiplied with to be in this plan's units."""
        return float(self.calibration.scale)

    def bank(self, re: NDArray[np.float32], im: NDArray[np.float32], row: Array) -> Bank:
        """A bank of one term's kernels, blended for rows (R,)."""
        c = self.calibration
        return Bank(re, im, c.start[:-1], c.reach, c.low, c.high, *blend_depths(c.depth, row))

    def axial_table(self, factor: NDArray, row: Array) -> tuple[Index, NDArray]:
        """First row (Z,) and taps (Z, K) of an axial factor (N, Q) for rows (R,)."""
        grid, offset = self.grid, self.calibration.offset
        first, taps = grid.rows_of(grid.z, row)
        dense = np.linspace(offset[0], offset[-1], DENSER * (len(offset) - 1) + 1)
        table = make_interp_spline(offset, factor, k=5, axis=1)(dense)
        node, blend = blend_depths(self.calibration.depth, row)
        source = first[:, None] + np.arange(taps)
        place = (grid.z[:, None] - row[source] - dense[0]) / (dense[1] - dense[0])
        below = np.clip(place.astype(np.int64), 0, len(dense) - 2)
        part = place - below
        n, b = node[source], blend[source]
        upper = (1.0 - part) * table[n, below] + part * table[n, below + 1]
        lower = (1.0 - part) * table[n + 1, below] + part * table[n + 1, below + 1]
        return first, np.where(row[source] > 0.0, (1.0 - b) * upper + b * lower, 0.0)

    @cached_property
    def terms(self) -> tuple[tuple[tuple[Bank, ...], Any], ...]:
        """Lateral banks and axial taps of every term of the PSF."""
        c, row = self.calibration, self.grid.row
        carrier = np.exp(2j * (self.grid.carrier - self.beam.wavenumber) * row)
        terms = []
        for r in range(len(c.lateral)):
            first, table = self.axial_table(c.axial[:, r], row)
            table = table * carrier[first[:, None] + np.arange(table.shape[1])]
            planes = (np.ascontiguousarray(c.lateral[r].real), np.ascontiguousarray(c.lateral[r].imag))
            banks = tuple(self.bank(*planes, row[zone.rows]) for zone in self.grid.zones)
            terms.append((banks, (first, table.real.astype(np.float32), table.imag.astype(np.float32))))
        return tuple(terms)

    def elevation(self, y: Array, depth: Array) -> NDArray[np.complex128]:
        """E(y; z) over E(0; z): the bank holds the profile in the image plane."""
        profile = self.beam.elevation
        return profile(y, depth) / profile(np.zeros(1), depth)


@dataclass(frozen=True, eq=False)
class CalibratedPower(PowerPlan):
    """The incoherent twin: |PSF|^2 and |PSF|^4 as banks of their own."""

    plan: CalibratedPlan

    @cached_property
    def terms(self) -> list[tuple[Bank, Index, NDArray[np.float32], Bank, NDArray[np.float32]]]:
        """(bank, first row, axial taps) of |PSF|^2 and (bank, axial taps) of |PSF|^4, term by term."""
        c, empty = self.plan.calibration, np.empty(0, np.float32)
        terms = []
        for r in range(len(c.power)):
            first, second = self.plan.axial_table(c.power_axial[:, r], self.row_z)
            _, fourth = self.plan.axial_table(c.fourth_axial[:, r], self.row_z)
            banks = [self.plan.bank(bank[r], empty, self.row_z) for bank in (c.power, c.fourth)]
            terms.append((banks[0], first, second.astype(np.float32), banks[1], fourth.astype(np.float32)))
        return terms

    def columns(self, cells: NDArray[np.float32], *, squared: bool = False) -> NDArray[np.float32]:
        """Sums of |PSF|^2 cells, or |PSF|^4 cells, over the cells (R2, J), at the columns (Z, C)."""
        grid, numba = self.plan.grid, kernels()
        lateral = np.empty((len(self.row_z), len(grid.column)), np.float32)
        part = np.empty((len(grid.z), len(grid.column)), np.float32)
        out = np.zeros(part.shape, np.float32)
        for second_bank, first, second, fourth_bank, fourth in self.terms:
            bank, taps = (fourth_bank, fourth) if squared else (second_bank, second)
            numba.lateral_power(cells, False, bank.re, *bank.layout(), grid.pad, lateral)
            numba.axial_power(lateral, first, taps, part)
            out += part
        return np.maximum(out, 0.0)  # a sum of few singular vectors is not above 0 everywhere

    def uniform(self, strength: Array) -> NDArray[np.float32]:
        """`columns` of cells that are `strength` (R2,) all along each row."""
        return self.columns(np.repeat(strength.astype(np.float32)[:, None], len(self.cell_x), axis=1))

    def peak(self, x: Array, z: Array) -> Array:
        """Peak |PSF|^2 of a unit scatterer at elevation 0, at places (P,)."""
        c, column = self.plan.calibration, self.plan.grid.column
        node, blend = blend_depths(c.depth, z)
        at = np.clip(np.rint((x - column[0]) / (column[1] - column[0])).astype(int), 0, len(column) - 1)
        return (1.0 - blend) * c.peak[node, at] + blend * c.peak[node + 1, at]

    def flat(self, x: Array, z: Array, *, arc: bool = False) -> Array:
        """Peak intensity of a flat mirror of unit amplitude per metre that faces the beam, at places (P,)."""
        c, beam = self.plan.calibration, self.plan.beam
        tilt, dx = -math.tan(beam.steering / 2.0), self.plan.grid.step[0]
        at, blend = blend_depths(c.depth, z)
        gain = np.zeros(len(c.depth))
        for n in np.unique([at, at + 1]):
            offset = np.arange(-c.reach[n], c.reach[n] + 1) * dx
            pulses = c.lateral[:, c.start[n] : c.start[n] + len(offset)].T @ c.axial[n]
            field = np.zeros(len(c.offset), np.complex128)
            for xi, pulse in zip(offset, pulses, strict=True):
                moved = c.offset - tilt * xi
                echo = np.interp(moved, c.offset, pulse.real) + 1j * np.interp(moved, c.offset, pulse.imag)
                field += echo * np.exp(-2j * beam.wavenumber * tilt * xi)
            length = dx / math.cos(beam.steering / 2.0)
            gain[n] = (np.abs(field).max() * length) ** 2 / max(float(np.abs(pulses).max() ** 2), LEAST_PEAK)
        # kernels that the array's ends cut are taken to be as much weaker as their peaks
        return ((1.0 - blend) * gain[at] + blend * gain[at + 1]) * self.peak(x, z)

    @cached_property
    def reference(self) -> Reference:
        """The reference of the setting, by sums over the bank's kernel on the array's axis."""
        c, depth = self.plan.calibration, self.reference_depth
        node, blend = blend_depths(c.depth, np.array([depth]))
        dx, dz = self.plan.grid.step[0], c.offset[1] - c.offset[0]

        def integral(lateral: NDArray, axial: NDArray) -> float:
            total = 0.0
            for n, share in ((node[0], 1.0 - blend[0]), (node[0] + 1, blend[0])):
                taps = lateral[:, c.start[n] : c.start[n] + 2 * c.reach[n] + 1].astype(np.float64).sum(axis=1)
                total += share * float(taps @ axial[n].astype(np.float64).sum(axis=1))
            return total * dx * dz

        second, fourth = integral(c.power, c.power_axial), integral(c.fourth, c.fourth_axial)
        thickness = float(self.elevation_energies(np.array([depth]))[0][0])
        return Reference(depth, second * thickness, second**2 / fourth)


@dataclass(frozen=True, eq=False)
class ExactPower(CalibratedPower):
    """The incoherent twin of the exact engine's own images, which reach further than the bank."""

    def far(self, x: Array, z: Array, strength: Array) -> Array:
        """Mean intensity (Z, X) that scatterers at x, z (any shape, metres) of this mean strength add from far away."""
        grid, seen = self.plan.grid, self.plan.clutter
        return seen.mean(seen.cells(grid.x, x, z, strength), grid.x, grid.z)


def plan(
    probe: Probe, transmit: FocusedScan | PlaneScan, receive: Receive, medium: Medium, image: Image
) -> CalibratedPlan:
    """The calibrated plan of a setting; its bank is kept on disk, under the hash of all that it depends on."""
    _refuse(probe, transmit, image)
    separable = psf.plan(probe, transmit, receive, medium, image)
    grid: Grid = replace(separable.grid, zones=(Zone(slice(0, len(separable.grid.row)), 1),))
    sir = sir_image.plan(probe, transmit, receive, medium, image)
    bank = cached_arrays(
        _name("calibration", calibrate.RANK, _mark(separable), *sir.descriptions),
        lambda: calibrate.calibrate(sir, separable.beam, grid, separable.reach).arrays(),
        {f.name for f in fields(Calibration)},
    )
    return CalibratedPlan(separable.beam, grid, separable.reach, sir, Calibration(**bank))


def _refuse(probe: Probe, transmit: FocusedScan | PlaneScan, image: Image) -> None:
    """ConfigError where the exact engine has no image, or its truth would be wrong."""
    beside = max(image.x[0], -image.x[1])
    if beside > probe.aperture / 2.0:
        raise ConfigError(
            f"image.x: all columns lie beside the array, which ends at {probe.aperture / 2.0 * 1e3:.4g} mm; "
            "move the image, or choose engine: psf with psf: separable"
        )
    if isinstance(transmit, PlaneScan) and abs(transmit.angle) > math.radians(STEEPEST + 1e-6):
        raise ConfigError(
            f"transmit.angle: {math.degrees(transmit.angle):.4g} deg; the calibrated PSF, of which the truth of "
            f"engine: sir is made, holds plane waves of up to {STEEPEST:g} deg; steer less, or choose engine: psf with "
            "psf: separable"
        )


def _mark(plan: psf.Plan) -> str:
    """Hash of the internal grid and the kernels' reach: what is computed on another grid is of no use."""
    parts = (plan.grid.row, plan.grid.column, plan.reach, np.array([plan.grid.pad, plan.grid.half_pulse]))
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


def _name(kind: str, *depends: Any) -> str:
    """Name of a file of results, by the hash of all that they depend on."""
    digest = hashlib.sha256(json.dumps([RECIPE, *depends], sort_keys=True).encode()).hexdigest()
    return f"{kind}-{digest[:32]}"
