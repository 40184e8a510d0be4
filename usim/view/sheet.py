"""Contact sheets: images beside their truths, in millimetres, on one grey scale."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usim.errors import ConfigError
from usim.frame import Frame
from usim.view.files import check_target, save_figure
from usim.view.motion import farthest, show_displacement
from usim.view.panels import (
    Shown,
    displays,
    dynamic_range,
    ideal_truths,
    image_and_truth,
    name_of,
    scanned,
    show_grey,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

#: Inches of one panel's width, and of everything around the panels.
_PANEL, _AROUND = 2.9, 1.0
#: Rows of one sheet: more are not read, and the picture has more pixels than programs open.
MOST_ROWS = 50


def contact_sheet(frames: Sequence[Frame], path: str | os.PathLike[str]) -> None:
    """Draw one row per frame to an image file: image, its truths, the scanner's display with
    its truth and the displacement where there are such, labels.

    The grey scale is the first frame's dynamic range, 0 dB white. Echogenicities are relative to reference tissue,
    which lies the headroom below the image's 0 dB: they are drawn shifted by it, so that one scale serves all.

    Raises ConfigError for no frames, too many, or an unknown file type, ResourceError when the file cannot be written.

    >>> contact_sheet(usim.open("cyst")[:3], "cyst.png")  # doctest: +SKIP
    """
    check_target(Path(path))
    save_figure(draw_frames(frames), Path(path))


def draw_frames(frames: Sequence[Frame]) -> Figure:
    """Return the matplotlib figure of a contact sheet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not frames:
        raise ConfigError("view: there are no frames to draw")
    if len(frames) > MOST_ROWS:
        raise ConfigError(
            f"view: {len(frames)} frames, a sheet has at most {MOST_ROWS} rows; choose some with --frames"
        )
    first = frames[0]
    depth = dynamic_range(first)
    tall = np.ptp(first.axes.z) / np.ptp(first.axes.x)
    moves = first.truth.displacement is not None
    greys = len(_greys(first, depth))
    columns, most = greys + moves + 1, farthest(frames)
    size = columns * _PANEL + _AROUND, len(frames) * (_PANEL * min(tall, 3.0) + _AROUND)
    figure = Figure(figsize=size, layout="compressed")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(frames), columns, squeeze=False, sharey="row")
    for row, frame in zip(panels, frames, strict=True):
        for panel, shown in zip(row, _greys(frame, depth), strict=False):
            show_grey(panel, frame.axes, shown)
        if moves:
            show_displacement(row[greys], frame, most)
        _show_labels(row[-1], frame)
        row[0].set_ylabel(f"{name_of(frame)}\ndepth [mm]")
    for panel in panels[-1]:
        panel.set_xlabel("lateral [mm]")
    in_db = greys - len(displays(first))
    figure.colorbar(panels[0, 0].images[0], ax=panels[:, :in_db], label="dB", pad=0.01, aspect=25 * len(frames))
    return figure


def _greys(frame: Frame, depth: float) -> list[Shown]:
    """The pictures of a row that are grey, those in dB first."""
    return [*image_and_truth(frame, depth), *ideal_truths(frame, depth), *displays(frame)]


def _show_labels(panel: Panel, frame: Frame) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    names, labels = frame.truth.label_names, frame.truth.labels
    colors = colormaps["tab20"](np.arange(len(names)) % 20)
    colors[0] = (0.25, 0.25, 0.25, 1.0)
    within = scanned(frame)
    picture = np.where(within[..., None], colors[np.minimum(labels, len(names) - 1)], (0.0, 0.0, 0.0, 1.0))
    show_image(panel, frame.axes, "labels", picture)
    # Regions that share a name, such as repeated lesions, share an entry; it stands beside the picture it explains.
    present = {names[k]: colors[k] for k in reversed(np.unique(labels[within])) if k < len(names)}
    handles = [Patch(color=color, label=name) for name, color in reversed(list(present.items())[-8:])]
    panel.legend(handles=handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
