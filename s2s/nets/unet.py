"""A U-Net of plain convolutions: no normalisation, so that a tile and the whole image give the same pixels."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox 2015) on (B, channels_in, H, W); H and W multiples of fold 2^depth.

    width: channels at the first level, doubled at each further one, `widest` at most.  depth: how often the resolution
    is halved.  fold: blocks of fold x fold pixels become channels before the first level, and pixels after the last
    (Shi et al. 2016): speckle is wider than a pixel, and the first level costs most of the time.
    The last layer starts at zero: a network that predicts a correction begins with none.
    """

    def __init__(
        self,
        channels_in: int = 1,
        channels_out: int = 1,
        *,
        width: int = 32,
        depth: int = 3,
        fold: int = 1,
        widest: int = 1 << 16,
    ) -> None:
        super().__init__()
        if not 1 <= depth <= 6 or width < 1:
            raise ValueError(f"width {width}, depth {depth}: width must be at least 1 and depth 1 to 6")
        sizes = [min(width * 2**level, max(widest, width)) for level in range(depth + 1)]
        self.fold = fold
        channels_in, channels_out = channels_in * fold**2, channels_out * fold**2
        self.down = nn.ModuleList(_block(a, b) for a, b in zip([channels_in, *sizes], sizes, strict=False))
        self.widen = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in itertools.pairwise(sizes))
        self.up = nn.ModuleList(_block(2 * a, a) for a in sizes[:-1])
        self.last = nn.Conv2d(width, channels_out, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.multiple = fold * 2**depth
        self.halo = fold * _halo(depth) + fold - 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H, W)."""
        *skips, x = self.features(x)
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([skips[level], self.widen[level](x)], dim=1))
        x = self.last(x)
        return nn.functional.pixel_shuffle(x, self.fold) if self.fold > 1 else x

    def features(self, x: Tensor) -> list[Tensor]:
        """What is seen of (B, channels_in, H, W) at each level, from the finest to the coarsest."""
        if self.fold > 1:
            x = nn.functional.pixel_unshuffle(x, self.fold)
        seen = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            seen.append(x)
        return seen


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a in (channels_in, channels_out):
        convolution = nn.Conv2d(a, channels_out, 3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, a=0.1)
        layers += [convolution, nn.LeakyReLU(0.1, inplace=True)]
    return nn.Sequential(*layers)


def _halo(depth: int) -> int:
    """Pixels that the receptive field reaches: two 3x3 convolutions on every level, down and up, and the pooling."""
    return sum(2 * 2 * 2**level for level in range(depth)) + 2 * 2**depth + 2**depth - 1
