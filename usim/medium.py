"""The medium between the scatterers: one speed of sound, one attenuation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

from usim.description import Description
from usim.units import Quantity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Frequency = TypeVar("Frequency", float, "NDArray[np.float64]")


class Medium(Description):
    """A homogeneous medium; the defaults are soft tissue.

    Raises ConfigError when a field is outside its limits.

    >>> Medium(attenuation="0.7 dB/cm/MHz").attenuation
    0.7
    """

    sound_speed: Annotated[float, Quantity("speed", least=300.0, most=6000.0)] = 1540.0
    """Metres per second; 300 to 6000 spans gases to bone."""
    attenuation: Annotated[float, Quantity("attenuation", least=0.0, most=20.0)] = 0.5
    """dB/cm/MHz, one way: alpha(f) = attenuation f^attenuation_power, f in MHz."""
    attenuation_power: Annotated[float, Quantity("number", least=0.0, most=3.0)] = 1.0
    """Power of the frequency that attenuation follows; with another than 1, attenuation is in dB/cm/MHz^power."""

    def alpha(self, frequency: Frequency) -> Frequency:
        """Attenuation at a frequency in Hz, or at an array of them, one way, dB/cm."""
        alpha: Frequency = self.attenuation * (frequency * 1e-6) ** self.attenuation_power
        return alpha
