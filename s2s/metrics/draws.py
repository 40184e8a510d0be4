"""What a method makes of independent draws of one scene: the error that stays, and the one that changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from s2s.metrics.frame_view import FrameView
from s2s.metrics.grey import shown
from s2s.metrics.judged import LOOK, Judged
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

_NEEDS = "further independent draws of the scene"
_UNTOUCHED = "an image left as it was"
METRICS = (
    Metric("bias_db", "bias", "honesty", "rms over pixels of what is wrong in the mean over independent draws", "dB",
           "lower", 0.0, needs=_NEEDS, fooled_by=_UNTOUCHED),
    Metric("bias_edge_db", "bias at edges", "honesty", "the same within 1 mm of the borders of regions", "dB",
           "lower", 0.0, needs=f"{_NEEDS}, with regions", fooled_by=_UNTOUCHED),
    Metric("spread_db", "spread", "honesty", "standard deviation between what is made of independent draws", "dB",
           "lower", 0.0, needs=_NEEDS, fooled_by="a constant image; any curve that compresses grey levels"),
)  # fmt: skip

#: Metres to either side of a border of regions that count as the edge.
EDGE = 1e-3


def bias_map(images_db: Sequence[ArrayLike], truth_db: ArrayLike) -> Array:
    """Mean over images (H, W) of independent draws, less their truth (H, W) and less its own mean, in dB.

    What is the same everywhere is a gain and no error. Speckle that is left is in it with 1 / K of its variance.

    >>> bias_map([[[1.0, 4.0]], [[3.0, 8.0]]], [[0.0, 0.0]])
    array([[-2.,  2.]])
    """
    error = np.mean(np.asarray(images_db, dtype=np.float64), axis=0) - np.asarray(truth_db, dtype=np.float64)
    return np.asarray(error - error.mean())


def spread_map(images_db: Sequence[ArrayLike]) -> Array:
    """Standard deviation (n - 1) over images (H, W) of independent draws, pixel by pixel, in dB.

    >>> spread_map([[[1.0, 4.0]], [[3.0, 4.0]]]).round(3)
    array([[1.414, 0.   ]])
    """
    return np.asarray(np.std(np.asarray(images_db, dtype=np.float64), axis=0, ddof=1))


def bias_and_spread(images_db: Sequence[ArrayLike], truth_db: ArrayLike, *masks: Mask) -> list[tuple[float, float]]:
    """Bias and spread in dB of K images (H, W) of independent draws, where each of the masks (H, W) holds.

        spread^2 = mean over pixels of var_K,   bias^2 = var over pixels of (mean_K - truth) - spread^2 / K

    var_K is divided by K - 1, so that spread^2 / K is what speckle alone leaves in the mean of K draws. A bias^2 that
    comes out below zero is zero. The mean over pixels is left out, see `bias_map`. nan for an empty mask.
    """
    error, variance = bias_map(images_db, truth_db), spread_map(images_db) ** 2
    found = []
    for mask in masks:
        if not mask.any():
            found.append((math.nan, math.nan))
            continue
        noise = float(variance[mask].mean())
        found.append((math.sqrt(max(float(error[mask].var()) - noise / len(images_db), 0.0)), math.sqrt(noise)))
    return found


def draws(scene: Judged) -> list[Array]:
    """The images of one scene that differ in speckle and noise alone, the judged one first, as shown."""
    others = [image for image, _ in scene.having(LOOK).values()]
    return [shown(image, scene.view.dynamic_range) for image in (scene.image, *others)]


def at_edges(view: FrameView) -> Mask:
    """Where a border of regions is at most 1 mm away (H, W)."""
    border = np.zeros(view.labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(view.labels, axis=axis) != 0
        for side in (slice(None, -1), slice(1, None)):
            place = (side, slice(None)) if axis == 0 else (slice(None), side)
            border[place] |= differs
    if not border.any():
        return border
    return np.asarray(ndimage.distance_transform_edt(~border, sampling=view.pixel) <= EDGE)


def maps(scene: Judged) -> dict[str, Array]:
    """The bias and the spread of a scene as images (H, W) in dB, by name; none where it was drawn once."""
    images = draws(scene)
    if len(images) < 2:
        return {}
    truth = shown(scene.view.truth_db, scene.view.dynamic_range)
    return {"bias": bias_map(images, truth), "spread": spread_map(images)}


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene; none where it was drawn once."""
    images, view = draws(scene), scene.view
    if len(images) < 2:
        return {}
    truth = shown(view.truth_db, view.dynamic_range)
    whole, edge = bias_and_spread(images, truth, view.insonified, view.insonified & at_edges(view))
    return {"bias_db": whole[0], "bias_edge_db": edge[0], "spread_db": whole[1]}
