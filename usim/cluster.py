"""Shards made by the workers of a dask.distributed cluster: the same function, the same events, the same bytes.

Workers write their shards themselves, into a folder that all machines see; over the wire go the phantom, the ranges of
frames and the entries of the manifest. The scheduler gives the shard of a dead worker to another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import pickle
import queue
import secrets
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from usim.errors import ConfigError, ResourceError, UsimError, first_line
from usim.workers import Event, Work

if TYPE_CHECKING:
    from distributed import Client, Future

log = logging.getLogger(__name__)

#: Seconds until a scheduler must have answered, and until a first worker must be there.
REACH_S, WORKERS_S = 5, 60
#: How often a task that raised is tried again: what fails on one machine, such as a stale handle, may work on another.
RETRIES = 2
#: Seconds without news until a listener is told so, between two looks at the workers, and that cancelled tasks get.
_IDLE_S, _LOOK_S, _PATIENCE_S = 0.2, 2.0, 0.6
#: Seconds in which a worker must hand over an answer that it has: an entry of the manifest.
_ANSWER_S = 1.0
#: Loggers that would say in several lines of their own what our one error says.
_CHATTY = ("distributed", "distributed.client", "distributed.core", "distributed.comm.tcp", "distributed.comm")


@dataclass
class Cluster:
    """A scheduler that was reached; its workers have the versions of this process.

    address: of the scheduler.  workers: how many there were at the start.  run: a word that no other run has.
    """

    client: Client
    address: str
    workers: int = 0
    run: str = field(default_factory=lambda: secrets.token_hex(8))

    def refuse_small(self, memory: int) -> None:
        """Raise ResourceError when a worker may use less than `memory` bytes: its nanny would end it."""
        for address, worker in self.client.scheduler_info()["workers"].items():
            if 0 < worker["memory_limit"] < memory:
                raise ResourceError(
                    f"worker {address} may use {worker['memory_limit']} bytes of memory, a shard needs {memory}; "
                    "lower --shard-size, or start fewer workers per machine (--nworkers, --memory-limit)"
                )

    @contextlib.contextmanager
    def sharing(self, folder: Path, files: tuple[str, ...] = ()) -> Iterator[None]:
        """While open, a hidden file in `folder` tells workers that it is the right one.

        folder: absolute and there.  files: what the workers will read.
        Raises ResourceError, naming worker and path, when one of them does not see or may not write what it must.
        """
        from usim.cluster_worker import look, probe_path

        probe = probe_path(folder, self.run)
        try:
            probe.write_bytes(b"")
        except OSError as error:
            raise ResourceError(f"{folder}: cannot write: {error.strerror}; choose another folder") from error
        try:
            for address, lacks in self._ask(functools.partial(look, str(folder), self.run, files)).items():
                if lacks is not None:
                    raise ResourceError(
                        f"{lacks[0]}: worker {address} {lacks[1]}; it must lie on a file system that this machine and "
                        "all workers share under one path, and may write to: choose such a folder with -o"
                    )
            yield
        finally:
            probe.unlink(missing_ok=True)

    def map_items(
        self,
        start: Callable[[], Work],
        items: Sequence[Any],
        listen: Callable[[Event], None],
        folder: Path,
        *,
        keep_going: bool = False,
    ) -> None:
        """Work through `items` in the workers and tell `listen` every event, as `usim.workers.map_items` does.

        start: picklable; called once in each worker, it returns the function (item, report) -> result.  folder: the one
        that is shared. keep_going: tell the UsimError of an item as `failed` and go on.
        An item is lost when as many workers died over it as the scheduler allows. Raises the UsimError that an item
        raised, ResourceError when the scheduler or all workers are gone; other errors come as RuntimeError.
        """
        from usim.cluster_worker import Job, perform, versions

        def hear(event: Event) -> None:
            if event.kind == "failed" and not keep_going:
                raise event.value
            listen(event)

        job = Job(pickle.dumps(start), self.run, str(folder), versions())
        news = queue.SimpleQueue[Any]()
        self.client.subscribe_topic(self.run, lambda event: news.put(tuple(event[1])))
        futures: dict[int, Future] = {}

        def submit(numbers: Sequence[int], turn: int) -> None:
            sent = self.client.map(
                functools.partial(perform, job),
                [(number, items[number]) for number in numbers],
                key=[f"usim-{self.run}-{number}-{turn}" for number in numbers],
                pure=False,
                retries=RETRIES,
            )
            for number, future in zip(numbers, sent, strict=True):
                futures[number] = future
                future.add_done_callback(functools.partial(lambda number, future: news.put((number, future)), number))

        try:
            submit(range(len(items)), 0)
            self._listen(news, items, futures, submit, hear)
        finally:
            self._settle(list(futures.values()))

    def _listen(
        self,
        news: queue.SimpleQueue[Any],
        items: Sequence[Any],
        futures: dict[int, Future],
        submit: Callable[[Sequence[int], int], None],
        hear: Callable[[Event], None],
    ) -> None:
        known, turns = dict[int, int](), Counter[int]()
        watch = _Watch(self)
        while futures:
            watch.look()
            try:
                number, what = news.get(timeout=_IDLE_S)
            except queue.Empty:
                hear(Event("idle", None, None))
                continue
            item = items[number]
            if number not in futures:
                continue
            if isinstance(what, int):
                # A shard that is made again is not counted twice.
                if what > known.setdefault(number, 0):
                    hear(Event("progress", item, what - known[number]))
                    known[number] = what
                continue
            outcome = self._outcome(item, what)
            if outcome is None:
                news.put((number, what))
                continue
            event, total = outcome
            if event.kind == "lost" and number not in known and turns[number] < RETRIES:
                # Dask blames what only waited in a worker that died as well as what was worked on there.
                turns[number] += 1
                submit([number], turns[number])
                continue
            futures.pop(number).release()  # else its result would be made again when its worker dies later
            if total > known.get(number, 0):
                hear(Event("progress", item, total - known.get(number, 0)))
            hear(event)

    def _outcome(self, item: Any, future: Future) -> tuple[Event, int] | None:
        """Return what became of an item, and how much it reported in all; None when its worker died with the answer."""
        from distributed import KilledWorker

        try:
            kind, value, total = future.result(timeout=_ANSWER_S)
        except KilledWorker:
            return Event("lost", item, None), 0
        except UsimError as error:
            return Event("failed", item, error), 0
        except Exception as error:
            if future.cancelled() or self.client.status != "running":
                raise self._gone() from None
            if isinstance(error, TimeoutError) and future.status != "error":
                return None  # it is made again, when there is a worker
            raise RuntimeError(f"a worker failed:\n{''.join(traceback.format_exception(error))}") from None
        if kind == "refused":
            raise value
        return Event(kind, item, value), total

    def _gone(self) -> ResourceError:
        return ResourceError(
            f"{self.address}: the connection to the scheduler was lost; finished shards stay: go on with --resume"
        )

    def _settle(self, futures: list[Future]) -> None:
        """Cancel what is not done, and give workers a moment to stop in the middle of it."""
        from usim.cluster_worker import working

        rest = [future for future in futures if future.status in ("pending", "lost")]
        if not rest or self.client.status != "running":
            return
        deadline = time.monotonic() + _PATIENCE_S
        with contextlib.suppress(OSError):
            self.client.cancel(rest, force=True)
            while time.monotonic() < deadline and any(
                self.client.sync(
                    lambda: self.client.run(working, on_error="ignore"), callback_timeout=_PATIENCE_S
                ).values()
            ):
                time.sleep(0.05)

    def _ask(self, question: Callable[[], Any]) -> dict[str, Any]:
        """Return each worker's answer; raises ConfigError for one that does not know the question."""
        answers = self.client.run(question, on_error="return")
        for address, answer in list(answers.items()):
            if isinstance(answer, OSError):
                del answers[address]
            elif isinstance(answer, Exception):
                raise ConfigError(
                    f"worker {address} cannot run this version of usim ({first_line(answer)}); "
                    "install the same usim-s2s[cluster] on all machines"
                )
        return answers

    def _refuse_mixed(self) -> None:
        """Raise ConfigError when scheduler or workers have other versions; warn of what else differs."""
        from usim.cluster_worker import difference, survey, versions

        here = versions()
        try:
            there = {f"scheduler {self.address}": self.client.run_on_scheduler(versions)}
        except ImportError as error:
            raise ConfigError(
                f"scheduler {self.address} cannot load this version of usim ({first_line(error)}); install the same "
                "usim-s2s[cluster] there"
            ) from None
        answers = self._ask(survey)
        there |= {f"worker {address}": found for address, (found, _) in answers.items()}
        for who, found in there.items():
            if differs := difference(found, here):
                raise ConfigError(f"{who} has {differs}; install the same versions on all machines")
        types = Counter(name for _, name in answers.values())
        if len(types) > 1:
            counted = ", ".join(f"{number} x {name}" for name, number in sorted(types.items()))
            log.warning(
                "workers have processors of several types (%s): shards are right, but their last bits depend on "
                "which of them made them; files repeat byte for byte on workers of one type only", counted,
            )  # fmt: skip
        crowded = {address: count for address, count in self.client.nthreads().items() if count > 1}
        for address, count in list(crowded.items())[:1]:
            log.warning(
                "%d workers have several threads, %s has %d: usim makes one shard at a time in each worker; start them "
                "with --nworkers %d --nthreads 1", len(crowded), address, count, count,
            )  # fmt: skip


