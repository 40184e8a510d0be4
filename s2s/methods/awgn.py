"""AWGN: a U-Net that removes white Gaussian noise of a known strength, taught with clean images and noise put on them.

As FFDNet (Zhang, Zuo and Zhang, IEEE Transactions on Image Processing 2018) it is told how strong the noise is, by a
second channel, and serves every strength. Speckle is neither white nor Gaussian: the method stands here for what a
denoiser of photographs makes of ultrasound, and as the part of `noise2vst` that knows what images look like.

**Assumes** additive white Gaussian noise of `sigma` dB.

**Needs** simulation, or our HDF5 files: `x`, the image without speckle. No noisy image is learned from.

**Loss** mean((D(x + s n, s) - x)^2 / s^2), n white, s uniform, of images whose every pixel, every second or every
fourth row and column is taken, so that phases (`polyphase(4):`) look familiar too.

    s2s train --sim --method awgn --minutes 20 -o runs/awgn

Weights come with the package (`s2s denoise scan.png -m awgn`, or `-m awgn:sigma=8` for stronger noise; its card says
how they were made).

**Reached** on a toy scene, in dB of PSNR gained by the weights of the package, which never saw such scenes: 15.5 where
the speckle is white, 4.6 where it is as wide as in an image (`tests/unit/test_stabilised.py`). The picture shows them.

**Fails** on speckle as it is: noise that neighbours share looks like structure.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from s2s.domain import RANGE_DB, SPECKLE_DB
from s2s.methods.base import Training
from s2s.methods.limits import number
from s2s.methods.regression import MIDDLE, SPREAD, Regression

#: Strengths of noise that are learned, on the scale 1 + dB / 60, and the steps in which pixels are left out.
LEAST, MOST, STEPS = 0.01, 0.25, (1, 2, 4)


class Awgn(Regression):
    """Regression of white noise of a known strength.

    sigma: standard deviation of the noise in dB.
    """

    needs = ("x",)
    channels = 2
    IN_USE = (*Regression.IN_USE, "sigma")
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(crop=128, batch=4),
        "toy": Training(steps=2_000, batch=4, crop=128),
        "paper": Training(batch=16, crop=128, clip=0.0, gain=(0.0, 0.0)),
    }
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"width": 24, "depth": 2},
        "toy": {"width": 16, "depth": 2},
        "paper": {"width": 64},
    }

    def __init__(self, sigma: float = SPECKLE_DB, **settings: Any) -> None:
        super().__init__(**settings)
        self.sigma = number("sigma", sigma, RANGE_DB * LEAST, RANGE_DB * MOST, "dB") / RANGE_DB

    def clean(self, v: Tensor, sigma: Tensor) -> Tensor:
        """The mean of clean images, given v (B, 1, H, W) with white noise of sigma (B or 1, 1, 1, 1) on them."""
        sigma = sigma.clamp(LEAST, MOST)
        made = self.net(torch.cat([(v - MIDDLE) / SPREAD, (sigma / SPREAD).expand_as(v)], 1)).to(v)
        return v + sigma * made if self.residual else MIDDLE + SPREAD * made

    def estimate(self, y: Tensor) -> Tensor:
        """The clean image, noise of `sigma` taken for granted."""
        return self.clean(y, y.new_full((1, 1, 1, 1), self.sigma))

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error in units of the noise; 1 for a network that changes nothing."""
        x = batch["x"]
        steps = [step for step in STEPS if all(side % (step * self.multiple) == 0 for side in x.shape[-2:])]
        step = steps[int(torch.randint(len(steps), ()))]
        x = x[..., ::step, ::step]
        sigma = LEAST + (MOST - LEAST) * torch.rand((len(x), 1, 1, 1), device=x.device, dtype=x.dtype)
        error = self.clean(x + sigma * torch.randn_like(x), sigma) - x
        return (error / sigma).square().mean()
