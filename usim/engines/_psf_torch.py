"""Tensor operations from scatterers to pixels on any device; together they answer to the definition in psf.py.

Every stage of the image engine is linear, so that a plan becomes matrices once: `tile` puts the lateral filter, the
kernels of every row, and the reading at pixels into one matrix per row, cut into tiles of pixels where kernels are
shorter than the image; `bands` cuts the axial filter and the pulse likewise. An image is then three matrix products,
and images with one plan share them. Arrays are (rows, N, columns), N images beside each other, so that none is ever
transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

TINY = 1e-37  # the least power that is not 0 in single precision


class Tile(NamedTuple):
    """Rows and pixels (or columns) of a lateral pass, and the cells that they see; matrix: (rows, cells, pixels)."""

    rows: slice
    cells: slice
    pixels: slice
    matrix: Tensor


class Band(NamedTuple):
    """Rows that are sums over the rows `source` of an axial pass; matrix: (rows, source)."""

    rows: slice
    source: slice
    matrix: Tensor


class Chain(NamedTuple):
    """From fine cells to pixels: the axial filter, and (lateral kernels, pulse) of every term of the PSF.

    axial: None where cells are rows already.  pixels: X.
    """

    axial: list[Band] | None
    terms: list[tuple[list[Tile], list[Band]]]
    pixels: int


@contextmanager
def single_precision() -> Iterator[None]:
    """Matrix products in all 24 bits, whatever the process has chosen; TF32's 11 cost 6e-4 of an image's peak."""
    chosen = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(chosen)


def kernel_taps(bank: Tensor, origin: Tensor, stride: Tensor, reach: Tensor, half: Tensor, most: int) -> Tensor:
    """Kernels (R, C, 2 most + 1) from a bank's flat values.

    origin, stride: (R, C), where the first tap of a column's kernel lies and how far the next one.  reach: (R,), taps
    that the bank holds on either side; those beyond `half` (R,), at most `most`, are dropped.
    """
    tap = torch.arange(-most, most + 1, device=bank.device)
    place = origin[:, :, None] + stride[:, :, None] * (tap + reach[:, None])[:, None, :]
    kept = (tap.abs() <= half[:, None])[:, None, :]
    return bank[torch.where(kept, place, 0)].mul_(kept)


def toeplitz(taps: Tensor) -> Tensor:
    """Matrices (R, C, C - 1 + T) whose row c holds its taps (T,) from cell c on, from taps (R, C, T)."""
    several, columns, count = taps.shape
    cells = columns - 1 + count
    padded = taps.new_zeros(several, columns, cells + 1)
    padded[:, :, :count] = taps
    return padded.reshape(several, -1)[:, : columns * cells].reshape(several, columns, cells)


def pixel_tile(taps: Tensor, reading: Tensor, weight: Tensor, step: int) -> Tensor:
    """A tile's matrix (R, J, X) on fine cells from its rows' kernels taps (R, C, T) over every step-th cell.

    reading: (X, C), pixels from columns.  weight: (L,), the filter from fine cells to cells.
    """
    matrix = torch.view_as_real(toeplitz(taps))
    cells = matrix.shape[2]
    with single_precision():
        read = (reading @ matrix.flatten(2)).unflatten(2, (cells, 2)).transpose(1, 2).flatten(2)
        if len(weight) > 1:
            fine = torch.arange(step * (cells - 1) + len(weight), device=taps.device)
            lag = fine[:, None] - step * torch.arange(cells, device=taps.device)
            reached = (lag >= 0) & (lag < len(weight))
            read = torch.where(reached, weight[lag.clamp(0, len(weight) - 1)], 0.0) @ read
    return torch.view_as_complex(read.unflatten(2, (-1, 2)).contiguous())


def column_tile(taps: Tensor) -> Tensor:
    """A tile's matrix (R, J, C) to columns, as `pixel_tile`."""
    return toeplitz(taps).transpose(1, 2).contiguous()


def bands(first: Tensor, taps: Tensor, device: torch.device, most: int = 32) -> list[Band]:
    """Bands of at most so many rows of the sums over rows first[i] + k with weights taps (Z, K), on a device."""
    made = []
    for top in range(0, len(first), most):
        starts, rows = first[top : top + most], slice(top, min(top + most, len(first)))
        source = slice(int(starts.min()), int(starts.max()) + taps.shape[1])
        place = starts[:, None] - source.start + torch.arange(taps.shape[1])
        matrix = taps.new_zeros(len(starts), source.stop - source.start).scatter_(1, place, taps[rows])
        made.append(Band(rows, source, matrix.to(device)))
    return made


def along_rows(parts: Sequence[Band], rows: Tensor) -> Tensor:
    """Bands applied to rows (R, N, X): (Z, N, X); a real band also to complex rows."""
    matrix = parts[0].matrix
    flat = torch.view_as_real(rows) if rows.is_complex() and not matrix.is_complex() else rows
    flat = flat.reshape(len(flat), -1)
    out = flat.new_empty(parts[-1].rows.stop, flat.shape[1])
    for part in parts:
        torch.mm(part.matrix, flat[part.source], out=out[part.rows])
    if flat.dtype != rows.dtype:
        return torch.view_as_complex(out.reshape(len(out), *rows.shape[1:], 2))
    return out.reshape(len(out), *rows.shape[1:])


