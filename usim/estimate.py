"""What a run would take, from doing a little of it in the kind of process that the run would do it in."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from usim.errors import ResourceError
from usim.frame import Frame
from usim.io.shard import ShardHeader, encode_shard
from usim.memory import held_bytes, reset_peak
from usim.pipeline import Renderer
from usim.sizing import Plan
from usim.workers import Event, Report, map_items

if TYPE_CHECKING:
    from usim.phantom.load import Phantom

#: Seconds that are spent on timing frames, of which one is timed at least, and how many are at most.
TIMED_S = 3.0
MOST_TIMED = 20
#: Bytes per second that a disk takes, for the time that a shard is still held while the next one is filled.
_DISK_RATE = 300e6


@dataclass(frozen=True)
class Estimate:
    """What a run would take: bytes on disk, bytes of memory of all workers at their peaks, seconds."""

    plan: Plan
    bytes: int
    memory: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """Measured in one process: seconds and bytes of a frame, bytes of a shard besides, memory apart from shards."""

    seconds: float
    frame_bytes: float
    rest_bytes: float
    memory: int


@dataclass(frozen=True)
class Gauge:
    """Opened in the process that measures, it turns the frames to look at into a Sample."""

    phantom: Phantom
    plan: Plan

    def open(self) -> Callable[[tuple[int, ...], Report], Sample]:
        """Return the function that measures."""
        return self._measure

    def _measure(self, rows: tuple[int, ...], report: Report) -> Sample:
        renderer, took, peaks = Renderer(self.phantom, seed=self.plan.seed), list[float](), list[int]()

        def made(row: int) -> Frame:
            start = time.perf_counter()
            frame = renderer.frame(row)
            took.append(time.perf_counter() - start)
            peaks.append(peak_memory(since_last=True))
            return frame

        made(rows[0])
        report("ready")
        most = peaks[0]
        took.clear()
        peaks.clear()
        first = made(rows[min(1, len(rows) - 1)])
        start = time.perf_counter()
        one, two = self._encoded([first]), self._encoded([first, first])
        more = rows[2 : 2 + min(MOST_TIMED - 1, int(TIMED_S / took[0]))]
        sizes = [self._encoded([made(row)]) for row in more]
        encoding = (time.perf_counter() - start - sum(took[1:])) / (3 + len(sizes))
        rest = 2 * one - two
        most = max(most, *peaks, peak_memory()) - max(two, *sizes)
        each = float(np.mean([one, *sizes])) - rest
        return Sample(self._of_a_frame(took) + encoding, each, rest, max(most, self._largest(peaks)))

    def _largest(self, peaks: Sequence[int]) -> int:
        """Bytes expected of the largest of all frames of a worker, from those of a few: the scenes of a phantom differ,
        few of them by much. The largest of n draws of an exponential law is expected log n + 0.577 - 1 deviations above
        the mean (measured: `training` has frames of 275 to 503 MB, a mean of 334 and a deviation of 49)."""
        number = max(self.plan.frames / self.plan.workers, 1.0)
        deviation = np.std(peaks, ddof=min(1, len(peaks) - 1))
        return round(float(np.mean(peaks) + deviation * (np.log(number) + np.euler_gamma - 1)))

    def _of_a_frame(self, took: list[float]) -> float:
        """Mean seconds of a frame: the first one of a scene takes longer than those that follow."""
        if self.plan.per_scene == 1 or self.plan.frames <= self.plan.per_scene or len(took) == 1:
            return float(np.mean(took))
        return (took[0] + (self.plan.per_scene - 1) * float(np.mean(took[1:]))) / self.plan.per_scene

    def _encoded(self, frames: list[Frame]) -> int:
        plan = self.plan
        description = str(self.phantom.document.get("description", ""))
        header = ShardHeader(
            len(frames), 0, plan.seed, self.phantom.config_yaml, description, {}, plan.store, plan.dtype, plan.compress
        )
        return len(encode_shard(frames, header))


def estimate(phantom: Phantom, plan: Plan) -> Estimate:
    """Return what a run would take, from really simulating and encoding a few of its frames as a worker would.

    Raises ResourceError when that needs more memory than there is.
    """
    start, ready, samples = time.perf_counter(), 0.0, list[Sample]()

    def listen(event: Event) -> None:
        nonlocal ready
        if event.kind == "lost":
            raise ResourceError(
                f"{phantom.source}: the process that timed a frame was killed (exit code {event.value}; out of "
                "memory?); lower image.pixels"
            )
        if event.kind == "progress":
            ready = time.perf_counter() - start
        elif event.kind == "done":
            samples.append(event.value)

    # A worker has one thread for its kernels: what is measured here would be faster, and need other memory.
    map_items(Gauge(phantom, plan).open, [_rows(plan)], min(plan.workers, 2), listen)
    sample, cores = samples[0], os.cpu_count() or 1
    size = plan.frames * sample.frame_bytes + plan.shard_count * sample.rest_bytes
    shard = min(plan.shard_size, plan.frames) * sample.frame_bytes + sample.rest_bytes
    held = shard * (1.0 + min(1.0, sample.frame_bytes / (_DISK_RATE * sample.seconds)))
    busiest = min(-(-plan.shard_count // plan.workers) * plan.shard_size, plan.frames)
    seconds = ready + busiest * sample.seconds * max(1.0, plan.workers / cores)
    return Estimate(plan, round(size), plan.workers * round(sample.memory + held), seconds)


def _rows(plan: Plan) -> tuple[int, ...]:
    """The frames to look at, the first to be ready: of one scene each, spread over the run, or those of one scene."""
    last = plan.frames - 1
    if plan.per_scene == 1:
        return (0, *dict.fromkeys(round(at) for at in np.linspace(min(1, last), last, MOST_TIMED)))
    first = plan.per_scene if plan.frames > plan.per_scene else 1
    return (0, *range(min(first, last), min(first + MOST_TIMED, plan.frames)))


def peak_memory(*, since_last: bool = False) -> int:
    """Return the bytes of memory that this process has held at most; the next call begins anew with `since_last`, where
    the system can."""
    peak = held_bytes("VmHWM")
    if peak is None:  # where there is no better: it also counts what the parent held when it made this process
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if since_last:
        reset_peak()
    return peak
