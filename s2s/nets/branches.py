"""Encoder and decoder of Speckle2Self: strided convolutions with residual blocks; skip connections if asked for.

Li, Navab and Jiang, "Speckle2Self" (2025). The channels 1-32-64-128-256, the residual block after every strided
convolution and the mirrored decoder give 3,910,785 parameters for one encoder and the decoder.
"""

from __future__ import annotations

import itertools
from typing import Literal

from torch import Tensor, nn

Norm = Literal["batch", "instance", "group", "none"]
Head = Literal["instance-relu", "linear"]
WIDTHS = (32, 64, 128, 256)


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))); unless the norm is that of the paper it starts as the identity."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation(channels, norm),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation(channels, norm),
        )
        if norm != "instance":  # which trains faster; InstanceNorm has no weight that could be zero
            last = self.body[-2 if norm == "none" else -1]
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]

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

    def levels(self, x: Tensor) -> list[Tensor]:
        """The features at strides 2, 4, 8 and 16."""
        found = []
        for layer in self:
            x = layer(x)
            if isinstance(layer, ResidualBlock):
                found.append(x)
        return found


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

    def join(self, levels: list[Tensor], skips: tuple[int, ...]) -> Tensor:
        """Decode the coarsest level; those whose stride is in `skips` are added to the decoder's own features."""
        x = levels[-1]
        stride = 2 ** len(levels)
        for layer in self:
            if isinstance(layer, ResidualBlock) and stride in skips:
                x = x + levels[stride.bit_length() - 2]
            x = layer(x)
            if isinstance(layer, nn.ConvTranspose2d):
                stride //= 2
        return x


def normalisation(channels: int, norm: Norm) -> nn.Module:
    """InstanceNorm without parameters, as published; BatchNorm, which uses fixed statistics after training; or others.

    With fixed statistics, or none, a pixel does not depend on what lies far away, so that tiles and video frames agree.
    GroupNorm has 8 groups with statistics of the image.
    """
    if norm == "none":
        return nn.Identity()
    if norm == "group":
        return nn.GroupNorm(8, channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.BatchNorm2d(channels)
