"""The incoherent twin of the image engine: what the diffuse field's intensity is on average.

    m(x, z) = integral e(x_s, z_s) Iy(z_s) |PSF(x - x_s, z - z_s; x_s, z_s)|^2 dx_s dz_s

with e the echogenicity (a power) and Iy the elevation profile's energy: the same kernels as in psf.py, squared, on the
fine cells and twice as dense rows that a squared field needs. The fourth moment, for the scatterer number, likewise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from usim.engines.bank import BLEND_TOLERANCE, Bank, lateral_kernels, shared_columns, taps_of
from usim.engines.compiled import kernels
from usim.engines.grid import between_nodes, blend_nodes, kernel_rate
from usim.engines.psf import Plan, pulse_table
from usim.engines.resample import lagrange
from usim.scatterers import Scatterers
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]
POWER_BLEND_TOLERANCE = 0.3  # radians; powers do not turn, they ripple
ELEVATION_NODES = 64  # depths between which the elevation profile's energies are interpolated
MIRROR_STEP = (4e-3, 1e-3)  # metres at least, across and along lines, between places where mirrors are computed
MIRROR_NODES = 32  # such places at most in either direction
LOG_FLOOR = 1e-30  # of the power of tissue: keeps logarithms finite where nothing scatters


@dataclass(frozen=True, eq=False)
class Expectation:
    """Diffuse mean intensity and fourth cumulant of one scene, and mean intensity of uniform 0 dB tissue: (Z, X) each.

    In the units of |IQ|^2 before noise and TGC.
    """

    mean: Array
    fourth: Array
    tissue: Array


@dataclass(frozen=True, eq=False)
class Reference:
    """Where the dB scale and the scatterer number are tied: on the array's axis at the transmit focus, or mid-depth.

    depth: metres.  tissue: mean intensity of 0 dB tissue there.  cell: effective in-plane area of a resolution cell,
    (integral |PSF|^2)^2 / integral |PSF|^4 over x and z, square metres.
    """

    depth: float
    tissue: float
    cell: float


@dataclass(frozen=True, eq=False)
class PowerPlan:
    """Squared kernels and elevation energies of a plan.

    row_z (R2,), cell_x (J,): where echogenicity is sampled, metres of beam space.
    """

    plan: Plan

    @cached_property
    def row_z(self) -> Array:
        """Depths of the rows (R2,), twice as dense as the plan's."""
        grid = self.plan.grid
        return grid.row[0] + grid.step[1] / 2.0 * np.arange(2 * len(grid.row) - 1)

    @cached_property
    def cell_x(self) -> Array:
        """Lateral cell centres (J,)."""
        grid = self.plan.grid
        dx = grid.step[0]
        return grid.column[0] + dx * np.arange(-grid.pad, len(grid.column) + grid.pad)

    @property
    def cell_area(self) -> Array | float:
        """Square metres per cell, of a sector for each row (R2,)."""
        dx, dz = self.plan.grid.step
        return dx * dz / 2.0 * self.plan.geometry.spread(self.row_z)

    @cached_property
    def bank(self) -> Bank:
        """|T R|^2 at depth nodes; the imaginary plane is empty.

        The plan's own kernels, squared, as deep as it has them for every column: they are denser than these need be.
        """
        plan, beam, column, step = self.plan, self.plan.beam, self.plan.grid.column, self.plan.grid.step[0]
        nodes, zone, known = self._nodes(self.row_z, POWER_BLEND_TOLERANCE), plan.grid.zones[0], 0
        if zone.stride == 1:
            near = 2 * self._nodes(plan.grid.row[zone.rows], BLEND_TOLERANCE)
            nodes, known = np.concatenate((near, nodes[nodes > near[-1]])), len(near) - 1
        depth = np.maximum(self.row_z[nodes], beam.wavelength)
        taps = taps_of(np.interp(depth, plan.grid.row, plan.reach), step, plan.grid.pad)
        low, high = shared_columns(beam, column, depth, receive_only=False)
        shared = low[known:], high[known:]
        re, im, start = lateral_kernels(beam, column, depth[known:], step, taps[known:], shared)
        power = re * re + im * im
        if known:
            own = plan.banks[0]
            end = own.start[known]
            power = np.concatenate((own.re[:end] ** 2 + own.im[:end] ** 2, power))
            start = np.concatenate((own.start[:known], end + start))
            taps[:known], low[:known], high[:known] = own.reach[:known], own.low[:known], own.high[:known]
        return Bank(power, np.empty(0, np.float32), start, taps, low, high, *between_nodes(nodes))

    def _nodes(self, row: Array, tolerance: float) -> NDArray[np.int64]:
        return blend_nodes(kernel_rate(self.plan.beam, row), row, tolerance)[0]

    @cached_property
    def pulse_powers(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """First row (Z,), |p|^2 and |p|^4 taps (Z, K)."""
        first, table = pulse_table(self.plan.beam, self.plan.grid, self.row_z)
        power = np.abs(table) ** 2
        return first, power.astype(np.float32), (power**2).astype(np.float32)

    def elevation_energies(self, row: Array) -> tuple[Array, Array]:
        """Integrals of |E|^2 and |E|^4 over elevation at depths (R,); 0 above a wavelength's depth."""
        beam = self.plan.beam
        node, second, fourth = self._elevation_table
        depth = np.log(np.maximum(row, beam.wavelength))
        deep = row >= beam.wavelength
        return (
            np.where(deep, np.exp(np.interp(depth, node, second)), 0.0),
            np.where(deep, np.exp(np.interp(depth, node, fourth)), 0.0),
        )

    @cached_property
    def _elevation_table(self) -> tuple[Array, Array, Array]:
        beam = self.plan.beam
        node = np.geomspace(beam.wavelength, max(self.row_z[-1] * 1.1, 2.0 * beam.wavelength), ELEVATION_NODES)
        second, fourth = beam.elevation.energies(node)
        # in the units of the plan's own profile
        unit = np.abs(self.plan.elevation(np.zeros(1), node) / beam.elevation(np.zeros(1), node)) ** 2
        return np.log(node), np.log(second * unit), np.log(fourth * unit**2)

    @cached_property
    def field_strength(self) -> Array:
        """Mean intensity of 0 dB tissue per m^2 on the plan's fine rows, for `run_field`."""
        return self.elevation_energies(self.plan.grid.fine_z)[0]

    @cached_property
    def tissue(self) -> Array:
        """Mean intensity (Z, X) of uniform 0 dB tissue."""
        strength = self.elevation_energies(self.row_z)[0] * self.cell_area
        if isinstance(self.plan.beam.transmit, PlaneScan):  # the shadow of the array is not uniform
            return self.blur(np.repeat(strength.astype(np.float32)[:, None], len(self.cell_x), axis=1))
        return self._pixels(self.uniform(strength))

    def at(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Mean intensity of 0 dB tissue, and peak |PSF|^2 of a unit scatterer at elevation 0, at places (P,) in space.

        Tissue is read at the nearest pixel: places outside the image get the image's border.
        """
        v, r = self.plan.geometry.to_beam(x, z)
        return self.tissue_at(v, r), self.peak(v, np.maximum(r, self.plan.beam.wavelength))

    def tissue_at(self, x: Array, z: Array) -> Array:
        """Mean intensity of 0 dB tissue at the nearest pixel to places (P,) of beam space."""
        grid = self.plan.grid
        row = np.clip(np.rint((z - grid.z[0]) / (grid.z[1] - grid.z[0])).astype(int), 0, len(grid.z) - 1)
        pixel = np.clip(np.rint((x - grid.x[0]) / (grid.x[1] - grid.x[0])).astype(int), 0, len(grid.x) - 1)
        return self.tissue[row, pixel]

    def peak(self, x: Array, z: Array) -> Array:
        """Peak |PSF|^2 of a unit scatterer at elevation 0, at places (P,) of beam space."""
        grid, beam = self.plan.grid, self.plan.beam
        # the near field of a focused beam may dip on its axis: the peak is looked for over the beam's width
        offset = grid.step[0] * np.arange(-8, 9) / 2.0
        lateral = np.array(
            [np.abs(beam.lateral(offset, np.array([at]), d)).max() ** 2 for at, d in zip(x, z, strict=True)]
        )
        return lateral * self._on_axis(z)

    @cached_property
    def _mirrors(self) -> dict[tuple[int, int, bool], float]:
        return {}  # what `per_metre` knows so far: scenes of one setting share it

    def per_metre(self, x: Array, z: Array, *, arc: bool = False) -> Array:
        """Amplitude per metre of mirrors whose peak intensity is 1, at places (P,) of beam space; see `flat`.

        Linear between the nodes of a lattice over the image; 0 where none comes back.
        """
        spans = [last - first for first, last in self.plan.extent]
        steps = [max(least, span / MIRROR_NODES) for least, span in zip(MIRROR_STEP, spans, strict=True)]
        u, w = x / steps[0], z / steps[1]
        column, row = np.floor(u).astype(int), np.floor(w).astype(int)
        corners = [(column + i, row + j) for i in (0, 1) for j in (0, 1)]
        wanted = {pair for c in corners for pair in zip(*(part.tolist() for part in c), strict=True)}
        missing = np.array([pair for pair in sorted(wanted) if (*pair, arc) not in self._mirrors]).reshape(-1, 2)
        node = missing * np.array(steps)
        power = self.flat(node[:, 0], np.maximum(node[:, 1], self.plan.beam.wavelength), arc=arc)
        amplitude = np.divide(1.0, np.sqrt(power), out=np.zeros_like(power), where=power > 0.0)
        self._mirrors.update(((i, j, arc), a) for (i, j), a in zip(missing.tolist(), amplitude.tolist(), strict=True))
        total = np.zeros(len(x))
        for i, j in corners:
            share = (1.0 - np.abs(u - i)) * (1.0 - np.abs(w - j))
            known = [self._mirrors[(*pair, arc)] for pair in zip(i.tolist(), j.tolist(), strict=True)]
            total += share * np.array(known)
        return total

    def flat(self, x: Array, z: Array, *, arc: bool = False) -> Array:
        """Peak intensity of a mirror of unit amplitude per metre that faces the beam, at places (P,) of beam space.

        It is flat, or an arc at the same range on all lines. Its normal halves the angle between the transmitted wave
        and the way back to the aperture.
        Summed over every second column, within 0.06 dB of all of them.
        """
        plan, beam, geometry = self.plan, self.plan.beam, self.plan.geometry
        reach, spread = np.interp(z, plan.grid.row, plan.reach), geometry.spread(z) + 0.0 * z
        half = beam.steering / 2.0
        tilt = geometry.angle(x) + half
        lateral = np.empty(len(z))
        for n, (at, depth) in enumerate(zip(x, z, strict=True)):
            step = 2.0 * plan.grid.step[0] * spread[n]
            count = math.ceil(reach[n] / (2.0 * plan.grid.step[0]))
            along = step * np.arange(-count, count + 1)
            if arc:
                column, row = at + along * math.cos(half) / spread[n], depth - along * math.sin(half)
            else:
                origin = geometry.to_space(at, depth)
                column, row = geometry.to_beam(
                    origin[0] + along * math.cos(tilt[n]), origin[1] - along * math.sin(tilt[n])
                )
            k = 2.0 * math.pi / float(beam.wavelength_at(depth)) * beam.axial_stretch
            field = beam.lateral(column - at, np.array([at]), depth) * np.exp(-2j * k * (row - depth))
            lateral[n] = np.abs(field.sum() * step) ** 2
        return lateral * self._on_axis(z)

    def _on_axis(self, z: Array) -> Array:
        """Peak |p|^2 |E|^2 of echoes from depths (P,), elevation 0."""
        pulse = self.plan.beam.pulse
        step = pulse.frequency[1] - pulse.frequency[0]
        axial = (pulse.spectrum(z).sum(axis=1) * step) ** 2
        return axial * np.abs(self.plan.elevation(np.zeros(len(z)), z)) ** 2

    def far(self, x: Array, z: Array, strength: Array) -> Array | float:
        """Mean intensity (Z, X) that scatterers at x, z (any shape, metres) of this mean strength add from beyond the
        reach of the kernels: none, where images are made with these kernels."""
        return 0.0

    def far_cells(self, echogenicity: NDArray[np.float32]) -> Array | float:
        """`far` of diffuse tissue of echogenicity (R2, J), a power, on the cells (row_z, cell_x)."""
        x, z = np.broadcast_arrays(self.cell_x[None, :], self.row_z[:, None])
        return self.far(x, z, echogenicity * (self.elevation_energies(self.row_z)[0] * self.cell_area)[:, None])

    @cached_property
    def far_tissue(self) -> Array | float:
        """`far` (Z, X) of uniform 0 dB tissue."""
        return self.far_cells(np.ones((len(self.row_z), len(self.cell_x)), np.float32))

    def columns(self, cells: NDArray[np.float32], *, squared: bool = False) -> NDArray[np.float32]:
        """Sums of |PSF|^2 cells, or |PSF|^4 cells, over the cells (R2, J), at the columns (Z, C)."""
        grid, numba = self.plan.grid, kernels()
        lateral = np.empty((len(self.row_z), len(grid.column)), np.float32)
        numba.lateral_power(cells, squared, self.bank.re, *self.bank.layout(), grid.pad, lateral)
        return self._axial(lateral, squared)

    def uniform(self, strength: Array) -> NDArray[np.float32]:
        """`columns` of cells that are `strength` (R2,) all along each row."""
        return self._axial(self.bank.sums(len(self.plan.grid.column)) * strength.astype(np.float32)[:, None], False)

    def _axial(self, lateral: NDArray[np.float32], squared: bool) -> NDArray[np.float32]:
        grid, (first, second_tap, fourth_tap) = self.plan.grid, self.pulse_powers
        columns = np.empty((len(grid.z), len(grid.column)), np.float32)
        kernels().axial_power(lateral, first, fourth_tap if squared else second_tap, columns)
        return columns

    def blur(self, cells: NDArray[np.float32], *, squared: bool = False) -> Array:
        """Sums of |PSF|^2 cells, or |PSF|^4 cells, over the cells (R2, J): an image (Z, X)."""
        beam = self.plan.beam
        if isinstance(beam.transmit, PlaneScan):
            lit = beam.shadow(self.cell_x[None, :], np.maximum(self.row_z, beam.wavelength)[:, None]) ** 2
            cells = cells * (lit**2 if squared else lit).astype(np.float32)
        peak = max(float(cells.max()), 1e-37)
        # of order 1: the kernels' tails times strengths in their own units are too small for single precision
        return self._pixels(self.columns(cells / np.float32(peak), squared=squared)) * peak

    def _pixels(self, columns: NDArray[np.float32]) -> Array:
        """Powers at the columns (Z, C), read at the pixels (Z, X) in the logarithm: they span many decades."""
        grid = self.plan.grid
        scale = max(float(columns.max()), 1e-37)
        index, weight = lagrange((grid.x - grid.column[0]) / grid.step[0], len(grid.column))
        logs = np.log(np.maximum(columns / scale, LOG_FLOOR))
        pixels = np.zeros((len(grid.z), len(grid.x)), np.float32)
        for tap in range(len(weight)):
            pixels += weight[tap] * logs[:, index + tap]
        return np.exp(pixels.astype(np.float64)) * scale

    @property
    def reference_depth(self) -> float:
        """Metres: the transmit focus, or mid-depth."""
        z, transmit = self.plan.grid.z, self.plan.beam.transmit
        return transmit.depth if isinstance(transmit, FocusedScan) else float(z[0] + z[-1]) / 2.0

    @cached_property
    def reference(self) -> Reference:
        """The reference of a setting, by the integrals of the continuous PSF at that place."""
        plan, beam, depth = self.plan, self.plan.beam, self.reference_depth
        step = plan.grid.step[0]
        taps, whole = np.array([max(plan.grid.pad, round(4e-3 / step))]), np.zeros(1, np.int64)
        re, im, start = lateral_kernels(beam, step * np.arange(2.0), np.array([depth]), step, taps, (whole, whole + 2))
        kernel = re[: start[1]].astype(np.float64) ** 2 + im[: start[1]].astype(np.float64) ** 2
        second, fourth = kernel.sum() * step, (kernel**2).sum() * step
        at = np.array([depth])
        axial_second = beam.pulse.energy(at)[0] / beam.axial_stretch
        axial_fourth = beam.pulse.energy(at, 4)[0] / beam.axial_stretch
        thickness = float(self.elevation_energies(at)[0][0])
        cell = (second * axial_second) ** 2 / (fourth * axial_fourth)
        return Reference(depth, float(second * axial_second * thickness), float(cell))


def expect(
    power: PowerPlan,
    echogenicity: NDArray[np.float32],
    square: NDArray[np.float32] | None,
    density: float,
    kurtosis: float,
    beside: Scatterers | None = None,
) -> Expectation:
    """Diffuse mean intensity of a scene.

    echogenicity: (R2, J) power averaged over each cell of (row_z, cell_x).  square: its square over the local density
    of scatterers, in units of `density`, likewise; None where nobody asks for the fourth cumulant.  density: 3-D
    scatterers per m^3, inf for the `field` model.  kurtosis: E[a^4] / E[a^2]^2 of the amplitudes' law.  beside:
    scatterers of these rms amplitudes and random phases, so many that they add nothing to the fourth cumulant.
    """
    second, fourth = power.elevation_energies(power.row_z)
    weighted = echogenicity * (second * power.cell_area).astype(np.float32)[:, None]
    far = power.far_cells(echogenicity)
    if beside is not None:
        weighted += strength_on_cells(power, beside)
        far = far + power.far(beside.x, beside.z, _strength(power, beside))
    mean = power.blur(weighted)
    total = np.zeros(mean.shape)
    if square is not None and density < math.inf:
        # the amplitudes are such that density E[a^2] = 1, hence density E[a^4] = kurtosis / density
        fourth_weight = fourth * power.cell_area * (kurtosis / density)
        unit = math.ldexp(1.0, math.frexp(float(fourth_weight.max()))[1])  # some 1e-34: dark tissue would be lost
        total = power.blur(square * (fourth_weight / unit).astype(np.float32)[:, None], squared=True) * unit
    return Expectation(mean + far, total, power.tissue + power.far_tissue)


def expect_cloud(power: PowerPlan, scatterers: Scatterers, *, fourth: bool) -> Expectation:
    """Diffuse mean intensity of a given cloud over random phases of its scatterers.

    fourth: whether anybody asks for the fourth cumulant, which is negative.
    """
    strength = _strength(power, scatterers)
    far = power.far(scatterers.x, scatterers.z, strength)
    mean = power.blur(_on_cells(power, scatterers, strength)) + far
    total = np.zeros(mean.shape)
    if fourth:
        total = -power.blur(_on_cells(power, scatterers, strength**2), squared=True)
    return Expectation(mean, total, power.tissue + power.far_tissue)


def strength_on_cells(power: PowerPlan, scatterers: Scatterers) -> NDArray[np.float32]:
    """Sums (R2, J) of the squared amplitudes of scatterers, as they are heard at their elevation, over the cells."""
    return _on_cells(power, scatterers, _strength(power, scatterers))


def _strength(power: PowerPlan, scatterers: Scatterers) -> Array:
    """Squared amplitudes (N,) with the elevation profile at each scatterer."""
    r = power.plan.geometry.to_beam(scatterers.x, scatterers.z)[1]
    profile = power.plan.elevation(scatterers.y, np.maximum(r, 1e-6))
    return scatterers.amplitude**2 * np.abs(profile) ** 2


def _on_cells(power: PowerPlan, scatterers: Scatterers, values: Array) -> NDArray[np.float32]:
    """Sums (R2, J) of values (N,) of scatterers over the cells of (row_z, cell_x), shared among the nearest four."""
    beam, plan = power.plan.beam, power.plan
    x, z = plan.geometry.to_beam(scatterers.x, scatterers.z)
    u = (z - power.row_z[0]) / (plan.grid.step[1] / 2.0)
    v = (x - power.cell_x[0]) / plan.grid.step[0]
    rows, cells = len(power.row_z), len(power.cell_x)
    inside = (u >= 0) & (u < rows - 1) & (v >= 0) & (v < cells - 1) & (z >= beam.wavelength)
    u, v, values = u[inside], v[inside], values[inside]
    row, cell = u.astype(np.int64), v.astype(np.int64)
    total = np.zeros(rows * cells)
    for dr, wr in ((0, 1.0 - (u - row)), (1, u - row)):
        for dc, wc in ((0, 1.0 - (v - cell)), (1, v - cell)):
            total += np.bincount((row + dr) * cells + cell + dc, values * wr * wc, rows * cells)
    return total.reshape(rows, cells).astype(np.float32)
