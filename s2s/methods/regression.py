"""What methods share that regress one image on another with a U-Net: the estimate and its units."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from s2s.methods.base import SPECKLE, Method, Training
from s2s.methods.bright import keep_bright
from s2s.methods.limits import flag, number, whole
from s2s.methods.masks import mean_over
from s2s.nets.unet import UNet

#: Middle and spread of B-mode images on the scale 1 + dB / 60; constants, so that tiles and video frames agree.
MIDDLE, SPREAD = 0.5, 0.25


#: For methods that hide pixels: added to the image, an output would pass on the pixels that are not hidden in use, of
#: which it was never asked.
HIDING: dict[str, dict[str, Any]] = {
    "default": {"residual": False},
    "toy": {"residual": False, "width": 24},
    "paper": {"residual": False},
}


class Regression(Method):
    """A U-Net on standardised images whose output, in units of speckle, is added to the image (or replaces it).

    width, depth, fold, widest: of the U-Net.  residual: predict the correction instead of the image.
    keep: dB above the estimate from which a pixel is kept in use, because speckle is hardly ever so bright; 0 keeps
    none.  fit: steps for which fresh weights are fitted to each image or clip that is cleaned, for methods that need
    noisy images only; 0 for weights that were trained before.
    """

    channels: ClassVar[int] = 1  # of what the network is given
    outputs: ClassVar[int] = 1  # of what it gives
    IN_USE: ClassVar[tuple[str, ...]] = ("keep",)
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 24},
        "paper": {"residual": False},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(),
        "toy": Training(steps=2_000, batch=4),
        "paper": Training(batch=16, crop=128, clip=0.0, ema=0.0, gain=(0.0, 0.0)),
    }

    def __init__(
        self,
        width: int = 32,
        depth: int = 3,
        residual: bool = True,
        fold: int = 1,
        widest: int = 1024,
        keep: float = 0.0,
        fit: int = 0,
    ) -> None:
        super().__init__()
        self.fit_steps = whole("fit", fit, 0, 1_000_000)
        if self.fit_steps and type(self).needs != ("y",):
            raise ValueError(f"fit is {fit}; an image alone does not hold what it learns from; train it")
        self.net = UNet(
            self.channels,
            self.outputs,
            width=whole("width", width, 1, 256),
            depth=whole("depth", depth, 1, 6),
            fold=whole("fold", fold, 1, 4),
            widest=whole("widest", widest, 1, 1024),
        )
        self.residual, self.keep = flag("residual", residual), number("keep", keep, 0.0, 60.0, "dB")
        self.multiple, self.halo = self.net.multiple, self.net.halo

    def infer(self, y: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, 1, H, W) on the scale 1 + dB / 60."""
        clean = self.estimate_for_use(y)
        return keep_bright(clean, y, self.keep) if self.keep else clean

    def estimate(self, y: Tensor) -> Tensor:
        """What the network takes for the mean of `y`, of its shape."""
        change = self.net((y - MIDDLE) / SPREAD).to(y) * SPECKLE
        return y + change if self.residual else MIDDLE + change

    def estimate_for_use(self, y: Tensor) -> Tensor:
        """What `infer` takes for the mean of `y`: `estimate`, unless a method looks at an image more than once."""
        return self.estimate(y)

    def padded_estimate(self, y: Tensor) -> Tensor:
        """`estimate` for sides that are no multiples of the network's: borders are repeated, and cut off again."""
        height, width = y.shape[-2:]
        below, right = -height % self.multiple, -width % self.multiple
        return self.estimate(nn.functional.pad(y, (0, right, 0, below), mode="replicate"))[..., :height, :width]

    def error(self, batch: dict[str, Tensor], target: str) -> Tensor:
        """Mean squared difference between the estimate from `y` and batch[target], in units of speckle variance."""
        return ((self.estimate(batch["y"]) - batch[target]) / SPECKLE).square().mean()


class BlindSpot(Regression):
    """Regression of pixels that were hidden on what was left of their image; `hide` says which."""

    needs = ("y",)
    PRESETS = HIDING

    def hide(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W) with pixels hidden, and the pixels of which the network is asked: bool of their shape."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error at the pixels that the network was asked for."""
        y = batch["y"]
        given, asked = self.hide(y)
        return mean_over(((self.estimate(given) - y) / SPECKLE).square(), asked)
