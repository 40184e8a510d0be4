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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
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
    """News of an item: progress, done (its result), failed (its UsimError), lost (the exit code); or idle: no news."""

    kind: Literal["progress", "done", "failed", "lost", "idle"]
    item: Any
    value: Any


class Later(Future[Any]):
    """A result that a thread of its own still finishes while the next item is worked on.

    finish: returns the result; it is given a function to call now and then, which raises when nobody wants it any more.

    >>> Later(lambda check: 6 * 7).result()
    42
    """

    def __init__(self, finish: Callable[[Callable[[], None]], Any]) -> None:
        super().__init__()
        self._unwanted = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(finish,), daemon=True)
        self._thread.start()

    def _run(self, finish: Callable[[Callable[[], None]], Any]) -> None:
        try:
            self.set_result(finish(self._check))
        except BaseException as error:
            self.set_exception(error)

    def _check(self) -> None:
        if self._unwanted.is_set():
            raise CancelledError

    def result(self, timeout: float | None = None) -> Any:
        """Return what was finished, or raise what came of it; the thread has ended then."""
        try:
            return super().result(timeout)
        finally:
            self._thread.join(timeout)

    def abandon(self) -> None:
        """Return when the thread has ended; it is told to."""
        self._unwanted.set()
        self._thread.join()


@dataclass
class _Worker:
    """A process, and the items that it was given and has not finished: the last one is worked on."""

    process: BaseProcess
    pipe: Connection
    items: list[Any] = field(default_factory=list)


def map_items(
    start: Callable[[], Work],
    items: Sequence[Any],
    workers: int,
    listen: Callable[[Event], None],
    *,
    keep_going: bool = False,
) -> None:
    """Work through `items` in `workers` processes, or in this one when `workers` is 1, and tell `listen` every event.

    start: picklable; called once in each process, it returns the function (item, report) -> result. Where the result
    is a `Later`, the next item is begun, and the event comes when it is there; one after the next is begun only then.
    keep_going: tell the UsimError of an item as `failed` and go on, also when all workers were killed.
    Raises the UsimError that an item raised; other errors of workers come as RuntimeError with their traceback.
    However it ends, no worker and no thread is left.

    >>> map_items(lambda: lambda item, report: item**2, [3], 1, lambda event: print(event.kind, event.value))
    done 9
    """

    def hear(event: Event) -> None:
        if event.kind == "failed" and not keep_going:
            raise event.value
        listen(event)

    if workers > 1:
        _map_over_processes(start, items, workers, hear, keep_going)
    else:
        _work_off(start(), items, lambda kind, item, value: hear(Event(kind, item, value)))


def _work_off(work: Work, items: Iterable[Any], tell: Callable[[Any, Any, Any], None]) -> None:
    """Work through items and tell news of each; what a Later has finished is told when the next item reports."""
    pending: list[tuple[Any, Later]] = []
    untold: list[Exception] = []

    def settle(most: int) -> None:
        while pending and (len(pending) > most or pending[0][1].done()):
            item, later = pending[0]
            kind, value = _outcome(later.result)
            del pending[0]
            tell(kind, item, value)

    def report(item: Any, value: Any) -> None:
        try:
            settle(1)
            tell("progress", item, value)
        except Exception as error:
            untold.append(error)  # of whoever listens, not of the item that is worked on
            raise

    try:
        for item in items:
            kind, value = _outcome(lambda item=item: work(item, lambda news: report(item, news)))
            if untold:
                raise untold[0]
            if isinstance(value, Later):
                pending.append((item, value))
                settle(1)
            else:
                settle(0)
                tell(kind, item, value)
        settle(0)
    except Exception:
        with contextlib.suppress(Exception):  # what was worked off before is not lost by an error after it
            settle(0)
        raise
    finally:
        for _, later in pending:
            later.abandon()


def _outcome(action: Callable[[], Any]) -> tuple[Literal["done", "failed"], Any]:
    try:
        return "done", action()
    except UsimError as error:
        return "failed", error
    except MemoryError:
        return "failed", ResourceError("a worker ran out of memory; lower --shard-size or --workers")


def _map_over_processes(
    start: Callable[[], Work], items: Sequence[Any], workers: int, listen: Callable[[Event], None], keep_going: bool
) -> None:
    waiting = list(reversed(items))
    team: list[_Worker] = []
    try:
        with spawning():
            for _ in range(min(workers, len(items))):
                team.append(_hire(start))
        while team:
            ready = wait([worker.pipe for worker in team], timeout=_IDLE_S)
            if not ready:
                listen(Event("idle", None, None))
            for worker in [w for w in team if w.pipe in ready]:
                kind, value = _hear(worker)
                if kind == "next":
                    _give(worker, waiting)
                elif kind == "ended":
                    worker.process.join()
                    team.remove(worker)
                    for item in worker.items:
                        listen(Event("lost", item, worker.process.exitcode))
                else:
                    item = worker.items[-1] if kind == "progress" else worker.items.pop(0)
                    listen(Event(kind, item, value))
            if keep_going and waiting and not team:
                with spawning():
                    team.append(_hire(start))
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
    message = (waiting.pop(),) if waiting else None
    worker.items.extend(message or ())
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker is noticed when it is heard
        worker.pipe.send(message)


def _hear(worker: _Worker) -> tuple[Any, Any]:
    """Return what the worker says, "next" when it wants an item, "ended" when it will say nothing any more."""
    try:
        kind, value = worker.pipe.recv()
    except (EOFError, ConnectionResetError, pickle.UnpicklingError):
        return "ended", None
    if kind == "error":
        raise value
    return kind, value


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
    """Run in a worker: ask for items until None comes or the parent is gone."""

    def given() -> Iterator[Any]:
        while True:
            pipe.send(("next", None))
            message = pipe.recv()
            if message is None:
                return
            yield message[0]

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            _work_off(start(), given(), lambda kind, item, value: pipe.send((kind, value)))
        except UsimError as error:
            pipe.send(("error", error))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception:
            pipe.send(("error", RuntimeError(f"a worker failed:\n{traceback.format_exc()}")))
