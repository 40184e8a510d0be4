"""Batches of images by the image engine on a torch device: its plans, noise and truth as tensors.

Images with one plan are one batch. The numbers are those of psf.py, noise.py and expect.py to 1e-4 of an image's peak;
random numbers are the device's own: reproducible there, but not those of the NumPy generators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from usim.engines.bank import Bank
from usim.engines.calibrated import CalibratedPower, ExactPower
from usim.engines.expect import LOG_FLOOR, PowerPlan
from usim.engines.grid import Filters, Grid
from usim.engines.noise import NoisePlan
from usim.engines.psf import Plan
from usim.engines.resample import lagrange
from usim.engines.sir_sector import SectorTwin
from usim.errors import ConfigError
from usim.scatterers import Scatterers
from usim.transmit import PlaneScan

if TYPE_CHECKING:
    from torch import Generator, Tensor

#: Of a tile at most: larger ones multiply more zeros, smaller ones fill a device less.
ROWS, PIXELS, COLUMNS = 128, 64, 128


def device_of(name: Any) -> Any:
    """The torch device of a name; raises ConfigError where there is none, or no torch."""
    try:
        import torch
    except ModuleNotFoundError:
        raise ConfigError('device: images on a device need torch; pip install "usim-s2s[train]"') from None
    try:
        device = torch.device(name)
        torch.ones(1, dtype=torch.float64, device=device).item()  # places need it; Apple's devices have none
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(f"device: {name} can't be used ({str(error).splitlines()[0]}); choose cpu") from None
    return device


def _placed(bank: Bank, node: NDArray[np.int64], columns: int) -> tuple[NDArray, NDArray, NDArray]:
    """origin, stride and reach of the kernels of nodes (R,), as _psf_torch.kernel_taps reads them."""
    n, column = node[:, None], np.arange(columns)
    low, high, start, reach = bank.low[n], bank.high[n], bank.start[n], bank.reach[n]
    left, right, own = column < low, column >= high, start + 2 * reach + 1
    origin = np.where(left, own + column, np.where(right, own + (2 * reach + 1) * low + column - high, start))
    return origin, np.where(left, low, np.where(right, columns - high, 1)), reach[:, 0]


def _reading(grid: Grid, stride: int) -> NDArray[np.float32]:
    """Pixels from every stride-th column, (X, C): the interpolator after the columns in between."""
    pixel, columns = np.arange(len(grid.x)), len(grid.column)
    reading = np.zeros((len(grid.x), columns), np.float32)
    for tap, weight in enumerate(grid.column_weight):
        reading[pixel, grid.first_column + tap] = weight
    if stride == 1:
        return reading
    between = np.zeros((columns, (columns - 1) // 2 + 1), np.float32)
    between[::2] = np.eye(between.shape[1])
    odd, taps = np.arange(columns // 2), len(grid.half_sample)
    for tap, weight in enumerate(grid.half_sample):
        source = odd + tap - taps // 2 + 1
        known = (source >= 0) & (source < between.shape[1])
        between[2 * odd[known] + 1, source[known]] = weight
    return reading @ between


@dataclass(frozen=True, eq=False)
class _Lateral:
    """What makes the tiles of one bank: rows `top` and on of an image; columns `pad` cells from the cells' start."""

    bank: Bank
    top: int
    columns: int
    pad: int
    step: int = 1
    filter: NDArray[np.float32] = field(default_factory=lambda: np.ones(1, np.float32))
    reading: NDArray[np.float32] | None = None

    def tiles(self, device: Any) -> list[Any]:
        """The tiles on a device, row by row."""
        import torch

        from usim.engines import _psf_torch as kernels

        values = torch.as_tensor(self.bank.re, device=device)
        if len(self.bank.im):
            values = torch.complex(values, torch.as_tensor(self.bank.im, device=device))
        bank, made = self.bank, []
        for rows in _cut(len(bank.node), ROWS):
            blend = bank.blend[rows].astype(np.float32)
            pair = bank.node[rows], np.where(blend > 0.0, bank.node[rows] + 1, bank.node[rows])
            half = np.minimum(bank.reach[pair[0]], bank.reach[pair[1]])
            most = int(half.max())
            held = _tensors(device, half)[0]
            shares = _tensors(device, (1.0 - blend)[:, None, None], blend[:, None, None])
            placed = [_tensors(device, *_placed(bank, node, self.columns)) for node in pair]
            for pixels, columns in self._parts():
                taps = sum(
                    share * kernels.kernel_taps(values, origin[:, columns], stride[:, columns], reach, held, most)
                    for share, (origin, stride, reach) in zip(shares, placed, strict=True)
                )
                if self.reading is None:
                    matrix = kernels.column_tile(taps)
                else:
                    reading = _tensors(device, self.reading[pixels, columns], self.filter)
                    matrix = kernels.pixel_tile(taps, *reading, self.step)
                first = self.step * (columns.start + self.pad - most)
                cells = slice(first, first + matrix.shape[1])
                made.append(kernels.Tile(slice(self.top + rows.start, self.top + rows.stop), cells, pixels, matrix))
        return made

    def _parts(self) -> list[tuple[slice, slice]]:
        """(pixels, columns that they are read from) of each tile."""
        if self.reading is None:
            return [(part, part) for part in _cut(self.columns, PIXELS)]
        pixels = len(self.reading)
        cuts = _cut(pixels, min(PIXELS, max(1, COLUMNS * pixels // self.columns)))
        used = [np.nonzero(self.reading[part].any(axis=0))[0] for part in cuts]
        return [(part, slice(int(c[0]), int(c[-1]) + 1)) for part, c in zip(cuts, used, strict=True)]


def _cut(count: int, most: int) -> list[slice]:
    """Parts of 0 .. count - 1 of equal length, at most `most`, but for the last."""
    size = -(-count // -(-count // most))
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _tensors(device: Any, *arrays: NDArray) -> list[Any]:
    import torch

    return [torch.as_tensor(np.ascontiguousarray(array), device=device) for array in arrays]


def _bands(device: Any, first: NDArray[np.int64], taps: NDArray) -> list[Any]:
    from usim.engines import _psf_torch as kernels

    return kernels.bands(*_tensors("cpu", first, taps), device)


def _chain(plan: Plan, filters: Filters, device: Any) -> Any:
    """A plan's matrices from fine cells to pixels."""
    from usim.engines import _psf_torch as kernels

    grid, (axial, lateral) = plan.grid, filters
    reading = {zone.stride: _reading(grid, zone.stride) for zone in grid.zones}
    terms = []
    for banks, (first, re, im) in plan.terms:
        tiles = []
        for zone, bank in zip(grid.zones, banks, strict=True):
            columns, pad = (len(grid.column) - 1) // zone.stride + 1, grid.pad // zone.stride
            part = _Lateral(
                bank, zone.rows.start, columns, pad, zone.stride, lateral[zone.stride], reading[zone.stride]
            )
            tiles += part.tiles(device)
        terms.append((tiles, _bands(device, first, (re + 1j * im).astype(np.complex64))))
    every = np.repeat(axial[None].astype(np.float32), len(grid.row), axis=0)
    return kernels.Chain(_bands(device, 2 * np.arange(len(grid.row)), every), terms, len(grid.x))


@dataclass(frozen=True, eq=False)
class DevicePlan:
    """A plan of the image engine as tensors on a device; matrices are made when they are first used.

    captured: on a CUDA device, `run_field` replays a graph that is recorded once per number of images.

    >>> found = DevicePlan.of(plan, "cpu").run_field(amplitude, generator, looks=2)  # doctest: +SKIP
    """

    plan: Plan
    device: Any
    captured: bool = False
    _graphs: dict[int, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, plan: Plan, device: Any = "cpu", *, captured: bool = False) -> DevicePlan:
        """The device's own form of a plan; raises ConfigError for the exact engine's sectors, which it has not."""
        if isinstance(plan, SectorTwin):
            raise ConfigError("engine: sir has no images on a device; choose engine: psf")
        device = device_of(device)
        if captured and device.type != "cuda":
            raise ConfigError(f"captured: graphs are CUDA's, {device} has none; leave it off")
        return cls(plan, device, captured)

    @cached_property
    def field_chain(self) -> Any:
        """Matrices from white noise on the fine cells to pixels, a _psf_torch.Chain."""
        return _chain(self.plan, self.plan.grid.noise_filters, self.device)

    @cached_property
    def cloud_chain(self) -> Any:
        """Matrices from scatterers on the fine cells to pixels, likewise."""
        return _chain(self.plan, self.plan.grid.spline_filters, self.device)

    @property
    def _fine(self) -> tuple[int, int]:
        return len(self.plan.grid.fine_z), len(self.plan.grid.fine_x)

    def image(self, cells: Tensor) -> Tensor:
        """IQ (B, Z, X) complex64 of complex values on the fine cells (B, R, J), as white noise is imaged."""
        from usim.engines import _psf_torch as kernels

        return kernels.image(self.field_chain, cells.transpose(0, 1).contiguous()).transpose(0, 1)

    def run_field(self, amplitude: Tensor, generator: Generator | None = None, looks: int = 1) -> Tensor:
        """IQ (B, looks, Z, X) complex64 of infinitely many scatterers, before noise and TGC.

        amplitude: (B, R, J) float32 on the device, psf.field_amplitude of each scene.  generator: the device's.
        """
        import torch

        from usim.engines import _psf_torch as kernels

        scenes, rows, columns = amplitude.shape
        graph = self._graphs.get(scenes * looks)
        if graph is None:
            cells = torch.empty(rows, scenes * looks, columns, dtype=torch.complex64, device=self.device)
        else:
            cells = graph.given
        kernels.fill_white(cells, generator)
        cells.view(rows, scenes, looks, columns).mul_(amplitude.to(self.device).transpose(0, 1)[:, :, None])
        if self.captured and graph is None:
            chain = self.field_chain
            graph = kernels.Captured(lambda given: kernels.image(chain, given), cells)
            self._graphs[scenes * looks] = graph
        # a graph's result is overwritten by the next
        found = kernels.image(self.field_chain, cells) if graph is None else graph().clone()
        return found.transpose(0, 1).unflatten(0, (scenes, looks))

    def run(self, clouds: Sequence[Scatterers], *, elevation: bool = True) -> Tensor:
        """IQ (B, Z, X) complex64 of clouds of scatterers, before noise and TGC; elevation: see psf.run."""
        most, plan = max((len(cloud) for cloud in clouds), default=0), self.plan
        place = np.zeros((2, len(clouds), most))
        weight = np.zeros((len(clouds), most), np.complex64)
        for n, cloud in enumerate(clouds):
            x, z = plan.geometry.to_beam(cloud.x, cloud.z)
            place[:, n, : len(cloud)] = x, z
            amplitude = cloud.amplitude
            if isinstance(plan.beam.transmit, PlaneScan):
                # those above the extent are dropped
                amplitude = amplitude * plan.beam.shadow(x, np.maximum(z, plan.extent[1][0]))
            if elevation:
                amplitude = amplitude * plan.elevation(cloud.y, np.maximum(z, plan.extent[1][0]))
            weight[n, : len(cloud)] = amplitude
        return self.run_padded(*_tensors(self.device, place[0], place[1], weight))

    def run_padded(self, x: Tensor, z: Tensor, amplitude: Tensor) -> Tensor:
        """IQ (B, Z, X) complex64 of scatterers (B, N) at x, z, metres of beam space, double precision.

        amplitude: real or complex, the shadow of a plane wave's array and the elevation profile in it; 0 where there
        is no scatterer.
        """
        import torch

        from usim.engines import _psf_torch as kernels

        grid, ((x0, x1), (z0, z1)) = self.plan.grid, self.plan.extent
        heard = (x >= x0) & (x <= x1) & (z >= z0) & (z <= z1)
        weight = kernels.turned(torch.where(heard, amplitude, torch.zeros_like(amplitude)), z, grid.carrier)
        u, v = (z - grid.fine_z[0]) / (grid.step[1] / 2.0), (x - grid.fine_x[0]) / grid.step[0]
        return kernels.image(self.cloud_chain, kernels.splat(u, v, weight, *self._fine)).transpose(0, 1)


@dataclass(frozen=True, eq=False)
class DeviceNoise:
    """Electronic noise as the receive chain colours it (noise.py), on a device."""

    noise: NoisePlan
    device: Any

    @classmethod
    def of(cls, noise: NoisePlan, device: Any = "cpu") -> DeviceNoise:
        """The device's own form of a setting's noise."""
        return cls(noise, device_of(device))

    @cached_property
    def _chain(self) -> tuple[Any, Any]:
        from usim.engines import _psf_torch as kernels

        noise, grid = self.noise, self.noise.plan.grid
        columns = len(grid.column[::2])
        tiles = _Lateral(noise.bank, 0, columns, noise.pad, reading=_reading(grid, 2)).tiles(self.device)
        first, table = noise.pulse_rows
        chain = kernels.Chain(None, [(tiles, _bands(self.device, first, table.astype(np.complex64)))], len(grid.x))
        return chain, *_tensors(self.device, noise.deviation)

    def image(self, cells: Tensor) -> Tensor:
        """Coloured noise (B, Z, X) complex64 of white noise (B, R, J), J = `NoisePlan.cells`."""
        from usim.engines import _psf_torch as kernels

        chain, deviation = self._chain
        return kernels.image(chain, cells.transpose(0, 1).contiguous()).transpose(0, 1) / deviation

    def draw(self, generator: Generator | None, images: int) -> Tensor:
        """Realisations (B, Z, X) complex64 of unit mean power before TGC; generator: the device's."""
        import torch

        from usim.engines import _psf_torch as kernels

        rows, columns = self.noise.cells
        cells = torch.empty(images, rows, columns, dtype=torch.complex64, device=self.device)
        kernels.fill_white(cells, generator)
        return self.image(cells)


@dataclass(frozen=True, eq=False)
class DevicePower:
    """The incoherent twin of a plan (expect.py) on a device, for the diffuse part of the truth."""

    power: PowerPlan
    device: Any

    @classmethod
    def of(cls, power: PowerPlan, device: Any = "cpu") -> DevicePower:
        """The device's own form of a setting's powers; raises ConfigError for those of the exact engine."""
        if isinstance(power, ExactPower) or isinstance(power.plan, SectorTwin):
            raise ConfigError("engine: sir has no truth on a device; choose engine: psf")
        return cls(power, device_of(device))

    def _terms(self, bank: Bank, first: NDArray[np.int64], taps: NDArray[np.float32]) -> Any:
        grid = self.power.plan.grid
        tiles = _Lateral(bank, 0, len(grid.column), grid.pad).tiles(self.device)
        return tiles, _bands(self.device, first, taps)

    @cached_property
    def _second(self) -> list[Any]:
        power = self.power
        if isinstance(power, CalibratedPower):
            return [self._terms(bank, first, taps) for bank, first, taps, _, _ in power.terms]
        first, second, _ = power.pulse_powers
        return [self._terms(power.bank, first, second)]

    @cached_property
    def _fourth(self) -> list[Any]:
        power = self.power
        if isinstance(power, CalibratedPower):
            return [self._terms(bank, first, taps) for _, first, _, bank, taps in power.terms]
        first, _, fourth = power.pulse_powers
        return [(self._second[0][0], _bands(self.device, first, fourth))]

    @cached_property
    def _columns(self) -> tuple[Any, Any]:
        grid = self.power.plan.grid
        first, weight = lagrange((grid.x - grid.column[0]) / grid.step[0], len(grid.column))
        first, weight = _tensors(self.device, first, weight)
        return first, weight

    @cached_property
    def _lit(self) -> Any:
        """Power that a plane wave has on the cells (R2, J), its array's shadow; 1 for focused scans."""
        power, beam = self.power, self.power.plan.beam
        lit = beam.shadow(power.cell_x[None, :], np.maximum(power.row_z, beam.wavelength)[:, None]) ** 2
        return _tensors(self.device, lit.astype(np.float32))[0]

    @cached_property
    def _weights(self) -> tuple[Any, Any, float]:
        """What echogenicity and its square are multiplied with, (R2, 1) each, and the unit of the latter."""
        second, fourth = self.power.elevation_energies(self.power.row_z)
        second, fourth = second * self.power.cell_area, fourth * self.power.cell_area
        unit = math.ldexp(1.0, math.frexp(float(fourth.max()))[1])  # some 1e-34: dark tissue would be lost
        both = [(weight[:, None]).astype(np.float32) for weight in (second, fourth / unit)]
        return *_tensors(self.device, *both), unit

    def blur(self, cells: Tensor, *, squared: bool = False) -> Tensor:
        """Sums (B, Z, X), double precision, of |PSF|^2 cells, or |PSF|^4 cells, over the cells (B, R2, J)."""
        from usim.engines import _psf_torch as kernels

        plane = isinstance(self.power.plan.beam.transmit, PlaneScan)
        lit = (cells * (self._lit**2 if squared else self._lit) if plane else cells).transpose(0, 1).contiguous()
        own = squared and not isinstance(self.power, CalibratedPower)
        terms = self._fourth if squared else self._second
        return kernels.power(terms, lit, *self._columns, squared=own, floor=LOG_FLOOR).transpose(0, 1)

    def expect(
        self, echogenicity: Tensor, square: Tensor | None = None, fourth: Tensor | float = 0.0,
        beside: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Diffuse mean intensity and fourth cumulant, (B, Z, X) each, as expect.expect has them.

        echogenicity, square: (B, R2, J) float32 on the cells of (PowerPlan.row_z, cell_x); without `square` there is
        no fourth cumulant.  fourth: kurtosis / density of each scene, (B,).  beside: (B, R2, J) strength of scatterers
        that add to the mean alone.
        """
        import torch

        of_second, of_fourth, unit = self._weights
        weighted = echogenicity * of_second
        mean = self.blur(weighted if beside is None else weighted + beside)
        if square is None:
            return mean, None
        scale = torch.as_tensor(fourth, dtype=torch.float64, device=self.device).reshape(-1, 1, 1)
        return mean, self.blur(square * of_fourth, squared=True) * (scale * unit)
