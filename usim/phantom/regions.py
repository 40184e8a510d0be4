"""The shapes of a phantom's regions, and the exact outline of each."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from usim.description import Description
from usim.phantom.map_regions import ImageMap, LabelMap
from usim.phantom.tissue import Angle, Region, Seed, Wall
from usim.scan import Depth, Lateral
from usim.units import Count, Quantity

Extent = Annotated[float, Quantity("length", above=0, most=0.4)]
Aspect = Annotated[float, Quantity("number", least=0.05, most=20)]
Position = tuple[Lateral, Depth]
# Regions may be centred behind the array, and those of a convex one begin above the middle of its face.
Place = tuple[Lateral, Annotated[float, Quantity("length", least=-0.2, most=0.5)]]
Corners = tuple[tuple[float, float], ...]

DEFAULT_ASPECT = 1.6
DEFAULT_SIDES = 5


class _Turned(Region):
    """What can be turned."""

    angle: Angle = 0.0
    """Radians; turns x towards z, that is clockwise in the picture."""


class _Walled(Region):
    """What may have a wall around it."""

    wall: Wall | None = None
    """What surrounds the region; nothing unless given."""

    @property
    def parts(self) -> tuple[Region, ...]:
        """The region within its wall, then the wall."""
        return (self,) if self.wall is None else (self, self.wall)


class _Placed(_Turned):
    """What the shapes of a centre accept, so that `shape` can be a choice: equal-area diameter and angle."""

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


class Circle(_Placed, _Walled):
    """A disc; `angle` is accepted and has no effect.

    >>> Circle(center=("0 mm", "20 mm"), size="6 mm", echogenicity="anechoic").semi_axes
    (0.003, 0.003)
    """

    shape: Literal["circle"] = "circle"
    center: Place
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


class Ellipse(_Placed, _Walled):
    """An ellipse with `radii`, or of equal-area diameter `size` and ratio `aspect` (1.6)."""

    shape: Literal["ellipse"] = "ellipse"
    center: Place
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
    center: Place
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
    center: Place | None = None
    """Metres; (x, z) of the centroid."""
    vertices: tuple[Place, Place, Place] | None = None
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
    center: Place | None = None
    """Metres; (x, z) of the centroid."""
    sides: Annotated[int, Count(3, 64)] | None = None
    """Number of sides; 5 unless given."""
    vertices: Annotated[tuple[Place, ...], Field(min_length=3, max_length=256)] | None = None
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


class Annulus(_Placed):
    """A ring between two radii, or of equal-area diameter `size` with an inner radius half the outer one.

    `angle` is accepted and has no effect.

    >>> Annulus(center=("0 mm", "20 mm"), inner="2 mm", outer="3 mm", echogenicity="6 dB").radii
    (0.002, 0.003)
    """

    shape: Literal["annulus"] = "annulus"
    center: Place
    """Metres; (x, z)."""
    inner: Extent | None = None
    """Metres; radius of the hole, which is no part of the region."""
    outer: Extent | None = None
    """Metres; radius of the ring's outer edge."""

    @property
    def radii(self) -> tuple[float, float]:
        """Metres; the inner and the outer radius."""
        if self.inner is not None and self.outer is not None:
            return self.inner, self.outer
        return (self.size or 0.0) / math.sqrt(12), (self.size or 0.0) / math.sqrt(3)

    @model_validator(mode="after")
    def _sized_once(self) -> Annulus:
        self._one_way(("inner", "outer"), ("size",))
        inner, outer = self.radii
        if not inner < outer:
            raise ValueError(f"inner: {inner * 1e3:g} mm must be smaller than outer, {outer * 1e3:g} mm")
        return self


class Wave(Description):
    """How a layer undulates: z moves by amplitude cos(2 pi x / wavelength + phase)."""

    amplitude: Annotated[float, Quantity("length", above=0, most=50e-3)]
    """Metres; from the mean to the crest."""
    wavelength: Annotated[float, Quantity("length", least=0.5e-3, most=1.0)]
    """Metres; along x."""
    phase: Angle = 0.0
    """Radians; at x = 0, where a phase of 0 puts the layer deepest."""


class Roughness(Description):
    """How a layer departs from its course at random: a smooth normal variation of z along x."""

    std: Annotated[float, Quantity("length", above=0, most=20e-3)]
    """Metres; standard deviation of the departure."""
    correlation: Annotated[float, Quantity("length", least=0.2e-3, most=0.2)]
    """Metres; distance along x at which the autocorrelation falls to 1/e."""
    seed: Seed = 0
    """Which course; drawn for every frame of a random phantom. Layers with the same course fit together."""


class Layer(Region):
    """Everything between two depths, over the full width; top and bottom undulate together.

    >>> Layer(z=("0.5 mm", "2 mm"), echogenicity="6 dB").z
    (0.0005, 0.002)
    """

    shape: Literal["layer"] = "layer"
    z: tuple[Annotated[float, Quantity("length", least=0.0, most=0.5)], Depth]
    """Metres; depths of the top and the bottom."""
    wave: Wave | None = None
    """A regular undulation; none unless given."""
    roughness: Roughness | None = None
    """A random undulation; none unless given."""

    @model_validator(mode="after")
    def _not_empty(self) -> Layer:
        if not self.z[1] > self.z[0]:
            raise ValueError(f"z: the bottom {self.z[1] * 1e3:g} mm must lie below the top {self.z[0] * 1e3:g} mm")
        return self


class Spline(_Turned):
    """The inside of a smooth closed curve through `vertices`: a periodic cubic spline over the chords' lengths."""

    shape: Literal["spline"] = "spline"
    vertices: Annotated[tuple[Place, ...], Field(min_length=3, max_length=256)]
    """Metres; (x, z) of the points that the curve passes, in order; `angle` turns them about their mean. Inside is by
    the even-odd rule."""

    @property
    def corners(self) -> Corners:
        """Metres; the points (x, z) that the curve passes, in order."""
        return _turned_about_mean(self.vertices, self.angle)

    @model_validator(mode="after")
    def _has_a_course(self) -> Spline:
        _refuse_equal("vertices", self.vertices, closed=True)
        _refuse_flat(self.corners)
        return self


class Tube(_Walled):
    """A vessel seen lengthwise: all within `radius` of a cubic spline through `path`; its ends are round.

    >>> Tube(path=[("-5 mm", "20 mm"), ("5 mm", "22 mm")], radius="3 mm", echogenicity="anechoic").radius
    0.003
    """

    shape: Literal["tube"] = "tube"
    path: Annotated[tuple[Place, ...], Field(min_length=2, max_length=64)]
    """Metres; (x, z) of the points that the vessel's middle passes, in order."""
    radius: Extent
    """Metres; of the lumen: the wall lies outside it."""

    @model_validator(mode="after")
    def _has_a_course(self) -> Tube:
        _refuse_equal("path", self.path, closed=False)
        return self


AnyRegion = Annotated[
    Circle | Ellipse | Annulus | Rectangle | Triangle | Polygon | Spline | Tube | Layer | ImageMap | LabelMap,
    Field(discriminator="shape"),
]


def _refuse_equal(key: str, points: Corners, *, closed: bool) -> None:
    """Refuse a curve that stays where it is: two neighbouring points in one place."""
    for k in range(0 if closed else 1, len(points)):
        if math.dist(points[k - 1], points[k]) < 1e-6:
            raise ValueError(f"{key}.{k}: lies within 1 um of the point before it; remove one of the two")


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
