"""Zero-Shot Noise2Noise: a network of two layers, fitted to one image, that tells one half of it from the other.

Mansour and Heckel, "Zero-Shot Noise2Noise: Efficient Image Denoising without any Data" (CVPR 2023). The image is halved
twice, by the means of the one and of the other diagonal of each 2 x 2 pixels; each half is the target of the other, and
cleaning and halving must commute. The network is small enough not to learn the noise of a single image by heart.

**Assumes** noise that is independent from pixel to pixel. Speckle is not; `polyphase(4):zs-n2n` makes it so.

**Needs** the image itself, to which it is fitted for `fit` steps when it is cleaned.

**Loss** with the halves D1 and D2 of y, and f(v) = v - n(v): (|f(D1) - D2|^2 + |f(D2) - D1|^2) / 2, and for f and D to
commute (|f(D1) - D1(f(y))|^2 + |f(D2) - D2(f(y))|^2) / 2; means over the pixels, over the speckle's variance, on
1 + dB / 60.

    s2s denoise scan.png -m zs-n2n
    s2s denoise scan.png -m "polyphase(2,4):zs-n2n:fit=2000"

**Reached** on four toy scenes, 18 s on one core each, in dB of PSNR gained: 10.8 where the speckle is white, 0.6 where
it is as wide as in an image, and 7.8 there on phases, `polyphase(4):zs-n2n` (`tests/unit/test_fitting.py`, -m slow).

**Fails** on speckle as it is: neighbours share it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from s2s.methods.base import SPECKLE, Method, Training
from s2s.methods.limits import whole
from s2s.methods.regression import MIDDLE, SPREAD


class ZsN2N(Method):
    """A small network fitted to each image by itself.

    fit: steps of the fit.  width: channels of its two layers.
    """

    needs = ("y",)
    fit_steps = 1
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"fit": 100},
        "paper": {"fit": 3000},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(batch=1, crop=128, clip=0.0, ema=0.9),
        "toy": Training(batch=1, crop=128, clip=0.0, ema=0.9),
        "paper": Training(batch=1, crop=0, clip=0.0, ema=0.0),
    }

    def __init__(self, fit: int = 300, width: int = 48) -> None:
        super().__init__()
        width = whole("width", width, 1, 512)
        self.fit_steps = whole("fit", fit, 1, 100_000)
        self.noise = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width, 1, 1),
        )  # fmt: skip
        self.multiple, self.halo = 2, 2

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """What the halves say of each other, and of the whole."""
        y = batch["y"]
        whole_clean = halves(self.infer(y))
        given = halves(y)
        clean = [self.infer(half) for half in given]
        terms = [
            (clean[0] - given[1], clean[1] - given[0]),
            (clean[0] - whole_clean[0], clean[1] - whole_clean[1]),
        ]
        return sum((0.5 * (error / SPECKLE).square().mean() for pair in terms for error in pair), y.new_zeros(()))

    def infer(self, y: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1, H, W) on the scale 1 + dB / 60."""
        return y - SPREAD * self.noise((y - MIDDLE) / SPREAD).to(y)


def halves(y: Tensor) -> tuple[Tensor, Tensor]:
    """The means of both diagonals of each 2 x 2 pixels of images (B, 1, H, W): two of (B, 1, H // 2, W // 2)."""
    height, width = (side - side % 2 for side in y.shape[-2:])
    block = nn.functional.pixel_unshuffle(y[..., :height, :width], 2)
    return block[:, 1:3].mean(1, keepdim=True), (block[:, :1] + block[:, 3:]) / 2.0
