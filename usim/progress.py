"""How a run shows its progress: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from usim.generate import Progress

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
    """Yield the function that generate calls with its progress; it writes to stderr, or nothing when `quiet`."""
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

    def show(self, state: Progress) -> None:
        now = time.perf_counter() - self.start
        total = state.plan.frames
        finished = state.frames == total and state.shards == len(state.plan.shards)
        if now - self.last < _LINE_EVERY_S and not finished:
            return
        self.last = now
        rate = state.frames / now if now > 0 else 0.0
        left = human_time((total - state.frames) / rate) if rate else "-:--"
        text = f"{state.frames}/{total} frames, {rate:.1f} frames/s, {left} left, {human_bytes(state.bytes)} written"
        click.echo(text, err=True)


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
            rate = f"{state.frames / max(time.perf_counter() - start, 1e-9):.1f}"
            done, written = state.frames, human_bytes(state.bytes)
            bar.update(task, total=state.plan.frames, completed=done, rate=rate, written=written)

        yield show
