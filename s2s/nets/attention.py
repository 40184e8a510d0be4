"""Transformer blocks on images: attention within windows, across them, over channels, and a gated layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s.nets.generators import ChannelAttention

#: Rows and columns of pixels that attend to each other, and of the block that they are taken from.
WINDOW, BLOCK = 8, 32
#: Pixels by which windows begin later in each pass over an image: borders that are always the same ones show in it.
_LATER = 11


class UTransformer(nn.Module):
    """(B, channels_in, H, W) -> (B, channels_out, H, W), sides multiples of 32: three resolutions, joined by skips.

    The last layer starts at zero.  width: channels at full resolution, doubled twice.
    """

    def __init__(self, channels_in: int, channels_out: int, *, width: int = 16) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width]
        self.first = nn.Conv2d(channels_in, width, 3, padding=1)
        self.blocks = nn.ModuleList(AttentionBlock(size, level) for level, size in enumerate(sizes))
        self.halve = nn.ModuleList(nn.Conv2d(size, 2 * size, 4, stride=2, padding=1) for size in sizes[:-1])
        self.widen = nn.ModuleList(nn.ConvTranspose2d(2 * size, size, 2, stride=2) for size in sizes[:-1])
        self.fuse = nn.ModuleList(nn.Conv2d(2 * size, size, 1) for size in sizes[:-1])
        self.after = nn.ModuleList(AttentionBlock(size, level) for level, size in enumerate(sizes[:-1]))
        self.last = nn.Conv2d(width, channels_out, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]
        self.multiple = BLOCK

    def forward(self, x: Tensor, stage: int = 0) -> Tensor:
        """What is added to an image; stage: how often the network has seen it before."""
        down, up = (_LATER * passed % BLOCK for passed in (2 * stage, 2 * stage + 1))
        x, skips = self.first(x), []
        for level, block in enumerate(self.blocks):
            x = block(x, down // 2**level)
            if level < len(self.halve):
                skips.append(x)
                x = self.halve[level](x)
        for level in reversed(range(len(self.halve))):
            x = self.fuse[level](torch.cat([skips[level], self.widen[level](x)], 1))
            x = self.after[level](x, up // 2**level)
        made: Tensor = self.last(x)
        return made


class AttentionBlock(nn.Module):
    """Attention within windows, then across them, then over channels, then a gated layer; each adds to its input.

    level: how often the resolution was halved.
    """

    def __init__(self, width: int, level: int) -> None:
        super().__init__()
        spacing = BLOCK // WINDOW // 2**level
        self.near, self.far = WindowAttention(width, 1), WindowAttention(width, spacing)
        self.channels = nn.Sequential(nn.Conv2d(width, width, 1), ChannelAttention())
        self.gated = GatedLayer(width)
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(4))

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(B, width, H, W), same shape; start: row and column in which windows begin."""
        near, far, channels, gated = self.norms
        x = x + self.near(near(x), start)
        x = x + self.far(far(x), start)
        x = x + self.channels(channels(x))
        x = x + self.gated(gated(x))
        return x


class WindowAttention(nn.Module):
    """Attention among 8 x 8 pixels that lie `spacing` rows and columns apart, with a bias for where they lie."""

    def __init__(self, width: int, spacing: int) -> None:
        super().__init__()
        self.spacing = spacing
        self.heads = next(count for count in range(max(1, width // 16), 0, -1) if width % count == 0)
        self.ask, self.answer = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.bias = nn.Parameter(torch.zeros(self.heads, (2 * WINDOW - 1) ** 2))
        place = torch.arange(WINDOW)
        apart = place[:, None] - place[None, :] + WINDOW - 1
        offsets = apart[:, None, :, None] * (2 * WINDOW - 1) + apart[None, :, None, :]
        self.register_buffer("offsets", offsets.reshape(WINDOW**2, WINDOW**2), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(B, width, H, W), same shape; sides multiples of 8 spacing.

        start: row and column in which windows begin; those beyond an edge hold pixels of the opposite one.
        """
        x = x.roll((-start, -start), (-2, -1)) if start else x
        count, width, height, columns = x.shape
        tall, wide = height // (WINDOW * self.spacing), columns // (WINDOW * self.spacing)
        cut = (count, 3, self.heads, width // self.heads, tall, WINDOW, self.spacing, wide, WINDOW, self.spacing)
        # to (3, B, blocks down and across, places in a cell of `spacing`, heads, 64 pixels, channels of a head)
        tokens = self.ask(x).reshape(cut).permute(1, 0, 4, 7, 6, 9, 2, 5, 8, 3)
        shape = tokens.shape
        asked, keys, values = tokens.reshape(3, -1, self.heads, WINDOW**2, width // self.heads)
        bias = self.bias[:, self.offsets].to(asked)
        found = nn.functional.scaled_dot_product_attention(asked, keys, values, attn_mask=bias)
        back = found.reshape(shape[1:]).permute(0, 5, 8, 1, 6, 3, 2, 7, 4)
        answered: Tensor = self.answer(back.reshape(x.shape))
        return answered.roll((start, start), (-2, -1)) if start else answered


class GatedLayer(nn.Module):
    """Two branches of depth-wise convolutions, one of which gates the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width, 4 * width, 1)
        self.near = nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width)
        self.leave = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W), same shape."""
        gate, values = self.near(self.enter(x)).chunk(2, 1)
        made: Tensor = self.leave(nn.functional.gelu(gate) * values)
        return made


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each pixel over its channels."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
