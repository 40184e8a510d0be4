"""What a scanner does to the picture before it is shown, as a description: gains, grey curve, persistence, bits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from usim.description import Description
from usim.units import Count, Quantity, show

MOST_PERSISTENCE = 16
Error = Annotated[float, Quantity("level", least=-40.0, most=40.0)]
White = Annotated[float, Quantity("level", least=-100.0, most=60.0)]


class LogCurve(Description):
    """Grey proportional to the level in dB.

    grey = 1 + (10 log10 I - white) / dynamic_range, clipped to [0, 1]; I is 1 at 0 dB of the image.
    """

    type: Literal["log"] = "log"
    dynamic_range: Annotated[float, Quantity("level", least=1.0, most=150.0)] = 60.0
    """dB from black to white."""
    white: White = 0.0
    """dB of the image, gain included, that is just white."""


class PowerCurve(Description):
    """Grey proportional to a power of the envelope, above a black level.

    grey = (I^(exponent/2) - B^(exponent/2)) / (W^(exponent/2) - B^(exponent/2)), clipped to [0, 1], with the levels
    `black` and `white` as intensities B and W.
    """

    type: Literal["power"] = "power"
    exponent: Annotated[float, Quantity("number", least=0.05, most=2.0)] = 0.4
    """Power of the envelope; towards 0 the curve becomes that of `log`."""
    black: Annotated[float, Quantity("level", least=-150.0, most=50.0)] = -50.0
    """dB of the image, gain included, below which all is black."""
    white: White = 0.0
    """dB of the image, gain included, that is just white."""

    @model_validator(mode="after")
    def _black_is_darker(self) -> PowerCurve:
        if self.white - self.black < 1.0:
            raise ValueError(
                f"black {self.black:g} dB must lie 1 dB or more below white {self.white:g} dB; lower black or raise "
                "white"
            )
        return self


Curve = Annotated[LogCurve | PowerCurve, Field(discriminator="type")]


class Sliders(Description):
    """Wrong settings of the sliders of time-gain compensation, equally spaced from the first to the last pixel row."""

    sliders: Annotated[tuple[Error, ...], Field(min_length=2, max_length=32)]
    """dB that each slider is off, from the top; linear in between."""


class DriftingGain(Description):
    """A wrong gain that drifts at random with depth."""

    std: Annotated[float, Quantity("level", least=0.0, most=20.0)]
    """dB; standard deviation."""
    correlation: Annotated[float, Quantity("length", least=1e-3, most=0.5)] = 10e-3
    """Metres of depth in which the autocorrelation falls to 1/e."""
    seed: Annotated[int, Count(0, 2**63 - 1)] = 0
    """Which drift; drawn for every scene of a random phantom."""


def _error_kind(given: Any) -> str:
    listed = "sliders" in given if isinstance(given, dict) else isinstance(given, Sliders)
    return "Sliders" if listed else "DriftingGain"


TgcError = Annotated[
    Annotated[Sliders, Tag("Sliders")] | Annotated[DriftingGain, Tag("DriftingGain")], Discriminator(_error_kind)
]


class Display(Description):
    """The scanner's display: gains, grey curve, gamma, persistence, bits.

    >>> Display(curve={"type": "power", "black": "-45 dB"}).curve.exponent
    0.4
    """

    gain: Annotated[float, Quantity("level", least=-60.0, most=60.0)] = 0.0
    """dB added before the curve."""
    tgc_error: TgcError | None = None
    """Gain over depth that is wrong; none unless given."""
    curve: Curve = LogCurve()
    """From level to grey."""
    gamma: Annotated[float, Quantity("number", least=0.2, most=5.0)] = 1.0
    """Power to which the grey of the curve is raised."""
    persistence: Annotated[int, Count(1, MOST_PERSISTENCE)] = 1
    """Number of pictures of a sequence that are averaged: this one and those before it."""
    bits: Literal[8, 32] = 8
    """8: whole numbers from 0 to 255; 32: fractions from 0 to 1, not rounded."""

    @field_validator("bits", mode="before")
    @classmethod
    def _known_bits(cls, given: Any) -> Any:
        if given not in (8, 32) or isinstance(given, bool):
            raise ValueError(
                f"expected 8 (whole numbers from 0 to 255) or 32 (fractions from 0 to 1), got {show(given)}"
            )
        return int(given)
