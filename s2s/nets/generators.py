"""Networks that make speckle: noise in dB with the law of speckle and a cell that is learned, and SMNet."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from s2s.domain import LOG_BIAS_DB, RANGE_DB

#: Least intensity that is told from zero, beside a mean of 1.
_LEAST = 1e-6


class Speckle(nn.Module):
    """Fully developed speckle on the scale 1 + dB / 60, of mean 0: white complex noise under a kernel that is learned.

    Its law is right whatever the kernel is: the logarithm of an exponential variable, of 5.57 dB.  cell: rows and
    columns of the kernel, odd.  widths: standard deviations of the Gaussian that it is at first.
    """

    def __init__(self, cell: tuple[int, int] = (9, 15), widths: tuple[float, float] = (0.7, 0.7)) -> None:
        super().__init__()
        rows, columns = (
            torch.exp(-0.5 * ((torch.arange(side) - side // 2) / width).square())
            for side, width in zip(cell, widths, strict=True)
        )
        self.kernel = nn.Parameter((rows[:, None] * columns)[None, None])

    def forward(self, white: Tensor) -> Tensor:
        """Speckle (B, 1, H, W) of white noise from `white`."""
        kernel = self.kernel / self.kernel.norm()
        count, _, height, width = white.shape
        field = nn.functional.conv2d(white.reshape(2 * count, 1, height, width), kernel).to(white)
        intensity = field.square().reshape(count, 2, *field.shape[-2:]).mean(1, keepdim=True)
        return (10.0 * torch.log10(intensity + _LEAST) + LOG_BIAS_DB) / RANGE_DB

    def white(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """White noise (B, 2, ...) for speckle of the size of images (B, 1, H, W), from a generator of the CPU if given.

        A generator's noise is the same for all images.
        """
        count, _, height, width = like.shape
        rows, columns = self.kernel.shape[-2:]
        sides = (height + rows - 1, width + columns - 1)
        if generator is None:
            return torch.randn((count, 2, *sides), device=like.device, dtype=like.dtype)
        return torch.randn((1, 2, *sides), generator=generator).to(like).expand(count, -1, -1, -1)


class SMNet(nn.Module):
    """(B, 1, H, W) -> (B, 1, H, W), sides multiples of 4: what turns simple noise into noise as it is.

    After PNGAN's generator: groups of blocks that see the image at three scales, with attention over channels; each
    group, and the whole, adds to what it was given.
    """

    multiple: ClassVar[int] = 4

    def __init__(self, *, width: int = 32, groups: int = 2, blocks: int = 2) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.groups = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1),
                *(MultiScale(width) for _ in range(blocks)),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(groups)
        )
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        """Images with another noise."""
        features = self.first(image)
        for group in self.groups:
            features = features + group(features)
        changed: Tensor = image + self.last(features)
        return changed


class MultiScale(nn.Module):
    """A block that sees its features at full, half and quarter resolution, each weighted channel by channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scales = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2), ChannelAttention())
            for _ in range(3)
        )
        self.join = nn.Conv2d(3 * width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, width, H, W), same shape."""
        seen = []
        for level, scale in enumerate(self.scales):
            small = nn.functional.avg_pool2d(features, 2**level) if level else features
            found = scale(small)
            if level:
                found = nn.functional.interpolate(found, scale_factor=2.0**level, mode="bilinear", align_corners=False)
            seen.append(found)
        joined: Tensor = features + self.join(torch.cat(seen, 1))
        return joined


class ChannelAttention(nn.Module):
    """v + v * sigmoid(a convolution over neighbouring channels' means)."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W), same shape."""
        weights = self.weigh(features.mean((-2, -1))[:, None])[:, 0].sigmoid()
        return features * (1.0 + weights[:, :, None, None])


#: Rows and columns between the pixels whose covariance is compared.
LAGS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (0, 4))


def moments(noise: Tensor) -> Tensor:
    """Mean and covariances at `LAGS` of each image of noise (B, 1, H, W): (B, 1 + lags)."""
    height, width = noise.shape[-2:]
    found = [noise.mean((1, 2, 3))]
    for row, column in LAGS:
        here, there = noise[..., : height - row, : width - column], noise[..., row:, column:]
        found.append((here * there).mean((1, 2, 3)))
    return torch.stack(found, 1)
