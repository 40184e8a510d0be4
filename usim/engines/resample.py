"""Least-squares resampling of signals whose power spectrum is known: from scatterers to cells, from columns to
pixels."""

from __future__ import annotations

import bisect

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MOST_SHRINK = 40
RIDGE = 1e-13  # of the trace: keeps the normal equations solvable where a spectrum leaves taps free
IMAGES = (-3, -2, -1, 1, 2, 3)  # spectral images counted; a cubic B-spline suppresses those beyond by over 100 dB


def cell_filter(
    frequency: Array, power: Array, fine: float, half: int, *, stride: int, spline: bool
) -> tuple[Array, float]:
    """Symmetric filter (2 half + 1,) from cells `fine` metres apart to every stride-th of them, and its energy error.

    Chosen to minimise  sum_nu S(nu) [ |W(nu) phi(nu) - 1|^2 + sum_n |W(nu + n f) phi(nu + n f)|^2 ] / sum S,  f = 1 /
    (stride fine): the passband error and every image that a signal with power spectrum S is left with.
    spline: the cells were filled with cubic B-splines, phi = sinc^4; else they are samples of white noise, phi = 1.
    frequency in 1/m (F,), power (F,).
    """
    weight = np.sqrt(power / power.sum())
    k = np.arange(half + 1)
    images = IMAGES if spline else tuple(range(1, stride))
    rows, target = [], []
    for image in (0, *images):
        shifted = (frequency + image / (stride * fine)) * fine
        phi = np.sinc(shifted) ** 4 if spline else np.ones_like(shifted)
        cosine = np.where(k == 0, 1.0, 2.0) * np.cos(2.0 * np.pi * shifted[:, None] * k)
        rows.append((weight * phi)[:, None] * cosine)
        target.append(weight if image == 0 else np.zeros_like(weight))
    matrix, goal = np.concatenate(rows), np.concatenate(target)
    normal = np.einsum("fi,fj->ij", matrix, matrix)  # einsum: threaded BLAS sums depend on the number of threads
    ridge = RIDGE * np.trace(normal) * np.eye(half + 1)
    solution = np.linalg.solve(normal + ridge, np.einsum("fi,f->i", matrix, goal))
    error = float(((matrix @ solution - goal) ** 2).sum())
    return stride * np.concatenate((solution[:0:-1], solution)), error  # 1 / stride of the cells carry the whole signal


def coarsest_step(frequency: Array, power: Array, half: int, error_db: float) -> float:
    """Largest cell size in metres, in steps of 4 %, for which filtering cells half as large meets the error."""
    band = frequency[power > 1e-12 * power.max()]
    widest = 1.25 / (band[-1] - band[0])

    def meets(shrink: int) -> bool:
        fine = widest * 0.96**shrink / 2.0
        return 10.0 * np.log10(cell_filter(frequency, power, fine, half, stride=2, spline=True)[1]) <= error_db

    return float(widest * 0.96 ** bisect.bisect_left(range(MOST_SHRINK), True, key=meets))


def interpolator(frequency: Array, power: Array, position: Array, taps: int) -> tuple[NDArray[np.int64], Array]:
    """First sample (X,) and weights (taps, X) that read a band-limited signal at fractional sample positions (X,).

    Minimises  sum_nu S(nu) |sum_k w_k exp(i 2 pi nu (k - position)) - 1|^2  with frequency in cycles per sample.
    """
    first = np.floor(position).astype(np.int64) - taps // 2 + 1
    weight = power / power.sum()
    k = np.arange(taps)
    covariance = np.einsum("kf,f->k", np.cos(2.0 * np.pi * np.outer(k, frequency)), weight)
    normal = covariance[np.abs(k[:, None] - k[None, :])]
    # cos(k - offset) from products: one table over k, one over positions
    turn = 2.0 * np.pi * frequency
    at_tap, at_position = np.outer(k, turn), np.outer(position - first, turn)
    goal = np.einsum("kf,xf->kx", np.cos(at_tap) * weight, np.cos(at_position))
    goal += np.einsum("kf,xf->kx", np.sin(at_tap) * weight, np.sin(at_position))
    return first, np.linalg.solve(normal + 1e-10 * np.eye(taps), goal)


def interpolation_error(frequency: Array, power: Array, position: float, first: int, weight: Array) -> float:
    """Energy error that `interpolator` weights (taps,) leave at one position: its objective at the minimum."""
    k = first + np.arange(len(weight)) - position
    response = np.exp(2j * np.pi * frequency[:, None] * k) @ weight
    return float((power * np.abs(response - 1.0) ** 2).sum() / power.sum())


def lagrange(position: Array, samples: int, taps: int = 6) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """First sample (X,) and polynomial weights (taps, X) at fractional sample positions (X,) of a smooth function."""
    first = np.clip(np.floor(position).astype(np.int64) - taps // 2 + 1, 0, samples - taps)
    offset = position - first
    weight = np.ones((taps, len(position)))
    for k in range(taps):
        for other in range(taps):
            if other != k:
                weight[k] *= (offset - other) / (k - other)
    return first, weight.astype(np.float32)
