"""The battery: every metric of one scene, by name, with what each of them is.

>>> view = FrameView.of(usim.simulate("cyst"))  # doctest: +SKIP
>>> score(judged(view.truth_db, view))["ssim"]  # doctest: +SKIP
1.0
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from s2s.metrics import (
    contrast,
    detection,
    draws,
    edges,
    fidelity,
    homogeneity,
    invention,
    perceptual,
    removal,
    robustness,
    speckle,
    wires,
)
from s2s.metrics.frame_view import FrameView
from s2s.metrics.judged import IMAGE, Judged
from s2s.metrics.metric import Metric

#: Parts of the battery in the order of tables. Each has METRICS and a function `measure`.
GROUPS = (
    fidelity, speckle, edges, wires, detection, contrast, invention, draws, removal, robustness, perceptual,
    homogeneity,
)  # fmt: skip
METRICS: Mapping[str, Metric] = {metric.name: metric for group in GROUPS for metric in group.METRICS}


def metric_of(name: str) -> Metric:
    """What is measured under a name, or under its family: "gcnr/cyst" belongs to "gcnr/"."""
    return METRICS.get(name) or METRICS[name.partition("/")[0] + "/"]


def judged(image_db: ArrayLike, view: FrameView) -> Judged:
    """One image (H, W) to be judged by itself."""
    return Judged({IMAGE: np.asarray(image_db, dtype=np.float64)}, {IMAGE: view})


def score(scene: Judged) -> dict[str, float]:
    """Every metric of what a method made of a scene, by name.

    nan where a metric can't be measured in this scene, inf for the PSNR and ENL of the truth itself.
    Raises DataError when the image is too small for SSIM.
    """
    return {name: value for group in GROUPS for name, value in group.measure(scene).items()}
