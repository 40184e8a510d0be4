"""Training data: simulation made on the fly, or files, behind one interface and one order that never depends on timing.

A source turns scene numbers into samples; a feed makes them ahead of time in spawned processes, or in batches on a
device; a pool (s2s.pool) keeps the latest and cuts batches from them. Batch i is a function of the seed and i alone,
so that a resumed training goes on as if it had never stopped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from array_api_compat import array_namespace
from numpy.typing import NDArray
from torch import Tensor

from s2s.domain import RANGE_DB
from s2s.methods.bands import Bands
from s2s.methods.base import KEYS, PAIRS, pair_in
from s2s.ranks import ALONE, Ranks
from usim.batched import Batch, Batches
from usim.errors import ConfigError, UsimError
from usim.feed import Feed
from usim.phantom.draw import addressed
from usim.phantom.load import Phantom
from usim.phantom.schema import CloudFile
from usim.phantom.views import View
from usim.pipeline import Renderer

#: One look at one scene: arrays or tensors (H, W) in dB by batch key.
Sample = dict[str, NDArray[np.float32]] | dict[str, Tensor]
#: Targets keep this many dB below the black of the image, so that clipping hardly biases their mean.
BELOW_BLACK_DB = 10.0
#: Scenes that a device makes at once.
_AT_ONCE = 4
#: Random stream of a training, beside those of the simulator (s2s.pool has 10, s2s.seeds 11, 12, 14 and 15).
_GAIN = 13


class Source(Protocol):
    """Where samples come from; opened once in each process."""

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that makes the samples of scene number 0, 1, 2, ..."""


@dataclass(frozen=True)
class Simulation:
    """Scenes of a phantom without end, with what a method needs.

    phantom.  seed: of the simulator.  needs: keys to make.  looks: independent draws per scene, unless neighbouring
    slices or steering angles of one draw are needed; a further look costs a fraction of a new scene.  gain: least and
    most dB by which a scene is made brighter, as with the knob of a scanner; drawn anew for each.  screens: share of
    the scenes that are seen as their scanner's screen shows them, black at -60 dB; their truth is the expectation of
    that picture.
    """

    phantom: Phantom
    seed: int
    needs: tuple[str, ...]
    looks: int = 2
    gain: tuple[float, float] = (0.0, 0.0)
    screens: float = 0.0

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that simulates the samples of a scene.

        Raises ConfigError when the phantom can't give what is needed.
        """
        self.refuse_single_images()
        renderer = Renderer(self.phantom, seed=self.seed)

        def samples(index: int) -> list[Sample]:
            scene = renderer.stage(index).scene
            if self.draws_looks and isinstance(scene.scatterers, CloudFile):
                raise ConfigError(
                    f"{self.phantom.source}: scatterers.file: a cloud that is given has one look only, but pairs of "
                    "independent looks are needed; choose a model (field, plane, volume) or another method"
                )
            gain, shown = self.seen(index, scene.display is not None)
            images, truths = [], []
            for view in self.views:
                stage, image = renderer.stage(index, view), renderer.image(index, **view._asdict())
                truth = stage.truth.bmode if "x" in self.needs else None
                if shown:
                    white = stage.screen.full_scale
                    image = _on_scale(stage.screen.show(10.0 ** (image / 10.0)), white)
                    truth = None if truth is None else _on_scale(stage.shown, white)
                images.append(image)
                truths.append(truth)
            return self.samples(images, truths, gain, RANGE_DB if shown else scene.image.dynamic_range)

        return samples

    @property
    def pair(self) -> str:
        """The key of the second image of a pair; "" where none is needed."""
        return pair_in(self.needs)

    @property
    def bands(self) -> Bands:
        """What is to be seen at once."""
        return Bands.among(self.needs)

    @property
    def draws_looks(self) -> bool:
        """Whether several independent draws of a scene are needed."""
        return bool({"y2", "others", "look+1"} & set(self.needs))

    @property
    def part(self) -> str:
        """The part of a view in which the images of a scene differ."""
        return self.bands.part if self.bands.count > 1 else PAIRS.get(self.pair, "look")

    @property
    def views(self) -> list[View]:
        """The views of every scene: its looks, or the slices or angles of one."""
        count = self.looks if self.part == "look" else getattr(self.phantom.views, self.part)
        return [View(**{self.part: number}) for number in range(count)]

    def refuse_device(self) -> None:
        """Raise ConfigError where a device that simulates can't make what is needed."""
        if self.part != "look":
            what = f"a band of {self.bands}" if self.bands.count > 1 else KEYS[self.pair]
            raise ConfigError(f"simulate_on: {what} is made by the CPU only; leave it out")

    def refuse_single_images(self) -> None:
        """Raise ConfigError where pairs or several bands are needed and there are too few images of a scene."""
        if self.draws_looks and self.looks < 2:
            raise ConfigError(f"looks: {self.looks} of a scene make no pair of independent looks; choose 2 or more")
        wanted = self.bands.count + (self.bands.count > 1 and self.pair == "y2")
        if len(self.views) < wanted and self.part == "look":
            beside = ", and one more is learned from" if self.pair else ""
            raise ConfigError(
                f"looks: {self.looks} of a scene, but {self.bands} are seen at once{beside}; choose {wanted} or more"
            )
        refuse_bands(self.phantom, self.bands, f"{_CURES['steered']}, or choose fewer bands")
        if self.pair and len(self.views) < 2:
            part, cure = PAIRS[self.pair], _CURES[self.pair]
            raise ConfigError(
                f"{self.phantom.source}: has one {part}, but {KEYS[self.pair]} is to be learned from; {cure}, or "
                "choose another pair or method"
            )

    def seen(self, index: int, display: bool) -> tuple[float, bool]:
        """dB by which a scene is made brighter, and whether it is seen on its scanner's screen; display: it has one."""
        random = addressed(self.seed, _GAIN, index)
        gain = random.uniform(*self.gain)
        shown = bool(random.random() < self.screens) and display
        return (0.0 if shown else gain), shown

    def samples(self, images: Sequence[Any], truths: Sequence[Any], gain: float, dynamic_range: float) -> list[Sample]:
        """The samples of a scene from its views and their truths, (H, W) each in dB.

        truths: None where nobody needs them.
        """
        xp, black, bands = array_namespace(images[0]), -dynamic_range, self.bands
        seen = [xp.clip(image + gain, black, 0.0) for image in images]
        aims = [xp.clip(image + gain, black - BELOW_BLACK_DB, 0.0) for image in images]
        found: list[Sample] = []
        for number, other in partners(self.pair, len(images)):
            sample = {"y": seen[number]}
            sample |= {key: seen[k] for key, k in zip(bands.keys, bands.after(number, len(seen)), strict=True)}
            if self.pair:
                sample[self.pair] = aims[other]
            if "others" in self.needs:
                sample["others"] = (sum(aims) - aims[number]) / (len(aims) - 1)
            if truths[number] is not None:
                sample["x"] = xp.clip(truths[number] + gain, black - BELOW_BLACK_DB, 0.0)
            found.append(sample)
        return found


