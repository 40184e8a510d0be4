"""What is left of wires and points: their widths, their height over the tissue, and the dip between two of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.detection import pair_means
from s2s.metrics.frame_view import LEAST_AREA, FrameView
from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]

_ALONE, _PAIRS = "wires or points 3 mm from each other", "pairs of wires or points up to 2.5 mm apart, by themselves"
_CURVE = "a display curve that is steep in bright places, after a blur"
METRICS = (
    Metric("wire_lateral_mm", "wire, lateral", "resolution", "-6 dB width of wires and points along x", "mm", "nearer",
           "wire_lateral_true_mm", fooled_by=_CURVE, needs=_ALONE),
    Metric("wire_lateral_true_mm", "wire of the truth, lateral", "resolution", "the same of truth/bmode", "mm", "none",
           needs=_ALONE),
    Metric("wire_axial_mm", "wire, axial", "resolution", "-6 dB width of wires and points along z", "mm", "nearer",
           "wire_axial_true_mm", fooled_by=_CURVE, needs=_ALONE),
    Metric("wire_axial_true_mm", "wire of the truth, axial", "resolution", "the same of truth/bmode", "mm", "none",
           needs=_ALONE),
    Metric("point_kept", "points kept", "resolution", "share of wires and points that keep half of their height in dB "
           "over the tissue around them, and stand out of it", truth=1.0, fooled_by=_CURVE, needs=_ALONE),
    Metric("point_loss_db", "points' loss", "resolution", "height of wires and points over the tissue around them that "
           "was lost", "dB", "nearer", 0.0, 1, _CURVE, _ALONE),
    Metric("point/", "height of points", "resolution", "height of the wires and points of one name over the tissue "
           "around them", "dB", "none", digits=1, needs=_ALONE),
    Metric("point_true/", "height of points in the truth", "resolution", "the same of truth/bmode", "dB", "none",
           digits=1, needs=_ALONE),
    Metric("pairs_resolved", "pairs resolved", "resolution", "share of the pairs with a dip of 3 dB in truth/bmode "
           "that keep half of it", truth=1.0, needs=_PAIRS),
    Metric("pair_dip/", "dip of pairs", "resolution", "dip between the two wires or points of one name", "dB", "none",
           digits=1, needs=_PAIRS),
    Metric("pair_dip_true/", "dip of pairs in the truth", "resolution", "the same of truth/bmode", "dB", "none",
           digits=1, needs=_PAIRS),
)  # fmt: skip

#: Metres: wires with none closer than this are alone; those of a pair are no further apart than PAIR, and are alone
#: beside each other.
ALONE, PAIR = 3e-3, 2.5e-3
#: Metres: the tissue around a wire reaches this far; it begins where `FrameView.clear` does.
AROUND = 3e-3
#: Metres: a wire's own brightest pixel is looked for this far from its place, its flanks up to REACH.
NEAR, REACH = 0.4e-3, 2.5e-3
#: dB: height in the truth from which on a wire is measured; the level of the width; dip of a pair that counts.
LEAST_HEIGHT_DB, WIDTH_DB, LEAST_DIP_DB = 9.0, 6.0, 3.0
#: dB: height in the truth from which on a width is measured. Speckle widens wires of 10 dB by 20 %, of 15 dB by 8.
LEAST_SHARP_DB = 15.0
#: Share of height and dip that must be left.
KEPT = 0.5
#: A wire stands out when it is brighter than this share of the pixels around it.
STANDS_OUT = 0.99


#: Metres: sides of the squares over which the gain of low frequencies is taken. In squares of 4 mm filters and blurs of
#: up to 0.8 mm have 0.75 to 1; in smaller ones blurs have less, and averages of intensities more than 1.
SQUARE = 4e-3


def low_gain(image_db: ArrayLike, given_db: ArrayLike, mask: NDArray[np.bool_], pixel: tuple[float, float]) -> float:
    """How much a method stretches contrast: slope of its image (H, W) in dB on the one it was given, squares of 4 mm.

        slope = cov(image, given) / var(given) of the means over squares that lie in the mask (H, W), at least 1

    pixel: its size (z, x) in metres.  A blur nearly keeps the means of squares, so that a stretch by k after a blur has
    about k. Denoisers have 1, or less where they lose what is small and bright; that is not made up for.

    >>> given = np.arange(64.0).reshape(8, 8)
    >>> low_gain(3 * given, given, given >= 0, (1e-3, 1e-3)), low_gain(given / 3, given, given >= 0, (1e-3, 1e-3))
    (3.0, 1.0)
    """
    rows, columns = (max(round(SQUARE / size), 1) for size in pixel)
    down, right = (size // side for size, side in zip(mask.shape, (rows, columns), strict=True))
    image, given, inside = (
        np.asarray(values)[: down * rows, : right * columns].reshape(down, rows, right, columns).mean((1, 3))
        for values in (image_db, given_db, mask)
    )
    image, given = (values[inside == 1] - values[inside == 1].mean() for values in (image, given))
    variance = float(given @ given)
    return max(float(image @ given) / variance, 1.0) if variance else 1.0


@dataclass(frozen=True, eq=False)
class Target:
    """A wire or point and the tissue around it.

    name.  pixel: row and column of its place.  around: flat indices of the pixels of the tissue around it (N,).
    """

    name: str
    pixel: tuple[int, int]
    around: NDArray[np.intp]

    def level(self, image_db: Array) -> float:
        """Mean of the tissue around it in dB."""
        return float(image_db.ravel()[self.around].mean())

    def height(self, image_db: Array) -> float:
        """The image (H, W) at its place over the mean of the tissue around it, in dB.

        The place is that of the wire, not that of the brightest pixel near it: a maximum would count speckle in.
        """
        return float(image_db[self.pixel]) - self.level(image_db)

    def stands_out(self, image_db: Array) -> bool:
        """Whether the image (H, W) at its place is brighter than 99 % of the pixels around it."""
        return bool((image_db.ravel()[self.around] < image_db[self.pixel]).mean() >= STANDS_OUT)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two targets, and the pixels from the one to the other: rows and columns (N,), both ends included."""

    targets: tuple[Target, Target]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]

    def lowest(self, image_db: Array) -> int:
        """Number of the darkest pixel between the targets."""
        return int(np.argmin(image_db[self.rows, self.columns]))

    def dip(self, image_db: Array, at: int) -> float:
        """How far the image (H, W) lies below the lower one of the two targets at pixel `at` between them, in dB.

        `at` is where the truth is lowest, and the targets' places are the truth's: an extreme of the image itself would
        count speckle in, which makes dips of its own.
        """
        ends = (image_db[target.pixel] for target in self.targets)
        return float(min(ends) - image_db[self.rows[at], self.columns[at]])

    def height(self, image_db: Array) -> float:
        """Height of the lower one of the two over the tissue around both, in dB."""
        tissue = np.mean([target.level(image_db) for target in self.targets])
        return float(min(image_db[target.pixel] for target in self.targets) - tissue)


