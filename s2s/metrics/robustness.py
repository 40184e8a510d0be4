"""What a changed image costs a method: the same anatomy with another gain, grey curve, pixel size, tile or probe."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.fidelity import psnr, tone_fit
from s2s.metrics.judged import CHANGED, PROBE, Judged
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]

#: The change that moves the image under the method, and the name under which another probe is found.
TILE, OTHER_PROBE = "shifted tile", "another probe"
_NEEDS = "changed images of the scene, which only the first scenes of one suite have"
_NOTHING_TO_LOSE = "an image that was bad before the change"

METRICS = (
    Metric("robust_psnr", "PSNR worst change", "robustness", "PSNR fit after the change that costs most", "dB",
           needs=_NEEDS),
    Metric("robust", "worst change", "robustness", "PSNR fit gained by the change that costs most", "dB", truth=0.0,
           needs=_NEEDS, fooled_by=_NOTHING_TO_LOSE),
    Metric("robust/", "change", "robustness", "PSNR fit gained by one change", "dB", truth=0.0, needs=_NEEDS,
           fooled_by=_NOTHING_TO_LOSE),
    Metric("tile_db", "tile", "robustness", "rms by which a tile that begins 5 pixels later differs", "dB",
           "lower", 0.0, needs=_NEEDS, fooled_by="a constant image"),
)  # fmt: skip


def psnr_fit(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float, mask: NDArray[np.bool_]) -> float:
    """PSNR in dB after the tone fit, both over the pixels that the mask (H, W) holds; nan without any."""
    if not mask.any():
        return math.nan
    return psnr(tone_fit(image_db, truth_db, dynamic_range, mask), truth_db, dynamic_range, mask)


def _pairs(scene: Judged) -> Iterator[tuple[str, float, float]]:
    """PSNR fit of what was made of every changed image, and of the judged one in the same place, by the change."""
    span = scene.view.dynamic_range
    for role, (image, view) in scene.having(CHANGED).items():
        plain, changed = (psnr_fit(one, view.truth_db, span, view.insonified) for one in (scene.image, image))
        yield role.removeprefix(CHANGED), changed, plain
    for image, view in scene.having(PROBE).values():
        plain = psnr_fit(scene.image, scene.view.truth_db, span, scene.view.insonified)
        yield OTHER_PROBE, psnr_fit(image, view.truth_db, view.dynamic_range, view.insonified), plain


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene; only what was changed in it.

    A gain is the PSNR fit after the change less that before it, both where the change hid nothing; the tone fit gives
    every curve of grey levels back, so that only what a method did differently is left.
    """
    pairs = list(_pairs(scene))
    scores = {f"robust/{name}": 0.0 if after == before else after - before for name, after, before in pairs}
    # Through another probe the truth is another too: what it costs can't be ranked among the changes.
    same_truth = [(name, after) for name, after, _ in pairs if name != OTHER_PROBE and not math.isnan(after)]
    measured = [(after, scores[f"robust/{name}"]) for name, after in same_truth]
    if measured:
        scores |= {"robust_psnr": min(after for after, _ in measured), "robust": min(gain for _, gain in measured)}
    for image, view in scene.having(CHANGED + TILE).values():
        differs = (scene.image - image)[view.insonified]
        scores["tile_db"] = float(np.sqrt(np.mean(differs**2))) if differs.size else math.nan
    return scores
