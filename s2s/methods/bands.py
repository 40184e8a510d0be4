"""Bands: several images of one scene that a method sees at once, of which it cleans the first.

The others are the views that follow it, and after the last comes the first: of looks all are alike, and of the angles
of a compound scan each is cleaned with the help of those beside it.

>>> three = Bands(3, "angle")
>>> three.keys, three.after(4, views=5)
(('angle+1', 'angle+2'), (0, 1))
>>> Bands.among(("y", "x", *three.keys)) == three
True
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

#: In which part of a view (usim.phantom.views) bands may differ.
PARTS = ("look", "angle")
MOST_BANDS = 16


class Bands(NamedTuple):
    """How many images a method sees at once, and in which part of their view they differ."""

    count: int = 1
    part: str = "look"

    @classmethod
    def among(cls, needs: Collection[str]) -> Bands:
        """The bands among the keys of a batch."""
        for part in PARTS:
            if count := sum(key.startswith(f"{part}+") for key in needs):
                return cls(count + 1, part)
        return cls()

    @property
    def keys(self) -> tuple[str, ...]:
        """Batch keys of all bands but the first, which is `y`."""
        return tuple(f"{self.part}+{step}" for step in range(1, self.count))

    def after(self, number: int, views: int) -> tuple[int, ...]:
        """Numbers of the further bands of view `number` of so many; as many as there are, where they are too few."""
        return tuple((number + step) % views for step in range(1, min(self.count, views)))

    def stacked(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The bands (B, count, H, W) of a batch of images (B, 1, H, W)."""
        return torch.cat([batch[key] for key in ("y", *self.keys)], 1)

    def __str__(self) -> str:
        return f"{self.count} {self.part}{'s' if self.count > 1 else ''}"


#: What methods see that see one image at once.
ONE_BAND = Bands()
