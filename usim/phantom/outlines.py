"""The outlines of regions: what they enclose, and how far from them a point lies.

Distances are signed, negative inside. Curves become chains of straight pieces that leave them by TOLERANCE at most.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from usim.engines.compiled import kernels
from usim.phantom.regions import Annulus, AnyRegion, Circle, Corners, Ellipse, Layer, Roughness, Spline, Tube, Wave

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]

TOLERANCE: Final = 2e-6  # metres; a hundredth of a wavelength at 7.5 MHz
ELLIPSE_STEPS: Final = 5
COURSE: Final = 0.3  # metres to either side for which a rough course is drawn; beyond it goes on straight
NODES: Final = 16  # of a rough course per correlation length: the slopes between them are within 1 % of its own
_STREAM: Final = 4


class Outline(Protocol):
    """A closed curve, or several."""

    @property
    def box(self) -> Box:
        """Left, right, top and bottom of what is enclosed, metres."""

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points x, z (P,), metres, are enclosed; the outline itself is."""

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance (P,), metres; beyond `within` only its sign and that it is at least that."""


@dataclass(frozen=True)
class Oval:
    """An ellipse; a circle where the semi-axes are equal."""

    center: tuple[float, float]
    semi_axes: tuple[float, float]
    angle: float

    @property
    def box(self) -> Box:
        """Left, right, top and bottom, metres."""
        (a, b), (x, z) = self.semi_axes, self.center
        reach_x = math.hypot(a * math.cos(self.angle), b * math.sin(self.angle))
        reach_z = math.hypot(a * math.sin(self.angle), b * math.cos(self.angle))
        return x - reach_x, x + reach_x, z - reach_z, z + reach_z

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points are enclosed."""
        (a, b), (u, v) = self.semi_axes, self._own(x, z)
        return np.asarray((u / a) ** 2 + (v / b) ** 2 <= 1.0)

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance, exact for circles, within 1e-3 of the smaller axis for ellipses.

        The closest point of an ellipse by steps over its circles of curvature (Chou 2017, "Distance to an ellipse").
        """
        (a, b), (u, v) = self.semi_axes, self._own(x, z)
        if a == b:
            return np.asarray(np.hypot(u, v) - a)
        # Stretched to a circle of radius 1, distances grow to 1 / the shorter axis at most: far points need no search.
        rings = np.sqrt((u / a) ** 2 + (v / b) ** 2)
        found = np.where(rings <= 1.0, -within, within)
        close = np.abs(rings - 1.0) * min(a, b) < within
        found[close] = self._near(np.abs(u[close]), np.abs(v[close])) * np.where(rings[close] <= 1.0, -1.0, 1.0)
        return found

    def _near(self, u: Array, v: Array) -> Array:
        """Distances of points u, v >= 0 along the axes from the ellipse."""
        a, b = self.semi_axes
        cos, sin = np.full(u.shape, math.sqrt(0.5)), np.full(u.shape, math.sqrt(0.5))
        for _ in range(ELLIPSE_STEPS):
            centre_u, centre_v = (a * a - b * b) * cos**3 / a, (b * b - a * a) * sin**3 / b
            radius = np.hypot(a * cos - centre_u, b * sin - centre_v)
            away = np.maximum(np.hypot(u - centre_u, v - centre_v), 1e-12)
            cos = np.clip(((u - centre_u) * radius / away + centre_u) / a, 0.0, 1.0)
            sin = np.clip(((v - centre_v) * radius / away + centre_v) / b, 0.0, 1.0)
            norm = np.maximum(np.hypot(cos, sin), 1e-12)
            cos, sin = cos / norm, sin / norm
        return np.asarray(np.hypot(u - a * cos, v - b * sin))

    def _own(self, x: Array, z: Array) -> tuple[Array, Array]:
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        dx, dz = x - self.center[0], z - self.center[1]
        return cos * dx + sin * dz, cos * dz - sin * dx


@dataclass(frozen=True)
class Ring:
    """All between two circles."""

    center: tuple[float, float]
    radii: tuple[float, float]

    @property
    def box(self) -> Box:
        """Left, right, top and bottom, metres."""
        (x, z), outer = self.center, self.radii[1]
        return x - outer, x + outer, z - outer, z + outer

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points are enclosed."""
        return self.distance(x, z) <= 0.0

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance."""
        inner, outer = self.radii
        radius = np.hypot(x - self.center[0], z - self.center[1])
        return np.asarray(np.maximum(radius - outer, inner - radius))


@dataclass(frozen=True, eq=False)
class Loop:
    """A closed chain of straight edges, inside by the even-odd rule.  corners: (N, 2), metres."""

    corners: Array

    @property
    def box(self) -> Box:
        """Left, right, top and bottom, metres."""
        (left, top), (right, bottom) = self.corners.min(axis=0).tolist(), self.corners.max(axis=0).tolist()
        return left, right, top, bottom

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points are enclosed: a ray towards +x crosses the outline an odd number of times."""
        (ax, az), (bx, bz) = self.corners.T, np.roll(self.corners, -1, axis=0).T
        slope = (bx - ax) / np.where(az == bz, 1.0, bz - az)
        found = np.empty(x.shape, dtype=bool)
        kernels("outline").enclosed(x, z, np.ascontiguousarray(ax), np.ascontiguousarray(az), bz.copy(), slope, found)
        return found

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance."""
        closed = np.concatenate((self.corners, self.corners[:1]))
        away = _away(closed, x, z, within)
        return np.where(self.inside(x, z), -away, away)


@dataclass(frozen=True, eq=False)
class Strand:
    """All within `radius` of an open chain.  course: (N, 2), metres."""

    course: Array
    radius: float

    @property
    def box(self) -> Box:
        """Left, right, top and bottom, metres."""
        (left, top), (right, bottom) = self.course.min(axis=0).tolist(), self.course.max(axis=0).tolist()
        return left - self.radius, right + self.radius, top - self.radius, bottom + self.radius

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points are enclosed."""
        return self.distance(x, z, 1e-6) <= 0.0

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance."""
        return _away(self.course, x, z, self.radius + within) - self.radius


@dataclass(frozen=True)
class Band:
    """Everything between two depths that undulate together."""

    z: tuple[float, float]
    wave: Wave | None
    roughness: Roughness | None

    @property
    def box(self) -> Box:
        """Left, right, top and bottom, metres."""
        reach = self.wave.amplitude if self.wave else 0.0
        low, high = -reach, reach
        if self.roughness:
            course = _course(self.roughness)
            low, high = low + float(course(course.x).min()), high + float(course(course.x).max())
            # between its nodes a cubic may leave their range
            low, high = low - self.roughness.std, high + self.roughness.std
        return -math.inf, math.inf, self.z[0] + low, self.z[1] + high

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points are enclosed."""
        depth = z - self._shift(x)[0]
        return (depth >= self.z[0]) & (depth <= self.z[1])

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance: exact for a plain layer, to first order in the distance where it undulates."""
        shift, slope = self._shift(x)
        depth = z - shift
        return np.asarray(np.maximum(self.z[0] - depth, depth - self.z[1]) / np.hypot(1.0, slope))

    def _shift(self, x: Array) -> tuple[Array, Array]:
        """How much deeper the layer lies at x, metres, and the derivative."""
        shift, slope = np.zeros(x.shape), np.zeros(x.shape)
        if self.wave:
            rate = 2.0 * math.pi / self.wave.wavelength
            shift += self.wave.amplitude * np.cos(rate * x + self.wave.phase)
            slope -= self.wave.amplitude * rate * np.sin(rate * x + self.wave.phase)
        if self.roughness:
            course, at = _course(self.roughness), np.clip(x, -COURSE, COURSE)
            shift += course(at)
            slope += np.where(at == x, course(at, 1), 0.0)
        return shift, slope


@dataclass(frozen=True)
class Grown:
    """All within a distance of an outline, and inside it."""

    core: Outline
    by: float

    @property
    def box(self) -> Box:
        """Left, right, top and bottom, metres."""
        left, right, top, bottom = self.core.box
        return left - self.by, right + self.by, top - self.by, bottom + self.by

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points are enclosed."""
        return self.distance(x, z, 1e-6) <= 0.0

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance."""
        return self.core.distance(x, z, self.by + within) - self.by


def outline_of(region: AnyRegion) -> Outline:
    """Return the outline of a region, without its wall.

    >>> outline_of(Circle(center=("0 mm", "20 mm"), radius="3 mm", echogenicity=0)).box
    (-0.003, 0.003, 0.017, 0.023)
    """
    if isinstance(region, Circle | Ellipse):
        return Oval(region.center, region.semi_axes, region.angle)
    if isinstance(region, Annulus):
        return Ring(region.center, region.radii)
    if isinstance(region, Layer):
        return Band(region.z, region.wave, region.roughness)
    if isinstance(region, Spline):
        return Loop(chain_through((*region.corners, region.corners[0]), closed=True)[:-1])
    if isinstance(region, Tube):
        return Strand(chain_through(region.path, closed=False), region.radius)
    return Loop(np.array(region.corners))


def chain_through(points: Corners, *, closed: bool) -> Array:
    """Points (N, 2) on the cubic spline through points, so dense that no chord leaves it by more than TOLERANCE.

    The parameter is the sum of the points' distances. A chord over a step h leaves a curve by h^2 |r''| / 8 at most,
    and r'' is linear between the points of a cubic spline.
    """
    given = np.array(points)
    at = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(given, axis=0).T))))
    spline = CubicSpline(at, given, bc_type="periodic" if closed else "natural")
    bend = np.hypot(*spline(at, 2).T)
    steps = np.ceil(np.diff(at) * np.sqrt(np.maximum(bend[1:], bend[:-1]) / (8.0 * TOLERANCE)))
    spans = [a + (b - a) * np.arange(n) / n for a, b, n in zip(at, at[1:], np.maximum(steps, 1.0), strict=False)]
    return np.asarray(spline(np.append(np.concatenate(spans), at[-1])))


def _away(chain: Array, x: Array, z: Array, within: float) -> Array:
    """Distance of points from a chain of pieces (N, 2)."""
    found = np.empty(x.shape)
    (ax, az), (dx, dz) = chain[:-1].T, np.diff(chain, axis=0).T
    kernels("outline").nearest(x, z, *(np.ascontiguousarray(a) for a in (ax, az, dx, dz)), within, found)
    return found


@functools.lru_cache(maxsize=64)
def _course(roughness: Roughness) -> CubicSpline:
    """The departure of a rough layer along x, metres: white noise at nodes through a Gaussian, as a cubic between them.

    Autocorrelation exp(-x^2 / L^2), as that of textures; a function of (std, correlation, seed) alone.
    """
    step = roughness.correlation / NODES
    count = math.ceil(COURSE / step) + 1
    reach = 2 * NODES
    offset = np.arange(-reach, reach + 1) / NODES
    kernel = np.exp(-2.0 * offset**2)
    kernel *= roughness.std / np.sqrt(np.sum(kernel**2))
    stream = np.random.Philox(np.random.SeedSequence(roughness.seed, spawn_key=(_STREAM,)))
    white = np.random.Generator(stream).standard_normal(2 * count + 1 + 2 * reach)
    return CubicSpline(step * np.arange(-count, count + 1), np.convolve(white, kernel, mode="valid"))
