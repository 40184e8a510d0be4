"""The pool: the latest samples of a training, and the batches that are cut from them."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch
from torch import Tensor

from s2s.data import AnyFeed, Sample
from s2s.domain import to_scale
from s2s.methods.base import Method, Training
from s2s.ranks import ALONE, Ranks
from usim.errors import ConfigError
from usim.phantom.draw import addressed

#: Scenes that the first batch is cut from.
_FIRST_SCENES = 4
#: Random stream of a training, beside those of s2s.data and s2s.seeds.
_BATCH = 10


class Pool:
    """The latest samples, as tensors where they were made, and the batches cut from them.

    method: its `domain`, `prepare` and `multiple` shape the tensors.  capacity: scenes kept.  reuse: how often a pixel
    is shown on average before its scene leaves; it sets how many scenes a step asks for.  ranks: processes that share
    the crops of a step; each cuts its own.
    Raises ConfigError when crops do not fit the network, or images do not fit the crops.
    """

    def __init__(
        self,
        method: Method,
        training: Training,
        *,
        seed: int,
        capacity: int = 64,
        reuse: float = 4.0,
        ranks: Ranks = ALONE,
    ) -> None:
        self._method, self._training, self._seed = method, training, seed
        self._capacity, self._reuse = capacity, reuse
        own = training.batch * training.accumulate
        self._crops, self._own = own * ranks.world, range(own * ranks.rank, own * (ranks.rank + 1))
        if training.crop % method.multiple or 0 < training.crop < method.smallest:
            needed = f"multiples of {method.multiple}, {max(method.smallest, method.multiple)} at least"
            raise ConfigError(f"crop: {training.crop} pixels; {method.name} needs {needed}")
        self._scenes: deque[list[dict[str, Tensor]]] = deque(maxlen=capacity)
        self._taken = 0
        self.scene_shape: tuple[int, ...] = ()  # looks, H, W of the first scene; empty before it

    def start_at(self, step: int, scene_shape: tuple[int, ...]) -> int:
        """First scene that a pool going on at `step` must be fed; scene_shape: what the stopped pool had."""
        self.scene_shape = scene_shape
        self._taken = max(0, self._wanted(step) - self._capacity)
        return self._taken

    def _wanted(self, step: int) -> int:
        looks, height, width = self.scene_shape
        crop = self._training.crop**2 or height * width
        shown = self._crops * crop / (self._reuse * looks * height * width)
        return _FIRST_SCENES + math.floor(step * shown)

    def batch(self, step: int, feed: AnyFeed) -> dict[str, Tensor]:
        """This rank's share of what step number `step` learns from: (batch * accumulate, 1, crop, crop) by key."""
        while not self.scene_shape or self._taken < self._wanted(step):
            self._take(next(feed))
        crops = [self._crop(addressed(self._seed, _BATCH, step, number)) for number in self._own]
        return {key: torch.stack([crop[key] for crop in crops])[:, None] for key in crops[0]}

    def _take(self, scene: list[Sample]) -> None:
        shape = next(iter(scene[0].values())).shape
        self.scene_shape = self.scene_shape or (len(scene), *shape)
        side, multiple = self._training.crop, self._method.multiple
        found = f"images of {shape[0]} x {shape[1]} pixels"
        if min(shape) < side:
            fits, least = min(shape) // multiple * multiple, max(multiple, self._method.smallest)
            cure = f"choose --crop {fits}" if fits >= least else f"{self._method.name} needs {least} at least"
            raise ConfigError(f"crop: {found} are smaller than crops of {side}; {cure}")
        if not side and (shape[0] % multiple or shape[1] % multiple):
            raise ConfigError(f"crop: {found}; {self._method.name} needs multiples of {multiple}, or a --crop of them")
        if not side and shape != self.scene_shape[1:]:
            height, width = self.scene_shape[1:]
            raise ConfigError(f"crop: {found} among others of {height} x {width}; choose a --crop that fits in all")
        domain = self._method.domain
        # A slice is in several pairs, and must not be kept as often.
        every = {id(values): values for sample in scene for values in sample.values()}
        scaled = {place: torch.as_tensor(to_scale(values, domain)) for place, values in every.items()}
        samples = [{key: scaled[id(values)] for key, values in sample.items()} for sample in scene]
        self._scenes.append([self._method.prepare(sample) for sample in samples])
        self._taken += 1

    def _crop(self, random: np.random.Generator) -> dict[str, Tensor]:
        scene = self._scenes[random.integers(len(self._scenes))]
        sample = scene[random.integers(len(scene))]
        height, width = next(iter(sample.values())).shape
        side = self._training.crop
        top = random.integers(height - side + 1) if side else 0
        left = random.integers(width - side + 1) if side else 0
        cut = (slice(top, top + (side or height)), slice(left, left + (side or width)))
        pieces = {key: values[cut] for key, values in sample.items()}
        if self._training.augment == "paper":
            return _rotate_and_flip(pieces, random)
        mirrored = self._training.augment == "flip" and random.random() < 0.5
        return {key: values.flip(-1) if mirrored else values for key, values in pieces.items()}


def _rotate_and_flip(pieces: dict[str, Tensor], random: np.random.Generator) -> dict[str, Tensor]:
    """The augmentation of the Speckle2Self paper: each with probability 0.3, flips, and a shift, scale and rotation."""
    across, down, moved = random.random(3) < 0.3
    stack = torch.stack(list(pieces.values()))[None]
    if across:
        stack = stack.flip(-1)
    if down:
        stack = stack.flip(-2)
    if moved:
        shift, scale = random.uniform(-0.1, 0.1, 2), random.uniform(0.8, 1.2)
        angle = math.radians(random.uniform(-30.0, 30.0))
        height, width = stack.shape[-2:]
        cosine, sine, ratio = math.cos(angle) / scale, math.sin(angle) / scale, height / width
        matrix = torch.tensor([[[cosine, sine * ratio, 2 * shift[0]], [-sine / ratio, cosine, 2 * shift[1]]]])
        grid = torch.nn.functional.affine_grid(matrix.to(stack), list(stack.shape), align_corners=False)
        stack = torch.nn.functional.grid_sample(stack, grid, padding_mode="reflection", align_corners=False)
    return dict(zip(pieces, stack[0], strict=True))
