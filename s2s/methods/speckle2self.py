"""Speckle2Self: what an image and a perturbed copy of it can agree on is the anatomy.

Li, Navab and Jiang, "Speckle2Self: Self-Supervised Ultrasound Speckle Reduction Without Clean Data" (Medical Image
Analysis, 2025; arXiv 2507.06828) perturb by resampling to coarser scales and back: one encoder per scale and one
decoder for all reconstruct each copy from itself, and the reconstructions must agree. That is `preset="paper"`. The
speckle of the copies is correlated, so that the loss is least for an image that is still speckled ([why, and the
measurements](../speckle2self.md)). The default perturbs by hiding: every pixel is predicted, by a network that sees
the image at several scales, from what lies around the cell of its own speckle, and must agree with itself.

**Assumes** structure that is larger than a speckle cell, and speckle that is correlated over `hidden` rows and columns
at most.

**Needs** noisy images only: `y`. Training never sees a clean image.

**Loss** mean((f(y without the cell) - y)^2) over the speckle's variance. In use, what is too bright to be speckle is
kept: f + w(y - f) (y - f), where w is the probability that an excess is no speckle. With `target="own"` the paper's:
sum_k mean((f_k - y_k)^2) + sum_{i<j} mean|f_i - f_j| over the scales 1, 1/2, 1/4.

    s2s train --sim --method speckle2self --minutes 20 -o runs/speckle2self

`preset="paper"` is the published design: InstanceNorm everywhere, a head of InstanceNorm and ReLU, and images scaled by
their own minimum and maximum. It works on compressed envelopes; the exponent was not published, 0.4 is our guess.

**Reached** in 400 steps of four crops of 64 x 64 pixels, 45 s on one core, on eight unseen frames of `training`:
31.68 dB PSNR, 33.09 after a tone fit, and no point lost, where a Gaussian blur reaches 31.03 and 32.98 and points lose
21 dB, and the noisy frames have 19.89 and 26.85 (`benchmarks/speckle2self.py --scenes training --only "hidden 3 11"`).
Longer trainings go on getting better.

**Fails** by losing what is smaller than the hidden cell and no brighter than speckle. Where speckle is correlated
farther than the cell, as after magnifying, some of it stays. As published it loses points first, everything passing
through cells of 16 x 16 pixels, and forces a share of each image to black.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from s2s.domain import amplitude_to_db, db_to_amplitude, from_scale, to_scale
from s2s.methods.base import SPECKLE, Method, Training
from s2s.methods.bright import keep_bright
from s2s.methods.limits import cell_of, flag, number, one_of, whole
from s2s.methods.regression import MIDDLE, SPREAD
from s2s.nets.branches import Decoder, Encoder, Head, Norm
from s2s.nets.surroundings import Surroundings, blurred, reach

Interpolation = Literal["bilinear", "bicubic", "area", "nearest"]
#: What the choices of each setting are.
CHOICES = {
    "target": ("own", "others", "hidden"),
    "norm": ("batch", "instance", "group", "none"),
    "head": ("linear", "instance-relu"),
    "scaling": ("fixed", "minmax"),
    "interpolation": ("bilinear", "bicubic", "area", "nearest"),
}


def multi_scale(
    image: Tensor, scales: tuple[float, ...], interpolation: Interpolation = "bilinear", antialias: bool = False
) -> list[Tensor]:
    """Multi-scale perturbation: images (B, 1, H, W) resampled to each scale and back.

    As published: bilinear, and not antialiased, so that a coarse copy is sampled and not averaged.
    """
    height, width = image.shape[-2:]
    smooth = interpolation in ("bilinear", "bicubic")
    how: dict[str, Any] = {"mode": interpolation, **({"align_corners": False} if smooth else {})}
    copies = []
    for scale in scales:
        size = (max(round(height * scale), 1), max(round(width * scale), 1))
        small = nn.functional.interpolate(image, size=size, antialias=antialias and smooth, **how)
        copies.append(nn.functional.interpolate(small, size=(height, width), **how))
    return copies


class Speckle2Self(Method):
    """Self-supervised agreement between perturbed copies of one image.

    target: what is predicted: "hidden", every pixel of the image from what lies around the cell of its own speckle;
    "own", each resampled copy from itself, as published; "others", the other copies from each.

    hidden: rows and columns, odd, that "hidden" hides about each pixel: as far as speckle is correlated.  width:
    channels of its network at full resolution.  depth: how often that halves the resolution.  smooth: pixels, rows
    and columns, the standard deviations of a blur of what it predicts: neighbours are predicted from different
    cells.  keep: dB above its surroundings from which a pixel is kept because speckle is hardly ever so bright; 0
    keeps none.

    Of "own" and "others": norm: "batch" (fixed statistics after training), "instance" or "group" (over the image) or
    "none".  head: "linear" or "instance-relu".  scaling: "fixed" (constants) or "minmax" (each image by its own
    extremes).  scales: of the copies, the first is the image itself.  interpolation: of the copies, "bilinear",
    "bicubic", "area" or "nearest".  antialias: smooth before a copy is made smaller, bilinear or bicubic.  agreement:
    weight of the L1 terms.  skips: strides of the encoder, of 2, 4 and 8, whose features the decoder sees too.

    compression: 0 for images in dB, p for envelope^p with full scale 1.
    """

    IN_USE = ("keep",)
    # The defaults below are what a checkpoint means that does not name a setting; presets may change, they may not.
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {"target": "hidden"},
        "toy": {"target": "hidden", "hidden": (5, 9)},
        "paper": {"norm": "instance", "head": "instance-relu", "scaling": "minmax", "compression": 0.4},
    }
    TRAINING: ClassVar[dict[str, Training]] = {
        "default": Training(batch=4, crop=96),
        "toy": Training(steps=2_000, batch=4, rate=2e-3),
        "paper": Training(
            steps=50_000,
            batch=16,
            crop=0,
            rate=1e-3,
            clip=0.0,
            ema=0.0,
            schedule="constant",
            augment="paper",
            gain=(0.0, 0.0),
        ),
    }
    TRAINING_ONLY = ("coarse.",)

    def __init__(
        self,
        target: str = "own",
        hidden: tuple[int, int] = (5, 21),
        width: int = 16,
        depth: int = 3,
        smooth: tuple[float, float] = (1.2, 2.5),
        keep: float = 12.0,
        norm: Norm = "batch",
        head: Head = "linear",
        scaling: str = "fixed",
        compression: float = 0.0,
        scales: tuple[float, ...] = (1.0, 0.5, 0.25),
        interpolation: Interpolation = "bilinear",
        antialias: bool = False,
        agreement: float = 1.0,
        skips: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        for name, value in (("target", target), ("norm", norm), ("head", head), ("scaling", scaling)):
            one_of(name, value, CHOICES[name])
        one_of("interpolation", interpolation, CHOICES["interpolation"])
        if len(scales) < 2 or scales[0] != 1.0 or not all(0.0 < scale <= 1.0 for scale in scales):
            raise ValueError(f"scales {scales}: two or more in (0, 1] are needed, the first of them 1")
        if not all(number >= 0.0 for number in (compression, agreement, keep)):
            raise ValueError(f"compression {compression}, agreement {agreement}, keep {keep}: none may be negative")
        if not isinstance(skips, tuple | list) or not set(skips) <= {2, 4, 8}:
            raise ValueError(f"skips {skips!r}: a list of strides of the encoder is needed, of 2, 4 and 8")
        if not isinstance(smooth, tuple | list) or len(smooth) != 2:
            raise ValueError(f"smooth {smooth!r}: two numbers of pixels are needed, rows and columns")
        for pixels in smooth:
            number("smooth", pixels, 0.0, 8.0, "pixels")
        self.smooth = smooth
        self.target, self.keep, self.minmax, self.compression = target, keep, scaling == "minmax", compression
        self.scales, self.interpolation, self.antialias = scales, interpolation, flag("antialias", antialias)
        self.agreement, self.skips = agreement, skips
        width, depth, hidden = whole("width", width, 1, 256), whole("depth", depth, 1, 6), cell_of("hidden", hidden)
        self.net: Surroundings | None = None
        if target == "hidden":
            self.net = Surroundings(hidden, width=width, depth=depth)
            self.multiple, self.halo = self.net.multiple, self.net.halo + max(map(reach, smooth))
        else:
            self.encoder = Encoder(norm)
            self.coarse = nn.ModuleList(Encoder(norm) for _ in scales[1:])
            self.decoder = Decoder(norm, head)
            self.multiple, self.smallest = 16, 32  # below, one pixel would be left to take statistics of
            self.halo = 192 if norm in ("batch", "none") and head == "linear" else None
        if self.minmax:
            self.halo = None
        self.scales_by_extremes = self.minmax

    def prepare(self, sample: dict[str, Tensor]) -> dict[str, Tensor]:
        """The copies scale0, scale1, ... of the whole image `y`, each on the network's scale."""
        image = self._compress(sample["y"][None, None])
        scales = self.scales[:1] if self.net else self.scales
        copies = multi_scale(image, scales, self.interpolation, self.antialias)
        copies = [self._normalise(copy, _extremes(copy)) for copy in copies]
        return {f"scale{k}": copy[0, 0] for k, copy in enumerate(copies)}

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error of every pixel against itself, seen from outside; or the paper's terms over the copies."""
        if self.net:
            image = batch["scale0"]
            return (self.net(image).to(image) - image).square().mean() * (SPREAD / SPECKLE) ** 2
        copies = [batch[f"scale{k}"] for k in range(len(self.scales))]
        codes = [encoder.levels(copy) for encoder, copy in zip((self.encoder, *self.coarse), copies, strict=True)]
        # One pass for all branches, so that BatchNorm has one set of statistics, in training and in use.
        seen = self.decoder.join([torch.cat(level) for level in zip(*codes, strict=True)], self.skips)
        branches = seen.to(copies[0]).split(len(copies[0]))
        if self.target == "own":
            errors = [(a - b).square().mean() for a, b in zip(branches, copies, strict=True)]
        else:
            errors = [
                (branches[i] - copies[j]).square().mean() for i, j in itertools.permutations(range(len(copies)), 2)
            ]
        pairs = [(a - b).abs().mean() for a, b in itertools.combinations(branches, 2)]
        return torch.stack(errors).sum() + self.agreement * torch.stack(pairs).sum()

    def optimizers(self, training: Training) -> dict[str, torch.optim.Optimizer]:
        """Adam, with the paper's betas for the paper's network."""
        betas = (0.9, 0.999) if self.net else (0.5, 0.999)
        return {"main": torch.optim.Adam(self.parameters(), lr=training.rate, betas=betas)}

    def fill_training_only(self) -> None:
        """The coarse encoders begin as the full-scale one."""
        for encoder in [] if self.net else self.coarse:
            encoder.load_state_dict(self.encoder.state_dict())

    def infer(self, y: Tensor, extremes: tuple[float, float] | None = None) -> Tensor:
        """The full-scale branch, (B, 1, H, W) on the scale 1 + dB / 60.

        extremes: of the clip that the images belong to; None for those of each image.
        """
        image = self._compress(y)
        ends = _extremes(image) if extremes is None else self._compress(y.new_tensor(extremes)).unbind()
        given = self._normalise(image, ends)
        if self.net is None:
            return self._restore(self.decoder.join(self.encoder.levels(given), self.skips), ends)
        clean = self._restore(blurred(self.net(given).to(given), self.smooth), ends)
        return keep_bright(clean, y, self.keep) if self.keep else clean

    def _restore(self, clean: Tensor, ends: Sequence[Tensor]) -> Tensor:
        if not self.minmax:
            return self._expand(clean * SPREAD + MIDDLE)
        low, high = ends
        return self._expand(low + clean.clamp(0.0, 1.0) * (high - low))

    def _compress(self, y: Tensor) -> Tensor:
        return db_to_amplitude(self.compression * from_scale(y, "db")) if self.compression else y

    def _expand(self, values: Tensor) -> Tensor:
        return to_scale(amplitude_to_db(values) / self.compression, "db") if self.compression else values

    def _normalise(self, image: Tensor, ends: Sequence[Tensor]) -> Tensor:
        if not self.minmax:
            return (image - MIDDLE) / SPREAD
        low, high = ends
        return (image - low) / (high - low).clamp_min(1e-6)


def _extremes(image: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each image (B, 1, 1, 1)."""
    return image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
