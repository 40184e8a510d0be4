"""The picture of a match: a scan beside a frame of its phantom, with what both show of speckle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from usim.frame import Axes
from usim.match.blocks import find_blocks
from usim.match.measure import Match
from usim.match.phantom import simulated_area, simulated_cells
from usim.match.scan import WHITE
from usim.view.files import save_figure
from usim.view.panels import show_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_WIDTH, _LOWER = 11.0, 3.2  # inches
_PERCENTILE = 99.8  # of the scan's greys, drawn white: most scans use a third of the greys
_COLORS = ("C0", "C1")


def match_sheet(match: Match, frame: Array, pixel: float, path: Path) -> None:
    """Draw a scan beside a frame of its phantom on one grey scale, and below their histograms and autocovariances.

    frame: (Z, X), grey 0 to 255. pixel: metres.
    Raises ConfigError for an unknown file type, ResourceError when the file cannot be written.
    """
    save_figure(draw_match(match, frame, pixel), path)


def draw_match(match: Match, frame: Array, pixel: float) -> Figure:
    """Return the matplotlib figure of a match."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    real = match.area.cut(match.scan.values)
    tall = min(real.shape[0] / real.shape[1], 2.0)
    figure = Figure(figsize=(_WIDTH, tall * _WIDTH / 2.0 + _LOWER), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic(
        [["scan"] * 3 + ["phantom"] * 3, ["histogram"] * 2 + ["axial"] * 2 + ["lateral"] * 2],
        height_ratios=[tall * _WIDTH / 2.0, _LOWER],
    )
    white = float(np.percentile(real, _PERCENTILE))
    grey: Any = None
    for name, title, values in (("scan", match.scan.path.name, real), ("phantom", "phantom, simulated", frame)):
        z, x = (np.arange(n) * pixel for n in values.shape)
        grey = show_image(panels[name], Axes(x, z), title, values, cmap="gray", vmin=0.0, vmax=max(white, 1.0))
        panels[name].set_xlabel("[mm]")
    figure.colorbar(grey, ax=[panels["scan"], panels["phantom"]], label="grey, of 255", aspect=30, pad=0.01)
    shown, seen = simulated_area(match).along_beams(frame)
    found = simulated_cells(match, frame).size
    pairs = (
        ("scan", match.straight, match.seen, match.cells.size),
        ("phantom", shown, seen, found),
    )
    for color, (name, image, mask, cell) in zip(_COLORS, pairs, strict=True):
        _histogram(panels["histogram"], image[mask], name, color)
        curves = find_blocks(image, mask, cell).even().autocovariance()
        for side, curve, size in zip(("axial", "lateral"), curves, cell, strict=True):
            panels[side].plot(curve, "o-", ms=3, color=color, label=f"{name}: cell {size:.2f} pixels")
    _finish(panels)
    return figure


def _histogram(panel: Panel, values: Array, name: str, color: str) -> None:
    panel.hist(values, bins=64, range=(0.0, WHITE), density=True, histtype="step", color=color, label=name)


def _finish(panels: dict[str, Panel]) -> None:
    panels["histogram"].set(xlabel="grey", ylabel="share per grey", yscale="log")
    for side in ("axial", "lateral"):
        panels[side].set(xlabel=f"{side} lag [pixels]", ylabel="autocovariance of grey")
        panels[side].axhline(0.0, color="0.7", lw=0.8)
    for name in ("histogram", "axial", "lateral"):
        panels[name].grid(alpha=0.3)
        panels[name].legend(fontsize=8)
