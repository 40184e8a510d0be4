"""What may be known of an image without truth: where speckle alone varies, and where strong edges run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from s2s.metrics.fidelity import shown
from s2s.metrics.no_truth.tone import curve_fit
from usim.errors import DataError
from usim.match.blocks import UNEVEN, find_blocks
from usim.match.cells import measure_cells
from usim.match.scan import WHITE

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Standard deviations of the smoothing in speckle cells (FWHM) under which edges are sought and low frequencies end:
#: some 45 cells are averaged, which leaves 0.8 dB of speckle. With 1.5 instead, speckle that lies along an edge helps
#: to find it, and the truth itself seems to have lost 20 % of the slope.
SMOOTHING = 2.0
#: dB above black from which on an area's mean must lie: clipped nulls would feign looks.
FLOOR_MARGIN_DB = 10.0
#: Shares of an area's pixels that may be black, and white.
MOST_BLACK, MOST_WHITE = 0.15, 0.01
#: dB: less than this varies in an image that was smoothed already; fully developed speckle has 5.57.
LEAST_STD_DB = 2.0
#: Correlation over two cells, along z or x, above which an area shows layers or fibres; speckle has 0 +- 0.1.
MOST_CORRELATED, CORRELATED_CELLS = 0.3, 2.0
#: Areas that are needed, and that are kept at most, the evenest first.
FEWEST_AREAS, MOST_AREAS = 4, 60
#: An edge's gradient over the root mean square of gradients in the areas of speckle; one in 8000 of those is above it.
STRONG = 3.0
#: Total length of edges in cells that is needed: a profile then keeps some 1.4 dB of speckle.
LEAST_LENGTH = 15.0
#: Stands for a cell in pixels where there is no speckle.
NO_CELL = (2.0, 2.0)
#: Profiles across edges reach this many cells to either side, in steps of so many.
REACH, STEP = 4.0, 0.25


@dataclass(frozen=True, eq=False)
class Areas:
    """Windows of speckle on nothing but a slope: first rows and columns (N, 2), and their sides in pixels."""

    corners: NDArray[np.intp]
    side: tuple[int, int]

    def rest(self, image: ArrayLike) -> Array:
        """The image (H, W) in every window, a plane taken off (N, h, w)."""
        cuts = np.lib.stride_tricks.sliding_window_view(np.asarray(image, dtype=np.float64), self.side)
        values = cuts[self.corners[:, 0], self.corners[:, 1]].reshape(len(self.corners), -1)
        z, x = np.mgrid[-1 : 1 : self.side[0] * 1j, -1 : 1 : self.side[1] * 1j]
        basis = np.linalg.qr(np.stack([np.ones(z.size), z.ravel(), x.ravel()], axis=1))[0]
        return np.asarray(values - (values @ basis) @ basis.T).reshape(-1, *self.side)

    def mask(self, shape: tuple[int, ...]) -> Mask:
        """Pixels (H, W) of the windows."""
        found = np.zeros(shape, dtype=bool)
        for row, column in self.corners:
            found[row : row + self.side[0], column : column + self.side[1]] = True
        return found


@dataclass(frozen=True, eq=False)
class Edges:
    """Strong edges: pixels (E, 2) on them, and towards the bright side one speckle cell in pixels (E, 2)."""

    points: Array
    across: Array

    @property
    def offsets(self) -> Array:
        """Places of the profile in cells, the dark side negative (T,)."""
        return np.arange(-REACH, REACH + STEP / 2, STEP)

    def profile(self, image: ArrayLike) -> Array:
        """The image (H, W) across the edges, averaged along all of them (T,): speckle cancels, what is common stays."""
        places = self.points[:, None, :] + self.offsets[None, :, None] * self.across[:, None, :]
        found = ndimage.map_coordinates(np.asarray(image, dtype=np.float64), places.reshape(-1, 2).T, order=1)
        return np.asarray(found.reshape(len(self.points), -1).mean(axis=0))


@dataclass(frozen=True, eq=False)
class Seen:
    """An untouched image and the places where metrics look. They are found on it once, the same for every method.

    noisy_db: (H, W), clipped to [-dynamic_range, 0].  dynamic_range: dB between black and white.
    """

    noisy_db: Array
    dynamic_range: float

    @cached_property
    def _cell(self) -> tuple[float, float] | DataError:
        lit = np.ones(self.noisy_db.shape, dtype=bool)
        try:
            return measure_cells(self.noisy_db, lit)[0].size
        except DataError as error:
            return error

    @cached_property
    def _areas(self) -> Areas | DataError:
        try:
            return find_areas(self.noisy_db, self.dynamic_range, _whole(self._cell))
        except DataError as error:
            return error

    @cached_property
    def _edges(self) -> Edges | DataError:
        try:
            return find_edges(self.noisy_db, _whole(self._cell), _whole(self._areas))
        except DataError as error:
            return error

    @property
    def cell(self) -> tuple[float, float] | None:
        """Axial and lateral FWHM of the speckle's autocovariance in pixels; None without speckle."""
        return None if isinstance(self._cell, DataError) else self._cell

    @property
    def areas(self) -> Areas | None:
        """Where nothing but speckle varies; None without such a place."""
        return None if isinstance(self._areas, DataError) else self._areas

    @property
    def edges(self) -> Edges | None:
        """Where the image changes much more than speckle does; None without such a place."""
        return None if isinstance(self._edges, DataError) else self._edges

    @property
    def missing(self) -> tuple[str, ...]:
        """Why areas or edges were not found, each reason once."""
        reasons = (str(found) for found in (self._areas, self._edges) if isinstance(found, DataError))
        return tuple(dict.fromkeys(reasons))

    @cached_property
    def speckle_db(self) -> float:
        """Standard deviation in dB of the untouched image in the areas; 5.57 when the display curve is right."""
        return math.nan if self.areas is None else float(self.areas.rest(self.noisy_db).std())

    @cached_property
    def profile(self) -> Array | None:
        """The untouched image across its edges in dB (T,)."""
        return None if self.edges is None else self.edges.profile(self.noisy_db)

    def smoothed(self, image: ArrayLike) -> Array:
        """An image (H, W) without what is as fine as speckle; the image itself where there is none."""
        sigma = [SMOOTHING * side for side in self.cell or (0.0, 0.0)]
        return np.asarray(ndimage.gaussian_filter(np.asarray(image, dtype=np.float64), sigma, mode="nearest"))


