"""The size of a speckle cell, over the whole depth and band by band."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from usim.errors import DataError
from usim.speckle_size import cell_size

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
LEAST_TILE: Final = 24  # pixels
CELLS: Final = 8.0  # a tile's sides, in cells
MOST_TILES: Final = 150
FEWEST: Final = 6  # tiles of a band
LIT: Final = 0.7  # of a tile's pixels that are not black
ROUNDS: Final = 4
BANDS: Final = 5


@dataclass(frozen=True)
class Cells:
    """Axial and lateral FWHM of the intensity's autocovariance, pixels, in rows [first, last) of the image.

    error: standard errors.
    """

    rows: tuple[int, int]
    size: tuple[float, float]
    error: tuple[float, float]


def measure_cells(image: Array, seen: Mask, power: float = 0.0) -> tuple[Cells, list[Cells]]:
    """Size of a speckle cell over the whole image (Z, X), and in bands of depth.

    seen: (Z, X), where there are echoes. power: of the intensity that the grey is nearest to, 0 for a logarithm.
    The size is that of `usim.speckle_size.cell_size` on tiles of some cells, and of all tiles the mode of the
    logarithm (Robertson and Cryer, J. Am. Stat. Assoc. 69, 1974: the half-sample mode): structure makes tiles look
    coarser, each in its own way, and pure speckle makes them agree.

    Raises DataError where no tile shows speckle that is smaller than the tile.
    """
    side = (LEAST_TILE, LEAST_TILE)
    for _ in range(ROUNDS):
        rows, sizes = _tiles(image, seen, side, power)
        if len(sizes) < FEWEST and min(side) < min(image.shape) // 2:
            side = (min(2 * side[0], len(image)), min(2 * side[1], image.shape[1]))
            continue
        if not len(sizes):
            break
        size, _ = _mode(sizes)
        wanted = tuple(min(max(LEAST_TILE, round(CELLS * s)), n // 2) for s, n in zip(size, image.shape, strict=True))
        if all(w <= 1.15 * s for w, s in zip(wanted, side, strict=True)):
            break
        side = (max(wanted[0], side[0]), max(wanted[1], side[1]))
    if not len(sizes):
        raise DataError(
            "no part of the picture shows speckle that is smaller than the part: the picture is too small for its "
            "speckle, blurred, or no ultrasound image; take it in full size"
        )
    bands = []
    for first, last in itertools.pairwise(np.linspace(0, len(image), BANDS + 1).astype(int).tolist()):
        inside = (first <= rows + side[0] / 2.0) & (rows + side[0] / 2.0 < last)
        if inside.sum() >= FEWEST:
            bands.append(Cells((first, last), *_mode(sizes[inside])))
    return Cells((0, len(image)), *_mode(sizes)), bands


def _tiles(image: Array, seen: Mask, side: tuple[int, int], power: float) -> tuple[NDArray[np.int64], Array]:
    """First rows (N,) and sizes (N, 2) of half overlapping tiles; those without fine speckle are left out."""
    step = [max(s // 2, 1) for s in side]
    starts = [range(0, n - s + 1, t) for n, s, t in zip(image.shape, side, step, strict=True)]
    places, black = list(itertools.product(*starts)), float(image[seen].min())
    rows, sizes = [], []
    for z, x in places[:: max(1, math.ceil(len(places) / MOST_TILES))]:
        tile, mask = (a[z : z + side[0], x : x + side[1]] for a in (image, seen))
        if mask.all() and np.mean(tile > black) > LIT:
            try:
                size = cell_size(tile, exponent=power)
            except DataError:
                continue
            rows.append(z)
            sizes.append(size)
    return np.array(rows, dtype=np.int64), np.array(sizes).reshape(-1, 2)


def _mode(sizes: Array) -> tuple[tuple[float, float], tuple[float, float]]:
    """Half-sample mode of either side (N, 2), and its standard error."""
    modes, errors = [], []
    for values in np.log(np.sort(sizes, axis=0)).T:
        left = values
        while len(left) > max(FEWEST, len(values) // 4):
            count = (len(left) + 1) // 2
            width = left[count - 1 :] - left[: len(left) - count + 1]
            first = int(width.argmin())
            left = left[first : first + count]
        mode = float(np.exp(left.mean()))
        modes.append(mode)
        # the densest quarter of a normal law is 0.64 standard deviations wide; neighbours share half their pixels
        errors.append(mode * float(np.ptp(left)) / 0.64 / math.sqrt(max(len(values) / 4.0, 1.0)))
    return (modes[0], modes[1]), (errors[0], errors[1])
