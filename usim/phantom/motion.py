"""Sequences: how many images of one scene, how fast, and what moves in between.

Motions map the plane onto itself; they are applied in the order in which they are written, the first one to the scene
as it is described, which is how it stands at time 0. Their formulas are in `usim.phantom.deform`.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from usim.description import Description
from usim.phantom.regions import Position
from usim.units import Count, Quantity

MOST_TIMES = 100_000
MOST_MOTIONS = 16
MOST_STRAIN = 0.5
MOST_WAY = 30e-3

Frequency = Annotated[float, Quantity("frequency", above=0, most=10e3)]
Angle = Annotated[float, Quantity("angle", least=-2 * math.pi, most=2 * math.pi)]
Swing = Annotated[float, Quantity("length", least=-30e-3, most=30e-3)]
Speed = Annotated[float, Quantity("speed", least=-10.0, most=10.0)]
Rate = Annotated[float, Quantity("strain rate", least=-1e3, most=1e3)]
Strain = Annotated[float, Quantity("fraction", least=-MOST_STRAIN, most=MOST_STRAIN)]
Radius = Annotated[float, Quantity("length", above=0, most=50e-3)]


class _Driven(Description):
    """What goes on steadily, or to and fro as amplitude (sin(2 pi frequency t + phase) - sin(phase))."""

    steady: ClassVar[str] = "rate"

    frequency: Frequency | None = None
    """Hz; of a motion to and fro, with `amplitude`."""
    phase: Angle = 0.0
    """Radians; of the cycle at time 0."""

    @model_validator(mode="after")
    def _one_way(self) -> _Driven:
        steady, periodic = getattr(self, self.steady) is not None, getattr(self, "amplitude") is not None  # noqa: B009
        if steady == periodic:
            raise ValueError(f"needs either {self.steady}, or amplitude and frequency")
        if periodic and self.frequency is None:
            raise ValueError("needs frequency beside amplitude")
        if steady and self.frequency is not None:
            raise ValueError(f"frequency goes with amplitude, not with {self.steady}")
        return self


class Translation(_Driven):
    """Everything moves by the same way.

    >>> Translation(velocity=("0 mm/s", "5 mm/s")).velocity
    (0.0, 0.005)
    """

    steady = "velocity"
    type: Literal["translation"] = "translation"
    velocity: tuple[Speed, Speed] | None = None
    """m/s; along x and z."""
    amplitude: tuple[Swing, Swing] | None = None
    """Metres; along x and z."""


class Rotation(_Driven):
    """Everything turns about a point, x towards z."""

    type: Literal["rotation"] = "rotation"
    center: Position
    """Metres; (x, z)."""
    rate: Annotated[float, Quantity("angular rate", least=-100.0, most=100.0)] | None = None
    """rad/s."""
    amplitude: Annotated[float, Quantity("angle", least=-math.pi, most=math.pi)] | None = None
    """Radians."""


class Shear(_Driven):
    """Layers slide over each other, the farther from the centre the more; areas stay."""

    type: Literal["shear"] = "shear"
    center: Position
    """Metres; (x, z) of a point that rests."""
    angle: Angle = 0.0
    """Radians; direction in which layers slide, from x towards z."""
    rate: Rate | None = None
    """1/s; slide per distance and second."""
    amplitude: Annotated[float, Quantity("fraction", least=-2.0, most=2.0)] | None = None
    """Slide per distance."""


class StrainMotion(_Driven):
    """Tissue is stretched along one direction and gives way across it; areas stay."""

    type: Literal["strain"] = "strain"
    center: Position
    """Metres; (x, z) of the point that rests."""
    angle: Angle = math.pi / 2
    """Radians; direction of the strain, from x towards z; that of depth unless given."""
    rate: Rate | None = None
    """1/s; relative lengthening per second, negative for compression."""
    amplitude: Strain | None = None
    """Relative lengthening."""


class Breathing(Description):
    """Everything goes to and fro, resting longest at the end of breathing out."""

    type: Literal["breathing"] = "breathing"
    amplitude: Annotated[float, Quantity("length", above=0, most=30e-3)]
    """Metres; from breathed out to breathed in."""
    angle: Angle = math.pi / 2
    """Radians; direction of breathing in, from x towards z; that of depth unless given."""
    period: Annotated[float, Quantity("time", least=0.1, most=100.0)] = 4.0
    """Seconds; of one breath."""
    phase: Angle = 0.0
    """Radians; of the breath at time 0; at 0 it is breathed out."""


class Pulsation(Description):
    """A vessel widens with every heartbeat and pushes the tissue about it aside, cross-section or lengthwise.

    >>> Pulsation(center=("0 mm", "15 mm"), radius="3 mm", amplitude="8 %").heart_rate
    1.2
    """

    type: Literal["pulsation"] = "pulsation"
    center: Position | None = None
    """Metres; (x, z) of a vessel's cross-section."""
    axis: tuple[Position, Position] | None = None
    """Metres; two points (x, z) on the axis of a straight vessel that is seen lengthwise."""
    path: Annotated[tuple[Position, ...], Field(min_length=2, max_length=64)] | None = None
    """Metres; (x, z) of points that the middle of a bent vessel passes, as that of a tube; needs a reach."""
    radius: Radius
    """Metres; of the lumen at time 0."""
    amplitude: Annotated[float, Quantity("fraction", above=0, most=0.5)]
    """Widening over the radius, from diastole to systole."""
    heart_rate: Annotated[float, Quantity("frequency", least=0.1, most=20.0)] = 1.2
    """Hz; heartbeats per second."""
    phase: Angle = 0.0
    """Radians; of the heartbeat at time 0; at 0 the vessel is at its narrowest."""
    reach: Annotated[float, Quantity("length", above=0, most=0.4)] | None = None
    """Metres; distance from the centre or axis beyond which tissue rests; none unless given."""

    @model_validator(mode="after")
    def _fits(self) -> Pulsation:
        if sum(way is not None for way in (self.center, self.axis, self.path)) != 1:
            raise ValueError("needs either center (a cross-section), or axis or path (lengthwise)")
        for k, (last, point) in enumerate(itertools.pairwise(self.path or ()), start=1):
            if math.dist(last, point) < 1e-6:
                raise ValueError(f"path.{k}: lies within 1 um of the point before it; remove one of the two")
        if self.path is not None and self.reach is None:
            raise ValueError("path: a bent vessel needs a reach, within which its normals do not cross")
        if self.axis is not None and math.dist(*self.axis) < 1e-6:
            raise ValueError("axis: the two points are the same; move one of them along the vessel")
        least = 1.2 * self.radius * (1.0 + self.amplitude)
        if self.reach is not None and self.reach < least:
            raise ValueError(f"reach: {self.reach * 1e3:g} mm is too near to the wall; {least * 1e3:.3g} mm or more")
        return self