class Output:
    """What a method made of an image, and what follows from it once for all metrics.

    image: (H, W) in dB, clipped to the dynamic range.  seen: the image that it was made of.
    """

    def __init__(self, image_db: ArrayLike, seen: Seen) -> None:
        self.image, self.seen = shown(image_db, seen.dynamic_range), seen

    @cached_property
    def fitted(self) -> Array:
        """The image after the display curve that brings it closest to the untouched one."""
        seen = self.seen
        return curve_fit(self.image, seen.noisy_db, seen.dynamic_range, seen.cell or NO_CELL)

    @cached_property
    def removed(self) -> Array:
        """Untouched - fitted, in dB (H, W)."""
        return np.asarray(self.seen.noisy_db - self.fitted)

    @cached_property
    def profile(self) -> Array | None:
        """The fitted image across the edges of the untouched one in dB (T,)."""
        return None if self.seen.edges is None else self.seen.edges.profile(self.fitted)


def find_areas(image_db: ArrayLike, dynamic_range: float, cell: tuple[float, float]) -> Areas:
    """Windows of about 9 x 9 speckle cells in which an image (H, W) in dB shows speckle on a slope, and no structure.

    Their ninths differ no more than those of pure speckle do (variance of the ninths' means, `usim.match.blocks`), few
    pixels are black or white, the mean lies 10 dB or more above black, and pixels two cells apart have nothing in
    common.  cell: FWHM in pixels.

    Raises DataError where the image has fewer than four.
    """
    image = np.asarray(image_db, dtype=np.float64)
    grey = (image / dynamic_range + 1.0) * WHITE
    blocks = find_blocks(grey, np.ones(image.shape, dtype=bool), cell)
    cuts = np.lib.stride_tricks.sliding_window_view(image, blocks.side)[blocks.row, blocks.column]
    half = dynamic_range / WHITE / 2.0
    good = blocks.uneven < UNEVEN
    good &= blocks.mean >= WHITE * FLOOR_MARGIN_DB / dynamic_range
    good &= blocks.std * dynamic_range / WHITE >= LEAST_STD_DB
    good &= (cuts <= half - dynamic_range).mean(axis=(1, 2)) <= MOST_BLACK
    good &= (cuts >= -half).mean(axis=(1, 2)) <= MOST_WHITE
    for axis, size in zip((1, 2), cell, strict=True):
        along = np.moveaxis(blocks.rest.reshape(-1, *blocks.side), axis, -1)
        lag = min(round(CORRELATED_CELLS * size), along.shape[-1] - 1)
        shared = (along[..., lag:] * along[..., : along.shape[-1] - lag]).mean(axis=(1, 2))
        good &= shared <= MOST_CORRELATED * blocks.std**2
    chosen = np.flatnonzero(good)
    if len(chosen) < FEWEST_AREAS:
        raise DataError(
            f"{len(chosen)} areas of {blocks.side[0]} x {blocks.side[1]} pixels show speckle and nothing else, "
            f"{FEWEST_AREAS} are needed: the image is too small for its speckle, smoothed, dark, or full of structure; "
            "take it in full size, and check --domain and --dynamic-range"
        )
    chosen = np.sort(chosen[np.argsort(blocks.uneven[chosen])][:MOST_AREAS])
    return Areas(np.stack([blocks.row[chosen], blocks.column[chosen]], axis=1).astype(np.intp), blocks.side)


