"""Pictures of scenes: every row's image at its own pixels, all on one scale, with depth and a scale in mm."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.controls import NOISY
from s2s.evaluation.results import Image, Picture
from s2s.report.looks import THE_TRUTH, TRUTH, Look
from s2s.report.markup import escape
from s2s.report.plots import ticks

Levels = NDArray[np.uint8]

#: Colours of maps: as far below 0 as is shown, 0, and as far above; apart for colour-blind eyes (Brewer's RdBu).
SIGNED = ((33, 102, 172), (255, 255, 255), (178, 24, 43))
#: dB to either side of 0 that maps show, and how fine: few colours make small files.
MOST_DB, STEP_DB = 6.0, 0.25


def gallery(picture: Picture, looks: Mapping[str, Look], unit: str = "mm") -> str:
    """All images of a scene side by side, the truth and the untouched image first; the script makes them zoom."""
    first = [name for name in (TRUTH, NOISY) if name in picture.images]
    names = [*first, *(name for name in picture.images if name not in first)]
    known = {**looks, TRUTH: THE_TRUTH}
    images = [(known[name], png(grey(picture.images[name], picture.dynamic_range))) for name in names]
    bar = _scale("#000, #fff", -picture.dynamic_range, 0.0)
    return bar + _grid(title_of(picture), picture, images, f' data-range="{picture.dynamic_range:g}"', unit)


def map_gallery(picture: Picture, kind: str, looks: Mapping[str, Look]) -> str:
    """Maps of a scene side by side on one scale of colours: blue is below 0 dB, red above."""
    maps = picture.maps[kind]
    names = [name for name in looks if name in maps and not name.endswith(" gamma=2")]
    images = [(looks[name], png(signed(maps[name]), palette())) for name in names]
    bar = _scale(", ".join(f"rgb{colour}" for colour in SIGNED), -MOST_DB, MOST_DB)
    return bar + _grid(f"{kind}: {title_of(picture)}", picture, images)


def title_of(picture: Picture) -> str:
    """The suite and the scene."""
    return f"{picture.suite}, scene {picture.scene}"


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


def grey(image: Image, dynamic_range: float) -> Levels:
    """The image (H, W) in dB as grey levels: 0 for -dynamic range and below, 255 for 0 dB and above."""
    levels = np.round(255.0 * np.clip(1.0 + image / dynamic_range, 0.0, 1.0))
    return np.asarray(levels, dtype=np.uint8)


def signed(values: Image) -> Levels:
    """A map (H, W) in dB as numbers of the palette's colours."""
    levels = np.round((np.clip(values, -MOST_DB, MOST_DB) + MOST_DB) / STEP_DB)
    return np.asarray(levels, dtype=np.uint8)


def palette() -> list[int]:
    """Red, green and blue of the colours of maps, one after another."""
    share = np.linspace(-1.0, 1.0, round(2 * MOST_DB / STEP_DB) + 1)
    parts = [np.interp(share, (-1, 0, 1), ends) for ends in zip(*SIGNED, strict=True)]
    return [round(part) for colour in zip(*parts, strict=True) for part in colour]


def png(levels: Levels, colours: list[int] | None = None) -> str:
    """Grey levels, or numbers of colours, (H, W) as a PNG inside of an address."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(levels, colours)).decode()}"


def png_bytes(levels: Levels, colours: list[int] | None = None, *, optimize: bool = False) -> bytes:
    """The same as the bytes of a file; optimize: take longer for a smaller one."""
    from PIL import Image as Pictures

    picture = Pictures.fromarray(levels)
    if colours:
        picture.putpalette(colours)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=optimize)
    return buffer.getvalue()


def _scale(colours: str, low: float, high: float) -> str:
    told = "".join(
        f'<span style="left:{100 * (value - low) / (high - low):.1f}%">{value:.0f}</span>'
        for value in ticks(low, high, 6)
    )
    shades = f'<div style="background:linear-gradient(90deg, {colours})"></div>'
    return f'<div class="colours">{shades}{told}<em>dB</em></div>'


def _grid(title: str, picture: Picture, images: Iterable[tuple[Look, str]], more: str = "", unit: str = "mm") -> str:
    left, right, top, bottom = extent(picture)
    inside = "".join(_figure(look, address, title, picture, unit) for look, address in images)
    classes = "gallery" if more else "gallery map"
    return (
        f'<div class="{classes}" data-title="{escape(title)}" data-left="{left:.4f}" data-right="{right:.4f}" '
        f'data-top="{top:.4f}" data-bottom="{bottom:.4f}" data-unit="{unit}"{more} '
        f'style="--shape:{right - left:.4f}/{bottom - top:.4f}">{inside}</div>'
    )


def _figure(look: Look, address: str, title: str, picture: Picture, unit: str) -> str:
    left, right, top, bottom = extent(picture)
    depths = "".join(
        f'<span style="top:{100 * (depth - top) / (bottom - top):.2f}%">{depth:g}</span>'
        for depth in ticks(top, bottom, 4)
    )
    long = ticks(0.0, (right - left) / 3, 2)[-1]
    bar = f'<span class="scalebar" style="width:{100 * long / (right - left):.2f}%">{long:g} {unit}</span>'
    size = f'width="{len(picture.x)}" height="{len(picture.z)}"'
    return (
        f'<figure class="{look.classes}" data-row="{look.key}"><div class="frame"><div class="depths">{depths}</div>'
        f'<img alt="{escape(look.label)}: {escape(title)}" {size} src="{address}">{bar}</div>'
        f"<figcaption>{look.name}</figcaption></figure>"
    )
