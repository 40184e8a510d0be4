"""Neighbor2Neighbor: Noise2Noise between neighbouring pixels of one image.

Huang, Li, Jia, Lu and Liu, "Neighbor2Neighbor: Self-Supervised Denoising from Single Noisy Images" (CVPR 2021). Of each
2 x 2 pixels one goes into one half-size image and a neighbour of it into another; one is asked for from the other. That
the two lie beside each other, so that their means differ, is made up for by a second term: they may differ as the
sub-images of the denoised image do.

**Assumes** noise that is independent from pixel to pixel. Speckle is not: neighbours share it.

**Needs** noisy images only: `y`.

**Loss** mean((u - g2)^2) + w t mean((u - g2 - (d1 - d2))^2) over the speckle's variance, on 1 + dB / 60: g1, g2 are the
sub-images of y, u = f(g1), d1, d2 the sub-images of f(y), without gradient, and t is how far the training is.

    s2s train --sim --method neighbor2neighbor --minutes 20 -o runs/neighbor2neighbor

**Reached** on toy scenes in 400 steps of `preset="toy"`, 32 s on one core: 32.65 dB PSNR where the speckle is white
and the noisy image has 20.68 (`benchmarks/toy_denoise.py --method neighbor2neighbor --steps 400 --white`), and 21.11
where it is as wide as in an image and the noisy one has 20.65 (the same without `--white`). The picture shows what
two minutes on `training` converge to.

**Fails** on speckle, which neighbours share; and, with a large `weight`, by smoothing too much.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s2s.methods.base import SPECKLE
from s2s.methods.limits import number
from s2s.methods.masks import draw_pairs, sub_images
from s2s.methods.regression import Regression


class Neighbor2Neighbor(Regression):
    """Regression of one sub-image on the other.

    weight: of the second term at the end of the training.
    """

    needs = ("y",)

    def __init__(self, weight: float = 2.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.weight = number("weight", weight, 0.0, 100.0)

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error between sub-images, and of the difference that they may have."""
        y = batch["y"]
        pairs = draw_pairs(y)
        first, second = sub_images(y, pairs)
        with torch.no_grad():
            clean = sub_images(self.padded_estimate(y), pairs)
        error = (self.padded_estimate(first) - second) / SPECKLE
        allowed = (clean[0] - clean[1]) / SPECKLE
        return error.square().mean() + self.weight * progress * (error - allowed).square().mean()
