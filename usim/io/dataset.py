"""Frames read back from a folder or from shard files, one at a time and on demand."""

from __future__ import annotations

import bisect
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError, DataError
from usim.frame import Frame
from usim.io.arrays import Arrays, Transform, check_names, stored_names
from usim.io.layout import AXES, FORMAT
from usim.io.provenance import MANIFEST, read_manifest
from usim.io.reading import BROKEN, open_hdf5
from usim.io.shard import read_frame

#: Files held open at a time: a process may have 1024 descriptors (256 on macOS) and a dataset thousands of shards.
_OPEN_FILES = 8

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """One shard of a dataset: path, frames in it, and where a manifest tells them, its bytes and part of the split."""

    path: Path
    frames: int
    bytes: int | None = None
    split: str = ""


@dataclass
class _Handles:
    """The files that one process has open; never given to another, for HDF5's handles do not survive a fork."""

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    files: OrderedDict[int, h5py.File] = field(default_factory=OrderedDict)


class Frames(Sequence[Frame]):
    """The frames of a dataset: `len`, indices from either end, slices (again lazy), iteration.

    Only a few files are open at a time. It can be pickled and used after a fork: every process opens its own files;
    and by several threads, of which one reads at a time.
    Raises DataError with the file's name when a shard is missing or damaged.
    """

    def __init__(self, parts: Sequence[Part], rows: Sequence[int] | None = None) -> None:
        self.parts = tuple(parts)
        self._ends = list(itertools.accumulate(part.frames for part in self.parts))
        self._rows = range(self._ends[-1] if self._ends else 0) if rows is None else rows
        self._handles = _Handles()

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Frames: ...
    def __getitem__(self, index: int | slice) -> Frame | Frames:
        if isinstance(index, slice):
            return Frames(self.parts, self._rows[index])
        return self.read(index, read_frame)

    def part_of(self, index: int) -> Part:
        """The shard that holds a frame."""
        return self.parts[bisect.bisect_right(self._ends, self._rows[index])]

    def read(self, index: int, how: Callable[[h5py.File, int], T]) -> T:
        """Return what `how` makes of the open shard of a frame and the frame's row in it."""
        try:
            row = self._rows[index]
        except IndexError:
            raise IndexError(f"frame {index} of a dataset of {len(self)} frames") from None
        number = bisect.bisect_right(self._ends, row)
        row -= self._ends[number] - self.parts[number].frames
        if self._handles.pid != os.getpid():
            self._handles = _Handles()
        handles = self._handles
        with handles.lock:
            file = self._opened(handles.files, number)
            try:
                return how(file, row)
            except (*BROKEN, DataError) as error:
                raise _damaged(self.parts[number].path, f"frame {row}: {error}") from error

    def _opened(self, files: OrderedDict[int, h5py.File], number: int) -> h5py.File:
        file = files.pop(number, None)
        if file is None:
            file = open_shard(self.parts[number].path, self.parts[number].bytes)
        files[number] = file
        if len(files) > _OPEN_FILES:
            files.popitem(last=False)[1].close()
        return file

    def arrays(self, *names: str, transform: Transform | None = None) -> Arrays:
        """The frames as dictionaries of arrays by dataset name, for training loops; see Arrays.

        names: of the table of datasets.  transform: called with every dictionary where it was read, for crops and
        scales; what it returns is the item.

        Raises ConfigError for names that are no arrays of a frame, DataError for what is not stored.

        >>> usim.open("cyst").arrays("bmode", "truth/bmode")[0]["bmode"].shape  # doctest: +SKIP
        (512, 512)
        """
        if not self.parts:
            raise DataError("arrays: there are no frames to read")
        with open_shard(self.parts[0].path, self.parts[0].bytes) as file:
            check_names(names, stored_names(file), self.parts[0].path)
        return Arrays(self, names, transform)

    def choose(self, rows: Sequence[int]) -> Frames:
        """The frames in these rows, in this order; again lazy."""
        return Frames(self.parts, [self._rows[row] for row in rows])

    def places(self) -> dict[str, NDArray[np.int64]]:
        """Scene, look, slice, angle and time of every frame, each (N,); no images are read.

        >>> usim.open("cyst").places()["look"]  # doctest: +SKIP
        array([0])
        """
        columns: dict[str, list[NDArray[np.int64]]] = {name: [] for name in AXES}
        for part in self.parts:
            with open_shard(part.path, part.bytes) as file:
                try:
                    for name in AXES:
                        columns[name].append(file[f"index/{name}"][()])
                except BROKEN as error:
                    raise _damaged(part.path, f"index/{name}: {error}") from error
        rows = np.asarray(self._rows, np.int64)
        return {name: np.concatenate(parts)[rows] for name, parts in columns.items()}

    def runs(self) -> NDArray[np.int64]:
        """Which run made every frame, (N,): shards of one phantom and seed are one run's, numbered as they come."""
        numbers: dict[tuple[str, int], int] = {}
        found: list[NDArray[np.int64]] = []
        for part in self.parts:
            with open_shard(part.path, part.bytes) as file:
                made = (str(file.attrs.get("config_sha256", "")), int(file.attrs.get("seed", 0)))
            found.append(np.full(part.frames, numbers.setdefault(made, len(numbers)), np.int64))
        return np.concatenate(found)[np.asarray(self._rows, np.int64)]

    def close(self) -> None:
        """Close the files that are open; reading opens them again."""
        handles = self._handles
        with handles.lock:
            while handles.files:
                handles.files.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts, "_ends": self._ends, "_rows": self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _handles=_Handles())

    def __repr__(self) -> str:
        return f"<usim.Frames: {len(self)} frames in {len(self.parts)} shards>"


