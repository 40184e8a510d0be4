"""What a run will take: frames into shards, bytes, memory and time, and the refusal of what cannot work."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from usim.errors import ConfigError, ResourceError
from usim.io.layout import KEYS, STORABLE, bytes_per_frame
from usim.io.provenance import Manifest
from usim.io.shard import ShardHeader, encode_shard
from usim.phantom.draw import draw
from usim.pipeline import Renderer
from usim.scan import Sector

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
#: Seconds until a spawned worker has imported everything (measured).
STARTUP_S = 2.5


@dataclass(frozen=True)
class Plan:
    """How a run is cut: frames, seed, shards as ranges of frames, workers, extras, pixels (x, z) of a frame.

    keys: those of the phantom that add datasets.  lines: lines and samples along each, of a sector.
    """

    frames: int
    seed: int
    shard_size: int
    workers: int
    store: tuple[str, ...]
    pixels: tuple[int, int]
    keys: tuple[str, ...] = ()
    lines: tuple[int, int] | None = None

    @property
    def shards(self) -> list[range]:
        """The range of frames of each shard."""
        return [range(i, min(i + self.shard_size, self.frames)) for i in range(0, self.frames, self.shard_size)]

    @property
    def bytes(self) -> int:
        """Bytes on disk, scatterers not counted."""
        return self.frames * self._frame_bytes

    @property
    def _frame_bytes(self) -> int:
        return bytes_per_frame(self.pixels, self.store + self.keys, self.lines)

    @property
    def memory(self) -> int:
        """Bytes of memory of all workers: imports, one frame at work, and the shard twice (HDF5's image and ours)."""
        shard = min(self.shard_size, self.frames) * self._frame_bytes
        values = sum(width * height for width, height in (self.pixels, self.lines or (0, 0)))
        return self.workers * (WORKER_BYTES + WORKING_BYTES_PER_PIXEL * values + 2 * shard)

    def shard_path(self, folder: Path, rows: range) -> Path:
        """Return the file of the shard that holds the frames `rows`."""
        return folder / f"shard-{rows.start // self.shard_size:05d}.h5"

    def manifest(self, phantom: Phantom, versions: dict[str, str]) -> Manifest:
        """Return the manifest of a run that has not finished a shard yet."""
        digest = hashlib.sha256(phantom.config_yaml.encode())
        for name, content in phantom.files:
            digest.update(f"{Path(name).name} {content}".encode())
        return Manifest(
            name=Path(phantom.source).stem,
            frames=self.frames,
            seed=self.seed,
            shard_size=self.shard_size,
            store=list(self.store),
            config_sha256=digest.hexdigest(),
            versions=versions,
        )


@dataclass(frozen=True)
class Estimate:
    """What a run would take: bytes on disk, bytes of memory, seconds."""

    plan: Plan
    bytes: int
    memory: int
    seconds: float


def plan_run(
    phantom: Phantom,
    *,
    frames: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    shard_size: int | None = None,
    store: Collection[str] = (),
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
    frames = _positive("frames", phantom.frames if frames is None else frames)
    seed = phantom.seed if seed is None else seed
    if not 0 <= seed < 2**63:
        raise ConfigError(f"seed: {seed} is not an integer from 0 to 2^63 - 1")
    image = draw(phantom, seed, 0).image
    pixels, lines = image.pixels, (image.lines, image.samples) if isinstance(image, Sector) else None
    keys = tuple(key for key in KEYS if phantom.document.get(key) is not None)
    extras = tuple(word for word in STORABLE if word in store)
    if shard_size is None:
        fitting = SHARD_BYTES // bytes_per_frame(pixels, extras + keys, lines)
        shard_size = max(1, min(fitting, -(-frames // FEWEST_SHARDS)))
    shard_size = min(_positive("shard-size", shard_size), frames)
    shards = -(-frames // shard_size)
    workers = min(os.cpu_count() or 1, shards) if workers is None else min(_positive("workers", workers), shards)
    return Plan(frames, seed, shard_size, workers, extras, pixels, keys, lines)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ConfigError(f"{name}: {value} is not a positive integer")
    return value


def refuse_too_large(plan: Plan, folder: Path) -> None:
    """Raise ResourceError, with the numbers and the cure, when the disk or the memory cannot hold what is planned."""
    home = folder.absolute()
    while not home.is_dir() and home != home.parent:
        home = home.parent
    free = shutil.disk_usage(home).free
    if plan.bytes > free:
        raise ResourceError(
            f"{folder}: {plan.bytes} bytes are needed, {free} are free on that disk; free some or lower --frames"
        )
    memory = physical_memory()
    if plan.memory > memory:
        raise ResourceError(
            f"{folder}: {plan.memory} bytes of memory are needed for {plan.workers} workers with shards of "
            f"{plan.shard_size} frames, this machine has {memory}; lower --shard-size, --workers or image.pixels"
        )


def physical_memory() -> int:
    """Return the bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def estimate(phantom: Phantom, plan: Plan) -> Estimate:
    """Return what a run would take, from really simulating and encoding two of its frames here."""
    renderer = Renderer(phantom, seed=plan.seed)
    renderer.frame(0)  # compiles and loads what later frames find ready
    start = time.perf_counter()
    frame = renderer.frame(min(1, plan.frames - 1))
    header = ShardHeader(1, 0, plan.seed, phantom.config_yaml, "", {}, plan.store)
    one = len(encode_shard([frame], header))
    seconds = time.perf_counter() - start
    two = len(encode_shard([frame, frame], ShardHeader(2, 0, plan.seed, phantom.config_yaml, "", {}, plan.store)))
    size = plan.frames * (two - one) + len(plan.shards) * (2 * one - two)
    # Peak memory so far: kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    shard = min(plan.shard_size, plan.frames) * (two - one)
    total = STARTUP_S + plan.frames * seconds / min(plan.workers, os.cpu_count() or 1)
    return Estimate(plan, size, plan.workers * (peak + 2 * shard), total)
