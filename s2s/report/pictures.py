"""Pictures of scenes: every row's image at its own pixels, all on one grey scale, with depth and a scale in mm."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.controls import NOISY
from s2s.evaluation.results import Image, Picture
from s2s.report.looks import THE_TRUTH, TRUTH, Look
from s2s.report.markup import escape
from s2s.report.plots import ticks


def gallery(picture: Picture, looks: Mapping[str, Look], unit: str = "mm") -> str:
    """All images of a scene side by side, the truth and the untouched image first; the script makes them zoom."""
    left, right, top, bottom = extent(picture)
    first = [name for name in (TRUTH, NOISY) if name in picture.images]
    names = [*first, *(name for name in picture.images if name not in first)]
    known = {**looks, TRUTH: THE_TRUTH}
    title = f"{picture.suite}, scene {picture.scene}"
    inside = "".join(_figure(known[name], picture.images[name], picture, unit) for name in names)
    return (
        f'<div class="gallery" data-title="{escape(title)}" data-left="{left:.4f}" data-right="{right:.4f}" '
        f'data-top="{top:.4f}" data-bottom="{bottom:.4f}" data-range="{picture.dynamic_range:g}" data-unit="{unit}" '
        f'style="--shape:{right - left:.4f}/{bottom - top:.4f}">{inside}</div>'
    )


def extent(picture: Picture) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of an image's outer pixels' edges in millimetres.

    >>> extent(Picture("a", 0, {}, np.array([-1e-3, 1e-3]), np.array([4e-3, 6e-3]), 60.0))
    (-2.0, 2.0, 3.0, 7.0)
    """
    sides = []
    for axis in (picture.x, picture.z):
        half = abs(float(axis[-1] - axis[0])) / max(len(axis) - 1, 1) / 2
        sides += [1e3 * (float(axis[0]) - half), 1e3 * (float(axis[-1]) + half)]
    left, right, top, bottom = (round(side, 9) for side in sides)
    return left, right, top, bottom


def grey(image: Image, dynamic_range: float) -> NDArray[np.uint8]:
    """The image (H, W) in dB as grey levels: 0 for -dynamic range and below, 255 for 0 dB and above."""
    levels = np.round(255.0 * np.clip(1.0 + image / dynamic_range, 0.0, 1.0))
    return np.asarray(levels, dtype=np.uint8)


def png(levels: NDArray[np.uint8]) -> str:
    """Grey levels (H, W) as a PNG inside of an address."""
    from PIL import Image as Pictures

    buffer = io.BytesIO()
    Pictures.fromarray(levels).save(buffer, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def colour_bar(dynamic_range: float) -> str:
    """The grey scale of all pictures."""
    told = "".join(
        f'<span style="left:{100 * (1 + value / dynamic_range):.1f}%">{value:.0f}</span>'
        for value in ticks(-dynamic_range, 0.0, 6)
    )
    return f'<div class="greys" aria-label="grey scale in dB"><div></div>{told}<em>dB</em></div>'


def _figure(look: Look, image: Image, picture: Picture, unit: str) -> str:
    left, right, top, bottom = extent(picture)
    depths = "".join(
        f'<span style="top:{100 * (depth - top) / (bottom - top):.2f}%">{depth:g}</span>'
        for depth in ticks(top, bottom, 4)
    )
    long = ticks(0.0, (right - left) / 3, 2)[-1]
    scale = f'<span class="scalebar" style="width:{100 * long / (right - left):.2f}%">{long:g} {unit}</span>'
    pixels = grey(image, picture.dynamic_range)
    text = escape(f"{look.label}: {picture.suite}, scene {picture.scene}")
    return (
        f'<figure class="{look.classes}" data-row="{look.key}"><div class="frame"><div class="depths">{depths}</div>'
        f'<img alt="{text}" width="{pixels.shape[1]}" height="{pixels.shape[0]}" src="{png(pixels)}">{scale}</div>'
        f"<figcaption>{look.name}</figcaption></figure>"
    )
