"""What usim runs in the workers of a dask.distributed cluster: versions, what they see, one shard at a time."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distributed import get_worker
from h5py.version import hdf5_version

from usim import __version__
from usim.engines.compiled import cache_folder
from usim.errors import ConfigError, DataError, ResourceError
from usim.io.provenance import MANIFEST
from usim.workers import Work

#: Seconds between two reports of one task: a scheduler passes each of them on, for every worker.
_TELL_S = 0.5
#: Two threads of one process must not launch kernels at the same time: numba's workqueue ends the process then.
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What every task of a run carries.

    start: the pickled function that returns the work.  run: a word that no other run has; names the probe file and the
    topic of its news.  folder: where shards go.  versions: what `versions()` must return.
    """

    start: bytes
    run: str
    folder: str
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Return what must be equal in all processes of a run: it decides bits, or what goes over the wire."""
    python = ".".join(map(str, sys.version_info[:2]))
    libraries = {name: version(name) for name in ("distributed", "numba", "numpy", "scipy")}
    return {"hdf5": hdf5_version, "python": python, "usim": __version__, **libraries}


def processor() -> str:
    """Return the type of processor that kernels are compiled for, as LLVM calls it."""
    from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

    wide = [name for name in ("avx512f", "avx2", "sve", "neon") if get_host_cpu_features().get(name)]
    return " ".join((get_host_cpu_name(), *wide[:1]))


def survey() -> tuple[dict[str, str], str]:
    """Return the versions and the processor of this worker."""
    return versions(), processor()


def difference(there: dict[str, str], here: dict[str, str]) -> str:
    """Return which versions differ, "" when none does.

    >>> difference({"numpy": "2.3.1", "usim": "1"}, {"numpy": "2.4.6", "usim": "1"})
    'numpy 2.3.1 instead of 2.4.6'
    """
    names = sorted(name for name in here if there.get(name) != here[name])
    return ", ".join(f"{name} {there.get(name, 'missing')} instead of {here[name]}" for name in names)


def probe_path(folder: str | Path, run: str) -> Path:
    """Return the file by which a worker knows the folder of a run; to others it is a partial one of its manifest."""
    return Path(folder) / f".{MANIFEST}.part.probe-{run}"


def look(folder: str, run: str, files: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the path that a worker lacks and what is wrong with it; None when it lacks nothing.

    files: what the phantom reads.
    """
    probe = probe_path(folder, run)
    trial = probe.with_name(f"{probe.name}-{os.uname().nodename.replace('.', '-')}-{os.getpid()}")
    try:
        if not probe.exists():
            return folder, "does not see this folder"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        return folder, f"cannot write there ({error.strerror})"
    return next(((name, "does not see this file") for name in files if not Path(name).is_file()), None)


def perform(job: Job, numbered: tuple[int, Any]) -> tuple[str, Any, int]:
    """Work on one item; return what became of it, its result or error, and the sum of what was reported.

    Done, failed (it fails everywhere) or refused (this worker may not work for the run). Raises ResourceError, and what
    else work raises, for what may succeed on another worker.
    """
    number, item = numbered
    worker = get_worker()
    key, total, told = worker.get_current_task(), 0, time.monotonic()

    def report(value: int) -> None:
        nonlocal total, told
        state = worker.state.tasks.get(key)
        if state is None or state.state == "cancelled":
            raise ResourceError("the run that asked for this has ended")
        total += value
        if time.monotonic() - told >= _TELL_S:
            worker.log_event(job.run, [number, total])
            told = time.monotonic()

    try:
        with _ALONE:
            report(0)
            worker.log_event(job.run, [number, 0])  # whatever kills this worker now was begun
            if reason := _strange(job):
                return "refused", ConfigError(f"worker {worker.address} {reason}; stop it, go on with --resume"), total
            with one_thread():
                return "done", _opened(job.start)(item, report), total
    except (ConfigError, DataError) as error:
        return "failed", error, total
    except MemoryError:
        raise ResourceError(f"worker {worker.address} ran out of memory; lower --shard-size") from None


def working() -> bool:
    """Return whether this worker is in the middle of an item."""
    return _ALONE.locked()


def _strange(job: Job) -> str:
    """Return why this worker, which may have joined in the middle of a run, may not work for it; "" when it may."""
    if differs := difference(versions(), job.versions):
        return f"has {differs}"
    return "" if probe_path(job.folder, job.run).exists() else f"does not see the folder {job.folder}"


@functools.lru_cache(maxsize=1)
def _opened(start: bytes) -> Work:
    """The work of a run, kept for its next item: it holds plans that serve many frames."""
    return pickle.loads(start)()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Kernels of this thread use one thread each, as in the workers of one machine, whatever the environment says."""
    cache_folder()  # numba reads it from the environment when it is imported
    import numba
    from threadpoolctl import threadpool_limits

    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        numba.set_num_threads(before)
