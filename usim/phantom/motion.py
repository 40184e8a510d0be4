"""Sequences: how many images of one scene, how fast, and what moves in between."""

from __future__ import annotations

from typing import Annotated

from usim.description import Description
from usim.units import Count, Quantity

MOST_TIMES = 100_000


class Sequence(Description):
    """Images of one scene at equal steps of time, starting at 0."""

    times: Annotated[int, Count(2, MOST_TIMES)]
    """Number of images."""
    rate: Annotated[float, Quantity("frequency", above=0, most=100e3)]
    """Images per second."""
