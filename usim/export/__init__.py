"""Datasets in the formats of others: each format is one file here and one line of FORMATS."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from usim.errors import ConfigError, ResourceError
from usim.export.rows import Row, rows
from usim.io.atomic import make_folder, no_room, partial_path, sync_folder
from usim.io.dataset import Frames, open_frames
from usim.io.folder import refuse_occupied
from usim.units import did_you_mean

#: Name of a format -> its writer, a function of a Job that yields after every frame.
FORMATS = {
    "mat": "usim.export.mat:write_mat",
    "npy": "usim.export.npy:write_npy",
    "png": "usim.export.png:write_png",
    "uff": "usim.export.uff:write_uff",
}
#: dB between black and white that are allowed, as in a phantom.
_RANGE_DB = (1.0, 150.0)
_FOLDER_BYTES = 4096


@dataclass(frozen=True)
class Job:
    """What a format is to write: frames of a dataset, in order, into an empty folder.

    frames: all of the dataset.  chosen: which of them.  source: the dataset as it was named.  dynamic_range: dB
    between black and white that were asked for, None for those of each phantom.
    """

    frames: Frames
    chosen: Sequence[int]
    folder: Path
    source: str
    dynamic_range: float | None = None

    def rows(self, names: Sequence[str]) -> Iterator[Row]:
        """The chosen frames with the named datasets, one at a time."""
        return rows(self.frames, self.chosen, names)


@dataclass(frozen=True)
class Progress:
    """How far an export is: frames written of `total`, none of them kept from before; `bytes` are known at the end."""

    total: int
    frames: int = 0
    bytes: int = 0
    finished: bool = False
    kept: int = 0


def export(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    form: str,
    *,
    frames: Sequence[int] = (),
    split: str | None = None,
    dynamic_range: float | None = None,
    progress: Callable[[Progress], None] = lambda state: None,
) -> Progress:
    """Write a dataset to the new folder `folder` in another format; the folder appears whole or not at all.

    source: a folder or a shard.  form: a key of FORMATS.  frames: numbers of those that are wanted, all when empty.
    split: only frames of this part of a dataset that was generated with parts.  dynamic_range: dB between black and
    white of PNG, the phantom's own unless given.  progress: called after every frame; what it raises ends the export.

    Raises ConfigError when an argument is not usable or `folder` holds something, DataError when the dataset is damaged
    or lacks what the format needs, ResourceError when the system refuses.

    >>> export("cyst", "cyst-png", "png").frames  # doctest: +SKIP
    1
    """
    writer = _writer(form)
    if dynamic_range is not None:
        _check_range(form, dynamic_range)
    target = Path(folder)
    refuse_occupied(target)
    data = open_frames(source)
    chosen = _chosen(frames, len(data), str(source))
    if split is not None:
        open_frames(source, split=split)  # says which parts there are
        chosen = [number for number in chosen if data.part_of(number).split == split]
    if not chosen:
        raise ConfigError(f"--frames, --split: none of the frames of {source} is in both; choose others")
    state = Progress(len(chosen))
    with contextlib.closing(data), _whole(target) as partial:
        job = Job(data, chosen, partial, str(source), dynamic_range)
        progress(state)
        with contextlib.closing(writer(job)) as steps:
            for count, _ in enumerate(steps, 1):
                state = Progress(state.total, count)
                progress(state)
        size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    state = Progress(state.total, state.frames, size, True)
    progress(state)
    return state


def _writer(form: str) -> Callable[[Job], Generator[None, None, None]]:
    if form not in FORMATS:
        raise ConfigError(
            f"export: format {form!r} is unknown{did_you_mean(form, FORMATS)}; allowed are {', '.join(FORMATS)}"
        )
    module, _, name = FORMATS[form].partition(":")
    writer: Callable[[Job], Generator[None, None, None]] = getattr(importlib.import_module(module), name)
    return writer


def _check_range(form: str, dynamic_range: float) -> None:
    if form != "png":
        raise ConfigError(f"--dynamic-range: {form} keeps numbers, not grey levels; leave it out, or write png")
    if not _RANGE_DB[0] <= dynamic_range <= _RANGE_DB[1]:
        raise ConfigError(f"--dynamic-range: {dynamic_range:g} dB; allowed are {_RANGE_DB[0]:g} to {_RANGE_DB[1]:g} dB")


def _chosen(frames: Sequence[int], count: int, name: str) -> Sequence[int]:
    """The numbers of the frames to write, each once and in order."""
    for number in frames:
        if not -count <= number < count:
            raise ConfigError(f"--frames: {number} is not one of the {count} frames of {name} (0 to {count - 1})")
    return sorted({number % count for number in frames}) if frames else range(count)


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Yield a hidden folder that becomes `target` at the end, or is removed when anything is raised."""
    make_folder(target.parent)
    partial = partial_path(target)
    try:
        partial.mkdir()
    except FileExistsError as error:
        raise ConfigError(
            f"{partial}: an export is running there, or was killed; remove this folder if it was"
        ) from error
    except OSError as error:
        raise no_room(target, error, _FOLDER_BYTES) from error
    try:
        yield partial
        sync_folder(partial)
        os.rename(partial, target)  # an empty folder gives way, any other does not
        sync_folder(target.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, ResourceError):
            raise ResourceError(str(error).replace(str(partial), str(target))) from error
        if isinstance(error, OSError):
            refuse_occupied(target)
            raise no_room(target, error, _FOLDER_BYTES) from error
        raise
