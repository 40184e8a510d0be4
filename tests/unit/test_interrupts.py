"""Signals are noted, raised at the next check, and raised anyway when no check comes."""

import os
import signal
import time

import pytest

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