class Flow(Description):
    """Scatterers of a region stream through it; they come in again where they leave it."""

    type: Literal["flow"] = "flow"
    region: Annotated[str, Field(min_length=1, max_length=100)]
    """Name of the region, one of the names of labels."""
    velocity: Speed
    """m/s; the fastest, midstream."""
    angle: Angle | None = None
    """Radians; direction of the stream, from x towards z; along its path in a tube, else that of x, unless given."""
    profile: Literal["parabolic", "plug"] = "parabolic"
    """parabolic: falls to 0 at the walls; plug: the same everywhere."""
    pulsatility: Annotated[float, Quantity("fraction", least=0.0, most=1.0)] = 0.0
    """Part of the velocity that comes with the heartbeat: 0 is steady, 1 stands still at the end of diastole."""
    heart_rate: Annotated[float, Quantity("frequency", least=0.1, most=20.0)] = 1.2
    """Hz; heartbeats per second."""
    phase: Angle = 0.0
    """Radians; of the heartbeat at time 0."""
    decorrelation: Annotated[float, Quantity("time", above=0, most=1e3)] | None = None
    """Seconds after which the correlation of the scattering amplitudes has fallen to 1/e; never unless given."""


AnyMotion = Annotated[
    Translation | Rotation | Shear | StrainMotion | Breathing | Pulsation | Flow, Field(discriminator="type")
]


class Sequence(Description):
    """Images of one scene at equal steps of time, starting at 0."""

    times: Annotated[int, Count(2, MOST_TIMES)]
    """Number of images."""
    rate: Annotated[float, Quantity("frequency", above=0, most=100e3)]
    """Images per second."""
    motions: Annotated[tuple[AnyMotion, ...], Field(max_length=MOST_MOTIONS)] = ()
    """What moves, in the order in which it is applied; the scene is as described at time 0."""

    @property
    def duration(self) -> float:
        """Seconds from the first to the last image."""
        return (self.times - 1) / self.rate

    @model_validator(mode="after")
    def _bounded(self) -> Sequence:
        """Refuse a stretch that folds tissue up before the sequence ends."""
        for i, motion in enumerate(self.motions):
            if isinstance(motion, StrainMotion):
                swing = 0.0 if motion.amplitude is None else abs(motion.amplitude) * (1.0 + abs(math.sin(motion.phase)))
                strain = swing if motion.rate is None else abs(motion.rate) * self.duration
                if strain > MOST_STRAIN:
                    raise ValueError(
                        f"motions.{i}: the strain reaches {strain * 100:.3g} %, at most {MOST_STRAIN * 100:g} % are "
                        "allowed; lower it, or make the sequence shorter"
                    )
        return self