def width(profile_db: ArrayLike, at: int, drop: float = WIDTH_DB) -> float:
    """Width of the peak at sample `at` of a profile (N,) in dB, `drop` below its highest point, in samples.

    Peak, within a sample of `at`, and crossings are those of a cubic spline through the samples. A Gaussian intensity
    exp(-x^2 / 2 s^2), a parabola in dB, is 3.325 s wide at -6 dB. nan when the profile does not fall so far on both
    sides.

    >>> round(width(-np.arange(-4.0, 5.0) ** 2, 4), 2)  # half a width of sqrt(6) to each side
    4.9
    """
    from scipy.interpolate import CubicSpline

    profile = np.asarray(profile_db, dtype=np.float64)
    curve = CubicSpline(np.arange(len(profile)), profile)(np.arange((len(profile) - 1) * _FINE + 1) / _FINE)
    first = max(at - 1, 0) * _FINE
    peak = first + int(np.argmax(curve[first : (at + 1) * _FINE + 1]))
    level = curve[peak] - drop
    low = curve < level
    if not low[:peak].any() or not low[peak:].any():
        return math.nan
    right, left = peak + int(np.argmax(low[peak:])), peak - int(np.argmax(low[peak::-1]))
    ends = (
        right - (level - curve[right]) / (curve[right - 1] - curve[right]),
        left + (level - curve[left]) / (curve[left + 1] - curve[left]),
    )
    return float(ends[0] - ends[1]) / _FINE


