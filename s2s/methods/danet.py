"""DANet: a denoiser and a maker of noise that are judged together, as two ways to the same pairs of images.

Yue et al., "Dual Adversarial Network: Toward Real-World Noise Removal and Noise Generation" (ECCV 2020). A denoiser R
makes (R(y), y), a generator G makes (x, G(x)), and a critic P tells both from real pairs (x, y). After that G makes
further images for R to learn from (DANet+).

**Assumes** that real images come from the distribution of the simulated ones. Nothing is assumed of the noise but what
the generator is given: speckle of a cell that is learned.

**Needs** simulation, or our HDF5 files: `x`, the image without speckle.

**Loss** in units of speckle, a = `alpha`, M mean and covariances of the noise at a few lags (`nets/generators.py`):

    P   a (P(x, G) - P(x, y)) + (1 - a) (P(R, y) - P(x, y)) + 10 (gradient penalties)
    R   weight mean|R(y) - x| - (1 - a) P(R, y)
    G   match |M(G - x) - M(y - x)| - a P(x, G)

    s2s train --sim --method danet --minutes 20 -o runs/danet

From `plus` of the training on, P and G rest, and a quarter of what R sees was made by G.

G(x) = x + b s + U(x, s), s speckle of white complex noise under a learned kernel: the noise that the paper hands to G
is white, and a small network can't make speckle of it. Ours too: covariances in the match, where the paper has means;
critics of any size; G and R learn as often as P.

**Tells** `synthetic_db`: the cleaned image with speckle made by G. `method.synthesise(x)` makes it of any image.

**Reached** on toy scenes, `preset="toy"`, 400 steps, 80 s on one core: 31.96 dB PSNR, where `noise2true`
reaches 32.30 and the noisy image has 20.65 (`benchmarks/toy_denoise.py --method danet --steps 400`). After
200 steps of a smaller network made noise has 5.75 dB and neighbours correlate by 0.55 axially and 0.76 laterally, real
speckle 5.54 dB, 0.55 and 0.80 (`tests/unit/test_toy_training.py`). With `weight=0`, the error alone, the denoiser
reaches 31.81 dB in as many steps. The picture shows five minutes on one core: `s2s train --sim training-any --method
danet --minutes 5`.

**Fails** as Noise2True does. What G makes is speckle as the critic sees it, which looks at crops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s2s.methods.base import SPECKLE, Training
from s2s.methods.descent import Descent
from s2s.methods.limits import number, whole
from s2s.methods.regression import MIDDLE, SPREAD
from s2s.methods.synthesis import Synthesis
from s2s.nets.critics import ImageCritic, gradient_penalty
from s2s.nets.generators import Speckle, moments
from s2s.nets.unet import UNet

#: Weight of the gradient penalties.
_PENALTY = 10.0
#: Decays of the moments of Adam for what is adversarial.
_BETAS = (0.5, 0.9)


class Danet(Synthesis):
    """A denoiser, a generator and a critic.

    alpha: how much of the critic's attention the generator has.  weight: of the denoiser's error; 0 for nothing else.
    match: weight of the noise's moments.  plus: share of the training from which the denoiser learns alone.  maker,
    critic: channels of the generator and of the critic at their first levels.
    """

    needs = ("y", "x")
    TRAINING_ONLY = ("critic.",)
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 24, "maker": 8, "critic": 16},
        "paper": {"width": 32, "depth": 4, "maker": 32, "critic": 64, "weight": 93.0},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(),
        "toy": Training(steps=2_000, batch=4),
        "paper": Training(batch=16, crop=128, clip=0.0, ema=0.0, rate=1e-4, gain=(0.0, 0.0)),
    }

    def __init__(
        self,
        alpha: float = 0.5,
        weight: float = 400.0,
        match: float = 40.0,
        plus: float = 0.8,
        maker: int = 16,
        critic: int = 32,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.alpha, self.weight = number("alpha", alpha, 0.0, 1.0), number("weight", weight, 0.0, 1e6)
        self.match, self.plus = number("match", match, 0.0, 1e6), number("plus", plus, 0.0, 1.0)
        self.speckle = Speckle()
        self.loudness = nn.Parameter(torch.ones(()))
        self.maker = UNet(2, 1, width=whole("maker", maker, 1, 256), depth=2)
        self.critic = ImageCritic(2, width=whole("critic", critic, 1, 256))
        self.multiple = math.lcm(self.multiple, self.maker.multiple)
        self.smallest = 16  # of the critic's strides

    def optimizers(self, training: Training) -> dict[str, torch.optim.Optimizer]:
        """Three; the critic learns twice as fast, and the few weights of the kernel ten times."""
        maker = [
            {"params": [self.loudness, *self.maker.parameters()]},
            {"params": self.speckle.parameters(), "lr": 10.0 * training.rate},
        ]
        return {
            "denoiser": torch.optim.Adam(self.net.parameters(), lr=training.rate),
            "generator": torch.optim.Adam(maker, lr=training.rate, betas=_BETAS),
            "critic": torch.optim.Adam(self.critic.parameters(), lr=2.0 * training.rate, betas=_BETAS),
        }

    def step(
        self,
        batches: Sequence[dict[str, Tensor]],
        progress: float,
        optimizers: dict[str, torch.optim.Optimizer],
        descend: Descent,
    ) -> dict[str, float]:
        """The critic, the generator and the denoiser one after the other; in the end the denoiser alone."""
        told = {}
        if progress < self.plus:
            told["critic"] = descend(self.critic_loss, batches, progress, optimizers["critic"])["loss"]
            told["generator"] = descend(self.generator_loss, batches, progress, optimizers["generator"])["loss"]
            self.taught += 1
        return told | descend(self.loss, batches, progress, optimizers["denoiser"])

    def made(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images with speckle, see `Synthesis.made`."""
        speckle = self.speckle(self.speckle.white(x, generator))
        seen = torch.cat([(x - MIDDLE) / SPREAD, speckle / SPECKLE], 1)
        return (x + self.loudness * speckle + SPECKLE * self.maker(seen).to(x)).clamp(0.0, 1.0)

    def judged(self, pair: Tensor) -> Tensor:
        """What the critic says of pairs of a clean and a noisy image, see `pair_of`."""
        return self.critic(pair).to(pair)

    def critic_loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """How much more real what is made looks than what is real, and the gradient penalties."""
        x, y = batch["x"], batch["y"]
        with torch.no_grad():
            real, by_generator, by_denoiser = pair_of(x, y), pair_of(x, self.made(x)), pair_of(self.estimate(y), y)
        loss = -self.judged(real).mean()
        for share, made in ((self.alpha, by_generator), (1.0 - self.alpha, by_denoiser)):
            penalty = gradient_penalty(self.judged, real, made)
            loss = loss + share * (self.judged(made).mean() + _PENALTY * penalty)
        return loss

    def generator_loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """How false what is made looks, and how far its moments are off."""
        x, y = batch["x"], batch["y"]
        made = self.made(x)
        apart = (moments((made - x) / SPECKLE) - moments((y - x) / SPECKLE)).abs().mean()
        return self.match * apart - self.alpha * self.judged(pair_of(x, made)).mean()

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """The denoiser's error, and how false its images look over `weight`: in units of speckle."""
        x, y = batch["x"], batch["y"]
        if progress < self.plus and self.weight:
            clean = self.estimate(y)
            false = (1.0 - self.alpha) * self.judged(pair_of(clean, y)).mean() / self.weight
            return ((clean - x) / SPECKLE).abs().mean() - false
        return self.error_with_made(batch, progress >= self.plus)


def pair_of(x: Tensor, y: Tensor) -> Tensor:
    """What the critic sees of clean and noisy images (B, 1, H, W): their brightness and their noise, (B, 2, H, W)."""
    return torch.cat([(x - MIDDLE) / SPREAD, (y - x) / SPECKLE], 1)
