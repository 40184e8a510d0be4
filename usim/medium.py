"""The medium between the scatterers: one speed of sound, one attenuation."""

from __future__ import annotations

from typing import Annotated

from usim.description import Description
from usim.units import Quantity


class Medium(Description):
    """A homogeneous medium; the defaults are soft tissue.

    Raises ConfigError when a field is outside its limits.

    >>> Medium(attenuation="0.7 dB/cm/MHz").attenuation
    0.7
    """

    sound_speed: Annotated[float, Quantity("speed", least=300.0, most=6000.0)] = 1540.0
    """Metres per second; 300 to 6000 spans gases to bone."""
    attenuation: Annotated[float, Quantity("attenuation", least=0.0, most=20.0)] = 0.5
    """dB/cm/MHz, one way, proportional to frequency."""
