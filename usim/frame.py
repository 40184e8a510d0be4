"""What one simulation yields: the image, its truth, its axes and everything that was drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.scatterers import Scatterers

ArrayF = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Axes:
    """Pixel centres in metres: x (X,) lateral, z (Z,) depth."""

    x: NDArray[np.float64]
    z: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PolarAxes:
    """Samples of a sector's lines: range (R,) metres from the array's face along a line, angle (A,) radians."""

    range: NDArray[np.float64]
    angle: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """The ground truth on the image's own grid; arrays are (Z, X) unless they say otherwise.

    bmode: float32 dB, the image with the speckle taken out: E[10 log10 |env|^2] in closed form, unclipped.
    resolved_db: float32 dB, echogenicity blurred by |PSF|^2 only.
    echogenicity_db: float32 dB, the scene's scattering strength, unblurred; -100 where anechoic.
    labels: uint16, 0 = background, k = the k-th of `label_names`; later regions lie over earlier ones.
    few_scatterers: uint8, 1 where the effective scatterer number nu is below 5 and `bmode` is only good to about 0.3
    dB. label_names: names by label.
    looks: float32, equivalent number of looks of a compounded image; None for others.
    displacement: (Z, X, 2) float32 metres, (dx, dz): how far what is at a pixel has come since time 0, so that the
    image looks like the first one at (x - dx, z - dz); None without a sequence.
    mask: uint8, 1 where a pixel lies in the sector that was scanned, of a sector; None for others.
    display: float32 in the units of `Frame.display`, what the scanner shows on average; None without a display.
    """

    bmode: ArrayF
    resolved_db: ArrayF
    echogenicity_db: ArrayF
    labels: NDArray[np.uint16]
    few_scatterers: NDArray[np.uint8]
    label_names: tuple[str, ...]
    looks: ArrayF | None = None
    displacement: ArrayF | None = None
    mask: NDArray[np.uint8] | None = None
    display: ArrayF | None = None


@dataclass(frozen=True, eq=False)
class Polar:
    """A sector as it was scanned, before its conversion to pixels: line by line, every array (R, A).

    bmode, envelope, iq, truth: as in Frame; iq is that of the lines, demodulated along each.
    """

    bmode: ArrayF
    envelope: ArrayF
    iq: NDArray[np.complex64] | None
    truth: Truth
    axes: PolarAxes


@dataclass(frozen=True, eq=False)
class Frame:
    """One simulated image with its truth.

    bmode: (Z, X) float32 dB, 20 log10(envelope) clipped to [-150, 0].
    envelope: (Z, X) float32, 1 at 0 dB.
    iq: (Z, X) complex64 after TGC, same scale; None when it was not stored in the file, or is compounded; and
    of a sector, whose lines have it (polar.iq): a field that turns with range can't be read between lines.
    truth, axes: see there.
    params: plain JSON data: what was drawn, seed, index, look, dB reference, noise level, points.
    scatterers: the cloud that made the image; None for the `field` model or when not stored.
    polar: the lines of which a sector is made; None for linear scans. Outside the sector dB is -150.
    display: (Z, X) what the scanner shows: uint8 for a display of 8 bits, else float32 in [0, 1]; None without one.
    """

    bmode: ArrayF
    envelope: ArrayF
    iq: NDArray[np.complex64] | None
    truth: Truth
    axes: Axes
    params: dict[str, Any] = field(default_factory=dict)
    scatterers: Scatterers | None = None
    polar: Polar | None = None
    display: NDArray[np.uint8] | ArrayF | None = None
