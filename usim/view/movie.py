"""Movies: the image beside its truth, running through time, slices, or whatever frames there are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usim.errors import ConfigError, DataError
from usim.frame import Frame
from usim.view.files import GIF_MOST_FPS, LEAST_FPS, MOVIES, MP4_MOST_FPS, Grey, check_target, save_movie
from usim.view.motion import add_arrows, arrows_of, farthest
from usim.view.panels import Shown, displays, dynamic_range, image_and_truth, name_of, rate_of, show_grey

DEFAULT_FPS = 10.0
#: Frames of one movie: a GIF of more would not fit into programs that show it.
MOST_FRAMES = 1000
#: Frames that are asked how far things move.
_SAMPLE = 9
#: Inches of the longer side of a panel and of what stands around, and pixels per inch.
_PANEL, _AROUND, _DPI = 4.2, 0.9, 100


def movie(frames: Sequence[Frame], path: str | os.PathLike[str], *, fps: float | None = None) -> float:
    """Write a GIF or MP4 of frames, the image beside `truth/bmode` on the first frame's grey scale; returns its rate.

    Arrows over the truth are the displacement where the scene moves; the scanner's display stands beside, where there
    is one.

    fps: images per second; the sequence's own rate unless given, or the nearest that there is: 0.1 to 50 in a GIF, to
    1000 in an MP4; 10 where frames are no sequence.

    Raises ConfigError for no frames, too many, an unknown file type or rate, DataError for frames of different sizes,
    ResourceError when the file cannot be written.

    >>> movie(usim.open("heart"), "heart.gif")  # doctest: +SKIP
    """
    target = Path(path)
    check_target(target, MOVIES)
    if not frames:
        raise ConfigError("view: there are no frames to draw")
    if len(frames) > MOST_FRAMES:
        raise ConfigError(f"view: {len(frames)} frames, a movie has at most {MOST_FRAMES}; choose some with --frames")
    if fps is None:
        fps = rate_of(frames[0]) or DEFAULT_FPS
        most = GIF_MOST_FPS if target.suffix.lower() == ".gif" else MP4_MOST_FPS
        fps = min(max(fps, LEAST_FPS), most)
    save_movie(rasters(frames), target, fps)
    return fps


def rasters(frames: Sequence[Frame]) -> Iterator[Grey]:
    """Yield the grey picture (H, W) of each frame; only what changes between frames is drawn again."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = frames[0]
    depth, tall = dynamic_range(first), np.ptp(first.axes.z) / np.ptp(first.axes.x)
    shown = _pictures(first, depth)
    high, wide = _PANEL * min(tall, 1.0), _PANEL * min(1.0 / tall, 1.0)
    figure = Figure(figsize=(len(shown) * (wide + 0.2) + 1.5 * _AROUND, high + _AROUND), dpi=_DPI, layout="compressed")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(shown), squeeze=False, sharey="row")[0]
    images = [show_grey(panel, first.axes, one, animated=True) for panel, one in zip(panels, shown, strict=True)]
    for panel in panels:
        panel.set_xlabel("lateral [mm]")
    panels[0].set_ylabel("depth [mm]")
    figure.colorbar(images[0], ax=panels[:2], label="dB", pad=0.01)
    most = farthest(frames[row] for row in _some(len(frames)))
    arrows = add_arrows(panels[1], first, most, animated=True) if most else None
    if arrows is not None:
        panels[1].set_title(f"truth: bmode, moved up to {most * 1e3:.3g} mm", fontsize=10)
    title = figure.suptitle(name_of(first), fontsize=11, animated=True)
    canvas.draw()
    empty = canvas.copy_from_bbox(figure.bbox)
    for number, frame in enumerate(frames):
        _refuse_other_axes(number, frame, first)
        canvas.restore_region(empty)
        for panel, image, one in zip(panels, images, _pictures(frame, depth), strict=True):
            image.set_data(one.values)
            panel.draw_artist(image)
            _draw_frame_line(panel)
        if arrows is not None:
            arrows.set_UVC(*arrows_of(frame))
            panels[1].draw_artist(arrows)
        title.set_text(name_of(frame))
        figure.draw_artist(title)
        yield np.asarray(canvas.buffer_rgba())[..., 0].copy()  # red, green and blue are one: there is no colour


def _pictures(frame: Frame, depth: float) -> list[Shown]:
    return [*image_and_truth(frame, depth), *displays(frame)]


def _some(count: int) -> list[int]:
    """Rows that tell how far things move: motions may come back, so the last row alone does not."""
    return [int(row) for row in np.unique(np.linspace(0, count - 1, _SAMPLE).astype(int))]


def _draw_frame_line(panel: Any) -> None:
    for spine in panel.spines.values():
        panel.draw_artist(spine)


def _refuse_other_axes(number: int, frame: Frame, first: Frame) -> None:
    same = np.array_equal(frame.axes.x, first.axes.x) and np.array_equal(frame.axes.z, first.axes.z)
    if not same:
        raise DataError(f"view: frame {number} of the movie lies at other x or z than the first; draw a .png of these")
