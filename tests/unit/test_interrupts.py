"""Signals are noted, raised at the next check, and raised anyway when no check comes."""

import os
import signal
import subprocess
import sys
import time

import pytest
from surroundings import PATIENCE

import usim.interrupts
from usim.interrupts import Interrupts


def test_without_a_signal_nothing_happens():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        interrupts.check()
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_is_raised_at_every_check_until_it_is_heard():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()


def test_sigterm_exits_with_its_code():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            interrupts.check()
    assert stop.value.code == 143


def test_a_run_that_does_not_ask_is_interrupted_all_the_same(monkeypatch):
    monkeypatch.setattr(usim.interrupts, "_PATIENCE_S", 0.05)
    with Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)


#: A run that holds semaphores, as the queues of a data loader do, and does not let itself be interrupted.
DEAF = """
import multiprocessing, time
from usim.interrupts import Interrupts
held = [multiprocessing.get_context("spawn").Semaphore() for _ in range(3)]
with Interrupts() as interrupts, interrupts.ending(lambda: print("last words", flush=True)):
    interrupts.outlook = lambda: "go on tomorrow"
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_does_not_end_is_ended_and_nothing_is_said_after_that(number, code):
    """Python's tracker of semaphores once reported those of the queues as leaked."""
    run = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "ready\n"
    run.send_signal(number)
    out, error = run.communicate(timeout=PATIENCE)
    assert (run.returncode, out, error) == (code, "last words\n", "error: interrupted; go on tomorrow\n")
