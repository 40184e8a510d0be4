"""What was taken out of the image: it should look like speckle, and like nothing else."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from s2s.metrics.metric import Metric
from s2s.metrics.no_truth.seen import Areas, Output

Array = NDArray[np.float64]

#: Share of speckle's variance that is left after the smoothing: a Gaussian autocovariance of FWHM w has the variance
#: w^2 / (8 ln 2), to which 2 (2 w)^2 is added.
SPECKLE_LOW = 0.022

METRICS = (
    Metric("removed_std", "removed", "removed", "standard deviation of what was removed in areas of speckle, over "
           "the untouched image's", better="nearer", truth=1.0, needs="areas of speckle", fooled_by="any strong blur"),
    Metric("removed_width", "removed width", "removed", "width of the autocorrelation of what was removed in areas of "
           "speckle, over that of the speckle", better="nearer", truth=1.0, needs="areas of speckle",
           fooled_by="any strong blur"),
    Metric("removed_low", "removed low", "removed", "share of what was removed that is coarser than 2 speckle cells; "
           "speckle itself has 0.022", better="nearer", truth=SPECKLE_LOW, digits=3, needs="areas of speckle",
           fooled_by="structure removed and speckle left in, in balance"),
    Metric("removed_edges", "removed at edges", "removed", "rms of what was removed across strong edges, averaged "
           "along them", "dB", "lower", needs="strong edges", fooled_by="leaving the speckle in"),
    Metric("removed_follows", "removed follows", "removed", "correlation of the smoothed size of what was removed with "
           "the smoothed output's gradient", better="lower", needs="areas of speckle",
           fooled_by="leaving the speckle in, flattening the output"),
    Metric("bias", "bias", "removed", "mean of output - untouched, as they come", "dB", "none"),
)  # fmt: skip

#: dB: less than this was not removed, it was rounded.
LEAST_DB = 0.01


def half_width(rest: Array) -> tuple[float, float]:
    """Lags in pixels, along z and x, at which the mean autocovariance of areas (N, h, w) falls to a half.

    Linear between lags; nan where it does not fall so far within half of an area.
    """
    total = float(np.mean(rest**2))
    if not total:
        return math.nan, math.nan
    found = []
    for axis in (1, 2):
        along = np.moveaxis(rest, axis, -1)
        count = along.shape[-1]
        course = [float(np.mean(along[..., k:] * along[..., : count - k])) / total for k in range(count // 2 + 1)]
        below = [k for k, value in enumerate(course) if value < 0.5]
        if not below:
            return math.nan, math.nan
        k = below[0]
        found.append(k - 1 + (course[k - 1] - 0.5) / (course[k - 1] - course[k]))
    return found[0], found[1]


def relative_width(removed: Array, noisy: Array, areas: Areas) -> float:
    """Width of the autocovariance of what was removed (H, W) over that of the speckle, in the areas.

    Geometric mean of both directions. Speckle as it was: 1. Less: coarse speckle was left in. More: not only speckle
    was removed.
    """
    one, other = half_width(areas.rest(removed)), half_width(areas.rest(noisy))
    return math.sqrt(one[0] * one[1] / (other[0] * other[1]))


def low_share(removed: Array, smoothed: Array) -> float:
    """Variance of what was removed (H, W) after smoothing, over its variance; nan where nothing was removed."""
    variance = float(removed.var())
    return float(smoothed.var()) / variance if variance > 1e-9 else math.nan


def across(profile: Array, offsets: Array) -> float:
    """Root mean square in dB of a profile (T,) of what was removed, about its mean, within two cells of the edge."""
    near = profile[np.abs(offsets) <= 2.0]
    return float(near.std())


def correlation(first: Array, second: Array) -> float:
    """Pearson's coefficient of two images (H, W); nan where one of them is constant."""
    one, other = first - first.mean(), second - second.mean()
    scale = math.sqrt(float((one**2).sum()) * float((other**2).sum()))
    return float((one * other).sum()) / scale if scale > 1e-9 else math.nan


def measure(output: Output) -> dict[str, float]:
    """The group's metrics of an image; nan for what has no place in it, and where nothing was removed."""
    seen, removed = output.seen, output.removed
    found = {metric.name: math.nan for metric in METRICS}
    found["bias"] = float(np.mean(output.image - seen.noisy_db))
    if seen.areas is None or float(removed.std()) < LEAST_DB:
        return found
    found["removed_std"] = float(seen.areas.rest(removed).std()) / seen.speckle_db
    found["removed_width"] = relative_width(removed, seen.noisy_db, seen.areas)
    found["removed_low"] = low_share(removed, seen.smoothed(removed))
    gradient = np.hypot(*np.gradient(seen.smoothed(output.fitted)))
    found["removed_follows"] = correlation(seen.smoothed(np.abs(removed)), gradient)
    if seen.edges is not None:
        found["removed_edges"] = across(seen.edges.profile(removed), seen.edges.offsets)
    return found
