"""Closeness to the truths: PSNR, SSIM and MS-SSIM, raw, after the best monotone tone curve, and in 8 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.domain import LOG_BIAS_DB
from s2s.metrics.frame_view import FrameView
from s2s.metrics.grey import grey, shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric
from s2s.metrics.similarity import UNIFORM, WEIGHTS, Reference, scales, smallest_side

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Scales of MS-SSIM.
SCALES = len(WEIGHTS)
#: dB: standard deviation that a truth must have for a tone fit. The fit of any image to a constant is perfect.
LEAST_SPREAD_DB = 1.0
_FITTED = "after the rising tone curve that brings the image closest"
_LEVEL = "a display curve or a level nearer to the truth's"
_FLAT = "any blur where the truth is flat"
_8BIT = "any curve, gain or trend with depth that comes nearer to the echogenicity's greys"
_SIDE = f"an insonified square of {smallest_side(1)} pixels a side"
_SIDES = f"an insonified square of {smallest_side(SCALES)} pixels a side"
_SPREAD = f"a truth with a standard deviation of {LEAST_SPREAD_DB:g} dB or more"


def _against(truth: str, suffix: str = "", title: str = "") -> tuple[Metric, ...]:
    """PSNR, SSIM and MS-SSIM against one truth, raw and fitted."""
    raw, both = f"against {truth}", f"{_LEVEL}; {_FLAT}"
    fit = f"{raw}, {_FITTED}"
    return (
        Metric(f"psnr{suffix}", f"PSNR{title}", "fidelity", f"20 log10(dynamic range / rms error) {raw}", "dB",
               fooled_by=_LEVEL),
        Metric(f"psnr{suffix}_fit", f"PSNR{title} fit", "fidelity", f"PSNR {fit}", "dB", needs=_SPREAD),
        Metric(f"ssim{suffix}", f"SSIM{title}", "fidelity", f"structural similarity {raw}", digits=3,
               fooled_by=both, needs=_SIDE),
        Metric(f"ssim{suffix}_fit", f"SSIM{title} fit", "fidelity", f"structural similarity {fit}", digits=3,
               fooled_by=_FLAT, needs=f"{_SPREAD}, and {_SIDE}"),
        Metric(f"ms_ssim{suffix}", f"MS-SSIM{title}", "fidelity", f"structural similarity over five scales {raw}",
               digits=3, fooled_by=both, needs=_SIDES),
        Metric(f"ms_ssim{suffix}_fit", f"MS-SSIM{title} fit", "fidelity",
               f"structural similarity over five scales {fit}", digits=3, needs=f"{_SPREAD}, and {_SIDES}"),
    )  # fmt: skip


METRICS = (
    *_against("truth/bmode"),
    *_against("truth/resolved_db", "_resolved", " resolved"),
    *_against("truth/echogenicity_db", "_echogenicity", " echogenicity"),
    Metric("psnr_8bit", "PSNR 8 bit", "fidelity", "PSNR of 8-bit greys against those of the echogenicity", "dB",
           truth="psnr_8bit_true", fooled_by=_8BIT),
    Metric("psnr_8bit_true", "PSNR 8 bit of the truth", "fidelity", "the same of truth/bmode", "dB", "none"),
    Metric("ssim_8bit", "SSIM 8 bit", "fidelity", "SSIM of 8-bit greys against those of the echogenicity",
           truth="ssim_8bit_true", digits=3, fooled_by=_8BIT, needs=_SIDE),
    Metric("ssim_8bit_true", "SSIM 8 bit of the truth", "fidelity", "the same of truth/bmode", better="none", digits=3,
           needs=_SIDE),
)  # fmt: skip


def psnr(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float, inside: Mask | None = None) -> float:
    """Peak signal-to-noise ratio in dB, both images (H, W) being clipped to the dynamic range first.

        20 log10(dynamic_range / rms(image - truth))

    inside: pixels that count (H, W); all of them when left out.  inf when the images are equal there.

    >>> round(psnr(np.full((2, 2), -20.0), np.full((2, 2), -26.0), 60.0), 6)
    20.0
    """
    return _reference(truth_db, dynamic_range, inside, 0).psnr(grey(image_db, dynamic_range))


def ssim(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float, inside: Mask | None = None) -> float:
    """Mean structural similarity (H, W), 1 for equal images; see Reference.similarity for formula and source.

    Both are clipped to the dynamic range and taken as grey levels, black being 0.  inside: windows of 11 x 11 pixels
    count that lie wholly in it (H, W); all when left out.  nan where none does.
    """
    return _reference(truth_db, dynamic_range, inside, 1).similarity(scales(grey(image_db, dynamic_range), 1))[0]


def ms_ssim(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float, inside: Mask | None = None) -> float:
    """MS-SSIM (H, W), 1 for equal images; see Reference.similarity for formula and source.

    As `ssim`; nan when an image has a side of less than 161 pixels.
    """
    return _reference(truth_db, dynamic_range, inside, SCALES).similarity(
        scales(grey(image_db, dynamic_range), SCALES)
    )[1]


def _reference(truth_db: ArrayLike, dynamic_range: float, inside: Mask | None, count: int) -> Reference:
    truth = grey(truth_db, dynamic_range)
    return Reference.of(truth, np.ones(truth.shape, bool) if inside is None else inside, count)


def tone_fit(image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float, inside: Mask | None = None) -> Array:
    """The image (H, W) after the rising curve that brings it closest to the truth in the mean square.

    Isotonic regression (Barlow, Bartholomew, Bremner and Brunk 1972) of the truth, clipped to the dynamic range, on
    the image's values; pixels of equal value stay equal. A gamma, an offset or any other rising curve that was applied
    to the image changes nothing in the result, so that no method gains or loses by its display curve. The image is not
    clipped before the fit. The fit sees the truth: it is for judging, not for denoising.

    inside: pixels that count (H, W); the others become black.
    """
    image = np.asarray(image_db)
    tones = _Tones.of(image, np.ones(image.shape, bool) if inside is None else inside)
    return dynamic_range * (tones.fit(grey(truth_db, dynamic_range)) - 1.0)


def can_be_fitted(truth: Array, dynamic_range: float, inside: Mask | None = None) -> bool:
    """Whether grey levels of a truth (H, W) vary enough for a tone fit to say anything."""
    values = truth if inside is None else truth[inside]
    return bool(values.size and dynamic_range * values.std() >= LEAST_SPREAD_DB)


@dataclass(frozen=True, eq=False)
class _Tones:
    """The values of an image in rising order: where each belongs, and how often it occurs.

    inside: pixels that count (H, W).  order: their numbers, darkest first.  tone: number of each one's value, in that
    order.  count: pixels of each value.
    """

    inside: Mask
    order: NDArray[np.intp]
    tone: NDArray[np.intp]
    count: NDArray[np.intp]

    @classmethod
    def of(cls, image: NDArray[Any], inside: Mask) -> _Tones:
        values = image[inside]
        order = np.argsort(values)
        rising = values[order]
        tone = np.concatenate([[0], np.cumsum(rising[1:] != rising[:-1])]) if values.size else order
        return cls(inside, order, tone, np.bincount(tone))

    def fit(self, truth: Array) -> Array:
        """The closest rising function of the image to a truth (H, W) of grey levels; black where nothing counts."""
        from scipy.optimize import isotonic_regression

        fitted = np.zeros(self.inside.shape)
        if self.order.size:
            mean = np.bincount(self.tone, weights=truth[self.inside][self.order]) / self.count
            values = np.empty(self.order.size)
            values[self.order] = isotonic_regression(mean, weights=self.count).x[self.tone]
            fitted[self.inside] = values
        return fitted


def fidelity(
    image_db: ArrayLike, truth_db: ArrayLike, dynamic_range: float, inside: Mask | None = None
) -> dict[str, float]:
    """PSNR and SSIM of an image (H, W), raw and after the tone fit, by name: what a training looks at.

    nan after the fit for a truth that hardly varies.
    """
    fits = can_be_fitted(grey(truth_db, dynamic_range), dynamic_range, inside)
    fitted = tone_fit(image_db, truth_db, dynamic_range, inside) if fits else None
    found: dict[str, float] = {}
    for name, metric in (("psnr", psnr), ("ssim", ssim)):
        found[name] = metric(image_db, truth_db, dynamic_range, inside)
        found[f"{name}_fit"] = math.nan if fitted is None else metric(fitted, truth_db, dynamic_range, inside)
    return found


def picture(level_db: ArrayLike, view: FrameView) -> Array:
    """What the frame's display shows of levels (H, W) in dB: grey levels of 0 to 1, rounded to 8 bits.

    A frame without a display is shown linear in dB over its dynamic range.
    """
    level = shown(level_db, view.dynamic_range)
    levels = grey(level, view.dynamic_range) if view.screen is None else view.screen.grey(10.0 ** (level / 10.0))
    return np.rint(255.0 * levels) / 255.0


@lru_cache(maxsize=4)
def _references(view: FrameView) -> Mapping[str, Reference]:
    """The truths by the suffix of the metrics that are taken against them."""
    truths = {"": view.truth_db, "_resolved": view.resolved_db, "_echogenicity": view.echogenicity_db}
    return {
        suffix: Reference.of(grey(truth, view.dynamic_range), view.insonified, SCALES)
        for suffix, truth in truths.items()
    }


@lru_cache(maxsize=4)
def _ideal(view: FrameView) -> Reference:
    """The picture of the echogenicity itself: 0 dB tissue is where its mean intensity is, as the paper has it."""
    return Reference.of(picture(view.echogenicity_db + LOG_BIAS_DB, view), view.insonified, 1, UNIFORM)


def _in_8_bits(level_db: ArrayLike, view: FrameView) -> tuple[float, float]:
    """PSNR and SSIM of pictures."""
    ideal, found = _ideal(view), picture(level_db, view)
    return ideal.psnr(found), ideal.similarity(scales(found, 1, UNIFORM))[0]


@lru_cache(maxsize=4)
def _truth_in_8_bits(view: FrameView) -> tuple[float, float]:
    """The same of truth/bmode."""
    return _in_8_bits(view.truth_db, view)


def _named(suffix: str, *values: float) -> dict[str, float]:
    return {f"{name}{suffix}": value for name, value in zip(("psnr", "ssim", "ms_ssim"), values, strict=True)}


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene."""
    view = scene.view
    image = grey(scene.image, view.dynamic_range)
    of_image, tones = scales(image, SCALES), _Tones.of(scene.image, view.insonified)
    found: dict[str, float] = {}
    for suffix, reference in _references(view).items():
        found |= _named(suffix, reference.psnr(image), *reference.similarity(of_image))
        values = (math.nan,) * 3
        if can_be_fitted(reference.truth, view.dynamic_range, view.insonified):
            fitted = tones.fit(reference.truth)
            values = (reference.psnr(fitted), *reference.similarity(scales(fitted, SCALES)))
        found |= _named(f"{suffix}_fit", *values)
    found["psnr_8bit"], found["ssim_8bit"] = _in_8_bits(scene.image, view)
    found["psnr_8bit_true"], found["ssim_8bit_true"] = _truth_in_8_bits(view)
    return found
