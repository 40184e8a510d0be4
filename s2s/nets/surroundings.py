"""A network whose output at a pixel depends on what lies around that pixel's speckle cell, and on nothing inside.

Laine, Karras, Lehtinen and Aila, "High-Quality Self-Supervised Deep Image Denoising" (NeurIPS 2019): four U-Nets, each
seeing one side only, above, below, left or right. Moved away by half the cell they see past it; layers of single
pixels join the four.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn


class Surroundings(nn.Module):
    """(B, 1, H, W) -> (B, 1, H, W); H and W multiples of 2^depth.

    hidden: rows and columns, odd, about each pixel, on which its output does not depend.  width: channels at full
    resolution, doubled twice.  depth: how often the resolution is halved.

    The output is the mean of what lies next to the cell plus a correction, which starts at zero.
    """

    def __init__(self, hidden: tuple[int, int], *, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.rows, self.columns = ((side + 1) // 2 for side in hidden)  # the nearest that is seen is so far away
        self.vertical, self.lateral = (OneSided(width, depth) for _ in range(2))
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((4 * width, 4 * width, 2 * width)):
            layers += [_initialised(nn.Conv2d(before, after, 1)), nn.LeakyReLU(0.1, inplace=True)]
        last = nn.Conv2d(2 * width, 1, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.join = nn.Sequential(*layers, last)
        self.multiple = 2**depth
        self.halo = max(self.rows, self.columns) + _reach(depth)

    def forward(self, x: Tensor) -> Tensor:
        """The estimate of every pixel from its surroundings."""
        turned = x.transpose(-1, -2)
        above, below = _both(self.vertical, x, self.rows)
        left, right = (side.transpose(-1, -2) for side in _both(self.lateral, turned, self.columns))
        return self.border(x) + self.join(torch.cat([above, below, left, right], 1))

    def border(self, x: Tensor) -> Tensor:
        """The mean of a frame about the hidden cell, as wide as half of it; of its part inside the image."""
        both = torch.cat([x, torch.ones_like(x)])
        sizes = [(2 * self.rows - 1, 2 * self.columns - 1), (4 * self.rows - 1, 4 * self.columns - 1)]
        inner, outer = (box_sum(both, rows, columns) for rows, columns in sizes)
        total, count = (outer - inner).chunk(2)
        return total / count.clamp_min(0.5)


class OneSided(nn.Module):
    """A U-Net whose output in a row depends on that row and those above it: (B, 1, H, W) -> (B, width, H, W)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        sizes = [width * min(2**level, 4) for level in range(depth + 1)]
        self.down = nn.ModuleList(
            nn.Sequential(_Upwards(a, b), _Upwards(b, b)) for a, b in zip([1, *sizes], sizes, strict=False)
        )
        self.widen = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in itertools.pairwise(sizes))
        self.up = nn.ModuleList(_Upwards(2 * a, a) for a in sizes[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, width, H, W)."""
        skips = []
        for level, block in enumerate(self.down):
            x = block(x)
            if level < len(self.up):
                skips.append(x)
                x = nn.functional.max_pool2d(_lowered(x, 1), 2)  # one row lower, or a pair would hold the row below
        for level in reversed(range(len(self.up))):
            x = self.up[level](torch.cat([skips[level], self.widen[level](x)], dim=1))
        return x


class _Upwards(nn.Module):
    """A 3 x 3 convolution that sees its own row and the two above it, and LeakyReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = _initialised(nn.Conv2d(before, after, 3))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.convolution(nn.functional.pad(x, (1, 1, 2, 0))), 0.1)


def blurred(x: Tensor, widths: tuple[float, float]) -> Tensor:
    """A Gaussian blur of (B, 1, H, W); widths: standard deviations in rows and columns, 0 for none; edges repeat."""
    for axis, width in zip((-2, -1), widths, strict=True):
        if width:
            far, side = reach(width), x.shape[axis]
            weights = torch.exp(-0.5 * (torch.arange(-far, far + 1, dtype=torch.float64) / width).square())
            edges = (0, 0, far, far) if axis == -2 else (far, far, 0, 0)
            padded = nn.functional.pad(x, edges, mode="replicate")
            x = torch.zeros_like(x)
            for start, weight in enumerate((weights / weights.sum()).tolist()):
                x = x + weight * padded.narrow(axis, start, side)
    return x


def reach(width: float) -> int:
    """Pixels from which a blur of this standard deviation takes something."""
    return math.ceil(3.0 * width)


def box_sum(x: Tensor, rows: int, columns: int) -> Tensor:
    """Sums over boxes of so many rows and columns, zero outside the image."""
    down = nn.functional.avg_pool2d(x, (rows, 1), 1, (rows // 2, 0))
    return nn.functional.avg_pool2d(down, (1, columns), 1, (0, columns // 2)) * (rows * columns)


def _both(net: nn.Module, x: Tensor, away: int) -> tuple[Tensor, Tensor]:
    """What `net` sees above each row, `away` rows from it, and below."""
    seen = _lowered(net(torch.cat([x, x.flip(-2)])), away)
    above, below = seen.chunk(2)
    return above, below.flip(-2)


def _lowered(x: Tensor, rows: int) -> Tensor:
    return nn.functional.pad(x, (0, 0, rows, 0))[..., : x.shape[-2], :]


def _initialised(convolution: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(convolution.weight, a=0.1)
    return convolution


def _reach(depth: int) -> int:
    """Pixels that a one-sided U-Net sees: 2 rows a convolution, 1 and the other of a pair a pooling, on every level."""
    down = sum((4 + 1 + 1) * 2**level for level in range(depth)) + 4 * 2**depth
    return down + sum((2 + 1) * 2**level for level in range(depth)) + 2**depth
