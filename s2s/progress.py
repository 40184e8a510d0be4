"""How long work shows its progress: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import click

from s2s.files import Progress
from usim.progress import human_time

#: Seconds between plain lines.
_LINE_EVERY_S = 5.0


class Silent:
    """Says nothing."""

    def tell(self, text: str) -> None:
        """An assumption, or something that was left out."""

    def result(self, text: str) -> None:
        """An output that is finished."""

    def show(self, state: Progress) -> None:
        """A frame that is begun."""


class Lines(Silent):
    """Plain lines: results on stdout, all else on stderr."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()

    def tell(self, text: str) -> None:
        click.echo(text, err=True)

    def result(self, text: str) -> None:
        click.echo(text)

    def show(self, state: Progress) -> None:
        now = time.perf_counter()
        if now - self.last < _LINE_EVERY_S:
            return
        self.last = now
        share = state.share
        left = human_time((now - self.start) * (1 - share) / share) if share else "-:--"
        images = f"image {state.done + 1}/{state.images}, " if state.images > 1 else ""
        fitted = f", fitted to {state.fitted:.0%}" if state.fitted else ""
        self.tell(f"{state.source}: {images}{state.frame}/{state.frames} frames{fitted}, {left} left")


class _Bar(Silent):
    def __init__(self, bar: object, task: object) -> None:
        self.bar, self.task = bar, task

    def tell(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False, soft_wrap=True)

    result = tell

    def show(self, state: Progress) -> None:
        self.bar.update(self.task, total=1.0, completed=state.share, name=state.source.name,
                        count=f"{state.done}/{state.images}" if state.images > 1 else "",
                        frames=f"frame {state.frame}/{state.frames}" if state.frames > 1 else "")  # fmt: skip


@contextlib.contextmanager
def show_progress(quiet: bool) -> Iterator[Silent]:
    """Yield what a run talks to."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty() and sys.stdout.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        fields = ("name", "count", "frames")
        columns = [TextColumn("{task.fields[" + field + "]}", markup=False) for field in fields]
        with Bar(*columns, BarColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
            yield _Bar(bar, bar.add_task("denoising", total=None, name="", count="", frames=""))
    else:
        yield Lines()


@contextlib.contextmanager
def show_pieces(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield the function that hears how many more of `total` equal pieces are done."""
    if sys.stderr.isatty():
        with click.progressbar(length=total, label=label, file=sys.stderr) as bar:
            yield bar.update
        return
    start = last = time.perf_counter()
    done = 0
    click.echo(f"{label}: 0/{total}", err=True)

    def tell(count: int) -> None:
        nonlocal done, last
        done += count
        now = time.perf_counter()
        if now - last >= _LINE_EVERY_S:
            last = now
            left = human_time((now - start) * (total - done) / done) if done else "-:--"
            click.echo(f"{label}: {done}/{total}, {left} left", err=True)

    yield tell
