"""NS-N2N: Noise2Noise between neighbouring slices, where they show the same.

Neighboring Slice Noise2Noise (arXiv 2411.10831): of a volume, each slice is the noisy target of the next one, and only
pixels whose tissue is alike in both are asked for. Two further terms tie the estimates together.

**Assumes** noise that is independent between slices; within a slice it may be correlated, as speckle is. And anatomy
that changes little from slice to slice: where it changes, nothing is learned but from other places.

**Needs** pairs, `pair=slice`: `next`, from phantoms with a `sweep`, our files, or neighbouring frames of clips;
`pair=angle`: `steered`, from phantoms with `angles`, or our files. No clean image, no second look.

**Loss** with a, b the two images, f the network, and W = 1 where box means of a and b differ by `tau` dB at most, over
the speckle's variance, on 1 + dB / 60:

    (sum W (f(a) - b)^2 + sum W (f(b) - a)^2) / (2 sum W)
        + consistency * mean(W (f(a) - f(b))^2)
        + continuity * mean((f((a + b) / 2) - (f(a) + f(b)) / 2)^2)

    s2s train --sim training-sweep --method ns-n2n --minutes 20 -o runs/ns-n2n
    s2s train --data volumes/ --method ns-n2n -o runs/mine

The published guide, non-local means and a median, leaves speckle in it, and W would be chance; box means of several
cells are ours. The paper's U-Net could not be read; settings of the loss are those of a follow-up that ran it again.

**Reached** on toy scenes whose neighbours are shifted by up to six pixels and share rho = 0.3 of their field, in 400
steps of `preset="toy"`, two minutes on one core of a busy machine: 31.10 dB PSNR, where `noise2noise` with the same
slices and `pair=slice` reaches 30.17, and with independent looks 31.43; noisy 20.65 (`benchmarks/toy_denoise.py
--steps 400 --method ns-n2n`, and `--method noise2noise --set pair=slice`). The picture shows 500 steps of
`preset="default"` on `training-sweep`.

**Fails** on slices so near to each other that they share their speckle: it keeps what they share (see `noise2noise`).
At edges that move from slice to slice W is 0, and what is learned there comes from edges elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from s2s.domain import RANGE_DB
from s2s.methods.base import SPECKLE
from s2s.methods.limits import cell_of, number
from s2s.methods.masks import mean_over
from s2s.methods.noise2noise import Noise2Noise
from s2s.nets.surroundings import box_sum


class NsN2N(Noise2Noise):
    """Regression on a neighbouring slice where it shows the same.

    pair: what makes the second image: "slice", the neighbouring slice; "angle", another steering angle.  guide: rows
    and columns, odd, of the box means that are compared.  tau: dB by which they may differ where tissue is taken for
    the same.  consistency: weight of the difference of the two estimates there.  continuity: weight of what the
    estimate of the images' mean lacks to the mean of the estimates.
    """

    needs = ("y", "next")

    def __init__(
        self,
        pair: str = "slice",
        guide: tuple[int, int] = (15, 15),
        tau: float = 3.6,
        consistency: float = 0.5,
        continuity: float = 1.0,
        **settings: Any,
    ) -> None:
        if pair == "look":
            raise ValueError("pair 'look': independent looks show the same everywhere; use noise2noise")
        super().__init__(pair=pair, **settings)
        self.guide, self.tau = cell_of("guide", guide), number("tau", tau, 0.0, 60.0, "dB")
        self.consistency = number("consistency", consistency, 0.0, 100.0)
        self.continuity = number("continuity", continuity, 0.0, 100.0)

    def prepare(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """The pair, and `matched` (H, W): 1 where both show the same tissue, 0 elsewhere."""
        pair = torch.stack([sample["y"], sample[self.second]])[:, None]
        first, second = box_mean(pair, self.guide)[:, 0]
        return {**sample, "matched": ((first - second).abs() <= self.tau / RANGE_DB).to(pair)}

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared errors across the pair where it is matched, and what ties the estimates together."""
        a, b, matched = batch["y"], batch[self.second], batch["matched"]
        of_a, of_b, of_mean = self.estimate(torch.cat([a, b, (a + b) / 2])).chunk(3)
        across = mean_over((of_a - b).square() + (of_b - a).square(), matched) / 2
        apart = (matched * (of_a - of_b).square()).mean()
        bend = (of_mean - (of_a + of_b) / 2).square().mean()
        return (across + self.consistency * apart + self.continuity * bend) / SPECKLE**2


def box_mean(images: Tensor, box: tuple[int, int]) -> Tensor:
    """Means of (B, 1, H, W) over boxes of odd sides about each pixel; borders are repeated."""
    rows, columns = box
    padded = nn.functional.pad(images, (columns // 2, columns // 2, rows // 2, rows // 2), mode="replicate")
    inside = box_sum(padded, rows, columns) / (rows * columns)
    height, width = images.shape[-2:]
    return inside[..., rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width]
