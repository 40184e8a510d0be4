"""The internal grid of the `psf` engine, chosen from the beam's and the pulse's bands, not from the pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.elements import window
from usim.engines.aperture import element_factor, half_aperture
from usim.engines.beam import Beam
from usim.engines.resample import cell_filter, coarsest_step, interpolation_error, interpolator
from usim.engines.sector import SectorBeam
from usim.scan import Image, Sector
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
Filters = tuple[NDArray[np.float32], dict[int, NDArray[np.float32]]]
RESAMPLING_DB = -62.5  # aim for each axis; both, the kernels' tails and the blending stay below -50 dB together
HALF_FILTER = 10  # taps on either side of the decimation filters
COLUMN_TAPS = 8  # internal columns read per pixel; twice as many between every second column
PULSE_TAIL = 3e-7  # energy of the pulse that may lie beyond its half-length
BENT = 40.0  # wavelengths times two-way f-number squared: deeper, a beam is too narrow to see its curvature
BENT_WIDTHS = 8.0  # wavelengths times f-number to either side in which a beam is looked at
BENT_POINTS = 512
BENT_FLOOR = 1e-6  # of the strongest: what is left out is below the filters' own errors
SLOPES = 50  # samples of the pupil per unit of slope
PEDESTAL = 3e-3
OPEN_BAND = 0.4  # cycles per fine cell up to which edge waves are taken along
NEAR_FIELD = 0.85  # of the transmit focus's depth: above, edge waves need all columns
STEEP = 0.2  # element factor at the steepest waves that the rows follow
EDGE = 0.28  # element factor at the steepest edge waves that the columns follow: the rest is below -50 dB


def open_slope(beam: Beam, factor: float) -> float:
    """Slope to the axis at which an element's factor has fallen to `factor`; steeper waves hardly leave it."""
    slope = np.linspace(0.0, 5.0, 1001)  # even an element without width falls to 0.196 there, by its cosine
    return float(slope[np.argmax(element_factor(slope, beam.probe.element_width, beam.wavelength) < factor)])


def axial_band(beam: Beam, top: float) -> tuple[Array, Array]:
    """Axial wavenumbers 2 f / c in 1/m (F,) and the power that echoes from below `top` have there, without attenuation.

    A wave at angle t to the axis has an axial wavenumber smaller by k (1 - cos t): the near field of the transmit
    aperture and the receive aperture spread the pulse's band downwards by that much.
    """
    pulse, steep = beam.pulse, open_slope(beam, STEEP)
    slopes = [min(0.5 / beam.receive.f_number, steep)]
    if isinstance(beam.transmit, FocusedScan):
        slopes.append(min(beam.transmit_half_aperture() / top, steep))
    spread = sum(s * s / 2.0 for s in slopes) / beam.wavelength
    wavenumber = 2.0 * pulse.frequency * beam.axial_stretch / pulse.sound_speed
    step = wavenumber[1] - wavenumber[0]
    count = max(1, round(spread / step))
    power = np.convolve(pulse.amplitude**2, np.ones(count + 1) / (count + 1))
    return wavenumber[-1] + step * (np.arange(power.size) + 1 - power.size), power


def lateral_band(beam: Beam, z: Array) -> tuple[Array, Array]:
    """Lateral wavenumbers in 1/m and the power of the two-way pupil there, symmetric about 0.

    That of a focused transmit is taken at the end of its near field, where the waves from its edges are still steeper;
    that of a sector at all ranges z (Z,), because its lines spread.
    """
    if isinstance(beam, SectorBeam):
        return beam.lateral_band(z)
    slope = np.linspace(-1.0, 1.0, 2 * SLOPES + 1)
    receive = window(beam.receive.apodization, slope * 2.0 * beam.receive.f_number)
    if isinstance(beam.transmit, FocusedScan):
        f_number = max(0.5, NEAR_FIELD * beam.transmit.f_number)
        pupil = np.convolve(window(beam.transmit.apodization, slope * 2.0 * f_number), receive)
    else:
        shift = round(abs(math.sin(beam.steering)) * SLOPES)
        pupil = np.pad(receive, (SLOPES - shift, SLOPES + shift)) + np.pad(receive, (SLOPES + shift, SLOPES - shift))
    frequency, power = np.linspace(-2.0, 2.0, pupil.size) / beam.wavelength, pupil**2 / np.max(pupil) ** 2
    power = np.maximum(power, _bent_band(beam, z, frequency))
    used = power > 1e-12
    return frequency[used], power[used]