def along_columns(parts: Sequence[Tile], cells: Tensor, pixels: int, *, squared: bool = False) -> Tensor:
    """Tiles applied to cells (R, N, J): (R, N, X); squared: with the squares of their values."""
    out = cells.new_empty(*cells.shape[:2], pixels)
    for part in parts:
        matrix = part.matrix.square() if squared else part.matrix
        out[part.rows, :, part.pixels] = torch.bmm(cells[part.rows, :, part.cells], matrix)
    return out


def image(chain: Chain, cells: Tensor) -> Tensor:
    """IQ (Z, N, X) of cells (R, N, J)."""
    with single_precision():
        rows = cells if chain.axial is None else along_rows(chain.axial, cells)
        parts = (along_rows(pulse, along_columns(tiles, rows, chain.pixels)) for tiles, pulse in chain.terms)
        made = next(parts)
        for part in parts:
            made += part
    return made


class Captured:
    """A function of one tensor on a CUDA device, recorded once as a graph and replayed: no launch costs any more.

    given: where its argument is put before each call; the result is overwritten by the next one.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], given: Tensor) -> None:
        self.given = given
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(given.device):
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):  # cuBLAS wants its workspaces before a recording
                for _ in range(2):
                    function(given)
            torch.cuda.current_stream().wait_stream(beside)
            with torch.cuda.graph(self._graph):
                self._made = function(given)

    def __call__(self) -> Tensor:
        """The function of what `given` holds now."""
        self._graph.replay()
        return self._made


def fill_white(cells: Tensor, generator: torch.Generator | None) -> None:
    """White complex Gaussian noise of unit mean power, in place."""
    torch.view_as_real(cells).normal_(0.0, math.sqrt(0.5), generator=generator)


def splat(u: Tensor, v: Tensor, weight: Tensor, rows: int, columns: int) -> Tensor:
    """Scatterers (N, S) spread on cells (rows, N, columns) with cubic B-splines.

    u, v: axial and lateral grid coordinates, double precision; weight: complex, 0 for those that do not exist. On CUDA
    the sums' order, and so their last bits, vary from call to call, unless torch.use_deterministic_algorithms is on.
    """
    inside = (u >= 1.0) & (u < rows - 2.0) & (v >= 1.0) & (v < columns - 2.0)
    weight = torch.where(inside, weight, torch.zeros_like(weight))
    row, column = (torch.where(inside, place, torch.ones_like(place)).floor() for place in (u, v))
    along, across = _spline((u - row).float()), _spline((v - column).float())
    several = len(u)
    image_of = torch.arange(several, device=u.device)[:, None]
    cell = ((row.long() - 1) * several + image_of) * columns + column.long() - 1
    out = weight.new_zeros(rows * several * columns)
    for i, share in enumerate(along):
        weighed = weight * share
        for j, part in enumerate(across):
            out.index_add_(0, (cell + (i * several * columns + j)).flatten(), (weighed * part).flatten())
    return out.reshape(rows, several, columns)


def _spline(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four values of the cubic B-spline at distances 1 + t, t, 1 - t, 2 - t."""
    s = 1.0 - t
    return s**3 / 6.0, 2.0 / 3.0 - 0.5 * t * t * (2.0 - t), 2.0 / 3.0 - 0.5 * s * s * (2.0 - s), t**3 / 6.0


def turned(amplitude: Tensor, z: Tensor, wavenumber: float) -> Tensor:
    """amplitude exp(-i 2 k z), complex64; z: metres, double precision, in which the phase is taken."""
    turns = torch.remainder(z * (-wavenumber / math.pi), 1.0) * (2.0 * math.pi)
    return amplitude.to(torch.complex64) * torch.polar(torch.ones_like(turns), turns).to(torch.complex64)


def power(
    terms: Sequence[tuple[list[Tile], list[Band]]], cells: Tensor, first: Tensor, weight: Tensor, *, squared: bool,
    floor: float,
) -> Tensor:  # fmt: skip
    """Mean intensities (Z, N, X), double precision, of cells (R, N, J) through incoherent kernels and pulses.

    first (X,), weight (K, X): pixels from columns, read in the logarithm, of at least `floor` of an image's largest.
    Each image's cells are brought to order 1 first: tails of kernels would be too small for single precision.
    """
    peak = cells.amax((0, 2), keepdim=True).clamp_min(TINY)
    with single_precision():
        columns = sum(
            along_rows(pulse, along_columns(tiles, cells / peak, tiles[-1].pixels.stop, squared=squared))
            for tiles, pulse in terms
        )
    columns = columns.clamp_min(0.0)  # a sum of few singular vectors is not above 0 everywhere
    scale = columns.amax((0, 2), keepdim=True).clamp_min(TINY)
    logs = (columns / scale).clamp_min(floor).log()
    pixels = sum(share * logs[:, :, first + tap] for tap, share in enumerate(weight))
    return pixels.double().exp() * (scale.double() * peak.double())
