"""Structures that a method draws where the truth has none: areas of pure speckle that look like lesions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from s2s.metrics.detection import gcnr
from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric
from s2s.metrics.plane import without_plane

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

METRICS = (
    Metric("invented", "invented", "honesty", "structures per square centimetre of background that the truth lacks",
           "/cm²", "lower", 0.0, fooled_by="a constant image; noise that hides them",
           needs="2 mm² of background, 1 mm from regions and borders, clear of points and 10 dB above black"),
    Metric("invented_db", "their contrast", "honesty", "mean contrast of these structures, bright or dark", "dB",
           "lower", 0.0, fooled_by="any curve that compresses grey levels", needs="such structures"),
)  # fmt: skip

#: Standard deviation in metres of the smoothing before areas are sought, and side of the square whose mean is the level
#: around a pixel: lesions of 1 mm pass the one, those of 6 mm stand out from the other.
FINE, AROUND = 0.2e-3, 10e-3
#: dB from the level around at which an area begins, and square metres from which on it counts: a disc of 1 mm.
#: With 1 dB they cover a quarter of any blurred speckle, with 4 dB hardly one is left; the order of methods is much the
#: same in between.
LEAST_DB, LEAST_AREA = 2.0, 0.8e-6
#: gCNR against the ring of 1 mm around it from which on an area is seen. Those of untouched speckle have 0.6, being no
#: more than its louder places; those that a blur of two pixels or a median leaves have 0.9.
LEAST_GCNR, RING = 0.8, 1e-3


@dataclass(frozen=True, eq=False)
class Structure:
    """A structure that is not in the truth.

    contrast: mean over the ring around it in dB, negative when it is dark.  area: square metres.  gcnr: against its
    ring.  center: (z, x) in pixels.
    """

    contrast: float
    area: float
    gcnr: float
    center: tuple[float, float]


def structures(difference_db: ArrayLike, mask: Mask, pixel: tuple[float, float]) -> list[Structure]:
    """What a viewer would take for lesions in the difference of an image and its truth (H, W) in dB.

    mask: where there are none in truth (H, W); nothing is looked for elsewhere.  pixel: its size in metres, (z, x).

    From the difference its plane and then its mean over 10 mm are taken, and the rest is smoothed over 0.2 mm. In every
    connected area that lies 2 dB or more above, or below, the pixels that reach half of its peak make a structure, if
    they are 0.8 mm^2 or more and have, not smoothed, a gCNR of 0.8 or more against those around the area: at most 1 mm
    away and in no other. A constant offset, a slope, and speckle left as fine as it was are none; a blotch is one
    whatever made it.
    """
    flat = without_plane(difference_db, mask)
    levels = _around(flat, mask, pixel)
    smooth = ndimage.gaussian_filter(np.where(mask, flat - levels, 0.0), [FINE / side for side in pixel], truncate=3.0)
    free = mask & (np.abs(smooth) < LEAST_DB)
    return [one for height in (smooth, -smooth) for one in _seen(flat, np.where(mask, height, 0.0), free, pixel)]


def _around(values: Array, mask: Mask, pixel: tuple[float, float]) -> Array:
    """The mean of the values that the mask holds in a square around every pixel (H, W)."""
    side = [2 * round(AROUND / size / 2) + 1 for size in pixel]
    parts = (np.where(mask, values, 0.0), mask.astype(np.float64))
    total, held = (ndimage.uniform_filter(part, side, mode="constant") for part in parts)
    return np.asarray(total / np.maximum(held, 1.0 / np.prod(side)))


def _seen(values: Array, height: Array, free: Mask, pixel: tuple[float, float]) -> list[Structure]:
    """The connected areas of some height in dB that are large enough and stand out from their ring."""
    labels, _ = ndimage.label(height >= LEAST_DB)
    size = np.bincount(labels.ravel()) * pixel[0] * pixel[1]
    reach = [int(RING / side) + 1 for side in pixel]
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if size[number] < LEAST_AREA:
            continue
        rows, columns = (slice(max(part.start - far, 0), part.stop + far) for part, far in zip(box, reach, strict=True))
        area, cut = labels[rows, columns] == number, values[rows, columns]
        over = np.where(area, height[rows, columns], 0.0)
        inside = over >= max(LEAST_DB, over.max() / 2)
        if inside.sum() * pixel[0] * pixel[1] < LEAST_AREA:
            continue
        ring = (ndimage.distance_transform_edt(~area, sampling=pixel) <= RING) & free[rows, columns]
        told = gcnr(cut, inside, ring)
        # nan, with nothing free around it, is no structure either.
        if told >= LEAST_GCNR:
            at_z, at_x = (float(place.mean()) for place in np.nonzero(inside))
            found.append(
                Structure(
                    contrast=float(cut[inside].mean() - cut[ring].mean()),
                    area=float(inside.sum() * pixel[0] * pixel[1]),
                    gcnr=told,
                    center=(rows.start + at_z, columns.start + at_x),
                )
            )
    return found


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene; nan without background to look at, the contrast also without structures."""
    view = scene.view
    if not view.background.any():
        return {"invented": math.nan, "invented_db": math.nan}
    image, truth = (shown(values, view.dynamic_range) for values in (scene.image, view.truth_db))
    found = structures(image - truth, view.background, view.pixel)
    square_cm = 1e4 * float(view.background.sum()) * view.pixel[0] * view.pixel[1]
    contrast = float(np.mean([abs(one.contrast) for one in found])) if found else math.nan
    return {"invented": len(found) / square_cm, "invented_db": contrast}
