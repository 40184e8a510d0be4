"""What a method costs: milliseconds per image, parameters, and memory, each measured in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from s2s.denoise import Denoiser, load
from s2s.evaluation.controls import NOISY, Image
from s2s.evaluation.files import functions
from s2s.evaluation.results import Cost, Evaluation
from usim.errors import UsimError
from usim.memory import held_bytes, reset_peak
from usim.workers import Event, map_items

#: Timed calls, of which the median counts, and seconds after which there is no further one.
REPEATS, ENOUGH_S = 5, 3.0
#: Pixels a side of the crop that loads libraries before.
WARM_UP = 64
_MIB = 2.0**20


@dataclass(frozen=True, eq=False)
class Measuring:
    """What a process needs to measure a method: the image (H, W) in dB and the device; picklable."""

    image: Image
    device: str

    def __call__(self) -> Callable[[str, Callable[[Any], None]], Cost]:
        """Return the function that measures the method of a name or checkpoint."""
        return lambda spec, report: cost_of(load(spec, device=self.device), self.image)


def measured_costs(
    specs: Mapping[str, str], image: Image, device: str = "cpu", check: Callable[[], None] = lambda: None
) -> dict[str, Cost]:
    """The costs of methods by label, each in a fresh process, one after the other, on one thread of the CPU.

    specs: what `s2s.load` takes, by label.  image: (H, W) in dB.  check: called now and then; what it raises ends the
    work.  A method that fails on the image has no cost here; it is named where it was judged on the same one.
    """
    found: dict[str, Cost] = {}

    def hear(label: str, event: Event) -> None:
        check()
        if event.kind == "done":
            found[label] = event.value

    for label, spec in specs.items():
        try:
            # Two workers for one item: it gets a process, which ends with it and leaves no memory to the next.
            map_items(Measuring(image, device), [spec], 2, partial(hear, label))
        except UsimError:
            continue
    return found


def with_costs(
    evaluation: Evaluation, specs: Mapping[str, str], device: str = "cpu", check: Callable[[], None] = lambda: None
) -> Evaluation:
    """The evaluation with what its methods cost, measured on its first picture; controls keep the time they took.

    specs: what `s2s.load` takes, by method of the evaluation.  check: see `measured_costs`.  Where the scenes that
    were to be pictured could not be had, all keep the time they took.
    """
    if not evaluation.pictures:
        return evaluation
    costs = measured_costs(specs, evaluation.pictures[0].images[NOISY], device, check)
    about = {**evaluation.about, "machine": machine(device)}
    return replace(evaluation, costs={**evaluation.costs, **costs}, about=about)


def cost_of(denoiser: Denoiser, image: Image) -> Cost:
    """What a method costs in this process: median milliseconds of up to five calls, parameters, memory."""
    (denoise,) = functions({"": denoiser}).values()
    # A corner first: the libraries that a first call loads are no memory of the method's.
    denoise(image[:WARM_UP, :WARM_UP])
    memory = peak_memory(lambda: denoise(image), denoiser.device.type)
    taken: list[float] = []
    while len(taken) < REPEATS and sum(taken) < ENOUGH_S:
        start = time.perf_counter()
        denoise(image)
        taken.append(time.perf_counter() - start)
    return Cost(1e3 * float(np.median(taken)), denoiser.method.parameter_count(), memory)


def peak_memory(work: Callable[[], Any], device: str = "cpu") -> float | None:
    """MiB that `work` holds at its peak beyond what was held before; None where the system doesn't tell.

    On Linux the process's resident memory, whose peak is reset before; on CUDA what torch allocated there. Memory that
    was freed but is kept for later is given back to the system first, or it would be used again unseen.
    """
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / _MIB
    if device != "cpu" or not sys.platform.startswith("linux"):
        work()
        return None
    _give_back()
    held = held_bytes("VmRSS")
    if not reset_peak() or held is None:
        work()
        return None
    work()
    peak = held_bytes("VmHWM")
    return None if peak is None else max(peak - held, 0) / _MIB


def _give_back() -> None:
    """Return freed memory to the system, where the C library can."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def machine(device: str = "cpu", threads: int = 1) -> str:
    """What was at work: the name of the processor with the threads that were used, or that of the device."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    name = found[1] if found else platform.processor() or platform.machine()
    used = "one thread" if threads == 1 else f"{threads} threads"
    return f"{name}, {used}" if device == "cpu" else device
