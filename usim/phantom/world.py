"""The scene as it stands at one time: what lies at a place of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usim.phantom.schema import Scene
from usim.phantom.truth import echogenicity_at, echogenicity_db_at, label_at

Array = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """A scene at `time` seconds; places are where tissue is then, metres, broadcast."""

    scene: Scene
    time: float = 0.0

    def label(self, x: ArrayLike, z: ArrayLike) -> NDArray[np.uint16]:
        """Which region lies at (x, z)."""
        return label_at(self.scene, x, z)

    def echogenicity(self, x: ArrayLike, z: ArrayLike, labels: NDArray[np.uint16] | None = None) -> Array:
        """Scattering strength at (x, z) as a power relative to the reference tissue; labels: what `label` says there,
        where it is known already."""
        return echogenicity_at(self.scene, x, z, labels)

    def echogenicity_db(self, x: ArrayLike, z: ArrayLike) -> Array:
        """Scattering strength at (x, z) in dB of the reference tissue; -100 where anechoic."""
        return echogenicity_db_at(self.scene, x, z)
