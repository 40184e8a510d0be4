"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
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


def partial_path(path: Path) -> Path:
    """Return the hidden name in the same folder under which `path` is written before it is renamed."""
    return path.with_name(f".{path.name}.part")


def write_atomic(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Write `data` to `path` so that a reader sees the old file, the whole new one, or none.

    exclusive: refuse to replace a file; it then claims the name for one of several writers.

    Raises FileExistsError when exclusive and the file is there, ResourceError (path, reason, bytes needed) when the
    system refuses; neither leaves a partial file.

    >>> import pathlib, tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "a.bin"
    >>> write_atomic(target, b"abc")
    >>> target.read_bytes()
    b'abc'
    """
    temporary = partial_path(path)
    if exclusive:
        temporary = temporary.with_name(f"{temporary.name}.{os.getpid()}")
    try:
        try:
            _write_synced(temporary, data)
            if exclusive:
                _link_new(temporary, path)
            else:
                os.replace(temporary, path)
                sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except FileExistsError:
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
    return ResourceError(f"{path}: cannot write: {reason}; {size} bytes are needed; {cure}")


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_new(temporary: Path, path: Path) -> None:
    os.link(temporary, path)
    try:
        os.unlink(temporary)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)  # the claim failed: nobody else may find the name taken
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename last: without this a power cut can forget it although the file itself is on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
