"""Refusals of settings, with what is allowed: `make` puts the method's name before them."""

from __future__ import annotations

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
