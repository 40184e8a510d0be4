"""Ctrl-C and SIGTERM end a run between two frames.

An exception that a signal handler raises at any moment is lost when the moment lies in a callback of h5py or in a
destructor (seen: 1 in 40 interrupts of a busy machine). So the handler only notes the signal, and the run asks after
every frame. What does not get to ask within a second is interrupted wherever it is.
"""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

#: The shell's convention: 128 + number.
INTERRUPTED, TERMINATED = 130, 143
#: A run must end within two seconds; clearing up takes some of them.
_PATIENCE_S = 0.6


class Interrupts:
    """While open, SIGINT and SIGTERM are noted; `check` raises KeyboardInterrupt or SystemExit(143) for them.

    >>> with Interrupts() as interrupts:
    ...     interrupts.check()
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._before: dict[int, Any] = {}

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

    def check(self) -> None:
        """Raise when a signal was noted."""
        if self._noted is not None:
            self._disarm()
            self._raise()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted is None and hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
        self._noted = number

    def _raise(self, number: int = 0, frame: FrameType | None = None) -> None:
        if self.exit_code == TERMINATED:
            raise SystemExit(TERMINATED)
        raise KeyboardInterrupt

    def _disarm(self) -> None:
        if hasattr(signal, "SIGALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0)
