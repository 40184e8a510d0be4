"""How the probe transmits: one focused beam per image column, or one plane wave."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from usim.description import Description
from usim.units import Quantity

Apodization = Literal["boxcar", "hann", "hamming"]
Cycles = Annotated[float, Quantity("number", least=0.5, most=16)]
FNumber = Annotated[float, Quantity("number", least=0.3, most=20)]


class FocusedScan(Description):
    """One beam per image column, focused at one depth, the aperture centred on the column.

    >>> FocusedScan(depth="20 mm").depth
    0.02
    """

    type: Literal["focused"] = "focused"
    depth: Annotated[float, Quantity("length", least=1e-3, most=0.5)]
    """Metres; depth of the transmit focus."""
    f_number: FNumber = 2.5
    """Focal depth over the width of the transmit aperture."""
    apodization: Apodization = "boxcar"
    """Window over the transmit aperture."""
    cycles: Cycles = 1.0
    """Periods of the excitation sine."""


class PlaneScan(Description):
    """One plane wave from the whole array.

    >>> round(PlaneScan(angle="10 deg").angle, 4)
    0.1745
    """

    type: Literal["plane"] = "plane"
    angle: Annotated[float, Quantity("angle", least=-math.pi / 6, most=math.pi / 6)] = 0.0
    """Radians, at most 30 deg; positive steers towards +x."""
    cycles: Cycles = 1.0
    """Periods of the excitation sine."""


Transmit = Annotated[FocusedScan | PlaneScan, Field(discriminator="type")]