#: Parts of a sample in which a peak and its crossings are looked for.
_FINE = 20


def widths(image_db: Array, target: Target, pixel: tuple[float, float]) -> tuple[float, float]:
    """-6 dB widths of a target in metres, across the beam and along it, each through its brightest pixel.

    pixel: its size (z, x) in metres.  nan where the target is lost: where it does not stand out of the image (H, W), or
    is not 6 dB over the tissue around it.
    """
    down, right = (round(NEAR / size) for size in pixel)
    row, column = (max(at - reach, 0) for at, reach in zip(target.pixel, (down, right), strict=True))
    near = image_db[row : target.pixel[0] + down + 1, column : target.pixel[1] + right + 1]
    top, left = (int(k) for k in np.unravel_index(int(np.argmax(near)), near.shape))
    if not target.stands_out(image_db) or near[top, left] < target.level(image_db) + WIDTH_DB:
        return math.nan, math.nan
    found = []
    for profile, at, size in (
        (image_db[row + top], column + left, pixel[1]),
        (image_db[:, column + left], row + top, pixel[0]),
    ):
        reach = round(REACH / size)
        start = max(at - reach, 0)
        found.append(width(profile[start : at + reach + 1], at - start) * size)
    return found[0], found[1]


@dataclass(frozen=True, eq=False)
class _Scene:
    """What is measured in a scene.

    alone: targets with their true heights in dB.  sharp: those high enough for a width, with their true ones in metres.
    pairs: each with the place of its true dip (see Pair.dip), that dip and its true height in dB.
    """

    alone: tuple[tuple[Target, float], ...]
    sharp: tuple[tuple[Target, tuple[float, float]], ...]
    pairs: tuple[tuple[Pair, int, float, float], ...]


@lru_cache(maxsize=1)
def _scene(view: FrameView) -> _Scene:
    """The targets of a scene that can be measured in its truth; kept for the next method's image of the same scene."""
    truth = shown(view.truth_db, view.dynamic_range)
    apart = np.hypot(*(view.points[:, None] - view.points).T)
    np.fill_diagonal(apart, np.inf)
    others = (apart < ALONE).sum(axis=0)
    alone = []
    for number in np.flatnonzero(others == 0):
        target = _target(view, int(number))
        height = target.height(truth) if target else -math.inf
        if target and height >= LEAST_HEIGHT_DB:
            alone.append((target, height))
    pairs = []
    for first, second in np.argwhere(np.triu((apart <= PAIR) & (others == 1)[:, None] & (others == 1))):
        one, two = _target(view, int(first)), _target(view, int(second))
        if one and two:
            pair = _pair(one, two)
            at, height = pair.lowest(truth), pair.height(truth)
            if height >= LEAST_HEIGHT_DB:
                pairs.append((pair, at, pair.dip(truth, at), height))
    sharp = [(target, widths(truth, target, view.pixel)) for target, height in alone if height >= LEAST_SHARP_DB]
    return _Scene(tuple(alone), tuple(sharp), tuple(pairs))


