"""R2D2+: reverse diffusion from the noisy image, with a network that has seen clean images alone.

Chung, Lee and Ye, "MR Image Denoising and Super-Resolution Using Regularized Reverse Diffusion" (IEEE Transactions on
Medical Imaging, 2023, arXiv 2203.12621). A network learns the score of clean images at every strength of white noise.
The noisy image is taken for a clean one with noise of some strength, and the diffusion runs backwards from there, while
its low frequencies are held to those of the image. It ends at a sample of the clean images that fit; several samples
give a mean, and where they disagree.

**Assumes** that speckle is covered by white noise of `start` times its standard deviation: it is wider than a pixel, so
that the noise must be stronger than it to cover its low frequencies.

**Needs** simulation, or our HDF5 files: `x`, the image without speckle. No noisy image is learned from.

**Loss** |D(x + s n, s) - x|^2 weighted as of Karras et al. (NeurIPS 2022, arXiv 2206.00364), n white, s log-uniform. In
use, from s_0 = start * strength * sigma(speckle) in `steps` steps down to 0.01, with the score (D(v, s) - v) / s^2:

    v <- v + (s^2 - t^2) score(v, s) + (t / s) sqrt(s^2 - t^2) n        t the next s, n white
    v <- v + hold (L(y) - L(v))                                         L a Gaussian of `cut` pixels

and D of the last. The noise of a step is scaled by t / s, which is the exact law of the step back.

    s2s train --sim --method r2d2+ --minutes 20 -o runs/r2d2
    s2s denoise scan.png -m runs/r2d2
    s2s denoise scan.png -m runs/r2d2:strength=0.6,samples=8 --extras

The paper estimates the noise from the patches of the image, where ours takes `start`; its super-resolution is left out.
Its network, steps and regulariser could not be read in full: the network is our U-Net with the strength of the
noise as a second channel, and L(y) replaces L(v) in part, so that high frequencies are left alone.

**Reached** on toy scenes in 400 steps of a network of width 12, 19 s on one core: 7.0 dB of PSNR gained, 7.3 with the
mean of eight samples, 5.1 with no low frequencies held (`trained("r2d2+", 400, width=12)` of
tests/unit/test_toy_training.py). The picture shows 500 steps of `preset="default"` on `training-any`.

**Tells** beside the mean of `samples` their standard deviation in dB, `spread_db`, and the samples, `sample0`, ...

**Fails** by inventing: a single sample has structure that is not there. Speckle that `start` does not cover stays.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from s2s.domain import RANGE_DB
from s2s.methods.base import SPECKLE
from s2s.methods.limits import number, whole
from s2s.methods.regression import MIDDLE, SPREAD, Regression
from s2s.nets.surroundings import blurred

#: Strengths of noise that are learned, on the scale 1 + dB / 60, and the seed of the noise in use.
LEAST, MOST, _SEED = 0.01, 1.0, 20230


class R2D2(Regression):
    """Reverse diffusion.

    start: noise at which it begins, in standard deviations of speckle.  strength: of the cleaning, which scales the
    start.  steps: back to the clean image.  samples: of it, whose mean is the result.  hold: share of the low
    frequencies that is held to those of the image in each step.  cut: pixels of the Gaussian that tells low from high;
    wider than speckle, whose grains are held otherwise.
    """

    needs = ("x",)
    exportable = False
    channels = 2
    IN_USE = (*Regression.IN_USE, "start", "strength", "steps", "samples", "hold", "cut")
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 24, "steps": 10, "samples": 2, "cut": 4.0},
        "paper": {"width": 64, "depth": 4, "steps": 50, "samples": 8},
    }

    def __init__(
        self,
        start: float = 2.0,
        strength: float = 1.0,
        steps: int = 20,
        samples: int = 4,
        hold: float = 0.4,
        cut: float = 12.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.first = SPECKLE * number("start", start, 0.2, 10.0) * number("strength", strength, 0.1, 5.0)
        if not LEAST < self.first <= MOST:
            learned = f"learned are {LEAST:g} to {MOST:g}"
            raise ValueError(f"start {start} and strength {strength}: noise of {self.first:.3g}; {learned}")
        self.steps, self.samples = whole("steps", steps, 1, 1000), whole("samples", samples, 1, 64)
        self.hold, self.cut = number("hold", hold, 0.0, 1.0), number("cut", cut, 0.5, 64.0, "pixels")
        self.halo = None  # what a pixel depends on grows with every step

    def clean(self, v: Tensor, sigma: Tensor) -> Tensor:
        """The mean of clean images, given v (B, 1, H, W) with white noise of sigma (B, 1, 1, 1) on them."""
        total = (sigma.square() + SPREAD**2).sqrt()
        centred = v - MIDDLE
        seen = torch.cat([centred / total, (sigma.log() / 4.0).expand_as(v)], 1)
        made = self.net(seen).to(v)
        if not self.residual:
            return MIDDLE + SPREAD * made
        return MIDDLE + centred * (SPREAD / total).square() + made * (sigma * SPREAD / total)

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error of the clean image, weighted so that all strengths of noise count alike."""
        x = batch["x"]
        low, high = math.log(LEAST), math.log(MOST)
        sigma = torch.exp(low + (high - low) * torch.rand((len(x), 1, 1, 1), device=x.device, dtype=x.dtype))
        error = self.clean(x + sigma * torch.randn_like(x), sigma) - x
        weight = (sigma.square() + SPREAD**2) / (sigma * SPREAD).square()
        return (weight * error.square()).mean()

    def strengths(self) -> list[float]:
        """The strengths of noise from the first to the last, falling by equal factors."""
        factor = (LEAST / self.first) ** (1.0 / self.steps)
        return [self.first * factor**step for step in range(self.steps + 1)]

    def draw(self, y: Tensor) -> Tensor:
        """Samples of the clean image, (samples, B, 1, H, W); the same for the same image."""
        generator = torch.Generator().manual_seed(_SEED)
        low, made = self._low(y), []
        strengths = self.strengths()
        for _ in range(self.samples):
            v = y
            for sigma, after in itertools.pairwise(strengths):
                change = sigma**2 - after**2
                score = (self.clean(v, y.new_full((1, 1, 1, 1), sigma)) - v) / sigma**2
                noise = torch.randn((1, *y.shape[1:]), generator=generator).to(y)  # the same for all of a batch
                v = v + change * score + (after / sigma) * math.sqrt(change) * noise
                v = v + self.hold * (low - self._low(v))
            made.append(self.clean(v, y.new_full((1, 1, 1, 1), strengths[-1])))
        return torch.stack(made)

    def _low(self, image: Tensor) -> Tensor:
        return blurred(image, (self.cut, self.cut))

    def estimate(self, y: Tensor) -> Tensor:
        """The mean of the samples."""
        return self.draw(y).mean(0)

    def extras(self, y: Tensor) -> dict[str, Tensor]:
        """`spread_db`, the samples' standard deviation, and each of them, `sample0`, ... (B, 1, H, W), in dB."""
        drawn = self.draw(y)
        found = {"spread_db": RANGE_DB * drawn.std(0, correction=0)}
        return found | {f"sample{number}": RANGE_DB * (sample - 1.0) for number, sample in enumerate(drawn)}
