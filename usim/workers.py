"""A pool of spawned processes that loses one item, and nothing else, when one of its workers is killed.

concurrent.futures gives up the whole pool when a worker dies, and its queues can stay locked by a dead process. Here
every worker has its own pipe. Workers are spawned, never forked: fork after a Numba kernel killed the child.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal

from usim.errors import ResourceError, UsimError

#: One kernel thread each: one image per core beats two cores per image.
ONE_THREAD = {name: "1" for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
#: Seconds that workers get to end before they are killed.
_PATIENCE = 0.5
#: Seconds after which a listener is told that there is no news, so that it can move a clock or stop the work.
_IDLE_S = 0.2

Report = Callable[[Any], None]
Work = Callable[[Any, Report], Any]


@dataclass(frozen=True)
class Event:
    """News of an item: progress, done (with its result), lost (with the exit code); or idle, when there is none."""

    kind: Literal["progress", "done", "lost", "idle"]
    item: Any
    value: Any


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    item: Any = field(default=None)


def map_items(start: Callable[[], Work], items: Sequence[Any], workers: int, listen: Callable[[Event], None]) -> None:
    """Work through `items` in `workers` processes, or in this one when `workers` is 1, and tell `listen` every event.

    start: picklable; called once in each process, it returns the function (item, report) -> result.
    Raises the UsimError that an item raised; other errors of workers come as RuntimeError with their traceback.
    However it ends, no worker is left.

    >>> map_items(lambda: lambda item, report: item**2, [3], 1, lambda event: print(event.kind, event.value))
    done 9
    """
    if workers > 1:
        _map_over_processes(start, items, workers, listen)
        return
    work = start()
    for item in items:
        listen(Event("done", item, work(item, lambda value, item=item: listen(Event("progress", item, value)))))


def _map_over_processes(
    start: Callable[[], Work], items: Sequence[Any], workers: int, listen: Callable[[Event], None]
) -> None:
    waiting = list(reversed(items))
    team: list[_Worker] = []
    try:
        with spawning():
            for _ in range(min(workers, len(items))):
                team.append(_hire(start))
        for worker in team:
            _give(worker, waiting)
        while team:
            ready = wait([worker.pipe for worker in team], timeout=_IDLE_S)
            if not ready:
                listen(Event("idle", None, None))
            for worker in [w for w in team if w.pipe in ready]:
                event = _hear(worker)
                if event is not None:
                    listen(event)
                if event is None or event.kind == "lost":
                    worker.process.join()
                    team.remove(worker)
                elif event.kind == "done":
                    _give(worker, waiting)
        for item in reversed(waiting):
            listen(Event("lost", item, None))
    finally:
        _dismiss(team)


@contextlib.contextmanager
def spawning() -> Iterator[None]:
    """Children start with one thread per kernel, and deaf to Ctrl-C: the parent hears it and ends them."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _hire(start: Callable[[], Work]) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, start), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, waiting: list[Any]) -> None:
    worker.item = waiting.pop() if waiting else None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker is noticed when it is heard
        worker.pipe.send((worker.item,) if worker.item is not None else None)


def _hear(worker: _Worker) -> Event | None:
    """Return what the worker says; None when it has ended after its last item."""
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, ConnectionResetError, pickle.UnpicklingError):
        worker.process.join(_PATIENCE)
        return None if worker.item is None else Event("lost", worker.item, worker.process.exitcode)
    if kind == "error":
        raise value
    return Event(kind, worker.item, value)


def _dismiss(team: list[_Worker]) -> None:
    for worker in team:
        worker.process.terminate()
    for worker in team:
        worker.process.join(_PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _serve(pipe: Connection, start: Callable[[], Work]) -> None:
    """Run in a worker: take items until None comes or the parent is gone."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            work = start()
            while (message := pipe.recv()) is not None:
                pipe.send(("done", work(message[0], lambda value: pipe.send(("progress", value)))))
        except UsimError as error:
            pipe.send(("error", error))
        except MemoryError:
            pipe.send(("error", ResourceError("a worker ran out of memory; lower --shard-size or --workers")))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception:
            pipe.send(("error", RuntimeError(f"a worker failed:\n{traceback.format_exc()}")))
