"""Blocks of even speckle: where tissue changes least, so that what varies is speckle alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from usim.errors import DataError
from usim.match.scan import WHITE

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
CELLS: Final = 9.0  # a block's sides, in speckle cells
LEAST_SIDE, MOST_SHARE = 8, 6  # pixels; of the image's side, one in so many
FEWEST: Final = 12  # blocks
PARTS: Final = 3  # a side is divided into, to see whether a block is even
UNEVEN: Final = 1.4  # variance of the parts' means over that of pure speckle: 80 % of pure blocks are below
MOST_CUT: Final = 0.3  # of a block's pixels at black or white


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks (N,) of sides (z, x) pixels: first rows and columns, greys, and how far from even each is.

    mean (N,): of the grey. rest (N, P): grey less the fitted plane, scaled up for what the plane took of the speckle.
    cut (N,): share of pixels at black or white. uneven (N,): variance of the parts' means over that of pure speckle.
    cells: independent cells per block.
    """

    side: tuple[int, int]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    mean: Array
    rest: Array
    cut: Array
    uneven: Array
    cells: float

    @property
    def std(self) -> Array:
        """Standard deviation of the speckle in grey (N,)."""
        return np.sqrt(np.mean(self.rest**2, axis=1))

    def autocovariance(self) -> tuple[Array, Array]:
        """Mean autocovariance along z (lags 0 to a third of the side) and along x, 1 at lag 0."""
        values = self.rest.reshape(-1, *self.side)
        variance = float(np.mean(values**2))
        found = []
        for axis, count in zip((1, 2), self.side, strict=True):
            along = np.moveaxis(values, axis, -1)
            found.append(
                np.array([np.mean(along[..., : count - k] * along[..., k:]) for k in range(count // 3 + 1)]) / variance
            )
        return found[0], found[1]

    def even(self) -> Blocks:
        """Blocks in which nothing but speckle varies and little is clipped; the evenest where there are few.

        Raises DataError where the picture has too few blocks for any statistics.
        """
        usable = np.nonzero((self.cut <= MOST_CUT) & (self.std > 0.3))[0]
        if len(usable) < FEWEST:
            raise DataError(
                f"{len(usable)} blocks of {self.side[1]} x {self.side[0]} pixels show speckle, at least {FEWEST} are "
                "needed: the picture is too small for its speckle, black, or no ultrasound image; take it in full size"
            )
        order = usable[np.argsort(self.uneven[usable])]
        return self.taken(order[: max(FEWEST, int(np.sum(self.uneven[order] < UNEVEN)))])

    def taken(self, chosen: NDArray[np.int64]) -> Blocks:
        """Some of the blocks, by their numbers."""
        rows = (getattr(self, name)[chosen] for name in ("row", "column", "mean", "rest", "cut", "uneven"))
        return Blocks(self.side, *rows, self.cells)

    def mask(self, shape: tuple[int, int]) -> Mask:
        """Pixels (Z, X) of the blocks."""
        found = np.zeros(shape, dtype=bool)
        for z, x in zip(self.row, self.column, strict=True):
            found[z : z + self.side[0], x : x + self.side[1]] = True
        return found


def find_blocks(image: Array, seen: Mask, cell: tuple[float, float]) -> Blocks:
    """Cut an image (Z, X) into half overlapping blocks of some speckle cells, a plane taken off each.

    seen: (Z, X), where there are echoes; blocks lie wholly inside. cell: axial and lateral FWHM of the speckle's
    autocovariance C, pixels, taken as a Gaussian: of the variance of speckle the plane with the orthonormal basis q
    takes the share sum(q' C q) / P, and the mean of a part keeps the mean of C over the part.
    """
    side = tuple(
        min(max(round(CELLS * c), LEAST_SIDE), max(n // MOST_SHARE, LEAST_SIDE))
        for c, n in zip(cell, image.shape, strict=True)
    )
    side = (side[0] // PARTS * PARTS, side[1] // PARTS * PARTS)
    step = tuple(max(s // 2, 1) for s in side)

    def windows(values: NDArray[np.generic]) -> NDArray[np.generic]:
        found = np.lib.stride_tricks.sliding_window_view(values, side)[:: step[0], :: step[1]]
        return found.reshape(-1, side[0] * side[1])

    whole = windows(seen).all(axis=1)
    rows, columns = np.mgrid[: image.shape[0] - side[0] + 1 : step[0], : image.shape[1] - side[1] + 1 : step[1]]
    values = windows(image)[whole].astype(np.float64)
    basis = _plane(side)
    rest = values - (values @ basis) @ basis.T
    axial, lateral = (_covariance(n, c) for n, c in zip(side, cell, strict=True))
    pixels = side[0] * side[1]
    taken = sum(_energy(q.reshape(side), axial, lateral) for q in basis.T) / pixels
    part = math.prod(_covariance(n // PARTS, c).mean() for n, c in zip(side, cell, strict=True))
    rest /= math.sqrt(max(1.0 - taken, 0.2))
    parts = rest.reshape(-1, PARTS, side[0] // PARTS, PARTS, side[1] // PARTS).mean(axis=(2, 4))
    variance = np.maximum(np.mean(rest**2, axis=1), 1e-12)
    expected = max(part - taken, 0.05 * part) / max(1.0 - taken, 0.2)
    return Blocks(
        side,
        rows.ravel()[whole],
        columns.ravel()[whole],
        values.mean(axis=1),
        rest,
        np.mean((values <= 0.5) | (values >= WHITE - 0.5), axis=1),
        parts.var(axis=(1, 2)) / variance / expected,
        pixels / float(axial.sum() * lateral.sum() / pixels),
    )


def _plane(side: tuple[int, int]) -> Array:
    """Orthonormal constant, slope in z and slope in x, (P, 3)."""
    z, x = (np.arange(n) - (n - 1) / 2.0 for n in side)
    columns = [np.ones(side), np.broadcast_to(z[:, None], side), np.broadcast_to(x, side)]
    return np.stack([c.ravel() / np.linalg.norm(c) for c in columns], axis=1)


def _covariance(count: int, cell: float) -> Array:
    """Covariance of speckle between `count` pixels in a row, 1 for a pixel itself."""
    lag = np.arange(count)
    return np.exp(-4.0 * math.log(2.0) * ((lag[:, None] - lag) / cell) ** 2)


def _energy(q: Array, axial: Array, lateral: Array) -> float:
    return float(np.sum(q * (axial @ q @ lateral)))
