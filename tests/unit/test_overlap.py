"""Results that a thread finishes while the next item is worked on: told in order, one ahead, and never left behind."""

import os
import signal
import threading
import time

import pytest
from surroundings import PATIENCE

from usim.errors import ConfigError, ResourceError
from usim.workers import Event, Later, _map_over_processes, map_items


def wait_until(is_so):
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Diary:
    """Work in this process whose second halves wait until they are let go; what happens is written down."""

    def __init__(self, fails=None, work_fails=None):
        self.lines, self.gates = [], {}
        self.fails, self.work_fails = fails, work_fails

    def start(self):
        return self.work

    def work(self, item, report):
        self.lines.append(f"begin {item}")
        if item == self.work_fails:
            for gate in self.gates.values():
                gate.set()
            raise ConfigError(f"work of {item}")
        report(item)
        gate = self.gates.setdefault(item, threading.Event())

        def finish(check):
            while not gate.is_set():
                check()
                time.sleep(0.001)
            if item == self.fails:
                raise ResourceError(f"finish of {item}")
            return item * 10

        return Later(finish)

    def listen(self, event):
        self.lines.append(f"{event.kind} {event.item}" + (f" = {event.value}" if event.kind == "done" else ""))


def test_the_next_item_is_worked_on_while_one_is_finished_and_no_further():
    diary, seen = Diary(), []
    thread = threading.Thread(target=lambda: map_items(diary.start, [1, 2, 3], 1, diary.listen))
    thread.start()
    wait_until(lambda: 2 in diary.gates)
    time.sleep(0.05)
    seen.append(list(diary.lines))
    diary.gates[1].set()
    wait_until(lambda: 3 in diary.gates)
    seen.append(list(diary.lines))
    diary.gates[2].set()
    diary.gates[3].set()
    thread.join(PATIENCE)
    assert seen[0] == ["begin 1", "progress 1", "begin 2", "progress 2"]  # 3 waits for 1
    assert seen[1] == [*seen[0], "done 1 = 10", "begin 3", "progress 3"]
    assert diary.lines == [*seen[1], "done 2 = 20", "done 3 = 30"]


def test_what_is_finished_is_told_when_the_next_item_reports():
    lines = []

    def work(item, report):
        if item == 2:
            wait_until(laters[0].done)
        report(item)
        laters.append(Later(lambda check: item))
        return laters[-1]

    laters = []
    map_items(lambda: work, [1, 2], 1, lambda event: lines.append((event.kind, event.item)))
    assert lines == [("progress", 1), ("done", 1), ("progress", 2), ("done", 2)]


def test_an_error_of_the_second_half_ends_the_run_before_another_item_is_told():
    diary, before = Diary(fails=1), threading.active_count()
    for item in (1, 2):
        diary.gates[item] = threading.Event()
        diary.gates[item].set()
    with pytest.raises(ResourceError, match="finish of 1"):
        map_items(diary.start, [1, 2, 3], 1, diary.listen)
    assert not any(line.startswith(("done", "begin 3")) for line in diary.lines)
    assert threading.active_count() == before


def test_an_error_of_an_item_does_not_lose_the_one_before_it():
    diary = Diary(work_fails=2)
    with pytest.raises(ConfigError, match="work of 2"):
        map_items(diary.start, [1, 2], 1, diary.listen)
    assert diary.lines[-1] == "done 1 = 10"


def test_an_interrupt_abandons_what_is_being_finished_and_leaves_no_thread():
    diary, before = Diary(), threading.active_count()

    def listen(event):
        diary.listen(event)
        if event.item == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_items(diary.start, [1, 2], 1, listen)
    assert not any(line.startswith("done") for line in diary.lines)
    assert threading.active_count() == before


def start_in_worker():
    return late


def late(item, report):
    report(item)
    if item == "config":
        raise ConfigError("a.yaml:1:1: no")
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)

    def finish(check):
        if item == "full":
            raise ResourceError("shard-00007.h5: cannot write")
        while item == "slow":
            time.sleep(0.01)
        return item

    return Later(finish)


def test_workers_finish_behind_their_work_too():
    events = []
    map_items(start_in_worker, list(range(7)), 2, events.append)
    assert sorted(e.value for e in events if e.kind == "done") == list(range(7))
    assert all(e.item == e.value for e in events if e.kind in ("done", "progress"))
    with pytest.raises(ResourceError, match=r"shard-00007\.h5"):
        map_items(start_in_worker, [1, "full", 2, 3], 2, events.append)


def test_a_killed_worker_loses_what_it_was_finishing_and_what_it_worked_on():
    events = []
    _map_over_processes(start_in_worker, ["slow", "die", 3], 1, events.append, False)
    assert [event for event in events if event.kind == "lost"] == [
        Event("lost", "slow", -signal.SIGKILL),
        Event("lost", "die", -signal.SIGKILL),
        Event("lost", 3, None),
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_keeps_going_tells_what_failed_in_either_half(workers):
    events = []
    map_items(start_in_worker, ["config", 1, "full", 2, 3], workers, events.append, keep_going=True)
    assert sorted(e.item for e in events if e.kind == "done") == [1, 2, 3]
    assert {e.item: type(e.value) for e in events if e.kind == "failed"} == {
        "config": ConfigError,
        "full": ResourceError,
    }


def test_a_run_that_keeps_going_replaces_its_last_worker():
    events = []
    map_items(start_in_worker, ["die", "die", 1, 2], 2, events.append, keep_going=True)
    assert [e.item for e in events if e.kind == "lost"] == ["die", "die"]
    assert sorted(e.item for e in events if e.kind == "done") == [1, 2]


def test_an_error_of_the_listener_is_not_one_of_the_item():
    def listen(event):
        if event.kind == "done":
            raise ResourceError("manifest.json: cannot write")
        assert event.kind != "failed"

    with pytest.raises(ResourceError, match=r"manifest\.json"):
        map_items(start_in_worker, [1, 2, 3], 1, listen, keep_going=True)
