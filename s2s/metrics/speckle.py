"""How much speckle is left: the equivalent number of looks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.fidelity import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

METRICS = (
    Metric(
        "enl", "ENL", "speckle left", "equivalent number of looks in the background; 1 for fully developed speckle",
        digits=1, fooled_by="any blur, any curve that compresses grey levels",
    ),
)  # fmt: skip


def enl(image_db: ArrayLike, truth_db: ArrayLike, mask: NDArray[np.bool_]) -> float:
    """Equivalent number of looks where `mask` (H, W) holds: mean^2 / variance of the intensity over the truth's.

        I = 10^((image - truth) / 10),   ENL = mean(I)^2 / var(I)

    Oliver and Quegan, Understanding SAR Images, 2004. 1 for fully developed speckle, L for the mean of L
    independent looks; less than 1 with few scatterers per cell. Dividing by the truth keeps true changes of
    brightness out of the variance; a constant offset cancels. inf where nothing varies, nan for an empty mask.

    >>> mask = np.ones((1, 2), bool)
    >>> round(enl(10 * np.log10([[1.0, 3.0]]), np.zeros((1, 2)), mask), 6)
    4.0
    """
    difference = (np.asarray(image_db, dtype=np.float64) - np.asarray(truth_db, dtype=np.float64))[mask]
    if not difference.size:
        return math.nan
    # The largest value is taken out first, so that no image overflows.
    intensity = 10.0 ** ((difference - difference.max()) / 10.0)
    variance = float(intensity.var())
    return float(intensity.mean()) ** 2 / variance if variance else math.inf


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene."""
    view = scene.view
    image, truth = (shown(values, view.dynamic_range) for values in (scene.image, view.truth_db))
    return {"enl": enl(image, truth, view.background)}
