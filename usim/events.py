"""Transmit events: what the array fires, one description each."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainValidator

from usim.description import Description
from usim.probe import MOST_ELEMENTS, Coordinate, Listed, Waveform
from usim.transmit import Apodization, Cycles
from usim.units import Quantity, did_you_mean, show

STEEPEST = math.radians(80.0)
WINDOWS: tuple[Apodization, ...] = ("boxcar", "hann", "hamming")
_WEIGHT = Quantity("number", least=-1e6, most=1e6)


def _weights(given: Any) -> Any:
    """Accept a window's name or one weight per element."""
    given = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(given, str):
        if given not in WINDOWS:
            hint = did_you_mean(given, WINDOWS)
            raise ValueError(f"'{show(given)}' is none of {', '.join(WINDOWS)}, nor one weight per element{hint}")
        return given
    if not isinstance(given, list | tuple) or not 1 <= len(given) <= MOST_ELEMENTS:
        raise ValueError(f"expected a window ({', '.join(WINDOWS)}) or a list of one weight per element")
    weights = []
    for i, weight in enumerate(given):
        try:
            weights.append(_WEIGHT.check(weight))
        except ValueError as error:
            raise ValueError(f"weight {i}: {error}") from None
    if not any(weights):
        raise ValueError("all elements are off: at least one weight must differ from 0")
    return tuple(weights)


def _refuse_missing(delays: Any) -> Any:
    for i, delay in enumerate(delays) if isinstance(delays, list | tuple) else ():
        if delay is None or (isinstance(delay, float) and math.isnan(delay)):
            raise ValueError(f"delay {i} is {show(delay)}; switch an element off by a weight of 0 in `apodization`")
    return delays


Weights = Annotated[Apodization | tuple[float, ...], PlainValidator(_weights)]
Delay = Annotated[float, Quantity("time", least=0.0, most=0.1)]
Behind = Annotated[float, Quantity("length", least=-10.0, most=0.0)]


class Excitation(Description):
    """What every event has: the signal that drives the elements."""

    cycles: Cycles = 1.0
    """Periods of the excitation sine."""
    excitation: Waveform | None = None
    """Your own signal in place of the sine; its t = 0 leaves an element at that element's delay."""


class FullMatrix(Excitation):
    """Each element alone, in turn: one transmission per element.

    >>> FullMatrix(cycles=2).cycles
    2.0
    """


class Weighted(Excitation):
    """An event of several elements."""

    apodization: Weights = "boxcar"
    """Window over the array, or one weight per element."""


class PlaneWave(Weighted):
    """A plane wave.

    >>> round(PlaneWave(angle="10 deg").angle, 4)
    0.1745
    """

    angle: Annotated[float, Quantity("angle", least=-STEEPEST, most=STEEPEST)] = 0.0
    """Radians, at most 80 deg; positive steers towards +x."""


class Focused(Weighted):
    """A wave that converges to a point.

    >>> Focused(point=(0, 0, "20 mm")).point
    (0.0, 0.0, 0.02)
    """

    point: Annotated[tuple[Coordinate, Coordinate, Coordinate], Listed]
    """Metres; the focus (x, y, z)."""


class Diverging(Weighted):
    """A wave that seems to come from a point behind the array.

    >>> Diverging(source=(0, 0, "-10 mm")).source
    (0.0, 0.0, -0.01)
    """

    source: Annotated[tuple[Coordinate, Coordinate, Behind], Listed]
    """Metres; the virtual source (x, y, z), z at most 0."""


class Delays(Weighted):
    """Your own delays.

    >>> Delays(delays=(0, "50 ns")).delays
    (0.0, 5e-08)
    """

    delays: Annotated[
        tuple[Delay, ...],
        Field(max_length=MOST_ELEMENTS, fail_fast=True),
        BeforeValidator(_refuse_missing),
        Listed,
    ]
    """Seconds, one per element, at least 0."""


Event = PlaneWave | Focused | Diverging | FullMatrix | Delays
"""Any transmit event."""