def refuse_bands(phantom: Phantom, bands: Bands, cure: str) -> None:
    """Raise ConfigError for a phantom whose scenes do not have so many images; cure: what gives it more angles."""
    if bands.count == 1:
        return
    if bands.part == "look" and not phantom.draws_looks:
        raise ConfigError(
            f"{phantom.source}: scatterers.file: a cloud that is given has one look only, but {bands} are to be seen "
            "at once; choose a model (field, plane, volume) or a method of one band"
        )
    if bands.part == "angle" and phantom.views.angle < bands.count:
        raise ConfigError(
            f"{phantom.source}: has {phantom.views.angle} of the {bands} that are to be seen at once; {cure}"
        )


#: What a phantom lacks that has one image where a pair is needed.
_CURES = {
    "y2": "raise looks",
    "next": "add sweep: {slices: 3, step: 1 mm} with scatterers: {model: volume}, or take --sim training-sweep",
    "steered": "add angles: [-10 deg, 10 deg] with transmit: {type: plane}, or take --sim training-angles",
}


def partners(pair: str, count: int) -> list[tuple[int, int]]:
    """Which of a scene's images are given, and what each is paired with; pair: key of the second, "" for none.

    Looks are all alike. Slices are paired with their neighbours, both ways round; angles with those half of them away,
    which share least of their speckle.

    >>> partners("next", 3)
    [(0, 1), (1, 0), (1, 2), (2, 1)]
    >>> partners("steered", 3)
    [(0, 1), (1, 0), (1, 2), (2, 1), (2, 0), (0, 2)]
    """
    if PAIRS.get(pair, "look") == "look":
        return [(number, (number - 1) % count) for number in range(count)]
    if pair == "next":
        one_way = [(number, number + 1) for number in range(count - 1)]
    else:
        one_way = [(number, (number + count // 2) % count) for number in range(count)]
    return list(dict.fromkeys(both for here, there in one_way for both in ((here, there), (there, here))))


def _on_scale(picture: Any, white: float) -> Any:
    """What a screen shows, in dB as a grey level linear in dB over 60 dB would have it."""
    xp = array_namespace(picture)
    return RANGE_DB * (xp.astype(picture, xp.float32) * (1.0 / white) - 1.0)


class DeviceFeed:
    """The samples of a simulation as tensors of a device, in order; see Feed.

    workers: processes that draw scenes and sample them on cells, which the device then images.
    """

    def __init__(self, source: Simulation, device: str, *, start: int = 0, workers: int = 1) -> None:
        source.refuse_single_images()
        source.refuse_device()
        first, self._skipped = divmod(start, _AT_ONCE)
        self._source, self._ready = source, deque[list[Sample]]()
        self._batches = Batches(
            source.phantom, device=device, seed=source.seed, scenes=_AT_ONCE, looks=source.looks,
            truth="x" in source.needs, workers=workers, start=first,
        )  # fmt: skip

    @property
    def waited(self) -> float:
        """Seconds in which nothing was trained, because scenes were waited for or the device imaged them."""
        return self._batches.waited

    @waited.setter
    def waited(self, seconds: float) -> None:
        self._batches.waited = seconds

    def __enter__(self) -> DeviceFeed:
        return self

    def __exit__(self, *error: Any) -> None:
        self._batches.__exit__(*error)

    def __next__(self) -> list[Sample]:
        if not self._ready:
            self._ready.extend(self._samples(next(self._batches)))
            for _ in range(self._skipped):
                self._ready.popleft()
            self._skipped = 0
        return self._ready.popleft()

    def _samples(self, batch: Batch) -> list[list[Sample]]:
        found = []
        for k, dynamic_range in enumerate(batch.dynamic_range):
            gain, shown = self._source.seen(batch.number * _AT_ONCE + k, batch.display is not None)
            images, truth = batch.bmode[k], None if batch.truth is None else batch.truth[k]
            if shown and batch.display is not None:
                dynamic_range, white = RANGE_DB, 255 if batch.display.dtype == torch.uint8 else 1
                images = _on_scale(batch.display[k], white)
                truth = None if batch.display_truth is None else _on_scale(batch.display_truth[k], white)
            images = tuple(images)
            found.append(self._source.samples(images, [truth] * len(images), gain, dynamic_range))
        return found


@dataclass(frozen=True)
class _Turns:
    """The scenes of a source that one of several ranks makes: `first`, and one of every `stride` from there."""

    source: Source
    first: int
    stride: int

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that makes this rank's scene number 0, 1, 2, ..."""
        make = self.source.open()
        return lambda index: make(self.first + index * self.stride)


class SharedFeed:
    """Scenes in order that ranks make in turn and all of them get; see Feed."""

    def __init__(self, source: Source, ranks: Ranks, *, start: int = 0, workers: int = 1) -> None:
        self._own = Feed(_Turns(source, start + ranks.rank, ranks.world), workers=workers)
        self._ranks, self._owner, self.waited = ranks, 0, 0.0

    def __enter__(self) -> SharedFeed:
        return self

    def __exit__(self, *error: Any) -> None:
        self._own.__exit__(*error)

    def __next__(self) -> list[Sample]:
        began, made = time.perf_counter(), None
        if self._owner == self._ranks.rank:
            try:
                made = next(self._own)
            except UsimError as error:  # one for all
                made = error
        item: list[Sample] | UsimError = self._ranks.give(made, self._owner)
        self._owner = (self._owner + 1) % self._ranks.world
        self.waited += time.perf_counter() - began
        if isinstance(item, UsimError):
            raise item
        return item


#: What hands scenes to a pool.
AnyFeed = Feed[list[Sample]] | DeviceFeed | SharedFeed


def feed_of(source: Source, device: str | None, *, start: int, workers: int, ranks: Ranks = ALONE) -> AnyFeed:
    """The samples of a source from scene `start` on; device: that simulates, None for processes of the CPU.

    Ranks share what the CPU makes; a device makes every scene for itself.
    """
    if device is not None and isinstance(source, Simulation):
        return DeviceFeed(source, device, start=start, workers=workers)
    if ranks.world > 1:
        return SharedFeed(source, ranks, start=start, workers=workers)
    return Feed(source, start=start, workers=workers)
