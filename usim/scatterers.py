"""Point scatterers: where they are and how strongly they scatter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.errors import DataError


@dataclass(frozen=True, eq=False)
class Scatterers:
    """A cloud of point scatterers.

    position: (N, 3) float64, metres: x lateral, y elevation, z depth.
    amplitude: (N,) float64, dimensionless scattering amplitude (real; the sign is a phase of pi).

    Raises DataError when the shapes do not fit or a value is not finite.

    >>> cloud = Scatterers(position=[[0.0, 0.0, 0.02]], amplitude=[1.0])
    >>> len(cloud)
    1
    """

    position: NDArray[np.float64]
    amplitude: NDArray[np.float64]

    def __post_init__(self) -> None:
        position = np.ascontiguousarray(self.position, dtype=np.float64)
        amplitude = np.ascontiguousarray(self.amplitude, dtype=np.float64)
        if position.ndim != 2 or position.shape[1] != 3:
            raise DataError(f"scatterers.position: shape {position.shape}, expected (N, 3) in metres (x, y, z)")
        if amplitude.shape != position.shape[:1]:
            raise DataError(
                f"scatterers.amplitude: shape {amplitude.shape}, expected ({len(position)},), one per position"
            )
        for name, values in (("position", position), ("amplitude", amplitude)):
            if not np.isfinite(values).all():
                first = int(np.argwhere(~np.isfinite(values))[0, 0])
                raise DataError(f"scatterers.{name}: row {first} is not finite; remove or repair it")
        object.__setattr__(self, "position", position)
        object.__setattr__(self, "amplitude", amplitude)

    def __len__(self) -> int:
        return len(self.amplitude)

    def weighted(self, factor: NDArray[np.float64]) -> Scatterers:
        """The same cloud with its amplitudes multiplied by factor (N,)."""
        return Scatterers(self.position, self.amplitude * factor)

    @property
    def x(self) -> NDArray[np.float64]:
        """Lateral positions (N,), metres."""
        return self.position[:, 0]

    @property
    def y(self) -> NDArray[np.float64]:
        """Elevation positions (N,), metres."""
        return self.position[:, 1]

    @property
    def z(self) -> NDArray[np.float64]:
        """Depths (N,), metres."""
        return self.position[:, 2]


def joined(*clouds: Scatterers) -> Scatterers:
    """All scatterers of several clouds, one cloud after the other."""
    return Scatterers(
        np.concatenate([cloud.position for cloud in clouds]), np.concatenate([cloud.amplitude for cloud in clouds])
    )
