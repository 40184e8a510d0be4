"""Files that are too large for memory, written piece by piece, and still appear whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from usim.io.atomic import no_room, partial_path, sync_folder


class Growing(io.RawIOBase):
    """A new file for a writer that must not meet an error, such as HDF5, which can crash on a full disk.

    The first error of the system is kept in `error`, and what is written later is dropped; `check` raises it.
    """

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._position = self._size = 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)

    def check(self) -> None:
        """Raise the OSError that a write met, if any."""
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
        found = os.pread(self._descriptor, len(view), self._position)
        # What was dropped after an error, or never written, reads as zeros: the reader must not stumble.
        view[:] = found + bytes(len(view) - len(found))
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        length = len(view)
        try:
            if self.error is None:
                os.lseek(self._descriptor, self._position, os.SEEK_SET)
                while view:
                    view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self.error = error
        self._position += length
        self._size = max(self._size, self._position)
        return length

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            self.error = error
        return self._size

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
        refused = file.error or (error if isinstance(error, OSError) else None)
        if refused is not None:
            raise no_room(path, refused, size) from refused
        raise
