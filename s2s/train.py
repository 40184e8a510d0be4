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

import numpy as np
import torch
from torch import Tensor

from s2s.data import AnyFeed
from s2s.methods.base import Method, Training
from s2s.methods.descent import Descent
from s2s.pool import Pool
from s2s.ranks import ALONE, Ranks
from usim.errors import DataError

#: Share of a training in which the learning rate rises from zero, and that in which a rate that was held falls to zero:
#: a fifth loses nothing against a cosine (Hägele et al., NeurIPS 2024, arXiv 2405.18392).
WARM_UP, DECAY = 0.02, 0.2


@dataclass
class Plan:
    """When a training ends, by steps or by minutes of training, and the seed of everything random in it.

    hold: keep the learning rate at its peak until the last fifth instead of letting it follow a cosine, so that the end
    can be brought forward.  end: share of the steps or minutes at which the training ends.
    """

    training: Training
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    hold: bool = False
    end: float = 1.0

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the training that is done; elapsed: seconds."""
        return self._spent(step, elapsed) / self.end

    def rate(self, progress: float) -> float:
        """Learning rate relative to its peak."""
        if self.training.schedule == "constant":
            return 1.0
        rising = min(1.0, progress / WARM_UP)
        if self.hold:
            return rising * (1.0 - math.sqrt(max(0.0, progress - 1.0 + DECAY) / DECAY))
        return rising * 0.5 * (1.0 + math.cos(math.pi * progress))

    def is_ending(self, progress: float) -> bool:
        """Whether a rate that was held falls already."""
        return progress >= 1.0 - DECAY

    def bring_forward(self, step: int, elapsed: float) -> None:
        """Let the rate begin to fall now, and the training end when it is zero; a constant rate ends at once."""
        left = 0.0 if self.training.schedule == "constant" else DECAY
        self.end = min(1.0, self._spent(step, elapsed) / (1.0 - left))

    def _spent(self, step: int, elapsed: float) -> float:
        """Share of the steps or minutes that were given."""
        done = step / self.steps if self.steps else 0.0
        return max(done, elapsed / (60.0 * self.minutes)) if self.minutes else done


@dataclass
class State:
    """Everything that changes while a method learns; `average` holds the weights that are used afterwards.

    before: the method's buffers as they were before the step that is being made.  torn: whether that step has begun to
    change weights.
    """

    method: Method
    average: Method
    optimizers: dict[str, torch.optim.Optimizer]
    step: int = 0
    elapsed: float = 0.0
    before: list[Tensor] = field(default_factory=list)
    torn: bool = False

    @classmethod
    def fresh(cls, method: Method, training: Training, device: str) -> State:
        """A training that has not begun; its networks are laid out channels last, unless they have InstanceNorm.

        Convolutions then need no reordering: a U-Net of width 32 on two cores made 10.1 steps/s instead of 8.3, and
        15.1 instead of 12.2 with bf16. torch computes InstanceNorm in contiguous memory: 1.23 times as fast as plain
        with channels last, 1.53 without (benchmarks/train_step.py).
        """
        instances = any(isinstance(module, torch.nn.InstanceNorm2d) for module in method.modules())
        method = method.to(device).to(memory_format=torch.contiguous_format if instances else torch.channels_last)
        average = copy.deepcopy(method).eval().requires_grad_(False)
        return cls(method, average, method.optimizers(training))

    @torch.no_grad()
    def rewind(self) -> bool:
        """Take back a step that was interrupted; False when it can't be, since weights have changed."""
        if self.torn:
            return False
        for buffer, value in zip(self.method.buffers(), self.before, strict=False):
            buffer.copy_(value)
        return True


def fit(
    state: State,
    plan: Plan,
    pool: Pool,
    feed: AnyFeed,
    listen: Callable[[State, dict[str, float]], None],
    clock: Callable[[], float] = time.perf_counter,
    ranks: Ranks = ALONE,
) -> None:
    """Train until the plan is fulfilled; `listen` gets the state and what the step logged, after every step.

    clock: seconds that the plan's minutes are counted in.  ranks: processes that train together; the time of the first
    counts.
    Raises DataError when the loss is no longer a number.
    """
    training, device = plan.training, next(state.method.parameters()).device
    descend = Descent(training.clip, training.precision == "bf16", training.compile, ranks)
    fresh = state.method.optimizers(training)
    peaks = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in fresh.items()}
    for optimizer in state.optimizers.values():
        optimizer.register_step_pre_hook(lambda *_: setattr(state, "torn", True))
    last = clock()
    while True:
        state.elapsed, plan.end = ranks.first(state.elapsed, plan.end)
        if (progress := plan.progress(state.step, state.elapsed)) >= 1.0:
            return
        torch.manual_seed(_step_seed(plan.seed, state.step, ranks.rank))
        for name, optimizer in state.optimizers.items():
            for group, peak in zip(optimizer.param_groups, peaks[name], strict=True):
                group["lr"] = peak * plan.rate(progress)
        share = {key: values.to(device, non_blocking=True) for key, values in pool.batch(state.step, feed).items()}
        state.method.train()
        state.before = [buffer.clone() for buffer in state.method.buffers()]
        logs = state.method.step(_parts(share, training.accumulate), progress, state.optimizers, descend)
        if not math.isfinite(logs["loss"]):
            raise DataError(
                f"training: the loss became {logs['loss']} in step {state.step}; the last checkpoint is intact; "
                "lower --rate or look for damaged images"
            )
        # Statistics of a normalisation are each rank's own until here.
        ranks.mean([buffer for buffer in state.method.buffers() if buffer.is_floating_point()])
        _average(state, training.ema)
        now = clock()
        state.step, state.elapsed, last = state.step + 1, state.elapsed + now - last, now
        state.before, state.torn = [], False
        listen(state, logs)


def _parts(batch: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """A batch as `count` equal ones, in order."""
    cut = {key: values.chunk(count) for key, values in batch.items()}
    return [{key: values[number] for key, values in cut.items()} for number in range(count)]


@torch.no_grad()
def _average(state: State, decay: float) -> None:
    """Exponential moving average of the weights; short at first, so that the random start is soon forgotten."""
    kept = min(decay, (1.0 + state.step) / (10.0 + state.step))
    mean, now = list(state.average.parameters()), list(state.method.parameters())
    torch._foreach_lerp_(mean, now, 1.0 - kept)
    for buffer, value in zip(state.average.buffers(), state.method.buffers(), strict=True):
        buffer.copy_(value)


def _step_seed(seed: int, step: int, rank: int) -> int:
    place = (step, rank) if rank else (step,)
    return int(np.random.SeedSequence(seed, spawn_key=place).generate_state(1)[0])
