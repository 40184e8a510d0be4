"""Quantities with units: what a phantom file may write, and how it becomes an SI float within physical limits."""

from __future__ import annotations

import difflib
import math
import numbers
import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

# Factors to the unit inside (the first of each row). Decimal, because 0.3 mm must be the float 0.0003 that a person
# writes by hand: 0.3 * 1e-3 is 0.00029999999999999997.
# The second of each row is what people mean most often when a bare number is beyond the limits.
UNITS: Final[dict[str, dict[str, Decimal]]] = {
    "length": {"m": Decimal(1), "mm": Decimal("1e-3"), "cm": Decimal("1e-2"), "um": Decimal("1e-6")},
    "time": {"s": Decimal(1), "us": Decimal("1e-6"), "ms": Decimal("1e-3"), "ns": Decimal("1e-9")},
    "frequency": {"Hz": Decimal(1), "MHz": Decimal("1e6"), "kHz": Decimal("1e3")},
    "speed": {
        "m/s": Decimal(1),
        "mm/us": Decimal("1e3"),
        "km/s": Decimal("1e3"),
        "mm/s": Decimal("1e-3"),
        "cm/s": Decimal("1e-2"),
    },
    "attenuation": {"dB/cm/MHz": Decimal(1), "dB/m/MHz": Decimal("1e-2"), "dB/m/Hz": Decimal("1e4")},
    "angle": {"rad": Decimal(1), "deg": Decimal(math.pi) / 180},
    "angular rate": {"rad/s": Decimal(1), "deg/s": Decimal(math.pi) / 180},
    "strain rate": {"1/s": Decimal(1), "%/s": Decimal("1e-2")},
    "level": {"dB": Decimal(1)},
    "level slope": {"dB/cm": Decimal(1), "dB/mm": Decimal(10), "dB/m": Decimal("1e-2")},
    "number per area": {"/m^2": Decimal(1), "/mm^2": Decimal("1e6"), "/cm^2": Decimal("1e4")},
    "fraction": {"": Decimal(1), "%": Decimal("1e-2")},
    "number": {"": Decimal(1)},
    "pixel count": {"px": Decimal(1)},
}
_DIMENSION: Final = {unit: name for name, units in UNITS.items() for unit in units if unit}
_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_QUANTITY: Final = re.compile(rf"({_NUMBER})\s*(\S*)", re.ASCII)


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'X'?" for the closest allowed word, or "" when none is close.

    >>> did_you_mean("radus", ["radius", "center"])
    "; did you mean 'radius'?"
    """
    choices = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(word.lower(), choices, n=1)
    return f"; did you mean '{choices[close[0]]}'?" if close else ""


def show(value: object, most: int = 60) -> str:
    """Return a value as an error message shows it: short, one line, as it would be written in YAML."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else None
    text = text or (f"{value:.6g}" if isinstance(value, float) else str(value))
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= most else text[: most - 3] + "..."


