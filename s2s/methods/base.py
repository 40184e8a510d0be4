"""What every denoising method is: what it needs, how it learns, and how it cleans an image.

A method is a torch module that works on tensors (B, 1, H, W) of its own `domain`; the loop in s2s/train.py knows
nothing about losses, and s2s/denoise.py alone turns users' images into such tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s2s.domain import RANGE_DB, SPECKLE_DB, Scale

#: Standard deviation of speckle on the scale 1 + dB / 60: the unit in which losses are measured.
SPECKLE = SPECKLE_DB / RANGE_DB

#: What a batch may hold; the simulator makes only what a method needs.
KEYS: Mapping[str, str] = {
    "y": "noisy images",
    "y2": "a second, independent look at each scene",
    "x": "the image without speckle (truth/bmode)",
}


@dataclass(frozen=True)
class Training:
    """How a preset is trained unless the user says otherwise.

    steps.  batch: crops per step.  crop: side of the square crops in pixels, 0 for whole images.  rate: peak learning
    rate.  clip: largest gradient norm, 0 for any.  ema: decay of the averaged weights, 0 for none.
    schedule: "cosine" or "constant".  augment: "flip" (left-right, which keeps the physics) or "paper".
    gain: least and most dB by which simulated scenes are made brighter: users' scanners have a knob for it.
    """

    steps: int = 20_000
    batch: int = 8
    crop: int = 64
    rate: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    schedule: str = "cosine"
    augment: str = "flip"
    gain: tuple[float, float] = (-20.0, 10.0)


class Method(nn.Module):
    """Base of all methods. Its keyword arguments are its settings; PRESETS names good ones.

    needs: keys of the batch that `loss` reads; empty for a filter.  domain: the scale it works on, see s2s.domain.
    multiple, smallest: height and width that `infer` sees are multiples of the one, and not below the other.
    halo: an output pixel depends on no pixel further away than this; None when it depends on the whole image, so that
    it can't be tiled.
    TUNING: values of settings that `s2s tune` tries; the first key is the strength, in the order of more smoothing.
    name, preset, settings: filled in by `s2s.methods.make`.
    """

    needs: ClassVar[tuple[str, ...]] = ("y",)
    domain: ClassVar[Scale] = "db"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    TRAINING: ClassVar[dict[str, Training]] = {"default": Training()}
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {}
    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ()  # first letters of the parameters that `infer` does not use
    fit_steps: int = 0
    multiple: int = 1
    smallest: int = 1
    halo: int | None = None
    name: str = ""
    preset: str = ""
    settings: Mapping[str, Any]

    def prepare(self, sample: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Further keys made once per whole image (H, W), before crops and flips; none by default."""
        return sample

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Scalar loss of a batch; progress in [0, 1] is how far the training is."""
        raise NotImplementedError(f"{type(self).__name__} does not learn")

    def optimizers(self, training: Training) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name; the loop scales their learning rates by its schedule."""
        return {"main": torch.optim.Adam(self.parameters(), lr=training.rate)}

    def step(
        self,
        batch: dict[str, Tensor],
        progress: float,
        optimizers: dict[str, torch.optim.Optimizer],
        clip: float,
    ) -> dict[str, float]:
        """One step of every optimiser; returns what is worth logging, `loss` at least."""
        (optimizer,) = optimizers.values()
        loss = self.loss(batch, progress)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.parameters(), clip if clip else float("inf"))
        optimizer.step()
        return {"loss": float(loss.detach()), "gradient_norm": float(norm)}

    def infer(self, y: Tensor) -> Tensor:
        """Clean images (B, 1, H, W) of noisy ones, both in `domain`."""
        raise NotImplementedError

    def extras(self, y: Tensor) -> dict[str, Tensor]:
        """What else the method can tell about images (B, 1, H, W): noise maps, samples; nothing by default."""
        return {}

    @torch.no_grad()
    def denoise(self, y: Tensor) -> Tensor:
        """`infer` on any size: sides are reflected until they fit, and cut back."""
        height, width = y.shape[-2:]
        padded = y
        for axis, side in ((-2, height), (-1, width)):
            wanted = max(-(-side // self.multiple) * self.multiple, self.smallest)
            if wanted > side:  # as often as it takes, which torch's own reflection refuses
                mirrored = np.pad(np.arange(side), (0, wanted - side), mode="reflect")
                padded = padded.index_select(axis, torch.from_numpy(mirrored).to(y.device))
        self.eval()
        return self.infer(padded)[..., :height, :width]


class Filter(Method):
    """A method without training: one function of one image (H, W), in numpy and double precision."""

    needs = ()
    TRAINING: ClassVar[dict[str, Training]] = {}

    def filter(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """The clean image (H, W) of a noisy one, both in `domain`."""
        raise NotImplementedError

    def infer(self, y: Tensor) -> Tensor:
        """The filter on every image of the batch."""
        images = y.detach().cpu().double().numpy()[:, 0]
        clean = np.stack([self.filter(image) for image in images])[:, None]
        return torch.from_numpy(clean).to(y)
