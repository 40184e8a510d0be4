"""What a run will take: frames into shards, bytes, memory and time, and the refusal of what cannot work."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from usim.errors import ConfigError, ResourceError
from usim.io.layout import DTYPES, KEYS, STORABLE
from usim.io.packing import bytes_per_frame
from usim.io.provenance import Manifest, ShardEntry
from usim.phantom.draw import draw
from usim.scan import Sector
from usim.splits import Split, checked_split, frames_of

if TYPE_CHECKING:
    from usim.phantom.load import Phantom

#: Aim for the size of a shard: large enough for few files, small enough to be built in memory.
SHARD_BYTES = 64 << 20
#: A run is cut into this many shards at least, so that progress is kept and a few workers have something to do.
FEWEST_SHARDS = 4
#: Memory of a worker: imports, kernels and a plan (0.3 GB focused, 1.2 GB for a plane wave over 38 x 40 mm), and bytes
#: per pixel of a frame at work (field, 1024 to 2048 pixels a side). A dry run measures the phantom at hand instead.
WORKER_BYTES = 500 << 20
WORKING_BYTES_PER_PIXEL = 200


class Asked(TypedDict, total=False):
    """What a run may be asked for; see `usim.generate.generate`."""

    frames: int | None
    seed: int | None
    workers: int | None
    shard_size: int | None
    store: Collection[str]
    dtype: str
    compress: bool
    split: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """How a run is cut: frames, seed, shards as ranges of frames, workers, extras, pixels (x, z) of a frame.

    keys: those of the phantom that add datasets.  lines: lines and samples along each, of a sector.  dtype, compress:
    of the images on disk.  split: names and fractions of its scenes.  per_scene: frames of each scene.
    """

    frames: int
    seed: int
    shard_size: int
    workers: int
    store: tuple[str, ...]
    pixels: tuple[int, int]
    keys: tuple[str, ...] = ()
    lines: tuple[int, int] | None = None
    dtype: str = "float32"
    compress: bool = False
    split: Split = ()
    per_scene: int = 1

    @property
    def shards(self) -> list[range]:
        """The range of frames of each shard; none crosses from one part of a split into the next."""
        parts, size = frames_of(self.split, self.frames, self.per_scene).values(), self.shard_size
        return [part[i : i + size] for part in parts for i in range(0, len(part), size)]

    @property
    def bytes(self) -> int:
        """Bytes on disk before compression, scatterers not counted."""
        return self.frames * self._frame_bytes

    @property
    def _frame_bytes(self) -> int:
        return bytes_per_frame(self.pixels, self.store + self.keys, self.lines, self.dtype)

    @property
    def memory(self) -> int:
        """Bytes of memory of all workers: imports, a frame at work, a shard that is filled and one that is written."""
        shard = min(self.shard_size, self.frames) * self._frame_bytes
        values = sum(width * height for width, height in (self.pixels, self.lines or (0, 0)))
        return self.workers * (WORKER_BYTES + WORKING_BYTES_PER_PIXEL * values + 2 * shard)

    @property
    def shard_count(self) -> int:
        """How many shards there are; an absurd number of frames must be refused before they are listed."""
        parts = frames_of(self.split, self.frames, self.per_scene).values()
        return sum(-(-len(part) // self.shard_size) for part in parts)

    def split_of(self, rows: range) -> str:
        """Return the part of the split that the frames `rows` belong to, "" without one."""
        parts = frames_of(self.split, self.frames, self.per_scene)
        return next(name for name, part in parts.items() if rows.start in part)

    def shard_path(self, folder: Path, rows: range) -> Path:
        """Return the file of the shard that holds the frames `rows`."""
        name = self.split_of(rows)
        first = frames_of(self.split, self.frames, self.per_scene)[name].start
        return folder / f"{name or 'shard'}-{(rows.start - first) // self.shard_size:05d}.h5"

    @property
    def names(self) -> list[str]:
        """The file names of the shards, in order."""
        return [self.shard_path(Path(), rows).name for rows in self.shards]

    def entry(self, path: Path, rows: range, size: int, digest: str) -> ShardEntry:
        """Return what a manifest says of the shard of the frames `rows`, of `size` bytes with the SHA-256 `digest`."""
        return ShardEntry(rows.start, len(rows), path.name, size, digest, self.split_of(rows))

    def manifest(self, phantom: Phantom, versions: dict[str, str]) -> Manifest:
        """Return the manifest of a run that has not finished a shard yet."""
        return Manifest(
            name=Path(phantom.source).stem,
            frames=self.frames,
            seed=self.seed,
            shard_size=self.shard_size,
            store=list(self.store),
            config_sha256=config_digest(phantom),
            versions=versions,
            dtype=self.dtype,
            compress=self.compress,
            split=self.split,
        )


def config_digest(phantom: Phantom) -> str:
    """Return the SHA-256 of a phantom's text and of the files that it names."""
    digest = hashlib.sha256(phantom.config_yaml.encode())
    for name, content in phantom.files:
        digest.update(f"{Path(name).name} {content}".encode())
    return digest.hexdigest()


