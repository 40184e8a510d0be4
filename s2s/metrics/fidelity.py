"""Closeness to the image without speckle: PSNR and SSIM, raw and after the best monotone tone curve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric
from usim.errors import DataError

Array = NDArray[np.float64]

METRICS = (
    Metric("psnr", "PSNR", "fidelity", "20 log10(dynamic range / rms error) against truth/bmode", "dB"),
    Metric("psnr_fit", "PSNR fit", "fidelity", "PSNR after the rising tone curve that brings the image closest", "dB"),
    Metric("ssim", "SSIM", "fidelity", "structural similarity to truth/bmode", digits=3),
    Metric("ssim_fit", "SSIM fit", "fidelity", "SSIM after the same tone curve", digits=3),
)

#: Standard deviation of SSIM's Gaussian window in pixels, and the smallest side of an image that holds the window.
SSIM_SIGMA, SSIM_SIDE = 1.5, 11


def shown(image_db: ArrayLike, dynamic_range: float) -> Array:
    """The image, any shape, as a screen shows it: clipped to [-dynamic_range, 0] dB."""
    return np.clip(np.asarray(image_db, dtype=np.float64), -dynamic_range, 0.0)


def psnr(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float) -> float:
    """Peak signal-to-noise ratio in dB, both images (H, W) being clipped to the dynamic range first.

        20 log10(dynamic_range / rms(image - truth))

    inf when the images are equal.

    >>> round(psnr(np.full((2, 2), -20.0), np.full((2, 2), -26.0), 60.0), 6)
    20.0
    """
    difference = shown(image_db, dynamic_range) - shown(truth_db, dynamic_range)
    rms = math.sqrt(float(np.mean(difference**2)))
    return 20.0 * math.log10(dynamic_range / rms) if rms else math.inf


def ssim(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float) -> float:
    """Mean structural similarity (H, W), 1 for equal images; both are clipped to the dynamic range first.

    Wang, Bovik, Sheikh and Simoncelli, IEEE Trans. Image Process. 13 (2004) 600-612, with their window: Gaussian,
    sigma 1.5 pixels, cut at 11 x 11, population covariances, K1 = 0.01, K2 = 0.03, data range = dynamic_range.

    Raises DataError when a side is shorter than the window.
    """
    from skimage.metrics import structural_similarity

    image, truth = shown(image_db, dynamic_range), shown(truth_db, dynamic_range)
    if min(image.shape) < SSIM_SIDE:
        height, width = image.shape
        raise DataError(f"image: {height} x {width} pixels; SSIM needs {SSIM_SIDE} or more a side; use larger images")
    value = structural_similarity(  # type: ignore[no-untyped-call]
        image,
        truth,
        data_range=dynamic_range,
        gaussian_weights=True,
        sigma=SSIM_SIGMA,
        use_sample_covariance=False,
    )
    return float(value)


def tone_fit(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float) -> Array:
    """The image (H, W) after the rising curve that brings it closest to the truth in the mean square.

    Isotonic regression (Barlow, Bartholomew, Bremner and Brunk 1972) of the truth, clipped to the dynamic range, on
    the image's values; pixels of equal value stay equal. A gamma, an offset or any other rising curve that was applied
    to the image changes nothing in the result, so that no method gains or loses by its display curve. The image is not
    clipped before the fit. The fit sees the truth: it is for judging, not for denoising.
    """
    from scipy.optimize import isotonic_regression

    image = np.asarray(image_db)
    truth = shown(truth_db, dynamic_range)
    _, place, count = np.unique(image, return_inverse=True, return_counts=True)
    mean = np.bincount(place.ravel(), weights=truth.ravel()) / count
    curve: Array = isotonic_regression(mean, weights=count).x
    return curve[place.reshape(image.shape)]


def fidelity(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float) -> dict[str, float]:
    """PSNR and SSIM of an image (H, W), raw and after the tone fit, by name."""
    fitted = tone_fit(image_db, truth_db, dynamic_range)
    return {
        "psnr": psnr(image_db, truth_db, dynamic_range),
        "psnr_fit": psnr(fitted, truth_db, dynamic_range),
        "ssim": ssim(image_db, truth_db, dynamic_range),
        "ssim_fit": ssim(fitted, truth_db, dynamic_range),
    }


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene."""
    return fidelity(scene.image, scene.view.truth_db, scene.view.dynamic_range)