def open_frames(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, split: str | None = None
) -> Frames:
    """Return the frames of a dataset folder, of one shard, or of several shards in the order given.

    split: only the frames of that part of a folder that was generated with `--split`, such as "train".
    An unfinished folder yields the shards that are finished.

    Raises DataError when there is nothing to read, ConfigError for a part that is not there.

    >>> frames = usim.open("cyst")  # doctest: +SKIP
    >>> frames[0].truth.bmode.shape  # doctest: +SKIP
    (512, 512)
    """
    if split is not None:
        return _part_of(source, split)
    if not isinstance(source, (str, os.PathLike)):
        return Frames([_part(Path(path)) for path in source])
    path = Path(source)
    if not path.is_dir():
        return Frames([_part(path)])
    if not (path / MANIFEST).exists():
        files = sorted(path.glob("*.h5"))
        if not files:
            raise DataError(f"{path}: neither {MANIFEST} nor shards (*.h5) here; name a folder that usim wrote")
        return Frames([_part(file) for file in files])
    shards = sorted(read_manifest(path).shards)
    if not shards:
        raise DataError(f"{path}: {MANIFEST} lists no finished shard yet")
    return Frames([Part(path / shard.name, shard.frames, shard.bytes, shard.split) for shard in shards])


def _part_of(source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], split: str) -> Frames:
    if not (isinstance(source, (str, os.PathLike)) and Path(source).is_dir()):
        raise ConfigError(f"split: {split!r} was asked for, but only a folder has parts, and {source} is none")
    names = [name for name, _ in read_manifest(Path(source)).split]
    if split not in names:
        there = f"its parts are {', '.join(names)}" if names else "it was generated without --split"
        raise ConfigError(f"{source}: has no part {split!r}; {there}")
    parts = [part for part in open_frames(source).parts if part.split == split]
    if not parts:
        raise DataError(f"{source}: no shard of {split!r} is finished yet; generate the rest with --resume")
    return Frames(parts)


def rows_of(folder: Path) -> dict[str, range]:
    """Return the rows of each part of a dataset folder's split among all its frames; {"": all} without one."""
    rows, end = dict[str, range](), 0
    for part in open_frames(folder).parts:
        start = rows[part.split].start if part.split in rows else end
        end += part.frames
        rows[part.split] = range(start, end)
    return rows


def open_shard(path: Path, size: int | None = None) -> h5py.File:
    """Open one shard for reading and check that it is one; raises DataError naming the file."""
    try:
        with path.open("rb"):  # HDF5 has no short word for what the system refuses, such as a folder
            found = path.stat().st_size
        if size is not None and found != size:
            raise _damaged(path, f"{found} bytes, the manifest says {size}")
        file = open_hdf5(path)
    except OSError as error:
        reason = error.strerror or f"not a readable HDF5 file ({error})"
        raise _damaged(path, reason) from error
    try:
        if file.attrs.get("format") != FORMAT:
            raise _damaged(path, f"its format is {file.attrs.get('format')!r}, expected {FORMAT!r}")
        file["bmode"].shape[0]
    except BROKEN as error:
        file.close()
        raise _damaged(path, str(error)) from error
    except DataError:
        file.close()
        raise
    return file


def _part(path: Path) -> Part:
    with open_shard(path) as file:
        return Part(path, int(file["bmode"].shape[0]))


def _damaged(path: Path, reason: str) -> DataError:
    first_line = reason.splitlines()[0] if reason else "unknown reason"
    return DataError(f"{path}: missing or damaged: {first_line}; generate it again or restore a copy")
