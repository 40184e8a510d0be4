"""PNGAN: a maker of noise that a denoiser takes for real, and a denoiser that learns from what it makes.

Cai et al., "Learning to Generate Realistic Noisy Images via Pixel-level Noise-aware Adversarial Training" (NeurIPS
2021, arXiv 2204.02844). A denoiser B learns first; then a generator G turns simple noise on clean images into noise
that looks like the real one to B and to a critic C of single pixels; then B goes on with images of G as well.

**Assumes** nothing of the noise. Here the simple noise is speckle of a small round cell, which no probe has.

**Needs** simulation, or our HDF5 files: `x`, the image without speckle. With `backbone=default`, or weights of your
own, noisy images alone: what the backbone makes of them stands for clean, and G learns the speckle of your scanner.

**Loss** in units of speckle, x clean, y noisy, y' = G(x + simple speckle), by the share of the training that is done:

    until 0.4   B   mean|B(y) - x|
    until 0.8   C   relativistic average loss of y against y'
                G   mean|B(y') - B(y)| + features * mean|differences of what B's encoder sees| + adversarial * (the
                    same of y' against y) + match * |M(y' - x) - M(y - x)|
    then        B   mean|B(y) - x|, a quarter of the y made by G

M are mean and covariances of the noise at a few lags (`nets/generators.py`).

    s2s train --sim --method pngan --minutes 20 -o runs/pngan
    s2s train --data scans/ --method pngan --set backbone=default -o runs/scanner

Ours: everything in one training; features of B instead of a network for photographs; a critic that sees several
cells; the moments, without which a small G did not find the cell in minutes. The published code of generator and
critic could not be read; both follow a re-implementation that others describe.

**Tells** `synthetic_db`: the cleaned image with speckle made by G. `method.synthesise(x)` makes it of any clean image,
so that simulated scenes look as if your scanner had seen them.

**Reached** on toy scenes, `preset="toy"`, 400 steps, 89 s on one core: 30.39 dB PSNR, where `noise2true`
reaches 32.30 and the noisy image has 20.65 (`benchmarks/toy_denoise.py --method pngan --steps 400`). The
denoiser learns in six tenths of them. After 300 steps of a smaller network made noise has 5.65 dB and neighbours
correlate by 0.51 axially and 0.71 laterally, real speckle 5.54 dB, 0.55 and 0.80 (`tests/unit/test_toy_training.py`).
The picture shows 500 steps of `preset="default"` on `training-any`.

**Fails** as Noise2True does; with a backbone it inherits what that does wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from s2s.methods.awgn import Awgn
from s2s.methods.backbone import load_backbone
from s2s.methods.base import SPECKLE, Training
from s2s.methods.descent import Descent
from s2s.methods.limits import number, whole
from s2s.methods.regression import MIDDLE, SPREAD, Regression
from s2s.methods.synthesis import Synthesis
from s2s.nets.critics import PixelCritic, relativistic
from s2s.nets.generators import SMNet, Speckle, moments
from usim.errors import ConfigError

#: Shares of a training at which the generator begins to learn, and ends.
_BEGIN, _END = 0.4, 0.8


class Pngan(Synthesis):
    """A denoiser, a generator and a critic of pixels.

    backbone: weights that clean what stands for the truth; "" where the truth is known.  features: weight of
    differences in what the denoiser's encoder sees.  adversarial: weight of the critic's loss.  match: weight of the
    noise's moments.  maker, groups, critic: channels and groups of the generator, channels of the critic.
    """

    needs = ("y", "x")
    reference: Regression
    TRAINING_ONLY = ("critic.",)
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 24, "maker": 16, "groups": 1, "critic": 8},
        "paper": {"width": 32, "depth": 4, "maker": 64, "groups": 3, "critic": 64},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(),
        "toy": Training(steps=2_000, batch=4),
        "paper": Training(batch=8, crop=128, clip=0.0, ema=0.0, rate=2e-4, gain=(0.0, 0.0)),
    }

    def __init__(
        self,
        backbone: str = "",
        features: float = 0.1,
        adversarial: float = 0.1,
        match: float = 20.0,
        maker: int = 16,
        groups: int = 2,
        critic: int = 16,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.features, self.match = number("features", features, 0.0, 1e6), number("match", match, 0.0, 1e6)
        self.adversarial = number("adversarial", adversarial, 0.0, 1e6)
        self.backbone = backbone
        self.needs = ("y",) if backbone else ("y", "x")
        self.simple = Speckle(cell=(7, 7), widths=(1.0, 1.0)).requires_grad_(False)
        self.maker = SMNet(width=whole("maker", maker, 1, 256), groups=whole("groups", groups, 1, 8))
        self.multiple = math.lcm(self.multiple, self.maker.multiple)
        self.critic = PixelCritic(1, width=whole("critic", critic, 1, 256))

    def optimizers(self, training: Training) -> dict[str, torch.optim.Optimizer]:
        """Three; the backbone, which only a training needs, is loaded here, and is no part of the weights.

        Raises ConfigError where there is none.
        """
        if self.backbone:
            try:
                backbone = load_backbone(self.backbone, Regression, "noise2true").requires_grad_(False)
            except ValueError as error:
                raise ConfigError(f"pngan: {error}") from error
            if isinstance(backbone, Awgn):
                raise ConfigError(
                    f"pngan: backbone {self.backbone!r}: {backbone.name} leaves most of the speckle, which would then "
                    "count as clean; take default, or weights of noise2true"
                )
            object.__setattr__(self, "reference", backbone)
        parts = {"denoiser": self.net, "generator": self.maker, "critic": self.critic}
        return {name: torch.optim.Adam(part.parameters(), lr=training.rate) for name, part in parts.items()}

    def step(
        self,
        batches: Sequence[dict[str, Tensor]],
        progress: float,
        optimizers: dict[str, torch.optim.Optimizer],
        descend: Descent,
    ) -> dict[str, float]:
        """The denoiser, or the critic and the generator."""
        if self.backbone:
            reference = self.reference.to(batches[0]["y"].device)
            batches = [{**batch, "x": reference.denoise(batch["y"])} for batch in batches]
        if not _BEGIN <= progress < _END:
            return descend(self.loss, batches, progress, optimizers["denoiser"])
        told = descend(self.critic_loss, batches, progress, optimizers["critic"])["loss"]
        self.taught += 1
        return {"critic": told, **descend(self.generator_loss, batches, progress, optimizers["generator"])}

    def made(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images with noise, see `Synthesis.made`."""
        simple = x + self.simple(self.simple.white(x, generator))
        return (MIDDLE + SPREAD * self.maker((simple - MIDDLE) / SPREAD).to(x)).clamp(0.0, 1.0)

    def critic_loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """How badly real pixels are told from made ones."""
        with torch.no_grad():
            made = self.made(batch["x"])
        return relativistic(*(self._judged(image) for image in (batch["y"], made)))

    def _judged(self, y: Tensor) -> Tensor:
        return self.critic((y - MIDDLE) / SPREAD).to(y)

    def generator_loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """How far what is made is from real, to the denoiser, to the critic, and in its moments."""
        x, y = batch["x"], batch["y"]
        made = self.made(x)
        with torch.no_grad():
            clean, known = self.estimate(y), self.net.features((y - MIDDLE) / SPREAD)
        aligned = ((self.estimate(made) - clean) / SPECKLE).abs().mean()
        seen = self.net.features((made - MIDDLE) / SPREAD)
        features = sum((one - other).abs().mean() for one, other in zip(seen, known, strict=True))
        false = relativistic(self._judged(made), self._judged(y))
        apart = (moments((made - x) / SPECKLE) - moments((y - x) / SPECKLE)).abs().mean()
        return aligned + self.features * features + self.adversarial * false + self.match * apart

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """The denoiser's error, in the end on made images too."""
        return self.error_with_made(batch, progress >= _END)
