"""Items of a source in order, made ahead of time in spawned processes; their arrays come through shared memory."""

from __future__ import annotations

import contextlib
import functools
import itertools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from usim.errors import ResourceError, UsimError
from usim.workers import spawning

Item = TypeVar("Item")
Made = TypeVar("Made", covariant=True)
_ALIGNED = 64  # bytes
#: Seconds that a process or thread may take to be gone after its pipes broke.
_DYING_S = 5.0


class Source(Protocol[Made]):
    """Where items come from; opened once in each process."""

    def open(self) -> Callable[[int], Made]:
        """Return the function that makes item number 0, 1, 2, ..."""


@dataclass(frozen=True, eq=False)
class _Parcel:
    """A pickled item whose arrays lie one after the other in one tensor: torch moves that through shared memory, where
    a pipe would have to swallow 5 to 90 MB a scene."""

    pickled: bytes
    lengths: tuple[int, ...]
    arrays: Tensor

    @classmethod
    def of(cls, item: Any) -> _Parcel:
        """The parcel of any item that can be pickled."""
        found: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(item, protocol=5, buffer_callback=found.append)
        views = [buffer.raw() for buffer in found]
        arrays = torch.empty(sum(map(_room, map(len, views))), dtype=torch.uint8)
        into, at = memoryview(arrays.numpy()), 0
        for view in views:
            into[at : at + len(view)] = view
            at += _room(len(view))
        return cls(pickled, tuple(map(len, views)), arrays)

    def opened(self) -> Any:
        """The item; its arrays are views of the tensor."""
        whole, at, views = memoryview(self.arrays.numpy()), 0, []
        for length in self.lengths:
            views.append(whole[at : at + length])
            at += _room(length)
        return pickle.loads(self.pickled, buffers=views)


def _room(length: int) -> int:
    return -(-length // _ALIGNED) * _ALIGNED


class _Items(IterableDataset[Any]):
    """The items from `start` on, dealt to the workers in turn."""

    def __init__(self, source: Source[Any], start: int) -> None:
        self.source, self.start = source, start

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        try:
            make = self.source.open()
            for index in itertools.count(self.start + first, stride):
                yield _Parcel.of(make(index)) if worker else make(index)
        except UsimError as error:
            yield error  # the loader would wrap it in a traceback


def _belong_to_parent(line: Connection, worker: int) -> None:
    """Leave Ctrl-C to the parent, and end at once when it closes its end of `line` or is gone.

    torch's own watch over the parent is not enough: a worker that has found it dead waits at its exit for ever until
    somebody reads the samples that still lie in its pipe (seen after kill -9 with torch 2.13).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    sys.excepthook = _tell_unless_ending


def _tell_unless_ending(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """A parent that is gone breaks the pipe in which it was being answered, too; `_end_with` hears of it meanwhile."""
    if isinstance(error, EOFError | OSError):
        time.sleep(_DYING_S)
    sys.__excepthook__(kind, error, traceback)


def _end_with(line: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv()
    os._exit(0)


def _as_it_is(item: Any) -> Any:
    return item


@contextlib.contextmanager
def _told_when_asked() -> Iterator[None]:
    """A loader made here tells the loss of a worker when it is asked for an item, and not by a signal: torch's handler
    raises it anywhere in the main thread, in the middle of writing a checkpoint or of another error's handling."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)


def _tells_a_loss(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and "DataLoader worker" in str(error)


class Feed(Generic[Item]):
    """Items in order, made ahead of time in `workers` spawned processes, or when asked for with none.

    As a context it ends its workers, and names the loss of one.
    waited: seconds that the consumer has spent waiting.
    """

    def __init__(self, source: Source[Item], *, start: int = 0, workers: int = 1, ahead: int = 4) -> None:
        options: dict[str, Any] = {}
        theirs, self._line = Pipe(duplex=False)
        if workers:
            options = {
                "multiprocessing_context": "spawn",
                "prefetch_factor": ahead,
                "worker_init_fn": functools.partial(_belong_to_parent, theirs),
            }
        loader = DataLoader(_Items(source, start), None, num_workers=workers, collate_fn=_as_it_is, **options)
        others, threads = multiprocessing.active_children(), threading.enumerate()
        with spawning(), _told_when_asked():
            self._items = iter(loader)
        self._team = [process for process in multiprocessing.active_children() if process not in others]
        self._threads = [thread for thread in threading.enumerate() if thread not in threads]
        theirs.close()
        self.waited = 0.0

    def close(self) -> None:
        """End the workers at once, whatever they are doing."""
        self._line.close()
        self._items = iter(())

    def __enter__(self) -> Feed[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            lost = _tells_a_loss(error) or (isinstance(error, OSError | EOFError) and self._is_short_of_one())
            self.close()
        except RuntimeError as late:  # the handler of a loader that somebody else made before
            if not _tells_a_loss(late):
                raise
            self.close()
            lost, error = True, error or late
        if error is None:  # an error holds the queues, and their threads, until it is told
            for thread in self._threads:  # the last one to hold a semaphore gives it back, which no exit may cut in two
                thread.join(_DYING_S)
        if lost:
            raise ResourceError(
                "a process that makes data was ended from outside, perhaps for want of memory; "
                "go on with --resume and fewer --workers"
            ) from error

    def _is_short_of_one(self) -> bool:
        """Whether a worker has been ended from outside; its pipes break a little before it is gone."""
        broken = wait([process.sentinel for process in self._team], timeout=_DYING_S)
        for process in self._team:
            if process.sentinel in broken:
                process.join(_DYING_S)
        return any(process.exitcode for process in self._team)

    def __next__(self) -> Item:
        start = time.perf_counter()
        item: Any = next(self._items)
        self.waited += time.perf_counter() - start
        if isinstance(item, UsimError):
            raise item
        return item.opened() if isinstance(item, _Parcel) else item
