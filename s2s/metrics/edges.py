"""How sharp the borders of regions are: the width of the edge spread."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Metres: the profile reaches this far to either side, its plateaus begin here, its bins are this wide.
REACH, PLATEAU, BIN = 2.5e-3, 1.25e-3, 0.1e-3


def edge_width(image_db: ArrayLike, distance: Array, usable: NDArray[np.bool_]) -> float:
    """Width in metres over which the image (H, W) goes from 10 to 90 % of the step across a border.

    distance: signed distance to the border in metres, positive inside (H, W).  usable: pixels that count (H, W).

    The mean of the image in bins of 0.1 mm of distance, from -2.5 to 2.5 mm, is the edge-spread function averaged along
    the border; the means beyond 1.25 mm on either side are 0 and 100 %. A rising curve is fitted to it (isotonic
    regression, weighted by pixels), and the 10 and 90 % crossings are interpolated. An error function of standard
    deviation s gives 2.563 s. Widths above 2 mm come out too small, since the plateaus then lie on the edge.

    nan when a plateau has no pixels, when there is no step, or when the plateaus are too restless for a crossing.
    """
    near = usable & (np.abs(distance) < REACH)
    where, values = distance[near], np.asarray(image_db, dtype=np.float64)[near]
    inner, outer = values[where >= PLATEAU], values[where <= -PLATEAU]
    if not inner.size or not outer.size or inner.mean() == outer.mean():
        return math.nan
    step = (values - outer.mean()) / (inner.mean() - outer.mean())
    number = np.floor((where + REACH) / BIN).astype(np.intp)
    count = np.bincount(number)
    filled = count > 0
    profile = np.bincount(number, weights=step)[filled] / count[filled]
    # Centres of mass rather than of bins: there are few pixels in a bin.
    place = np.bincount(number, weights=where)[filled] / count[filled]
    return _rise(place, profile, count[filled])


def _rise(place: Array, profile: Array, count: NDArray[np.intp]) -> float:
    """Distance between the 10 and 90 % crossings of the rising curve nearest to a profile."""
    from scipy.optimize import isotonic_regression

    curve = isotonic_regression(profile, weights=count).x
    if curve[0] >= 0.1 or curve[-1] <= 0.9:
        return math.nan
    low, high = (_crossing(place, curve, level) for level in (0.1, 0.9))
    return high - low


def _crossing(place: Array, curve: Array, level: float) -> float:
    """Where a rising curve that begins below `level` reaches it."""
    k = int(np.argmax(curve >= level))
    return float(np.interp(level, curve[k - 1 : k + 1], place[k - 1 : k + 1]))
