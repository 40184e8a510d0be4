"""Streams: scatterers that move through a region of the scene, and renew themselves.

A stream fills the smallest rectangle along its direction that holds its region (as far as the image sees it). All
scatterers of the rectangle go along, each as fast as its distance to the middle has it, and come in again at the other
end: lines of the stream turn round rigidly, so that the density stays what it is. Only those in the region scatter.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usim.errors import ConfigError
from usim.phantom.heartbeat import heartbeat_until
from usim.phantom.motion import Flow
from usim.phantom.truth import label_at, label_names

if TYPE_CHECKING:
    from usim.phantom.schema import Scene

Array = NDArray[np.float64]
# Streams go on this far beyond the image, because scatterers outside of it still reach its pixels.
MARGIN: Final = 20e-3
# Samples per side that look for a region, and then for its ends: 2e-3 of its length and width.
SAMPLES: Final = 512


@dataclass(frozen=True)
class Stream:
    """A flow in one region of a scene: its label, and its rectangle along and across the direction, metres."""

    flow: Flow
    label: int
    along: tuple[float, float]
    across: tuple[float, float]

    @property
    def area(self) -> float:
        """Square metres of the rectangle."""
        return (self.along[1] - self.along[0]) * (self.across[1] - self.across[0])

    def inside(self, scene: Scene, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether (x, z), metres, lie in the stream."""
        return label_at(scene, x, z) == self.label

    def turned(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Places along and across the direction."""
        cos, sin = math.cos(self.flow.angle), math.sin(self.flow.angle)
        return x * cos + z * sin, z * cos - x * sin

    def placed(self, along: Array, across: Array) -> tuple[Array, Array]:
        """(x, z) of places along and across the direction."""
        cos, sin = math.cos(self.flow.angle), math.sin(self.flow.angle)
        return along * cos - across * sin, along * sin + across * cos

    def way(self, across: Array, time: float) -> Array:
        """Metres along the direction since time 0, at places across it."""
        flow, beat = self.flow, self.flow.phase / (2.0 * math.pi)
        waves = float(heartbeat_until(flow.heart_rate * time + beat) - heartbeat_until(beat)) / flow.heart_rate
        fastest = flow.velocity * ((1.0 - flow.pulsatility) * time + flow.pulsatility * waves)
        if flow.profile == "plug":
            return np.full(np.shape(across), fastest)
        middle, half = sum(self.across) / 2.0, (self.across[1] - self.across[0]) / 2.0
        return np.asarray(fastest * np.maximum(1.0 - ((across - middle) / half) ** 2, 0.0))

    def carried(self, along: Array, across: Array, time: float) -> Array:
        """Places along the direction after `time` seconds, come round where they left the rectangle."""
        first, last = self.along
        return np.asarray(first + np.mod(along - first + self.way(across, time), last - first))


def flowed(scene: Scene, time: float, x: ArrayLike, z: ArrayLike) -> Array:
    """The way (..., 2) in metres that scatterers have come with the streams of the scene, at places at time 0."""
    x, z = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(z, np.float64))
    way = np.zeros((*x.shape, 2))
    for stream in streams(scene):
        inside = stream.inside(scene, x, z)
        _, across = stream.turned(x[inside], z[inside])
        along = stream.way(across, time)
        way[inside] += np.stack(stream.placed(along, np.zeros_like(along)), axis=-1)
    return way


@functools.lru_cache(maxsize=4)
def streams(scene: Scene) -> tuple[Stream, ...]:
    """The streams of a scene; raises ConfigError where a region is not there, or not to be seen."""
    if scene.sequence is None:
        return ()
    names, found = label_names(scene), list[Stream]()
    for i, flow in enumerate(scene.sequence.motions):
        if not isinstance(flow, Flow):
            continue
        blank = [Stream(flow, k, (0.0, 0.0), (0.0, 0.0)) for k, name in enumerate(names) if name == flow.region]
        ends = [(stream.label, _ends(scene, stream)) for stream in blank]
        seen = [Stream(flow, label, *end) for label, end in ends if end is not None]
        if not seen:
            raise ConfigError(
                f"sequence.motions.{i}.region: nothing of '{flow.region}' lies within {MARGIN * 1e3:g} mm of the image "
                "at time 0, or it is smaller than a pixel; move or enlarge it, or leave the flow out"
            )
        found += seen
    return tuple(found)


def _ends(scene: Scene, stream: Stream) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Where a region begins and ends along and across the stream: looked for coarsely, then closely."""
    (left, right), (top, bottom) = scene.box
    x = np.linspace(left - MARGIN, right + MARGIN, SAMPLES)
    z = np.linspace(max(top - MARGIN, 0.0), bottom + MARGIN, SAMPLES)
    rows, columns = np.nonzero(stream.inside(scene, x[None, :], z[:, None]))
    if not len(rows):
        return None
    # half a diagonal of a coarse cell may have been missed on every side
    missed = math.hypot(x[1] - x[0], z[1] - z[0])
    coarse = [(v.min() - missed, v.max() + missed) for v in stream.turned(x[columns], z[rows])]
    s, n = (np.linspace(*interval, SAMPLES) for interval in coarse)
    fine_x, fine_z = stream.placed(s[None, :], n[:, None])
    seen = (fine_x >= x[0]) & (fine_x <= x[-1]) & (fine_z >= z[0]) & (fine_z <= z[-1])
    rows, columns = np.nonzero(stream.inside(scene, fine_x, fine_z) & seen)
    steps = (s[1] - s[0]) / 2.0, (n[1] - n[0]) / 2.0
    ends = [(v.min() - step, v.max() + step) for v, step in zip((s[columns], n[rows]), steps, strict=True)]
    return (float(ends[0][0]), float(ends[0][1])), (float(ends[1][0]), float(ends[1][1]))
