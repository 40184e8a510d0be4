"""Contact sheets: images beside their truths, in millimetres, on one grey scale."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError, ResourceError
from usim.frame import Axes, Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

#: Inches of one panel's width, and of everything around the panels.
_PANEL, _AROUND = 2.9, 1.0
_DEFAULT_RANGE, _DEFAULT_HEADROOM = 60.0, 25.0


def contact_sheet(frames: Sequence[Frame], path: str | os.PathLike[str]) -> None:
    """Draw one row per frame to an image file: image, its three truths, labels.

    The grey scale is the first frame's dynamic range, 0 dB white. Echogenicities are relative to reference tissue,
    which lies the headroom below the image's 0 dB: they are drawn shifted by it, so that one scale serves all.

    Raises ConfigError for no frames or an unknown file type, ResourceError when the file cannot be written.

    >>> contact_sheet(usim.open("cyst")[:3], "cyst.png")  # doctest: +SKIP
    """
    if not frames:
        raise ConfigError("view: there are no frames to draw")
    save_figure(draw_frames(frames), Path(path))


def save_figure(figure: Figure, target: Path) -> None:
    """Write a figure to an image file; ConfigError for an unknown file type, ResourceError when it can't be written."""
    try:
        figure.savefig(target, dpi=110, bbox_inches="tight")
    except ValueError as error:
        raise ConfigError(f"{target}: {error}; use .png") from error
    except OSError as error:
        with contextlib.suppress(OSError):
            target.unlink()
        raise ResourceError(f"{target}: cannot write: {error.strerror}; choose another place with -o") from error


def draw_frames(frames: Sequence[Frame]) -> Figure:
    """Return the matplotlib figure of a contact sheet."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = frames[0]
    tall = np.ptp(first.axes.z) / np.ptp(first.axes.x)
    figure = Figure(
        figsize=(5 * _PANEL + _AROUND, len(frames) * (_PANEL * min(tall, 3.0) + _AROUND)), layout="compressed"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(frames), 5, squeeze=False, sharey="row")
    depth = float(_image(first).get("dynamic_range", _DEFAULT_RANGE))
    grey: Any = None
    for row, frame in zip(panels, frames, strict=True):
        headroom = float(_image(frame).get("headroom", _DEFAULT_HEADROOM))
        titled = (
            ("image", frame.bmode),
            ("truth: bmode", frame.truth.bmode),
            ("truth: resolved", frame.truth.resolved_db - headroom),
            ("truth: echogenicity", frame.truth.echogenicity_db - headroom),
        )
        for panel, (title, values) in zip(row, titled, strict=False):
            grey = show_image(panel, frame.axes, title, values, cmap="gray", vmin=-depth, vmax=0)
        _show_labels(row[4], frame)
        scene = f"frame {frame.params.get('index', 0)}"
        row[0].set_ylabel(f"{scene}\ndepth [mm]")
    for panel in panels[-1]:
        panel.set_xlabel("lateral [mm]")
    figure.colorbar(grey, ax=panels[:, :4], label="dB", pad=0.01, aspect=25 * len(frames))
    return figure


def _image(frame: Frame) -> dict[str, Any]:
    settings: dict[str, Any] = frame.params.get("scene", {}).get("image", {})
    return settings


def show_image(panel: Panel, axes: Axes, title: str, values: NDArray[Any], **options: Any) -> Any:
    """Show values (Z, X) or colours (Z, X, 4) over axes in millimetres; returns matplotlib's image."""
    x, z = axes.x * 1e3, axes.z * 1e3
    dx, dz = (x[-1] - x[0]) / max(len(x) - 1, 1) / 2, (z[-1] - z[0]) / max(len(z) - 1, 1) / 2
    extent = (x[0] - dx, x[-1] + dx, z[-1] + dz, z[0] - dz)
    panel.set_title(title, fontsize=10)
    return panel.imshow(values, extent=extent, aspect="equal", **{"interpolation": "antialiased", **options})


def _show_labels(panel: Panel, frame: Frame) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    names, labels = frame.truth.label_names, frame.truth.labels
    colors = colormaps["tab20"](np.arange(len(names)) % 20)
    colors[0] = (0.25, 0.25, 0.25, 1.0)
    show_image(panel, frame.axes, "labels", colors[np.minimum(labels, len(names) - 1)])
    # Regions that share a name, such as repeated lesions, share an entry; it stands beside the picture it explains.
    present = {names[k]: colors[k] for k in reversed(np.unique(labels)) if k < len(names)}
    handles = [Patch(color=color, label=name) for name, color in reversed(list(present.items())[-8:])]
    panel.legend(handles=handles, fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
