"""What a region is made of: scattering strength, texture, density of scatterers, attenuation, and how soft it ends."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from usim.description import Description
from usim.units import Count, Quantity

ANECHOIC_DB = -100.0
"""dB written for a region without scatterers; its linear echogenicity is exactly 0."""

Echogenicity = Annotated[
    float | Literal["anechoic"], Quantity("level", least=-90.0, most=60.0, words=("anechoic",))
]
PerCell = Annotated[float, Quantity("number", least=0.05, most=1000.0)]
Deviation = Annotated[float, Quantity("level", least=0.0, most=20.0)]
Correlation = Annotated[float, Quantity("length", least=0.1e-3, most=50e-3)]
Seed = Annotated[int, Count(0, 2**63 - 1)]
Angle = Annotated[float, Quantity("angle", least=-2 * math.pi, most=2 * math.pi)]


class Smooth(Description):
    """A slow random variation of the echogenicity, normal in dB and fixed in space, alike in all directions."""

    type: Literal["smooth"] = "smooth"
    std: Deviation
    """dB; standard deviation about the echogenicity."""
    correlation: Correlation
    """Metres; distance at which the autocorrelation falls to 1/e; across the fibres, where there are any."""
    seed: Seed = 0
    """Which texture; drawn for every frame of a random phantom."""


class Fibres(Smooth):
    """A random variation of the echogenicity that is longer in one direction, normal in dB and fixed in space."""

    type: Literal["fibres"] = "fibres"  # type: ignore[assignment]
    direction: Angle = 0.0
    """Radians; of the fibres, from x towards z."""
    aspect: Annotated[float, Quantity("number", least=1, most=50)] = 5.0
    """Correlation length along the fibres over that across them."""


class Clusters(Description):
    """Echogenicity made of clumps that lie at random, Gaussian in power and fixed in space; its mean power is 1."""

    type: Literal["clusters"] = "clusters"
    density: Annotated[float, Quantity("number per area", least=1e3, most=1e10)]
    """Clumps per square metre; their number in any area is Poisson's."""
    size: Correlation
    """Metres; width of a clump at half its peak power."""
    seed: Seed = 0
    """Which texture; drawn for every frame of a random phantom."""


def _smooth_by_default(given: Any) -> Any:
    return {"type": "smooth", **given} if isinstance(given, dict) and "type" not in given else given


Texture = Annotated[
    Annotated[Smooth | Fibres | Clusters, Field(discriminator="type")], BeforeValidator(_smooth_by_default)
]


class Region(Description):
    """What every region has: a name, written beside its label, and what it is made of."""

    name: Annotated[str, Field(max_length=100)] = "region"
    """The name of the label."""
    echogenicity: Echogenicity
    """dB relative to the reference tissue, or "anechoic"."""
    attenuation: Annotated[float, Quantity("attenuation", least=0.0, most=200.0)] | None = None
    """dB/cm/MHz, one way, in the unit of the medium's; the medium's unless given."""
    texture: Texture | None = None
    """Variation in space; none unless given."""
    per_cell: PerCell | None = None
    """Effective number of scatterers per resolution cell, as that of `scatterers`, which it is unless given."""
    edge: Annotated[float, Quantity("length", least=0.0, most=20e-3)] = 0.0
    """Metres; distance over which the region takes over from 10 to 90 % of the power, across its outline."""

    @property
    def parts(self) -> tuple[Region, ...]:
        """What carries the labels, in their order: the region itself, unless it is made of several materials."""
        return (self,)


class Wall(Region):
    """What surrounds a region on all sides."""

    name: Annotated[str, Field(max_length=100)] = "wall"
    """The name of the wall's label."""
    thickness: Annotated[float, Quantity("length", above=0, most=20e-3)]
    """Metres; from the region's outline outwards."""
