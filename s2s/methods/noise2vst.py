"""Noise2VST: a curve, fitted to one image, under which a denoiser of white Gaussian noise fits that image's noise.

Noise2VST (arXiv 2407.17399, ICCV 2025). Noise whose variance depends on the brightness becomes noise of one variance
under the right curve f, which is found by asking how well a denoiser D, under this curve, foretells pixels that it
does not see. Only the curve learns; D is fixed. On B-mode images it finds what the scanner's grey map did to the noise.

**Assumes** noise that is independent from pixel to pixel, and whose variance is a function of the signal. Speckle is
not independent; `polyphase(4):noise2vst` makes it so.

**Needs** the image itself, to which the curve is fitted for `fit` steps when it is cleaned, and a `backbone`: weights
of `awgn`, those of the package or a training of your own.

**Loss** with m one of the 16 phases of a 4 x 4 grid, y' the image whose pixels m are replaced by the mean of their
neighbours, over the speckle's variance:

    mean over m of (g(D(f(y'))) - y)^2,      g(v) = f^-1(v) + a v + b

f is linear between `knots` ordinates, which rise by exp(t) + 1e-6; 0.0980 (25 of 255 grey levels) is the noise that D
is told of on f's own range: f says by its scale how strong the noise is; its offset doesn't matter.

    s2s denoise scan.png -m "polyphase(4):noise2vst"
    s2s denoise scan.png -m noise2vst:backbone=runs/awgn

Ours: neighbours are weighted as in `noise2self`; D was taught with our simulation; flips instead of rotations; ends of
f's range where the paper takes extremes of the image, so that tiles agree; fewer steps.

**Reached** on a toy scene, in dB of PSNR gained: 15.8 in the 150 steps of `preset=toy`, 7 s on one core, where the
speckle is white, and 15.5 by its denoiser without a curve; where it is as wide as in an image 2.8 after 60 steps, and
less later; there on phases 10.0 after 20 (`tests/unit/test_stabilised.py`). The picture shows 150 steps on 4 x 4
phases, whose rows can be seen.

**Fails** on speckle as it is: neighbours tell what was hidden. The longer it is fitted, the more of it: on phases
too, whose speckle is still correlated, 29.0 dB of PSNR fit after 100 steps and 26.0 after 400, the noisy image having
23.1 (two scenes of `paper-s1`, `polyphase(4):noise2vst` of `s2s benchmark --preset short`).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s2s.methods.awgn import Awgn
from s2s.methods.backbone import load_backbone
from s2s.methods.base import SPECKLE, Method, Training
from s2s.methods.limits import whole
from s2s.methods.masks import donut, mean_over, phase

#: Noise that the denoiser is told of, period of the grid that hides pixels, and the least rise of the curve.
SIGMA, _PERIOD, _RISE = 25.0 / 255.0, 4, 1e-6


class Spline(nn.Module):
    """A rising, piecewise linear function of [0, 1], the identity at first; it goes on straight beyond its ends."""

    def __init__(self, knots: int) -> None:
        super().__init__()
        rises = torch.full((knots,), math.log(1.0 / (knots - 1) - _RISE))
        rises[0] = 0.0  # the first ordinate itself
        self.t = nn.Parameter(rises)

    def ordinates(self) -> Tensor:
        """The values at the knots, (knots,), which lie at equal distances from 0 to 1."""
        return torch.cat([self.t[:1], self.t[:1] + (self.t[1:].exp() + _RISE).cumsum(0)])

    def forward(self, v: Tensor) -> Tensor:
        """The function of any tensor."""
        ordinates = self.ordinates()
        place = v * (len(ordinates) - 1)
        left = place.detach().floor().clamp(0, len(ordinates) - 2).long()
        low = ordinates[left]
        return low + (place - left) * (ordinates[left + 1] - low)

    def inverse(self, v: Tensor) -> Tensor:
        """Where the function has the values of any tensor."""
        ordinates = self.ordinates()
        left = (torch.searchsorted(ordinates.detach(), v.detach().contiguous()) - 1).clamp(0, len(ordinates) - 2)
        low = ordinates[left]
        return (left + (v - low) / (ordinates[left + 1] - low)) / (len(ordinates) - 1)


class Noise2Vst(Method):
    """A denoiser of white noise under a curve that is fitted to each image.

    backbone: weights of awgn: a name of published ones, or a training.  fit: steps of the fit.  knots: of the curve.
    """

    needs = ("y",)
    fit_steps = 1
    bytes_per_pixel = 1_000
    exportable = False
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"fit": 100},
        "toy": {"fit": 150},
        "paper": {"fit": 2000},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(batch=4, crop=64, clip=0.0, ema=0.9, rate=1e-2),
        "toy": Training(batch=4, crop=64, clip=0.0, ema=0.9, rate=1e-2),
        "paper": Training(batch=4, crop=64, clip=0.0, ema=0.0, rate=1e-2, gain=(0.0, 0.0)),
    }

    def __init__(self, backbone: str = "awgn", fit: int = 400, knots: int = 128) -> None:
        super().__init__()
        self.fit_steps = whole("fit", fit, 1, 100_000)
        self.curve = Spline(whole("knots", knots, 2, 1024))
        self.tilt, self.offset = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.denoiser = load_backbone(backbone, Awgn, "awgn").requires_grad_(False)
        self.multiple, self.halo = self.denoiser.multiple, self.denoiser.halo

    def optimizers(self, training: Training) -> dict[str, torch.optim.Optimizer]:
        """The curve and the correction of its inverse learn, the denoiser does not."""
        return {"main": torch.optim.Adam([self.curve.t, self.tilt, self.offset], lr=training.rate)}

    def infer(self, y: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1, H, W) on the scale 1 + dB / 60."""
        clean = self.denoised(self.curve(y))
        return self.curve.inverse(clean) + self.tilt * clean + self.offset

    def denoised(self, v: Tensor) -> Tensor:
        """What the denoiser makes of images under the curve, whose range is 0 to 1 to it."""
        low, high = self.curve.ordinates()[[0, -1]]
        wide = high - low
        clean = self.denoiser.clean((v - low) / wide, (SIGMA / wide).reshape(1, 1, 1, 1))
        return low + wide * clean

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error at pixels that the denoiser did not see."""
        y = batch["y"]
        hidden = phase(y, _PERIOD, torch.randint(_PERIOD**2, (), device=y.device))
        given = torch.where(hidden, donut(y), y)
        return mean_over(((self.infer(given) - y) / SPECKLE).square(), hidden)
