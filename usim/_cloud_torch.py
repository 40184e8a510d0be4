"""Clouds of scatterers drawn on a device; they answer to draw_cloud in phantom/fill.py."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def draw_clouds(
    law: Tensor, most: Tensor, cells: Tensor, rarity: Tensor | None, lattice: tuple[float, float, float, float],
    looks: int, amplitudes: str, generator: Generator,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Poisson clouds in the plane, `looks` of each of B scenes: x, z in metres of beam space, amplitude; (B looks, N).

    law: (B, 5, D) at ascending depths: the depth, the mean number of scatterers above it, where they lie (x0, x1), and
    their mean square in 0 dB tissue.  most: (B,) the largest density of a scene.  cells: (B, R, J) echogenicity, that
    of the cell being every scatterer's in it.  rarity: (B, R, J) one over the density; None for 1.  lattice: (x, z) of
    the first cell's centre and the steps (dx, dz), metres.  amplitudes: "unit" or "gaussian".  Those that do not exist
    have amplitude 0.
    """
    device, scenes = cells.device, len(cells)
    depth, above, left, right, relative = (row.contiguous() for row in law.unbind(1))
    count = torch.poisson(above[:, -1:].expand(scenes, looks).contiguous(), generator=generator)
    size = (scenes, looks * max(int(count.max()), 1))
    place = torch.rand(size, generator=generator, device=device, dtype=torch.float64) * above[:, -1:]
    node = (torch.searchsorted(above, place, right=True) - 1).clamp(0, depth.shape[1] - 2)
    low = above.gather(1, node)
    share = (place - low) / (above.gather(1, node + 1) - low)

    def read(values: Tensor) -> Tensor:
        return torch.lerp(values.gather(1, node), values.gather(1, node + 1), share)

    z, start = read(depth), read(left)
    x = start + (read(right) - start) * torch.rand(size, generator=generator, device=device, dtype=torch.float64)
    row = ((z - lattice[1]) / lattice[3]).round().long().clamp(0, cells.shape[1] - 1)
    column = ((x - lattice[0]) / lattice[2]).round().long().clamp(0, cells.shape[2] - 1)
    cell = row * cells.shape[2] + column
    power = cells.flatten(1).gather(1, cell) * read(relative)
    number = torch.arange(size[1] // looks, device=device)
    kept = (number < count[:, :, None]).flatten(1)
    if rarity is not None:
        local = 1.0 / rarity.flatten(1).gather(1, cell)
        kept &= torch.rand(size, generator=generator, device=device) * most[:, None] < local
        power = power / local
    if amplitudes == "unit":
        sign = 2.0 * torch.randint(2, size, generator=generator, device=device) - 1.0
    else:
        sign = torch.randn(size, generator=generator, device=device)
    amplitude = torch.where(kept, sign * power.sqrt(), 0.0)
    return tuple(values.reshape(scenes * looks, -1) for values in (x, z, amplitude.float()))  # type: ignore[return-value]
