"""A run taken up again: which shards of an earlier one are proven whole, so that they need not be made again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from usim.errors import ConfigError, DataError, UsimError
from usim.io.dataset import open_shard
from usim.io.folder import refuse_foreign
from usim.io.layout import STORABLE
from usim.io.provenance import MANIFEST, DamagedManifest, Manifest, ShardEntry, differing, read_manifest, sha256
from usim.io.reading import BROKEN
from usim.io.shard import ShardHeader, encode_shard, read_frame
from usim.sizing import Plan

_CURE = "ask for the same, or choose another folder with -o"
Heard = Callable[[ShardEntry | None], None]


def proven_shards(
    folder: Path, plan: Plan, asked: Manifest, header: Callable[[range], ShardHeader], heard: Heard
) -> list[ShardEntry]:
    """Return the shards in `folder` that an uninterrupted run would have made just so; nothing is touched.

    With a manifest that is each file of the size and hash listed. Where it is lost or damaged, that is each whose
    frames, with their checksums, encoded again with the plan's `header`, give its own bytes.

    heard: called after every shard, with its entry or with None where it must be made again. Raises ConfigError when
    the folder holds another run or something else.
    """
    try:
        there = read_manifest(folder)
    except DamagedManifest:
        return _by_encoding(folder, plan, header, heard)
    if differences := there.differences(asked):
        raise ConfigError(f"{folder / MANIFEST}: another run than the one asked for: {'; '.join(differences)}; {_CURE}")
    listed = {shard.name: shard for shard in there.shards}
    found = []
    for rows in plan.shards:
        path = plan.shard_path(folder, rows)
        entry = listed.get(path.name)
        whole = entry is not None and entry == plan.entry(path, rows, *_measured(path))
        heard(entry if whole else None)
        found += [entry] if entry and whole else []
    return found


def _measured(path: Path) -> tuple[int, str]:
    """Return size and SHA-256 of a file; (0, "") of one that can't be read."""
    try:
        with path.open("rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return 0, ""


def _by_encoding(folder: Path, plan: Plan, header: Callable[[range], ShardHeader], heard: Heard) -> list[ShardEntry]:
    refuse_foreign(folder, plan.names)
    found, others = [], []
    for rows in plan.shards:
        path, stated, entry = plan.shard_path(folder, rows), header(rows), None
        with contextlib.suppress(OSError, DataError):  # missing, or damaged
            data = path.read_bytes()
            if other := _other_run(path, stated):
                others.append(f"{path}: another run than the one asked for: {other}; {_CURE}")
            elif _encoded_again(path, stated) == data:
                entry = plan.entry(path, rows, len(data), sha256(data))
                found.append(entry)
        heard(entry)
    if others and not found:  # beside proven shards it is only a damaged one
        raise ConfigError(others[0])
    return found


def _encoded_again(path: Path, header: ShardHeader) -> bytes | None:
    with open_shard(path) as file:
        try:
            return encode_shard((read_frame(file, row) for row in range(len(file["bmode"]))), header)
        except (*BROKEN, UsimError):
            return None


def _other_run(path: Path, header: ShardHeader) -> str:
    """Return, in words, where a shard says that it was made by another run than `header` is of; "" where it doesn't."""
    with open_shard(path) as file:
        try:
            there = _stated(file)
        except BROKEN:
            return ""
    here = {
        "config_sha256": header.config_sha256,
        "seed": header.seed,
        "first frame": header.first_frame,
        "frames": header.frames,
        "store": header.store,
        "dtype": header.dtype,
        "compress": header.compress,
        **{f"version of {package}": version for package, version in header.versions.items()},
    }
    others = [name for name, value in here.items() if there.get(name) != value]
    return "; ".join(differing(name, there.get(name), here[name]) for name in others)


def _stated(file: h5py.File) -> dict[str, Any]:
    ending, bmode = "_version", file["bmode"]
    versions = {name.removesuffix(ending): str(file.attrs[name]) for name in file.attrs if name.endswith(ending)}
    return {
        "config_sha256": file.attrs["config_sha256"],
        "seed": int(file.attrs["seed"]),
        "first frame": int(file.attrs["first_frame"]),
        "frames": len(bmode),
        "store": tuple(word for word in STORABLE if word in file or f"polar/{word}" in file),
        "dtype": bmode.dtype.name,
        "compress": bmode.compression is not None,
        **{f"version of {package}": version for package, version in versions.items()},
    }
