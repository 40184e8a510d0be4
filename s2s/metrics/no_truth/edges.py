"""What is left of strong edges: their slope and width, averaged along them so that speckle cancels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from s2s.metrics.metric import Metric
from s2s.metrics.no_truth.seen import Edges, Output

Array = NDArray[np.float64]

_NEEDS = "strong edges, 15 speckle cells long altogether"
METRICS = (
    Metric("edge_kept", "edge kept", "edges", "slope across strong edges over the untouched image's, curve fitted",
           better="nearer", truth=1.0, needs=_NEEDS, fooled_by="leaving the speckle in, sharpening"),
    Metric("edge_width", "edge width", "edges", "height over slope of strong edges, over that of the untouched image",
           better="nearer", truth=1.0, needs=_NEEDS, fooled_by="leaving the speckle in, sharpening"),
    Metric("edge_noise", "edge/noise", "edges",
           "slope across strong edges in dB per speckle cell, over the standard deviation in dB in areas of speckle",
           digits=1, needs=_NEEDS, fooled_by="any blur that is finer than the edges, flattening of all but them"),
)  # fmt: skip

#: Standard deviation in cells of the weights of the slope; from here on the sides of an edge are flat.
SLOPE, FLAT = 0.75, 2.0
#: dB of height below which an edge has no width.
LEAST_HEIGHT_DB = 3.0


def slope(profile: Array, offsets: Array) -> float:
    """Slope in dB per cell of a profile (T,) at 0: the straight line that fits best, near pixels counting most.

    sum w t p / sum w t^2,   w = exp(-t^2 / (2 0.75^2))
    """
    weight = np.exp(-0.5 * (offsets / SLOPE) ** 2)
    return float((weight * offsets * profile).sum() / (weight * offsets**2).sum())


def width(profile: Array, offsets: Array) -> float:
    """Height over slope of a profile (T,), in cells: how wide a ramp of this slope would be.

    The height is that between the means beyond two cells on either side; nan below 3 dB, or when the slope falls.
    """
    height = float(profile[offsets >= FLAT].mean() - profile[offsets <= -FLAT].mean())
    steep = slope(profile, offsets)
    return height / steep if height >= LEAST_HEIGHT_DB and steep > 0.0 else math.nan


def kept(profile: Array, untouched: Array, edges: Edges) -> tuple[float, float]:
    """Slope and width of a profile (T,) over those of the untouched image's profile (T,)."""
    offsets = edges.offsets
    return (
        slope(profile, offsets) / slope(untouched, offsets),
        width(profile, offsets) / width(untouched, offsets),
    )


def measure(output: Output) -> dict[str, float]:
    """The group's metrics of an image; nan where the image has no strong edges."""
    seen = output.seen
    if seen.edges is None or seen.areas is None or seen.profile is None or output.profile is None:
        return {metric.name: math.nan for metric in METRICS}
    steep, wide = kept(output.profile, seen.profile, seen.edges)
    noise = float(seen.areas.rest(output.fitted).std())
    return {
        "edge_kept": steep,
        "edge_width": wide,
        "edge_noise": slope(output.profile, seen.edges.offsets) / noise if noise > 1e-6 else math.inf,
    }
