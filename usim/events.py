"""Transmit events: what the array fires, one description each."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from usim.description import Description
from usim.probe import MOST_ELEMENTS, Coordinate, Listed, Waveform
from usim.transmit import Apodization, Cycles
from usim.units import Quantity, did_you_mean, show

STEEPEST = math.radians(80.0)
WINDOWS: tuple[Apodization, ...] = ("boxcar", "hann", "hamming")


def _window_or_weights(given: Any) -> Any:
    """Refuse what is neither a window's name nor a list of weights, in one message."""
    given = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(given, list | tuple):
        if len(given) > MOST_ELEMENTS:
            raise ValueError(f"expected at most {MOST_ELEMENTS} weights, got {len(given)}")
        return given
    if given not in WINDOWS:
        hint = did_you_mean(given, WINDOWS) if isinstance(given, str) else ""
        raise ValueError(f"'{show(given)}' is none of {', '.join(WINDOWS)}, nor a list of one weight per element{hint}")
    return given


def _not_all_off(weights: Any) -> Any:
    if not any(weights):
        raise ValueError("all elements are off: at least one weight must differ from 0")
    return weights


def _not_missing(delay: Any) -> Any:
    if delay is None or (isinstance(delay, float) and math.isnan(delay)):
        raise ValueError(
            f"expected a finite delay, got {show(delay)}; an element is switched off by a weight of 0 in `apodization`"
        )
    return delay


Weight = Annotated[float, Quantity("number", least=-1e6, most=1e6)]
Weights = Annotated[
    Annotated[Apodization, Tag("window")]
    | Annotated[tuple[Weight, ...], Field(fail_fast=True), AfterValidator(_not_all_off), Tag("weights")],
    Discriminator(lambda given: "window" if isinstance(given, str) else "weights"),
    BeforeValidator(_window_or_weights),
]
Delay = Annotated[float, Quantity("time", least=0.0, most=0.1), BeforeValidator(_not_missing)]
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
        Listed,
    ]
    """Seconds, one per element, at least 0."""


Event = PlaneWave | Focused | Diverging | FullMatrix | Delays
"""Any transmit event."""