def plan_run(
    phantom: Phantom,
    *,
    frames: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    shard_size: int | None = None,
    store: Collection[str] = (),
    dtype: str = "float32",
    compress: bool = False,
    split: Mapping[str, float] | None = None,
) -> Plan:
    """Return the plan of a run; what is None is chosen.

    The shard size depends on the frames alone, never on the workers. Raises ConfigError for an unusable number or word.

    >>> plan_run(load_phantom("cyst"), frames=100).shards[0]  # doctest: +SKIP
    range(0, 10)
    """
    for word in store:
        if word not in STORABLE:
            raise ConfigError(f"store: {word!r} is unknown; allowed are {', '.join(STORABLE)}")
    if "iq" in store and phantom.document.get("compound") is not None:
        raise ConfigError("store: iq: the images of a compound are means of powers and have none; leave iq out")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: {dtype!r} is unknown; allowed are {', '.join(DTYPES)}")
    frames = _positive("frames", phantom.frames if frames is None else frames)
    seed = phantom.seed if seed is None else seed
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed: {seed} is not an integer from 0 to 2^63 - 1")
    per_scene = math.prod(phantom.views)
    parts = checked_split(split or {}, -(-frames // per_scene))
    image = draw(phantom, seed, 0).image
    pixels, lines = image.pixels, (image.lines, image.samples) if isinstance(image, Sector) else None
    keys = tuple(key for key in KEYS if phantom.document.get(key) is not None)
    extras = tuple(word for word in STORABLE if word in store)
    if shard_size is None:
        fitting = SHARD_BYTES // bytes_per_frame(pixels, extras + keys, lines, dtype)
        shard_size = max(1, min(fitting, -(-frames // FEWEST_SHARDS)))
    shard_size = min(_positive("shard-size", shard_size), frames)
    plan = Plan(frames, seed, shard_size, 1, extras, pixels, keys, lines, dtype, compress, parts, per_scene)
    workers = os.cpu_count() or 1 if workers is None else _positive("workers", workers)
    return replace(plan, workers=min(workers, plan.shard_count))


def _positive(name: str, value: int) -> int:
    if not 1 <= value <= 10**15:
        raise ConfigError(f"{name}: {value} is not an integer from 1 to 10^15")
    return value


def refuse_full_disk(plan: Plan, folder: Path) -> None:
    """Raise ResourceError, with the numbers and the cure, when the disk cannot hold what is planned."""
    home = folder.absolute()
    while not home.is_dir() and home != home.parent:
        home = home.parent
    free = shutil.disk_usage(home).free
    there = sum(path.stat().st_size for path in folder.glob("*.h5")) if plan.bytes > free else 0
    needed = plan.bytes - there
    if needed > free:
        raise ResourceError(
            f"{folder}: {needed} bytes are needed, {free} are free on that disk; free some or lower --frames"
        )


def refuse_small_memory(plan: Plan, folder: Path) -> None:
    """Raise ResourceError, with the numbers and the cure, when this machine's memory cannot hold the workers."""
    memory = physical_memory()
    if plan.memory > memory:
        raise ResourceError(
            f"{folder}: {plan.memory} bytes of memory are needed for {plan.workers} workers with shards of "
            f"{plan.shard_size} frames, this machine has {memory}; lower --shard-size, --workers or image.pixels"
        )


def physical_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
