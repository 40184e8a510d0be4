"""Which frames of a dataset make a picture: those that were asked for, or those that show its axes best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError
from usim.frame import Frame
from usim.io.layout import AXES
from usim.view.files import MOVIES, STILLS, check_target, is_movie
from usim.view.movie import movie
from usim.view.panels import rate_of
from usim.view.sheet import contact_sheet
from usim.view.volume import volume_sheet

#: Rows of a sheet unless more are asked for: scenes or looks, and angles or times, which are spread over all.
_ROWS, _SPREAD = 3, 4

Index = Mapping[str, NDArray[np.int64]]


class Source(Protocol):
    """Frames that are made or read when they are asked for, and where each stands: see `usim.io.dataset.Frames`."""

    def __len__(self) -> int: ...
    def places(self) -> Index:
        """Scene, look, slice, angle and time of every frame, each (N,)."""

    def choose(self, rows: Sequence[int]) -> Sequence[Frame]:
        """The frames in these rows, in this order."""


@dataclass(frozen=True)
class Request:
    """What a user asks for: rows, or numbers of scenes, looks, slices, angles and times; images per second; depth of
    the x-y cut in metres. Empty and None leave the choice to us."""

    frames: tuple[int, ...] = ()
    only: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fps: float | None = None
    depth: float | None = None


def draw(source: Source, target: Path, request: Request, name: str) -> str:
    """Draw what was asked for of a source called `name` to `target`; returns what to tell the user of it.

    A sequence becomes a movie of its times or a sheet of some of them, a sweep a movie of its slices or cuts through
    the volume, and everything else a movie or a sheet of its frames.

    Raises ConfigError for frames that do not exist, options that do not fit the target, and unknown kinds of files.
    """
    check_target(target, STILLS + MOVIES)
    if request.fps is not None and not is_movie(target):
        raise ConfigError(f"--fps: {target} does not move; write .gif or .mp4, or leave --fps out")
    if len(source) == 0:
        raise ConfigError(f"{name}: there are no frames to draw")
    index = source.places()
    rows = _asked(index, len(source), request, name)
    if is_movie(target):
        rows = rows if request.frames else _running(index, rows, request)
        if request.depth is not None:
            raise ConfigError(f"--depth: {target} shows no x-y cut; write .png, or leave --depth out")
        frames = source.choose(rows)
        fps = movie(frames, target, fps=request.fps)
        speed = fps / (rate_of(frames[0]) or fps)
        slower = "" if speed == 1.0 else f", {speed:.3g} of the sequence's own speed"
        return f"{target}: {len(rows)} frame{'s' * (len(rows) != 1)}, {fps:g} per second{slower}"
    slices = [] if request.frames else _volume(index, rows)
    if slices:
        volume_sheet(source.choose(slices), target, depth=request.depth)
    elif request.depth is not None:
        raise ConfigError(f"--depth: {name} shows no volume here; leave --depth out")
    else:
        contact_sheet(source.choose(rows if request.frames else _sheet(index, rows, request)), target)
    return str(target)


def _asked(index: Index, count: int, request: Request, name: str) -> list[int]:
    """The rows that were named, or all that have the numbers that were named."""
    if request.frames and request.only:
        raise ConfigError(f"--frames and --{min(request.only)} both choose frames; give one of them")
    for row in request.frames:
        if not -count <= row < count:
            raise ConfigError(f"--frames: {row} is not one of the {count} frames of {name} (0 to {count - 1})")
    if request.frames:
        return [row % count for row in request.frames]
    kept = np.ones(count, bool)
    for axis, numbers in request.only.items():
        there = np.unique(index[axis])
        for number in numbers:
            if number not in there:
                has = f"{there[0]} to {there[-1]}" if len(there) > 1 else f"{there[0]} alone"
                raise ConfigError(f"--{axis}: {name} has no {axis} {number}; it has {has}")
        kept &= np.isin(index[axis], numbers)
    if not kept.any():
        words = [f"--{axis} {','.join(map(str, numbers))}" for axis, numbers in request.only.items()]
        raise ConfigError(f"{name}: no frame is at once {', '.join(words)}")
    return [int(row) for row in np.flatnonzero(kept)]


def _several(index: Index, rows: Sequence[int], axis: str) -> bool:
    return len(np.unique(index[axis][rows])) > 1


def _fix(index: Index, rows: Sequence[int], axes: Sequence[str]) -> list[int]:
    """Rows that share the first of their numbers on these axes, the middle one of slices."""
    for axis in axes:
        there = np.unique(index[axis][rows])
        number = there[len(there) // 2 if axis == "slice" else 0]
        rows = [row for row in rows if index[axis][row] == number]
    return list(rows)


def _running(index: Index, rows: list[int], request: Request) -> list[int]:
    """The rows of a movie: one scene after the other, each through its times or slices, or all there are."""
    for runs in ("time", "slice"):
        if _several(index, rows, runs):
            others = [axis for axis in AXES if axis != runs]
            rows = _fix(index, rows, [axis for axis in others if axis not in request.only])
            return sorted(rows, key=lambda row: [int(index[axis][row]) for axis in (*others, runs)])
    return rows


def _volume(index: Index, rows: list[int]) -> list[int]:
    """The rows of the first volume, or none."""
    if not _several(index, rows, "slice"):
        return []
    return _fix(index, rows, ("scene", "look", "angle", "time"))


def _sheet(index: Index, rows: list[int], request: Request) -> list[int]:
    """The rows of a sheet: some times or angles of the first scene, or the first frames; all that were named."""
    for spread in ("time", "angle"):
        if spread not in request.only and _several(index, rows, spread):
            rest = [axis for axis in AXES if axis not in (spread, *request.only)]
            rows = _fix(index, rows, rest)
            numbers = np.unique(index[spread][rows])
            kept = numbers[np.unique(np.round(np.linspace(0, len(numbers) - 1, _SPREAD)).astype(int))]
            return [row for row in rows if index[spread][row] in kept]
    return rows if request.only else rows[:_ROWS]
