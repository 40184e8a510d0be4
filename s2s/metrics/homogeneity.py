"""Smoothness between neighbours: the Hom of the literature."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

METRICS = (
    Metric(
        "hom", "Hom", "gameable", "grey-level co-occurrence homogeneity; knows no truth", truth="hom_true", digits=3,
        fooled_by="any blur, any dark or flat display curve",
    ),
    Metric("hom_true", "Hom of the truth", "gameable", "the same of truth/bmode", better="none", digits=3),
)  # fmt: skip

#: Grey levels of the co-occurrence matrix.
LEVELS = 256


def hom(image_db: ArrayLike, dynamic_range: float) -> float:
    """Homogeneity of the grey-level co-occurrence matrix of the 8-bit image (H, W), 0 to 1.

        sum over i, j of P(i, j) / (1 + (i - j)^2)

    Haralick, Shanmugam and Dinstein, IEEE Trans. Syst. Man Cybern. 3 (1973) 610-621, with 256 levels over the dynamic
    range and pairs of neighbours in a row (distance 1, angle 0), as the Speckle2Self paper has it. The sum over the
    matrix is the mean over the pairs, which is how it is computed.

    It knows no truth and is at its largest, 1, for a constant image: any blur or flat display curve raises it.

    >>> hom(np.full((4, 4), -20.0), 60.0)
    1.0
    """
    grey = np.rint((shown(image_db, dynamic_range) / dynamic_range + 1.0) * (LEVELS - 1))
    return float(np.mean(1.0 / (1.0 + np.diff(grey, axis=1) ** 2)))


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene."""
    view = scene.view
    return {"hom": hom(scene.image, view.dynamic_range), "hom_true": hom(view.truth_db, view.dynamic_range)}
