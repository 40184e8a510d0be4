"""How sharp the borders of regions are: the width of the edge spread."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.detection import pair_means
from s2s.metrics.frame_view import PLATEAU, REACH
from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]

METRICS = (
    Metric("edge_mm", "edge", "resolution", "10 to 90 % width of the edges of regions", "mm", "nearer", "edge_true_mm"),
    Metric("edge_true_mm", "edge of the truth", "resolution", "the same of truth/bmode", "mm", "none"),
    Metric("edge_skipped", "left out", "resolution", "regions too small, or of less than 6 dB true contrast",
           better="none", digits=0),
)  # fmt: skip

#: True contrast in dB that an edge needs to be measured: speckle in the mean of a profile is about 1 dB.
LEAST_CONTRAST_DB = 6.0

#: Metres: the bins of the profile are this wide.
BIN = 0.1e-3


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


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene: means over the regions where image and truth can be measured."""
    view = scene.view
    image, truth = (shown(values, view.dynamic_range) for values in (scene.image, view.truth_db))
    pairs = []
    for region in view.regions:
        cut = truth[region.window]
        if not region.has_areas or not region.has_plateaus:
            continue
        if abs(cut[region.inside].mean() - cut[region.ring].mean()) < LEAST_CONTRAST_DB:
            continue
        widths = (
            1e3 * edge_width(image[region.window], region.distance, region.edge),
            1e3 * edge_width(cut, region.distance, region.edge),
        )
        if not any(map(math.isnan, widths)):
            pairs.append(widths)
    measured, true = pair_means(pairs)
    return {"edge_mm": measured, "edge_true_mm": true, "edge_skipped": float(len(view.regions) - len(pairs))}
