"""Training data: simulation made on the fly, or files, behind one interface and one order that never depends on timing.

A source turns scene numbers into samples; a feed makes them ahead of time in spawned processes; a pool keeps the latest
and cuts batches from them. Batch i is a function of the seed and i alone, so that a resumed training goes on as if
it had never stopped.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from s2s.domain import to_scale
from s2s.methods.base import Method, Training
from usim.errors import ConfigError, ResourceError, UsimError
from usim.phantom.draw import addressed
from usim.phantom.load import Phantom
from usim.phantom.schema import CloudFile
from usim.pipeline import Renderer
from usim.workers import spawning

#: One look at one scene: arrays (H, W) in dB by batch key.
Sample = dict[str, NDArray[np.float32]]
#: Targets keep this many dB below the black of the image, so that clipping hardly biases their mean.
BELOW_BLACK_DB = 10.0
#: Scenes that the first batch is cut from.
_FIRST_SCENES = 4
#: Random streams of a training, beside those of the simulator (s2s.seeds has 11, 12, 14 and 15).
_BATCH, _GAIN = 10, 13


class Source(Protocol):
    """Where samples come from; opened once in each process."""

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that makes the samples of scene number 0, 1, 2, ..."""


@dataclass(frozen=True)
class Simulation:
    """Scenes of a phantom without end, with what a method needs.

    phantom.  seed: of the simulator.  needs: keys to make.  looks: independent draws per scene; a further look at a
    scene costs a fraction of a new scene.  gain: least and most dB by which a scene is made brighter, as with the knob
    of a scanner; drawn anew for each.
    """

    phantom: Phantom
    seed: int
    needs: tuple[str, ...]
    looks: int = 2
    gain: tuple[float, float] = (0.0, 0.0)

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that simulates the samples of a scene.

        Raises ConfigError when the phantom can't give independent looks.
        """
        if "y2" in self.needs and self.looks < 2:
            raise ConfigError(f"looks: {self.looks} of a scene make no pair of independent looks; choose 2 or more")
        renderer = Renderer(self.phantom, seed=self.seed)

        def samples(index: int) -> list[Sample]:
            scene = renderer.stage(index).scene
            if "y2" in self.needs and isinstance(scene.scatterers, CloudFile):
                raise ConfigError(
                    f"{self.phantom.source}: scatterers.file: a cloud that is given has one look only, but pairs of "
                    "independent looks are needed; choose a model (field, plane, volume) or another method"
                )
            black = -scene.image.dynamic_range
            gain = np.float32(addressed(self.seed, _GAIN, index).uniform(*self.gain))
            images = [np.minimum(renderer.image(index, look) + gain, 0.0) for look in range(self.looks)]
            truth = renderer.stage(index).truth.bmode + gain if "x" in self.needs else None
            found = []
            for look, image in enumerate(images):
                sample = {"y": np.maximum(image, black)}
                if "y2" in self.needs:
                    sample["y2"] = np.maximum(images[look - 1], black - BELOW_BLACK_DB)
                if truth is not None:
                    sample["x"] = np.clip(truth, black - BELOW_BLACK_DB, 0.0)
                found.append(sample)
            return found

        return samples


class _Scenes(IterableDataset[Any]):
    """The scenes from `start` on, dealt to the workers in turn."""

    def __init__(self, source: Source, start: int) -> None:
        self.source, self.start = source, start

    def __iter__(self) -> Iterator[list[Sample] | UsimError]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        try:
            make = self.source.open()
            for index in itertools.count(self.start + first, stride):
                yield make(index)
        except UsimError as error:
            yield error  # the loader would wrap it in a traceback


def _belong_to_parent(line: Connection, worker: int) -> None:
    """Leave Ctrl-C to the parent, and end at once when it closes its end of `line` or is gone.

    torch's own watch over the parent is not enough: a worker that has found it dead waits at its exit for ever until
    somebody reads the samples that still lie in its pipe (seen after kill -9 with torch 2.13).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv()
    os._exit(0)


def _as_it_is(samples: Any) -> Any:
    return samples


