"""HDF5 files opened for reading, whatever is in them.

HDF5 2.0 walks through a heap of strings by the sizes that stand in it, and a damaged size can keep it there for ever
(4 of 1,000 mutated shards, measured). So all strings are read once through a file of ours, which walks through each
heap before HDF5 sees it.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from pathlib import Path
from typing import Any

import h5py

#: What h5py raises on damaged files.
BROKEN = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError)
#: HDF5 file format specification, III.E: a collection starts with a signature, a version and its size; each object in
#: it with its index, which is 0 for free space, a count, and its size. Free space counts its own head, objects do not.
_SIGNATURE = b"GCOL"
_COLLECTION, _OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HHxxxxQ")
_ALIGNED = 8  # bytes


def open_hdf5(path: Path) -> h5py.File:
    """Open a file of anybody for reading; raises OSError when it is no HDF5 file, can't be read, or wants other files.

    Nothing is locked: read-only disks and network folders cannot.
    """
    found = path.stat()
    _look_through(path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns)
    return h5py.File(path, "r", locking=False)


@functools.lru_cache(maxsize=1 << 16)
def _look_through(path: Path, *state: int) -> None:
    """Read what could do harm, once for each state of a file: it takes 5 ms.

    What is left open to HDF5 must be its own: files of Python end before HDF5 does, which then crashes at exit.
    """
    with h5py.File(_Source(path), "r") as file:
        try:
            _look_at("/", file)
            file.visititems(_look_at)
        except (*BROKEN, MemoryError) as error:
            raise error if isinstance(error, OSError) else OSError(str(error)) from error


def _look_at(name: str, found: h5py.HLObject) -> None:
    """Read every string, and so every heap, and refuse numbers that lie elsewhere: any file of the machine may be
    named."""
    dict(found.attrs)
    if isinstance(found, h5py.Group):
        for member in found:
            if isinstance(found.get(member, getlink=True), h5py.ExternalLink):
                raise OSError(f"{name}: {member} lies in another file, which is not opened")
    if not isinstance(found, h5py.Dataset):
        return
    if found.external or found.is_virtual:
        raise OSError(f"{name}: its numbers lie in another file, which is not opened")
    if found.dtype.hasobject:
        found[()]


class _Source(io.FileIO):
    """The bytes of a file, for HDF5 to read; heaps without an end, and places beyond any file, are an OSError."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except OverflowError as error:
            raise OSError(f"damaged: nothing lies at {offset}") from error

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        position, found = self.tell(), 0
        while found < len(view) and (read := super().readinto(view[found:])):
            found += read
        if view[: len(_SIGNATURE)] == _SIGNATURE and found >= _COLLECTION.size:
            self._walk(position, view[:found])
        return found

    def _walk(self, position: int, start: memoryview) -> None:
        """Raise OSError unless the collection that begins with these bytes comes to an end."""
        _, _, size = _COLLECTION.unpack_from(start)
        if position + size > os.fstat(self.fileno()).st_size:
            raise OSError(f"damaged strings: a heap of {size} bytes at {position} reaches beyond the end of the file")
        whole = bytes(start[:size]) + (super().read(size - len(start)) if size > len(start) else b"")
        at = _COLLECTION.size
        while at + _OBJECT.size <= size:
            index, _, length = _OBJECT.unpack_from(whole, at)
            step = length if index == 0 else _OBJECT.size + -(-length // _ALIGNED) * _ALIGNED
            if not _OBJECT.size <= step <= size - at:
                raise OSError(f"damaged strings: {length} bytes at {position + at} do not lie in their heap")
            at += step

    def __del__(self) -> None:
        self.close()  # nobody else does: HDF5 lets go of it when its file is closed