def _bent_band(beam: Beam, z: Array, frequency: Array) -> Array:
    """Power (F,) of a focused scan's two-way beam below the near field, the most at any depth, where it matters.

    A wide beam (a high f-number close by) sees the curvature of the wavefront, k xi^2 / z, which the pupil has not:
    at f/6 and 20 mm a grid for the pupil alone is at -30 dB of the definition, at f/12 it is useless.
    """
    if not isinstance(beam.transmit, FocusedScan):
        return np.zeros(frequency.shape)
    top = max(z[0], NEAR_FIELD * beam.transmit.depth)
    sharp = math.hypot(1.0 / beam.receive.f_number, 1.0 / beam.transmit.f_number)
    if BENT * beam.wavelength < top * sharp**2:
        return np.zeros(frequency.shape)
    half = BENT_WIDTHS * beam.wavelength * beam.receive.f_number
    offset = np.linspace(-half, half, BENT_POINTS)
    taper = np.hanning(BENT_POINTS)
    most = np.zeros(frequency.shape)
    for depth in np.geomspace(top, z[-1], 3):
        field = beam.lateral(offset, 0.0 * offset, float(depth)) * taper
        spectrum = np.fft.fftshift(np.abs(np.fft.fft(field)) ** 2)
        at = np.fft.fftshift(np.fft.fftfreq(BENT_POINTS, offset[1] - offset[0]))
        most = np.maximum(most, np.interp(frequency, at, spectrum / spectrum.max(), left=0.0, right=0.0))
    most = np.maximum(most, most[::-1])
    return np.where(most > BENT_FLOOR, most, 0.0)


def with_pedestal(band: tuple[Array, Array], widest: float) -> tuple[Array, Array]:
    """A band with a floor of -25 dB out to +-widest (1/m): filters fitted to it stay tame where edge waves are."""
    frequency = np.linspace(-widest, widest, 2 * SLOPES + 1)
    return frequency, np.interp(frequency, *band, left=0.0, right=0.0) + PEDESTAL


