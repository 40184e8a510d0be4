"""Where items lie: groups, written about (0, 0) and placed as one, and items that keep their distance.

A group stands in `regions` (or in another group) and is what its items are, turned by `angle` and moved to `at`:

    {at: [x, z], angle: a, group: [regions and groups], points: [...], wires: [...], interfaces: [...]}

An item with `apart` is drawn again until its bounding circle keeps that distance from those of the items of the same
list that also have one.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from usim.description import Description, Refusal, refusals
from usim.phantom import regions
from usim.phantom.map_regions import AnyMap
from usim.phantom.regions import AnyRegion
from usim.units import Quantity, parse_quantity

Path = tuple[str | int, ...]
Place = tuple[float, float]

LISTS: Final = ("regions", "points", "wires", "interfaces")
"""The lists of a document whose items are repeated and kept apart."""
GROUPED: Final = {"group": "regions", **{name: name for name in LISTS[1:]}}
"""The lists that a group holds, and those of the document that they belong to."""
APART: Final = Quantity("length", least=0.0, most=0.4)
MOST_TRIES: Final = 1000
_PAIRS: Final = ("center", "position")
_CHAINS: Final = ("vertices", "path")
# Shapes are looked at in the middle of what a scene may hold: those of a group lie about (0, 0).
_MIDDLE: Final = 0.25
_SHAPES: Final[TypeAdapter[Any]] = TypeAdapter(AnyRegion)
Offset = Annotated[float, Quantity("length", least=-0.5, most=0.5)]


class Group(Description):
    """Where a group lies; its items are written about (0, 0)."""

    at: tuple[Offset, Offset]
    """Metres; (x, z) where the group's own (0, 0) lies."""
    angle: Annotated[float, Quantity("angle", least=-2 * math.pi, most=2 * math.pi)] = 0.0
    """Radians; turns the group about its own (0, 0), x towards z, that is clockwise in the picture."""


class Circle(NamedTuple):
    """What an item reaches: the centre and radius in metres, and the distance that it keeps."""

    x: float
    z: float
    radius: float
    apart: float

    def clear_of(self, other: Circle) -> bool:
        """Whether two items keep the larger of their distances."""
        between = math.hypot(self.x - other.x, self.z - other.z) - self.radius - other.radius
        return between >= max(self.apart, other.apart)


def group_of(item: dict[str, Any]) -> Group:
    """Return where a group lies."""
    return Group.model_validate({key: value for key, value in item.items() if key not in GROUPED})


def is_group(item: Any) -> bool:
    """Whether an item of a list is a group."""
    return isinstance(item, dict) and "group" in item


def group_refusals(item: dict[str, Any]) -> list[Refusal]:
    """Return what is wrong with a group's own keys, by their path in it."""
    wrong = [
        Refusal((key,), False, "expected a list of items") for key in GROUPED if not isinstance(item.get(key, []), list)
    ]
    try:
        group_of(item)
    except ValidationError as error:
        wrong += [_with_lists(refusal) for refusal in refusals(error, Group)]
    return wrong


def _with_lists(refusal: Refusal) -> Refusal:
    allowed = f"(allowed: {', '.join(sorted(('angle', 'apart', 'at', 'repeat', *GROUPED)))})"
    head, unknown, _ = refusal.message.partition("(allowed:")
    return refusal._replace(message=head + allowed) if unknown else refusal


def placed(item: Any, group: Group) -> Any:
    """Return an item of a group as it lies in the list that the group stands in; what is no quantity stays as it is.

    Raises ValueError for an item that can't be turned.
    """
    if not isinstance(item, dict):
        return item
    moved = {key: _moved(value, group) if key in _PAIRS else value for key, value in item.items()}
    for key in _CHAINS:
        if isinstance(item.get(key), list):
            moved[key] = [_moved(point, group) for point in item[key]]
    if item.get("shape") == "layer":
        return _moved_layer(moved, group)
    if item.get("shape") in ("image", "labels") and "center" not in item:
        moved |= _moved_edges(item, group)
    if group.angle and "shape" in item:
        if not any(key in item for key in _CHAINS):
            moved["angle"] = _turned(item.get("angle", 0.0), group.angle)
        texture = item.get("texture")
        if isinstance(texture, dict) and texture.get("type") == "fibres":
            moved["texture"] = {**texture, "direction": _turned(texture.get("direction", 0.0), group.angle)}
    return moved


