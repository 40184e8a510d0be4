"""The pool: every item is done or named as lost, errors come through, no process is left."""

import multiprocessing
import os
import signal

import pytest

from usim.errors import ConfigError, ResourceError
from usim.workers import ONE_THREAD, Event, map_items


def start():
    return work


def work(item, report):
    report(item)
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "config":
        raise ConfigError("a.yaml:1:1: no")
    if item == "bug":
        raise ZeroDivisionError("oops")
    if item == "memory":
        raise MemoryError
    return item, [os.environ.get(name) for name in ONE_THREAD]


def run(items, workers):
    events = []
    map_items(start, items, workers, events.append)
    assert not multiprocessing.active_children()
    return events


@pytest.mark.parametrize("workers", [1, 2])
def test_all_items_are_done_with_progress(workers):
    events = run([1, 2, 3, 4, 5], workers)
    assert sorted(e.item for e in events if e.kind == "progress") == [1, 2, 3, 4, 5]
    assert sorted(e.value[0] for e in events if e.kind == "done") == [1, 2, 3, 4, 5]
    if workers == 2:
        assert all(e.value[1] == ["1"] * len(ONE_THREAD) for e in events if e.kind == "done")


def test_a_killed_worker_loses_one_item_and_the_others_finish():
    events = run([1, "die", 2, 3, 4], 2)
    assert sorted(e.item for e in events if e.kind == "done") == [1, 2, 3, 4]
    assert [e for e in events if e.kind == "lost"] == [Event("lost", "die", -signal.SIGKILL)]


def test_when_all_workers_are_killed_every_item_is_named():
    events = run(["die", "die", 1, 2], 2)
    assert [e.item for e in events if e.kind == "lost"] == ["die", "die", 1, 2]


@pytest.mark.parametrize(
    ("item", "error", "text"),
    [
        ("config", ConfigError, "no"),
        ("memory", ResourceError, "memory"),
        ("bug", RuntimeError, "ZeroDivisionError: oops"),
    ],
)
def test_errors_come_through(item, error, text):
    with pytest.raises(error, match=text):
        run([1, item, 2, 3], 2)
    assert not multiprocessing.active_children()


def test_an_interrupt_leaves_no_worker_and_restores_the_environment():
    def listen(event):
        raise KeyboardInterrupt

    before = dict(os.environ), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        map_items(start, list(range(10)), 2, listen)
    assert not multiprocessing.active_children()
    assert (dict(os.environ), signal.getsignal(signal.SIGINT)) == before
