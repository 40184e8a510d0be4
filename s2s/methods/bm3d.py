"""BM3D: patches that look alike are stacked, and what their common spectrum does not share is taken away.

Dabov, Foi, Katkovnik and Egiazarian, "Image Denoising by Sparse 3-D Transform-Domain Collaborative Filtering" (IEEE
TIP, 2007), in the version for correlated noise of Mäkinen, Azzari and Foi, "Collaborative Filtering of Correlated
Noise" (IEEE TIP, 2020): the package `bm3d` of its authors, which has to be installed:
`pip install 'usim-s2s[bm3d]'`. Its licence
allows **non-commercial use only**; s2s does not depend on it.

**Assumes** noise that is additive, equally strong everywhere and stationary, with a known spectrum, which speckle is
once the image is in dB. `spectrum="speckle"` reads the spectrum off the image: the autocovariance of what a wide median
leaves, up to `reach`, with the variance that speckle has in decibels, 5.57 dB squared. `spectrum="white"` is what
BM3D is usually given.

    s2s denoise scan.png -m bm3d:strength=1.5

**Toy scene** Two scenes, dB of PSNR gained: 10.4 with the spectrum (`preset="toy"`), 9.6 of these with `strength=1`,
2.9 with `spectrum="white",strength=1`; on white speckle that gains 14.6.

**Fails** where tissue is as fine as speckle: its texture is in the measured spectrum, and goes with it. Large regions
of uniform tissue keep a soft mottle.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from s2s.methods.base import SPECKLE, Filter
from s2s.methods.limits import number, pair_of
from usim.errors import ConfigError

Image = NDArray[np.float64]
#: Side of the median that is taken off before a covariance is measured; and where outliers are cut, in deviations.
_MEDIAN, _CUT = 31, 3.0


class Bm3d(Filter):
    """BM3D for correlated noise, by the package of its authors (non-commercial licence).

    strength: variance of the noise that is removed, over that of speckle.  spectrum: "speckle", measured on the image,
    or "white".  reach: rows and columns up to which speckle is correlated.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"reach": (6, 10)},
        "paper": {"spectrum": "white", "strength": 1.0},
    }
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {"strength": (0.7, 1.0, 1.4, 2.0, 2.8, 4.0)}

    def __init__(self, *, strength: float = 2.0, spectrum: str = "speckle", reach: tuple[int, int] = (8, 24)) -> None:
        super().__init__()
        if spectrum not in ("speckle", "white"):
            raise ValueError(f"spectrum {spectrum!r}: allowed are speckle, white")
        self.strength, self.spectrum = number("strength", strength, 0.01, 100.0), spectrum
        self.reach = pair_of("reach", reach, 1, 128)
        self.package = _package()

    @classmethod
    def lacking(cls) -> str:
        """The package, with its licence, when it is not installed."""
        if importlib.util.find_spec("bm3d"):
            return ""
        return (
            "the package bm3d is not installed; its licence allows non-commercial use only; if yours is, "
            "pip install 'usim-s2s[bm3d]'"
        )

    def filter(self, image: Image) -> Image:
        """What the package makes of the image, on the scale 1 + dB / 60."""
        variance = self.strength * SPECKLE**2
        if self.spectrum == "white":
            noise: Any = float(np.sqrt(variance))
        else:
            noise = variance * spectrum_of(correlation(image, self.reach), image.shape)
        return np.asarray(self.package.bm3d(image, noise), np.float64)


def correlation(image: Image, reach: tuple[int, int]) -> Image:
    """Autocorrelation of the speckle of an image (H, W) in dB, for lags up to `reach`: (2 rows + 1, 2 columns + 1).

    The unbiased autocovariance of what a median of 31 x 31 pixels leaves, tapered to zero at the largest lags, 1 at lag
    zero.
    """
    rest = image - ndimage.median_filter(image, _MEDIAN, mode="reflect")
    deviation = rest.std()
    rest = rest.clip(-_CUT * deviation, _CUT * deviation)
    rest -= rest.mean()
    rows, columns = (min(lag, side - 1) for lag, side in zip(reach, image.shape, strict=True))
    shape = (image.shape[0] + rows, image.shape[1] + columns)  # no lag wraps around
    power = np.abs(fft.rfft2(rest, shape)) ** 2
    pairs = np.abs(fft.rfft2(np.ones_like(rest), shape)) ** 2
    total, count = (fft.irfft2(one, shape) for one in (power, pairs))
    down, across = np.arange(-rows, rows + 1), np.arange(-columns, columns + 1)
    lags = np.ix_(down, across)
    taper = np.cos(0.5 * np.pi * down / (rows + 1))[:, None] * np.cos(0.5 * np.pi * across / (columns + 1))
    found: Image = taper**2 * total[lags] / count[lags].clip(1.0)
    return found / found[rows, columns]


def spectrum_of(correlation: Image, shape: tuple[int, ...]) -> Image:
    """E |FFT(noise)|^2 of noise of unit variance on an image (H, W), from its correlation; never negative."""
    rows, columns = (side // 2 for side in correlation.shape)
    whole = np.zeros(shape)
    np.add.at(
        whole,
        np.ix_(np.arange(-rows, rows + 1) % shape[0], np.arange(-columns, columns + 1) % shape[1]),
        correlation,
    )
    power: Image = np.maximum(fft.fft2(whole).real, 1e-6)
    return whole.size * power * (whole.size / power.sum())


def _package() -> ModuleType:
    """The package bm3d; raises ConfigError when it is not there or can't be used."""
    # bm3d 4.0.3 with bm4d 4.2.5 calls what NumPy 2.4 has taken away; to give it back changes nothing else.
    if not hasattr(np, "trapz"):
        vars(np)["trapz"] = np.trapezoid
    try:
        return importlib.import_module("bm3d")
    except (ImportError, OSError) as error:
        raise ConfigError(f"{Bm3d.lacking() or 'the package bm3d can not be used'} ({error})") from error