def find_edges(image_db: ArrayLike, cell: tuple[float, float], areas: Areas) -> Edges:
    """Strong edges of an image (H, W) in dB, far coarser than its speckle.

    Canny's (IEEE Trans. Pattern Anal. Mach. Intell. 8, 1986, 679-698): ridges of the gradient of the image smoothed by
    2 speckle cells, lengths being counted in cells, where it is 3 times that in the areas of speckle or more.

    Raises DataError where they are shorter than 15 cells altogether.
    """
    image, size = np.asarray(image_db, dtype=np.float64), np.array(cell)
    sigma = SMOOTHING * size
    down, right = (
        ndimage.gaussian_filter(image, sigma, order=order, mode="nearest") * side
        for order, side in zip(((1, 0), (0, 1)), size, strict=True)
    )
    steepness = np.hypot(down, right)
    noise = math.sqrt(float(np.mean(steepness[areas.mask(image.shape)] ** 2)))
    points = np.argwhere(steepness >= STRONG * noise)
    slope = np.stack([down, right], axis=-1)[points[:, 0], points[:, 1]]
    across = slope / np.linalg.norm(slope, axis=1, keepdims=True) * size
    # A ridge is higher than its neighbours one pixel away along the normal.
    normal = across / np.linalg.norm(across, axis=1, keepdims=True)
    beside = [ndimage.map_coordinates(steepness, (points + sign * normal).T, order=1) for sign in (-1.0, 1.0)]
    own = steepness[points[:, 0], points[:, 1]]
    inside = np.ones(len(points), dtype=bool)
    for sign in (-REACH, REACH):
        end = points + sign * across
        inside &= ((end >= 0) & (end <= np.array(image.shape) - 1)).all(axis=1)
    ridge = inside & (own > beside[0]) & (own >= beside[1])
    # One pixel along the edge is 1 / |tangent| cells long.
    tangent = np.stack([-normal[ridge, 1], normal[ridge, 0]], axis=1)
    length = float(np.linalg.norm(tangent / size, axis=1).sum())
    if length < LEAST_LENGTH:
        raise DataError(
            f"strong edges are {length:.0f} speckle cells long altogether, {LEAST_LENGTH:.0f} are needed: nothing is "
            "said of edges; take an image with borders of organs in it"
        )
    return Edges(points[ridge].astype(np.float64), across[ridge])


def _whole(found: Any) -> Any:
    """What was found; raises the error that was found instead."""
    if isinstance(found, DataError):
        raise found
    return found
