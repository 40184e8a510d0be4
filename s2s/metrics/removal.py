"""What a method removed, beside what should be removed: structure that left with the speckle is coarser than it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from s2s.metrics.grey import shown
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric
from s2s.metrics.plane import without_plane

METRICS = (
    Metric("removed_low", "coarse part removed", "honesty", "share of wavelengths above 2 mm in what was removed",
           better="nearer", truth="removed_low_true", digits=3,
           fooled_by="a blur: what it takes from edges fills up what it leaves of the speckle"),
    Metric("removed_low_true", "coarse part of speckle", "honesty", "the same of what should be removed",
           better="none", digits=3),
)  # fmt: skip

#: Metres: the wavelength between coarse and fine, some five speckle cells.
WAVELENGTH = 2e-3


def coarse_share(removed_db: ArrayLike, mask: NDArray[np.bool_], pixel: tuple[float, float]) -> float:
    """Share of the power of an image (H, W) in dB at wavelengths above 2 mm, 0 to 1.

        sum of |F|^2 where |f| < 1 / (2 mm)  /  sum of |F|^2,   F = FFT(hann x mask x (image - its plane))

    f being the spatial frequency in any direction. The window keeps the borders out of the spectrum, and widens its
    lines by two bins. nan for an image that is a plane, or without area.
    """
    if not mask.any():
        return math.nan
    flat = np.where(mask, without_plane(removed_db, mask), 0.0)
    windows = [np.hanning(side + 2)[1:-1] for side in flat.shape]
    power = np.abs(np.fft.rfft2(flat * np.multiply.outer(*windows))) ** 2
    # Both halves of the spectrum count; the columns at zero and at the highest frequency are there once.
    power[:, 1 : (flat.shape[1] + 1) // 2] *= 2.0
    down, right = np.fft.fftfreq(flat.shape[0], pixel[0]), np.fft.rfftfreq(flat.shape[1], pixel[1])
    total = float(power.sum())
    # A plane leaves rounding errors of 1e-13 dB.
    if total <= 1e-18 * flat.size**2:
        return math.nan
    return float(power[np.hypot(down[:, None], right) < 1.0 / WAVELENGTH].sum()) / total


def measure(scene: Judged) -> dict[str, float]:
    """The group's metrics of a scene; nan where nothing was removed."""
    view = scene.view
    image, truth, noisy = (shown(one, view.dynamic_range) for one in (scene.image, view.truth_db, view.noisy_db))
    return {
        "removed_low": coarse_share(noisy - image, view.insonified, view.pixel),
        "removed_low_true": coarse_share(noisy - truth, view.insonified, view.pixel),
    }
