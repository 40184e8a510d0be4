"""Refusals of settings, with what is allowed: `make` puts the method's name before them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def number(name: str, value: Any, least: float, most: float, unit: str = "") -> float:
    """The value as a float; raises ValueError unless it is a number from least to most."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}; allowed is a number from {least:g} to {most:g} {unit}".rstrip())
    return float(value)


def whole(name: str, value: Any, least: int, most: int) -> int:
    """The value; raises ValueError unless it is a whole number from least to most."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}; allowed is a whole number from {least} to {most}")
    return value


def odd(name: str, value: Any, least: int, most: int) -> int:
    """The value; raises ValueError unless it is an odd number from least to most: windows have a centre."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most or value % 2 == 0:
        raise ValueError(f"{name} is {value!r}; allowed is an odd number from {least} to {most}")
    return value


def flag(name: str, value: Any) -> bool:
    """The value; raises ValueError unless it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; allowed is true or false")
    return value


def one_of(name: str, value: Any, allowed: Iterable[str]) -> str:
    """The value; raises ValueError unless it is one of those allowed."""
    known = tuple(allowed)
    if value not in known:
        raise ValueError(f"{name} {value!r}: allowed are {', '.join(known)}")
    return str(value)


def cell_of(name: str, value: Any) -> tuple[int, int]:
    """The value as (rows, columns); raises ValueError unless it is two odd numbers from 1 to 63."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} {value!r}: two odd numbers are needed, rows and columns")
    rows, columns = (odd(name, side, 1, 63) for side in value)
    return rows, columns


def pair_of(name: str, value: Any, least: int, most: int) -> tuple[int, int]:
    """The value as (rows, columns); raises ValueError unless it is two whole numbers from least to most."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"{name} {value!r}: two whole numbers are needed, rows and columns")
    rows, columns = (whole(name, side, least, most) for side in value)
    return rows, columns
