"""How echoes become an image: the receive aperture, the pixel grid, the noise and the time-gain compensation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import model_validator

from usim.description import Description
from usim.transmit import Apodization, FNumber
from usim.units import Count, Quantity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Within these the limits catch millimetres written as metres: no probe sees 0.2 m to the side or 0.5 m deep.
Lateral = Annotated[float, Quantity("length", least=-0.2, most=0.2)]
Depth = Annotated[float, Quantity("length", above=0, most=0.5)]
Pixels = Annotated[int, Count(2, 8192)]

Tgc = Annotated[
    float | Literal["auto", "none"], Quantity("level slope", least=0.0, most=60.0, words=("auto", "none"))
]
"""dB/cm of gain with depth; "auto" undoes the mean loss of tissue, "none" leaves the echoes as they come."""


class Receive(Description):
    """The receive aperture, focused dynamically."""

    f_number: FNumber = 1.5
    """Depth over the width of the receive aperture, until the array's ends cut it."""
    apodization: Apodization = "hann"
    """Window over the receive aperture."""


class Image(Description):
    """The pixel grid and the grey scale.

    Raises ConfigError when an interval is empty or a field is outside its limits.

    >>> image = Image(x=("-19 mm", "19 mm"), z=("2 mm", "42 mm"), pixels=(512, 256))
    >>> image.z_axis().shape
    (256,)
    """

    x: tuple[Lateral, Lateral]
    """Metres; lateral positions of the first and the last pixel."""
    z: tuple[Depth, Depth]
    """Metres; depths of the first and the last pixel."""
    pixels: tuple[Pixels, Pixels]
    """Numbers of pixels along x and along z."""
    dynamic_range: Annotated[float, Quantity("level", least=1.0, most=150.0)] = 60.0
    """dB shown below the brightest grey; stored data keeps its full range."""
    headroom: Annotated[float, Quantity("level", least=0.0, most=100.0)] = 25.0
    """dB from mean 0 dB tissue at the focus up to 0 dB of the image."""

    def x_axis(self) -> NDArray[np.float64]:
        """Lateral pixel centres (X,), metres, both ends included."""
        import numpy as np

        return np.linspace(*self.x, self.pixels[0])

    def z_axis(self) -> NDArray[np.float64]:
        """Depths of the pixel centres (Z,), metres, both ends included."""
        import numpy as np

        return np.linspace(*self.z, self.pixels[1])

    @model_validator(mode="after")
    def _not_empty(self) -> Image:
        for name, (first, last) in (("x", self.x), ("z", self.z)):
            if not last > first:
                raise ValueError(f"{name}: the end {last * 1e3:g} mm must lie beyond the start {first * 1e3:g} mm")
        return self


class Noise(Description):
    """Electronic noise with the receive chain's own spectrum."""

    snr: Annotated[float, Quantity("level", least=-40.0, most=200.0)]
    """dB; mean 0 dB tissue at the focus over the noise, before time-gain compensation."""
