"""manifest.json, which equal runs repeat byte for byte, and run.json, which says when and where a run happened."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from usim.errors import DataError, first_line
from usim.io.atomic import write_atomic
from usim.io.layout import FORMAT

MANIFEST = "manifest.json"
RUN = "run.json"
#: Keys that the first manifests lack; one without a checksum that has them has been edited.
_LATER = {"dtype", "compress", "split"}


class DamagedManifest(DataError):
    """A manifest is missing, damaged or edited: what it says is not to be trusted, the shards beside it may be."""


@dataclass(frozen=True, order=True)
class ShardEntry:
    """One finished shard: index of its first frame, number of frames, file name, size and hash, part of the split."""

    first_frame: int
    frames: int
    name: str
    bytes: int
    sha256: str
    split: str = ""


@dataclass
class Manifest:
    """A dataset's table of contents: what was asked for, and the shards that are finished so far."""

    name: str
    frames: int
    seed: int
    shard_size: int
    store: list[str]
    config_sha256: str
    versions: dict[str, str]
    dtype: str = "float32"
    compress: bool = False
    split: tuple[tuple[str, float], ...] = ()
    shards: list[ShardEntry] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True when every frame that was asked for lies in a finished shard."""
        return self.finished == self.frames

    @property
    def finished(self) -> int:
        """Number of frames in finished shards."""
        return sum(shard.frames for shard in self.shards)

    def to_json(self) -> bytes:
        """Return the manifest as canonical JSON: shards in order, keys sorted, with a checksum over all the rest."""
        content = {"format": FORMAT, "complete": self.complete, **asdict(self)}
        content["shards"] = [asdict(shard) for shard in sorted(self.shards)]
        return _canonical(content | {"sha256": sha256(_canonical(content))})

    def differences(self, asked: Manifest) -> list[str]:
        """Return, in words, where what `asked` asks for is not what this one was made from."""
        found = []
        for name in ("config_sha256", "name", "frames", "seed", "shard_size", "store", "dtype", "compress", "split"):
            there, here = getattr(self, name), getattr(asked, name)
            found += [differing(name, there, here)] if there != here else []
        for package in sorted(self.versions.keys() | asked.versions.keys()):
            there, here = self.versions.get(package), asked.versions.get(package)
            found += [differing(f"version of {package}", there, here)] if there != here else []
        return found


def differing(name: str, there: Any, here: Any) -> str:
    """Return in words that `name` is not there what it is in the run that was asked for.

    >>> differing("seed", 3, 4)
    'seed: 3 there, 4 asked'
    """
    if name == "config_sha256":
        return "phantom: another text, or other files that it names"
    return f"{name.replace('_', '-')}: {_said(there)} there, {_said(here)} asked"


def _said(value: Any) -> str:
    """Return a value as the command line writes it."""
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(word if isinstance(word, str) else f"{word[0]}={word[1]:g}" for word in value) or "none"
    return str(value)


def _canonical(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()


def sha256(data: bytes | bytearray) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json whole."""
    write_atomic(folder / MANIFEST, manifest.to_json())


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a dataset.

    Raises DataError (path, reason, cure): DamagedManifest, or another for a format that this version does not read.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except OSError as error:
        cure = "restore a copy, or prove the shards with the same usim generate and --resume"
        raise DamagedManifest(f"{path}: cannot read: {error.strerror or error}; {cure}") from error
    try:
        return _parsed(path, data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"damaged manifest: {first_line(error)}"
        raise DamagedManifest(f"{path}: {reason}; open the shards by their names, or generate with --resume") from error


def _parsed(path: Path, data: bytes) -> Manifest:
    content = json.loads(data)
    if content.pop("format") != FORMAT:
        raise DataError(f"{path}: not a {FORMAT} dataset; this version of usim reads {FORMAT} only")
    checksum = content.pop("sha256", None)
    if checksum is None and _LATER & set(content):
        raise ValueError("its checksum is gone, so it was edited or damaged")
    if checksum is not None and data != _canonical({"format": FORMAT, **content, "sha256": checksum}):
        raise ValueError("it was edited or damaged: it is not laid out as usim writes it")
    if checksum is not None and checksum != sha256(_canonical({"format": FORMAT, **content})):
        raise ValueError("it was edited or damaged: it does not fit its checksum")
    content.pop("complete")
    known = {each.name for each in fields(Manifest)}
    if unknown := sorted(set(content) - known):
        raise DataError(f"{path}: written by another version of usim, with {', '.join(unknown)}; update usim")
    content["shards"] = [ShardEntry(**shard) for shard in content["shards"]]
    content["split"] = tuple((str(name), float(fraction)) for name, fraction in content.get("split", ()))
    for shard in content["shards"]:
        if not (isinstance(shard.name, str) and Path(shard.name).name == shard.name):
            raise DataError(f"{path}: {shard.name!r} is not a file name in this folder")
        if not (isinstance(shard.frames, int) and shard.frames > 0 and isinstance(shard.bytes, int)):
            raise DataError(f"{path}: shard {shard.name}: frames and bytes must be positive integers")
    manifest = Manifest(**content)
    numbers = manifest.frames, manifest.seed, manifest.shard_size
    if not (all(isinstance(value, int) for value in numbers) and isinstance(manifest.versions, dict)):
        raise TypeError("frames, seed and shard_size must be integers, and versions a mapping")
    return manifest


def write_run(folder: Path, *, workers: int, started: float, seconds: float, outcome: str) -> None:
    """Write run.json: everything that differs between two equal runs.

    started: seconds since 1970. seconds: wall time. outcome: "complete" or what stopped the run.
    """
    content: dict[str, Any] = {
        "argv": sys.argv,
        "cpus": os.cpu_count(),
        "host": platform.node(),
        "outcome": outcome,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "started": started,
        "wall_s": round(seconds, 3),
        "workers": workers,
    }
    write_atomic(folder / RUN, _canonical(content))
