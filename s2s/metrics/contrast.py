"""Whether the contrast that comes out is the contrast that went in."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.detection import pair_means
from s2s.metrics.frame_view import FLOOR_MARGIN_DB, LEAST_AREA, FrameView
from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

Array = NDArray[np.float64]

_GROUP, _NEEDS = "contrast", "regions and background of 5 levels or more over 12 dB or more"
_STRETCH = "a stretch that is made to fit"
METRICS = (
    Metric("contrast_slope", "contrast slope", _GROUP, "output dB per true dB, by a line through the mean levels of "
           "regions and background", better="nearer", truth=1.0, fooled_by=_STRETCH, needs=_NEEDS),
    Metric("contrast_range", "contrast range", _GROUP, "output dB from darkest to brightest level, over true dB",
           better="nearer", truth=1.0, fooled_by=_STRETCH, needs=_NEEDS),
    Metric("contrast_bend_db", "contrast bend", _GROUP, "largest distance of a level from that line, in true dB", "dB",
           "lower", 0.0, needs=_NEEDS),
    Metric("black_share", "false black", _GROUP, "share of pixels that are black, and not so in truth/bmode",
           better="lower", truth=0.0, digits=4),
    Metric("white_share", "false white", _GROUP, "share of pixels that are white, and not so in truth/bmode",
           better="lower", truth=0.0, digits=4),
    Metric("level/", "level", _GROUP, "mean of the regions of one name, or of the background", "dB", "none", digits=1,
           needs=_NEEDS),
    Metric("level_true/", "level of the truth", _GROUP, "the same of truth/bmode", "dB", "none", digits=1,
           needs=_NEEDS),
)  # fmt: skip

#: Metres that levels keep from borders: out of the reach of a moderate blur, which has metrics of its own.
MARGIN = 1e-3
#: Levels no closer than DISTINCT dB count as several; so many over so many dB make a line.
DISTINCT_DB, LEAST_LEVELS, LEAST_RANGE_DB = 1.0, 5, 12.0
#: Grey levels of a screen.
GREYS = 256


def line(levels_db: ArrayLike, true_db: ArrayLike) -> tuple[float, float, float]:
    """Slope, range and bend of mean levels (N,) in dB against true ones (N,), of which two differ.

        level = offset + slope true + rest, least squares
        range = (level of the highest true one - level of the lowest) / difference of the true ones
        bend = max |rest| / slope

    The slope is 1 when contrast is kept and k when it is stretched by k, whatever the gain. A curved display bends the
    line, and so do levels that are cut off at black or white. The bend is counted in true dB: less contrast does not
    straighten a line. It is inf where the line does not rise.

    >>> line([-40.0, -20.0, 0.0], [-20.0, -10.0, 0.0])
    (2.0, 2.0, 0.0)
    """
    levels, true = (np.asarray(values, dtype=np.float64) for values in (levels_db, true_db))
    from_mean = true - true.mean()
    slope = float(from_mean @ levels / (from_mean @ from_mean))
    rest = levels - levels.mean() - slope * from_mean
    low, high = int(np.argmin(true)), int(np.argmax(true))
    bend = float(np.abs(rest).max()) / slope if slope > 0 else math.inf
    return slope, float((levels[high] - levels[low]) / (true[high] - true[low])), bend


def end_shares(
    image_db: ArrayLike, truth_db: ArrayLike, mask: NDArray[np.bool_], dynamic_range: float
) -> tuple[float, float]:
    """Shares of the pixels of a mask (H, W) that are black in the image (H, W) and not in the truth, and white.

    Black and white are the first and the last of a screen's 256 grey levels over the dynamic range: within 0.2 % of
    its ends, 0.12 dB of 60.

    >>> end_shares([[-60.0, -60.0, -9.0, 1.0]], [[-60.0, -9.0, -9.0, -9.0]], np.ones((1, 4), bool), 60.0)
    (0.25, 0.25)
    """
    half = dynamic_range / (GREYS - 1) / 2
    image, truth = (np.asarray(values, dtype=np.float64)[mask] for values in (image_db, truth_db))
    black = (image <= half - dynamic_range) & (truth > half - dynamic_range)
    white = (image >= -half) & (truth < -half)
    return float(black.mean()), float(white.mean())


def levels(image: Array, truth: Array, view: FrameView) -> list[tuple[str, float, float]]:
    """Name and mean level in dB, in the image and in the truth (H, W), of every region and of the background, from dark
    to bright in the truth.

    Levels are taken 1 mm inside regions; those whose truth lies within 10 dB of black are left out, since there
    speckle's nulls are clipped.
    """
    places = [
        (region.name, region.window, deep)
        for region in view.regions
        if (deep := region.inside & (region.distance >= MARGIN)).sum() * region.pixel_area >= LEAST_AREA
    ]
    if view.background.any():
        places.append(("background", (slice(None), slice(None)), view.background))
    found = [(name, float(image[cut][mask].mean()), float(truth[cut][mask].mean())) for name, cut, mask in places]
    visible = [one for one in found if one[2] >= FLOOR_MARGIN_DB - view.dynamic_range]
    return sorted(visible, key=lambda one: one[2])


def make_a_line(true_db: ArrayLike) -> bool:
    """Whether there are enough levels (N,), and far enough apart, for a slope to mean something."""
    ordered = np.sort(np.asarray(true_db, dtype=np.float64))
    if not len(ordered) or ordered[-1] - ordered[0] < LEAST_RANGE_DB:
        return False
    distinct, last = 1, ordered[0]
    for level in ordered:
        if level - last >= DISTINCT_DB:
            distinct, last = distinct + 1, level
    return distinct >= LEAST_LEVELS


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene; slope, range, bend and levels only where there are levels enough for a line."""
    view = scene.view
    image, truth = (shown(values, view.dynamic_range) for values in (scene.image, view.truth_db))
    black, white = end_shares(image, truth, view.insonified, view.dynamic_range)
    scores = {"black_share": black, "white_share": white}
    found = levels(image, truth, view)
    out, true = ([one[k] for one in found] for k in (1, 2))
    if not make_a_line(true):
        return scores
    slope, over, bend = line(out, true)
    scores |= {"contrast_slope": slope, "contrast_range": over, "contrast_bend_db": bend}
    for name in dict.fromkeys(name for name, *_ in found):
        of_name = [(one, of_truth) for other, one, of_truth in found if other == name]
        scores[f"level/{name}"], scores[f"level_true/{name}"] = pair_means(of_name)
    return scores
