"""Mask and inpaint: blocks larger than a speckle cell are taken out of the image, and a U-Net fills them.

The idea of Mask2Restore: what is masked is so large that nothing of its speckle is left to be seen, and what can be
filled in is the anatomy. Blocks lie on a grid that is shifted, in learning at random, in use until every pixel has been
in the middle of one. So no pixel that comes out was seen by the network, in learning or in use.

**Assumes** speckle that is correlated over `cell` rows and columns at most, and structure that shows beside a block.

**Needs** noisy images only: `y`.

**Loss** mean((f(y without blocks, and where they are) - y)^2) over the middles of the blocks and the speckle's
variance, on 1 + dB / 60. A middle is farther than half a cell from everything that is seen.

    s2s train --sim --method inpaint --set cell=5,21 --minutes 20 -o runs/inpaint

**Reached** on toy scenes, noisy 20.65 dB PSNR, in 400 steps of `preset="toy"`, 63 s on one core: 28.22, and 28.76 after
a tone fit (`benchmarks/toy_denoise.py --method inpaint --steps 400`). The picture shows what two minutes on `training`
reach.

**Fails** by losing what is smaller than a block, points first (`keep` gives back what is too bright to be speckle). It
is slow: an image is filled `every` times `every`, 16 times. Neighbouring blocks are filled without looking at each
other, so that a grid may be seen.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from s2s.methods.base import SPECKLE
from s2s.methods.limits import cell_of, pair_of
from s2s.methods.masks import blocks, mean_over, places
from s2s.methods.regression import MIDDLE, SPREAD, Regression
from s2s.nets.surroundings import box_sum


class Inpaint(Regression):
    """A U-Net that fills blocks.

    cell: rows and columns, odd, over which speckle is correlated, both ways together.  middle: rows and columns in the
    middle of each block that are asked for; a block is larger by a cell.  every: blocks lie so many middles apart,
    down and across; in use that many places, down times across, are filled after each other.
    """

    needs = ("y",)
    channels = 2
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 24, "cell": (5, 9)},
        "paper": {},
    }

    def __init__(
        self,
        cell: tuple[int, int] = (5, 15),
        middle: tuple[int, int] = (4, 8),
        every: tuple[int, int] = (4, 4),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        rows, columns = cell_of("cell", cell)
        self.middle, self.every = pair_of("middle", middle, 1, 32), pair_of("every", every, 2, 32)
        self.margin = (rows // 2, columns // 2)
        self.block = (self.middle[0] + rows - 1, self.middle[1] + columns - 1)
        self.spacing = (self.middle[0] * self.every[0], self.middle[1] * self.every[1])
        if self.block[0] >= self.spacing[0] or self.block[1] >= self.spacing[1]:
            raise ValueError(
                f"every {self.every}: blocks of {self.block} pixels, {self.spacing} apart, leave nothing between them; "
                "choose a larger every or middle, or a smaller cell"
            )
        self.window = tuple(2 * spacing + 1 for spacing in self.spacing)
        self.multiple = math.lcm(self.multiple, *self.spacing)  # tiles begin where the grid does
        self.halo = self.net.halo + max(self.spacing)

    def fill(self, y: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W) with blocks filled, and the blocks' middles: bool of their shape.

        first: row and column of a middle's first pixel (B or 1, 2).
        """
        shift = torch.tensor(self.margin, device=y.device)
        hidden = blocks(y, self.spacing, self.block, first - shift)
        given = torch.where(hidden, self.around(y, ~hidden), y)
        seen = torch.cat([(given - MIDDLE) / SPREAD, hidden.to(y).expand_as(y)], 1)
        change = self.net(seen).to(y) * SPECKLE
        filled = given + change if self.residual else MIDDLE + change
        return filled, blocks(y, self.spacing, self.middle, first)

    def around(self, y: Tensor, seen: Tensor) -> Tensor:
        """The mean of what is seen in a window about each pixel of (B, 1, H, W)."""
        weights = seen.to(y).expand_as(y)
        total, weight = (box_sum(one, *self.window) for one in (y * weights, weights))
        return total / weight

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error of the middles."""
        y = batch["y"]
        filled, asked = self.fill(y, places(y, self.spacing))
        return mean_over(((filled - y) / SPECKLE).square(), asked)

    def estimate_for_use(self, y: Tensor) -> Tensor:
        """Every pixel as it was filled in when it lay in the middle of a block."""
        clean = torch.zeros_like(y)
        for down, across in itertools.product(*map(range, self.every)):
            first = torch.tensor([[down * self.middle[0], across * self.middle[1]]], device=y.device)
            filled, asked = self.fill(y, first)
            clean = torch.where(asked, filled, clean)
        return clean
