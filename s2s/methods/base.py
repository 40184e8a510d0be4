"""What every denoising method is: what it needs, how it learns, and how it cleans an image.

A method is a torch module that works on tensors (B, 1, H, W) of its own `domain` (B, bands, H, W where it sees several
images of a scene at once); the loop in s2s/train.py knows
nothing about losses, and s2s/denoise.py alone turns users' images into such tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s2s.domain import RANGE_DB, SPECKLE_DB, Scale
from s2s.methods.bands import ONE_BAND, Bands
from s2s.methods.descent import Descent

#: Standard deviation of speckle on the scale 1 + dB / 60: the unit in which losses are measured.
SPECKLE = SPECKLE_DB / RANGE_DB

#: What a batch may hold; the simulator makes only what a method needs.
KEYS: Mapping[str, str] = {
    "y": "noisy images",
    "y2": "a second, independent look at each scene",
    "others": "the mean in dB of all other independent looks at each scene",
    "next": "the neighbouring slice of a volume",
    "steered": "the same scatterers seen from another steering angle",
    "x": "the image without speckle (truth/bmode)",
}

#: Keys of a second image of what `y` shows, and the part of a view (usim.phantom.views) in which the two differ.
PAIRS: Mapping[str, str] = {"y2": "look", "next": "slice", "steered": "angle"}


def in_words(key: str) -> str:
    """What a key of a batch holds.

    >>> in_words("angle+2")
    'the image 2 angles further on, seen with it'
    """
    part, _, step = key.partition("+")
    return f"the image {step} {part}{'s' if step != '1' else ''} further on, seen with it" if step else KEYS[key]


def pair_in(needs: tuple[str, ...]) -> str:
    """The key of the second image of a pair among what is needed; "" where no pair is.

    >>> pair_in(("y", "next"))
    'next'
    """
    return next((key for key in PAIRS if key in needs), "")


@dataclass(frozen=True)
class Training:
    """How a preset is trained unless the user says otherwise.

    steps.  batch: crops that are computed at once.  accumulate: batches per step; their gradients are averaged.
    crop: side of the square crops in pixels, 0 for whole images.  rate: peak learning
    rate.  clip: largest gradient norm, 0 for any.  ema: decay of the averaged weights, 0 for none.
    schedule: "cosine" or "constant".  augment: "flip" (left-right, which keeps the physics), "paper" or "none".
    gain: least and most dB by which simulated scenes are made brighter: users' scanners have a knob for it.
    precision: "fp32", or "bf16" for networks in bfloat16 and the rest in fp32.  compile: losses by torch.compile.
    screens: share of the scenes that are seen on the scanner's screen, where the phantom has a `display`.
    """

    steps: int = 20_000
    batch: int = 8
    accumulate: int = 1
    crop: int = 64
    rate: float = 1e-3
    clip: float = 1.0
    ema: float = 0.999
    schedule: str = "cosine"
    augment: str = "flip"
    gain: tuple[float, float] = (-20.0, 10.0)
    precision: str = "fp32"
    compile: bool = False
    screens: float = 0.0


class Method(nn.Module):
    """Base of all methods. Its keyword arguments are its settings; PRESETS names good ones.

    needs: keys of the batch that `loss` reads; empty for a filter.  looks: independent draws of a simulated scene that
    a training asks for.  domain: the scale it works on, see s2s.domain.
    bands: images of a scene that `infer` sees at once; `needs` holds the keys of all but the first, `y`.
    multiple, smallest: height and width that `infer` sees are multiples of the one, and not below the other.
    halo: an output pixel depends on no pixel further away than this; None when it depends on the whole image, so that
    it can't be tiled.
    IN_USE: settings that no weight depends on, which may be others when trained weights are used.
    TUNING: values of settings that `s2s tune` tries; the first key is the strength, in the order of more smoothing.
    fit_steps: steps for which fresh weights are fitted to what is cleaned; 0 for a filter, or weights trained before.
    holds_image: its weights are one image: they can't be trained on others, nor be shared by the frames of a clip.
    bytes_per_pixel: memory of a method that sees the whole image at once; measured: 60 lee, 140 srad, 210 the paper's
    speckle2self.
    exportable: `infer` is one fixed function of an image, which ONNX and TorchScript can hold.
    has_stages: what learns depends on how far a training is, so that it can't be brought to an early end.
    keeps_statistics: BatchNorm goes on with its statistics while its weights learn.
    scales_by_extremes: `infer` takes `extremes`, the darkest and the brightest pixel of the clip that the images belong
    to, and scales by them instead of by those of each image.
    name, preset, settings: filled in by `s2s.methods.make`.
    """

    needs: tuple[str, ...] = ("y",)
    looks: int = 2
    bands: Bands = ONE_BAND
    domain: ClassVar[Scale] = "db"
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"default": {}}
    TRAINING: ClassVar[dict[str, Training]] = {"default": Training()}
    IN_USE: ClassVar[tuple[str, ...]] = ()
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {}
    TRAINING_ONLY: ClassVar[tuple[str, ...]] = ()  # first letters of the parameters that `infer` does not use
    fit_steps: int = 0
    holds_image: ClassVar[bool] = False
    bytes_per_pixel: ClassVar[int] = 300
    exportable: bool = True
    has_stages: ClassVar[bool] = False
    keeps_statistics: bool = False
    multiple: int = 1
    smallest: int = 1
    halo: int | None = None
    scales_by_extremes: bool = False
    name: str = ""
    preset: str = ""
    settings: Mapping[str, Any]

    def train(self, mode: bool = True) -> Method:
        """As torch's; normalisations that keep their statistics go on using those they have."""
        super().train(mode)
        if self.keeps_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @classmethod
    def lacking(cls) -> str:
        """What has to be installed before the method can be used, and how; "" when nothing is missing."""
        return ""

    def uses(self, name: str) -> bool:
        """Whether `infer` uses the parameter or buffer of a name."""
        return not name.startswith(self.TRAINING_ONLY)

    def inference_state(self) -> dict[str, Tensor]:
        """The part of `state_dict` that `infer` uses."""
        return {name: value for name, value in self.state_dict().items() if self.uses(name)}

    def parameter_count(self) -> int:
        """Number of parameters that `infer` uses."""
        return sum(value.numel() for name, value in self.named_parameters() if self.uses(name))

    def fill_training_only(self) -> None:
        """Give the parts that weights for use alone leave out something to begin with, when training goes on."""

    def prepare(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """Further keys made once per whole image (H, W), before crops and flips; none by default."""
        return sample

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Scalar loss of a batch; progress in [0, 1] is how far the training is.

        Networks may give bfloat16: what they give is converted (`.to(y)`) before anything is subtracted from it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn")

    def optimizers(self, training: Training) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name; the loop scales their learning rates by its schedule."""
        return {"main": torch.optim.Adam(self.parameters(), lr=training.rate)}

    def step(
        self,
        batches: Sequence[dict[str, Tensor]],
        progress: float,
        optimizers: dict[str, torch.optim.Optimizer],
        descend: Descent,
    ) -> dict[str, float]:
        """One step of every optimiser on equally large batches; returns what is worth logging, `loss` at least.

        descend: steps an optimiser down the mean of a loss over the batches; it knows precision, devices and clipping.
        """
        (optimizer,) = optimizers.values()
        return descend(self.loss, batches, progress, optimizer)

    def infer(self, y: Tensor) -> Tensor:
        """Clean images (B, 1, H, W) of noisy ones (B, bands, H, W), both in `domain`."""
        raise NotImplementedError

    def is_fitted(self, losses: Sequence[float]) -> bool:
        """Whether a fit to an image may end before its steps are over; losses: of all steps so far."""
        return False

    def extras(self, y: Tensor) -> dict[str, Tensor]:
        """What else the method can tell about images, seen as `infer` sees them: noise maps, samples, in dB."""
        return {}

    @torch.no_grad()
    def tell(self, y: Tensor) -> dict[str, Tensor]:
        """`extras` on any size, as `denoise` is."""
        height, width = y.shape[-2:]
        self.eval()
        return {name: values[..., :height, :width] for name, values in self.extras(self.padded(y)).items()}

    @torch.no_grad()
    def denoise(self, y: Tensor, extremes: tuple[float, float] | None = None) -> Tensor:
        """`infer` on any size: sides are reflected until they fit, and cut back.

        extremes: of the clip that the images belong to, for a method that scales by them.
        """
        height, width = y.shape[-2:]
        padded = self.padded(y)
        self.eval()
        clean = self.infer(padded) if extremes is None else self.infer(padded, extremes=extremes)  # type: ignore[call-arg]
        return clean[..., :height, :width]

    def padded(self, y: Tensor) -> Tensor:
        """Images (B, bands, H, W) whose sides are reflected until they fit."""
        for axis in (-2, -1):
            side = y.shape[axis]
            wanted = max(-(-side // self.multiple) * self.multiple, self.smallest)
            if wanted > side:  # as often as it takes, which torch's own reflection refuses
                mirrored = np.pad(np.arange(side), (0, wanted - side), mode="reflect")
                y = y.index_select(axis, torch.from_numpy(mirrored).to(y.device))
        return y


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
