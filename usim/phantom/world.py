"""The scene as it stands at one time: what lies at a place of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usim.phantom import deform
from usim.phantom.schema import Scene
from usim.phantom.truth import Cover, attenuation_at, cover_at

Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """A scene at `time` seconds; places are where tissue is then, metres, broadcast."""

    scene: Scene
    time: float = 0.0

    @property
    def moved(self) -> bool:
        """Whether tissue may lie elsewhere than the scene describes it."""
        return self.time > 0.0 and self.scene.sequence is not None and bool(self.scene.sequence.motions)

    def cover(self, x: ArrayLike, z: ArrayLike) -> Cover:
        """What lies at (x, z)."""
        return cover_at(self.scene, *self._origin(x, z))

    def attenuation(self, x: ArrayLike, z: ArrayLike) -> Array:
        """Attenuation at (x, z), one way, dB/cm/MHz, to the medium's power of the frequency."""
        return attenuation_at(self.scene, *self._origin(x, z))

    def displacement(self, x: ArrayLike, z: ArrayLike) -> Array:
        """How far what is at (x, z) has come since time 0: (..., 2) metres."""
        return deform.displacement(self.scene, self.time, x, z)

    def move(self, position: Array) -> Array:
        """Positions (N, 3) at time 0 as they are now, metres."""
        return deform.move(self.scene, self.time, position) if self.moved else position

    def _origin(self, x: ArrayLike, z: ArrayLike) -> tuple[ArrayLike, ArrayLike]:
        return deform.inverse(self.scene, self.time, x, z) if self.moved else (x, z)
