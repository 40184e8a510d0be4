"""The output folder: held by one run at a time, refused when it holds something else."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Collection, Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from usim.errors import ConfigError, DataError, ResourceError
from usim.io.atomic import no_room, owner_of
from usim.io.provenance import MANIFEST, RUN, DamagedManifest, read_manifest

#: Held while a run writes. Without a holder, as after a power cut, it is no obstacle.
LOCK = ".usim.lock"
_CURE = "choose another folder with -o, or remove this one first"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, against other runs; one that stays empty is removed again.

    Raises ConfigError when another run holds it, naming its host and process; ResourceError when the system refuses.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{folder}: a file is in the way; choose another folder with -o") from error
    except OSError as error:
        raise no_room(folder, error, 0) from error
    path, me = folder / LOCK, f"process {os.getpid()} on {platform.node()}"
    lock = FileLock(path, timeout=0)
    try:
        _acquire(lock, path, me)
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                path.unlink()
            lock.release()
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _acquire(lock: BaseFileLock, path: Path, me: str) -> None:
    try:
        lock.acquire()
        path.write_text(me)
    except Timeout as error:
        other = "just started"
        with contextlib.suppress(OSError):
            other = path.read_text() or other
        raise ConfigError(
            f"{path.parent}: another run is writing there ({other}); wait for it, or choose another folder with -o"
        ) from error
    except OSError as error:
        raise no_room(path, error, len(me)) from error


def writer(folder: Path) -> str:
    """Return, in words, who holds a folder or was killed while it did; "" where a run ended by itself.

    >>> writer(Path("data"))  # doctest: +SKIP
    'process 4711 on node1 writes there, or was killed'
    """
    try:
        return f"{(folder / LOCK).read_text() or 'a process'} writes there, or was killed"
    except OSError:
        return ""


def names_in(folder: Path) -> set[str]:
    """Return the names in a folder that may be missing, but for the lock.

    Raises ConfigError when it is a file, ResourceError when it can't be read.
    """
    try:
        return {path.name for path in folder.iterdir()} - {LOCK}
    except FileNotFoundError:
        return set()
    except NotADirectoryError as error:
        raise ConfigError(f"{folder}: a file is in the way; choose another folder with -o") from error
    except OSError as error:
        raise ResourceError(f"{folder}: cannot read: {error.strerror}; choose a folder that you may read") from error


def refuse_occupied(folder: Path) -> None:
    """Raise ConfigError, saying what is there, unless `folder` is missing or empty."""
    names = names_in(folder)
    if MANIFEST in names:
        with contextlib.suppress(DataError):
            there = read_manifest(folder)
            state = "complete" if there.complete else f"{there.finished} finished"
            what = f"{there.name}, {there.frames} frames ({state}), seed {there.seed}"
            cure = _CURE if there.complete else f"complete it with --resume, {_CURE}"
            raise ConfigError(f"{folder}: holds a dataset already: {what}; {cure}")
    if names:
        raise ConfigError(f"{folder}: holds something else: {_listed(names)}; {_CURE}")


def refuse_foreign(folder: Path, shards: Collection[str]) -> None:
    """Raise ConfigError when a folder, which may be missing, holds what can't be of a run with these shards.

    A readable manifest says what is its own; one that is damaged must come with shards, and with nothing else.
    """
    names, ours = names_in(folder), {MANIFEST, RUN, *shards}
    foreign = {name for name in names if name not in ours and owner_of(name) not in ours}
    if MANIFEST in names:
        try:
            read_manifest(folder)
            return
        except DamagedManifest:
            foreign |= set() if names & set(shards) else {MANIFEST}
        except DataError as error:  # of another version
            raise ConfigError(f"{error}; {_CURE}") from error
    if foreign:
        lost = not shards and any(name.endswith(".h5") for name in foreign)
        cure = "complete it with --resume if these are shards of an equal run, " if lost else ""
        raise ConfigError(f"{folder}: holds something else: {_listed(foreign)}; {cure}{_CURE}")


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def release_folder(folder: Path) -> None:
    """Take back what a run wrote beside its shards when it ended without a single one."""
    for name in (MANIFEST, RUN):
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def clear_leftovers(folder: Path, shards: Collection[str], listed: Collection[str]) -> None:
    """Remove what ended workers left behind: partial files, and whole shards of the plan that nobody was told about."""
    ours, whole = {MANIFEST, RUN, *shards}, set(shards) - set(listed)
    with contextlib.suppress(OSError):  # the folder itself may be gone; that is told elsewhere
        for path in list(folder.iterdir()):
            if owner_of(path.name) in ours or path.name in whole:
                with contextlib.suppress(OSError):
                    path.unlink()
