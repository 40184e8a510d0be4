"""Splits of a dataset by scene: names with fractions, and the frames that each of them gets.

Scenes are independent draws, so the first 80 % of them are as good a choice as any other 80 %.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from usim.errors import ConfigError

Split = tuple[tuple[str, float], ...]

#: Names become parts of file names, which some disks do not tell apart by case.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_EXAMPLE = "such as train=0.8,val=0.1,test=0.1"


def parse_split(text: str) -> dict[str, float]:
    """Return the fractions in the text of `--split`; raises ConfigError when it is none.

    >>> parse_split("train=0.75, val=0.25")
    {'train': 0.75, 'val': 0.25}
    """
    fractions: dict[str, float] = {}
    if not text.strip():
        raise ConfigError(f"split: names no part; give NAME=FRACTION, {_EXAMPLE}")
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (word.strip() for word in part.partition("="))
        if name in fractions:
            raise ConfigError(f"split: {name} is there twice; give each name once, {_EXAMPLE}")
        try:
            fractions[name] = float(number)
        except ValueError:
            raise ConfigError(f"split: {part!r} is not NAME=FRACTION, {_EXAMPLE}") from None
    return fractions


def checked_split(fractions: Mapping[str, float], scenes: int) -> Split:
    """Return a split in the order given; raises ConfigError for a name or number that is none, or an empty part."""
    for name, fraction in fractions.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"split: {name!r} is not a name of a-z, 0-9 and _ that starts with a letter, {_EXAMPLE}")
        if not 0.0 < fraction <= 1.0:
            raise ConfigError(f"split: {name}={fraction:g} is not a fraction above 0 and at most 1, {_EXAMPLE}")
    total = math.fsum(fractions.values())
    if fractions and abs(total - 1.0) > 1e-6:
        raise ConfigError(f"split: the fractions add up to {total:g}, not to 1, {_EXAMPLE}")
    split = tuple((name, float(fraction)) for name, fraction in fractions.items())
    for name, part in frames_of(split, scenes, 1).items():
        if not part:
            raise ConfigError(f"split: {name} gets none of the {scenes} scenes; ask for more --frames, or leave it out")
    return split


def frames_of(split: Split, frames: int, per_scene: int) -> dict[str, range]:
    """Return the range of frames of each part: whole scenes of `per_scene` frames, contiguous, in order.

    Without a split all frames belong to the part "".

    >>> frames_of((("train", 0.75), ("val", 0.25)), frames=8, per_scene=2)
    {'train': range(0, 6), 'val': range(6, 8)}
    """
    scenes, start, parts = -(-frames // per_scene), 0, {}
    for number, (name, _) in enumerate(split or (("", 1.0),), 1):
        share = math.fsum(fraction for _, fraction in split[:number])
        end = frames if number >= len(split) else min(frames, math.floor(share * scenes + 0.5) * per_scene)
        parts[name] = range(start, end)
        start = end
    return parts
