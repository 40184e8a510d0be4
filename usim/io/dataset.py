"""Frames read back from a folder or from shard files, one at a time and on demand."""

from __future__ import annotations

import bisect
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from usim.errors import DataError
from usim.frame import Frame
from usim.io.layout import AXES, FORMAT
from usim.io.provenance import MANIFEST, read_manifest
from usim.io.shard import read_frame

#: Files held open at a time: a process may have 1024 descriptors (256 on macOS) and a dataset thousands of shards.
_OPEN_FILES = 8


@dataclass(frozen=True)
class Part:
    """One shard of a dataset: path, frames in it, and its size in bytes where a manifest tells it."""

    path: Path
    frames: int
    bytes: int | None = None


class Frames(Sequence[Frame]):
    """The frames of a dataset: `len`, indices from either end, slices (again lazy), iteration.

    Only a few files are open at a time. It can be pickled and used after a fork: every process opens its own files.
    Raises DataError with the file's name when a shard is missing or damaged.
    """

    def __init__(self, parts: Sequence[Part], rows: Sequence[int] | None = None) -> None:
        self.parts = tuple(parts)
        self._ends = list(itertools.accumulate(part.frames for part in self.parts))
        self._rows = range(self._ends[-1] if self._ends else 0) if rows is None else rows
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._files: OrderedDict[int, h5py.File] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Frames: ...
    def __getitem__(self, index: int | slice) -> Frame | Frames:
        if isinstance(index, slice):
            return Frames(self.parts, self._rows[index])
        try:
            row = self._rows[index]
        except IndexError:
            raise IndexError(f"frame {index} of a dataset of {len(self)} frames") from None
        number = bisect.bisect_right(self._ends, row)
        if self._pid != os.getpid():
            self._forget()  # HDF5's handles do not survive a fork
        with self._lock:
            return self._read(number, row - (self._ends[number] - self.parts[number].frames))

    def _read(self, number: int, row: int) -> Frame:
        path = self.parts[number].path
        file = self._files.pop(number, None)
        if file is None:
            file = open_shard(path, self.parts[number].bytes)
        self._files[number] = file
        if len(self._files) > _OPEN_FILES:
            self._files.popitem(last=False)[1].close()
        try:
            return read_frame(file, row)
        except (OSError, KeyError, ValueError, RuntimeError, TypeError, IndexError, AttributeError, DataError) as error:
            raise _damaged(path, f"frame {row}: {error}") from error

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
                except (OSError, KeyError, RuntimeError) as error:
                    raise _damaged(part.path, f"index/{name}: {error}") from error
        rows = np.asarray(self._rows, np.int64)
        return {name: np.concatenate(parts)[rows] for name, parts in columns.items()}

    def close(self) -> None:
        """Close the files that are open; reading opens them again."""
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts, "_ends": self._ends, "_rows": self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __repr__(self) -> str:
        return f"<usim.Frames: {len(self)} frames in {len(self.parts)} shards>"


def open_frames(source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Frames:
    """Return the frames of a dataset folder, of one shard, or of several shards in the order given.

    An unfinished folder yields the shards that are finished. Raises DataError when there is nothing to read.

    >>> frames = usim.open("cyst")  # doctest: +SKIP
    >>> frames[0].truth.bmode.shape  # doctest: +SKIP
    (512, 512)
    """
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
    return Frames([Part(path / shard.name, shard.frames, shard.bytes) for shard in shards])


def open_shard(path: Path, size: int | None = None) -> h5py.File:
    """Open one shard for reading and check that it is one; raises DataError naming the file."""
    try:
        found = path.stat().st_size
        if size is not None and found != size:
            raise _damaged(path, f"{found} bytes, the manifest says {size}")
        file = h5py.File(path, "r", locking=False)  # read-only disks and network folders cannot lock
    except OSError as error:
        reason = error.strerror or f"not a readable HDF5 file ({error})"
        raise _damaged(path, reason) from error
    try:
        if file.attrs.get("format") != FORMAT:
            raise _damaged(path, f"its format is {file.attrs.get('format')!r}, expected {FORMAT!r}")
        file["bmode"].shape[0]
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError) as error:
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