class Feed:
    """Scenes in order, made ahead of time in `workers` spawned processes, or when asked for with none.

    As a context it ends its workers, and names the loss of one: torch raises that anywhere in the main thread.
    waited: seconds that the consumer has spent waiting.
    """

    def __init__(self, source: Source, *, start: int = 0, workers: int = 1, ahead: int = 4) -> None:
        options: dict[str, Any] = {}
        theirs, self._line = Pipe(duplex=False)
        if workers:
            options = {
                "multiprocessing_context": "spawn",
                "prefetch_factor": ahead,
                "worker_init_fn": functools.partial(_belong_to_parent, theirs),
            }
        loader = DataLoader(_Scenes(source, start), None, num_workers=workers, collate_fn=_as_it_is, **options)
        with spawning():
            self._items = iter(loader)
        theirs.close()
        self.waited = 0.0

    def close(self) -> None:
        """End the workers at once, whatever they are doing."""
        self._line.close()
        self._items = iter(())

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
            raise ResourceError(
                "a process that makes data was ended from outside, perhaps for want of memory; "
                "go on with --resume and fewer --workers"
            ) from error

    def __next__(self) -> list[Sample]:
        start = time.perf_counter()
        item: list[Sample] | UsimError = next(self._items)
        self.waited += time.perf_counter() - start
        if isinstance(item, UsimError):
            raise item
        return item


class Pool:
    """The latest samples, and the batches cut from them.

    method: its `domain`, `prepare` and `multiple` shape the tensors.  capacity: scenes kept.  reuse: how often a pixel
    is shown on average before its scene leaves; it sets how many scenes a step asks for.
    Raises ConfigError when crops do not fit the network, or images do not fit the crops.
    """

    def __init__(
        self, method: Method, training: Training, *, seed: int, capacity: int = 64, reuse: float = 4.0
    ) -> None:
        self._method, self._training, self._seed = method, training, seed
        self._capacity, self._reuse = capacity, reuse
        if training.crop % method.multiple or 0 < training.crop < method.smallest:
            needed = f"multiples of {method.multiple}, {max(method.smallest, method.multiple)} at least"
            raise ConfigError(f"crop: {training.crop} pixels; {method.name} needs {needed}")
        self._scenes: deque[list[Sample]] = deque(maxlen=capacity)
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
        shown = self._training.batch * crop / (self._reuse * looks * height * width)
        return _FIRST_SCENES + math.floor(step * shown)

    def batch(self, step: int, feed: Feed) -> dict[str, Tensor]:
        """Batch number `step`: tensors (B, 1, crop, crop) by key."""
        while not self.scene_shape or self._taken < self._wanted(step):
            self._take(next(feed))
        random = addressed(self._seed, _BATCH, step)
        crops = [self._crop(random) for _ in range(self._training.batch)]
        return {key: torch.from_numpy(np.stack([crop[key] for crop in crops])[:, None]) for key in crops[0]}

    def _take(self, scene: list[Sample]) -> None:
        shape = scene[0]["y"].shape
        self.scene_shape = self.scene_shape or (len(scene), *shape)
        side, multiple = self._training.crop, self._method.multiple
        found = f"images of {shape[0]} x {shape[1]} pixels"
        if min(shape) < side:
            raise ConfigError(f"crop: {found} are smaller than crops of {side}")
        if not side and (shape[0] % multiple or shape[1] % multiple):
            raise ConfigError(f"crop: {found}; {self._method.name} needs multiples of {multiple}, or a --crop of them")
        if not side and shape != self.scene_shape[1:]:
            height, width = self.scene_shape[1:]
            raise ConfigError(f"crop: {found} among others of {height} x {width}; choose a --crop that fits in all")
        scaled = [{key: to_scale(values, self._method.domain) for key, values in look.items()} for look in scene]
        self._scenes.append([self._method.prepare(sample) for sample in scaled])
        self._taken += 1

    def _crop(self, random: np.random.Generator) -> Sample:
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
        mirrored = random.random() < 0.5
        return {key: np.ascontiguousarray(values[:, ::-1] if mirrored else values) for key, values in pieces.items()}


def _rotate_and_flip(pieces: Sample, random: np.random.Generator) -> Sample:
    """The augmentation of the Speckle2Self paper: each with probability 0.3, flips, and a shift, scale and rotation."""
    across, down, moved = random.random(3) < 0.3
    stack = torch.from_numpy(np.stack(list(pieces.values())))[None]
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
        grid = torch.nn.functional.affine_grid(matrix.float(), list(stack.shape), align_corners=False)
        stack = torch.nn.functional.grid_sample(stack, grid, padding_mode="reflection", align_corners=False)
    return dict(zip(pieces, stack[0].contiguous().numpy(), strict=True))
