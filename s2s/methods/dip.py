"""Deep Image Prior: a network that makes the image out of noise, stopped before it makes the speckle.

Ulyanov, Vedaldi and Lempitsky, "Deep Image Prior" (CVPR 2018). An hourglass of convolutions is fitted until it gives
the image for a constant random input. It gives smooth and self-similar parts first, and noise last.

**Assumes** that speckle is harder to make than anatomy. White noise is; speckle is smooth itself and comes early. What
speckle is in decibels is known, though, whatever the tissue: 5.57 dB. The fit ends when what it leaves is no more than
that (Morozov's discrepancy principle).

**Needs** the image itself, to which it is fitted when it is cleaned.

**Loss** mean((f(z + e) - y)^2) over the speckle's variance, on 1 + dB / 60; z is uniform in 0...0.1, e is drawn anew
for each step, with a standard deviation of 1/30. The weights in use are an average over the last steps.

    s2s denoise scan.png -m dip

**Reached** on toy scenes, noisy 20.65 dB PSNR: 9.4 dB more where speckle is as wide as in an image, after 5.5 s on one
core each, and 12.7 where it is white; after 200 steps without an end 4 to 5 dB (`tests/unit/test_fitting.py`).

**Fails** where less than 60 dB are shown, or grey levels are not linear in decibels: what is speckle is then less than
5.57 dB, the fit ends too early, and the image is too smooth; say so with `--dynamic-range`, or lower `stop`. Points are
smoothed away first. `preset="paper"` is the published network and its number of steps, after which all speckle is back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from s2s.methods.base import SPECKLE, Method, Training
from s2s.methods.limits import number, whole
from s2s.nets.hourglass import Hourglass

#: Channels of the random input, its range, and the seed that makes it the same in learning and in use.
_CHANNELS, _RANGE, _SEED = 32, 0.1, 0
#: Steps over whose mean loss the end of the fit is decided.
_STEPS = 5


class Dip(Method):
    """A network fitted to each image by itself, whose weights hold that image.

    fit: most steps of the fit.  stop: variance of what is left, over that of speckle, at which it ends; the more, the
    smoother; 0 for never.  width: channels.  depth: how often the resolution is halved.  shake: standard deviation of
    what is added to the input in each step.
    """

    needs = ("y",)
    fit_steps = 1
    holds_image = True
    bytes_per_pixel = 20_000
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 16},
        "paper": {"fit": 1800, "stop": 0.0, "width": 128},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        name: Training(batch=1, crop=0, rate=1e-2, clip=0.0, ema=0.99, schedule="constant", augment="none")
        for name in PRESETS
    }

    def __init__(
        self, fit: int = 300, stop: float = 1.0, width: int = 32, depth: int = 5, shake: float = 1.0 / 30.0
    ) -> None:
        super().__init__()
        self.stop = number("stop", stop, 0.0, 10.0)
        self.fit_steps, self.shake = whole("fit", fit, 1, 100_000), number("shake", shake, 0.0, 1.0)
        self.net = Hourglass(_CHANNELS, width=whole("width", width, 1, 512), depth=whole("depth", depth, 1, 6))
        self.multiple = self.net.multiple
        self.smallest = 2 * self.multiple  # reflection needs two pixels at the bottom
        self.halo = None

    def noise(self, y: Tensor) -> Tensor:
        """The constant random input for images of a size: (B, channels, H, W)."""
        count, _, height, width = y.shape
        generator = torch.Generator().manual_seed(_SEED)
        return _RANGE * torch.rand((count, _CHANNELS, height, width), generator=generator).to(y)

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """How far the image that is made is from the one that is there."""
        y = batch["y"]
        z = self.noise(y)
        made = self.net(z + self.shake * torch.randn_like(z)).to(y)
        return ((made - y) / SPECKLE).square().mean()

    def is_fitted(self, losses: Sequence[float]) -> bool:
        """Whether the last steps left no more than speckle."""
        last = losses[-_STEPS:]
        return sum(last) < self.stop * _STEPS and len(last) == _STEPS

    def infer(self, y: Tensor) -> Tensor:
        """The image that the network makes, (B, 1, H, W) on the scale 1 + dB / 60; of `y` it uses the size alone."""
        return self.net(self.noise(y)).to(y)
