"""A ladder of latent variables, and a decoder that sees a pixel's row to its left: the parts of COSDD."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Ladder(nn.Module):
    """Latent variables of an image at several resolutions, each given those of the coarser ones.

    After the ladder VAE (Sønderby et al., NeurIPS 2016): (B, 1, H, W), sides multiples of 2^(levels - 1), to what is
    drawn of it, (B, width, H, W), and the divergence of the latents' law from what the coarser ones foretell.
    finest: the first level that has latents; level 0 is that of pixels, and each further one halves the resolution.
    """

    def __init__(self, *, levels: int = 4, width: int = 32, latents: int = 8, finest: int = 0) -> None:
        super().__init__()
        self.finest, own = finest, range(levels - finest)
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.up = nn.ModuleList(Residual(width) for _ in range(levels))
        self.top = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.prior = nn.ModuleList(nn.Conv2d(width, 2 * latents, 3, padding=1) for _ in own)
        self.posterior = nn.ModuleList(nn.Conv2d(2 * width, 2 * latents, 3, padding=1) for _ in own)
        self.enter = nn.ModuleList(nn.Conv2d(latents, width, 1) for _ in own)
        self.down = nn.ModuleList(Residual(width) for _ in range(levels))
        self.multiple = 2 ** (levels - 1)

    def forward(self, image: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """A draw of the signal's code, and the divergence of each image in nats per pixel, (B,).

        generator: of the CPU, the same noise for all images; else torch's own of the device.
        """
        seen = [self.up[0](self.first(image))]
        for layer in self.up[1:]:
            seen.append(layer(nn.functional.avg_pool2d(seen[-1], 2)))
        state = self.top.expand_as(seen[-1])
        total = image.new_zeros(len(image))
        for level in reversed(range(len(seen))):
            if level >= self.finest:
                foretold = self.prior[level - self.finest](state).to(total).chunk(2, 1)
                known = self.posterior[level - self.finest](torch.cat([state, seen[level]], 1)).to(total).chunk(2, 1)
                mean, spread = known[0], positive(known[1])
                noise = torch.randn_like(mean) if generator is None else drawn(mean.shape, generator).to(mean)
                total = total + divergence(mean, spread, foretold[0], positive(foretold[1])).sum((1, 2, 3))
                state = state + self.enter[level - self.finest](mean + spread * noise)
            state = self.down[level](state)
            if level:
                state = nn.functional.interpolate(state, scale_factor=2.0, mode="bilinear", align_corners=False)
        return state, total / math.prod(image.shape[-2:])


class RowDecoder(nn.Module):
    """The law of each pixel, given the signal's code and the pixels to its left: a mixture of Gaussians.

    It can tell noise that is correlated along rows, but no structure of two dimensions, which the code must tell.
    layers: of causal convolutions over five columns; the first leaves out the pixel itself.
    """

    SPAN = 5

    def __init__(self, code: int, *, width: int = 32, layers: int = 3, parts: int = 3) -> None:
        super().__init__()
        self.rows = nn.ModuleList(nn.Conv2d(width if n else 1, width, (1, self.SPAN)) for n in range(layers))
        self.codes = nn.ModuleList(nn.Conv2d(code, width, 1) for _ in range(layers))
        self.last = nn.Conv2d(width, 3 * parts, 1)
        self.reach = layers * (self.SPAN - 1) + 1

    def forward(self, image: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of weights, means and standard deviations of the parts, (B, parts, H, W) each."""
        seen = nn.functional.pad(image, (1, 0, 0, 0))[..., :-1]
        for number, (row, of_code) in enumerate(zip(self.rows, self.codes, strict=True)):
            found = nn.functional.relu(row(nn.functional.pad(seen, (self.SPAN - 1, 0, 0, 0))) + of_code(code))
            seen = found + seen if number else found
        weights, means, spreads = self.last(seen).chunk(3, 1)
        return weights.log_softmax(1), means, positive(spreads)

    def log_likelihood(self, image: Tensor, code: Tensor) -> Tensor:
        """Of each pixel, (B, 1, H, W), in nats."""
        log_weights, means, spreads = self(image, code)
        away = (image - means) / spreads
        parts = log_weights - 0.5 * away.square() - spreads.log() - 0.5 * math.log(2.0 * math.pi)
        return parts.logsumexp(1, keepdim=True)


class Residual(nn.Module):
    """x + conv(mish(conv(mish(x)))), which begins as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.other = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.other.weight)
        nn.init.zeros_(self.other.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W), same shape."""
        changed: Tensor = x + self.other(nn.functional.mish(self.one(nn.functional.mish(x))))
        return changed


def positive(values: Tensor) -> Tensor:
    """softplus, and a thousandth: a standard deviation that is never 0."""
    return nn.functional.softplus(values) + 1e-3


def divergence(mean: Tensor, spread: Tensor, other_mean: Tensor, other_spread: Tensor) -> Tensor:
    """Kullback-Leibler divergence of N(mean, spread^2) from N(other_mean, other_spread^2), value by value."""
    ratio = (spread / other_spread).square()
    return 0.5 * (((mean - other_mean) / other_spread).square() + ratio - 1.0 - ratio.log())


def drawn(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard normal values, the same for all of a batch."""
    return torch.randn((1, *shape[1:]), generator=generator).expand(shape)
