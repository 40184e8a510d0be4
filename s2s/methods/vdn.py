"""VDN: a denoiser that also says how strong the noise is, and is taught both at once.

Yue et al., "Variational Denoising Network: Toward Blind Noise Modeling and Removal" (NeurIPS
2019). Noise is Gaussian with a variance of its own in every pixel, the clean image lies near the one that is shown, and
two networks give the posterior of both: D the image's mean and variance, S the parameters of the noise variance's
inverse Gamma law. What is made small is the negative evidence lower bound.

**Assumes** noise that is Gaussian in each pixel; that pixels' noise is correlated is neglected, which leaves the means
and the variances right.

**Needs** simulation, or our HDF5 files: `x`, the image without speckle. With `against=look` it has none: `y2`, an
independent look, stands for the truth, and half of the squared difference for the noise.

**Loss** with r = y - f(y) and m^2 from D, alpha and beta from S, q pixels in the window, xi the smoothed squared noise,
a = q / 2 - 1, b = q xi / 2, psi the digamma function, all in units of speckle, means over pixels:

    likelihood  1/2 (log 2 pi + log beta - psi(alpha) + (r^2 + m^2) alpha / beta)
    image       1/2 ((f(y) - x)^2 / near + m^2 / near - 1 - log(m^2 / near))
    noise       (alpha - a) psi(alpha) + log Gamma(a) - log Gamma(alpha)
                    + a (log beta - log b) + (b / beta - 1) alpha

    s2s train --sim --method vdn --minutes 20 -o runs/vdn

The biases of the last layers begin at the laws' own values, `near` and the variance of speckle. From zero, as
published, the variances have to be found before the image is looked at: see the test. Whole images, no annealing of
the clip: the paper's schedule is not ours.

**Tells** beside the image the standard deviation of the noise in dB, `noise_db`, as the networks see it: 5.57 in fully
developed speckle, less where there are few scatterers or a mirror.

**Reached** on toy scenes in 400 steps of `preset="toy"`, 51 s on one core: 32.09 dB PSNR, where `noise2true` reaches
32.30 and the noisy image has 20.65 (`benchmarks/toy_denoise.py --method vdn --steps 400`). Begun at zero it gains 0.3
dB in the first 150 steps, where it gains 6.1 with our start (tests/unit/test_toy_training.py). The picture shows 500
steps of `preset="default"` on `training-any`.

**Fails** as Noise2True does, to which it converges as `near` falls.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s2s.domain import SPECKLE_DB
from s2s.methods.base import SPECKLE
from s2s.methods.limits import cell_of, number, one_of, whole
from s2s.methods.regression import MIDDLE, SPREAD, Regression
from s2s.nets.surroundings import blurred

#: Batch keys of what stands for the truth.
AGAINST = {"truth": "x", "look": "y2"}
#: Logarithms of variances stay within these: exp(-18.4) = 1e-8, exp(9.2) = 1e4.
_LEAST, _MOST = math.log(1e-8), math.log(1e4)


class Vdn(Regression):
    """Regression with a map of the noise.

    against: what stands for the truth: "truth", or "look", an independent look.  window: rows and columns, odd, over
    which the noise's variance is taken for one.  near: variance of the truth about the image that is shown, in units of
    the speckle's.  features: channels of the five layers that see the noise.
    """

    needs = ("y", "x")
    outputs = 2
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 24, "features": 16},
        "paper": {"width": 64, "depth": 4, "features": 64, "window": (7, 7), "near": 1e-4},
    }

    def __init__(
        self,
        against: str = "truth",
        window: tuple[int, int] = (11, 15),
        near: float = 1e-3,
        features: int = 32,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.target = AGAINST[one_of("against", against, AGAINST)]
        self.needs = ("y", self.target)
        self.window, self.near = cell_of("window", window), number("near", near, 1e-6, 1.0)
        count = math.prod(self.window)
        if count < 9:
            raise ValueError(f"window {window}: {count} pixels tell no variance; choose 9 or more")
        self.half = count / 2.0
        self.noise = _layers(whole("features", features, 1, 512))
        self.halo = max(self.halo or 0, 5)
        with torch.no_grad():
            biases = self.net.last.bias
            assert biases is not None
            biases.view(2, -1)[1] = math.log(self.near)  # of every pixel that a fold makes of one
            self.noise[-1].bias.copy_(torch.tensor([self.half - 1.0, self.half]).log())  # type: ignore[union-attr]

    def image_law(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the image's posterior on the scale of `y`, and the logarithm of its variance in units of speckle."""
        change, spread = self.net((y - MIDDLE) / SPREAD).to(y).chunk(2, 1)
        mean = y + SPECKLE * change if self.residual else MIDDLE + SPECKLE * change
        return mean, spread.clamp(_LEAST, _MOST)

    def noise_law(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of alpha and beta of the noise variance's inverse Gamma law, in units of the speckle's."""
        alpha, beta = self.noise((y - MIDDLE) / SPREAD).to(y).clamp(_LEAST, _MOST).chunk(2, 1)
        return alpha, beta

    def estimate(self, y: Tensor) -> Tensor:
        """The mean of the image's posterior."""
        return self.image_law(y)[0]

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """The negative evidence lower bound, in single precision: psi has too few digits in bfloat16."""
        y, x = batch["y"], batch[self.target]
        mean, log_spread = self.image_law(y)
        log_alpha, log_beta = self.noise_law(y)
        spread, left = log_spread.exp(), ((y - mean) / SPECKLE).square()
        noise = ((y - x) / SPECKLE).square() * (0.5 if self.target == "y2" else 1.0)
        sigmas = tuple(side / 4.0 for side in self.window)
        variance = blurred(noise, (sigmas[0], sigmas[1])).clamp_min(1e-6)
        return (
            likelihood(left, spread, log_alpha, log_beta)
            + image_divergence(((mean - x) / SPECKLE).square(), log_spread, self.near)
            + noise_divergence(log_alpha, log_beta, self.half - 1.0, self.half * variance)
        )

    def extras(self, y: Tensor) -> dict[str, Tensor]:
        """`noise_db`: standard deviation of the noise in dB (B, 1, H, W), from the mean of its variance."""
        log_alpha, log_beta = self.noise_law(y)
        variance = log_beta.exp() / (log_alpha.exp() - 1.0).clamp_min(1e-3)
        return {"noise_db": SPECKLE_DB * variance.sqrt()}


def likelihood(left: Tensor, spread: Tensor, log_alpha: Tensor, log_beta: Tensor) -> Tensor:
    """Minus the expected log-likelihood, mean over pixels; left: squared y - mean.  spread: variance of the mean."""
    alpha = log_alpha.exp()
    scaled = (left + spread) * (log_alpha - log_beta).exp()
    return 0.5 * (math.log(2.0 * math.pi) + (log_beta - torch.digamma(alpha) + scaled).mean())


def image_divergence(error: Tensor, log_spread: Tensor, near: float) -> Tensor:
    """Kullback-Leibler divergence of N(mean, spread) from N(x, near), mean over pixels; error: squared mean - x."""
    return 0.5 * ((error + log_spread.exp()) / near - 1.0 - log_spread + math.log(near)).mean()


def noise_divergence(log_alpha: Tensor, log_beta: Tensor, a: float, b: Tensor) -> Tensor:
    """Kullback-Leibler divergence of InvGamma(alpha, beta) from InvGamma(a, b), mean over pixels."""
    alpha = log_alpha.exp()
    terms = (alpha - a) * torch.digamma(alpha) + math.lgamma(a) - torch.lgamma(alpha)
    terms = terms + a * (log_beta - b.log()) + b * (log_alpha - log_beta).exp() - alpha
    return terms.mean()


def _layers(features: int) -> nn.Sequential:
    """Five convolutions of 3 x 3, the last of which begins at zero: what is said of the noise is its biases."""
    layers: list[nn.Module] = [nn.Conv2d(1, features, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for _ in range(3):
        layers += [nn.Conv2d(features, features, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    last = nn.Conv2d(features, 2, 3, padding=1)
    nn.init.zeros_(last.weight)
    return nn.Sequential(*layers, last)
