"""Changes to an image that leave the anatomy as it is, and how to take each back from what a method made of it.

A sonographer turns the gain, a scanner has another grey curve, dynamic range or pixel size: a good denoiser does not
care.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.metrics.frame_view import FLOOR_MARGIN_DB, FrameView
from s2s.metrics.robustness import TILE

Array = NDArray[np.floating[Any]]
Image = NDArray[np.float32]

#: dB of gain; exponents of grey levels; dB shown from black to white; factors of the number of pixels.
GAINS, GAMMAS, RANGES, SCALES = (-6.0, 6.0), (0.7, 1.5), (45.0, 75.0), (0.7, 1.5)
#: Pixels by which a tile begins later, and pixels of its new borders where another result is no fault.
SHIFT, BORDER = 5, 24
#: dB that the truth keeps from a new white: speckle is rarely this much brighter than its mean in dB.
WHITE_MARGIN_DB = 10.0
#: dB by which a change and its undoing may miss the truth where the two are compared.
TOLERANCE_DB = 0.5


@dataclass(frozen=True, eq=False)
class Changed:
    """One changed image.

    name.  given: the image (h, w) in dB, clipped to [-dynamic range, 0].  undo: brings what a method made of it to the
    pixels and the scale of the view.  view: of the scene, `insonified` being where the change hid nothing.
    """

    name: str
    given: Image
    undo: Callable[[Array], Array]
    view: FrameView


def changed_images(bmode_db: Array, view: FrameView) -> Iterator[Changed]:
    """Every change of an image (H, W) in dB that is not clipped, as it comes from the scanner.

    What is compared is where the change, taken back, brings the truth back to half a dB, and where the change clips
    neither speckle's nulls (10 dB below the truth) nor its peaks (10 dB above): a display that shows less is no fault
    of a method. What little an undone change still costs stands in the row of the untouched image.
    """
    span = view.dynamic_range
    for gain in GAINS:
        yield _changed(f"gain {gain:+g} dB", bmode_db, view, partial(_gain, gain=gain), partial(_gain, gain=-gain))
    for gamma in GAMMAS:
        curve, back = (partial(_gamma, gamma=power, span=span) for power in (gamma, 1.0 / gamma))
        yield _changed(f"gamma {gamma:g}", bmode_db, view, curve, back)
    for shown in RANGES:
        stretch, back = (partial(np.multiply, factor) for factor in (span / shown, shown / span))
        yield _changed(f"range {shown:g} dB", bmode_db, view, stretch, back)
    for scale in SCALES:
        shape = view.truth_db.shape
        shrunk = tuple(max(round(side * scale), 2) for side in shape)
        yield _changed(
            f"pixels x {scale:g}", bmode_db, view, partial(resized, shape=shrunk), partial(resized, shape=shape)
        )
    inside = np.zeros(view.truth_db.shape, bool)
    inside[SHIFT + BORDER :, SHIFT + BORDER :] = True
    tile = replace(view, insonified=view.insonified & inside)
    yield _changed(TILE, bmode_db, tile, _tile, lambda image: np.pad(image, ((SHIFT, 0), (SHIFT, 0)), mode="edge"))


def _changed(
    name: str, bmode_db: Array, view: FrameView, change: Callable[[Array], Array], undo: Callable[[Array], Array]
) -> Changed:
    def seen(image: Array) -> Array:
        return np.clip(change(image), -view.dynamic_range, 0.0)

    truth = view.truth_db
    kept = np.ones(truth.shape, bool)
    for margin in (-FLOOR_MARGIN_DB, 0.0, WHITE_MARGIN_DB):
        # The margins are what clipping may not touch; on the truth itself interpolation is tested as well.
        whole = np.clip(truth + margin, -view.dynamic_range, 0.0)
        kept &= np.abs(undo(seen(whole)) - whole) <= TOLERANCE_DB
    return Changed(name, seen(bmode_db).astype(np.float32), undo, replace(view, insonified=view.insonified & kept))


def _gain(image: Array, gain: float) -> Array:
    return image + gain


def _gamma(image: Array, gamma: float, span: float) -> Array:
    """Grey levels of 0 to 1 over the dynamic range to a power."""
    return np.asarray(span * (np.clip(1.0 + image / span, 0.0, 1.0) ** gamma - 1.0))


def resized(image: Array, shape: tuple[int, int]) -> Array:
    """The image in dB on another number of pixels over the same field: cubic splines, corners on corners.

    Nothing is averaged before pixels are left out: it would take speckle away, which is the method's task.
    """
    factors = [new / old for new, old in zip(shape, image.shape, strict=True)]
    return np.asarray(ndimage.zoom(image, factors, order=3, mode="nearest"))


def _tile(image: Array) -> Array:
    return image[SHIFT:, SHIFT:]
