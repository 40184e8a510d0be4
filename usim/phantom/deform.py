"""Where tissue goes: the maps of the plane from time 0 to a later time, their inverses, and the displacement.

With (X, Z) where tissue is at time 0, the scene as it is described, and (x, z) where it is later:

    translation, rotation, shear, strain, breathing      (x, z) = centre + A ((X, Z) - centre) + way,  det A = 1
    pulsation, distance R from the centre to r:          r^2 = R^2 a^2 / a0^2            in the lumen, R <= a0
                                                         r^2 = R^2 + a^2 - a0^2          outside: areas stay
                          with a reach L:                r^2 = L^2 + (R^2 - L^2) (L^2 - a^2) / (L^2 - a0^2),   R <= L

with the lumen's radius a0 at time 0 and a later. Lengthwise R and r are distances to the vessel's axis: the same
incompressible tissue, cut along the vessel; a bent one counts distances to the side of its course. All are the
identity at time 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usim.phantom.course import Course, course_of
from usim.phantom.flow import flowed
from usim.phantom.heartbeat import heartbeat
from usim.phantom.motion import (
    AnyMotion,
    Breathing,
    Flow,
    Pulsation,
    Rotation,
    Sequence,
    Shear,
    StrainMotion,
    Translation,
)

if TYPE_CHECKING:
    from usim.phantom.schema import Scene

Array = NDArray[np.float64]
Interval = tuple[float, float]
SIDE: Final = 33  # points per side of a rectangle whose image is looked for
ROUNDING: Final = 1e-4  # metres that its image may bulge between them
LENGTHENED: Final = 0.5  # metres that a bent vessel goes on straight beyond its path
MOST_STEPS: Final = 512  # times at which it is looked for
GOLDEN: Final = (math.sqrt(5.0) - 1.0) / 2.0


class Affine(NamedTuple):
    """(x, z) = centre + matrix ((X, Z) - centre) + way."""

    matrix: tuple[tuple[float, float], tuple[float, float]]
    centre: tuple[float, float] = (0.0, 0.0)
    way: tuple[float, float] = (0.0, 0.0)

    def forward(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Where tissue goes."""
        (a, b), (c, d) = self.matrix
        dx, dz = x - self.centre[0], z - self.centre[1]
        return a * dx + b * dz + (self.centre[0] + self.way[0]), c * dx + d * dz + (self.centre[1] + self.way[1])

    def inverse(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Where tissue comes from."""
        (a, b), (c, d) = self.matrix
        whole = a * d - b * c
        back = Affine(((d / whole, -b / whole), (-c / whole, a / whole)), self.centre)
        return back.forward(x - self.way[0], z - self.way[1])

    def area(self, x: Array, z: Array) -> Array:
        """How much areas grow, at places at time 0."""
        (a, b), (c, d) = self.matrix
        return np.full(np.broadcast_shapes(x.shape, z.shape), a * d - b * c)


class Radial(NamedTuple):
    """Squared distances from `origin`, or from the axis through it along `along`, follow a line in three pieces.

    before, after: squared distances (2,) or (3,) at the joints from 0 on; beyond the last one nothing moves (three), or
    squared distances grow by as much as there (two).
    """

    origin: tuple[float, float]
    along: tuple[float, float] | None
    before: tuple[float, ...]
    after: tuple[float, ...]

    def forward(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Where tissue goes."""
        return self._stretched(x, z, self.before, self.after)

    def inverse(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Where tissue comes from."""
        return self._stretched(x, z, self.after, self.before)

    def area(self, x: Array, z: Array) -> Array:
        """How much areas of the plane grow, at places at time 0."""
        square = self._square(x, z)
        piece = np.searchsorted(self.before[1:], square)
        slope = np.array([*(np.diff(self.after) / np.diff(self.before)), 1.0])[piece]
        if self.along is None:
            return np.asarray(slope)
        return np.asarray(slope / self._stretch(square, self.before, self.after))

    def _square(self, x: Array, z: Array) -> Array:
        dx, dz = x - self.origin[0], z - self.origin[1]
        if self.along is None:
            return np.asarray(dx**2 + dz**2)
        return np.asarray((dz * self.along[0] - dx * self.along[1]) ** 2)

    def _stretch(self, square: Array, before: tuple[float, ...], after: tuple[float, ...]) -> Array:
        """Distance afterwards over the distance before."""
        moved = np.interp(square, before, after) + np.maximum(square - before[-1], 0.0)
        inner = math.sqrt(after[1] / before[1])
        # in the lumen the stretch is the same everywhere, and 0 / 0 on the axis is it too
        outside = square > before[1]
        return np.where(outside, np.sqrt(moved / np.where(outside, square, 1.0)), inner)

    def _stretched(
        self, x: Array, z: Array, before: tuple[float, ...], after: tuple[float, ...]
    ) -> tuple[Array, Array]:
        growth = self._stretch(self._square(x, z), before, after) - 1.0
        dx, dz = x - self.origin[0], z - self.origin[1]
        if self.along is not None:
            across = growth * (dz * self.along[0] - dx * self.along[1])
            return x - across * self.along[1], z + across * self.along[0]
        return x + growth * dx, z + growth * dz


class Bent(NamedTuple):
    """Distances to the side of a course change as those to a straight axis would; beyond `reach` nothing moves."""

    course: Course
    reach: float
    straight: Radial

    def forward(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Where tissue goes."""
        return self._shifted(x, z, self.straight.forward)

    def inverse(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Where tissue comes from."""
        return self._shifted(x, z, self.straight.inverse)

    def area(self, x: Array, z: Array) -> Array:
        """How much areas of the plane grow, at places at time 0."""
        near, place, side = self._near(x, z)
        growth = np.ones(near.shape)
        bend, moved = self.course.bend_at(place), self.straight.forward(np.zeros_like(side), side)[1]
        growth[near] = self.straight.area(np.zeros_like(side), side) * (1.0 - bend * moved) / (1.0 - bend * side)
        return growth

    def _near(self, x: Array, z: Array) -> tuple[NDArray[np.bool_], Array, Array]:
        """Which points the vessel may reach, and their places on the course and distances to its side."""
        x, z = np.broadcast_arrays(x, z)
        (left, top), (right, bottom) = (end(self.course.point, axis=0) for end in (np.min, np.max))
        near = (x > left - self.reach) & (x < right + self.reach)
        near &= (z > top - self.reach) & (z < bottom + self.reach)
        place, side = self.course.of(x[near], z[near])
        within = np.abs(side) < self.reach
        near[near] = within
        return near, place[within], side[within]

    def _shifted(self, x: Array, z: Array, shift: Callable[[Array, Array], tuple[Array, Array]]) -> tuple[Array, Array]:
        near, place, side = self._near(x, z)
        new_x, new_z = (np.array(np.broadcast_to(values, near.shape)) for values in (x, z))
        new_x[near], new_z[near] = self.course.at(place, shift(np.zeros_like(side), side)[1])
        return new_x, new_z


def forward(scene: Scene, time: float, x: ArrayLike, z: ArrayLike) -> tuple[Array, Array]:
    """Where the tissue is at `time` seconds that lies at (x, z) at time 0; metres, broadcast."""
    x, z = _places(x, z)
    for step in _maps(scene.sequence, time):
        x, z = step.forward(x, z)
    return x, z


def inverse(scene: Scene, time: float, x: ArrayLike, z: ArrayLike) -> tuple[Array, Array]:
    """Where the tissue was at time 0 that lies at (x, z) at `time` seconds; metres, broadcast."""
    return _origin(_maps(scene.sequence, time), *_places(x, z))


def area_growth(scene: Scene, time: float, x: ArrayLike, z: ArrayLike) -> Array:
    """By what factor the area about (x, z), metres at time 0, has grown at `time`: the determinant of the map."""
    x, z = _places(x, z)
    growth = np.ones(np.broadcast_shapes(x.shape, z.shape))
    for step in _maps(scene.sequence, time):
        growth = growth * step.area(x, z)
        x, z = step.forward(x, z)
    return growth


def displacement(scene: Scene, time: float, x: ArrayLike, z: ArrayLike) -> Array:
    """How far what is at (x, z) at `time` seconds has come since time 0: (..., 2) metres, (dx, dz).

    image_t(p) looks like image_0(p - displacement). A stream counts with its whole way, as if it had not come round.
    """
    x, z = np.broadcast_arrays(*_places(x, z))
    from_x, from_z = inverse(scene, time, x, z)
    return np.stack((x - from_x, z - from_z), axis=-1) + flowed(scene, time, from_x, from_z)


def move(scene: Scene, time: float, position: Array) -> Array:
    """Positions (N, 3) at time 0 as they are at `time` seconds; elevation stays."""
    x, z = forward(scene, time, position[:, 0], position[:, 2])
    return np.stack((x, position[:, 1], z), axis=1)


def _places(x: ArrayLike, z: ArrayLike) -> tuple[Array, Array]:
    return np.asarray(x, np.float64), np.asarray(z, np.float64)


def origins(scene: Scene, x: Interval, z: Interval) -> tuple[Interval, Interval]:
    """The rectangle (x, z), metres, that holds at time 0 all tissue that a rectangle sees during the sequence."""
    return _origins(scene.sequence, x, z)


def farthest(sequence: Sequence, x: Interval, z: Interval) -> float:
    """The largest displacement, metres, that a rectangle's border sees during a sequence."""
    at_x, at_z = _border(x, z)
    ways = [np.hypot(at_x - a, at_z - b) for a, b in _history(sequence, at_x, at_z)]
    return float(np.max(ways))


@functools.lru_cache(maxsize=16)
def _origins(sequence: Sequence | None, x: Interval, z: Interval) -> tuple[Interval, Interval]:
    # the border of a rectangle comes from the border of where its tissue comes from
    places = [] if sequence is None else _history(sequence, *_border(x, z))
    columns, rows = [np.array(x), *(a for a, _ in places)], [np.array(z), *(b for _, b in places)]
    margin = ROUNDING if places else 0.0
    left, right = (float(end(list(map(end, columns)))) for end in (np.min, np.max))
    top, bottom = (float(end(list(map(end, rows)))) for end in (np.min, np.max))
    return (left - margin, right + margin), (top - margin, bottom + margin)


def moments(sequence: Sequence) -> list[float]:
    """Times of a sequence, seconds, that tell how far things get: all, or of a long one so many that no cycle hides."""
    if sequence.times <= MOST_STEPS:
        return [step / sequence.rate for step in range(sequence.times)]
    # multiples of the golden section fall into no rhythm
    steps = np.floor(np.arange(MOST_STEPS) * GOLDEN % 1.0 * sequence.times)
    return [*(steps / sequence.rate).tolist(), sequence.duration]


def _history(sequence: Sequence, x: Array, z: Array) -> list[tuple[Array, Array]]:
    """Where the tissue was at time 0 that lies at (x, z) at the times of a sequence."""
    return [_origin(_maps(sequence, time), x, z) for time in moments(sequence)]


def _border(x: Interval, z: Interval) -> tuple[Array, Array]:
    across, down = np.linspace(*x, SIDE), np.linspace(*z, SIDE)
    ends = [np.full(SIDE, value) for value in (*x, *z)]
    return np.concatenate((ends[0], ends[1], across, across)), np.concatenate((down, down, ends[2], ends[3]))


def _origin(maps: list[Affine | Radial | Bent], x: Array, z: Array) -> tuple[Array, Array]:
    for step in reversed(maps):
        x, z = step.inverse(x, z)
    return x, z


def _maps(sequence: Sequence | None, time: float) -> list[Affine | Radial | Bent]:
    """What each motion has done by `time`; streams do not move tissue."""
    motions = sequence.motions if sequence and time else ()
    return [_map(motion, time) for motion in motions if not isinstance(motion, Flow)]


def _map(motion: AnyMotion, time: float) -> Affine | Radial | Bent:
    if isinstance(motion, Pulsation):
        return _pulse(motion, time)
    if isinstance(motion, Breathing):
        way = motion.amplitude * (_breath(motion, time) - _breath(motion, 0.0))
        return Affine(((1.0, 0.0), (0.0, 1.0)), way=(way * math.cos(motion.angle), way * math.sin(motion.angle)))
    swing = _swing(motion, time)
    if isinstance(motion, Translation):
        vx, vz = motion.velocity or motion.amplitude
        return Affine(((1.0, 0.0), (0.0, 1.0)), way=(swing * vx, swing * vz))
    amount = swing * (motion.rate if motion.rate is not None else motion.amplitude)
    if isinstance(motion, Rotation):
        cos, sin = math.cos(amount), math.sin(amount)
        return Affine(((cos, -sin), (sin, cos)), motion.center)
    cos, sin = math.cos(motion.angle), math.sin(motion.angle)
    if isinstance(motion, Shear):
        mixed = amount * cos * sin
        return Affine(((1.0 - mixed, amount * cos**2), (-amount * sin**2, 1.0 + mixed)), motion.center)
    # stretched by s along (cos, sin), by 1 / s across
    s = 1.0 + amount
    mixed = (s - 1.0 / s) * cos * sin
    return Affine(((s * cos**2 + sin**2 / s, mixed), (mixed, s * sin**2 + cos**2 / s)), motion.center)


def _swing(motion: Translation | Rotation | Shear | StrainMotion, time: float) -> float:
    """Seconds of a steady motion, or the part of its amplitude of one to and fro."""
    if motion.frequency is None:
        return time
    return math.sin(2.0 * math.pi * motion.frequency * time + motion.phase) - math.sin(motion.phase)


def _breath(motion: Breathing, time: float) -> float:
    """0 breathed out, 1 breathed in: 1 - cos^4, the course of Lujan et al., Med. Phys. 26 (1999) 715."""
    return 1.0 - math.cos(math.pi * time / motion.period + motion.phase / 2.0) ** 4


def _pulse(motion: Pulsation, time: float) -> Radial | Bent:
    beat = motion.phase / (2.0 * math.pi)
    wide = float(heartbeat(motion.heart_rate * time + beat) - heartbeat(beat))
    first, now = motion.radius**2, (motion.radius * (1.0 + motion.amplitude * wide)) ** 2
    beyond = () if motion.reach is None else (motion.reach**2,)
    if motion.path is not None:
        straight = Radial((0.0, 0.0), (1.0, 0.0), (0.0, first, *beyond), (0.0, now, *beyond))
        return Bent(course_of(motion.path).longer(LENGTHENED), float(motion.reach or 0.0), straight)
    if motion.axis is None:
        origin, along = motion.center, None
    else:
        origin, (x, z) = motion.axis
        length = math.dist(origin, (x, z))
        along = ((x - origin[0]) / length, (z - origin[1]) / length)
    return Radial(origin, along, (0.0, first, *beyond), (0.0, now, *beyond))
