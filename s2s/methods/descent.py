"""One step of an optimiser down the mean loss of some batches, in the open for methods that have several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from s2s.ranks import ALONE, Ranks
from usim.errors import ConfigError, first_line

#: A method's loss, (batch, progress) -> scalar, or that and by name what else is worth logging, scalars too.
Loss = Callable[[dict[str, Tensor], float], Tensor | tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Descent:
    """How gradients are made and used, the same for every method; `Method.step` calls it once for each optimiser.

    clip: largest norm of the gradient, 0 for any.  bf16: networks compute in bfloat16 where that is safe
    (torch.autocast); weights, their average, the optimiser and what a loss subtracts stay in float32.
    compiled: losses are compiled (torch.compile).  ranks: processes over which gradients are averaged.
    """

    clip: float = 0.0
    bf16: bool = False
    compiled: bool = False
    ranks: Ranks = ALONE
    _made: dict[Loss, Loss] = field(default_factory=dict, repr=False)

    def __call__(
        self,
        loss: Loss,
        batches: Sequence[dict[str, Tensor]],
        progress: float,
        optimizer: torch.optim.Optimizer,
    ) -> dict[str, float]:
        """Step down the mean of `loss` over equally large batches; returns `loss` and `gradient_norm`, and the means of
        what else it tells, over batches and processes.

        Gradients are gathered batch by batch, so that memory is that of one (gradient accumulation).
        Raises ConfigError when a loss can't be compiled.
        """
        optimizer.zero_grad(set_to_none=True)
        shares = []
        for batch in batches:
            try:
                shares.append(self._gather(loss, batch, progress, len(batches)))
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                raise ConfigError(
                    f"--compile: torch can't compile this loss here: {first_line(error)}; train with --no-compile"
                ) from error
        means = {name: torch.stack([share[name] for share in shares]).sum() for name in shares[0]}
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        self.ranks.mean([*(weight.grad for weight in weights if weight.grad is not None), *means.values()])
        norm = nn.utils.clip_grad_norm_(weights, self.clip or float("inf"))
        optimizer.step()
        return {**{name: float(mean) for name, mean in means.items()}, "gradient_norm": float(norm)}

    def _gather(self, loss: Loss, batch: dict[str, Tensor], progress: float, count: int) -> dict[str, Tensor]:
        """Add a batch's share of the gradient to what is there, and return its shares of the means."""
        if self.compiled:
            if loss not in self._made:
                self._made[loss] = torch.compile(loss)
            loss = self._made[loss]
        device = next(iter(batch.values())).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            found = loss(batch, progress)
            total, told = found if isinstance(found, tuple) else (found, {})
        (total / count).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() / count for name, value in {"loss": total, **told}.items()}