@dataclass(frozen=True, eq=False)
class Zone:
    """A band of rows whose cells and columns are every `stride`-th of the fine ones.

    Above the transmit focus waves from the aperture's edges reach the beam's axis at steep angles: they need all
    columns.
    """

    rows: slice
    stride: int


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of the internal grid and how pixels lie on it, in beam space (geometry.py).

    x (X,), z (Z,): pixel centres in metres, of a sector the samples along its lines.  row (R,): internal rows.
    column (C,): internal image columns, C odd.
    fine_x, fine_z: centres of the fine cells: columns and `pad + HALF_FILTER` more on either side; rows twice as dense.
    zones: how rows are worked on.  carrier: rad/m, the centre of the axial band, at which cells are demodulated.
    filters: (axial, {stride: lateral}) from fine cells filled with splines; noise_filters: filled with white noise.
    first_column (X,), column_weight (K, X): pixels from columns.  half_sample: columns between every second column.
    half_pulse: metres.  resampling_db: the energy errors that are left, per filter.
    """

    x: Array
    z: Array
    row: Array
    column: Array
    fine_x: Array
    fine_z: Array
    pad: int
    zones: tuple[Zone, ...]
    carrier: float
    spline_filters: Filters
    noise_filters: Filters
    first_column: NDArray[np.int64]
    column_weight: NDArray[np.float32]
    half_sample: NDArray[np.float32]
    half_pulse: float
    resampling_db: dict[str, float]

    @property
    def step(self) -> tuple[float, float]:
        """Spacing of (columns, rows) in metres."""
        return float(self.column[1] - self.column[0]), float(self.row[1] - self.row[0])

    def rows_of(self, z: Array, rows: Array) -> tuple[NDArray[np.int64], int]:
        """First row (Z,) within half a pulse of each depth, and how many rows a pulse covers."""
        step = rows[1] - rows[0]
        first = np.ceil((z - self.half_pulse - rows[0]) / step).astype(np.int64)
        return first, math.floor(2.0 * self.half_pulse / step)


def _zones(beam: Beam, row: Array) -> tuple[Zone, ...]:
    if isinstance(beam, SectorBeam):
        return (Zone(slice(0, len(row)), 2),)  # its band holds the near field
    # a plane wave confines nothing and a boxcar's sidelobes fall slowly: there edge waves matter at every depth
    confined = isinstance(beam.transmit, FocusedScan) and beam.receive.apodization != "boxcar"
    split = int(np.searchsorted(row, NEAR_FIELD * beam.transmit.depth)) if confined else len(row)
    zones = (Zone(slice(0, split), 1), Zone(slice(split, len(row)), 2))
    return tuple(zone for zone in zones if zone.rows.stop > zone.rows.start)


def _column_step(beam: Beam, lateral: tuple[Array, Array], top: float) -> float:
    """Spacing of the fine columns: half of what the far field allows, or what the near field at depth `top` needs."""
    frequency, power = lateral
    coarse = coarsest_step(*lateral, HALF_FILTER, RESAMPLING_DB)
    middle = np.array([COLUMN_TAPS + 0.5])
    while True:
        first, weight = interpolator(frequency * coarse, power, middle, 2 * COLUMN_TAPS)
        error = interpolation_error(frequency * coarse, power, middle[0], int(first[0]), weight[:, 0])
        if 10.0 * math.log10(error) <= RESAMPLING_DB:
            break
        coarse *= 0.96
    if isinstance(beam, SectorBeam):
        return coarse / 2.0
    steepest = 0.5 / beam.receive.f_number
    if isinstance(beam.transmit, FocusedScan):
        steepest += min(beam.transmit_half_aperture() / top, open_slope(beam, EDGE))
    return min(coarse / 2.0, OPEN_BAND * beam.wavelength / steepest)


def make_grid(beam: Beam, image: Image | Sector, reach: float) -> Grid:
    """The internal grid for an image whose lateral kernels reach `reach` metres to either side."""
    x, z = beam.axes(image)
    wavenumber, axial_power = axial_band(beam, z[0])
    carrier = math.pi * float((wavenumber[-1] + wavenumber[0]) / 2.0)
    axial = (wavenumber - carrier / math.pi, axial_power)
    lateral = lateral_band(beam, z)
    dz = coarsest_step(*axial, HALF_FILTER, RESAMPLING_DB)
    dx = _column_step(beam, lateral, z[0])
    half_pulse = beam.pulse.half_length(PULSE_TAIL) / beam.axial_stretch
    # centred, so that an image that is symmetric about the array's axis stays so; margin for the interpolators
    half_columns = 2 * math.ceil((x[-1] - x[0]) / (4.0 * dx)) + COLUMN_TAPS
    column = (x[0] + x[-1]) / 2.0 + dx * np.arange(-half_columns, half_columns + 1)
    pad = 2 * math.ceil(reach / (2.0 * dx))
    row = z[0] - half_pulse + dz * (np.arange(math.ceil((z[-1] - z[0] + 2.0 * half_pulse) / dz) + 3) - 1)
    outer = half_columns + pad + HALF_FILTER
    fine_x = (x[0] + x[-1]) / 2.0 + dx * np.arange(-outer, outer + 1)
    fine_z = row[0] + dz / 2.0 * (np.arange(2 * (len(row) + HALF_FILTER) - 1) - HALF_FILTER)
    edge_waves = with_pedestal(lateral, OPEN_BAND / dx)
    filters, errors = {}, {}
    for spline in (True, False):
        rows, errors["axial"] = cell_filter(*axial, dz / 2.0, HALF_FILTER, stride=2, spline=spline)
        cells = {}
        for stride, band in ((1, edge_waves), (2, lateral)):
            taps, errors[f"lateral {stride}"] = cell_filter(*band, dx, HALF_FILTER, stride=stride, spline=spline)
            cells[stride] = taps.astype(np.float32)
        filters[spline] = (rows.astype(np.float32), cells)
        if spline:
            spline_errors = {name: 10.0 * math.log10(error) for name, error in errors.items()}
    frequency, power = edge_waves
    first, weight = interpolator(frequency * dx, power, (x - column[0]) / dx, COLUMN_TAPS)
    frequency, power = lateral
    half_sample = interpolator(frequency * 2.0 * dx, power, np.array([COLUMN_TAPS + 0.5]), 2 * COLUMN_TAPS)[1][:, 0]
    return Grid(
        x, z, row, column, fine_x, fine_z, pad, _zones(beam, row), carrier, filters[True], filters[False],
        first, weight.astype(np.float32), half_sample.astype(np.float32), half_pulse, spline_errors,
    )  # fmt: skip


def blend_nodes(
    rate: Array, row: Array, tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows that are depth nodes, the node at or above each row, and how far the row is towards the next one.

    rate: (R,) rad/m at which kernels turn with depth; nodes lie so close that they turn by `tolerance` in between.
    """
    turned = np.concatenate(([0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(row)))) / tolerance
    nodes = np.unique(np.searchsorted(turned, np.arange(0.0, turned[-1])))
    if nodes[-1] != len(row) - 1:
        nodes = np.append(nodes, len(row) - 1)
    return nodes, *between_nodes(nodes)


