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
    """

    bmode: ArrayF
    resolved_db: ArrayF
    echogenicity_db: ArrayF
    labels: NDArray[np.uint16]
    few_scatterers: NDArray[np.uint8]
    label_names: tuple[str, ...]
    looks: ArrayF | None = None
    displacement: ArrayF | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One simulated image with its truth.

    bmode: (Z, X) float32 dB, 20 log10(envelope) clipped to [-150, 0].
    envelope: (Z, X) float32, 1 at 0 dB.
    iq: (Z, X) complex64 after TGC, same scale; None when it was not stored in the file, or is compounded.
    truth, axes: see there.
    params: plain JSON data: what was drawn, seed, index, look, dB reference, noise level, points.
    scatterers: the cloud that made the image; None for the `field` model or when not stored.
    """

    bmode: ArrayF
    envelope: ArrayF
    iq: NDArray[np.complex64] | None
    truth: Truth
    axes: Axes
    params: dict[str, Any] = field(default_factory=dict)
    scatterers: Scatterers | None = None
