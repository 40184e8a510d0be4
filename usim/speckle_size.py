"""How large speckle is: the width of the autocovariance of a picture, in pixels."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.errors import DataError

Array = NDArray[np.float64]
FEWEST_PIXELS = 16  # along each side
ROUNDS = 4  # the detrending follows the cell: sizes change by less than 0.1 % after the third
DETREND = 2.5  # cells; standard deviation of the local mean that is taken off
FIRST_CELL = 3.0  # pixels; where the search starts


def coherence(covariance: Any, exponent: float) -> Array:
    """|rho|^2, which is the autocovariance of the intensity I, from that of I^exponent; both 1 at lag 0, any shape.

    For circular Gaussian IQ of field correlation rho the covariance of I^a is (Goodman, Speckle Phenomena in Optics,
    2007, ch. 4, from the bivariate law of two intensities)

        Gamma(1 + a)^2 [2F1(-a, -a; 1; |rho|^2) - 1]

    and of ln I, the limit a -> 0, the dilogarithm Li2(|rho|^2).

    >>> coherence([0.5, 0.354], 1.0).round(3).tolist(), coherence([0.5, 0.354], 0.0).round(3).tolist()
    ([0.5, 0.354], [0.66, 0.5])
    """
    return np.interp(covariance, *_covariances(float(exponent)))


@lru_cache(maxsize=8)
def _covariances(exponent: float) -> tuple[Array, Array]:
    """Covariance of I^exponent, 1 at lag 0, and the |rho|^2 that belongs to it."""
    power = np.linspace(0.0, 1.0, 501)
    term, raised, table = 1.0, power.copy(), np.zeros(501)
    for n in range(1, 200):  # squares of binomial(a, n) / a
        table += term * term * raised
        raised *= power
        term *= (exponent - n) / (n + 1)
    log_gamma = math.lgamma(1.0 + 2.0 * exponent) - 2.0 * math.lgamma(1.0 + exponent)
    table[-1] = math.expm1(log_gamma) / exponent**2 if exponent > 1e-4 else math.pi**2 / 6.0
    return table / table[-1], power


def cell_size(image: Any, mask: Any = None, *, exponent: float = 1.0) -> tuple[float, float]:
    """Return the size of a speckle cell: axial and lateral FWHM of the intensity's autocovariance, in pixels.

    image: (Z, X), the intensity I to the power `exponent`, times and plus any constant; exponent 0 is a picture in dB,
    0.5 one of the envelope. Of a compressed picture the width is read where the intensity's would be 1/2
    (`coherence`).
    mask: (Z, X), true where the picture shows speckle; None: everywhere that it is finite.
    The local mean over some cells is taken off and the rest divided by its local standard deviation, so that slow
    changes of brightness count little; what that takes off the covariance is put back, as for a Gaussian covariance.
    Sharp edges and fine structure make cells look larger: mask them out.
    Raises DataError where nothing varies, or where the picture is too small for its cells.

    >>> white = np.random.default_rng(1).exponential(size=(200, 200))
    >>> smooth = sum(np.roll(white, k, 0) for k in range(4))
    >>> axial, lateral = cell_size(smooth)
    >>> round(axial, 0), lateral < 1.0
    (4.0, True)
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < FEWEST_PIXELS:
        raise DataError(
            f"cell_size: expected an image (Z, X) of at least {FEWEST_PIXELS} pixels a side, got shape {values.shape}"
        )
    weight = np.isfinite(values)
    if mask is not None:
        if np.shape(mask) != values.shape:
            raise DataError(f"cell_size: the mask has shape {np.shape(mask)}, the image {values.shape}")
        weight &= np.asarray(mask, dtype=bool)
    if not weight.any() or np.ptp(values[weight]) == 0.0:
        raise DataError("cell_size: the image is constant where the mask is true; speckle is needed")
    values = np.where(weight, values, 0.0)
    values -= values.sum() / weight.sum() * weight  # levels far from 0 would cancel in sums of squares
    cell = (FIRST_CELL, FIRST_CELL)
    for _ in range(ROUNDS):
        covariance = _covariance(values, weight.astype(np.float64), tuple(DETREND * c for c in cell))
        taken = _taken_off(tuple(len(side) for side in covariance), cell)
        whole = [(s + t) / (s[0] + t[0]) for s, t in zip(covariance, taken, strict=True)]
        found = [_full_width(coherence(cut, exponent)) for cut in whole]
        if None in found:
            raise DataError(
                f"cell_size: the covariance does not fall to a half within a third of the {values.shape} image; "
                "mask out structure or take a larger picture"
            )
        cell = (float(found[0]), float(found[1]))
    return cell


