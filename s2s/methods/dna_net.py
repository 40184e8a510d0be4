"""DNA-Net: an optimisation for clean image and outliers, unrolled into a few stages whose prior is a transformer.

Zeng et al., the degradation-noise-aware unfolding transformer for hyperspectral images (arXiv 2305.04047). An image is
clean plus Gaussian noise plus a few outliers; of each stage's three steps two are formulas and one is a network, the
same in every stage, that is told how strong the noise is. All numbers that steer the stages come from the image.

**Assumes** y = x + s + n, n Gaussian, s sparse: the deep nulls of speckle in dB, glints, electronic lines.

**Needs** simulation, or our HDF5 files: `x`, the image without speckle. With `against=look` an independent look, `y2`;
with several bands the further looks or angles of a scene.

**Loss** mean sqrt((z - x)^2 + 1e-6) of the last stage in units of speckle, after `stages` rounds of

    x <- (y - s + mu z) / (1 + mu)        at first z = y, s = 0
    z <- T(x, beta)                       T(x, beta) = x + a U-shaped transformer of x and beta
    s <- soft(y - z, theta)               soft(v, t) = sign(v) max(|v| - t, 0)

with mu, beta and theta of each stage from a small network on y; theta is a twentieth of what it says, plus 3 times
the deviation of speckle, so that s can't swallow the noise.

    s2s train --sim --method dna-net --minutes 20 -o runs/dna
    s2s train --sim training-angles --method dna-net --set bands=2 --set part=angle -o runs/compound

Of the paper the abstract alone could be read: stages and network are built on what its family has published. The
bands of its images are one image here, or several of a scene, `bands`: independent looks, or steering angles. Each of
them has its own x, z and s; the first is what is cleaned and taught, and the views that follow it help. Then
`s2s denoise` takes files that hold them: see docs/denoise.md. With `--data`, stored angles, `--judge training-angles`
gives scores.

**Tells** `outliers_db`, s in dB.

**Reached** on toy scenes, `preset="toy"` (49,178 parameters), 400 steps, 182 s on one core: 31.32 dB PSNR, where
`noise2true` with 1.1 million parameters reaches 32.30 and the noisy image has 20.65 (`benchmarks/toy_denoise.py
--method dna-net --steps 400`). With three looks (`--set bands=3`): 31.71 dB after 186 s. The picture shows 500 steps of
`preset="default"` on `training-any`.

**Fails** as Noise2True does. In even tissue squares of 32 pixels show, those whose pixels attend to each other, and a
fine lattice: after 500 steps they can be seen in [the table's pictures](../results.md), though windows begin elsewhere
in each pass. The numbers that steer it depend on the whole image, so that it can't be cut into tiles.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from s2s.domain import RANGE_DB
from s2s.methods.bands import MOST_BANDS, PARTS, Bands
from s2s.methods.base import SPECKLE, Method, Training
from s2s.methods.limits import one_of, whole
from s2s.methods.poisson2sparse import soft
from s2s.methods.regression import MIDDLE, SPREAD
from s2s.methods.vdn import AGAINST
from s2s.nets.attention import UTransformer

#: Share of what the network says that the threshold of outliers is, beside its least in deviations of speckle.
_SHARE, _LEAST = 0.05, 3.0


class DnaNet(Method):
    """Stages of an unrolled optimisation.

    against: what it is taught with: "truth", or "look", an independent look.  bands: images of a scene that it sees at
    once.  part: in which they differ: "look" or "angle".  stages: of the optimisation.  width: channels of the
    transformer at full resolution.
    """

    needs = ("y", "x")
    bytes_per_pixel = 3_500
    exportable = False
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 8},
        "paper": {"width": 28, "stages": 5},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(),
        "toy": Training(steps=2_000, batch=4),
        "paper": Training(batch=4, crop=128, rate=2e-4, gain=(0.0, 0.0)),
    }

    def __init__(
        self, against: str = "truth", bands: int = 1, part: str = "look", stages: int = 3, width: int = 16
    ) -> None:
        super().__init__()
        self.target = AGAINST[one_of("against", against, AGAINST)]
        self.bands = Bands(whole("bands", bands, 1, MOST_BANDS), one_of("part", part, PARTS))
        if against == "look" and part != "look" and bands > 1:
            raise ValueError(f"against look: {self.bands} have no further look to be taught with; choose part=look")
        self.needs = ("y", self.target, *self.bands.keys)
        if part == "look":  # one more to be taught with
            self.looks = max(2, bands + (against == "look"))
        self.stages = whole("stages", stages, 1, 20)
        self.prior = UTransformer(bands + 1, bands, width=whole("width", width, 1, 128))
        self.steer = Steering(bands, self.stages)
        self.multiple = self.prior.multiple

    def infer(self, y: Tensor) -> Tensor:
        """(B, bands, H, W) -> (B, 1, H, W) on the scale 1 + dB / 60."""
        return self.solved(y)[0][:, :1]

    def solved(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Clean images and outliers (B, bands, H, W)."""
        z, s = y, torch.zeros_like(y)
        for stage, said in enumerate(self.steer((y - MIDDLE) / SPREAD).to(y).unbind(1)):
            mu, beta, theta = said.unbind(1)
            x = (y - s + mu * z) / (1.0 + mu)
            z = self.denoised(x, beta, stage)
            s = soft(y - z, SPECKLE * (_LEAST + _SHARE * theta))
        return z, s

    def denoised(self, x: Tensor, beta: Tensor, stage: int) -> Tensor:
        """What the prior makes of images in a stage, noise of beta (B, 1, 1, 1) being on them."""
        seen = torch.cat([(x - MIDDLE) / SPREAD, beta.expand_as(x[:, :1])], 1)
        return x + SPECKLE * self.prior(seen, stage).to(x)

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Error of the last stage in units of speckle, smooth about zero (Charbonnier)."""
        error = (self.infer(self.bands.stacked(batch)) - batch[self.target]) / SPECKLE
        return (error.square() + 1e-6).sqrt().mean()

    def extras(self, y: Tensor) -> dict[str, Tensor]:
        """`outliers_db`: what was taken for outliers (B, 1, H, W), in dB."""
        return {"outliers_db": RANGE_DB * self.solved(y)[1][:, :1]}


class Steering(nn.Module):
    """The positive numbers that steer each stage, from whole images: (B, bands, H, W) -> (B, stages, 3, 1, 1, 1)."""

    def __init__(self, bands: int, stages: int, width: int = 16) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(bands, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, stride=2, padding=1)
        )
        self.say = nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, 3 * stages))

    def forward(self, image: Tensor) -> Tensor:
        """mu, beta and theta of each stage."""
        said = nn.functional.softplus(self.say(self.see(image).mean((-2, -1)))) + 1e-6
        return said.reshape(len(image), -1, 3, 1, 1, 1)
