"""How one scene becomes several images: independent looks, steps of time, elevation slices, steering angles."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from usim.description import Description
from usim.units import Count, Quantity

if TYPE_CHECKING:
    from usim.phantom.schema import Scene

MOST_LOOKS = 10_000
MOST_SLICES = 1024
MOST_ANGLES = 64
MOST_MEMBERS = 16

Angle = Annotated[float, Quantity("angle", least=-math.pi / 6, most=math.pi / 6)]
Angles = Annotated[tuple[Angle, ...], Field(min_length=2, max_length=MOST_ANGLES)]


class Sweep(Description):
    """Neighbouring elevation slices of one cloud: a volume, centred on elevation 0.

    >>> Sweep(slices=3, step="0.5 mm").elevations
    (-0.0005, 0.0, 0.0005)
    """

    slices: Annotated[int, Count(2, MOST_SLICES)]
    """Number of slices."""
    step: Annotated[float, Quantity("length", above=0, most=20e-3)]
    """Metres between neighbouring slices."""

    @property
    def elevations(self) -> tuple[float, ...]:
        """Elevation y of each slice, metres."""
        return tuple((s - (self.slices - 1) / 2) * self.step for s in range(self.slices))


class Compound(Description):
    """One image of several of the same scatterers: steered (spatial), or of other frequencies.

    Raises ConfigError unless either angles or frequencies are given.
    """

    angles: Annotated[tuple[Angle, ...], Field(min_length=2, max_length=MOST_MEMBERS)] | None = None
    """Radians; steering of each plane wave."""
    frequencies: (
        Annotated[
            tuple[Annotated[float, Quantity("frequency", least=0.2e6, most=60e6)], ...],
            Field(min_length=2, max_length=MOST_MEMBERS),
        ]
        | None
    ) = None
    """Hz; centre of each band that the echoes are split into."""
    bandwidth: Annotated[float, Quantity("fraction", least=0.05, most=1.5)] = 0.3
    """Fractional -6 dB bandwidth of each band of `frequencies`."""
    mean: Literal["power", "dB"] = "power"
    """What is averaged: the detected powers, or the images in dB."""

    @model_validator(mode="after")
    def _one_kind(self) -> Compound:
        if (self.angles is None) == (self.frequencies is None):
            raise ValueError("needs either angles or frequencies")
        return self


class View(NamedTuple):
    """Which image of a scene: independent draw, step of time, elevation slice, steering angle, each from 0."""

    look: int = 0
    slice: int = 0
    angle: int = 0
    time: int = 0


def shape_of(scene: Scene) -> View:
    """How many looks, slices, angles and times a scene has."""
    return View(
        scene.looks,
        scene.sweep.slices if scene.sweep else 1,
        len(scene.angles) if scene.angles else 1,
        scene.sequence.times if scene.sequence else 1,
    )


def view_of(number: int, shape: View) -> tuple[int, View]:
    """Scene and view of image `number` of a dataset; shape: views of every scene. Time runs fastest, looks slowest.

    >>> view_of(7, View(look=2, slice=1, angle=1, time=3))
    (1, View(look=0, slice=0, angle=0, time=1))
    """
    place = []
    for size in reversed(shape):
        number, step = divmod(number, size)
        place.append(step)
    return number, View(*reversed(place))


def aimed(scene: Scene, angle: int) -> Scene:
    """The scene as steering angle number `angle` sees it."""
    if scene.angles is None:
        return scene
    return scene.model_copy(update={"transmit": scene.transmit.model_copy(update={"angle": scene.angles[angle]})})


def members(scene: Scene) -> tuple[Scene, ...]:
    """The scenes of which one image is compounded; the scene itself where nothing is."""
    compound = scene.compound
    if compound is None:
        return (scene,)
    if compound.angles is not None:
        transmits = [scene.transmit.model_copy(update={"angle": angle}) for angle in compound.angles]
        return tuple(scene.model_copy(update={"transmit": transmit}) for transmit in transmits)
    assert compound.frequencies is not None
    band = compound.bandwidth
    probes = [
        scene.probe.model_copy(update={"center_frequency": f, "fractional_bandwidth": band})
        for f in compound.frequencies
    ]
    return tuple(scene.model_copy(update={"probe": probe}) for probe in probes)