class _Watch:
    """Looks now and then whether scheduler and workers are still there."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.next, self.alone = cluster, 0.0, 0.0

    def look(self) -> None:
        """Raise ResourceError when the scheduler is gone, or when there was no worker for WORKERS_S."""
        now = time.monotonic()
        if self.cluster.client.status != "running":
            raise self.cluster._gone()
        if now < self.next:
            return
        self.next = now + _LOOK_S
        if self.cluster.client.nthreads():
            self.alone = 0.0
        elif not self.alone:
            self.alone = now
            log.warning("%s has no worker: waiting %g s for one", self.cluster.address, WORKERS_S)
        elif now - self.alone > WORKERS_S:
            raise ResourceError(
                f"{self.cluster.address}: has no worker; finished shards stay. Start some with: "
                f"dask worker {self.cluster.address} --nthreads 1"
            )


@contextlib.contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Yield the cluster of a dask scheduler, when it has workers and all have our versions.

    address: tcp://host:port, or tls://host:port with the certificates that dask's configuration names.
    Raises ConfigError for another address, versions that differ, and where distributed is not installed; ResourceError
    for a scheduler that does not answer within 5 s, and one that has no worker within 60 s.

    >>> with connect("tcp://10.0.0.1:8786") as cluster:  # doctest: +SKIP
    ...     print(cluster.workers)
    """
    _check_address(address)
    try:
        from distributed import Client
        from distributed.comm import CommClosedError
        from distributed.versions import VersionMismatchWarning

        import usim.cluster_worker  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f'--scheduler: {error.name} is not installed; run: pip install "usim-s2s[cluster]", on every machine'
        ) from None
    with _quiet():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VersionMismatchWarning)  # told below, and refused
                _greet(address)
                client = Client(address, timeout=REACH_S, set_as_default=False)
        except OSError:
            raise ResourceError(
                f"{address}: no dask scheduler answered within {REACH_S} s; start one there with: dask scheduler"
            ) from None
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--scheduler: {address}: {first_line(error)}; see docs/cluster.md") from None
        cluster = Cluster(client, address)
        try:
            log.info("dashboard: %s", client.dashboard_link)
            watch = _Watch(cluster)
            while not client.nthreads():
                watch.look()
                time.sleep(_IDLE_S)
            cluster.workers = len(client.nthreads())
            cluster._refuse_mixed()
            yield cluster
        except CommClosedError:  # of whatever was asked just when the scheduler ended
            raise cluster._gone() from None
        finally:
            with contextlib.suppress(OSError):
                client.close(timeout=1)


def _greet(address: str) -> None:
    """Return when a dask server has answered; raises TimeoutError or what else the network says after REACH_S.

    A client would wait without end for a server that takes a connection and says nothing.
    """
    from distributed.comm import connect as open_comm
    from distributed.security import Security

    answer = queue.SimpleQueue[Exception | None]()

    async def greet() -> None:
        options = Security().get_connection_args("client")
        comm = await asyncio.wait_for(open_comm(address, timeout=REACH_S, **options), REACH_S)
        await comm.close()

    def run() -> None:  # in a thread, because whoever calls may be in a loop of its own
        try:
            answer.put(asyncio.run(greet()))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=run, daemon=True).start()
    error = answer.get()
    if error is not None:
        raise error


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("tcp", "tls") and parts.hostname and parts.port and not parts.path.strip("/")
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"--scheduler: {address!r} is not tcp://host:port or tls://host:port, such as tcp://node1:8786"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave what goes wrong to our own errors."""
    before = {name: logging.getLogger(name).level for name in _CHATTY}
    try:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
