"""Any method on the phases of an image: every k-th pixel of every k-th row, beside each other as a batch.

The pixels of a phase lie a speckle cell or more apart, so that their speckle is independent: what needs white noise can
be used. What is smaller than k pixels is aliased, and each phase is cleaned without a look at the others.

    s2s train --sim --method "polyphase(4):noise2void" --minutes 20 -o runs/p4-noise2void
    s2s denoise scan.png -m "polyphase(2,4):nlm"
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s2s.methods.base import Method, Training
from s2s.methods.descent import Descent
from usim.errors import ConfigError

#: A crop has at least so many pixels of each phase down and across: less is no image to learn from.
_LEAST = 32
#: Most rows or columns between the pixels of a phase.
MOST = 16


class Polyphase(Method):
    """A method on the phases of an image; `polyphase` makes the class for a method and a number of phases.

    wrapped: the method's class.  phases: rows and columns from a pixel of a phase to the next.
    """

    wrapped: ClassVar[type[Method]]
    phases: ClassVar[tuple[int, int]]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.inner = self.wrapped(**settings)
        self.needs, self.looks, self.bands = self.inner.needs, self.inner.looks, self.inner.bands
        self.fit_steps, self.keeps_statistics = self.inner.fit_steps, self.inner.keeps_statistics
        self.exportable = self.inner.exportable
        self.multiple = math.lcm(*self.phases) * self.inner.multiple
        self.smallest = max(self.phases) * self.inner.smallest
        self.halo = None if self.inner.halo is None else max(self.phases) * (self.inner.halo + 1) - 1
        self.scales_by_extremes = self.inner.scales_by_extremes

    def apart(self, y: Tensor) -> Tensor:
        """The phases of images (B, C, H, W), as (B rows columns, C, H / rows, W / columns); sides are multiples."""
        rows, columns = self.phases
        count, bands, height, width = y.shape
        parts = y.reshape(count, bands, height // rows, rows, width // columns, columns).permute(0, 3, 5, 1, 2, 4)
        return parts.reshape(-1, bands, height // rows, width // columns)

    def together(self, parts: Tensor) -> Tensor:
        """The images (B, 1, H, W) whose phases these are; undoes `apart`."""
        rows, columns = self.phases
        height, width = parts.shape[-2:]
        images = parts.reshape(-1, rows, columns, height, width).permute(0, 3, 1, 4, 2)
        return images.reshape(-1, 1, height * rows, width * columns)

    def uses(self, name: str) -> bool:
        """Whether `infer` uses the parameter or buffer of a name."""
        return self.inner.uses(name.removeprefix("inner."))

    def fill_training_only(self) -> None:
        """As the wrapped method does."""
        self.inner.fill_training_only()

    def prepare(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the wrapped method makes of each phase, put together again."""
        height, width = next(iter(sample.values())).shape
        below, right = -height % self.phases[0], -width % self.phases[1]
        padded = {
            key: nn.functional.pad(values[None, None], (0, right, 0, below), mode="replicate")
            for key, values in sample.items()
        }
        parts = {key: self.apart(values)[:, 0] for key, values in padded.items()}
        count = math.prod(self.phases)
        made = [self.inner.prepare({key: values[k] for key, values in parts.items()}) for k in range(count)]
        return {
            key: self.together(torch.stack([one[key] for one in made])[:, None])[0, 0, :height, :width]
            for key in made[0]
        }

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """The wrapped method's loss of all phases."""
        return self.inner.loss({key: self.apart(values) for key, values in batch.items()}, progress)

    def optimizers(self, training: Training) -> dict[str, torch.optim.Optimizer]:
        """Those of the wrapped method."""
        return self.inner.optimizers(training)

    def step(
        self,
        batches: Sequence[dict[str, Tensor]],
        progress: float,
        optimizers: dict[str, torch.optim.Optimizer],
        descend: Descent,
    ) -> dict[str, float]:
        """The wrapped method's step on the phases."""
        parts = [{key: self.apart(values) for key, values in batch.items()} for batch in batches]
        return self.inner.step(parts, progress, optimizers, descend)

    def is_fitted(self, losses: Sequence[float]) -> bool:
        """As the wrapped method says."""
        return self.inner.is_fitted(losses)

    def infer(self, y: Tensor, extremes: tuple[float, float] | None = None) -> Tensor:
        """Each phase cleaned, (B, 1, H, W)."""
        parts = self.apart(y)
        return self.together(self.inner.infer(parts, extremes=extremes) if extremes else self.inner.infer(parts))  # type: ignore[call-arg]


@lru_cache(maxsize=64)
def polyphase(wrapped: type[Method], rows: int, columns: int) -> type[Polyphase]:
    """The class of a method on rows x columns phases; raises ConfigError for numbers that are none of phases."""
    if not (1 <= rows <= MOST and 1 <= columns <= MOST) or rows == columns == 1:
        raise ConfigError(
            f"polyphase({rows},{columns}): allowed are 1 to {MOST} rows and columns from a pixel to the next of its "
            "phase, not both 1; write polyphase(4):METHOD or polyphase(2,4):METHOD"
        )
    if issubclass(wrapped, Polyphase):
        raise ConfigError(f"polyphase({rows},{columns}): phases of phases; write polyphase once, with larger numbers")
    unit = math.lcm(rows, columns)

    def crop(training: Training) -> int:
        side = max(training.crop, _LEAST * max(rows, columns))
        return -(-side // (8 * unit)) * 8 * unit if training.crop else 0

    return type(
        wrapped.__name__,
        (Polyphase,),
        {
            "__doc__": f"{(wrapped.__doc__ or '').strip()}\n\n    On {rows} x {columns} phases of each image.",
            "__module__": wrapped.__module__,
            "wrapped": wrapped,
            "phases": (rows, columns),
            "needs": wrapped.needs,
            "domain": wrapped.domain,
            "PRESETS": wrapped.PRESETS,
            "TRAINING": {
                name: dataclasses.replace(training, crop=crop(training)) for name, training in wrapped.TRAINING.items()
            },
            "IN_USE": wrapped.IN_USE,
            "TUNING": wrapped.TUNING,
            "holds_image": wrapped.holds_image,
            "bytes_per_pixel": wrapped.bytes_per_pixel,
        },
    )
