"""Methods compared at the same edge width: each one's strength is swept, since more smoothing widens edges.

What a method scores at one strength says as much of the strength as of the method: a wider blur tells lesions better
from tissue, and smears them. So every method runs at several strengths, and scores are read off where its edges are
equally wide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.statistics import CONFIDENCE, RESAMPLES, SEED, Interval, student

Array = NDArray[np.float64]

#: Edge widths at which methods are compared, over the truth's own.
FACTORS = (1.5, 2.0, 2.5)
#: What is kept of every strength and scene; the first is the width at which all else is read off.
EDGE, TRUE_EDGE, SCORES = "edge_mm", "edge_true_mm", ("gcnr_above_sham", "detect", "psnr_fit")
#: Share of resamples that must reach a width for an interval there.
LEAST_REACHED = 0.95


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a method made of scenes at every strength.

    method.  strengths: labels (K,), in the order of more smoothing.  scenes: (suite, scene) of each (S,).  edge: edge
    width in mm (K, S).  true_edge: that of the truth (S,).  scores: by metric (K, S).  nan where not measured.
    """

    method: str
    strengths: tuple[str, ...]
    scenes: tuple[tuple[str, int], ...]
    edge: Array
    true_edge: Array
    scores: Mapping[str, Array]

    @property
    def gcnr(self) -> Array:
        """gCNR above that of places without lesions (K, S)."""
        return self.scores["gcnr_above_sham"]


def sweeps_of(
    found: Mapping[tuple[str, int], Mapping[tuple[str, str], Mapping[str, float]]],
) -> tuple[Sweep, ...]:
    """Sweeps of what was measured in each (suite, scene) of each (method, strength), all in order; nan elsewhere."""
    strengths: dict[str, list[str]] = {}
    for method, strength in dict.fromkeys(pair for scene in found.values() for pair in scene):
        strengths.setdefault(method, []).append(strength)
    sweeps = []
    for method, labels in strengths.items():
        table = {
            metric: np.array([
                [scene.get((method, label), {}).get(metric, math.nan) for scene in found.values()] for label in labels
            ])
            for metric in (EDGE, TRUE_EDGE, *SCORES)
        }  # fmt: skip
        true = np.array([next(iter(column[~np.isnan(column)]), math.nan) for column in table.pop(TRUE_EDGE).T])
        sweeps.append(Sweep(method, tuple(labels), tuple(found), table.pop(EDGE), true, table))
    return tuple(sweeps)


def widths(sweeps: Sequence[Sweep]) -> tuple[float, ...]:
    """Edge widths in mm at which methods are compared: FACTORS of the truth's mean."""
    true = float(np.nanmean(np.concatenate([sweep.true_edge for sweep in sweeps])))
    return tuple(factor * true for factor in FACTORS)


def at_edge_width(sweep: Sweep, width: float, metric: str = "gcnr_above_sham") -> Interval:
    """The mean of a metric over scenes where the method's mean edge is `width` mm wide, with its interval.

    Both means are taken at every strength, and the metric's is interpolated linearly between the two strengths where
    edges grow past the width for the last time. The interval is the percentile bootstrap over scenes: resampled scenes
    give other means of both. All nan when edges do not reach the width at any strength or are wider at all of
    them (`unreached` says which); no interval when more than 5 % of the resamples do so, or with one scene.
    """
    return _interval(*_read_off(sweep, width, metric), len(sweep.scenes))


def difference_at_edge_width(first: Sweep, second: Sweep, width: float, metric: str = "gcnr_above_sham") -> Interval:
    """The mean of first - second where the edges of both are `width` mm wide; the same scenes are drawn for both."""
    (one, of_one), (two, of_two) = (_read_off(sweep, width, metric) for sweep in (first, second))
    return _interval(one - two, of_one - of_two, len(first.scenes))


def unreached(sweep: Sweep, width: float) -> str:
    """Why a sweep has no value at an edge width in mm; empty when it has."""
    if not math.isnan(at_edge_width(sweep, width, EDGE).mean):
        return ""
    edge = _means(sweep.edge, np.arange(len(sweep.scenes))[None])[0]
    if np.isnan(edge).all():
        return "its edges can't be measured at any strength"
    if np.nanmin(edge) > width:
        return f"its edges are wider at every strength: {np.nanmin(edge):.2f} mm or more"
    return f"its edges are narrower at every strength: {np.nanmax(edge):.2f} mm or less"


def _read_off(sweep: Sweep, width: float, metric: str) -> tuple[float, Array]:
    """The metric at the width over all scenes, and over resamples of them (R,)."""
    count = len(sweep.scenes)
    drawn = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    table = sweep.edge if metric == EDGE else np.where(np.isnan(sweep.edge), np.nan, sweep.scores[metric])
    (mean,), resampled = (
        _crossing(_means(sweep.edge, scenes), _means(table, scenes), width)
        for scenes in (np.arange(count)[None], drawn)
    )
    return float(mean), resampled


def _means(table: Array, drawn: NDArray[np.integer]) -> Array:
    """Means (R, K) of a table (K, S) over drawn scenes (R, S); what was not measured is left out."""
    values = table[:, drawn]
    measured = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: Array = np.where(measured, values, 0.0).sum(axis=2) / measured.sum(axis=2)
    return means.T


def _crossing(edge: Array, score: Array, width: float) -> Array:
    """Scores (R,) where curves of edge widths (R, K) grow past a width for the last time; nan where they don't."""
    past = (edge[:, :-1] <= width) & (edge[:, 1:] > width)
    last = past.shape[1] - 1 - np.argmax(past[:, ::-1], axis=1)
    row = np.arange(len(edge))
    low, high = edge[row, last], edge[row, last + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (width - low) / (high - low)
        return np.where(past.any(axis=1), score[row, last] * (1.0 - share) + score[row, last + 1] * share, np.nan)


def _interval(mean: float, resampled: Array, count: int) -> Interval:
    """Interval of a mean from its resamples, widened for few scenes as `statistics.interval` widens it."""
    if math.isnan(mean):
        return Interval(math.nan, math.nan, math.nan, 0)
    reached = resampled[~np.isnan(resampled)]
    if count < 2 or reached.size < LEAST_REACHED * resampled.size:
        return Interval(mean, math.nan, math.nan, count)
    stretch = math.sqrt(count / (count - 1)) * student(count - 1, 1) / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    low, high = mean + stretch * (np.quantile(reached, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) - mean)
    return Interval(mean, float(low), float(high), count)


def told(sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """Sweeps as plain data for JSON, with what they say at the widths that are compared."""
    compared = widths(sweeps) if sweeps else ()
    return [
        {
            "method": sweep.method,
            "strengths": list(sweep.strengths),
            "scenes": [list(scene) for scene in sweep.scenes],
            EDGE: sweep.edge.tolist(),
            TRUE_EDGE: sweep.true_edge.tolist(),
            **{metric: table.tolist() for metric, table in sweep.scores.items()},
            "at_edge_width": [
                {"width_mm": width, "unreached": unreached(sweep, width)}
                | {metric: asdict(at_edge_width(sweep, width, metric)) for metric in SCORES}
                for width in compared
            ],
        }
        for sweep in sweeps
    ]
