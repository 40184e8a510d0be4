"""From a phantom to a folder of shards: plan, refuse what cannot work, then map shards over processes.

A shard is a pure function of (phantom, seed, frame range), so workers and their number never change a bit of it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from usim import __version__
from usim.errors import ResourceError
from usim.frame import Frame
from usim.io.atomic import partial_path, write_atomic
from usim.io.folder import claim_folder, release_folder
from usim.io.provenance import Manifest, ShardEntry, sha256, write_manifest, write_run
from usim.io.shard import ShardHeader, encode_shard
from usim.pipeline import Renderer
from usim.sizing import Plan, plan_run, refuse_too_large
from usim.workers import Event, Report, map_items

if TYPE_CHECKING:
    from usim.phantom.load import Phantom

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a run is: frames simulated, shards finished and bytes written, each of how many is in `plan`."""

    plan: Plan
    frames: int = 0
    shards: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Result:
    """What a run made: the folder, its manifest, and the seconds it took."""

    folder: Path
    manifest: Manifest
    seconds: float


@dataclass(frozen=True)
class ShardMaker:
    """Everything a worker needs; opened in its process, it turns a range of frames into a shard on disk."""

    phantom: Phantom
    plan: Plan
    folder: Path
    versions: dict[str, str]

    def open(self) -> Callable[[range, Report], ShardEntry]:
        """Return the function that makes one shard; it keeps a renderer, whose plans serve many frames."""
        renderer = Renderer(self.phantom, seed=self.plan.seed)
        return functools.partial(self._make, renderer)

    def _make(self, renderer: Renderer, rows: range, report: Report) -> ShardEntry:
        header = ShardHeader(
            frames=len(rows),
            first_frame=rows.start,
            seed=self.plan.seed,
            config_yaml=self.phantom.config_yaml,
            description=str(self.phantom.document.get("description", "")),
            versions=self.versions,
            store=self.plan.store,
        )

        def frames() -> Iterator[Frame]:
            for index in rows:
                yield renderer.frame(index)
                report(1)

        data = encode_shard(frames(), header)
        path = self.plan.shard_path(self.folder, rows)
        write_atomic(path, data)
        return ShardEntry(rows.start, len(rows), path.name, len(data), sha256(data))


def deciding_versions() -> dict[str, str]:
    """Return the versions of the packages that decide the bits of a frame."""
    return {"numba": version("numba"), "numpy": version("numpy"), "usim": __version__}


def generate(
    phantom: Phantom,
    out: str | os.PathLike[str],
    *,
    frames: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    shard_size: int | None = None,
    store: Collection[str] = (),
    progress: Callable[[Progress], None] = lambda state: None,
) -> Result:
    """Simulate the frames of a phantom into the folder `out`: shards, manifest.json and run.json.

    frames, seed: the phantom's own unless given. workers: processes, one per core and at most one per shard unless
    given; 1 works in this process. shard_size: frames per shard, about 64 MB unless given. store: "iq", "scatterers".
    progress: called after every frame and shard and a few times a second; what it raises ends the run.

    Raises ConfigError when an argument is not usable or `out` holds something else, ResourceError when disk, memory or
    permission is lacking or a worker was killed. Whatever ends a run, finished shards stay listed and readable, and
    no partial file is left.

    >>> generate(load_phantom("training"), "training", frames=64, workers=2)  # doctest: +SKIP
    """
    plan = plan_run(phantom, frames=frames, seed=seed, workers=workers, shard_size=shard_size, store=store)
    folder = Path(out)
    refuse_too_large(plan, folder)
    started, clock = time.time(), time.perf_counter()
    versions = deciding_versions()
    manifest = plan.manifest(phantom, versions)
    created = claim_folder(folder, manifest)
    outcome = "interrupted"
    try:
        _run(ShardMaker(phantom, plan, folder, versions), manifest, progress)
        outcome = "complete"
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}".splitlines()[0]
        raise
    finally:
        _clear_unlisted(plan, folder, manifest)
        if manifest.shards:
            # On a full disk the two last files may fail as well; the error that stopped the run is the one to tell.
            with contextlib.nullcontext() if outcome == "complete" else contextlib.suppress(ResourceError):
                write_manifest(folder, manifest)
                seconds = time.perf_counter() - clock
                write_run(folder, workers=plan.workers, started=started, seconds=seconds, outcome=outcome)
        else:
            release_folder(folder, created)
        log.info("%s: %d of %d shards are finished and readable", folder, len(manifest.shards), len(plan.shards))
    return Result(folder, manifest, time.perf_counter() - clock)


def _run(maker: ShardMaker, manifest: Manifest, progress: Callable[[Progress], None]) -> None:
    plan, lost, done = maker.plan, list[Event](), 0

    def listen(event: Event) -> None:
        nonlocal done
        if event.kind == "progress":
            done += event.value
        elif event.kind == "done":
            manifest.shards.append(event.value)
            write_manifest(maker.folder, manifest)
        elif event.kind == "lost":
            lost.append(event)
        progress(Progress(plan, done, len(manifest.shards), sum(shard.bytes for shard in manifest.shards)))

    progress(Progress(plan))
    map_items(maker.open, plan.shards, plan.workers, listen)
    if lost:
        names = ", ".join(plan.shard_path(maker.folder, event.item).name for event in lost)
        codes = ", ".join(sorted({str(event.value) for event in lost if event.value is not None}))
        raise ResourceError(
            f"{maker.folder}: missing {names}: a worker was killed (exit code {codes}; out of memory?); "
            f"{len(manifest.shards)} of {len(plan.shards)} shards are finished and readable; use fewer --workers"
        )


def _clear_unlisted(plan: Plan, folder: Path, manifest: Manifest) -> None:
    """Remove what ended workers left behind: partial files, and whole shards that nobody was told about."""
    listed = {shard.name for shard in manifest.shards}
    for path in (plan.shard_path(folder, rows) for rows in plan.shards):
        with contextlib.suppress(OSError):
            partial_path(path).unlink()
        if path.name not in listed:
            with contextlib.suppress(OSError):
                path.unlink()
