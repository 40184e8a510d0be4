"""What the numbers of an image mean, and the ways between the scales: decibels, grey levels, envelope.

Inside s2s every image is in dB with 0 dB as full scale. Files and users bring envelopes or log-compressed grey levels;
methods see tensors on one of two scales. All conversions are here, over the array namespace of the arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from array_api_compat import array_namespace

from usim.errors import ConfigError

#: Decibels between 0 and 1 of the scale that methods of domain "db" see: y = 1 + dB / 60.
RANGE_DB = 60.0
#: Standard deviation of fully developed speckle in dB, pi / sqrt(6) * 10 / ln 10, whatever the brightness.
SPECKLE_DB = 5.5702
#: E[10 log10 I] lies this many dB below 10 log10 E[I]: Euler's gamma * 10 / ln 10.
LOG_BIAS_DB = 2.5068
#: dB below which nothing is told apart; log of zero ends here.
LOWEST_DB = -150.0

Kind = Literal["db", "log", "envelope"]
Scale = Literal["db", "env"]


@dataclass(frozen=True)
class Domain:
    """What the numbers of an image mean.

    kind: "db", decibels; "log", grey levels that are linear in dB, from 0 (`dynamic_range` dB below white) to `white`;
    "envelope", linear amplitude.  dynamic_range: dB between black and white; a denoiser takes what is darker as
    black.  white: the value that is 0 dB, such as 255 of an 8-bit image, or the largest value of an envelope; 0 dB
    itself for "db".

    Raises ConfigError for an unknown kind, or a range or white that is not positive.

    >>> Domain("log", 50.0, 255.0).to_db(np.array([0.0, 255.0]))
    array([-50.,   0.])
    """

    kind: Kind
    dynamic_range: float = RANGE_DB
    white: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("db", "log", "envelope"):
            raise ConfigError(f"domain: {self.kind!r} is unknown; allowed are db, log and envelope")
        if not 10.0 <= self.dynamic_range <= 150.0:
            raise ConfigError(f"dynamic range: {self.dynamic_range:g} dB; allowed are 10 to 150 dB")
        if not 0.0 < self.white < float("inf"):
            raise ConfigError(f"domain: white is {self.white:g}; it must be positive and finite")

    def to_db(self, image: Any) -> Any:
        """Image of this domain, any shape, in dB; 0 dB is full scale."""
        if self.kind == "db":
            return image
        if self.kind == "log":
            return (image / self.white - 1.0) * self.dynamic_range
        return amplitude_to_db(image / self.white)

    def from_db(self, decibel: Any) -> Any:
        """The inverse of `to_db`; grey levels are clipped to black and white."""
        if self.kind == "db":
            return decibel
        if self.kind == "log":
            xp = array_namespace(decibel)
            return self.white * xp.clip(1.0 + decibel / self.dynamic_range, 0.0, 1.0)
        return self.white * db_to_amplitude(decibel)


def amplitude_to_db(amplitude: Any) -> Any:
    """20 log10(amplitude), at least LOWEST_DB."""
    xp = array_namespace(amplitude)
    return 20.0 * xp.log10(xp.clip(amplitude, 10.0 ** (LOWEST_DB / 20.0), None))


def db_to_amplitude(decibel: Any) -> Any:
    """10^(dB / 20)."""
    return 10.0 ** (decibel / 20.0)


def to_scale(decibel: Any, scale: Scale) -> Any:
    """dB onto the scale that a method sees: "db" is 1 + dB / 60, "env" is linear amplitude with 1 at 0 dB."""
    return 1.0 + decibel / RANGE_DB if scale == "db" else db_to_amplitude(decibel)


def from_scale(values: Any, scale: Scale) -> Any:
    """The inverse of `to_scale`, in dB."""
    return RANGE_DB * (values - 1.0) if scale == "db" else amplitude_to_db(values)
