"""Streams: scatterers that move through a region of the scene, and renew themselves.

A stream follows a course: a straight line, or the middle of a tube. At distance n to the side of the course a line of
the stream is as long as its heading lets it, l = s - n (heading(s) - heading(0)) at place s of the course, and all on
it move by the same way: the density stays what it is. The stream fills the smallest strip along its course that holds
its region; what leaves the strip at one end comes in at the other. Only what is in the region scatters.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usim.errors import ConfigError
from usim.phantom.course import MOST_BEND, Course, course_of
from usim.phantom.heartbeat import heartbeat_until
from usim.phantom.motion import Flow
from usim.phantom.regions import AnyRegion, Tube
from usim.phantom.truth import label_at

if TYPE_CHECKING:
    from usim.phantom.schema import Scene

Array = NDArray[np.float64]
# Streams go on this far beyond the image, because scatterers outside of it still reach its pixels.
MARGIN: Final = 20e-3
# Samples per side that look for a region, and then for its ends: 2e-3 of its length and width.
SAMPLES: Final = 512


@dataclass(frozen=True, eq=False)
class Stream:
    """A flow in one region of a scene: its label, its course, and how far it reaches to the sides, metres."""

    flow: Flow
    label: int
    course: Course
    across: tuple[float, float]

    @property
    def area(self) -> float:
        """Square metres of the strip, were all its lines as long as the longest."""
        return self.longest * (self.across[1] - self.across[0])

    @property
    def longest(self) -> float:
        """Metres of the longest line of the stream."""
        return float(np.max(self.course.length(np.array(self.across))))

    @property
    def middle(self) -> tuple[float, float]:
        """(x, z) in the middle of the stream, metres."""
        x, z = self.course.at(np.mean(self.course.place, keepdims=True), np.mean(self.across, keepdims=True))
        return float(x[0]), float(z[0])

    def inside(self, scene: Scene, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether (x, z), metres, lie in the stream."""
        return label_at(scene, x, z) == self.label

    def way(self, side: Array, time: float) -> Array:
        """Metres along its own line since time 0, at distances to the side of the course."""
        flow, beat = self.flow, self.flow.phase / (2.0 * math.pi)
        waves = float(heartbeat_until(flow.heart_rate * time + beat) - heartbeat_until(beat)) / flow.heart_rate
        fastest = flow.velocity * ((1.0 - flow.pulsatility) * time + flow.pulsatility * waves)
        if flow.profile == "plug":
            return np.full(np.shape(side), fastest)
        middle, half = sum(self.across) / 2.0, (self.across[1] - self.across[0]) / 2.0
        return np.asarray(fastest * np.maximum(1.0 - ((side - middle) / half) ** 2, 0.0))

    def carried(self, along: Array, side: Array, time: float) -> tuple[Array, Array]:
        """(x, z) after `time` seconds of what began so far along its line; come round where it left the strip."""
        now = np.mod(along + self.way(side, time), self.course.length(side))
        return self.course.at(self.course.place_of(now, side), side)

    def origin(self, x: Array, z: Array, time: float) -> tuple[Array, Array]:
        """(x, z) from where what is at (x, z), (N,) metres, set out at time 0, as if nothing came round."""
        place, side = self.course.of(x, z)
        before = self.course.along(place, side) - self.way(side, time)
        return self.course.at(self.course.place_of(before, side), side)


def flowed(scene: Scene, time: float, x: ArrayLike, z: ArrayLike) -> Array:
    """The way (..., 2) in metres that scatterers have come with the streams of the scene, at places at time 0."""
    x, z = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(z, np.float64))
    way = np.zeros((*x.shape, 2))
    for stream in streams(scene):
        inside = stream.inside(scene, x, z)
        from_x, from_z = stream.origin(x[inside], z[inside], time)
        way[inside] = np.stack((x[inside] - from_x, z[inside] - from_z), axis=-1)
    return way


@functools.lru_cache(maxsize=4)
def streams(scene: Scene) -> tuple[Stream, ...]:
    """The streams of a scene; raises ConfigError where a region is not there, not to be seen, or bends too much."""
    if scene.sequence is None:
        return ()
    parts = [(region, part) for region in scene.regions for part in region.parts]
    found = list[Stream]()
    for i, flow in enumerate(scene.sequence.motions):
        if not isinstance(flow, Flow):
            continue
        named = [(k, *pair) for k, pair in enumerate(parts, start=1) if pair[1].name == flow.region]
        made = [_stream(scene, flow, label, region if part is region else None) for label, region, part in named]
        seen = [stream for stream in made if stream is not None]
        where = f"sequence.motions.{i}.region"
        if not seen:
            raise ConfigError(
                f"{where}: nothing of '{flow.region}' lies within {MARGIN * 1e3:g} mm of the image at time 0, or it is "
                "smaller than a pixel; move or enlarge it, or leave the flow out"
            )
        for stream in seen:
            if stream.course.bend * max(map(abs, stream.across)) > MOST_BEND:
                raise ConfigError(
                    f"{where}: '{flow.region}' bends about {1e3 / stream.course.bend:.3g} mm, too tightly for what "
                    "flows in it; straighten its path, make it thinner, or give the flow an angle"
                )
        found += seen
    return tuple(found)


def _stream(scene: Scene, flow: Flow, label: int, region: AnyRegion | None) -> Stream | None:
    """The stream of a flow in the region of a label, None where the image sees none of it; region: unless a wall."""
    if flow.angle is None and isinstance(region, Tube):
        course = course_of(region.path).longer(region.radius)
        return Stream(flow, label, course, (-region.radius, region.radius))
    angle = flow.angle or 0.0
    ends = _ends(scene, label, angle)
    return None if ends is None else Stream(flow, label, Course.straight(angle, ends[0]), ends[1])


def _ends(scene: Scene, label: int, angle: float) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Where a region begins and ends along and across a direction: looked for coarsely, then closely."""
    cos, sin = math.cos(angle), math.sin(angle)
    (left, right), (top, bottom) = scene.box
    x = np.linspace(left - MARGIN, right + MARGIN, SAMPLES)
    z = np.linspace(max(top - MARGIN, 0.0), bottom + MARGIN, SAMPLES)
    rows, columns = np.nonzero(label_at(scene, x[None, :], z[:, None]) == label)
    if not len(rows):
        return None
    # half a diagonal of a coarse cell may have been missed on every side
    missed = math.hypot(x[1] - x[0], z[1] - z[0])
    turned = x[columns] * cos + z[rows] * sin, z[rows] * cos - x[columns] * sin
    s, n = (np.linspace(v.min() - missed, v.max() + missed, SAMPLES) for v in turned)
    fine_x, fine_z = s[None, :] * cos - n[:, None] * sin, s[None, :] * sin + n[:, None] * cos
    seen = (fine_x >= x[0]) & (fine_x <= x[-1]) & (fine_z >= z[0]) & (fine_z <= z[-1])
    rows, columns = np.nonzero((label_at(scene, fine_x, fine_z) == label) & seen)
    if not len(rows):
        return None
    steps = (s[1] - s[0]) / 2.0, (n[1] - n[0]) / 2.0
    ends = [(v.min() - step, v.max() + step) for v, step in zip((s[columns], n[rows]), steps, strict=True)]
    return (float(ends[0][0]), float(ends[0][1])), (float(ends[1][0]), float(ends[1][1]))
