"""Encoder and decoder of Speckle2Self: strided convolutions with residual blocks, no skip connections.

Li, Navab and Jiang, "Speckle2Self" (2025). The channels 1-32-64-128-256, the residual block after every strided
convolution and the mirrored decoder give 3,910,785 parameters for one encoder and the decoder.
"""

from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn

Norm = Literal["batch", "instance"]
Head = Literal["instance-relu", "linear"]
WIDTHS = (32, 64, 128, 256)


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))); with BatchNorm it starts as the identity, which trains faster."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation(channels, norm),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation(channels, norm),
        )
        if norm == "batch":
            nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), same shape."""
        return x + self.body(x)


class Encoder(nn.Sequential):
    """(B, 1, H, W) -> (B, 256, H / 16, W / 16)."""

    def __init__(self, norm: Norm = "batch", widths: tuple[int, ...] = WIDTHS) -> None:
        layers: list[nn.Module] = []
        for before, after in zip((1, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), normalisation(after, norm), nn.ReLU()]
            layers.append(ResidualBlock(after, norm))
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """(B, 256, H / 16, W / 16) -> (B, 1, H, W).

    head: "instance-relu" as published, which forces a share of every image to black; "linear" leaves the values alone.
    """

    def __init__(self, norm: Norm = "batch", head: Head = "linear", widths: tuple[int, ...] = WIDTHS) -> None:
        layers: list[nn.Module] = [ResidualBlock(widths[-1], norm)]
        backwards = (*reversed(widths), 1)
        for before, after in itertools.pairwise(backwards):
            layers.append(nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1))
            if after > 1:
                layers += [normalisation(after, norm), nn.ReLU(), ResidualBlock(after, norm)]
        if head == "instance-relu":
            layers += [nn.InstanceNorm2d(1), nn.ReLU()]
        super().__init__(*layers)


def normalisation(channels: int, norm: Norm) -> nn.Module:
    """InstanceNorm without parameters, as published, or BatchNorm, which uses fixed statistics after training.

    With fixed statistics a pixel does not depend on what lies far away, so that tiles and video frames agree.
    """
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)
