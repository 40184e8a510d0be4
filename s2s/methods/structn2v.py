"""structN2V: Noise2Void with the whole speckle cell about each asked pixel hidden.

Broaddus, Krull, Weigert, Schmidt and Myers, "Removing Structured Noise with Self-Supervised Blind-Spot Networks" (ISBI
2020). Where noise is correlated, a hidden pixel can be read off its neighbours; so everything that its noise is
correlated with is replaced too, by values drawn from the whole image.

**Assumes** that noise beyond `cell` tells nothing of the noise in its middle, and structure larger than that.

**Needs** noisy images only: `y`.

**Loss** mean((f(y with cells replaced) - y)^2) over the middles of the cells and the speckle's variance, on
1 + dB / 60.

    s2s train --sim --method structn2v --set cell=5,21 --minutes 20 -o runs/structn2v

**Reached** on toy scenes in 400 steps of `preset="toy"`, 50 s on one core: 28.55 dB PSNR, where noise2void reaches
21.17 and the noisy image has 20.65 (`benchmarks/toy_denoise.py --method structn2v --steps 400`). The picture shows
what two minutes on `training` converge to.

**Fails** by losing what is smaller than the cell; in use the network sees the cell that was hidden when it learnt, and
some of its speckle comes through.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from s2s.methods.limits import cell_of
from s2s.methods.masks import anywhere, blocks, grown, places
from s2s.methods.regression import HIDING, BlindSpot


class StructN2V(BlindSpot):
    """Noise2Void that hides a cell about each pixel it asks for.

    cell: rows and columns, odd, that are hidden about each pixel: as far as speckle is correlated, both ways.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {**HIDING, "toy": {**HIDING["toy"], "cell": (5, 9)}}

    def __init__(self, cell: tuple[int, int] = (5, 15), **settings: Any) -> None:
        super().__init__(**settings)
        self.cell = cell_of("cell", cell)

    def hide(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 1, H, W) with a lattice of cells replaced, and their middles."""
        rows, columns = self.cell
        spacing = (rows + (rows + 1) // 2, columns + (columns + 1) // 2)
        asked = blocks(y, spacing, (1, 1), places(y, spacing))
        return torch.where(grown(asked, self.cell), anywhere(y), y), asked
