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
_PANEL, _AROUND = 2.7, 1.0


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
        slices = sorted(frames, key=elevation_of)
        first = slices[0]
        if any(frame.bmode.shape != first.bmode.shape for frame in slices):
            raise DataError("view: the slices of this volume differ in size")
        depth = dynamic_range(first)
        stacks = zip(*(image_and_truth(frame, depth) for frame in slices), strict=True)
        shown = tuple(stack[0]._replace(values=np.stack([one.values for one in stack])) for stack in stacks)
        name = name_of(first).partition(", y")[0]
        return cls(name, shown, np.array([elevation_of(frame) for frame in slices]), first.axes)


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
    count = min(_GRID, len(volume.y))
    columns = -(-count // 2)
    tall = min(float(np.ptp(volume.axes.z) / np.ptp(volume.axes.x)), 3.0)
    figure = Figure(figsize=(max(columns, 4) * _PANEL + _AROUND, 4 * (_PANEL * tall + _AROUND)), layout="compressed")
    FigureCanvasAgg(figure)
    above, below = figure.subfigures(2, 1)
    figure.suptitle(volume.name)
    _draw_grid(above, volume, columns)
    _draw_cuts(below, volume, row)
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
        title = f"slice {number}, y = {volume.y[number] * 1e3:.4g} mm"
        grey = show_grey(panel, volume.axes, image._replace(title=title, values=image.values[number]))
    for panel in panels[:, 0]:
        panel.set_ylabel("depth [mm]")
    for panel in panels[-1]:
        panel.set_xlabel("lateral [mm]")
    figure.colorbar(grey, ax=panels, label="dB", pad=0.01)


def _draw_cuts(figure: Any, volume: Volume, row: int) -> None:
    """Image and truth, each cut along x-z, y-z and x-y; lines show where the other cuts go."""
    x, y, z = volume.axes.x, volume.y, volume.axes.z
    middle, column = len(y) // 2, len(x) // 2
    panels = figure.subplots(len(volume.shown), 3, squeeze=False)
    for line, shown in zip(panels, volume.shown, strict=True):
        cuts = (
            (f"y = {y[middle] * 1e3:.4g} mm", shown.values[middle], Axes(x, z), "lateral [mm]", "depth [mm]"),
            (f"x = {x[column] * 1e3:.4g} mm", shown.values[:, :, column].T, Axes(y, z), "elevation [mm]", "depth [mm]"),
            (f"z = {z[row] * 1e3:.4g} mm", shown.values[:, row], Axes(x, y), "lateral [mm]", "elevation [mm]"),
        )
        for panel, (place, values, axes, across, down) in zip(line, cuts, strict=True):
            grey = show_grey(panel, axes, shown._replace(title=f"{shown.title}, {place}", values=values))
            panel.set(xlabel=across, ylabel=down)
        others = (x[column], z[row]), (y[middle], z[row]), (x[column], y[middle])
        for panel, (across, down) in zip(line, others, strict=True):
            panel.axvline(across * 1e3, color="C1", lw=0.6, ls=":")
            panel.axhline(down * 1e3, color="C1", lw=0.6, ls=":")
    figure.colorbar(grey, ax=panels, label="dB", pad=0.01)
