"""How far images that several methods made of one image are apart. Methods may agree on an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s2s.metrics.metric import Metric

Array = NDArray[np.float64]

METRICS = (
    Metric("to_median", "to median", "agreement", "rms difference to the pixelwise median of all methods, curve fitted",
           "dB", "none", needs="three methods"),
    Metric("between/", "between", "agreement", "rms difference to another method's image, both curve fitted", "dB",
           "none"),
)  # fmt: skip


def rms(first: Array, second: Array) -> float:
    """Root mean square difference of two images (H, W), in dB.

    Both are given after the curve fit to the untouched image: then a display curve makes no difference.
    """
    return float(np.sqrt(np.mean((first - second) ** 2)))


def median_image(images: Sequence[Array]) -> Array | None:
    """Pixelwise median of images (H, W); None for fewer than three, which have no majority."""
    return np.median(np.stack(images), axis=0) if len(images) >= 3 else None
