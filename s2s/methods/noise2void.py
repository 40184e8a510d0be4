"""Noise2Void: a U-Net taught to find pixels that were replaced by a neighbour.

Krull, Buchholz and Jug, "Noise2Void: Learning Denoising from Single Noisy Images" (CVPR 2019). A few pixels of an image
take the value of another one nearby, and the network is asked for what they were. It can't know the noise there, so
that squared error has the mean for its minimum; in use it sees the image as it is.

**Assumes** noise that is independent from pixel to pixel. Speckle is not: a speckle cell is wider than a pixel, and the
neighbours tell what was hidden.

**Needs** noisy images only: `y`.

**Loss** mean((f(y with pixels replaced) - y)^2) over the replaced pixels and the speckle's variance, on 1 + dB / 60.

    s2s train --sim --method noise2void --minutes 20 -o runs/noise2void

**Reached** on toy scenes in 400 steps of `preset="toy"`, 46 s on one core: 32.20 dB PSNR where the speckle is white
and the noisy image has 20.68 (`benchmarks/toy_denoise.py --method noise2void --steps 400 --white`), and 21.17
where it is as wide as in an image and the noisy one has 20.65 (the same without `--white`). The picture shows what
two minutes on `training` converge to.

**Fails** on B-mode images, whose pixels are finer than their speckle: it learns to change nothing. There use
`structn2v` or `speckle2self`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s2s.methods.limits import whole
from s2s.methods.masks import nearby, scattered
from s2s.methods.regression import BlindSpot


class Noise2Void(BlindSpot):
    """Regression of replaced pixels on their surroundings.

    box: one pixel is replaced in every box x box; 8 is 1.6 %.  reach: rows and columns to the pixels whose values
    replace it; 2 is a square of 5 x 5.
    """

    def __init__(self, box: int = 8, reach: int = 2, **settings: Any) -> None:
        super().__init__(**settings)
        self.box, self.reach = whole("box", box, 2, 64), whole("reach", reach, 1, 16)

    def hide(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W) with scattered pixels replaced by others near them, and these pixels."""
        asked = scattered(y, self.box)
        return torch.where(asked, nearby(y, self.reach), y), asked
