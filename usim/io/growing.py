"""Files for a writer that goes back and forth in them, such as HDF5, and that must not meet an error: it can crash.

On disk they are for what is too large for memory, and still appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from usim.io.atomic import no_room, partial_path, sync_folder


class _Steady(io.RawIOBase):
    """The first error is kept in `error`, and what is written later is dropped; `check` raises it."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._position = self._size = 0

    def check(self) -> None:
        """Raise the error that a write met, if any."""
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = self._read_at(self._position, len(view))
        # What was dropped after an error, or never written, reads as zeros: the reader must not stumble.
        view[:] = found + bytes(len(view) - len(found))
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            if self.error is None:
                self._write_at(self._position, view)
        except (OSError, MemoryError) as error:
            self.error = error
        self._position += len(view)
        self._size = max(self._size, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        try:
            if self.error is None:
                self._cut(self._size)
        except (OSError, MemoryError) as error:
            self.error = error
        return self._size

    def _read_at(self, position: int, size: int) -> bytes:
        raise NotImplementedError

    def _write_at(self, position: int, view: memoryview) -> None:
        raise NotImplementedError

    def _cut(self, size: int) -> None:
        raise NotImplementedError


class Held(_Steady):
    """A new file in memory, in `data`: whoever wants to keep it needs no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def _read_at(self, position: int, size: int) -> bytes:
        return bytes(memoryview(self.data)[position : position + size])

    def _write_at(self, position: int, view: memoryview) -> None:
        if position > len(self.data):
            self._cut(position)
        self.data[position : position + len(view)] = view

    def _cut(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))


class Growing(_Steady):
    """A new file on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)

    def _read_at(self, position: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, position)

    def _write_at(self, position: int, view: memoryview) -> None:
        os.lseek(self._descriptor, position, os.SEEK_SET)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _cut(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Raise what a write met, and wait until the file is on the disk."""
        self.check()
        os.fsync(self._descriptor)

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


@contextlib.contextmanager
def growing(path: Path, size: int) -> Iterator[Growing]:
    """Yield a file that is renamed to `path` at the end, or removed when anything is raised.

    size: bytes that will be needed, for the message.

    Raises ResourceError (path, reason, bytes needed) when the system refuses.
    """
    temporary = partial_path(path)
    try:
        file = Growing(temporary)
    except OSError as error:
        raise no_room(path, error, size) from error
    try:
        with file:
            yield file
            file.sync()
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        refused = next((e for e in (file.error, error) if isinstance(e, OSError)), None)
        if refused is not None:
            raise no_room(path, refused, size) from refused
        raise
