"""The image engine: a cloud of scatterers convolved with a PSF that varies over the image.

    IQ(x, z) = sum_s a_s exp(-i 2 k0 z_s) PSF(x - x_s, z - z_s; x_s, y_s, z_s)

`definition` is this sum with the continuous PSF of beam.py at every scatterer's exact position. `run` computes the
same on an internal grid: scatterers are spread on fine cells, filtered down to cells just above the beam's and the
pulse's bands, passed through the lateral kernels of their own depth, then the pulse of their own depth, and read at the
pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from usim.engines.bank import KERNEL_TAIL, Bank, make_bank, reach_of
from usim.engines.beam import Beam
from usim.engines.compiled import kernels
from usim.engines.geometry import Flat
from usim.engines.grid import Filters, Grid, make_grid
from usim.engines.sector import beam_of
from usim.medium import Medium
from usim.probe import Probe
from usim.scan import Image, Receive, Sector
from usim.scatterers import Scatterers
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that depends neither on the scene nor on the scatterers.

    reach: (R,) metres, how far the lateral kernels of each internal row reach.
    """

    beam: Beam
    grid: Grid
    reach: Array

    @property
    def geometry(self) -> Flat:
        """From beam space, in which the plan's grid is, to space."""
        return self.beam.geometry

    @cached_property
    def banks(self) -> tuple[Bank, ...]:
        """Two-way lateral kernels, one bank per zone."""
        grid = self.grid
        return tuple(
            make_bank(self.beam, grid.column[:: z.stride], grid.row[z.rows], self.reach[z.rows], grid.pad // z.stride)
            for z in grid.zones
        )

    @cached_property
    def pulse_rows(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """First internal row (Z,) and pulse taps (Z, K), real and imaginary, that make each pixel row."""
        first, table = pulse_table(self.beam, self.grid, self.grid.row)
        return first, np.ascontiguousarray(table.real, np.float32), np.ascontiguousarray(table.imag, np.float32)

    @property
    def terms(self) -> tuple[tuple[tuple[Bank, ...], Any], ...]:
        """The terms of the PSF, each a product of lateral kernels and pulse: here one."""
        return ((self.banks, self.pulse_rows),)

    def elevation(self, y: Array, depth: Array) -> NDArray[np.complex128]:
        """Complex two-way elevation profile at elevations y and depths (broadcast, metres)."""
        return self.beam.elevation(y, depth)

    @property
    def extent(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """((x0, x1), (z0, z1)) in metres of beam space: what lies outside does not reach the image."""
        grid = self.grid
        margin = grid.pad * grid.step[0]
        x, z = grid.column, grid.row
        return (x[0] - margin, x[-1] + margin), (max(z[0], self.beam.wavelength), z[-1])

    def lateral_extent(self, depth: Array) -> tuple[Array, Array]:
        """(x0, x1), each (D,) in metres of beam space: what lies outside at that depth does not reach the image."""
        reach = np.interp(depth, self.grid.row, self.reach) + self.grid.step[0]
        return self.grid.column[0] - reach, self.grid.column[-1] + reach


def pulse_table(
    beam: Beam, grid: Grid, row: Array, *, everywhere: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.complex64]]:
    """First row (Z,) and taps (Z, K) that turn rows, demodulated at the grid's carrier, into pixel rows of IQ.

    tap = integral P(f; z_r) exp(i 2 k (z_i - z_r)) df  exp(i 2 k_c z_r - i 2 k0 z_i),  k = 2 pi f / c.
    Rows at z <= 0 hold no echoes, unless `everywhere`.
    """
    pulse = beam.pulse
    first, taps = grid.rows_of(grid.z, row)
    k = 2.0 * np.pi * pulse.frequency / pulse.sound_speed
    df = pulse.frequency[1] - pulse.frequency[0]
    origin = grid.z[0]
    to_pixel = np.exp(2j * np.outer(grid.z - origin, k * beam.axial_stretch - beam.wavenumber))
    to_pixel *= np.exp(2j * (grid.carrier - beam.wavenumber) * origin) * df
    from_row = np.exp(2j * np.outer(origin - row, k * beam.axial_stretch - grid.carrier))
    from_row *= pulse.spectrum(np.maximum(row, 0.0))
    if not everywhere:
        from_row[row <= 0.0] = 0.0
    # einsum, not a matrix product: the sums of threaded BLAS depend on the number of threads
    columns = [np.einsum("if,if->i", to_pixel, from_row[first + tap]) for tap in range(taps)]
    return first, np.stack(columns, axis=1).astype(np.complex64)


def plan(
    probe: Probe, transmit: FocusedScan | PlaneScan, receive: Receive, medium: Medium, image: Image | Sector
) -> Plan:
    """Choose the internal grid and the reach of the kernels for one setting."""
    beam = beam_of(probe, transmit, receive, medium, image)
    x, z = beam.axes(image)
    span = np.geomspace(max(z[0] / 2.0, beam.wavelength), z[-1] + 2e-3, 48)
    reach = reach_of(beam, x[[0, -1]], span, KERNEL_TAIL)
    grid = make_grid(beam, image, float(reach.max()))
    return Plan(beam, grid, np.interp(grid.row, span, reach))


def _image(plan: Plan, fine: NDArray[np.float32], filters: Filters) -> NDArray[np.complex64]:
    """Fine cells (2, ...) through the filters, the kernels of every zone, and the pulse: IQ (Z, X)."""
    grid, numba = plan.grid, kernels()
    lateral = np.empty((2, len(grid.row), len(grid.column)), np.float32)
    axial_filter, lateral_filters = filters
    zones = []
    for zone in grid.zones:
        rows = zone.rows.stop - zone.rows.start
        pad, columns = grid.pad // zone.stride, (len(grid.column) - 1) // zone.stride + 1
        cells = np.empty((2, rows, columns + 2 * pad), np.float32)
        for plane in range(2):
            numba.filter_cells(
                fine[plane], zone.rows.start, axial_filter, lateral_filters[zone.stride], zone.stride, cells[plane]
            )
        zones.append((zone, cells, pad))
    image = np.zeros((len(grid.z), len(grid.x)), np.complex64)
    for banks, pulse_rows in plan.terms:
        for (zone, cells, pad), bank in zip(zones, banks, strict=True):
            through_kernels(cells, bank, pad, zone.stride, grid.half_sample, lateral[:, zone.rows])
        image += to_pixels(grid, lateral, pulse_rows)
    return image


def through_kernels(cells, bank: Bank, pad: int, stride: int, half_sample, out) -> None:
    """Cells (2, R, J) through a bank's lateral kernels, to all columns: out (2, R, C)."""
    numba = kernels()
    columns = out if stride == 1 else np.empty((2, out.shape[1], (out.shape[2] - 1) // 2 + 1), np.float32)
    numba.lateral_pass(cells[0], cells[1], bank.re, bank.im, *bank.layout(), pad, columns[0], columns[1])
    if stride == 2:
        for plane in range(2):
            numba.upsample(columns[plane], half_sample, out[plane])


def to_pixels(grid: Grid, lateral: NDArray[np.float32], pulse_rows) -> NDArray[np.complex64]:
    """Rows of columns (2, R, C) through a pulse, then read at the pixels: IQ (Z, X)."""
    numba = kernels()
    axial = np.empty((2, len(grid.z), len(grid.column)), np.float32)
    numba.axial_pass(lateral[0], lateral[1], *pulse_rows, axial[0], axial[1])
    iq = np.empty((len(grid.z), len(grid.x)), np.complex64)
    numba.sample_columns(axial[0], axial[1], grid.first_column, grid.column_weight, iq)
    return iq


def run(plan: Plan, scatterers: Scatterers, *, elevation: bool = True) -> NDArray[np.complex64]:
    """IQ (Z, X) of a cloud of scatterers, before noise and TGC.

    elevation: weigh each scatterer with the profile E(y; z); False for in-plane clouds whose amplitudes hold it
    already.
    """
    grid, numba = plan.grid, kernels()
    (x0, x1), (z0, z1) = plan.extent
    x, z = plan.geometry.to_beam(scatterers.x, scatterers.z)
    x, y, z, amplitude = (np.ascontiguousarray(a) for a in (x, scatterers.y, z, scatterers.amplitude))
    u, v = np.empty(len(z), np.float32), np.empty(len(z), np.float32)
    row = np.empty(len(z), np.int32)
    origin, step = (grid.fine_x[0], grid.fine_z[0]), (grid.step[0], grid.step[1] / 2.0)
    inside, ordered = numba.locate(x, z, (x0, x1, z0, z1), origin, step, u, v, row)
    if not (inside and ordered):
        chosen = np.nonzero((x >= x0) & (x <= x1) & (z >= z0) & (z <= z1))[0]
        chosen = chosen[np.argsort(row[chosen], kind="stable")]
        x, y, z, amplitude, u, v, row = (a[chosen] for a in (x, y, z, amplitude, u, v, row))
    if isinstance(plan.beam.transmit, PlaneScan):
        amplitude = amplitude * plan.beam.shadow(x, z)
    re, im = np.empty(len(z), np.float32), np.empty(len(z), np.float32)
    numba.carrier(amplitude, z, grid.carrier, re, im)
    if elevation:
        weighted = (re + 1j * im) * plan.elevation(y, z)
        re, im = weighted.real.astype(np.float32), weighted.imag.astype(np.float32)
    first = np.searchsorted(row, np.arange(len(grid.fine_z) + 1)).astype(np.int64)
    fine = np.empty((2, len(grid.fine_z), len(grid.fine_x)), np.float32)
    numba.splat(u, v, re, im, first, fine[0], fine[1])
    return _image(plan, fine, grid.spline_filters)


def white_noise(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """White complex Gaussian noise of unit mean power, as planes (2, *shape).

    sqrt(-ln u) exp(i 2 pi v) with u, v uniform in 32 bits (Box and Muller 1958): faster than drawing the two planes,
    and this is most of a `field` image.
    """
    count = shape[0] * shape[1]
    words = generator.bit_generator.random_raw(count).view(np.uint32)
    modulus = words[:count].astype(np.float32)
    modulus += np.float32(0.5)
    modulus *= np.float32(2.0**-32)
    np.log(modulus, out=modulus)
    np.minimum(modulus, 0.0, out=modulus)
    np.sqrt(np.negative(modulus, out=modulus), out=modulus)
    planes = np.empty((2, count), np.float32)
    kernels().polar(modulus, words[count:].view(np.int32), planes[0], planes[1])
    return planes.reshape(2, *shape)


def field_weights(plan: Plan, strength: Array) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Power (R_fine, 1) of a fine cell of 0 dB tissue, and what a plane wave's array lights of it, (R_fine, J_fine).

    strength: (R_fine,) mean intensity of 0 dB tissue per m^2.  None for focused scans, which light all of it.
    """
    grid = plan.grid
    dx, dz = grid.step
    power = (strength * (0.5 * dx * dz * plan.geometry.spread(grid.fine_z))).astype(np.float32)[:, None]
    if not isinstance(plan.beam.transmit, PlaneScan):
        return power, None
    depth = np.maximum(grid.fine_z, plan.beam.wavelength)[:, None]
    return power, plan.beam.shadow(grid.fine_x[None, :], depth).astype(np.float32)


def field_deviation(echogenicity: Any, power: Any, lit: Any) -> Any:
    """Standard deviation of the `field` model's noise on the fine cells, over the array namespace.

    echogenicity: (..., R_fine, J_fine) mean power per fine cell.  power, lit: `field_weights`.
    """
    amplitude = array_namespace(echogenicity).sqrt(echogenicity * power)
    return amplitude if lit is None else amplitude * lit


def field_amplitude(plan: Plan, echogenicity: NDArray[np.float32], strength: Array) -> NDArray[np.float32]:
    """`field_deviation` (R_fine, J_fine) of a plan, strength as in `field_weights`."""
    return field_deviation(echogenicity, *field_weights(plan, strength))


def run_field(plan: Plan, amplitude: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.complex64]:
    """IQ (Z, X) of infinitely many scatterers: white noise of standard deviation `amplitude` on the fine cells."""
    fine = white_noise(generator, amplitude.shape)
    fine *= amplitude
    return _image(plan, fine, plan.grid.noise_filters)


def definition(plan: Plan, scatterers: Scatterers, *, elevation: bool = True) -> NDArray[np.complex128]:
    """IQ (Z, X) by the defining sum, one scatterer after the other, in double precision and without any grid."""
    beam, (x, z) = plan.beam, (plan.grid.x, plan.grid.z)
    iq = np.zeros((len(z), len(x)), np.complex128)
    places = (*plan.geometry.to_beam(scatterers.x, scatterers.z), scatterers.y, scatterers.amplitude)
    for x_s, z_s, y_s, amplitude in zip(*places, strict=True):
        strength = amplitude * np.exp(-2j * beam.wavenumber * z_s)
        if elevation:
            strength = strength * beam.elevation.definition(np.array([y_s]), z_s)[0]
        iq += strength * np.outer(beam.pulse(z - z_s, z_s, beam.axial_stretch), beam.lateral(x_s - x, x, z_s))
    return iq
