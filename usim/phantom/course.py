"""Courses: smooth lines in the plane that streams and vessels follow, and places by them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, make_interp_spline
from scipy.spatial import KDTree

from usim.phantom.outlines import chain_through
from usim.phantom.regions import Corners

Array = NDArray[np.float64]
STEP: Final = 0.1e-3  # metres between the places of a curved course
NEWTON: Final = 6
CONVERGED: Final = 1e-11  # metres
MOST_BEND: Final = 0.9  # of a distance to the side over the radius of the course's bend


@dataclass(frozen=True, eq=False)
class Course:
    """A line that a stream follows: places (M,) along it, (M, 2) in the plane, metres, and headings (M,), radians.

    It goes on straight beyond its ends; sides are counted towards (-sin(heading), cos(heading)).
    """

    place: Array
    point: Array
    heading: Array

    @classmethod
    def straight(cls, angle: float, ends: tuple[float, float]) -> Course:
        """The line through the origin at an angle, between two places."""
        place = np.array(ends)
        return cls(place, np.outer(place, (math.cos(angle), math.sin(angle))), np.full(2, angle))

    @classmethod
    def through(cls, chain: Array) -> Course:
        """The smooth course through dense points (N, 2), metres."""
        at = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(chain, axis=0).T))))
        place = np.linspace(0.0, at[-1], max(2, math.ceil(at[-1] / STEP)))
        curve = CubicSpline(at, chain) if len(at) > 2 else make_interp_spline(at, chain, k=1)
        ahead = np.asarray(curve(place, 1))
        return cls(place, np.asarray(curve(place)), np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])))

    def longer(self, by: float) -> Course:
        """The same course, at both ends so many metres longer."""
        ends = np.array([self.place[0] - by, self.place[-1] + by])
        first, last = np.transpose(self.at(ends, np.zeros(2)))
        heading = np.array([self.heading[0], *self.heading, self.heading[-1]])
        return Course(np.array([ends[0], *self.place, ends[1]]), np.array([first, *self.point, last]), heading)

    @property
    def bend(self) -> float:
        """The largest curvature, 1/m."""
        return float(np.max(np.abs(self._bends)))

    @cached_property
    def _bends(self) -> Array:
        return np.diff(self.heading) / np.diff(self.place)

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.point)

    def length(self, side: Array) -> Array:
        """Metres of the lines of the stream at distances to the side."""
        return np.asarray(self.place[-1] - self.place[0] - side * (self.heading[-1] - self.heading[0]))

    def at(self, place: Array, side: Array) -> tuple[Array, Array]:
        """(x, z), metres, at places of the course and distances to its side."""
        x, z, heading = self._frame(place)
        return x - side * np.sin(heading), z + side * np.cos(heading)

    def along(self, place: Array, side: Array) -> Array:
        """How far places lie along their own line of the stream, from its start."""
        turned = np.interp(place, self.place, self.heading) - self.heading[0]
        return np.asarray(place - self.place[0] - side * turned)

    def place_of(self, along: Array, side: Array) -> Array:
        """The inverse of `along`, by Newton's steps."""
        place = np.asarray(along + self.place[0], np.float64)
        for _ in range(NEWTON):
            place = place - (self.along(place, side) - along) / (1.0 - side * self.bend_at(place))
        return place

    def of(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Place on the course and distance to its side (N,) of points, metres: the nearest ones."""
        _, nearest = self._tree.query(np.stack((x, z), axis=-1))
        place, side = self.place[nearest], np.zeros(len(x))
        for _ in range(NEWTON):
            px, pz, heading = self._frame(place)
            dx, dz = x - px, z - pz
            side = dz * np.cos(heading) - dx * np.sin(heading)
            step = (dx * np.cos(heading) + dz * np.sin(heading)) / (1.0 - side * self.bend_at(place))
            place = place + step
            if np.abs(step).max(initial=0.0) < CONVERGED:
                break
        return place, side

    def bend_at(self, place: Array) -> Array:
        """Curvature at places, 1/m."""
        piece = np.clip(np.searchsorted(self.place, place) - 1, 0, len(self._bends) - 1)
        inside = (place > self.place[0]) & (place < self.place[-1])
        return np.asarray(np.where(inside, self._bends[piece], 0.0))

    def _frame(self, place: Array) -> tuple[Array, Array, Array]:
        """x, z and heading at places."""
        heading = np.interp(place, self.place, self.heading)
        beyond = place - np.clip(place, self.place[0], self.place[-1])
        x, z = (np.interp(place, self.place, values) for values in self.point.T)
        return x + beyond * np.cos(heading), z + beyond * np.sin(heading), heading


@functools.lru_cache(maxsize=16)
def course_of(path: Corners) -> Course:
    """The course through the points of a path, metres, as a tube has it."""
    return Course.through(chain_through(path, closed=False))