def _covariance(values: Array, weight: Array, sigma: tuple[float, ...]) -> tuple[Array, Array]:
    """Autocovariance along z and along x, lags 0 to a third of the image, 1 at lag 0, of the standardised picture."""
    size = [n + min(n, math.ceil(4.0 * s)) for n, s in zip(values.shape, sigma, strict=True)]
    frequency = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :]
    smooth = np.exp(-2.0 * math.pi**2 * sum((s * f) ** 2 for s, f in zip(sigma, frequency, strict=True)))

    def local(given: Array) -> Array:
        spread = np.fft.irfft2(np.fft.rfft2(given, size) * smooth, size)[: given.shape[0], : given.shape[1]]
        return np.asarray(spread)

    near = np.maximum(local(weight), 1e-9)
    rest = (values - local(values) / near) * weight
    power = local(rest * rest) / near
    rest *= np.where(power > 1e-6 * power.max(), 1.0 / np.sqrt(np.maximum(power, 1e-300)), 0.0)
    sums = []
    for given in (rest, weight):
        spectrum = np.abs(np.fft.rfft2(given, [2 * n for n in given.shape])) ** 2
        sums.append(np.fft.irfft2(spectrum, [2 * n for n in given.shape]))
    lags = [n // 3 + 1 for n in values.shape]
    cuts = [(total[: lags[0], 0], total[0, : lags[1]]) for total in sums]
    axial, lateral = (cut / np.maximum(pairs, 1.0) for cut, pairs in zip(*cuts, strict=True))
    return axial / axial[0], lateral / lateral[0]


def _taken_off(lags: tuple[int, ...], cell: tuple[float, float]) -> tuple[Array, Array]:
    """What taking off the local mean h takes off the covariance C along z and along x, C(0) = 1 before.

    2 h * C - h * h * C for Gaussians, over the variance that is left.
    """
    axes = []
    left = 1.0
    for axis in (0, 1):
        lag = np.arange(lags[axis], dtype=np.float64)
        total = np.zeros(lags[axis])
        for sign, times in ((2.0, 1.0), (-1.0, 2.0)):
            # variances of C and of C smoothed, per axis; a Gaussian of FWHM w has variance w^2 / (8 ln 2)
            own = [c * c / (8.0 * math.log(2.0)) for c in cell]
            wide = [v + times * (DETREND * c) ** 2 for v, c in zip(own, cell, strict=True)]
            height = math.sqrt(own[0] * own[1] / (wide[0] * wide[1]))
            total += sign * height * np.exp(-lag * lag / (2.0 * wide[axis]))
        left = 1.0 - total[0]
        axes.append(total / left)
    return axes[0], axes[1]


def _full_width(power: Array) -> float | None:
    """Twice the lag at which |rho|^2 falls to a half, interpolated as between Gaussians; None where it never does."""
    below = np.nonzero(power < 0.5)[0]
    if not len(below):
        return None
    i = int(below[0])
    high, low = math.log(power[i - 1]), math.log(max(power[i], 1e-3))
    share = (high - math.log(0.5)) / (high - low)
    return 2.0 * math.sqrt((i - 1) ** 2 + share * (i**2 - (i - 1) ** 2))
