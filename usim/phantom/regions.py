"""The shapes of a phantom's regions, and the exact outline of each."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from usim.description import Description
from usim.scan import Depth, Lateral
from usim.units import Count, Quantity

ANECHOIC_DB = -100.0
"""dB written for a region without scatterers; its linear echogenicity is exactly 0."""

Echogenicity = Annotated[
    float | Literal["anechoic"], Quantity("level", least=-90.0, most=60.0, words=("anechoic",))
]
Extent = Annotated[float, Quantity("length", above=0, most=0.4)]
Aspect = Annotated[float, Quantity("number", least=0.05, most=20)]
Position = tuple[Lateral, Depth]
Corners = tuple[tuple[float, float], ...]

DEFAULT_ASPECT = 1.6
DEFAULT_SIDES = 5


class Region(Description):
    """What every region has: a name, written beside its label, an echogenicity and an attenuation."""

    name: Annotated[str, Field(max_length=100)] = "region"
    """The name of the label."""
    echogenicity: Echogenicity
    """dB relative to the reference tissue, or "anechoic"."""
    attenuation: Annotated[float, Quantity("attenuation", least=0.0, most=200.0)] | None = None
    """dB/cm/MHz, one way, in the unit of the medium's; the medium's unless given."""

    @property
    def parts(self) -> tuple[Region, ...]:
        """What carries the labels, in their order: the region itself, unless it is made of several materials."""
        return (self,)


class _Placed(Region):
    """What every region but a layer accepts, so that `shape` can be a choice: place, equal-area diameter and angle."""

    angle: Annotated[float, Quantity("angle", least=-2 * math.pi, most=2 * math.pi)] = 0.0
    """Radians; turns x towards z, that is clockwise in the picture."""
    size: Extent | None = None
    """Metres; equal-area diameter: the area is pi (size/2)^2 whatever the shape."""

    def _one_way(self, *ways: tuple[str, ...], extras: dict[str, str] | None = None) -> None:
        """Refuse anything but exactly one way of sizing; `extras` maps an optional key to the key it belongs to."""
        begun = [way for way in ways if any(getattr(self, key) is not None for key in way)]
        choices = ", or ".join(" and ".join(way) for way in ways)
        if not begun:
            raise ValueError(f"needs {choices}")
        if len(begun) > 1:
            both = " and ".join(self._given(way) for way in begun)
            raise ValueError(f"{both} exclude each other; give only {choices}")
        missing = [key for key in begun[0] if getattr(self, key) is None]
        if missing:
            raise ValueError(f"needs {' and '.join(missing)} beside {self._given(begun[0])}")
        for extra, partner in (extras or {}).items():
            if getattr(self, extra) is not None and partner not in begun[0]:
                raise ValueError(f"{self._given((extra,))} goes with {partner}, not with {self._given(begun[0])}")

    def _given(self, keys: tuple[str, ...]) -> str:
        present = [(key, getattr(self, key)) for key in keys if getattr(self, key) is not None]
        return " and ".join(key if isinstance(value, tuple) else f"{key} {value:g}" for key, value in present)


class Circle(_Placed):
    """A disc; `angle` is accepted and has no effect.

    >>> Circle(center=("0 mm", "20 mm"), size="6 mm", echogenicity="anechoic").semi_axes
    (0.003, 0.003)
    """

    shape: Literal["circle"] = "circle"
    center: Position
    """Metres; (x, z)."""
    radius: Extent | None = None
    """Metres."""

    @property
    def semi_axes(self) -> tuple[float, float]:
        """Metres; the radius twice."""
        radius = self.radius if self.radius is not None else (self.size or 0.0) / 2
        return radius, radius

    @model_validator(mode="after")
    def _sized_once(self) -> Circle:
        self._one_way(("radius",), ("size",))
        return self


class Ellipse(_Placed):
    """An ellipse with `radii`, or of equal-area diameter `size` and ratio `aspect` (1.6)."""

    shape: Literal["ellipse"] = "ellipse"
    center: Position
    """Metres; (x, z)."""
    radii: tuple[Extent, Extent] | None = None
    """Metres; semi-axes along x and z before turning."""
    aspect: Aspect | None = None
    """Semi-axis along x over semi-axis along z; 1.6 unless given."""

    @property
    def semi_axes(self) -> tuple[float, float]:
        """Metres; along x and z before turning."""
        if self.radii is not None:
            return self.radii
        stretch = math.sqrt(self.aspect or DEFAULT_ASPECT)
        return (self.size or 0.0) / 2 * stretch, (self.size or 0.0) / 2 / stretch

    @model_validator(mode="after")
    def _sized_once(self) -> Ellipse:
        self._one_way(("radii",), ("size",), extras={"aspect": "size"})
        return self


class Rectangle(_Placed):
    """A rectangle with `width` and `height`, or of equal-area diameter `size` and ratio `aspect` (1.6)."""

    shape: Literal["rectangle"] = "rectangle"
    center: Position
    """Metres; (x, z)."""
    width: Extent | None = None
    """Metres; along x before turning."""
    height: Extent | None = None
    """Metres; along z before turning."""
    aspect: Aspect | None = None
    """Width over height; 1.6 unless given."""

    @property
    def corners(self) -> Corners:
        """Metres; the four corners (x, z)."""
        area, aspect = math.pi * (self.size or 0.0) ** 2 / 4, self.aspect or DEFAULT_ASPECT
        w = (self.width if self.width is not None else math.sqrt(area * aspect)) / 2
        h = (self.height if self.height is not None else math.sqrt(area / aspect)) / 2
        return _turned(((-w, -h), (w, -h), (w, h), (-w, h)), self.angle, self.center)

    @model_validator(mode="after")
    def _sized_once(self) -> Rectangle:
        self._one_way(("width", "height"), ("size",), extras={"aspect": "size"})
        return self


class Triangle(_Placed):
    """An equilateral triangle of equal-area diameter `size`, one corner up; or any triangle by its `vertices`."""

    shape: Literal["triangle"] = "triangle"
    center: Position | None = None
    """Metres; (x, z) of the centroid."""
    vertices: tuple[Position, Position, Position] | None = None
    """Metres; (x, z) of each corner; `angle` turns them about their mean."""

    @property
    def corners(self) -> Corners:
        """Metres; the three corners (x, z)."""
        if self.vertices is not None:
            return _turned_about_mean(self.vertices, self.angle)
        return _regular(3, self.size or 0.0, self.angle, self.center or (0.0, 0.0))

    @model_validator(mode="after")
    def _sized_once(self) -> Triangle:
        self._one_way(("center", "size"), ("vertices",))
        _refuse_flat(self.corners)
        return self


class Polygon(_Placed):
    """A regular polygon of equal-area diameter `size` with `sides` (5), one corner up; or any polygon by `vertices`."""

    shape: Literal["polygon"] = "polygon"
    center: Position | None = None
    """Metres; (x, z) of the centroid."""
    sides: Annotated[int, Count(3, 64)] | None = None
    """Number of sides; 5 unless given."""
    vertices: Annotated[tuple[Position, ...], Field(min_length=3, max_length=256)] | None = None
    """Metres; (x, z) of each corner, in order; `angle` turns them about their mean. Inside is by the even-odd rule."""

    @property
    def corners(self) -> Corners:
        """Metres; the corners (x, z) in order."""
        if self.vertices is not None:
            return _turned_about_mean(self.vertices, self.angle)
        return _regular(self.sides or DEFAULT_SIDES, self.size or 0.0, self.angle, self.center or (0.0, 0.0))

    @model_validator(mode="after")
    def _sized_once(self) -> Polygon:
        self._one_way(("center", "size"), ("vertices",), extras={"sides": "size"})
        _refuse_flat(self.corners)
        return self


class Layer(Region):
    """Everything between two depths, over the full width.

    >>> Layer(z=("0.5 mm", "2 mm"), echogenicity="6 dB").z
    (0.0005, 0.002)
    """

    shape: Literal["layer"] = "layer"
    z: tuple[Annotated[float, Quantity("length", least=0.0, most=0.5)], Depth]
    """Metres; depths of the top and the bottom."""

    @model_validator(mode="after")
    def _not_empty(self) -> Layer:
        if not self.z[1] > self.z[0]:
            raise ValueError(f"z: the bottom {self.z[1] * 1e3:g} mm must lie below the top {self.z[0] * 1e3:g} mm")
        return self


AnyRegion = Annotated[
    Circle | Ellipse | Rectangle | Triangle | Polygon | Layer, Field(discriminator="shape")
]


def _regular(sides: int, size: float, angle: float, center: tuple[float, float]) -> Corners:
    """A regular polygon of area pi (size/2)^2, its first corner straight up (towards the probe) before turning."""
    radius = size / 2 * math.sqrt(2 * math.pi / (sides * math.sin(2 * math.pi / sides)))
    steps = [2 * math.pi * k / sides for k in range(sides)]
    return _turned(tuple((radius * math.sin(s), -radius * math.cos(s)) for s in steps), angle, center)


def _turned(corners: Any, angle: float, center: tuple[float, float]) -> Corners:
    cos, sin = math.cos(angle), math.sin(angle)
    return tuple((center[0] + cos * x - sin * z, center[1] + sin * x + cos * z) for x, z in corners)


def _turned_about_mean(corners: Corners, angle: float) -> Corners:
    if angle == 0:
        return corners
    x, z = (sum(values) / len(corners) for values in zip(*corners, strict=True))
    return _turned([(px - x, pz - z) for px, pz in corners], angle, (x, z))


def _refuse_flat(corners: Corners) -> None:
    """Refuse corners that all lie on one line: such a region has no inside."""
    (x0, z0), *others = corners
    reach = max(abs(x - x0) + abs(z - z0) for x, z in others)
    spans = [(ax - x0) * (bz - z0) - (bx - x0) * (az - z0) for ax, az in others for bx, bz in others]
    if max(map(abs, spans)) <= 1e-9 * reach**2:
        raise ValueError("the corners lie on one line; move one of them away from it")
