"""Frames and batches without end, simulated as they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from usim.engines.psf_device import device_of
from usim.frame import Frame
from usim.phantom.load import load_phantom
from usim.pipeline import Renderer

if TYPE_CHECKING:
    from usim.batched import Batches
    from usim.phantom.load import Phantom


def stream(phantom: Phantom | str | Path, *, seed: int | None = None) -> Iterator[Frame]:
    """Return the endless sequence of frames 0, 1, 2, ... of a phantom; each is simulated when it is asked for.

    phantom: what load_phantom returns, or a path or name for it. seed: an integer; None takes the phantom's own.
    Frame i is bit for bit `simulate(phantom, seed=seed, index=i)` and what `usim generate` stores as frame i.

    Raises ConfigError at once when the phantom is not usable.

    >>> import itertools
    >>> for frame in itertools.islice(usim.stream("training", seed=1), 10):  # doctest: +SKIP
    ...     train_on(frame.bmode, frame.truth.bmode)
    """
    if isinstance(phantom, (str, Path)):
        phantom = load_phantom(phantom)
    renderer = Renderer(phantom, seed=seed)
    return (renderer.frame(index) for index in itertools.count())


def batches(
    phantom: Phantom | str | Path, *, device: str = "cpu", seed: int | None = None, scenes: int = 16, looks: int = 1,
    truth: bool = True, workers: int = 0,
) -> Batches:  # fmt: skip
    """Return the endless sequence of batches of a phantom's images, made on a torch device.

    phantom: what load_phantom returns, or a path or name for it; of linear scans by `psf` with `field` or `plane`
    scatterers.  device: of torch, such as cuda.  seed: replaces the phantom's own.  scenes: per batch.  looks:
    independent draws per scene, the cheapest way to more images.  truth: whether the images without speckle are made.
    workers: processes that prepare scenes; 0 prepares them when they are asked for.

    Batch i is a function of (seed, i, scenes, looks) and the kind of device, and on CUDA of `plane` scatterers up to
    the last bits; its truth is that of usim.simulate. Returns an iterator of Batch, a context that ends its workers.
    Raises ConfigError for phantoms that a device can't make, and for a device that is not there.

    >>> with usim.batches("training", device="cuda", looks=4, workers=8) as made:  # doctest: +SKIP
    ...     for batch in made:
    ...         train_on(batch.bmode, batch.truth)
    """
    device_of(device)  # says what to install where there is no torch
    from usim.batched import Batches

    if isinstance(phantom, (str, Path)):
        phantom = load_phantom(phantom)
    return Batches(phantom, device=device, seed=seed, scenes=scenes, looks=looks, truth=truth, workers=workers)
