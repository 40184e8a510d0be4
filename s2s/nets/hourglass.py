"""The hourglass of Deep Image Prior: encoder and decoder with thin skip connections, normalised over each image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Hourglass(nn.Module):
    """(B, channels_in, H, W) -> (B, 1, H, W), from 0 to 1; H and W multiples of 2^depth.

    Ulyanov, Vedaldi and Lempitsky, "Deep Image Prior" (CVPR 2018).  width: channels of every level.  depth: how often
    the resolution is halved.  skip: channels that go past each level.
    """

    def __init__(self, channels_in: int = 32, *, width: int = 128, depth: int = 5, skip: int = 4) -> None:
        super().__init__()
        sizes = [channels_in, *[width] * depth]
        self.down = nn.ModuleList(
            nn.Sequential(_layer(before, width, stride=2), _layer(width, width)) for before in sizes[:-1]
        )
        self.past = nn.ModuleList(_layer(before, skip, kernel=1) for before in sizes[:-1])
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.InstanceNorm2d(width + skip, affine=True),
                _layer(width + skip, width),
                _layer(width, width, kernel=1),
            )
            for _ in range(depth)
        )
        self.last = nn.Conv2d(width, 1, 1)
        self.multiple = 2**depth

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, 1, H, W)."""
        skips = []
        for down, past in zip(self.down, self.past, strict=True):
            skips.append(past(x))
            x = down(x)
        for up, skip in zip(reversed(self.up), reversed(skips), strict=True):
            wide = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = up(torch.cat([wide, skip], 1))
        return self.last(x).sigmoid()


def _layer(before: int, after: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution, with borders reflected as published, normalised, and LeakyReLU.

    Batch normalisation of the one image that there is, in learning and in use, is normalisation over the image.
    """
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, padding_mode="reflect"),
        nn.InstanceNorm2d(after, affine=True),
        nn.LeakyReLU(0.2, inplace=True),
    )
