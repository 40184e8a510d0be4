"""How echoes become an image: the receive aperture, the pixel grid, the noise and the time-gain compensation."""

from __future__ import annotations

import math
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

Tgc = Annotated[float | Literal["auto", "none"], Quantity("level slope", least=0.0, most=60.0, words=("auto", "none"))]
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


Steering = Annotated[float, Quantity("angle", least=-5 * math.pi / 12, most=5 * math.pi / 12)]


class Sector(Description):
    """A fan of lines and the pixel grid that it is converted to.

    The lines leave the centre of a phased array, or the arc of a convex one at right angles. Depth counts along a line,
    from the array's face. Pixels fill the smallest rectangle around the fan.

    Raises ConfigError when an interval is empty or a field is outside its limits.

    >>> Sector(angle=("-37 deg", "37 deg"), depth=("5 mm", "150 mm"), pixels=(512, 512)).range_axis().shape
    (1024,)
    """

    angle: tuple[Steering, Steering]
    """Radians, at most 75 deg; directions of the first and the last line, positive towards +x."""
    depth: tuple[Depth, Depth]
    """Metres; first and last sample along each line."""
    lines: Pixels = 192
    """Number of lines, one transmission each."""
    samples: Pixels = 1024
    """Number of samples along each line."""
    pixels: tuple[Pixels, Pixels]
    """Numbers of pixels along x and along z."""
    dynamic_range: Annotated[float, Quantity("level", least=1.0, most=150.0)] = 60.0
    """dB shown below the brightest grey; stored data keeps its full range."""
    headroom: Annotated[float, Quantity("level", least=0.0, most=100.0)] = 25.0
    """dB from mean 0 dB tissue at the focus up to 0 dB of the image."""

    def angle_axis(self) -> NDArray[np.float64]:
        """Directions of the lines (A,), radians, both ends included."""
        import numpy as np

        return np.linspace(*self.angle, self.lines)

    def range_axis(self) -> NDArray[np.float64]:
        """Depths of the samples along a line (R,), metres, both ends included."""
        import numpy as np

        return np.linspace(*self.depth, self.samples)

    def box(self, radius: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """((x0, x1), (z0, z1)) of the smallest rectangle around the fan, metres; radius: of curvature, 0 for none."""
        (first, last), (near, far) = self.angle, (radius + depth for depth in self.depth)
        x = [away * math.sin(angle) for away in (near, far) for angle in (first, last)]
        steepest = max(abs(first), abs(last))
        shallowest = 0.0 if first <= 0.0 <= last else min(abs(first), abs(last))
        return (min(x), max(x)), (near * math.cos(steepest) - radius, far * math.cos(shallowest) - radius)

    @model_validator(mode="after")
    def _not_empty(self) -> Sector:
        if not self.depth[1] > self.depth[0]:
            raise ValueError(
                f"depth: the end {self.depth[1] * 1e3:g} mm must lie beyond the start {self.depth[0] * 1e3:g} mm"
            )
        if not self.angle[1] > self.angle[0]:
            first, last = (math.degrees(angle) for angle in self.angle)
            raise ValueError(f"angle: the end {last:g} deg must lie beyond the start {first:g} deg")
        return self


class Noise(Description):
    """Electronic noise with the receive chain's own spectrum."""

    snr: Annotated[float, Quantity("level", least=-40.0, most=200.0)]
    """dB; mean 0 dB tissue at the focus over the noise, before time-gain compensation."""
