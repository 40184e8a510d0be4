"""Is everything there, bit for bit, as it was written? Every damage is named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py

from usim.errors import DataError, first_line
from usim.io.atomic import owner_of
from usim.io.dataset import open_shard
from usim.io.folder import writer
from usim.io.layout import DATASETS, Dataset
from usim.io.provenance import MANIFEST, RUN, DamagedManifest, Manifest, ShardEntry, read_manifest
from usim.io.reading import BROKEN
from usim.io.shard import read_config, read_frame

#: Bytes hashed at a time: a listener hears often enough to move a bar or to stop.
_PIECE = 8 << 20
_TOP = {spec.path.split("/")[0] for spec in DATASETS} | {"tracks"}

Heard = Callable[[int, int], None]


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written: where, and what."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Verified:
    """What was found at a path: frames, shards and bytes that are as they were written, and every damage.

    proven: compared with hashes in a manifest; a shard on its own has checksums of its data only.
    """

    path: Path
    damages: tuple[Damage, ...]
    frames: int = 0
    shards: int = 0
    bytes: int = 0
    proven: bool = True


def verify(path: str | os.PathLike[str], progress: Heard = lambda done, total: None) -> Verified:
    """Check a dataset folder, or one shard, down to the last bit; nothing is changed.

    progress: called with the bytes read so far and those of all shards; what it raises ends the check.
    Returns what was found: damages are shards that are missing, truncated, changed, unreadable, not in the manifest or
    not fitting it, a manifest that is lost or edited, partial files, and frames that were never made.

    >>> usim.verify("data/training").damages  # doctest: +SKIP
    ()
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path, progress)
    entry = _listed(path)
    if entry is None:
        return _alone(path)
    size, damages = 0, list(_bytes_of(path, entry, lambda piece: progress(piece, entry.bytes)))
    if not damages:
        size, damages = entry.bytes, list(_fits(path, entry, read_manifest(path.parent)))
    return Verified(path, tuple(damages), 0 if damages else entry.frames, int(not damages), size)


def _listed(path: Path) -> ShardEntry | None:
    try:
        return next((shard for shard in read_manifest(path.parent).shards if shard.name == path.name), None)
    except DataError:
        return None


def _folder(folder: Path, progress: Heard) -> Verified:
    try:
        manifest = read_manifest(folder)
    except DamagedManifest as error:
        return _without_manifest(folder, str(error))
    except DataError as error:
        return Verified(folder, (_told(folder / MANIFEST, error),))
    damages = [*_of_manifest(folder, manifest), *_unlisted(folder, manifest)]
    total, before, whole = sum(shard.bytes for shard in manifest.shards), 0, list[ShardEntry]()
    for entry in sorted(manifest.shards):
        path, done = folder / entry.name, before
        found = list(_bytes_of(path, entry, lambda size, done=done: progress(done + size, total)))  # type: ignore[misc]
        found = found or list(_fits(path, entry, manifest))
        whole += [] if found else [entry]
        damages += found
        before += entry.bytes
    frames, size = sum(entry.frames for entry in whole), sum(entry.bytes for entry in whole)
    return Verified(folder, tuple(damages), frames, len(whole), size)


def _without_manifest(folder: Path, reason: str) -> Verified:
    each = [_alone(path) for path in sorted(folder.glob("*.h5"))]
    lost = Damage(folder / MANIFEST, reason.removeprefix(f"{folder / MANIFEST}: "))
    if not each and not (folder / MANIFEST).exists():
        lost = Damage(folder, f"neither {MANIFEST} nor shards (*.h5) here; name a folder that usim wrote")
    damages = (lost, *(damage for one in each for damage in one.damages))
    frames, size = sum(one.frames for one in each), sum(one.bytes for one in each)
    return Verified(folder, damages, frames, sum(one.shards for one in each), size, proven=False)


def _told(path: Path, error: Exception) -> Damage:
    return Damage(path, first_line(error).removeprefix(f"{path}: "))


def _of_manifest(folder: Path, manifest: Manifest) -> Iterator[Damage]:
    end = 0
    for entry in sorted(manifest.shards):
        if entry.first_frame < end:
            yield Damage(folder / MANIFEST, f"frame {entry.first_frame} of {entry.name} is in another shard too")
        end = entry.first_frame + entry.frames
    if end > manifest.frames:
        yield Damage(folder / MANIFEST, f"lists frames up to {end - 1}, but {manifest.frames} were asked for")
    if manifest.finished < manifest.frames:
        state = f"unfinished: {manifest.finished} of {manifest.frames} frames are there"
        wait = f"{there}: wait for it, or " if (there := writer(folder)) else ""
        yield Damage(folder, f"{state}; {wait}generate the rest with --resume")


