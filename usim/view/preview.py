"""Frames of a phantom that are simulated when a picture asks for them, without a dataset."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from usim.frame import Frame
from usim.io.layout import AXES
from usim.phantom.load import Phantom
from usim.phantom.views import view_of
from usim.pipeline import Renderer

#: Scenes of a movie where each has one image.
_SCENES = 10
#: Frames that are kept while a picture is made.
_KEPT = 16


class Preview(Sequence[Frame]):
    """The first frames of the dataset that a phantom makes; each is simulated when it is asked for.

    frames: how many; unless given those of the first scene, and of phantoms with one image per scene the first frame,
    or up to ten for a movie (`moves`).  seed: replaces the phantom's own.
    """

    def __init__(self, phantom: Phantom, *, seed: int | None = None, frames: int | None = None, moves: bool) -> None:
        several = math.prod(phantom.views)
        if frames is None:
            frames = several if several > 1 else min(phantom.frames, _SCENES) if moves else 1
        self._phantom = phantom
        self._rows: Sequence[int] = range(frames)
        # A movie looks at its first frames, and at how far things move, before it runs.
        self._frame = functools.lru_cache(maxsize=_KEPT)(Renderer(phantom, seed=seed).frame)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Preview: ...
    def __getitem__(self, index: int | slice) -> Frame | Preview:
        if isinstance(index, slice):
            return self.choose(range(len(self))[index])
        return self._frame(self._rows[index])

    def choose(self, rows: Sequence[int]) -> Preview:
        """The frames in these rows, in this order."""
        chosen = object.__new__(Preview)
        chosen.__dict__.update(self.__dict__, _rows=[self._rows[row] for row in rows])
        return chosen

    def places(self) -> dict[str, NDArray[np.int64]]:
        """Scene, look, slice, angle and time of every frame, each (N,); nothing is simulated."""
        rows = [(scene, *view) for scene, view in (view_of(row, self._phantom.views) for row in self._rows)]
        return dict(zip(AXES, np.array(rows, np.int64).T, strict=True))
