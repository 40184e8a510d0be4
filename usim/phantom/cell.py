"""The wanted size of a speckle cell, as a description."""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from usim.description import Description
from usim.units import Size

Cell = Annotated[float | str, Size("length", least=0.02e-3, most=20e-3, pixels=(0.5, 200.0))]


class Speckle(Description):
    """The size of a speckle cell, for which pulse and aperture are then chosen.

    Raises ConfigError unless one of the sizes is given.

    >>> Speckle(axial="2.4 px", lateral="0.4 mm")
    Speckle(axial='2.4 px', lateral=0.0004, chosen=False)
    """

    axial: Cell | None = None
    """Metres or pixels; FWHM of the intensity's autocovariance along depth. None: as pulse and probe give it."""
    lateral: Cell | None = None
    """Metres or pixels; FWHM of the intensity's autocovariance across the beam. None: as the apertures give it."""
    chosen: bool = False
    """Whether probe, transmit and receive are those of this size already; filled in by drawing."""

    @model_validator(mode="after")
    def _not_empty(self) -> Speckle:
        if self.axial is None and self.lateral is None:
            raise ValueError("needs axial or lateral, or both")
        return self
