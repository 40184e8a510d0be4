"""What a changed image costs a method: the same anatomy with another gain, grey curve, pixel size, tile or probe."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.fidelity import psnr, tone_fit
from s2s.metrics.grey import shown
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


def _changes(scene: Judged) -> Iterator[tuple[str, float, float]]:
    """PSNR fit of what was made of every changed image, and of the judged one in the same place, by the change."""
    for role, (image, view) in scene.having(CHANGED).items():
        span, area = view.dynamic_range, view.insonified
        after, before = (psnr_fit(one, view.truth_db, span, area) for one in (image, scene.image))
        yield role.removeprefix(CHANGED), after, before


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene; only what was changed in it.

    A gain is the PSNR fit after the change less that before it, both where the change hid nothing; the tone fit gives
    every curve of grey levels back, so that only what a method did differently is left. There is no worst change of a
    method that failed at one. Through another probe the truth is another: its gain is not ranked among the others.
    """
    scores: dict[str, float] = {}
    psnrs = []
    for name, after, before in _changes(scene):
        scores[f"robust/{name}"] = 0.0 if after == before else after - before
        psnrs.append(after)
    asked = [role for role in scene.views if role.startswith(CHANGED)]
    if asked:
        made = all(role in scene.images for role in asked)
        for name, values in (("robust_psnr", psnrs), ("robust", list(scores.values()))):
            scores[name] = float(np.nanmin(values)) if made and not np.isnan(values).all() else math.nan
    for image, view in scene.having(CHANGED + TILE).values():
        first, second = (shown(one, view.dynamic_range)[view.insonified] for one in (scene.image, image))
        scores["tile_db"] = float(np.sqrt(np.mean((first - second) ** 2))) if first.size else math.nan
    for image, view in scene.having(PROBE).values():
        one = scene.view
        before = psnr_fit(scene.image, one.truth_db, one.dynamic_range, one.insonified)
        after = psnr_fit(image, view.truth_db, view.dynamic_range, view.insonified)
        scores[f"robust/{OTHER_PROBE}"] = after - before
    return scores
