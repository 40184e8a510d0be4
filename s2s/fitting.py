"""Fit a method to the images that it is to clean: the training loop on these images alone, from fresh weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from s2s.data import Sample
from s2s.methods import make
from s2s.methods.base import Method, Training
from s2s.pool import Pool
from s2s.train import Plan, State, fit
from usim.errors import ConfigError
from usim.feed import Feed

Image = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Given:
    """Noisy images (H, W) in dB as a source of samples (s2s.data.Source), over and over."""

    images: tuple[Image, ...]

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that gives the sample of an image."""
        return lambda index: [{"y": self.images[index % len(self.images)]}]


def fitted(
    method: Method,
    images: Sequence[NDArray[np.floating]],
    *,
    device: str = "cpu",
    seed: int = 0,
    watch: Callable[[float], None] = lambda share: None,
) -> Method:
    """Return a method like this one with fresh weights, fitted for `fit_steps` to images (H, W) in dB.

    watch: told after every step which share of them is made; what it raises ends the fit.
    The result depends on the images and the seed alone. Raises ConfigError for a method that can't learn from noisy
    images, DataError when its loss is no number any more.
    """
    if method.needs != ("y",) or not method.fit_steps:
        raise ConfigError(f"{method.name}: is not fitted to images; train it with s2s train")
    training = method.TRAINING[method.preset]
    shape = images[0].shape
    crop = _crop(method, training, min(shape))
    enough = tuple(-(-max(side, crop, method.smallest) // method.multiple) * method.multiple for side in shape)
    given = tuple(_padded(image, enough).astype(np.float32) for image in images)
    training = dataclasses.replace(training, crop=crop, steps=method.fit_steps)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(seed)
        fresh = make(method.name, method.preset, **method.settings)
        pool = Pool(fresh, training, seed=seed, capacity=len(given), reuse=float("inf"))
        state = State.fresh(fresh, training, device)
        plan = Plan(training, steps=method.fit_steps, seed=seed)
        losses: list[float] = []

        def listen(state: State, logs: dict[str, float]) -> None:
            losses.append(logs["loss"])
            if fresh.is_fitted(losses):
                plan.bring_forward(state.step, state.elapsed)
            watch(state.step / method.fit_steps)

        fit(state, plan, pool, Feed(Given(given), workers=0), listen)
    return state.average


def _crop(method: Method, training: Training, side: int) -> int:
    """Side of the crops: the preset's, or as much of it as there is, and never less than the network takes."""
    least = -(-method.smallest // method.multiple) * method.multiple
    return max(min(training.crop, side) // method.multiple * method.multiple, least) if training.crop else 0


def _padded(image: NDArray[np.floating], shape: tuple[int, ...]) -> NDArray[np.floating]:
    edges = [(0, wanted - side) for wanted, side in zip(shape, image.shape, strict=True)]
    return np.pad(image, edges, mode="reflect")
