"""manifest.json, which equal runs repeat byte for byte, and run.json, which says when and where a run happened."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from usim.errors import DataError
from usim.io.atomic import write_atomic
from usim.io.layout import FORMAT

MANIFEST = "manifest.json"
RUN = "run.json"


@dataclass(frozen=True, order=True)
class ShardEntry:
    """One finished shard: index of its first frame, number of frames, file name, size and hash."""

    first_frame: int
    frames: int
    name: str
    bytes: int
    sha256: str


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
    shards: list[ShardEntry] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """True when every frame that was asked for lies in a finished shard."""
        return sum(shard.frames for shard in self.shards) == self.frames

    def to_json(self) -> bytes:
        """Return the manifest as canonical JSON: shards in order, keys sorted."""
        content = {"format": FORMAT, "complete": self.complete, **asdict(self)}
        content["shards"] = [asdict(shard) for shard in sorted(self.shards)]
        return (json.dumps(content, sort_keys=True, indent=1) + "\n").encode()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(folder: Path, manifest: Manifest, *, exclusive: bool = False) -> None:
    """Write manifest.json whole; exclusive claims a folder and raises FileExistsError when another run was faster."""
    write_atomic(folder / MANIFEST, manifest.to_json(), exclusive=exclusive)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a dataset; raises DataError (path, reason, cure) when it is missing or damaged."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        if content.pop("format") != FORMAT:
            raise DataError(f"{path}: not a {FORMAT} dataset; this version of usim reads {FORMAT} only")
        content.pop("complete")
        content["shards"] = [ShardEntry(**shard) for shard in content["shards"]]
        for shard in content["shards"]:
            if not (isinstance(shard.name, str) and Path(shard.name).name == shard.name):
                raise DataError(f"{path}: {shard.name!r} is not a file name in this folder")
            if not (isinstance(shard.frames, int) and shard.frames > 0 and isinstance(shard.bytes, int)):
                raise DataError(f"{path}: shard {shard.name}: frames and bytes must be positive integers")
        return Manifest(**content)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"damaged manifest ({type(error).__name__}: {error})"
        raise DataError(f"{path}: {reason}; open the shards by their names") from error


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
    write_atomic(folder / RUN, (json.dumps(content, sort_keys=True, indent=1) + "\n").encode())
