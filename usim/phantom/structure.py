"""What a scene holds beside tissue: point targets, wires, specular surfaces, and clutter."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from usim.description import Description
from usim.phantom.regions import Position
from usim.scan import Lateral
from usim.units import Count, Quantity

MOST_CORNERS = 64
Amplitude = Annotated[float, Quantity("level", least=-100.0, most=150.0)]
Decay = Annotated[float, Quantity("level", least=0.0, most=100.0)]
Echoes = Annotated[int, Count(1, 50)]


class Point(Description):
    """A coherent point target, at elevation 0."""

    name: Annotated[str, Field(max_length=100)] = "point"
    """The name in the list of points."""
    position: Position
    """Metres; (x, z)."""
    amplitude: Amplitude
    """dB; peak intensity over mean 0 dB tissue at that place, before interference."""


class Wire(Description):
    """A thin wire along elevation, across the image plane: a point in every elevation slice."""

    name: Annotated[str, Field(max_length=100)] = "wire"
    """The name in the list of wires."""
    position: Position
    """Metres; (x, z)."""
    amplitude: Amplitude
    """dB; peak intensity over mean 0 dB tissue at that place, before interference."""


class Bounces(Description):
    """Echoes that went more than once between the probe and an interface: copy k lies k times as deep."""

    count: Echoes = 3
    """How many copies."""
    decay: Decay = 10.0
    """dB from the interface to the first copy, and from each to the next."""


class Interface(Description):
    """A smooth surface across the image plane that reflects like a mirror: bright where it faces the beam."""

    name: Annotated[str, Field(max_length=100)] = "interface"
    """The name in the list of interfaces."""
    path: Annotated[tuple[Position, ...], Field(min_length=2, max_length=MOST_CORNERS)]
    """Metres; points (x, z) of the smooth curve along which it runs: a straight line for two."""
    amplitude: Amplitude
    """dB; peak intensity where it is flat and faces the beam, over mean 0 dB tissue at that place."""
    roughness: Annotated[float, Quantity("length", least=0.0, most=1e-3)] = 0.0
    """Metres; rms height over the curve. Takes from the mirror and gives to diffuse speckle."""
    reverberation: Bounces | None = None
    """Copies at multiples of its depth; none unless given."""

    @model_validator(mode="after")
    def _has_length(self) -> Interface:
        for k, (one, other) in enumerate(zip(self.path, self.path[1:], strict=False), start=1):
            if one == other:
                raise ValueError(f"path: points {k} and {k + 1} are the same; move one of them")
        return self


class Reverberation(Description):
    """Echoes that bounce between the probe and something close to it: flat lines at equal distances."""

    spacing: Annotated[float, Quantity("length", least=0.2e-3, most=0.1)]
    """Metres; depth of the first line, and the distance between lines."""
    level: Amplitude = 0.0
    """dB; peak intensity of the first line over mean 0 dB tissue at its depth."""
    decay: Decay = 6.0
    """dB from each line to the next."""
    count: Echoes = 5
    """How many lines."""
    x: tuple[Lateral, Lateral] | None = None
    """Metres; where the lines begin and end; over the whole image unless given."""

    @model_validator(mode="after")
    def _not_empty(self) -> Reverberation:
        if self.x is not None and not self.x[1] > self.x[0]:
            raise ValueError(f"x: the end {self.x[1] * 1e3:g} mm must lie beyond the start {self.x[0] * 1e3:g} mm")
        return self


class Haze(Description):
    """Diffuse clutter over the whole image, from echoes that took other ways: speckle of its own."""

    level: Annotated[float, Quantity("level", least=-100.0, most=60.0)]
    """dB; mean intensity over that of 0 dB tissue at the same place, extrapolated to the probe."""
    depth: Annotated[float, Quantity("length", least=1e-3, most=0.5)] | None = None
    """Metres of depth over which its intensity falls to 1/e; it stays the same unless given."""
