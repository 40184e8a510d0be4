"""Ctrl-C and SIGTERM end a run between two frames.

An exception that a signal handler raises at any moment is lost when the moment lies in a callback of h5py or in a
destructor (seen: 1 in 40 interrupts of a busy machine). So the handler only notes the signal, and the run asks after
every frame. What does not get to ask within a second is interrupted wherever it is. What is then still in a call of a
library, which no handler of Python interrupts, can be ended from another thread (`Interrupts.ending`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

#: The shell's convention: 128 + number.
INTERRUPTED, TERMINATED = 130, 143
#: A run must end within two seconds; clearing up takes some of them, and so do last words.
_PATIENCE_S, _LATEST_S = 0.6, 1.1
#: What an end from another thread spends on clearing up, at most.
_TIDY_S = 0.3


class Interrupts:
    """While open, SIGINT and SIGTERM are noted; `check` raises KeyboardInterrupt or SystemExit(143) for them.

    outlook: what is told after "interrupted", when it is: what is left of the work, and how it goes on.

    >>> with Interrupts() as interrupts:
    ...     interrupts.check()
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._late = False
        self._before: dict[int, Any] = {}
        self.outlook: Callable[[], str] = lambda: "what was finished stays readable"

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        if hasattr(signal, "SIGALRM"):
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._raise)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._disarm()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int | None:
        """130 or 143 when a signal was noted."""
        if self._noted is None:
            return None
        return TERMINATED if self._noted == signal.SIGTERM else INTERRUPTED

    @contextlib.contextmanager
    def ending(self, last: Callable[[], None]) -> Iterator[None]:
        """While open, a signal ends the process soon, even if the main thread is in a call that takes minutes.

        last: called from another thread before such an end.
        """
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        watch = threading.Thread(target=self._watch, args=(reader, last), daemon=True)
        watch.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            os.close(writer)
            watch.join()
            os.close(reader)

    def _watch(self, reader: int, last: Callable[[], None]) -> None:
        """Read the numbers of signals, which Python writes as they come, and end the process if nobody else does."""
        number = 0
        while not number:
            came = os.read(reader, 64)
            if not came:
                return
            number = next((n for n in came if n in (signal.SIGINT, signal.SIGTERM)), 0)
        deadline = time.monotonic() + _LATEST_S
        while (left := deadline - time.monotonic()) > 0.0:
            if select.select([reader], [], [], left)[0] and not os.read(reader, 64):  # it ended in time
                return
        self._late = True
        with contextlib.suppress(Exception):
            last()
        _unlink_semaphores()
        with contextlib.suppress(Exception):
            os.write(2, f"error: interrupted; {self.outlook()}\n".encode())
        os._exit(TERMINATED if number == signal.SIGTERM else INTERRUPTED)

    def check(self) -> None:
        """Raise when a signal was noted."""
        if self._noted is not None:
            self._disarm()
            self._raise()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._rest_if_late()
        if self._noted is None and hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
        self._noted = number

    def _raise(self, number: int = 0, frame: FrameType | None = None) -> None:
        self._rest_if_late()
        if self.exit_code == TERMINATED:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt

    def _rest_if_late(self) -> None:
        """Leave things as they are while the other thread puts them away and ends the process."""
        while self._late:
            time.sleep(1.0)

    def _disarm(self) -> None:
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _unlink_semaphores() -> None:
    """Do what an exit of Python does for the named semaphores of multiprocessing's queues, and os._exit does not: its
    tracker would report each as leaked after the last word of ours."""
    known = sys.modules.get("multiprocessing.util")
    if known is not None:  # in a thread, since a lock of the interrupted main thread may be in its way
        finish = threading.Thread(target=known._run_finalizers, args=(0,), daemon=True)
        finish.start()
        finish.join(_TIDY_S)