def between_nodes(nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each row (R,) up to the last node the node at or above it, and how far it is towards the next one."""
    row = np.arange(nodes[-1] + 1)
    index = np.clip(np.searchsorted(nodes, row, side="right") - 1, 0, len(nodes) - 2)
    return index, (row - nodes[index]) / (nodes[index + 1] - nodes[index])


def kernel_rate(beam: Beam, row: Array) -> Array:
    """Rate (R,) in rad/m at which lateral kernels turn with depth, weighed by how much of their energy turns so fast.

    In the near field that of the transmit pupil's curvature, k a^2 / 2 z^2, with a the part of the aperture that the
    element
    factor lets through; beyond the focus that of the marginal ray, k / 8 F^2, of which the receive beam sees little;
    and that of the two-way wavefront, k xi^2 / z^2, at the beam's width.
    """
    if isinstance(beam, SectorBeam):
        return beam.kernel_rate(row)
    depth = np.maximum(row, beam.wavelength)
    edge = half_aperture(depth, beam.receive.f_number, beam.probe)
    rate = 0.3 / depth + np.where(edge >= beam.probe.aperture / 2.0, 1.0 / depth, 0.0)
    if isinstance(beam.transmit, FocusedScan):
        width = 1.5 * beam.wavelength * beam.receive.f_number
        aperture = np.minimum(beam.transmit_half_aperture(), open_slope(beam, STEEP) * depth)
        seen = 0.3 if beam.receive.apodization == "boxcar" else 0.15
        marginal = seen * beam.wavenumber / (8.0 * beam.transmit.f_number**2)
        rate = (
            rate + 0.3 * beam.wavenumber * aperture**2 / depth**2 + np.where(row > beam.transmit.depth, marginal, 0.0)
        )
    else:
        width = (
            10.0 * beam.wavelength * beam.receive.f_number
        )  # nothing but the receive beam confines a plane wave's echo
    return rate + beam.wavenumber * width**2 / depth**2
