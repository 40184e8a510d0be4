"""How a run shows its progress: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import click


class Progress(Protocol):
    """How far a run is: frames there are of `total`, those that it found, bytes written, and whether it is finished."""

    @property
    def frames(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def finished(self) -> bool: ...


#: Seconds between plain lines: often enough to see life in a log, seldom enough to read it.
_LINE_EVERY_S = 5.0


def human_bytes(count: float) -> str:
    """Return a number of bytes with three digits and a decimal unit.

    >>> human_bytes(12_345_678)
    '12.3 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def human_time(seconds: float) -> str:
    """Return a duration as a person says it.

    >>> human_time(75), human_time(4000)
    ('1:15', '1:06:40')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def show_progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield the function that a run calls with its progress; it writes to stderr, or nothing when `quiet`."""
    if quiet:
        yield lambda state: None
    elif sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _Lines().show


class _Lines:
    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.last = -_LINE_EVERY_S
        self.finished = False

    def show(self, state: Progress) -> None:
        now = time.perf_counter() - self.start
        if self.finished or (now - self.last < _LINE_EVERY_S and not state.finished):
            return
        self.last, self.finished = now, state.finished
        rate = (state.frames - state.kept) / now if now > 0 else 0.0
        left = human_time((state.total - state.frames) / rate) if rate else "-:--"
        written = f", {human_bytes(state.bytes)} written" if state.bytes else ""
        click.echo(f"{state.frames}/{state.total} frames, {rate:.1f} frames/s, {left} left{written}", err=True)


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[rate]} frames/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[written]}"),
    )
    start = time.perf_counter()
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("frames", total=None, rate="-", written="")

        def show(state: Progress) -> None:
            rate = f"{(state.frames - state.kept) / max(time.perf_counter() - start, 1e-9):.1f}"
            done, written = state.frames, human_bytes(state.bytes) if state.bytes else ""
            bar.update(task, total=state.total, completed=done, rate=rate, written=written)

        yield show


@contextlib.contextmanager
def show_bytes(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield the function that a check calls with the bytes read and those of all; it writes to stderr, if at all."""
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("bytes", total=None)
            yield lambda done, total: bar.update(task, total=total, completed=done)
    else:
        last = time.perf_counter()

        def show(done: int, total: int) -> None:
            nonlocal last
            if time.perf_counter() - last >= _LINE_EVERY_S:
                last = time.perf_counter()
                click.echo(f"{human_bytes(done)} of {human_bytes(total)} read", err=True)

        yield show
