"""How well a region can be told from what surrounds it: the generalised contrast-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.fidelity import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

METRICS = (
    Metric(
        "gcnr", "gCNR", "detection", "generalised contrast-to-noise ratio of regions against what surrounds them",
        truth="gcnr_true", digits=3,
    ),
    Metric("gcnr_true", "gCNR of the truth", "detection", "the same of truth/bmode", better="none", digits=3),
    Metric("gcnr_skipped", "left out", "detection", "regions too small, or with too little around them", better="none",
           digits=0),
    Metric("gcnr/", "gCNR", "detection", "gCNR of the regions of one name", digits=3),
    Metric("gcnr_true/", "gCNR of the truth", "detection", "the same of truth/bmode", better="none", digits=3),
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
    """The group's metrics of a scene: means over all regions, and over those of each name."""
    view = scene.view
    image, truth = (shown(values, view.dynamic_range) for values in (scene.image, view.truth_db))
    found: dict[str, list[tuple[float, float]]] = {}
    regions = [region for region in view.regions if region.has_areas]
    for region in regions:
        pair = (gcnr(image[region.window], region.inside, region.ring),
                gcnr(truth[region.window], region.inside, region.ring))  # fmt: skip
        found.setdefault(region.name, []).append(pair)
    measured, true = pair_means([pair for pairs in found.values() for pair in pairs])
    scores = {"gcnr": measured, "gcnr_true": true, "gcnr_skipped": float(len(view.regions) - len(regions))}
    for name, pairs in found.items():
        scores[f"gcnr/{name}"], scores[f"gcnr_true/{name}"] = pair_means(pairs)
    return scores


def pair_means(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the first and of the second values; nan without any."""
    if not pairs:
        return math.nan, math.nan
    first, second = np.mean(pairs, axis=0)
    return float(first), float(second)
