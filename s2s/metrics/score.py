"""All metrics of one image against one frame, by name.

>>> view = FrameView.of(usim.simulate("cyst"))  # doctest: +SKIP
>>> score_image(view.truth_db, view)["ssim"]  # doctest: +SKIP
1.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.detection import gcnr
from s2s.metrics.edges import edge_width
from s2s.metrics.fidelity import fidelity, shown
from s2s.metrics.frame_view import FrameView
from s2s.metrics.homogeneity import hom
from s2s.metrics.speckle import enl

Array = NDArray[np.float64]

#: True contrast in dB that an edge needs to be measured: speckle in the mean of a profile is about 1 dB.
LEAST_CONTRAST_DB = 6.0

#: Every metric with its meaning; `gcnr/NAME` and `gcnr_true/NAME` come on top for each name of regions.
DEFINITIONS: Mapping[str, str] = {
    "psnr": "20 log10(dynamic range / rms error) against truth/bmode, dB",
    "psnr_fit": "PSNR after the rising tone curve that brings the image closest to the truth, dB",
    "ssim": "structural similarity to truth/bmode (Gaussian window, sigma 1.5 pixels)",
    "ssim_fit": "SSIM after the same tone curve",
    "enl": "equivalent number of looks in the background: mean^2 / variance of intensity over true intensity; "
    "1 for fully developed speckle",
    "gcnr": "generalised contrast-to-noise ratio of regions against the background around them: 0 alike, 1 told apart",
    "gcnr_true": "the same of truth/bmode",
    "gcnr_skipped": "regions too small, or with too little background around them, for gCNR",
    "hom": "grey-level co-occurrence homogeneity; knows no truth, and any blur raises it",
    "hom_true": "the same of truth/bmode",
    "edge_mm": "10 to 90 % width of the edges of regions, mm",
    "edge_true_mm": "the same of truth/bmode",
    "edge_skipped": "regions too small, or of less than 6 dB true contrast, for an edge",
}


def score_image(image_db: ArrayLike, view: FrameView) -> dict[str, float]:
    """Every metric of an image (H, W), in dB with 0 dB as full scale, of the scene of `view`.

    Returns metrics by name, see DEFINITIONS; nan where a metric can't be measured in this frame, inf for the PSNR and
    ENL of the truth itself. Raises DataError when the image is too small for SSIM.
    """
    depth, truth = view.dynamic_range, shown(view.truth_db, view.dynamic_range)
    raw = np.asarray(image_db, dtype=np.float64)
    image = shown(raw, depth)
    return {
        **fidelity(raw, truth, depth),
        "enl": enl(image, truth, view.background),
        "hom": hom(image, depth),
        "hom_true": hom(truth, depth),
        **_detection(image, truth, view),
        **_edges(image, truth, view),
    }


def _detection(image: Array, truth: Array, view: FrameView) -> dict[str, float]:
    """gCNR of image and truth: means over all regions, and over those of each name."""
    found: dict[str, list[tuple[float, float]]] = {}
    regions = [region for region in view.regions if region.has_areas]
    for region in regions:
        pair = (gcnr(image[region.window], region.inside, region.ring),
                gcnr(truth[region.window], region.inside, region.ring))  # fmt: skip
        found.setdefault(region.name, []).append(pair)
    measured, true = _means([pair for pairs in found.values() for pair in pairs])
    scores = {"gcnr": measured, "gcnr_true": true, "gcnr_skipped": float(len(view.regions) - len(regions))}
    for name, pairs in found.items():
        scores[f"gcnr/{name}"], scores[f"gcnr_true/{name}"] = _means(pairs)
    return scores


def _edges(image: Array, truth: Array, view: FrameView) -> dict[str, float]:
    """Mean edge width of image and truth in mm, over the regions where both can be measured."""
    pairs = []
    for region in view.regions:
        cut = truth[region.window]
        if not region.has_areas or not region.has_plateaus:
            continue
        if abs(cut[region.inside].mean() - cut[region.ring].mean()) < LEAST_CONTRAST_DB:
            continue
        widths = (
            1e3 * edge_width(image[region.window], region.distance, region.edge),
            1e3 * edge_width(cut, region.distance, region.edge),
        )
        if not any(map(math.isnan, widths)):
            pairs.append(widths)
    measured, true = _means(pairs)
    return {"edge_mm": measured, "edge_true_mm": true, "edge_skipped": float(len(view.regions) - len(pairs))}


def _means(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the first and of the second values; nan without any."""
    if not pairs:
        return math.nan, math.nan
    first, second = np.mean(pairs, axis=0)
    return float(first), float(second)
