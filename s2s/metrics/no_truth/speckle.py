"""How much still varies where the untouched image shows speckle and nothing else: looks and signal-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.metric import Metric
from s2s.metrics.no_truth.seen import Areas, Output

Array = NDArray[np.float64]

_NEEDS = "four areas of speckle and nothing else"
_BLUR = "any blur"
METRICS = (
    Metric("area_enl", "ENL", "speckle left", "equivalent number of looks in the areas of speckle, a plane taken off",
           digits=1, needs=_NEEDS, fooled_by="any blur, any curve that compresses grey levels"),
    Metric("area_enl_fit", "ENL fit", "speckle left", "the same after the curve fit to the untouched image", digits=1,
           needs=_NEEDS, fooled_by=_BLUR),
    Metric("area_snr_fit", "SNR fit", "speckle left",
           "mean over standard deviation of the envelope there, after the curve fit; 1.91 for fully developed speckle",
           needs=_NEEDS, fooled_by=_BLUR),
    Metric("grey_enl", "grey ENL", "speckle left",
           "mean^2 / variance of the grey levels in the same areas, the ENL of many papers", digits=1, needs=_NEEDS,
           fooled_by="any blur, any curve, and any brightening: the level of black decides it"),
)  # fmt: skip


def squared_variation(values: Array) -> float:
    """Square of the coefficient of variation, var / mean^2, the median over areas (N, h, w).

    The median, since an area with a bright fibre in it has a hundred times the variation of the others.
    """
    return float(np.median(values.var(axis=(1, 2)) / values.mean(axis=(1, 2)) ** 2))


def area_enl(image_db: ArrayLike, areas: Areas) -> float:
    """Equivalent number of looks of an image (H, W) in dB in areas of speckle, each on a plane in dB.

        I = 10^((image - plane) / 10),   ENL = median over areas of mean(I)^2 / var(I)

    Oliver and Quegan, Understanding SAR Images, 2004. 1 for fully developed speckle, L for the mean of L independent
    looks; inf where nothing varies. The plane takes with it the speckle that looks like a slope: 3 of some 80 cells.
    """
    variation = squared_variation(10.0 ** (areas.rest(image_db) / 10.0))
    return 1.0 / variation if variation > 1e-12 else math.inf


def area_snr(image_db: ArrayLike, areas: Areas) -> float:
    """Mean over standard deviation of the envelope 10^((image - plane) / 20) in areas of speckle, the median over them.

    1.91 for fully developed speckle (Burckhardt, IEEE Trans. Sonics Ultrason. 25, 1978, 1-6); inf without variation.
    """
    variation = squared_variation(10.0 ** (areas.rest(image_db) / 20.0))
    return 1.0 / math.sqrt(variation) if variation > 1e-12 else math.inf


def grey_enl(image_db: ArrayLike, areas: Areas, dynamic_range: float) -> float:
    """mean^2 / var of the grey levels, 0 for black, a plane in grey taken off in each area and its mean left.

    What the literature often reports as ENL. A brighter image has more of it, with the speckle that it had.
    """
    grey = np.asarray(image_db, dtype=np.float64) / dynamic_range + 1.0
    cuts = np.lib.stride_tricks.sliding_window_view(grey, areas.side)[areas.corners[:, 0], areas.corners[:, 1]]
    variation = squared_variation(areas.rest(grey) + np.maximum(cuts.mean(axis=(1, 2), keepdims=True), 1e-6))
    return 1.0 / variation if variation > 1e-12 else math.inf


def measure(output: Output) -> dict[str, float]:
    """The group's metrics of an image; nan where the image has no areas."""
    seen = output.seen
    if seen.areas is None:
        return {metric.name: math.nan for metric in METRICS}
    return {
        "area_enl": area_enl(output.image, seen.areas),
        "area_enl_fit": area_enl(output.fitted, seen.areas),
        "area_snr_fit": area_snr(output.fitted, seen.areas),
        "grey_enl": grey_enl(output.image, seen.areas, seen.dynamic_range),
    }
