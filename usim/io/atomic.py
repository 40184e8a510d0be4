"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path

from usim.errors import ResourceError

_CURES = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some of your quota or choose another folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that is not read-only",
    errno.EIO: "the device reports an error; choose another disk",
}

#: Bytes that are written between two questions whether to go on: a few hundredths of a second.
_PIECE = 8 << 20
#: The name of a partial file: of the file that it will be, and of the process that writes it.
_PARTIAL = re.compile(r"\.(?P<name>.+)\.part(\.[^.]*)?")


def partial_path(path: Path) -> Path:
    """Return the hidden name in the same folder under which this process writes `path` before it is renamed."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:64]
    return path.with_name(f".{path.name}.part.{host}-{os.getpid()}")


def owner_of(name: str) -> str | None:
    """Return the name of the file that a partial file, of whichever process, was to become; None for any other file.

    >>> owner_of(partial_path(Path("a.h5")).name), owner_of("a.h5")
    ('a.h5', None)
    """
    match = _PARTIAL.fullmatch(name)
    return match and match["name"]


def write_atomic(path: Path, data: bytes | bytearray, *, check: Callable[[], None] = lambda: None) -> None:
    """Write `data` to `path` so that a reader sees the old file, the whole new one, or none.

    check: called before every piece and before the file appears; what it raises ends it.

    Raises ResourceError (path, reason, bytes needed) when the system refuses; then no partial file is left.

    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.bin"
    >>> write_atomic(target, b"abc")
    >>> target.read_bytes()
    b'abc'
    """
    temporary = partial_path(path)
    try:
        try:
            _write_synced(temporary, data, check)
            os.replace(temporary, path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise no_room(path, error, len(data)) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing; raises ResourceError when the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot make this folder: {error.strerror}; choose another with -o") from error


def no_room(path: Path, error: OSError, size: int) -> ResourceError:
    """Return the one-line error for a refused write of `size` bytes to `path`."""
    reason = error.strerror or type(error).__name__
    cure = _CURES.get(error.errno or 0, "check the disk and try again")
    needed = f"{size} bytes are needed; " if size else ""  # a folder takes none
    return ResourceError(f"{path}: cannot write: {reason}; {needed}{cure}")


def _write_synced(path: Path, data: bytes | bytearray, check: Callable[[], None]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        view = memoryview(data)
        while view:
            check()
            view = view[os.write(descriptor, view[:_PIECE]) :]
        os.fsync(descriptor)
        check()
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename last: without this a power cut can forget it although the file itself is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