def _moved(pair: Any, group: Group) -> Any:
    place = _numbers(pair)
    if place is None:
        return pair
    cos, sin = math.cos(group.angle), math.sin(group.angle)
    return [group.at[0] + cos * place[0] - sin * place[1], group.at[1] + sin * place[0] + cos * place[1]]


def _moved_layer(layer: dict[str, Any], group: Group) -> dict[str, Any]:
    if group.angle:
        raise ValueError("a layer has no ends and can't be turned; use a rectangle, or a group without angle")
    z = _numbers(layer.get("z"))
    moved = {**layer, "z": layer.get("z") if z is None else [value + group.at[1] for value in z]}
    wave = layer.get("wave")
    if isinstance(wave, dict) and (length := _number(wave.get("wavelength"), "length")):
        moved["wave"] = {**wave, "phase": _turned(wave.get("phase", 0.0), -2 * math.pi * group.at[0] / length)}
    return moved


def _moved_edges(item: dict[str, Any], group: Group) -> dict[str, Any]:
    x, z = _numbers(item.get("x")), _numbers(item.get("z"))
    if x is None or z is None:
        return {}
    middle = _moved([sum(x) / 2, sum(z) / 2], group)
    return {key: [m - (b - a) / 2, m + (b - a) / 2] for key, (a, b), m in zip("xz", (x, z), middle, strict=True)}


def _turned(angle: Any, by: float) -> Any:
    own = _number(angle, "angle")
    return angle if own is None else math.remainder(own + by, 2 * math.pi)


def _numbers(pair: Any) -> Place | None:
    numbers = [_number(value, "length") for value in pair] if isinstance(pair, list | tuple) else []
    return (numbers[0], numbers[1]) if len(numbers) == 2 and None not in numbers else None  # type: ignore[return-value]


def _number(value: Any, dimension: str) -> float | None:
    try:
        return parse_quantity(value, dimension)
    except ValueError:
        return None


def why_endless(item: Any) -> str:
    """Return why an item can't keep a distance, "" when it can."""
    shape = item.get("shape") if isinstance(item, dict) else None
    if shape == "layer":
        return "a layer has no end that could keep a distance; leave apart out"
    if shape in ("image", "labels") and "center" in item:
        return "a map that keeps a distance needs its edges x and z, not center: its size must be known beforehand"
    return ""


def circle_of(items: list[Any], apart: float) -> Circle | None:
    """Return the circle about items; None where there is none, or one of them can't be: drawing will tell."""
    circles = []
    for item in items:
        reach = _reach(item)
        if reach is None:
            return None
        circles.append(reach)
    return _about(circles)._replace(apart=apart) if circles else None


def _about(circles: list[Circle]) -> Circle:
    """The circle about circles, its centre in the middle of their box."""
    if len(circles) == 1:
        return circles[0]
    left, right = min(c.x - c.radius for c in circles), max(c.x + c.radius for c in circles)
    top, bottom = min(c.z - c.radius for c in circles), max(c.z + c.radius for c in circles)
    x, z = (left + right) / 2, (top + bottom) / 2
    return Circle(x, z, max(math.hypot(c.x - x, c.z - z) + c.radius for c in circles), 0.0)


def _reach(item: dict[str, Any]) -> Circle | None:
    if "shape" not in item:
        places = [_numbers(place) for place in item.get("path", [item.get("position")])]
        return None if None in places else _about([Circle(*place, 0.0, 0.0) for place in places if place])
    try:
        region = _SHAPES.validate_python(placed(item, Group(at=(0.0, _MIDDLE))))
    except ValidationError:
        return None
    if why_endless(item):
        return None
    # scipy, which outlines need, is not loaded for a phantom that keeps no distances
    from usim.phantom.map_sampling import placed as map_place
    from usim.phantom.outlines import outline_of

    left, right, top, bottom = map_place(region).box if isinstance(region, AnyMap) else outline_of(region).box
    x, z = (left + right) / 2, (top + bottom) / 2
    if isinstance(region, regions.Circle | regions.Annulus):
        radius = (right - left) / 2
    elif isinstance(region, regions.Ellipse):
        radius = max(region.semi_axes)
    elif isinstance(region, regions.Rectangle | regions.Triangle | regions.Polygon):
        radius = max(math.dist((x, z), corner) for corner in region.corners)
    else:
        radius = math.hypot(right - x, bottom - z)
    wall = getattr(region, "wall", None)
    return Circle(x, z - _MIDDLE, radius + (wall.thickness if wall else 0.0), 0.0)
