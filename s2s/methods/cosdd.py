"""COSDD: noise is what a pixel's row foretells of it, and the signal is the rest.

Salmon and Krull, "Unsupervised Denoising for Signal-Dependent and Row-Correlated Imaging Noise" (WACV 2025, arXiv
2310.07887). A variational autoencoder whose decoder sees the pixels to the left: it can tell noise that is correlated
along rows, so that the latent code is left with what has two dimensions, the signal. A second decoder learns the mean
of the noisy images for a code, which is the clean image, and a plain network learns to give that mean at once.

**Assumes** noise of zero mean whose correlation runs along one `axis`. That of speckle is wider along the lateral
axis; what is left along the other is tolerated.

**Needs** noisy images only, a set of them.

**Loss** with s a draw of the code of y, q and p its laws with y known and not, g the second decoder and f the network:

    KL(q | p) per pixel - mean log p(y | s, pixels to the left)
        + mean((g(s) - y)^2) / speckle variance + mean((f(y) - g(s))^2) / speckle variance

The code learns nothing from g, and g nothing from f: gradients end there.

    s2s train --sim --method cosdd --minutes 20 -o runs/cosdd
    s2s train --data scans/ --method cosdd -o runs/mine

A decoder that saw the rows above too could tell the whole image, and the code would be left empty: the training ends
with an error when it is. Ours are a smaller ladder and decoder without normalisation, which sees 13 columns, two or
three cells, where the published one sees 40; and no latents finer than 8 pixels: speckle is correlated along columns
too, and finer ones hold it (with a small network 8.8 dB gained in 600 steps, 5.2 with `finest=2`; in 400 steps 5.9 with
`finest=2`, 3.8 with `finest=1` and 3.4 with `finest=0`).

In use the mean of `samples` draws; with `direct=true` the network, which knows no whole image and is faster:

    s2s denoise scan.png -m runs/cosdd:direct=true

**Tells** `spread_db`, the standard deviation of the draws in dB.

**Reached** on toy scenes, `preset="toy"`, 400 steps, 98 s on one core: 29.60 dB PSNR from noisy images alone, the noisy
image having 20.65 (`benchmarks/toy_denoise.py --method cosdd --steps 400`). The picture shows five minutes on one core:
`s2s train --sim training-any --method cosdd --minutes 5`.

**Fails** where structure runs along rows: the decoder foretells it, and takes it for noise. Points and wires fade:
latents of 8 pixels hardly tell them, as the picture shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s2s.domain import RANGE_DB
from s2s.methods.base import SPECKLE, Training
from s2s.methods.descent import Descent
from s2s.methods.limits import flag, one_of, whole
from s2s.methods.regression import MIDDLE, SPREAD, Regression
from s2s.nets.ladder import Ladder, RowDecoder
from usim.errors import DataError

AXES = ("lateral", "axial")
#: Nats per pixel below which the code holds nothing, the share of a training from which that is an error, and the seed
#: of draws in use.
EMPTY, _LATE, _SEED = 0.004, 0.3, 2310


class Cosdd(Regression):
    """A variational autoencoder whose decoder sees rows, and the network that it teaches.

    axis: along which noise is correlated, "lateral" or "axial".  direct: use the network, which is faster; else the
    mean of draws of the code.  samples: such draws.  levels: of the ladder, each of half the resolution.  finest: the
    first level that has latents, 0 for that of pixels.  code: channels of the ladder.  latents: of each level.  layers:
    of the decoder along rows, each five pixels.  parts: of its mixture.
    """

    needs = ("y",)
    bytes_per_pixel = 900
    IN_USE = (*Regression.IN_USE, "direct", "samples")
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 16, "code": 24},
        "paper": {"width": 64, "depth": 4, "code": 64, "latents": 32, "levels": 6, "finest": 0, "samples": 100},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(),
        "toy": Training(steps=2_000, batch=6),
        "paper": Training(batch=4, accumulate=4, crop=256, clip=0.0, ema=0.0, rate=2e-3, gain=(0.0, 0.0)),
    }

    def __init__(
        self,
        axis: str = "lateral",
        direct: bool = False,
        samples: int = 12,
        levels: int = 5,
        finest: int = 3,
        code: int = 32,
        latents: int = 8,
        layers: int = 3,
        parts: int = 3,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.axis, self.direct = one_of("axis", axis, AXES), flag("direct", direct)
        self.samples = whole("samples", samples, 1, 1000)
        levels, code = whole("levels", levels, 1, 8), whole("code", code, 1, 256)
        finest, latents = whole("finest", finest, 0, levels - 1), whole("latents", latents, 1, 128)
        self.ladder = Ladder(levels=levels, width=code, latents=latents, finest=finest)
        layers, parts = whole("layers", layers, 1, 8), whole("parts", parts, 1, 8)
        self.rows = RowDecoder(code, width=code, layers=layers, parts=parts)
        convolutions = [nn.Conv2d(code, code, 3, padding=1, padding_mode="replicate") for _ in range(3)]
        self.signal = nn.Sequential(
            *(layer for one in convolutions for layer in (one, nn.ReLU())), nn.Conv2d(code, 1, 3, padding=1)
        )
        self.multiple = math.lcm(self.net.multiple, self.ladder.multiple)
        self.exportable = self.direct
        if not self.direct:
            self.halo = None  # draws are of the whole image

    def step(
        self,
        batches: Sequence[dict[str, Tensor]],
        progress: float,
        optimizers: dict[str, torch.optim.Optimizer],
        descend: Descent,
    ) -> dict[str, float]:
        """One step; raises DataError when the code has become empty."""
        told = descend(self.terms, batches, progress, optimizers["main"])
        if progress > _LATE and told["nats"] < EMPTY:
            raise DataError(
                f"cosdd: the code holds {told['nats']:.2g} nats per pixel, nothing: the decoder foretells the images "
                "from their rows alone; begin again with fewer layers, a lower --rate or another --seed"
            )
        return told

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """What code, decoders and network have to learn; each from its own term."""
        return self.terms(batch, progress)[0]

    def terms(self, batch: dict[str, Tensor], progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and `nats`: what the code holds of a pixel, in nats."""
        y = self._turned(batch["y"])
        image = (y - MIDDLE) / SPREAD
        code, nats = self.ladder(image)
        clean = MIDDLE + SPREAD * self.signal(code.detach()).to(y)
        taught = self._turned(self.estimate(batch["y"])) - clean.detach()
        held = nats.to(y).mean()
        bound = held - self.rows.log_likelihood(image, code).mean()
        total = bound + ((clean - y) / SPECKLE).square().mean() + (taught / SPECKLE).square().mean()
        return total, {"nats": held}

    def draws(self, y: Tensor) -> Tensor:
        """Clean images of draws of the code, (samples, B, 1, H, W); the same for the same image."""
        generator = torch.Generator().manual_seed(_SEED)
        image = (self._turned(y) - MIDDLE) / SPREAD
        made = [self.signal(self.ladder(image, generator)[0]).to(y) for _ in range(self.samples)]
        return torch.stack([self._turned(MIDDLE + SPREAD * one) for one in made])

    def estimate_for_use(self, y: Tensor) -> Tensor:
        """What the network, or the mean of the draws, takes for the mean of `y`."""
        return self.estimate(y) if self.direct else self.draws(y).mean(0)

    def extras(self, y: Tensor) -> dict[str, Tensor]:
        """`spread_db`: standard deviation of the draws (B, 1, H, W), in dB."""
        return {"spread_db": RANGE_DB * self.draws(y).std(0, correction=0)}

    def _turned(self, y: Tensor) -> Tensor:
        return y if self.axis == "lateral" else y.transpose(-1, -2)
