"""The true displacement in pictures: arrows to where tissue has come, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from usim.frame import Frame
from usim.view.panels import scanned, show_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel

#: Arrows along the longer side: enough to see a field, few enough to see each.
_ARROWS = 11


def farthest(frames: Iterable[Frame]) -> float:
    """The largest displacement in frames, metres; 0 where nothing moves."""
    moving = (frame for frame in frames if frame.truth.displacement is not None)
    return max((float(np.max(_way(frame), initial=0.0, where=scanned(frame))) for frame in moving), default=0.0)


def show_displacement(panel: Panel, frame: Frame, most: float) -> None:
    """Show how far tissue has come since the sequence began, 0 to `most` metres in colours, with arrows."""
    title = f"displacement, 0 to {most * 1e3:.3g} mm"
    panel.set_facecolor("black")
    far = np.ma.masked_where(~scanned(frame), _way(frame))
    show_image(panel, frame.axes, title, far, cmap="viridis", vmin=0.0, vmax=most or 1.0)
    add_arrows(panel, frame, most)


def add_arrows(panel: Panel, frame: Frame, most: float, **options: Any) -> Any:
    """Add an arrow at every few pixels, its tip there; one of `most` metres nearly reaches the next.

    Returns matplotlib's arrows, for `turn_arrows`.
    """
    x, z = _places(frame)
    apart = max(np.ptp(frame.axes.x), np.ptp(frame.axes.z)) / _ARROWS * 0.8e3
    style = {
        "pivot": "tip",
        "color": "white",
        "edgecolor": "black",
        "linewidth": 0.5,
        "headaxislength": 3.0,
        "width": 0.009,
        "headwidth": 3.5,
        "headlength": 3.5,
    }
    scale = {"angles": "xy", "scale_units": "xy", "scale": max(most, 1e-12) * 1e3 / apart}
    across, down = arrows_of(frame)
    return panel.quiver(frame.axes.x[x] * 1e3, frame.axes.z[z] * 1e3, across, down, **style, **scale, **options)


def arrows_of(frame: Frame) -> tuple[NDArray[Any], NDArray[Any]]:
    """Displacement in mm, across and down, where the arrows are; masked outside the sector that was scanned."""
    assert frame.truth.displacement is not None
    x, z = _places(frame)
    outside = ~scanned(frame)[np.ix_(z, x)]
    across, down = np.moveaxis(frame.truth.displacement[np.ix_(z, x)] * 1e3, -1, 0)
    return np.ma.masked_where(outside, across), np.ma.masked_where(outside, down)


def _way(frame: Frame) -> NDArray[Any]:
    """How far what is at a pixel has come (Z, X), metres."""
    assert frame.truth.displacement is not None
    return np.hypot(frame.truth.displacement[..., 0], frame.truth.displacement[..., 1])


def _places(frame: Frame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Columns and rows of the pixels that have an arrow."""
    wide, high = np.ptp(frame.axes.x), np.ptp(frame.axes.z)
    counts = [max(2, round(_ARROWS * side / max(wide, high))) for side in (wide, high)]
    sizes = (len(frame.axes.x), len(frame.axes.z))
    places = [((np.arange(n) + 0.5) / n * size).astype(int) for n, size in zip(counts, sizes, strict=True)]
    return places[0], places[1]
