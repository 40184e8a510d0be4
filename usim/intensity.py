"""The law of one pixel's intensity: how often it exceeds a level.

    I = |s + sqrt(tau) g|^2, averaged over L looks;   E[I] = M,   K = |s|^2 / (M - |s|^2),   tau ~ Gamma(nu) of mean 1

with g circular Gaussian: exponential for K = 0 and nu infinite, Rician for K > 0, K-distributed for finite nu, gamma
distributed for L > 1 (Goodman, Speckle Phenomena in Optics, 2007, ch. 3 and 4). Tables over the level in dB: in the
logarithm, a mean and the spread of tau are shifts.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray
from scipy.special import chndtr, gammainc, gammaincc, gammaincinv, polygamma

Array = NDArray[np.float64]
STEP_DB: Final = 0.1
LOWEST, HIGHEST = -1000, 500  # steps; below -100 dB of the mean all pixels are brighter, above 50 dB none is
SHAPES: Final = 64
MOST_RATIO: Final = 1e4  # of the fixed echo to the diffuse mean: beyond it the intensity is certain within 0.1 dB
MOST_SPARSE: Final = 1e3  # of 1 / nu
BINS: Final = 24
LOOKS: Final = tuple(2.0 ** (j / 2.0) for j in range(9))  # 1 to 16; between them laws are interpolated


def ratio_place(ratio: Any) -> Any:
    """Where K lies between the rows of `rice_survival`, 0 to SHAPES - 1; an array of any namespace."""
    xp = array_namespace(ratio)
    return xp.log1p(xp.clip(ratio, 0.0, MOST_RATIO)) * ((SHAPES - 1) / math.log1p(MOST_RATIO))


def sparse_place(inverse_nu: Any) -> Any:
    """Where 1 / nu lies between the rows of `sparse_survival` and `sparse_bins`, 0 to SHAPES - 1; likewise."""
    xp = array_namespace(inverse_nu)
    return xp.log1p(4.0 * xp.clip(inverse_nu, 0.0, MOST_SPARSE)) * ((SHAPES - 1) / math.log1p(4.0 * MOST_SPARSE))


@lru_cache(maxsize=len(LOOKS))
def rice_survival(looks: float) -> Array:
    """P(I > r M) of a fixed echo and speckle averaged over `looks`: (SHAPES, levels) by K and r, see `ratio_place`.

    2 L (1 + K) I / M is noncentral chi-squared of 2 L degrees of freedom and noncentrality 2 L K.
    """
    level = 10.0 ** (np.arange(LOWEST, HIGHEST + 1) * (STEP_DB / 10.0))
    table = np.empty((SHAPES, len(level)))
    table[0] = gammaincc(looks, looks * level)
    for row, ratio in enumerate(np.expm1(np.arange(SHAPES) * (math.log1p(MOST_RATIO) / (SHAPES - 1)))):
        if row:
            # far from the mean, in units of the spread, the answer is 0 or 1 and the series for it long
            spread = math.sqrt((1.0 + 2.0 * ratio) / looks) / (1.0 + ratio)
            near = np.abs(level - 1.0) < 12.0 * spread * np.maximum(1.0, spread)
            table[row] = level < 1.0
            table[row, near] = 1.0 - chndtr(2.0 * looks * (1.0 + ratio) * level[near], 2.0 * looks, 2.0 * looks * ratio)
    return table


@lru_cache(maxsize=len(LOOKS))
def sparse_survival(looks: float) -> Array:
    """P(I > r M) of few scatterers: (SHAPES, levels) by 1 / nu and r, see `sparse_place`; exponential in row 0.

    The law of row 0 of `rice_survival`, shifted by tau in dB and averaged over it.
    """
    dense, nu = rice_survival(looks)[0], _node_nu()
    edge = np.arange(-2 * HIGHEST + LOWEST, HIGHEST + 1) - 0.5
    weight = np.diff(gammainc(nu[1:, None], nu[1:, None] * 10.0 ** (edge * (STEP_DB / 10.0))), axis=1)
    # S(r) = sum over tau of w(tau) S(r - tau); what is below the lattice of tau never exceeds any level
    size = 1 << (len(dense) + 2 * len(edge)).bit_length()
    reach = len(edge)  # levels below LOWEST, where the dense law is 1, have to slide in
    padded = np.concatenate([np.ones(reach), dense])
    mixed = np.fft.irfft(np.fft.rfft(weight, size) * np.fft.rfft(padded, size), size)
    first = reach - math.ceil(edge[0])
    return np.concatenate([dense[None], np.clip(mixed[:, first : first + len(dense)], 0.0, 1.0)])


@lru_cache(maxsize=1)
def sparse_bins() -> Array:
    """Means of tau in BINS equally likely bins: (SHAPES, BINS) by 1 / nu, see `sparse_place`; 1 in row 0."""
    nu = _node_nu()[1:, None]
    edge = gammaincinv(nu, np.linspace(0.0, 1.0, BINS + 1)[None, :])
    return np.concatenate([np.ones((1, BINS)), BINS * np.diff(gammainc(nu + 1.0, edge), axis=1)])


@lru_cache(maxsize=1)
def _drops() -> Array:
    """E[10 log10 I / M] in dB for each of LOOKS, by K as in `rice_survival`: (looks, SHAPES)."""
    survival = np.stack([rice_survival(looks) for looks in LOOKS])
    return STEP_DB * (LOWEST - 0.5 + survival.sum(axis=-1))


def drop_db(looks: Array, ratio: Array) -> Array:
    """E[10 log10 I] less the level of the mean, in dB, at places among LOOKS and of K (any one shape)."""
    place, drops = ratio_place(ratio), _drops()
    by_looks = np.stack([np.interp(place, np.arange(SHAPES), row) for row in drops])
    node = np.minimum(looks.astype(np.int64), len(LOOKS) - 2)
    low, high = (np.take_along_axis(by_looks, (node + k)[None], axis=0)[0] for k in (0, 1))
    return low + (looks - node) * (high - low)


def looks_of_drop(drop: Array, ratio: Array) -> Array:
    """Place among LOOKS at which `drop_db` is `drop`, (any one shape): the law of equal mean and mean logarithm."""
    place = ratio_place(ratio)
    by_looks = [np.interp(place, np.arange(SHAPES), row) for row in _drops()]
    steps = pairwise(by_looks)
    return sum(np.clip((drop - low) / np.maximum(high - low, 1e-9), 0.0, 1.0) for low, high in steps)


def looks_of_variance(variance: Array) -> Array:
    """Place among LOOKS of the variance of ln I, that of speckle of so many looks (any shape)."""
    known = polygamma(1, np.array(LOOKS))
    return np.interp(-np.log(variance), -np.log(known), np.arange(len(LOOKS)))


def _node_nu() -> Array:
    """nu of every row; inf in row 0."""
    inverse = np.expm1(np.arange(SHAPES) * (math.log1p(4.0 * MOST_SPARSE) / (SHAPES - 1))) / 4.0
    return np.divide(1.0, inverse, out=np.full(SHAPES, np.inf), where=inverse > 0.0)
