"""Networks that tell real images from made ones, and the losses that go with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ImageCritic(nn.Module):
    """(B, channels, H, W) -> (B,): how real each image looks; any size of 16 pixels and more.

    Strided convolutions without normalisation, which a gradient penalty forbids, and their mean over the image.
    """

    def __init__(self, channels: int, *, width: int = 32, levels: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level in range(levels):
            after = width * 2**level
            layers += [nn.Conv2d(channels, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels = after
        self.body, self.last = nn.Sequential(*layers), nn.Linear(channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """One number for each image."""
        found: Tensor = self.last(self.body(images).mean((-2, -1)))[:, 0]
        return found


class PixelCritic(nn.Sequential):
    """(B, channels, H, W) -> (B, 1, H, W): how real each pixel looks among its neighbours, of 17 rows and columns."""

    def __init__(self, channels: int, *, width: int = 32) -> None:
        layers: list[nn.Module] = []
        for dilation in (1, 1, 2, 4):
            layers += [nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation), nn.LeakyReLU(0.2)]
            channels = width
        super().__init__(*layers, nn.Conv2d(width, 1, 1))


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor) -> Tensor:
    """Mean squared distance from 1 of the norm of a critic's gradient, between real and made images (B, C, H, W).

    Gulrajani et al., "Improved Training of Wasserstein GANs" (NeurIPS 2017): 0 for a linear critic of norm 1.
    """
    share = torch.rand((len(real), 1, 1, 1), device=real.device, dtype=real.dtype)
    between = (share * real + (1.0 - share) * made).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1.0).square().mean()


def relativistic(real: Tensor, made: Tensor) -> Tensor:
    """Loss of a critic that says how much more real the real pixels look than the made ones do on average, and back.

    Relativistic average loss (Jolicoeur-Martineau, 2018), of a critic's values; the maker's loss is that of the two
    exchanged.  2 log 2 where the critic can't tell.
    """
    softplus = nn.functional.softplus
    return softplus(made.mean() - real).mean() + softplus(made - real.mean()).mean()
