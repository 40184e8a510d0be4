"""Can an observer who knows where a lesion would be tell that there is one? Judged against the same places without."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from s2s.metrics.frame_view import FrameView, Region

Array = NDArray[np.float64]

#: Every such pixel of tissue, down and across, is one that levels are ranked among: they hardly share speckle.
STRIDE = 4
#: Metres beyond its radius by which a lesion's masks are moved to either side for further places without a lesion.
ASIDE = 1e-3
#: Decimals of an observer's answers: sums of equal pixels in another order are ties.
DIGITS = 9


@dataclass(frozen=True, eq=False)
class Lesion:
    """A disc in tissue.

    diameter: metres.  contrast: true echogenicity over the background's in dB; -inf for one without an echo.
    region: where to look.  template: (h, w), the mean inside minus the mean in the ring as a sum over the region's
    window.
    """

    diameter: float
    contrast: float
    region: Region
    template: Array

    @property
    def name(self) -> str:
        """Diameter and contrast, such as "3 mm +6 dB"."""
        return f"{1e3 * self.diameter:g} mm {self.contrast:+g} dB"


@lru_cache(maxsize=4)
def lesions(view: FrameView) -> tuple[Lesion, ...]:
    """Every circle of the drawn scene whose centre is in a region large enough to be measured, without its wall."""
    level = _level(view.scene["background"])
    found = []
    for region in (region for region in view.regions if region.has_areas):
        for circle in view.scene["regions"]:
            if circle["shape"] == "circle" and circle["echogenicity"] != level and _holds(view, region, circle):
                weights = region.inside / region.inside.sum() - region.ring / region.ring.sum()
                contrast = _level(circle) - level
                found.append(Lesion(2.0 * circle["radius"], contrast, region, weights))
    return tuple(found)


def _level(part: dict[str, Any]) -> float:
    """Echogenicity in dB."""
    return -math.inf if part["echogenicity"] == "anechoic" else float(part["echogenicity"])


def _holds(view: FrameView, region: Region, circle: dict[str, Any]) -> bool:
    """Whether the centre of a circle is a pixel well inside a region."""
    place = []
    for axis, part, centre in zip((view.z, view.x), region.window, reversed(circle["center"]), strict=True):
        place.append(int(np.argmin(np.abs(axis - centre))) - part.start)
    return all(0 <= k < size for k, size in zip(place, region.inside.shape, strict=True)) and bool(
        region.inside[tuple(place)]
    )


def normal_scores(image_db: ArrayLike, tissue_db: ArrayLike) -> Array:
    """The image's levels (H, W), each as the normal quantile of its rank among those of tissue (h, w).

        s = PhiInverse((b + 1) / (2 n + 2)),   b = number of tissue's n levels below + number of those not above

    Scores of van der Waerden (Indagationes Math. 14, 1952, 453-458): no rising curve of grey levels changes them.
    """
    image, tissue = np.asarray(image_db), np.sort(np.asarray(tissue_db), axis=None)
    # Sorted levels are found faster, by more than their sorting takes.
    order = np.argsort(image, axis=None)
    levels = image.ravel()[order]
    below = np.searchsorted(tissue, levels, "left") + np.searchsorted(tissue, levels, "right")
    scores = np.empty(image.size)
    scores[order] = _quantiles(tissue.size)[below]
    return scores.reshape(image.shape)


@lru_cache(maxsize=4)
def _quantiles(count: int) -> Array:
    return np.asarray(ndtri(np.arange(1, 2 * count + 2) / (2 * count + 2)))


def share_above(value: float, others: ArrayLike) -> float:
    """Share of others (K,) that lie below a value, those that equal it counting half.

    >>> share_above(2.0, [1.0, 2.0, 3.0, 0.0])
    0.625
    """
    others = np.asarray(others)
    return float(np.mean(others < value) + 0.5 * np.mean(others == value))


def detectability(image_db: ArrayLike, sham_db: ArrayLike, view: FrameView) -> list[float]:
    """For each of `lesions(view)`: how often an observer who knows its place gives it more than a place without one.

        T = mean of s inside - mean of s in the ring,   P(T of the lesion > T of a sham),   ties 1/2

    the two-alternative forced choice, which is the area under the ROC curve when averaged over scenes (Green and
    Swets, Signal Detection Theory and Psychophysics, 1966; Bamber, J. Math. Psychol. 12 (1975) 387-415). s are the
    normal scores of the levels among those of the sham, so that no rising curve changes anything; T is taken with the
    other sign for dark lesions. Shams are all places of lesions of the same diameter in an image of the same places
    without lesions, and those to the left and the right of them. 0.5 is chance. For independent normal
    values of distance d' it is Phi(d' / sqrt 2).

    image_db, sham_db: (H, W) after the same method.
    """
    tissue = np.asarray(sham_db)[::STRIDE, ::STRIDE]
    image, sham = normal_scores(image_db, tissue), normal_scores(sham_db, tissue)
    return _compared(view, image, sham, lambda values, lesion: float(np.vdot(lesion.template, values)))


@lru_cache(maxsize=4)
def ideal_detectability(view: FrameView, sham: FrameView) -> tuple[float, ...]:
    """What the data hold: the same of the noisy images, T being the log of the mean intensity inside over the ring's.

    For speckle, whose intensity is exponential, that is the likelihood ratio of a lesion's brightness in known places.
    """
    image, without = (10.0 ** (each.noisy_db / 10.0) for each in (view, sham))

    def ratio(values: Array, lesion: Lesion) -> float:
        return math.log(values[lesion.region.inside].mean() / values[lesion.region.ring].mean())

    return tuple(_compared(view, image, without, ratio))


def _compared(view: FrameView, image: Array, sham: Array, answer: Callable[[Array, Lesion], float]) -> list[float]:
    """Share of shams below each lesion."""
    without: dict[float, list[float]] = {}
    for lesion in lesions(view):
        of_size = without.setdefault(lesion.diameter, [])
        of_size += [round(answer(sham[window], lesion), DIGITS) for window in _windows(view, lesion)]
    shares = []
    for lesion in lesions(view):
        sign = math.copysign(1.0, lesion.contrast)
        given = round(answer(image[lesion.region.window], lesion), DIGITS)
        shares.append(share_above(sign * given, sign * np.array(without[lesion.diameter])))
    return shares


def _windows(view: FrameView, lesion: Lesion) -> Iterator[tuple[slice, slice]]:
    """The lesion's window, and the same to the left and the right where the image holds it whole."""
    rows, columns = lesion.region.window
    aside = round((lesion.diameter / 2.0 + ASIDE) / view.pixel[1])
    for shift in (0, -aside, aside):
        if columns.start + shift >= 0 and columns.stop + shift <= view.x.size:
            yield rows, slice(columns.start + shift, columns.stop + shift)
