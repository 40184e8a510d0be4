"""What self-supervised methods hide from a network, and with what; drawn from torch's generator of the device.

The loop seeds that generator anew for each step, so that a training that goes on hides what it would have hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: The eight ordered pairs of neighbours in a block of 2 x 2 pixels, numbered row by row; none is diagonal.
PAIRS = ((0, 1), (0, 2), (1, 3), (2, 3), (1, 0), (2, 0), (3, 1), (3, 2))


def scattered(y: Tensor, box: int) -> Tensor:
    """One pixel drawn in every box x box pixels of images (B, 1, H, W): bool of their shape."""
    count, _, height, width = y.shape
    boxes = (count, -(-height // box), -(-width // box))
    chosen = nn.functional.one_hot(torch.randint(box**2, boxes, device=y.device), box**2)
    return nn.functional.pixel_shuffle(chosen.movedim(-1, 1).to(y), box)[..., :height, :width].bool()


def places(y: Tensor, spacing: tuple[int, int]) -> Tensor:
    """Where a grid of so many rows and columns begins, drawn for each image: whole numbers (B, 2)."""
    return torch.stack([torch.randint(step, (len(y),), device=y.device) for step in spacing], 1)


def blocks(y: Tensor, spacing: tuple[int, int], size: tuple[int, int], first: Tensor) -> Tensor:
    """Blocks of `size` pixels on a grid, one of which begins at row and column `first` (B or 1, 2).

    spacing: rows and columns from the beginning of a block to that of the next.  Returns bool (B or 1, 1, H, W).
    """
    inside = [
        (torch.arange(side, device=y.device) - start[:, None]) % step < length
        for side, start, step, length in zip(y.shape[-2:], first.unbind(1), spacing, size, strict=True)
    ]
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def phase(y: Tensor, period: int, number: int | Tensor) -> Tensor:
    """The pixels of one of the period^2 phases of a square grid: bool, to be broadcast to (B, 1, H, W)."""
    row, column = torch.arange(y.shape[-2], device=y.device), torch.arange(y.shape[-1], device=y.device)
    return (row % period)[:, None] * period + (column % period)[None, :] == number


def grown(mask: Tensor, cell: tuple[int, int]) -> Tensor:
    """A mask (B, 1, H, W) with a cell of odd rows and columns about each of its pixels."""
    rows, columns = cell
    return nn.functional.max_pool2d(mask.float(), cell, 1, (rows // 2, columns // 2)).bool()


def nearby(y: Tensor, reach: int) -> Tensor:
    """For each pixel of (B, 1, H, W) the value of another one, drawn from the square of 2 reach + 1 pixels about it."""
    side = 2 * reach + 1
    place = torch.randint(side**2 - 1, y.shape, device=y.device)
    place = place + (place >= side**2 // 2)  # never the middle
    height, width = y.shape[-2:]
    row = _moved(torch.arange(height, device=y.device)[:, None], place // side - reach, height)
    column = _moved(torch.arange(width, device=y.device)[None, :], place % side - reach, width)
    return y.flatten(2).gather(2, (row * width + column).flatten(2)).view_as(y)


def anywhere(y: Tensor) -> Tensor:
    """For each pixel of (B, 1, H, W) the value of one drawn from its whole image."""
    pixels = y.flatten(2)
    return pixels.gather(2, torch.randint(pixels.shape[2], pixels.shape, device=y.device)).view_as(y)


def donut(y: Tensor) -> Tensor:
    """For each pixel of (B, 1, H, W) the mean of its eight neighbours, corners with half the weight of sides.

    Batson and Royer (2019). At a border the mean of those neighbours that are inside the image.
    """
    weights = y.new_tensor([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])[None, None]
    total, weight = (nn.functional.conv2d(one, weights, padding=1) for one in (y, torch.ones_like(y[:1])))
    return total / weight


def draw_pairs(y: Tensor) -> Tensor:
    """A pair of neighbours in each block of 2 x 2 pixels of (B, 1, H, W): whole numbers (B, 2, H // 2, W // 2).

    The two numbers say which pixels of the block they are, 0 to 3 row by row; all eight ordered pairs are as likely.
    """
    count, _, height, width = y.shape
    drawn = torch.randint(len(PAIRS), (count, height // 2, width // 2), device=y.device)
    return torch.tensor(PAIRS, device=y.device)[drawn].movedim(-1, 1)


def sub_images(y: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The two images (B, 1, H // 2, W // 2) that `pairs` of `draw_pairs` take from images (B, 1, H, W)."""
    height, width = (side - side % 2 for side in y.shape[-2:])
    first, second = nn.functional.pixel_unshuffle(y[..., :height, :width], 2).gather(1, pairs).split(1, 1)
    return first, second


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of `values` where the mask is; 0 where it is empty."""
    mask = mask.expand_as(values).to(values)
    return (values * mask).sum() / mask.sum().clamp_min(1.0)


def _moved(start: Tensor, step: Tensor, side: int) -> Tensor:
    """start + step, or start - step where that is outside the image; both can't be, if it is not tiny."""
    there = start + step
    return torch.where((there < 0) | (there >= side), start - step, there).clamp(0, side - 1)
