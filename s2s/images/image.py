"""An opened image: its frames, what their numbers mean, what was assumed about that, and how to write its like."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.domain import RANGE_DB, Domain, Kind
from s2s.images.region import Region
from usim.errors import ConfigError, DataError

#: Pixels that each side must have: less is no image of speckle.
LEAST_SIDE = 16
#: How far dB may lie above full scale: rounding, and the ripple of resampling.
_ABOVE_FULL_DB = 0.5

#: So many pixels decide nothing: a hot pixel, or a mark of one corner.
_LONE = 4

#: Writes frames (H, W) on the image's own scale to a file; the dict says how they were made.
Writer = Callable[[Path, Iterable[NDArray[Any]], dict[str, str]], None]


@dataclass(frozen=True)
class Stated:
    """What the user says about the numbers of an image; None is assumed.

    domain: "log", "envelope" or "db".  dynamic_range: dB between black and white.  white: the value that is 0 dB.
    """

    domain: Kind | None = None
    dynamic_range: float | None = None
    white: float | None = None


class LazyFrames(Sequence[NDArray[Any]]):
    """As many frames as `count` says, each read when it is asked for by its number, 0 ... count - 1."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self.read(index)

    @abstractmethod
    def read(self, index: int) -> NDArray[Any]:
        """The frame of a number that there is."""


