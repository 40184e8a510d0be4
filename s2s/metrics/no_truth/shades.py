"""Black, white and smooth: what a display curve does to an image, and the Hom of the literature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from s2s.metrics import homogeneity
from s2s.metrics.metric import Metric
from s2s.metrics.no_truth.seen import Output

#: Grey levels of 255 within which a pixel is black or white.
_HALF = 0.5 / 255.0

METRICS = (
    Metric("black", "black", "shades", "share of pixels that are exactly black", "%", "none"),
    Metric("white", "white", "shades", "share of pixels that are exactly white", "%", "none"),
    replace(homogeneity.METRICS[0], truth="", better="none"),
)


def measure(output: Output) -> dict[str, float]:
    """The group's metrics of an image."""
    level = output.image / output.seen.dynamic_range + 1.0
    return {
        "black": 100.0 * float(np.mean(level <= _HALF)),
        "white": 100.0 * float(np.mean(level >= 1.0 - _HALF)),
        "hom": homogeneity.hom(output.image, output.seen.dynamic_range),
    }
