"""Profiles across edges: where the truth has an upright edge between two flat places, and what each row makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from s2s.evaluation.results import Picture
from s2s.report.looks import THE_TRUTH, TRUTH, Look
from s2s.report.plots import Axis, Curve, chart

Array = NDArray[np.float64]

#: Metres to either side of an edge that a profile shows, where its flat ends begin, and the depth that is averaged.
REACH, FLAT, TALL = 3e-3, 1.5e-3, 6e-3
#: dB that a step must have beyond what the truth varies around it.
LEAST_STEP = 3.0
#: Pixels on either side that a profile needs.
LEAST_PIXELS = 5


@dataclass(frozen=True)
class Edge:
    """An upright edge in the truth: rows that are averaged, columns that are shown, and its place in metres."""

    rows: slice
    columns: slice
    x: float
    z: float
    step: float


def find_edges(picture: Picture, most: int = 4) -> list[Edge]:
    """The clearest upright edges of the truth, the largest step first; none where there is no flat place beside one.

    Every place is given the step between its two sides, less twice what the truth varies within the rows and within
    the flat ends; the best is taken, then the best of those elsewhere.
    """
    truth = np.clip(picture.images[TRUTH].astype(np.float64), -picture.dynamic_range, 0.0)
    dx, dz = (abs(float(axis[-1] - axis[0])) / max(len(axis) - 1, 1) for axis in (picture.x, picture.z))
    tall, reach, flat = (max(round(length / pixel), 1) for length, pixel in ((TALL, dz), (REACH, dx), (FLAT, dx)))
    if reach < LEAST_PIXELS or tall >= truth.shape[0] or 2 * reach + 1 >= truth.shape[1]:
        return []
    mean = uniform_filter1d(truth, tall, axis=0)
    spread = np.sqrt(np.maximum(uniform_filter1d(truth**2, tall, axis=0) - mean**2, 0.0))
    left, right = (_side(mean, -reach, -flat), _side(mean, flat, reach))
    rough = uniform_filter1d(spread, 2 * reach + 1, axis=1) + left[1] + right[1]
    clear = np.abs(right[0] - left[0]) - 2.0 * rough
    inside = np.zeros(truth.shape, dtype=bool)
    inside[tall // 2 : truth.shape[0] - tall // 2, reach : truth.shape[1] - reach] = True
    clear = np.where(inside, clear, -np.inf)
    found: list[Edge] = []
    while len(found) < most and clear.max() >= LEAST_STEP:
        row, column = (int(k) for k in np.unravel_index(int(np.argmax(clear)), clear.shape))
        edge = _edge(picture, mean, row, column, tall, reach, flat)
        found += [edge] if edge else []
        clear[max(row - 2 * tall, 0) : row + 2 * tall, max(column - 2 * reach, 0) : column + 2 * reach] = -np.inf
    return found


def _side(mean: Array, first: int, last: int) -> tuple[Array, Array]:
    """Mean and standard deviation of the columns from `first` to `last` beside each place."""
    wide = last - first + 1
    about = (first + last) // 2
    level = uniform_filter1d(mean, wide, axis=1)
    spread = np.sqrt(np.maximum(uniform_filter1d(mean**2, wide, axis=1) - level**2, 0.0))
    return np.roll(level, -about, axis=1), np.roll(spread, -about, axis=1)


def _edge(picture: Picture, mean: Array, row: int, column: int, tall: int, reach: int, flat: int) -> Edge | None:
    """The edge at a place, moved to where the truth is half-way between its two sides; None if that is too far out."""
    line = mean[row, column - reach : column + reach + 1]
    low, high = line[: reach - flat + 1].mean(), line[reach + flat :].mean()
    crossed = line >= (low + high) / 2 if high > low else line <= (low + high) / 2
    centre = column + int(np.argmax(crossed)) - reach
    if not reach <= centre < mean.shape[1] - reach:
        return None
    rows = slice(row - tall // 2, row - tall // 2 + tall)
    columns = slice(centre - reach, centre + reach + 1)
    return Edge(rows, columns, float(picture.x[centre]), float(picture.z[row]), float(high - low))


def profile(image: NDArray[Any], edge: Edge, dynamic_range: float) -> Array:
    """The image across an edge: its mean over the edge's rows in dB, (2 * reach + 1,)."""
    shown = np.clip(image.astype(np.float64), -dynamic_range, 0.0)
    return np.asarray(shown[edge.rows, edge.columns].mean(axis=0))


def profile_charts(picture: Picture, looks: Mapping[str, Look], keep: Sequence[str]) -> list[str]:
    """A chart for each edge: the truth's profile, and that of every row in `keep`."""
    charts = []
    for edge in find_edges(picture):
        across = (1e3 * (picture.x[edge.columns] - edge.x)).tolist()
        names = [name for name in keep if name in picture.images]
        curves = [
            Curve(look, across, profile(picture.images[name], edge, picture.dynamic_range).tolist(), marked=False)
            for name, look in [*((name, looks[name]) for name in names), (TRUTH, THE_TRUTH)]
        ]
        title = f"{edge.step:+.0f} dB at {1e3 * edge.x:.1f} mm, depth {1e3 * edge.z:.0f} mm"
        charts.append(chart(title, curves, Axis("from the edge [mm]", -1e3 * REACH, 1e3 * REACH), Axis("dB")))
    return charts