def _target(view: FrameView, number: int) -> Target | None:
    """A wire or point by number; None outside the image, at its border, and where there is too little tissue around."""
    x, z = view.points[number]
    inside = all(min(axis[0], axis[-1]) <= at <= max(axis[0], axis[-1]) for axis, at in ((view.x, x), (view.z, z)))
    if not inside:
        return None
    row, column = int(np.argmin(np.abs(view.z - z))), int(np.argmin(np.abs(view.x - x)))
    down, right = (np.abs(axis - at) < AROUND for axis, at in ((view.z, z), (view.x, x)))
    cut = np.ix_(down, right)
    near = np.hypot((view.z[down] - z)[:, None], view.x[right] - x) < AROUND
    near &= view.clear[cut] & view.insonified[cut] & (view.labels[cut] == view.labels[row, column])
    if near.sum() * view.pixel[0] * view.pixel[1] < LEAST_AREA:
        return None
    rows, columns = (np.flatnonzero(kept)[k] for kept, k in zip((down, right), np.nonzero(near), strict=True))
    return Target(_names(view)[number], (row, column), np.ravel_multi_index((rows, columns), view.labels.shape))


def _names(view: FrameView) -> list[str]:
    """Names of the points and wires, in the order of `view.points`."""
    listed: list[dict[str, Any]] = [one for kind in ("points", "wires") for one in view.scene.get(kind, ())]
    return [one["name"] for one in listed]


def _pair(first: Target, second: Target) -> Pair:
    """Two targets with the pixels on the line between them."""
    (row, column), (last_row, last_column) = first.pixel, second.pixel
    number = max(abs(last_row - row), abs(last_column - column)) + 1
    rows, columns = np.linspace(row, last_row, number), np.linspace(column, last_column, number)
    return Pair((first, second), np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp))


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene; none where there are no wires or points to measure.

    Levels are counted on the scale of the image that the method was given: a stretch of grey levels after a blur would
    else make up for the height that the blur took.
    """
    view = scene.view
    known = _scene(view)
    if not known.alone and not known.pairs:
        return {}
    image = shown(scene.image, view.dynamic_range)
    image = image / low_gain(image, view.noisy_db, view.insonified, view.pixel)
    return _of_alone(image, view.pixel, known) | _of_pairs(image, known)


def _of_alone(image: Array, pixel: tuple[float, float], known: _Scene) -> dict[str, float]:
    if not known.alone:
        return {}
    heights = [(target.name, target.height(image), true) for target, true in known.alone]
    kept = [
        target.stands_out(image) and height >= KEPT * true
        for (target, _), (_, height, true) in zip(known.alone, heights, strict=True)
    ]
    found = [(widths(image, target, pixel), true) for target, true in known.sharp]
    scores = {}
    for axis, name in enumerate(("lateral", "axial")):
        of_axis = [(one[axis], true[axis]) for one, true in found]
        measured, true = pair_means([pair for pair in of_axis if not any(map(math.isnan, pair))])
        scores[f"wire_{name}_mm"], scores[f"wire_{name}_true_mm"] = 1e3 * measured, 1e3 * true
    scores["point_kept"] = float(np.mean(kept))
    scores["point_loss_db"] = float(np.mean([true - height for _, height, true in heights]))
    return scores | _by_name("point", heights)


def _of_pairs(image: Array, known: _Scene) -> dict[str, float]:
    """A pair is resolved when both stand out and keep half of the dip, counted as a share of their height: a stretched
    contrast deepens dip and height alike."""
    if not known.pairs:
        return {}
    dips = [(pair.targets[0].name, pair.dip(image, at), true) for pair, at, true, _ in known.pairs]
    resolved = [
        all(target.stands_out(image) for target in pair.targets)
        and dip / pair.height(image) >= KEPT * true / true_height
        for (pair, _, true, true_height), (_, dip, _) in zip(known.pairs, dips, strict=True)
        if true >= LEAST_DIP_DB
    ]
    return {"pairs_resolved": float(np.mean(resolved)) if resolved else math.nan} | _by_name("pair_dip", dips)


def _by_name(family: str, values: list[tuple[str, float, float]]) -> dict[str, float]:
    """Means of a family's values and of the truth's over those of each name."""
    scores = {}
    for name in dict.fromkeys(name for name, *_ in values):
        measured, true = pair_means([(value, true) for one, value, true in values if one == name])
        scores[f"{family}/{name}"], scores[f"{family}_true/{name}"] = measured, true
    return scores
