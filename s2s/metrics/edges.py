"""How sharp the borders of regions are: the width of the edge spread."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from s2s.metrics.detection import pair_means
from s2s.metrics.frame_view import PLATEAU, REACH, FrameView, Region
from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]

_NEEDS = "edges of regions of 2 mm or more on both sides and 5 dB or more"
METRICS = (
    Metric("edge_mm", "edge", "resolution", "10 to 90 % width of the edges of regions", "mm", "nearer", "edge_true_mm",
           fooled_by="a stretch that cuts levels off", needs=_NEEDS),
    Metric("edge_true_mm", "edge of the truth", "resolution", "the same of truth/bmode", "mm", "none", needs=_NEEDS),
    Metric("edge_skipped", "left out", "resolution", "regions too small, of less than 5 dB true contrast, or with an "
           "edge that is lost", better="none", digits=0, needs="regions"),
    Metric("edge/", "edge", "resolution", "edge width of the regions of one name", "mm", "none", needs=_NEEDS),
    Metric("edge_true/", "edge of the truth", "resolution", "the same of truth/bmode", "mm", "none", needs=_NEEDS),
)  # fmt: skip

#: True contrast in dB that an edge needs to be measured: speckle leaves about 1 dB in the mean of a profile's bin.
LEAST_CONTRAST_DB = 5.0
#: Share of the true contrast below which an edge is lost, and its width means nothing.
LEAST_SHARE = 0.25

#: Metres: the bins of the profile are this wide.
BIN = 0.1e-3
#: Metres: how far the middle of an edge may lie from the border. In dB that of a soft edge of 12 dB lies 0.4 mm off.
SHIFT = 1.5e-3
#: Metres: standard deviations of the error functions that are tried.
NARROWEST, WIDEST = 0.03e-3, 3e-3
#: 10 to 90 % of an error function in standard deviations.
TEN_TO_NINETY = 2.5631


@dataclass(frozen=True, eq=False)
class Edge:
    """Pixels near a border, in bins by their distance to it.

    pixels: flat indices (N,).  bins: number of the bin of each (N,).  place: mean distance in metres of each bin's
    pixels (B,).  weight: share of the pixels in each bin (B,).
    """

    pixels: NDArray[np.intp]
    bins: NDArray[np.intp]
    place: Array
    weight: Array

    @classmethod
    def of(cls, distance: Array, usable: NDArray[np.bool_]) -> Edge | None:
        """The edge at distance 0; None when there are no pixels beyond 1.25 mm on one of its sides.

        distance: signed distance to the border in metres, positive inside (H, W).  usable: pixels that count (H, W).
        """
        pixels = np.flatnonzero(usable & (np.abs(distance) < REACH))
        where = distance.ravel()[pixels]
        if not (where >= PLATEAU).any() or not (where <= -PLATEAU).any():
            return None
        bins = np.minimum(np.floor((where + REACH) / BIN).astype(np.intp), len(_places()) - 1)
        weight = np.bincount(bins, minlength=len(_places())).astype(np.float64)
        # Centres of mass rather than of bins: there are few pixels in a bin.
        place = np.bincount(bins, weights=where, minlength=len(weight)) / np.maximum(weight, 1.0)
        return cls(pixels, bins, place, weight / len(pixels))

    def fit(self, image_db: ArrayLike) -> tuple[float, float]:
        """Width in metres over which the image (H, W) goes from 10 to 90 % of its step across the border, and the step
        in dB, positive where the inside is brighter.

        The mean of the image in bins of 0.1 mm of distance, from -4 to 4 mm as far as there are pixels, is the
        edge-spread function averaged along the border. An error function is fitted to it by least squares, bins
        weighted by pixels:

            outside + step Phi((distance - middle) / s),   width = 2.563 s

        with all four free, and s up to 3 mm, that is 7.7 mm of width. The ends of the step need not lie in the image,
        and speckle moves the width to both sides alike; crossings of a profile or of a rising curve through it come out
        20 to 40 % too wide in speckle.

        nan when nothing varies.
        """
        values = np.asarray(image_db, dtype=np.float64).ravel()[self.pixels]
        if values.min() == values.max():
            return math.nan, math.nan
        share = self.weight * len(values)
        profile = np.bincount(self.bins, weights=values - values.mean(), minlength=len(share)) / np.maximum(share, 1.0)
        return _fit(self.place, profile, self.weight)


def _fit(place: Array, profile: Array, weight: Array) -> tuple[float, float]:
    """Width and step of the error function nearest to a profile of weighted mean 0: a grid of middles and widths, and
    ever finer ones around its best."""
    middles, logs = _grid()
    middle, log, _ = _best(_templates(), profile, weight, middles, logs)
    apart = np.array([middles[1] - middles[0], logs[1] - logs[0]])
    for _ in range(4):
        apart /= 3.0
        middles, logs = middle + apart[0] * _STEPS, np.minimum(log + apart[1] * _STEPS, math.log(WIDEST))
        curves = ndtr((place - middles[:, None, None]) / np.exp(logs)[:, None])
        middle, log, step = _best(curves, profile, weight, middles, logs)
    return TEN_TO_NINETY * math.exp(log), step


#: Values to either side of the best one that are tried next, in steps of a third of the last ones.
_STEPS = np.arange(-3.0, 4.0)


def _best(curves: Array, profile: Array, weight: Array, middles: Array, logs: Array) -> tuple[float, float, float]:
    """Middle, logarithm of the width, and step of the curve (M, S, B) that leaves the smallest squares."""
    mean = curves @ weight
    with_profile = curves @ (weight * profile)
    # Near nothing where a curve has no pixels on one side: it explains nothing there.
    spread = np.maximum(np.square(curves) @ weight - mean**2, 1e-9)
    k = np.unravel_index(int(np.argmax(with_profile**2 / spread)), spread.shape)
    return float(middles[k[0]]), float(logs[k[1]]), float(with_profile[k] / spread[k])


def _places() -> Array:
    """Middles of all bins (B,)."""
    return (np.arange(round(2 * REACH / BIN), dtype=np.float64) + 0.5) * BIN - REACH


def _grid() -> tuple[Array, Array]:
    """Middles and logarithms of widths that are tried first."""
    return np.linspace(-SHIFT, SHIFT, 13), np.linspace(math.log(NARROWEST), math.log(WIDEST), 12)


@lru_cache(maxsize=1)
def _templates() -> Array:
    """Curves of the first grid at the middles of bins (M, S, B)."""
    middles, logs = _grid()
    curves: Array = ndtr((_places() - middles[:, None, None]) / np.exp(logs)[:, None])
    return curves


@lru_cache(maxsize=1)
def _true_edges(view: FrameView) -> tuple[tuple[Region, Edge, float, float], ...]:
    """Regions whose edge can be measured in the truth, with its width there in metres and its step in dB.

    Kept for the next method's image of the same scene.
    """
    truth = shown(view.truth_db, view.dynamic_range)
    large = [region for region in view.regions if region.has_areas and region.has_plateaus]
    edges = [(region, edge) for region in large if (edge := Edge.of(region.distance, region.edge))]
    fits = [(region, edge, *edge.fit(truth[region.window])) for region, edge in edges]
    return tuple(one for one in fits if abs(one[3]) >= LEAST_CONTRAST_DB)


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene: means over the regions where image and truth can be measured, and over those of
    each name."""
    view = scene.view
    if not view.regions:
        return {}
    image = shown(scene.image, view.dynamic_range)
    found: dict[str, list[tuple[float, float]]] = {}
    for region, edge, true, true_step in _true_edges(view):
        width, step = edge.fit(image[region.window])
        if step / true_step >= LEAST_SHARE:
            found.setdefault(region.name, []).append((1e3 * width, 1e3 * true))
    pairs = [pair for of_name in found.values() for pair in of_name]
    measured, true = pair_means(pairs)
    scores = {"edge_mm": measured, "edge_true_mm": true, "edge_skipped": float(len(view.regions) - len(pairs))}
    for name, of_name in found.items():
        scores[f"edge/{name}"], scores[f"edge_true/{name}"] = pair_means(of_name)
    return scores
