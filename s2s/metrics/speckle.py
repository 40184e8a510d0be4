"""How much speckle is left, and how coarse it is: SNR, equivalent number of looks, width of the autocorrelation.

All look at a level in dB after a plane has been taken out of it: that of an image over its truth, or, where there is no
truth, that of the image itself in a place that looks uniform.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.frame_view import FrameView
from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Mean over standard deviation of the amplitude of fully developed speckle: sqrt(pi / (4 - pi)).
RAYLEIGH_SNR = math.sqrt(math.pi / (4.0 - math.pi))
#: dB: what varies by less is rounding. A float32 level of 60 dB is known to 4e-6 dB.
ROUNDING_DB = 1e-4

_NEEDS = "2 mm² of background, 1 mm from regions and borders, clear of points and 10 dB above black"
_CURVES = "any blur, any curve that compresses grey levels"

METRICS = (
    Metric(
        "snr", "SNR", "speckle left", "mean over standard deviation of the amplitude in the background; 1.91 for fully "
        "developed speckle", fooled_by=_CURVES, needs=_NEEDS,
    ),
    Metric(
        "enl", "ENL", "speckle left", "equivalent number of looks in the background; 1 for fully developed speckle",
        digits=1, fooled_by=_CURVES, needs=_NEEDS,
    ),
    Metric(
        "grain_axial_mm", "grain axial", "speckle left", "width of the autocorrelation of image - truth in the "
        "background, along the beam; beside it that of the untouched image", "mm", "lower", "grain_axial_noisy_mm",
        fooled_by="leaving the speckle as it is, or adding noise", needs=_NEEDS + ", and something left",
    ),
    Metric(
        "grain_axial_noisy_mm", "grain axial, noisy", "speckle left", "the same of the untouched image", "mm", "none",
        needs=_NEEDS,
    ),
    Metric(
        "grain_lateral_mm", "grain lateral", "speckle left", "the same across the beam", "mm", "lower",
        "grain_lateral_noisy_mm", fooled_by="leaving the speckle as it is, or adding noise",
        needs=_NEEDS + ", and something left",
    ),
    Metric(
        "grain_lateral_noisy_mm", "grain lateral, noisy", "speckle left", "the same of the untouched image", "mm",
        "none", needs=_NEEDS,
    ),
)  # fmt: skip


def detrended(level_db: ArrayLike, mask: Mask) -> Array:
    """The level in dB where `mask` (H, W) holds, less the plane that fits it there best (H, W); 0 elsewhere.

    The plane is that of least squares over rows and columns. An offset, and a tilt such as that of a wrong gain with
    depth, are no speckle.

    level_db: (H, W).
    """
    level, found = np.asarray(level_db, dtype=np.float64), np.zeros(mask.shape)
    if mask.any():
        places = np.stack([np.ones(mask.sum()), *(place - place.mean() for place in np.nonzero(mask))])
        values = level[mask]
        plane = np.linalg.lstsq(places @ places.T, places @ values, rcond=None)[0]
        found[mask] = values - plane @ places
    return found


def snr(rest_db: ArrayLike, mask: Mask) -> float:
    """Mean over standard deviation of the amplitude where `mask` (H, W) holds.

        A = 10^(rest / 20),   SNR = mean(A) / std(A)

    Burckhardt, IEEE Trans. Sonics Ultrason. 25 (1978) 1-6: sqrt(pi / (4 - pi)) = 1.913 for fully developed speckle.

    rest_db: detrended level (H, W).  inf where nothing varies, nan for an empty mask.

    >>> round(snr(20 * np.log10([[1.0, 3.0]]), np.ones((1, 2), bool)), 6)
    2.0
    """
    return math.sqrt(_mean_over_variance(rest_db, mask, 20.0))


def enl(rest_db: ArrayLike, mask: Mask) -> float:
    """Equivalent number of looks where `mask` (H, W) holds: mean^2 / variance of the intensity.

        I = 10^(rest / 10),   ENL = mean(I)^2 / var(I)

    Oliver and Quegan, Understanding SAR Images, 2004. 1 for fully developed speckle, L for the mean of L
    independent looks; less than 1 with few scatterers per cell.

    rest_db: detrended level (H, W).  inf where nothing varies, nan for an empty mask.

    >>> round(enl(10 * np.log10([[1.0, 3.0]]), np.ones((1, 2), bool)), 6)
    4.0
    """
    return _mean_over_variance(rest_db, mask, 10.0)


def _mean_over_variance(rest_db: ArrayLike, mask: Mask, decibels: float) -> float:
    """mean^2 / variance of 10^(rest / decibels)."""
    rest = np.asarray(rest_db, dtype=np.float64)[mask]
    if not rest.size:
        return math.nan
    if rest.std() < ROUNDING_DB:
        return math.inf
    # The largest value is taken out first, so that no image overflows.
    values = 10.0 ** ((rest - rest.max()) / decibels)
    return float(values.mean() ** 2 / values.var())


def grain(rest_db: ArrayLike, mask: Mask, pixel: tuple[float, float]) -> tuple[float, float]:
    """Full width at half maximum of the autocorrelation where `mask` (H, W) holds, in metres along (z, x).

        R(k) = sum of r(p) r(p + k) / number of pairs,   over pixels p and p + k inside the mask

    Each pair of pixels in one column (along z) or row (along x) counts once, whatever the shape of the mask; the
    crossing of R(0) / 2 is interpolated. White noise after a Gaussian blur of standard deviation s has
    2 sqrt(2 ln 2) sqrt(2) s = 3.33 s.

    rest_db: detrended level (H, W).  pixel: size in metres (z, x).  nan where nothing varies, for an empty mask, and
    where R does not fall to half within half of the image.
    """
    rest = np.where(mask, np.asarray(rest_db, dtype=np.float64), 0.0)
    if not mask.any() or rest[mask].std() < ROUNDING_DB:
        return math.nan, math.nan
    rest[mask] -= rest[mask].mean()
    return 2.0 * pixel[0] * _half_width(rest, mask), 2.0 * pixel[1] * _half_width(rest.T, mask.T)


def _half_width(rest: Array, mask: Mask) -> float:
    """Lag in rows at which the autocorrelation along columns has fallen to half."""
    lags = len(rest) // 2 + 1
    pairs = np.rint(_sums_of_products(mask.astype(np.float64), lags))
    correlation = _sums_of_products(rest, lags) / np.maximum(pairs, 1.0)
    below = np.flatnonzero((correlation <= correlation[0] / 2.0) | (pairs == 0))
    if not below.size or pairs[below[0]] == 0:
        return math.nan
    k = int(below[0])
    return float(k - (correlation[0] / 2.0 - correlation[k]) / (correlation[k - 1] - correlation[k]))


def _sums_of_products(values: Array, lags: int) -> Array:
    """Sums of v(p) v(p + k) over all columns, for k rows = 0 .. lags - 1."""
    from scipy import fft

    size = fft.next_fast_len(len(values) + lags, real=True)
    power = (np.abs(fft.rfft(values, size, axis=0)) ** 2).sum(axis=1)
    sums: Array = fft.irfft(power, size)[:lags]
    return sums


def _over_truth(image_db: ArrayLike, view: FrameView) -> Array:
    """The detrended level of an image over the truth (H, W), both as a screen shows them."""
    difference = shown(image_db, view.dynamic_range) - shown(view.truth_db, view.dynamic_range)
    return detrended(difference, view.background)


@lru_cache(maxsize=4)
def _of_noisy(view: FrameView) -> tuple[float, float]:
    """The grain of the untouched image."""
    return grain(_over_truth(view.noisy_db, view), view.background, view.pixel)


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene."""
    view, mask = scene.view, scene.view.background
    rest, untouched = _over_truth(scene.image, view), _of_noisy(view)
    widths = grain(rest, mask, view.pixel)
    return {
        "snr": snr(rest, mask),
        "enl": enl(rest, mask),
        "grain_axial_mm": 1e3 * widths[0],
        "grain_axial_noisy_mm": 1e3 * untouched[0],
        "grain_lateral_mm": 1e3 * widths[1],
        "grain_lateral_noisy_mm": 1e3 * untouched[1],
    }
