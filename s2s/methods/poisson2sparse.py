"""Poisson2Sparse: an unrolled sparse code, fitted to one image, that tells one half of its pixels from the other.

Ta et al., "Poisson2Sparse: Self-Supervised Poisson Denoising From a Single Image" (MICCAI 2022). A convolutional LISTA
finds the codes of an image in a learned dictionary, and is taught with the sub-images of Neighbor2Neighbor: the one is
to be told from the other. How far off it may be says the law of the noise.

**Assumes** noise that is independent from pixel to pixel; speckle is not, and `polyphase(4):poisson2sparse` makes it
so. And an image that few codes make.

**Needs** the image itself, to which it is fitted for `fit` steps when it is cleaned.

**Loss** with sub-images g1 and g2, u = f(g1), e = (u - g2) over the standard deviation of speckle, and d the difference
of the sub-images of f(y):

    likelihood(u, g2) + mean|e| + 2 mean((e - d)^2) + 1e-5 sum|weights|

`likelihood`: "poisson", u - g2 log u on 1 + dB / 60, as published for counts; "gamma", log m + i / m of the intensity i
with mean m, which u makes; "fisher-tippett", exp(q - p) - (q - p) of the logarithms q of i and p of m, the same law on
the scale of the image: their gradients are equal; "none". All take u for the mean of the image in dB, which lies 2.507
dB below the logarithm of m.

    s2s denoise scan.png -m "polyphase(4):poisson2sparse"

Beside the law, ours: fewer channels and steps, a larger rate, and the average of weights instead of images. The paper
ends early where the image departs too far from the noisy one; that rule is not here.

**Reached** on a toy scene, in 100 steps of `preset=toy`, 6 s on one core, in dB of PSNR gained: 9.8 where the speckle
is white, 0.9 where it is as wide as in an image, and 6.6 there on phases (`tests/unit/test_fitting.py`). The picture
shows 4 x 4 phases. The codes, and the terms of the loss, are those of deepinv's implementation
(`tests/unit/test_crosscheck_deepinv.py`).

**Fails** on speckle as it is: neighbours share it.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s2s.domain import LOG_BIAS_DB, RANGE_DB
from s2s.methods.base import SPECKLE, Method, Training
from s2s.methods.limits import one_of, whole
from s2s.methods.masks import draw_pairs, sub_images

LIKELIHOODS = ("poisson", "gamma", "fisher-tippett", "none")
#: From the scale 1 + dB / 60 to the logarithm of an intensity, and how far above the mean of the image that of its mean
#: intensity lies.
_NEPERS = RANGE_DB * math.log(10.0) / 10.0
_BIAS = LOG_BIAS_DB / RANGE_DB
#: Nepers of intensity above the mean from which the exponential is no longer followed: speckle never reaches it.
_FAR = 4.0
#: Weights of the terms of the loss, and the least value that a logarithm is taken of.
_DIFFERENCE, _SPARSE, _LEAST = 2.0, 1e-5, 1e-3


class Poisson2Sparse(Method):
    """A sparse code fitted to each image by itself.

    likelihood: law of the noise: "poisson", "gamma", "fisher-tippett" or "none".  fit: steps of the fit.  atoms: of the
    dictionary, 3 x 3 pixels each.  rounds: of the search for codes.
    """

    needs = ("y",)
    fit_steps = 1
    bytes_per_pixel = 2_000
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"fit": 100, "atoms": 16, "rounds": 5},
        "paper": {"likelihood": "poisson", "fit": 5500, "atoms": 512},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(batch=1, crop=128, clip=1.0, ema=0.98, rate=3e-3),
        "toy": Training(batch=1, crop=128, clip=1.0, ema=0.9, rate=5e-3),
        "paper": Training(batch=1, crop=0, clip=0.0, ema=0.99, rate=1e-4, schedule="constant"),
    }

    def __init__(self, likelihood: str = "fisher-tippett", fit: int = 300, atoms: int = 32, rounds: int = 10) -> None:
        super().__init__()
        self.likelihood, self.fit_steps = one_of("likelihood", likelihood, LIKELIHOODS), whole("fit", fit, 1, 100_000)
        atoms, self.rounds = whole("atoms", atoms, 1, 1024), whole("rounds", rounds, 1, 50)
        self.encode = nn.Conv2d(1, atoms, 3, padding=1, bias=False)
        self.decode = nn.ConvTranspose2d(atoms, 1, 3, padding=1, bias=False)
        self.draw = nn.ConvTranspose2d(atoms, 1, 3, padding=1, bias=False)
        self.threshold = nn.Parameter(torch.full((1, atoms, 1, 1), 0.01))
        start = torch.randn(atoms, 1, 3, 3)
        start /= math.sqrt(largest_eigenvalue(start))
        with torch.no_grad():
            for layer in (self.encode, self.decode, self.draw):
                layer.weight.copy_(start)
        self.multiple, self.halo = 2, 2 * self.rounds + 2

    def infer(self, y: Tensor) -> Tensor:
        """What the codes of (B, 1, H, W) make, on the scale 1 + dB / 60."""
        codes = self._shrunk(self.encode(y))
        for _ in range(self.rounds):
            codes = self._shrunk(codes + self.encode(y - self.decode(codes)))
        return self.draw(codes).to(y)

    def _shrunk(self, codes: Tensor) -> Tensor:
        return soft(codes, self.threshold.clamp_min(0.0))

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """What the law of the noise, the sub-images and the weights say."""
        y = batch["y"]
        pairs = draw_pairs(y)
        given, asked = sub_images(y, pairs)
        with torch.no_grad():
            one, other = sub_images(self.infer(y), pairs)
        found = self.infer(given)
        error = (found - asked) / SPECKLE
        apart = (error - (one - other) / SPECKLE).square().mean()
        weights = sum((weight.abs().sum() for weight in self.parameters()), y.new_zeros(()))
        return self.law(found, asked) + error.abs().mean() + _DIFFERENCE * apart + _SPARSE * weights

    def law(self, mean: Tensor, seen: Tensor) -> Tensor:
        """Minus the logarithm of the likelihood of an image, given its mean in dB, up to constants."""
        if self.likelihood == "poisson":
            mean, seen = mean.clamp_min(_LEAST), seen.clamp_min(_LEAST)
            return (mean - seen - seen * (mean / seen).log()).mean() / SPECKLE**2
        log_mean, log_seen = (_NEPERS * (values - 1.0) for values in (mean + _BIAS, seen))
        if self.likelihood == "gamma":
            return (log_mean + log_seen.exp() / log_mean.exp()).mean()
        if self.likelihood == "fisher-tippett":
            # Far from the image, as at the start, the exponential is followed by its tangent.
            above = log_seen - log_mean
            grown = torch.where(above > _FAR, math.exp(_FAR) * (1.0 + above - _FAR), above.clamp_max(_FAR).exp())
            return (grown - above).mean()
        return mean.new_zeros(())


def soft(values: Tensor, threshold: Tensor) -> Tensor:
    """Values brought nearer to zero by a threshold, and zero within it."""
    return values - torch.minimum(torch.maximum(values, -threshold), threshold)


def largest_eigenvalue(filters: Tensor, side: int = 32, rounds: int = 30) -> float:
    """The largest eigenvalue of D^T D for the convolutions with filters (atoms, 1, h, w), by power iterations."""
    image = torch.ones(1, 1, side, side)
    padding = (filters.shape[-2] // 2, filters.shape[-1] // 2)
    value = 1.0
    for _ in range(rounds):
        codes = nn.functional.conv2d(image / image.norm(), filters, padding=padding)
        image = nn.functional.conv_transpose2d(codes, filters, padding=padding)
        value = float(image.norm())
    return value