def _unlisted(folder: Path, manifest: Manifest) -> Iterator[Damage]:
    listed = {shard.name for shard in manifest.shards}
    cure = "remove it" if manifest.complete else "generate the rest with --resume, or remove it"
    for path in sorted(folder.iterdir()):
        owner = owner_of(path.name) or ""
        if owner in (MANIFEST, RUN) or owner.endswith(".h5"):
            yield Damage(path, "left by a run that was ended, or being written; --resume clears it up")
        elif path.suffix == ".h5" and path.name not in listed:
            yield Damage(path, f"not in {MANIFEST}; {cure}")


def _bytes_of(path: Path, entry: ShardEntry, heard: Callable[[int], None]) -> Iterator[Damage]:
    digest, done = hashlib.sha256(), 0
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            what = "truncated" if size < entry.bytes else "changed"
            yield Damage(path, f"{what}: {size} bytes, {MANIFEST} says {entry.bytes}")
            return
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                done += len(piece)
                heard(done)
    except FileNotFoundError:
        yield Damage(path, "missing; make it again with --resume")
        return
    except OSError as error:
        yield Damage(path, f"cannot read: {error.strerror or error}")
        return
    if digest.hexdigest() != entry.sha256:
        yield Damage(path, f"changed: its SHA-256 is not the one in {MANIFEST}; make it again with --resume")


def _fits(path: Path, entry: ShardEntry, manifest: Manifest) -> Iterator[Damage]:
    """Whole shards of another run, or another place, under a hand-made manifest."""
    asked: dict[str, int | str] = {"frames": entry.frames, "first_frame": entry.first_frame, "seed": manifest.seed}
    try:
        with open_shard(path) as file:
            found: dict[str, int | str] = {"frames": len(file["bmode"])}
            found |= {name: int(file.attrs[name]) for name in ("first_frame", "seed")}
            if "config_sha256" in file.attrs:
                found["phantom"], asked["phantom"] = file.attrs["config_sha256"], manifest.config_sha256
    except DataError as error:
        yield _told(path, error)
        return
    except BROKEN as error:
        yield Damage(path, f"unreadable: {first_line(error)}")
        return
    for name, value in asked.items():
        if found[name] != value:
            yield Damage(path, f"does not fit {MANIFEST}: {name} is {found[name]} in the shard, {value} in the list")


def _alone(path: Path) -> Verified:
    try:
        with open_shard(path) as file:
            damages = tuple(Damage(path, what) for what in _of_shard(file))
            frames, size = (0, 0) if damages else (len(file["bmode"]), path.stat().st_size)
    except DataError as error:
        return Verified(path, (_told(path, error),), proven=False)
    except BROKEN as error:
        return Verified(path, (Damage(path, f"unreadable: {first_line(error)}"),), proven=False)
    return Verified(path, damages, frames, int(not damages), size, proven=False)


def _of_shard(file: h5py.File) -> Iterator[str]:
    """What is wrong inside a shard: data whose checksums do not fit, and attributes that usim does not write."""
    frames = len(file["bmode"])
    for name in sorted(set(file) - _TOP):
        yield f"{name}: unknown to usim"
    for spec in DATASETS:
        try:
            if spec.path in file:
                yield from _of_dataset(file[spec.path], spec, frames)
        except BROKEN as error:
            yield f"{spec.path}: unreadable: {first_line(error)}"
    for name in ("seed", "first_frame"):
        try:
            if int(file.attrs[name]) < 0:
                yield f"attribute {name}: {file.attrs[name]} is negative"
        except BROKEN as error:
            yield f"attribute {name}: unreadable: {first_line(error)}"
    try:
        if not (read_config(file) and isinstance(file.attrs["usim_version"], str)):
            yield "attribute config_yaml or usim_version: empty"
    except BROKEN as error:
        yield f"attribute config_yaml or usim_version: unreadable: {first_line(error)}"
    for row in range(frames):
        try:
            read_frame(file, row)
        except (*BROKEN, json.JSONDecodeError) as error:
            yield f"frame {row}: unreadable: {first_line(error)}"


def _of_dataset(dataset: h5py.Dataset, spec: Dataset, frames: int) -> Iterator[str]:
    if spec.dims[:1] == ("frame",) and len(dataset) != frames:
        yield f"{spec.path}: {len(dataset)} rows for {frames} frames"
    for name, text in (("unit", spec.unit), ("description", spec.description)):
        if dataset.attrs.get(name) != text:
            yield f"{spec.path}: its attribute {name} is {dataset.attrs.get(name)!r}"
    if dataset.chunks is None:
        dataset[()]
        return
    for place in dataset.iter_chunks():
        dataset[place]  # HDF5 compares the checksum
