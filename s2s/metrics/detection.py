"""How well a region can be told from what surrounds it, and a lesion from a place without one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.frame_view import FrameView, Region
from s2s.metrics.grey import shown
from s2s.metrics.judged import SHAM, Judged
from s2s.metrics.lesions import detectability, ideal_detectability, lesions
from s2s.metrics.metric import Metric

#: What comparisons with places without a lesion need.
WITHOUT = "an image of the same places without lesions"

METRICS = (
    Metric(
        "gcnr", "gCNR", "detection", "generalised contrast-to-noise ratio of regions against what surrounds them",
        truth="gcnr_true", digits=3, fooled_by="any blur",
    ),
    Metric(
        "gcnr_above_sham", "gCNR+", "detection", "gCNR above that of the same places without lesions",
        truth=1.0, digits=3, fooled_by="a stretch that cuts levels off", needs=WITHOUT,
    ),
    Metric(
        "detect", "detect", "detection", "how often a lesion stands out more than a place without one, its place known",
        truth="detect_ideal", digits=3, needs=WITHOUT,
    ),
    Metric("gcnr_true", "gCNR of the truth", "detection", "the same of truth/bmode", better="none", digits=3),
    Metric("gcnr_sham", "gCNR without lesions", "detection", "the same where there are none: chance, and what was "
           "painted into speckle", better="none", digits=3, needs=WITHOUT),
    Metric("gcnr_skipped", "left out", "detection", "regions too small, or with too little around them", better="none",
           digits=0),
    Metric("detect_ideal", "what the data hold", "detection", "the same of mean intensities of the noisy image",
           better="none", digits=3, needs=WITHOUT),
    Metric("gcnr/", "gCNR", "detection", "gCNR of the regions of one name", truth=1.0, digits=3,
           fooled_by="any blur"),
    Metric("gcnr_true/", "gCNR of the truth", "detection", "the same of truth/bmode", better="none", digits=3),
    Metric("gcnr_sham/", "gCNR without lesions", "detection", "the same where there are none", better="none", digits=3),
    Metric("detect/", "detect", "detection", "detect of the lesions of one name", truth=1.0, digits=2),
    Metric("detect_ideal/", "what the data hold", "detection", "the same of mean intensities of the noisy image",
           better="none", digits=2),
)  # fmt: skip


def gcnr(image_db: ArrayLike, inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> float:
    """Generalised contrast-to-noise ratio between the pixels of two masks (H, W): 0 alike, 1 fully told apart.

        gCNR = 1 - integral min(p, q) = max over A |P(A) - Q(A)|

    p and q being the densities of the values inside and outside. Rodriguez-Molares, Rindal, D'hooge et al., IEEE
    Trans. Ultrason. Ferroelectr. Freq. Control 67 (2020) 745-759. Here A runs over all intervals and their
    complements, that is, over one or two thresholds anywhere between the values (Kuiper's statistic): exact when the
    densities cross at most twice, too small when they cross more often. There are no histogram bins to choose; only the
    order of the values matters, so that no rising curve changes the result.

    n and m independent values of one distribution give about 1.25 sqrt(1 / n + 1 / m) rather than 0.
    nan when a mask is empty.

    >>> gcnr(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[1, 1, 0, 0]], bool), np.array([[0, 0, 1, 1]], bool))
    1.0
    """
    image = np.asarray(image_db)
    first, second = np.sort(image[inside]), np.sort(image[outside])
    if not first.size or not second.size:
        return math.nan
    values = np.concatenate([first, second])
    below = np.searchsorted(first, values, side="right") / first.size
    difference = below - np.searchsorted(second, values, side="right") / second.size
    return float(max(difference.max(), 0.0) - min(difference.min(), 0.0))


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene: means over all regions, and over those of each name.

    Beside an image without lesions, those are named by diameter and contrast, and compared with it.
    """
    view = scene.view
    image = shown(scene.image, view.dynamic_range)
    shams = list(scene.having(SHAM).values())
    names = {lesion.region: lesion.name for lesion in lesions(view)} if shams else {}
    regions = [region for region in view.regions if region.has_areas]
    members = [names.get(region, region.name) for region in regions]
    true = _true(view)
    scores = _means("gcnr", members, [gcnr(image[region.window], region.inside, region.ring) for region in regions])
    scores |= _means("gcnr_true", members, [true[region] for region in regions])
    scores["gcnr_skipped"] = float(len(view.regions) - len(regions))
    for sham, sham_view in shams:
        without = shown(sham, view.dynamic_range)
        scores |= _means(
            "gcnr_sham", members, [gcnr(without[region.window], region.inside, region.ring) for region in regions]
        )
        scores["gcnr_above_sham"] = above_chance(scores["gcnr"], scores["gcnr_sham"])
        scores |= _means("detect", list(names.values()), detectability(image, without, view))
        scores |= _means("detect_ideal", list(names.values()), ideal_detectability(view, sham_view))
    return scores


def above_chance(score: float, chance: float) -> float:
    """A score of 0 to 1 above what chance gives: (score - chance) / (1 - chance).

    Cohen, Educ. Psychol. Meas. 20 (1960) 37-46: 1 for a perfect score, 0 for chance; nan where chance is perfect.

    >>> above_chance(0.75, 0.5)
    0.5
    """
    return (score - chance) / (1.0 - chance) if chance < 1.0 else math.nan


@lru_cache(maxsize=4)
def _true(view: FrameView) -> Mapping[Region, float]:
    """gCNR of the truth in every region that can be measured: the same for all methods."""
    truth = shown(view.truth_db, view.dynamic_range)
    regions = (region for region in view.regions if region.has_areas)
    return {region: gcnr(truth[region.window], region.inside, region.ring) for region in regions}


def _means(family: str, members: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """The mean of all values, and of those of each member."""
    grouped: dict[str, list[float]] = {}
    for member, value in zip(members, values, strict=True):
        grouped.setdefault(f"{family}/{member}", []).append(value)
    means = {name: float(np.mean(of_name)) for name, of_name in grouped.items()}
    return {family: float(np.mean(values)) if len(values) else math.nan, **means}


def pair_means(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the first and of the second values; nan without any."""
    if not pairs:
        return math.nan, math.nan
    first, second = np.mean(pairs, axis=0)
    return float(first), float(second)
