"""The training loop, in the open.

    s2s train --sim --method speckle2self --minutes 20 -o runs/speckle2self

Every step: a batch from the pool, one step of the method, the average of the weights. What is worth knowing goes to a
listener; it validates, prints and saves (s2s/run.py).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from s2s.data import Feed, Pool
from s2s.methods.base import Method, Training
from usim.errors import DataError

#: Share of a training in which the learning rate rises from zero.
WARM_UP = 0.02


@dataclass(frozen=True)
class Plan:
    """When a training ends, by steps or by minutes of training, and the seed of everything random in it."""

    training: Training
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the training that is done; elapsed: seconds."""
        done = step / self.steps if self.steps else 0.0
        return max(done, elapsed / (60.0 * self.minutes)) if self.minutes else done

    def rate(self, progress: float) -> float:
        """Learning rate relative to its peak."""
        if self.training.schedule == "constant":
            return 1.0
        return min(1.0, progress / WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass
class State:
    """Everything that changes while a method learns; `average` holds the weights that are used afterwards."""

    method: Method
    average: Method
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0
    elapsed: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fresh(cls, method: Method, training: Training, device: str) -> State:
        """A training that has not begun."""
        method = method.to(device)
        average = copy.deepcopy(method).eval().requires_grad_(False)
        return cls(method, average, method.optimizers(training))


def fit(
    state: State,
    plan: Plan,
    pool: Pool,
    feed: Feed,
    listen: Callable[[State, dict[str, float]], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train until the plan is fulfilled; `listen` gets the state and what the step logged, after every step.

    clock: seconds that the plan's minutes are counted in.
    Raises DataError when the loss is no longer a number.
    """
    device = next(state.method.parameters()).device
    fresh = state.method.optimizers(plan.training)
    peaks = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in fresh.items()}
    last = clock()
    while (progress := plan.progress(state.step, state.elapsed)) < 1.0:
        torch.manual_seed(_step_seed(plan.seed, state.step))
        for name, optimizer in state.optimizers.items():
            for group, peak in zip(optimizer.param_groups, peaks[name], strict=True):
                group["lr"] = peak * plan.rate(progress)
        batch = {key: values.to(device, non_blocking=True) for key, values in pool.batch(state.step, feed).items()}
        state.method.train()
        logs = state.method.step(batch, progress, state.optimizers, plan.training.clip)
        if not math.isfinite(logs["loss"]):
            raise DataError(
                f"training: the loss became {logs['loss']} in step {state.step}; the last checkpoint is intact; "
                "lower --rate or look for damaged images"
            )
        _average(state, plan.training.ema)
        now = clock()
        state.step, state.elapsed, last = state.step + 1, state.elapsed + now - last, now
        listen(state, logs)


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    """Exponential moving average of the weights; short at first, so that the random start is soon forgotten."""
    kept = min(decay, (1.0 + state.step) / (10.0 + state.step))
    mean, now = list(state.average.parameters()), list(state.method.parameters())
    torch._foreach_lerp_(mean, now, 1.0 - kept)
    for buffer, value in zip(state.average.buffers(), state.method.buffers(), strict=True):
        buffer.copy_(value)


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(step,)).generate_state(1)[0])
