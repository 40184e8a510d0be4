"""The output folder: claimed by one run, refused when it holds something else."""

from __future__ import annotations

import contextlib
from pathlib import Path

from usim.errors import ConfigError, DataError, ResourceError
from usim.io.atomic import no_room
from usim.io.provenance import MANIFEST, Manifest, read_manifest, write_manifest


def claim_folder(folder: Path, manifest: Manifest) -> bool:
    """Make `folder` the home of a run by writing its first manifest; return True when the folder was made for it.

    Raises ConfigError when the folder holds anything or another run was faster, ResourceError when it cannot be made.
    """
    refuse_occupied(folder)
    created = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ConfigError(f"{folder}: a file is in the way; choose another folder with -o") from error
    except OSError as error:
        raise no_room(folder, error, len(manifest.to_json())) from error
    try:
        write_manifest(folder, manifest, exclusive=True)
    except FileExistsError as error:
        raise ConfigError(f"{folder}: another run has just started there; choose another folder with -o") from error
    except ResourceError:
        if created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return created


def refuse_occupied(folder: Path) -> None:
    """Raise ConfigError, saying what is there, unless `folder` is missing or empty."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise ConfigError(f"{folder}: a file is in the way; choose another folder with -o") from error
    except OSError as error:
        raise ResourceError(f"{folder}: cannot read: {error.strerror}; choose a folder that you may read") from error
    if not names:
        return
    cure = "choose another folder with -o, or remove this one first"
    if MANIFEST in names:
        with contextlib.suppress(DataError):
            there = read_manifest(folder)
            state = "complete" if there.complete else f"{sum(s.frames for s in there.shards)} finished"
            what = f"{there.name}, {there.frames} frames ({state}), seed {there.seed}"
            raise ConfigError(f"{folder}: holds a dataset already: {what}; {cure}")
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    raise ConfigError(f"{folder}: holds something else: {shown}; {cure}")


def release_folder(folder: Path, created: bool) -> None:
    """Take the claim back when a run ended without a single shard, and the folder with it when it was made for it."""
    with contextlib.suppress(OSError):
        (folder / MANIFEST).unlink()
        if created:
            folder.rmdir()
