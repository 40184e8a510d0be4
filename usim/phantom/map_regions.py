"""Regions that come from files: an image's grey values or a map of labels, placed in the scene."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from usim.description import Description
from usim.errors import UsimError
from usim.phantom.tissue import Region
from usim.scan import Depth, Lateral
from usim.units import Count, Quantity, show

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
Level = Annotated[float, Quantity("level", least=-90.0, most=60.0)]
Grey = Annotated[float, Quantity("number", least=-1e9, most=1e9)]
MOST_VALUES = 1024


class Table(dict[Any, Any]):
    """A mapping that is never changed, so that what holds it can be hashed."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


def _whole(key: object) -> int:
    """Read a label, which is text where a mapping's keys are."""
    text = key.strip() if isinstance(key, str) else ""
    return Count(-(2**31), 2**31 - 1).check(int(text) if text.lstrip("-").isdecimal() and len(text) < 20 else key)


class _OrNone:
    """The mark of what may also be `none`, which is None inside."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nothing = core_schema.no_info_plain_validator_function(lambda value: None if value == "none" else value)
        return core_schema.chain_schema([nothing, handler(source)])

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"enum": ["none"]}, handler(schema["steps"][1])]}


class _Placed(Description):
    """What both kinds share: the file, the slice of it, and where it lies."""

    file: Annotated[str, Field(min_length=1, max_length=1000)]
    """Path of a PNG, TIFF, NPY or NIfTI file, relative to the phantom file."""
    sha256: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    """Hash of the file; filled in by loading."""
    x: tuple[Lateral, Lateral] | None = None
    """Metres; lateral positions of the map's left and right edge."""
    z: tuple[Annotated[float, Quantity("length", least=-0.5, most=0.5)], Depth] | None = None
    """Metres; depths of the map's upper and lower edge."""
    center: tuple[Lateral, Depth] | None = None
    """Metres; (x, z) of the map's centre, instead of its edges."""
    pixel: Annotated[float, Quantity("length", above=0, most=20e-3)] | None = None
    """Metres; side of a pixel, with `center`; what the file says unless given."""
    angle: Annotated[float, Quantity("angle", least=-2 * math.pi, most=2 * math.pi)] = 0.0
    """Radians; turns the map about its centre, x towards z, that is clockwise in the picture."""
    slice: Annotated[int, Count(0, 65535)] | None = None
    """Which map of a stack (NIfTI volume, pages of a TIFF, 3-D NPY), from 0; the middle one unless given."""
    axes: tuple[Axis, Axis] = ("-x", "-y")
    """Axes of a NIfTI volume that become x and z: x to the patient's right, y to the front, z to the head."""

    @model_validator(mode="after")
    def _placed_once(self) -> _Placed:
        given = [key for key in ("x", "z", "center", "pixel") if getattr(self, key) is not None]
        edges, centre = [key for key in given if key in "xz"], [key for key in given if key not in "xz"]
        if edges and centre:
            raise ValueError(f"{centre[0]}: goes without {edges[0]}; give the edges x and z, or center and pixel")
        if len(edges) == 1 or (not edges and self.center is None):
            raise ValueError("needs the edges x and z, or center (and pixel, where the file does not say its own)")
        for name, edge in (("x", self.x), ("z", self.z)):
            if edge is not None and not edge[1] > edge[0]:
                raise ValueError(f"{name}: the end {edge[1] * 1e3:g} mm must lie beyond the start {edge[0] * 1e3:g} mm")
        if self.axes[0][-1] == self.axes[1][-1]:
            raise ValueError(f"axes: {self.axes[0]} and {self.axes[1]} are one axis; name two")
        return self


class ImageMap(_Placed, Region):
    """Grey values as echogenicity: `levels` from the lowest to the highest grey, or a `curve`.

    >>> ImageMap(file="scan.png", x=("-2 cm", "2 cm"), z=("0 mm", "3 cm"), levels=("-30 dB", "5 dB")).interpolation
    'linear'
    """

    shape: Literal["image"] = "image"
    echogenicity: Level = 0.0  # type: ignore[assignment]
    """dB that are added to those of the grey values."""
    levels: tuple[Level, Level] | None = None
    """dB of the lowest and of the highest grey, and in proportion between them."""
    grey: tuple[Grey, Grey] | None = None
    """The lowest and the highest grey, with `levels`; the ends of the file's type unless given."""
    curve: Annotated[dict[Grey, Level], Field(min_length=2, max_length=256), AfterValidator(Table)] | None = None
    """dB by grey, straight between the greys that are named and constant beyond them."""
    anechoic_below: Grey | None = None
    """Greys below this scatter nothing."""
    interpolation: Literal["linear", "nearest"] = "linear"
    """Between the centres of pixels: linear in power, or the nearest pixel's."""

    @model_validator(mode="after")
    def _levelled_once(self) -> ImageMap:
        if (self.levels is None) == (self.curve is None):
            raise ValueError("needs levels, or curve" if self.curve is None else "levels and curve exclude each other")
        if self.grey is not None and self.levels is None:
            raise ValueError("grey: goes with levels, not with curve")
        if self.grey is not None and not self.grey[1] > self.grey[0]:
            raise ValueError(f"grey: the highest {self.grey[1]:g} must lie above the lowest {self.grey[0]:g}")
        return self


class LabelMap(_Placed):
    """Labels as tissues: each value of the file is a part with a name, an echogenicity and a label of its own.

    >>> brain = {0: "none", 1: {"name": "grey", "echogenicity": 0}, 2: {"name": "white", "echogenicity": "-4 dB"}}
    >>> slice = LabelMap(file="brain.nii.gz", center=("0 mm", "30 mm"), values=brain)
    >>> [part.name for part in slice.parts]
    ['grey', 'white']
    """

    shape: Literal["labels"] = "labels"
    values: Annotated[
        dict[Annotated[int, BeforeValidator(_whole)], Annotated[Region | None, _OrNone()]],
        Field(min_length=1, max_length=MOST_VALUES),
        AfterValidator(Table),
    ]
    """What each value is: a tissue with name and echogenicity, or `none` for whatever lies beneath the map."""
    others: Literal["none"] | None = None
    """`none` lets all other values be `none`; unless given, they are refused."""

    @model_validator(mode="after")
    def _ends_at_pixels(self) -> LabelMap:
        soft = [value for value, tissue in self.values.items() if tissue is not None and tissue.edge]
        if soft:
            raise ValueError(f"values.{soft[0]}.edge: a label ends where its pixels do; leave edge out")
        return self

    @property
    def parts(self) -> tuple[Region, ...]:
        """The tissues, in the order in which they are written."""
        return tuple(tissue for tissue in self.values.values() if tissue is not None)


AnyMap = ImageMap | LabelMap


def show_values(values: Any) -> str:
    """Return values of a map as an error message lists them: the first eight."""
    shown = ", ".join(show(value) for value in values[:8])
    return f"{shown} and {len(values) - 8} more" if len(values) > 8 else shown


def blamed(error: UsimError, holder: Description) -> tuple[str, str]:
    """Return which key an error's text begins with, "" for none, and the text after it."""
    key, _, message = str(error).partition(": ")
    return (key, message) if key in type(holder).model_fields else ("", str(error))
