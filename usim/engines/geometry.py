"""Where the lines of an image lie in space: parallel behind a linear scan, spread like a fan behind a sector.

The engines work in beam space, where lines are parallel: v across them and the range r along them, both in metres. A
line leaves the array at its origin: the centre of a phased array, a place on the arc of a convex one.

    x = (R + r) sin(v / L),   z = (R + r) cos(v / L) - R,   L = R + the reference range

R is the radius of curvature, 0 for a phased array. A step dv at range r is dv spread(r) metres in space, with spread
(R + r) / L: 1 at the reference range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Flat:
    """A linear scan: beam space is space."""

    def to_beam(self, x: Array, z: Array) -> tuple[Array, Array]:
        """(v, r) of places (x, z), metres, broadcast."""
        return x, z

    def to_space(self, v: Array, r: Array) -> tuple[Array, Array]:
        """(x, z) of (v, r), metres, broadcast."""
        return v, r

    def angle(self, v: Array) -> Array:
        """Directions of the lines at v, radians, positive towards +x."""
        return 0.0 * v

    def spread(self, r: Array) -> Array | float:
        """Metres in space across the lines per metre of v, at ranges r."""
        return 1.0


FLAT = Flat()


@dataclass(frozen=True)
class Fan(Flat):
    """A sector scan; radius: R, 0 for a phased array, length: L, metres."""

    radius: float
    length: float

    def to_beam(self, x: Array, z: Array) -> tuple[Array, Array]:
        """(v, r) of places (x, z), metres, broadcast."""
        z = np.asarray(z) + self.radius
        return self.length * np.arctan2(x, z), np.hypot(x, z) - self.radius

    def to_space(self, v: Array, r: Array) -> tuple[Array, Array]:
        """(x, z) of (v, r), metres, broadcast."""
        angle, away = np.asarray(v) / self.length, np.asarray(r) + self.radius
        return away * np.sin(angle), away * np.cos(angle) - self.radius

    def angle(self, v: Array) -> Array:
        """Directions of the lines at v, radians, positive towards +x."""
        return v / self.length

    def spread(self, r: Array) -> Array | float:
        """Metres in space across the lines per metre of v, at ranges r."""
        return np.maximum(np.asarray(r) + self.radius, 0.0) / self.length
