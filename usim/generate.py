"""From a phantom to a folder of shards: plan, refuse what cannot work, then map shards over processes.

A shard is a pure function of (phantom, seed, frame range), so workers and their number never change a bit of it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from usim import __version__
from usim.cluster import Cluster, connect
from usim.errors import ConfigError, ResourceError, UsimError, first_line
from usim.frame import Frame
from usim.io.atomic import write_atomic
from usim.io.folder import clear_leftovers, held, refuse_foreign, refuse_occupied, release_folder
from usim.io.provenance import Manifest, ShardEntry, sha256, write_manifest, write_run
from usim.io.shard import ShardHeader, encode_shard
from usim.phantom.files import locate
from usim.pipeline import Renderer
from usim.resume import proven_shards
from usim.sizing import Asked, Plan, config_digest, plan_run, refuse_full_disk, refuse_small_memory
from usim.workers import Event, Later, Report, map_items

if TYPE_CHECKING:
    from usim.phantom.load import Phantom

log = logging.getLogger(__name__)


#: Missing shards that an error names, each with its reason.
_NAMED = 5


@dataclass(frozen=True)
class Progress:
    """How far a run is: frames simulated, shards finished and bytes written, each of how many is in `plan`.

    kept: how many of the frames an earlier run had made.
    """

    plan: Plan
    frames: int = 0
    shards: int = 0
    bytes: int = 0
    kept: int = 0

    @property
    def total(self) -> int:
        """Frames that were asked for."""
        return self.plan.frames

    @property
    def finished(self) -> bool:
        """True when every frame is in a finished shard."""
        return self.frames == self.total and self.shards == len(self.plan.shards)


@dataclass(frozen=True)
class Result:
    """What a run made: the folder, its manifest, and the seconds it took.

    kept: shards that an earlier run had made.  rendered: frames that were simulated now.
    """

    folder: Path
    manifest: Manifest
    seconds: float
    kept: int = 0
    rendered: int = 0


@dataclass(frozen=True)
class ShardMaker:
    """Everything a worker needs; opened in its process, it turns a range of frames into a shard on disk."""

    phantom: Phantom
    plan: Plan
    folder: Path
    versions: dict[str, str]

    def open(self) -> Callable[[range, Report], ShardEntry]:
        """Return the function that makes one shard; it keeps a renderer, whose plans serve many frames."""
        make = self.open_ahead()
        return lambda rows, report: make(rows, report).result()

    def open_ahead(self) -> Callable[[range, Report], Later]:
        """As `open`, but a shard is hashed and written while the next one is simulated."""
        renderer = Renderer(self.phantom, seed=self.plan.seed)
        return functools.partial(self._make, renderer)

    def header(self, rows: range) -> ShardHeader:
        """Return what the shard of the frames `rows` says about itself."""
        return ShardHeader(
            frames=len(rows),
            first_frame=rows.start,
            seed=self.plan.seed,
            config_yaml=self.phantom.config_yaml,
            description=str(self.phantom.document.get("description", "")),
            versions=self.versions,
            store=self.plan.store,
            dtype=self.plan.dtype,
            compress=self.plan.compress,
            config_sha256=config_digest(self.phantom),
        )

    def _make(self, renderer: Renderer, rows: range, report: Report) -> Later:
        def frames() -> Iterator[Frame]:
            for index in rows:
                yield renderer.frame(index)
                report(1)

        data = encode_shard(frames(), self.header(rows))
        report(0)  # a run that has ended in the meantime says so here, and nothing is written after it
        path = self.plan.shard_path(self.folder, rows)

        def finish(check: Callable[[], None]) -> ShardEntry:
            write_atomic(path, data, check=check)
            return self.plan.entry(path, rows, len(data), sha256(data))

        return Later(finish)


def deciding_versions() -> dict[str, str]:
    """Return the versions of what decides the bits of a shard."""
    from h5py.version import hdf5_version

    return {"hdf5": hdf5_version, "numba": version("numba"), "numpy": version("numpy"), "usim": __version__}


def generate(
    phantom: Phantom,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    keep_going: bool = False,
    scheduler: str | None = None,
    progress: Callable[[Progress], None] = lambda state: None,
    **asked: Unpack[Asked],
) -> Result:
    """Simulate the frames of a phantom into the folder `out`: shards, manifest.json and run.json.

    frames, seed: the phantom's own unless given. workers: processes, one per core and at most one per shard unless
    given; 1 works in this process. shard_size: frames per shard, about 64 MB unless given. store: "iq", "scatterers".
    dtype: of the images on disk, "float32" unless given. compress: pack them without loss. split: fractions of the
    scenes by name. resume: go on with what an earlier run of the same arguments left in `out`, or begin. keep_going:
    make all other shards when the frames of one raise a UsimError or its worker is killed, and raise then.
    scheduler: of dask, such as tcp://host:8786; its workers make the shards, and see `out` under the same path.
    progress: called after every frame and shard and a few times a second; what it raises ends the run.

    Raises ConfigError when an argument is not usable or `out` holds something else, ResourceError when disk, memory or
    permission is lacking or a worker was killed. Whatever ends a run, finished shards stay listed and readable, and
    no partial file is left.

    >>> generate(load_phantom("training"), "training", frames=64, workers=2)  # doctest: +SKIP
    """
    if scheduler is not None and asked.get("workers") is not None:
        raise ConfigError("--workers: a scheduler has workers of its own; leave --workers or --scheduler out")
    plan = plan_run(phantom, **asked)
    folder = Path(out) if scheduler is None else Path(out).absolute()
    refuse_full_disk(plan, folder)
    with _team(scheduler, plan, folder) as (plan, cluster):
        maker = ShardMaker(phantom, plan, folder, deciding_versions())
        return _generate(maker, resume, keep_going, progress, cluster)


@contextlib.contextmanager
def _team(scheduler: str | None, plan: Plan, folder: Path) -> Iterator[tuple[Plan, Cluster | None]]:
    """Yield the plan with the workers that there are, and their cluster unless they are processes of this machine."""
    if scheduler is None:
        refuse_small_memory(plan, folder)
        yield plan, None
        return
    with connect(scheduler) as cluster:
        cluster.refuse_small(plan.memory // plan.workers)
        yield replace(plan, workers=cluster.workers), cluster


def _generate(
    maker: ShardMaker,
    resume: bool,
    keep_going: bool,
    progress: Callable[[Progress], None],
    cluster: Cluster | None,
) -> Result:
    folder, plan, clock = maker.folder, maker.plan, time.perf_counter()
    manifest, names = plan.manifest(maker.phantom, maker.versions), plan.names
    refuse_foreign(folder, names if resume else ())
    with held(folder):
        if resume:
            manifest.shards = _proven(maker, manifest, progress)
        else:
            refuse_occupied(folder)
        kept = len(manifest.shards)
        rendered = _write(maker, manifest, names, keep_going, progress, cluster)
    return Result(folder, manifest, time.perf_counter() - clock, kept, rendered)


def _proven(maker: ShardMaker, asked: Manifest, progress: Callable[[Progress], None]) -> list[ShardEntry]:
    found = list[ShardEntry]()

    def heard(entry: ShardEntry | None) -> None:
        found.extend([entry] if entry else [])
        progress(_state(maker.plan, found, frames := sum(shard.frames for shard in found), frames))

    return proven_shards(maker.folder, maker.plan, asked, maker.header, heard)


def _state(plan: Plan, shards: list[ShardEntry], frames: int, kept: int) -> Progress:
    return Progress(plan, frames, len(shards), sum(shard.bytes for shard in shards), kept)


def _write(
    maker: ShardMaker,
    manifest: Manifest,
    names: list[str],
    keep_going: bool,
    progress: Callable[[Progress], None],
    cluster: Cluster | None,
) -> int:
    """Make the shards that the manifest lacks, list them in it, and return how many frames were simulated for it."""
    folder, plan, started, clock = maker.folder, maker.plan, time.time(), time.perf_counter()
    outcome = "interrupted"
    try:
        write_manifest(folder, manifest)
        clear_leftovers(folder, names, [shard.name for shard in manifest.shards])
        rendered = _run(maker, manifest, keep_going, progress, cluster)
        outcome = "complete"
    except Exception as error:
        outcome = f"{type(error).__name__}: {first_line(error)}"
        raise
    finally:
        clear_leftovers(folder, names, [shard.name for shard in manifest.shards])
        if manifest.shards:
            # On a full disk the two last files may fail as well; the error that stopped the run is the one to tell.
            with contextlib.nullcontext() if outcome == "complete" else contextlib.suppress(ResourceError):
                write_manifest(folder, manifest)
                seconds = time.perf_counter() - clock
                write_run(folder, workers=plan.workers, started=started, seconds=seconds, outcome=outcome)
        else:
            release_folder(folder)
        log.info("%s: %d of %d shards are finished and readable", folder, len(manifest.shards), plan.shard_count)
    return rendered


def _run(
    maker: ShardMaker,
    manifest: Manifest,
    keep_going: bool,
    progress: Callable[[Progress], None],
    cluster: Cluster | None,
) -> int:
    plan, kept, rendered = maker.plan, manifest.finished, 0
    failed = dict[str, UsimError]()

    def listen(event: Event) -> None:
        nonlocal rendered
        if event.kind == "progress":
            rendered += event.value
        elif event.kind == "done":
            manifest.shards.append(event.value)
            write_manifest(maker.folder, manifest)
        elif event.kind != "idle":
            what = f"a worker was killed, exit code {event.value}; out of memory? use fewer --workers"
            if cluster is not None:
                what = "one worker after another was killed over it; out of memory? lower --shard-size"
            killed = ResourceError(what)
            failed[plan.shard_path(maker.folder, event.item).name] = killed if event.kind == "lost" else event.value
        progress(_state(plan, manifest.shards, kept + rendered, kept))

    progress(_state(plan, manifest.shards, kept, kept))
    there = {shard.name for shard in manifest.shards}
    missing = [rows for rows in plan.shards if plan.shard_path(maker.folder, rows).name not in there]
    if missing and cluster is not None:
        files = tuple(str(locate(maker.phantom.base, name)) for name, _ in maker.phantom.files)
        with cluster.sharing(maker.folder, files):
            cluster.map_items(maker.open, missing, listen, maker.folder, keep_going=keep_going)
    elif missing:
        map_items(maker.open_ahead, missing, plan.workers, listen, keep_going=keep_going)
    if failed:
        said = [f"{name} ({first_line(error)})" for name, error in failed.items()]
        more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
        raise type(next(iter(failed.values())))(
            f"{maker.folder}: missing {', '.join(said[:_NAMED])}{more}; {len(manifest.shards)} of {plan.shard_count} "
            "shards are finished and readable; make the rest with --resume"
        )
    return rendered
