"""How good a filter is on images without truth: what it says of pixels that it was not shown.

Batson and Royer, "Noise2Self: Blind Denoising by Self-Supervision", ICML 2019 (arXiv 1901.11365); scikit-image's
`calibrate_denoiser` hides single pixels. Speckle reaches over a cell, so that the neighbours of a hidden pixel give its
noise away, and the best filter of white noise is then the one that does nothing. Here whole blocks are hidden, larger
than a cell, and only their centres are asked for. With y the image, s the truth and f what the filter makes of the
image with hidden blocks, at centres

    E (f - y)^2 = E (f - s)^2 + E (y - s)^2

because f does not depend on y there; the last term is the same for all settings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.evaluation.controls import Denoise, Image
from usim.errors import DataError
from usim.speckle_size import cell_size

Array = NDArray[np.float64]

#: The nearest pixel shown is this many cells from a block's centre: noise in dB correlates by 0.04 there. On the
#: validation suite 1.25 cells chose a Gaussian blur of 5 instead of 4 pixels, since too much of the anatomy is hidden.
REACH = 1.0
#: Standard deviation of the local mean that fills a block, in units of that distance; 1 smears edges.
WIDTH = 0.5
#: Side of the square of blocks of which one is hidden: a ninth of the pixels.
PERIOD = 3


@dataclass(frozen=True, eq=False)
class Hidden:
    """An image with hidden blocks: what a filter is shown (H, W) in dB, and the blocks' centres with what is there.

    hidden: true where pixels were replaced (H, W).  rows, columns: of the centres, (R,) and (C,).  values: the noisy
    image at the centres (R, C).
    """

    shown: Image
    hidden: NDArray[np.bool_]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: Image


def half_block(image_db: Image, reach: float = REACH) -> tuple[int, int]:
    """Rows and columns from a block's centre to the nearest pixel shown, for an image (H, W) in dB.

    reach: in speckle cells, which are measured in the image. A block has 2 n - 1 pixels a side.
    Raises DataError where no speckle is found, or where the image is too small for blocks of its cells.
    """
    down, right = (max(math.ceil(reach * side), 1) for side in cell_size(image_db, exponent=0.0))
    height, width = (PERIOD * (2 * half - 1) for half in (down, right))
    if image_db.shape[0] < height or image_db.shape[1] < width:
        raise DataError(
            f"image: {image_db.shape[0]} x {image_db.shape[1]} pixels are too few to hide blocks of "
            f"{2 * down - 1} x {2 * right - 1}, which its speckle asks for; {height} x {width} or more are needed"
        )
    return down, right


def hide(image_db: Image, half: tuple[int, int], offset: tuple[int, int]) -> Hidden:
    """Hide every third block of every third row of blocks.

    half: see half_block.  offset: row and column of the first centre, less than three blocks.

    A hidden pixel becomes the local mean of the pixels shown, a Gaussian one half as wide as the block; on top comes
    what the pixel one block further down and right has beside its own local mean: speckle as real as any, without
    which filters that look for edges and likeness would be fooled by the smooth patch.
    """
    taken = [_taken(side, n, first) for side, n, first in zip(image_db.shape, half, offset, strict=True)]
    hidden = taken[0][:, None] & taken[1][None, :]
    mean = _mean_of_shown(image_db, ~hidden, half)
    donors = [_donors(side, 2 * n - 1) for side, n in zip(image_db.shape, half, strict=True)]
    speckle = (image_db - mean)[np.ix_(*donors)]
    seen = image_db[~hidden]
    shown = np.where(hidden, np.clip(mean + speckle, seen.min(), seen.max()), image_db).astype(image_db.dtype)
    rows, columns = (
        np.arange(first, side, PERIOD * (2 * n - 1))
        for side, n, first in zip(image_db.shape, half, offset, strict=True)
    )
    return Hidden(shown, hidden, rows, columns, image_db[np.ix_(rows, columns)])


def hidden_views(image_db: Image, count: int, random: np.random.Generator, reach: float = REACH) -> list[Hidden]:
    """The image with hidden blocks in `count` different places, drawn at random without repetition."""
    half = half_block(image_db, reach)
    down, right = (PERIOD * (2 * n - 1) for n in half)
    places = random.choice(down * right, min(count, down * right), replace=False)
    return [hide(image_db, half, divmod(int(place), right)) for place in places]


def self_error(denoise: Denoise, views: Sequence[Hidden], dynamic_range: float) -> float:
    """Mean squared difference at hidden centres between what a filter makes of the views and what was there.

    In units of dynamic_range^2. The variance of the noise is in it, the same for every filter.
    """
    squares = []
    for view in views:
        made = np.clip(denoise(view.shown.copy()), -dynamic_range, 0.0)[np.ix_(view.rows, view.columns)]
        squares.append(((made - np.clip(view.values, -dynamic_range, 0.0)) / dynamic_range).ravel() ** 2)
    return float(np.concatenate(squares).mean())


def _taken(side: int, half: int, first: int) -> NDArray[np.bool_]:
    """Which rows, or columns, blocks lie in; blocks at the border are cut by it."""
    block = 2 * half - 1
    return np.asarray((np.arange(side) - first + half - 1) % (PERIOD * block) < block)


def _donors(side: int, block: int) -> NDArray[np.intp]:
    """The row, or column, that lends its speckle to each: one block further, or one block back at the border."""
    place = np.arange(side)
    return np.where(place + block < side, place + block, place - block)


def _mean_of_shown(image: Image, shown: NDArray[np.bool_], half: tuple[int, int]) -> Array:
    values = np.where(shown, image, 0.0).astype(np.float64)
    sigma = [WIDTH * n for n in half]
    total, weight = (ndimage.gaussian_filter(one, sigma, truncate=6.0) for one in (values, shown.astype(np.float64)))
    return total / weight
