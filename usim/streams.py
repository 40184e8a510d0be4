"""Frames without end, simulated as they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from usim.frame import Frame
from usim.phantom.load import load_phantom
from usim.pipeline import Renderer

if TYPE_CHECKING:
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