@dataclass(frozen=True, eq=False)
class Image:
    """One image file, opened and checked.

    frames: arrays (H, W) on the file's own scale, read when they are asked for.  domain: what their numbers mean.
    note: what was assumed, in words; "" when all was stated.  suffix: ending of the file that `write` makes.
    mask: (H, W), True where the frames show ultrasound; what lies outside is neither seen by a method nor changed.
    None for everywhere.  clip: the frames are one recording, and are scaled together where a method scales; otherwise
    each is a scene of its own.
    """

    frames: Sequence[NDArray[Any]]
    domain: Domain
    note: str
    suffix: str
    write: Writer
    mask: NDArray[np.bool_] | None = None
    clip: bool = True

    @cached_property
    def region(self) -> Region | None:
        """The box of the mask; raises DataError when the mask holds too little."""
        return None if self.mask is None else Region(self.mask, least=LEAST_SIDE)

    def inside(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return of a frame (H, W) what a method should see: the box of the mask, filled up outside the mask."""
        return frame if self.region is None else self.region.cut(frame)

    def whole(self, frame: NDArray[Any], clean: NDArray[Any]) -> NDArray[Any]:
        """Return the frame (H, W) with what became of `inside`; outside the mask it is the frame's own."""
        return clean if self.region is None else self.region.paste(frame, clean)


def survey(frame: NDArray[Any], where: str) -> tuple[float, float]:
    """Return the smallest and the largest value of an image (H, W).

    Raises DataError when it is no image that a method can work on: not 2-D, too small, not finite, or constant.
    """
    if frame.ndim != 2 or min(frame.shape) < LEAST_SIDE:
        sides = " x ".join(map(str, frame.shape))
        raise DataError(f"{where}: {sides} pixels; an image needs at least {LEAST_SIDE} x {LEAST_SIDE}")
    wrong = ~np.isfinite(frame)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        count = int(np.count_nonzero(wrong))
        raise DataError(
            f"{where}: {count} of {frame.size} values are NaN or infinite, the first at row {row}, column {column}; "
            "replace them, a dB of -inf by -150"
        )
    low, high = float(frame.min()), float(frame.max())
    if low == high:
        raise DataError(f"{where}: constant, every value is {low:g}: there is nothing to denoise; leave it out")
    return low, high


def find_domain(dtype: np.dtype[Any], low: float, high: float, stated: Stated, where: str) -> tuple[Domain, str]:
    """Return what numbers between low and high mean, and in words what of it was assumed ("" for nothing).

    Raises DataError when the numbers contradict what is stated, or mean nothing that is known.
    """
    dtype = dtype.newbyteorder("=")
    kind = stated.domain or _assumed_kind(dtype, low, high, where)
    if stated.white is not None and kind == "db":
        raise ConfigError("--white: decibels have none, their full scale is 0 dB; leave it out")
    white = stated.white if stated.white is not None else _white(kind, dtype, high, where)
    domain = Domain(kind, RANGE_DB if stated.dynamic_range is None else stated.dynamic_range, white)
    _refuse_suspicious(domain, dtype, low, high, stated, where)
    certain_white = stated.white is not None or kind == "db" or (kind == "log" and dtype.kind in "iu")
    if stated.domain is not None and stated.dynamic_range is not None and certain_white:
        return domain, ""
    return domain, f"{where}: taken as {describe(domain)}; state it with --domain, --dynamic-range, --white"


def refuse_lone_white(frame: NDArray[Any], high: float, stated: Stated, where: str) -> None:
    """Raise DataError where a few pixels alone would decide what white is, and leave all others nearly black.

    frame: (H, W), of 16 bits or more, or floats.  high: its largest value.
    """
    if stated.white is not None or frame.dtype == np.uint8 or high <= 0.0:
        return
    # a quarter of white in grey levels, or 40 dB below it as an envelope
    limit = high / (4.0 if frame.dtype.kind in "iu" and stated.domain != "envelope" else 100.0)
    count = int(np.count_nonzero(frame > limit))
    if count <= _LONE:
        raise DataError(
            f"{where}: {count} pixels of up to {high:g} and no other above {limit:g}: they are no image; set them to "
            "their neighbours' value, or give the value that is white with --white"
        )


def shown_db(frame: NDArray[Any], domain: Domain) -> NDArray[np.float64]:
    """Return an image (H, W) in dB as a screen shows it: 0 dB is white, and nothing is darker than black."""
    decibel: NDArray[np.float64] = np.maximum(domain.to_db(frame.astype(np.float64)), -domain.dynamic_range)
    return decibel


def quantise(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values in a type of numbers, whole ones rounded to the nearest and clipped to its range."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    # The largest int64 is no float64: clip in floats and cast what lies inside.
    inside: NDArray[Any] = np.clip(np.rint(values), limits.min, np.nextafter(float(limits.max) + 1, 0))
    return inside.astype(dtype)


def describe(domain: Domain) -> str:
    """Return a domain in words."""
    depth = f"{domain.dynamic_range:g} dB"
    if domain.kind == "db":
        return f"decibels, black at -{depth}"
    word = "log-compressed" if domain.kind == "log" else "a linear envelope"
    return f"{word}, {depth} between black and white, white = {domain.white:g}"


def _assumed_kind(dtype: np.dtype[Any], low: float, high: float, where: str) -> Kind:
    if low < 0 < high:
        raise DataError(
            f"{where}: values from {low:g} to {high:g}, of both signs: channel data, RF or IQ is no image; "
            "give its envelope, or dB with 0 as the largest value"
        )
    if low < 0:
        return "db"
    return "log" if dtype.kind in "iu" else "envelope"


def _white(kind: Kind, dtype: np.dtype[Any], high: float, where: str) -> float:
    if kind == "db":
        return 1.0
    if kind == "envelope":
        return max(high, np.finfo(np.float64).tiny)
    if dtype in (np.uint8, np.uint16):
        return float(np.iinfo(dtype).max)
    if dtype.kind == "f" and high <= 255.0:
        return 1.0 if high <= 1.0 else 255.0
    raise DataError(
        f"{where}: grey levels of type {dtype} up to {high:g}: it is not known which is white; give it, for example "
        "--white 255"
    )


def _refuse_suspicious(
    domain: Domain, dtype: np.dtype[Any], low: float, high: float, stated: Stated, where: str
) -> None:
    found = f"{where}: values from {low:g} to {high:g}"
    if domain.kind == "db":
        if high > _ABOVE_FULL_DB or low >= 0:
            raise DataError(f"{found} are no decibels below full scale, which is 0 dB; subtract the largest value")
        if high <= -domain.dynamic_range:
            raise DataError(f"{found} are all black at {domain.dynamic_range:g} dB; subtract the largest value")
    elif low < 0:
        raise DataError(f"{found}: {domain.kind} values are not negative; give --domain db for decibels")
    elif domain.kind == "log" and high > domain.white * (1 + 1e-6):
        raise DataError(f"{found} go beyond white, {domain.white:g}; give the value that is white with --white")
    elif domain.kind == "log" and dtype == np.uint16 and stated.white is None and high * 4 <= domain.white:
        raise DataError(
            f"{found} of 16 bits are nearly black; give the value that is white, 4095 for 12 bits, with --white"
        )