def split_quantity(value: object) -> tuple[float, str]:
    """Return the number (SI) and the dimension of "7.6 MHz"; a bare number has the dimension "".

    Raises ValueError when the text is not a number with a known unit.

    >>> split_quantity("7.6 MHz")
    (7600000.0, 'frequency')
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value), ""
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 100 else None
    if match is None:
        raise ValueError(f"expected a number, with a unit or in SI, got {show(value)}")
    unit = match[2].replace("µ", "u").replace("μ", "u")
    if unit and unit not in _DIMENSION:
        raise ValueError(f"unknown unit '{show(unit)}'{did_you_mean(unit, _DIMENSION)}")
    dimension = _DIMENSION.get(unit, "")
    factor = UNITS[dimension][unit] if unit else Decimal(1)
    return float(Decimal(match[1]) * factor), dimension


def parse_quantity(value: object, dimension: str) -> float:
    """Return a quantity in the unit used inside (SI; dB/cm/MHz, dB, dB/cm and rad for the others).

    value: a bare number in that unit, or text such as "7.6 MHz". dimension: a key of UNITS.
    Raises ValueError naming the allowed units.

    >>> parse_quantity("0.3 mm", "length")
    0.0003
    """
    units = [unit for unit in UNITS[dimension] if unit]
    allowed = f" ({_one(dimension)}: {', '.join(units)})" if units else " (a plain number)"
    try:
        number, found = split_quantity(value)
    except ValueError as error:
        unit = value.strip().lstrip("+-.0123456789 ") if isinstance(value, str) else ""
        if "unknown unit" in str(error) and units:
            raise ValueError(f"unknown unit '{show(unit)}'{did_you_mean(unit, units)}{allowed}") from None
        raise ValueError(f"{error}{allowed}") from None
    if found not in ("", dimension):
        raise ValueError(f"{show(value)} is {_one(found)}, not {_one(dimension)}{allowed}")
    if not math.isfinite(number):
        raise ValueError(f"must be finite, got {show(value)}{allowed}")
    return number


def _one(dimension: str) -> str:
    return f"{'an' if dimension[0] in 'aeiou' else 'a'} {dimension}"


@dataclass(frozen=True)
class Quantity:
    """The mark of a numeric field: its dimension, its physical limits in the unit inside, and words allowed instead.

    above: the value must be greater. least, most: the value may be equal. words: e.g. ("anechoic",).
    """

    dimension: str
    above: float | None = None
    least: float | None = None
    most: float = math.inf
    words: tuple[str, ...] = ()

    def check(self, value: object) -> float | str:
        """Return the value as a float inside the limits (or one of the words); ValueError otherwise."""
        if isinstance(value, str) and value in self.words:
            return value
        try:
            number = parse_quantity(value, self.dimension)
        except ValueError as error:
            if not self.words:
                raise
            instead = " or ".join(f"'{word}'" for word in self.words)
            hint = did_you_mean(value, self.words) if isinstance(value, str) else ""
            raise ValueError(f"{error}, or {instead}{hint}") from None
        if not self._holds(number):
            raise ValueError(self._refusal(value, number))
        return number

    def _holds(self, number: float) -> bool:
        low = self.above is None or number > self.above
        return low and (self.least is None or number >= self.least) and number <= self.most

    def _refusal(self, value: object, number: float) -> str:
        """Say which limit is broken, and which unit was probably meant."""
        inside = next(iter(UNITS[self.dimension]))
        written = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
        got = show(value) if written and written[2] else f"{show(value)} {inside}".strip()
        bare = float(written[1]) if written else number
        meant = next((f"{bare:g} {u}" for u, f in UNITS[self.dimension].items() if self._holds(bare * float(f))), "")
        hint = f"; did you mean {meant}?" if meant else ""
        if number > self.most:
            return f"{got} is beyond {self._limit(self.most)}{hint}"
        if self.above is not None:
            return f"must be greater than {self._limit(self.above)} (got {got}){hint}"
        return f"must be at least {self._limit(self.least or 0.0)} (got {got}){hint}"

    def _limit(self, limit: float) -> str:
        """Write a limit in the unit that gives the shortest number: 5 mm rather than 0.005 m."""
        if limit == 0:
            return "0"
        texts = [f"{limit / float(f):.4g} {u}".strip() for u, f in UNITS[self.dimension].items()]
        return min(texts, key=len)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        number: dict[str, Any] = {"type": "number"}
        limits = {"exclusiveMinimum": self.above, "minimum": self.least, "maximum": self.most}
        number |= {key: limit for key, limit in limits.items() if limit is not None and math.isfinite(limit)}
        units = "|".join(re.escape(unit) for unit in UNITS[self.dimension] if unit)
        text = {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*({units})?\s*$"}
        words = [{"enum": list(self.words)}] if self.words else []
        return {"anyOf": [number, text, *words]}


@dataclass(frozen=True)
class Size(Quantity):
    """The mark of a length that may also be written in pixels of the image: metres, or text such as "2.4 px".

    pixels: least and most of them.
    """

    pixels: tuple[float, float] = (0.0, math.inf)

    def check(self, value: object) -> float | str:
        """Return metres, or the text of a number of pixels, inside the limits; ValueError otherwise."""
        try:
            number, found = split_quantity(value)
        except ValueError:
            found = ""
        if found != "pixel count":
            try:
                return super().check(value)
            except ValueError as error:
                raise ValueError(f"{error} (or in pixels: px)") from None
        low, high = self.pixels
        if not low <= number <= high:
            raise ValueError(f"{show(value)} is not from {low:g} px to {high:g} px")
        return f"{number!r} px"

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        pixels = {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*px\s*$"}
        return {"anyOf": [*super().__get_pydantic_json_schema__(schema, handler)["anyOf"], pixels]}


def in_metres(size: float | str, pixel: float) -> float:
    """Return a size that `Size` has checked in metres; pixel: that of one pixel.

    >>> in_metres("2.5 px", 0.0002)
    0.0005
    """
    return split_quantity(size)[0] * pixel if isinstance(size, str) else size


@dataclass(frozen=True)
class Count:
    """The mark of a whole-number field and its limits, both inclusive."""

    least: int
    most: int

    def check(self, value: object) -> int:
        """Return the value as an int inside the limits; ValueError otherwise."""
        whole = isinstance(value, numbers.Integral) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole:
            raise ValueError(f"expected a whole number from {self.least} to {self.most}, got {show(value)}")
        number = int(value)  # type: ignore[call-overload]
        if not self.least <= number <= self.most:
            side = f"is beyond {self.most}" if number > self.most else f"is below {self.least}"
            raise ValueError(f"{show(value)} {side}: expected a whole number from {self.least} to {self.most}")
        return int(number)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}
