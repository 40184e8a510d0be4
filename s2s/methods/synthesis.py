"""What methods share that make noise beside removing it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2s.domain import RANGE_DB
from s2s.methods.base import SPECKLE
from s2s.methods.regression import Regression

#: Share of made images among those that a denoiser learns from, and the seed of noise in use.
_MADE, _SEED = 0.25, 2020


class Synthesis(Regression):
    """A denoiser with a generator, `made`; taught: steps that the generator has learned."""

    bytes_per_pixel = 1_100
    has_stages = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.register_buffer("taught", torch.zeros(()))

    def made(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images (B, 1, H, W) with noise, clipped to black and white, of clean ones.

        generator: of the CPU, else torch's own of the device.
        """
        raise NotImplementedError

    def error_with_made(self, batch: dict[str, Tensor], mixed: bool) -> Tensor:
        """Mean absolute error of the denoiser in units of speckle; mixed: a quarter of the noisy images is made."""
        x, y = batch["x"], batch["y"]
        count = round(_MADE * len(y)) if mixed else 0
        if count:
            with torch.no_grad():
                y = torch.cat([self.made(x[:count]), y[count:]])
        return ((self.estimate(y) - x) / SPECKLE).abs().mean()

    @torch.no_grad()
    def synthesise(self, x: Tensor, seed: int = 0) -> Tensor:
        """Clean images (B, 1, H, W) on the scale 1 + dB / 60 with speckle, the same for the same seed; any size."""
        height, width = x.shape[-2:]
        start = int(np.random.SeedSequence((_SEED, seed)).generate_state(1, np.uint64)[0] >> 1)
        return self.made(self.padded(x), torch.Generator().manual_seed(start))[..., :height, :width]

    def extras(self, y: Tensor) -> dict[str, Tensor]:
        """`synthetic_db`: the cleaned image (B, 1, H, W) with made speckle, in dB."""
        return {"synthetic_db": RANGE_DB * (self.synthesise(self.estimate(y)) - 1.0)}
