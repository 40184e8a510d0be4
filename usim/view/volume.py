"""Volumes: elevation slices side by side, and cuts through them along all three axes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError, DataError
from usim.frame import Axes, Frame
from usim.view.files import check_target, save_figure
from usim.view.panels import Shown, dynamic_range, elevation_of, image_and_truth, name_of, show_grey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Slices in the grid, in two rows; inches of one panel's width and of everything around.
_GRID = 8
_PANEL, _AROUND = 2.7, 0.8
#: Elevation on paper over the width, at least: thinner cuts show nothing.
_THINNEST = 0.25


@dataclass(frozen=True, eq=False)
class Volume:
    """What a volume's pictures show: its pictures `shown` (V, Y, Z, X) by title, over x, y and z in metres."""

    name: str
    shown: tuple[Shown, ...]
    y: NDArray[np.float64]
    axes: Axes

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Volume:
        """The volume of the slices of one scene, in the order of their elevation; DataError when they do not fit."""
        first = frames[0]
        depth, slices = dynamic_range(first), []
        for frame in frames:  # of each only what is shown is kept
            if frame.bmode.shape != first.bmode.shape:
                raise DataError("view: the slices of this volume differ in size")
            slices.append((elevation_of(frame), image_and_truth(frame, depth)))
        slices.sort(key=lambda pair: pair[0])
        y, stacks = zip(*slices, strict=True)
        shown = (
            stack[0]._replace(values=np.stack([one.values for one in stack])) for stack in zip(*stacks, strict=True)
        )
        return cls(name_of(first).partition(", y")[0], tuple(shown), np.array(y), first.axes)


def volume_sheet(frames: Sequence[Frame], path: str | os.PathLike[str], *, depth: float | None = None) -> None:
    """Draw the slices of one scene: a grid of images, and image and truth cut along x-z, x-y and y-z.

    depth: metres, of the x-y cut (C-plane); the middle of the image unless given. The other cuts go through the middle
    slice and the middle column.

    Raises ConfigError for fewer than two slices, a depth outside the image or an unknown file type, DataError for
    slices of different sizes, ResourceError when the file cannot be written.

    >>> volume_sheet(usim.open("sweep")[:], "sweep.png", depth=20e-3)  # doctest: +SKIP
    """
    check_target(Path(path))
    save_figure(draw_volume(frames, depth=depth), Path(path))


def draw_volume(frames: Sequence[Frame], *, depth: float | None = None) -> Figure:
    """Return the matplotlib figure of a volume."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if len(frames) < 2:
        raise ConfigError(f"view: a volume has at least two slices, not {len(frames)}")
    volume = Volume.of(frames)
    row = _row_at(volume.axes.z, depth)
    columns = -(-min(_GRID, len(volume.y)) // 2)
    wide, long, deep = (float(np.ptp(axis)) for axis in (volume.axes.x, volume.y, volume.axes.z))
    tall, thick = min(max(deep / wide, 0.4), 3.0), min(max(long / wide, _THINNEST), 3.0)
    above, below = _PANEL * 2 * tall + 2 * _AROUND, 1.5 * _PANEL * (tall + thick) / (1 + thick) + 1.5 * _AROUND
    figure = Figure(figsize=(4 * _PANEL + _AROUND, above + below), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(volume.name)
    upper, lower = figure.subfigures(2, 1, height_ratios=[above, below])
    _draw_grid(upper, volume, columns)
    for part, shown in zip(lower.subfigures(1, len(volume.shown)), volume.shown, strict=True):
        _draw_cuts(part, volume, shown, row, (1.0, thick, tall))
    return figure


def _row_at(z: NDArray[np.float64], depth: float | None) -> int:
    if depth is None:
        return len(z) // 2
    if not z[0] <= depth <= z[-1]:
        raise ConfigError(
            f"--depth: {depth * 1e3:g} mm is not in the image, which has {z[0] * 1e3:g} to {z[-1] * 1e3:g} mm"
        )
    return int(np.argmin(np.abs(z - depth)))


def _draw_grid(figure: Any, volume: Volume, columns: int) -> None:
    """Slices of the image, evenly spaced over the elevation."""
    image = volume.shown[0]
    panels = figure.subplots(2, columns, squeeze=False, sharex=True, sharey=True)
    chosen = np.unique(np.round(np.linspace(0, len(volume.y) - 1, 2 * columns)).astype(int))
    for panel in panels.flat[len(chosen) :]:
        panel.set_visible(False)
    for panel, number in zip(panels.flat, chosen, strict=False):
        title = f"slice {number}, y = {_mm(volume.y[number])}"
        grey = show_grey(panel, volume.axes, image._replace(title=title, values=image.values[number]))
    for panel in panels[:, 0]:
        panel.set_ylabel("depth [mm]")
    for panel in panels[-1]:
        panel.set_xlabel("lateral [mm]")
    figure.colorbar(grey, ax=panels, label="dB", pad=0.01)


def _draw_cuts(figure: Any, volume: Volume, shown: Shown, row: int, size: tuple[float, float, float]) -> None:
    """One picture cut along x-y, x-z and y-z, as in a drawing of three views; lines show where the other cuts go.

    size: of x, y and z on paper; a thin volume is stretched along y.
    """
    x, y, z = volume.axes.x, volume.y, volume.axes.z
    middle, column = len(y) // 2, len(x) // 2
    wide, thick, tall = size
    panels = figure.subplots(2, 2, width_ratios=[wide, thick], height_ratios=[thick, tall], sharex="col", sharey="row")
    panels[0, 1].set_visible(False)
    figure.suptitle(f"{shown.title}: z = {_mm(z[row])}, y = {_mm(y[middle])}, x = {_mm(x[column])}", fontsize=10)
    stretch = {"aspect": "equal" if np.isclose(thick, np.ptp(y) / np.ptp(x)) else "auto"}
    for panel, values, axes, lines in (
        (panels[0, 0], shown.values[:, row], Axes(x, y), (x[column], y[middle])),
        (panels[1, 0], shown.values[middle], Axes(x, z), (x[column], z[row])),
        (panels[1, 1], shown.values[:, :, column].T, Axes(y, z), (y[middle], z[row])),
    ):
        show_grey(panel, axes, shown._replace(title="", values=values), **stretch)
        panel.axvline(lines[0] * 1e3, color="C1", lw=0.8, ls=":")
        panel.axhline(lines[1] * 1e3, color="C1", lw=0.8, ls=":")
    panels[0, 0].set_ylabel("elevation [mm]")
    panels[1, 0].set(xlabel="lateral [mm]", ylabel="depth [mm]")
    panels[1, 1].set_xlabel("elevation [mm]")


def _mm(place: float) -> str:
    return f"{place * 1e3:.2f} mm"
