"""The lateral and elevational halves of the PSF: Fresnel pupil integrals of an aperture.

A wave that leaves aperture coordinate v with weight A(v), focused at depth z_f, reaches a point at lateral offset xi
and depth z as (paraxial diffraction, Goodman, Introduction to Fourier Optics, ch. 4; phase exp(-ikr), the common
exp(-ikz) left out)

    z^(-1/2) exp(-i k xi^2 / 2z)  integral A(v) D(v/z) exp(-i k v^2/2 (1/z - 1/z_f)) exp(i k xi v/z) dv

with D the element factor; a constant factor is left out, and how strongly each frequency radiates is the pulse's.
Reception is the same integral by reciprocity, focused at every depth (z_f = z).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import roots_legendre

from usim.probe import Probe


@lru_cache(maxsize=64)
def _leggauss(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return roots_legendre(nodes)  # in O(n^2), numpy's in O(n^3); the same to 1e-13


def element_factor(slope: NDArray[np.float64], element_width: float, wavelength: float) -> NDArray[np.float64]:
    """Directivity of a flat element in a soft baffle, sinc(w sin / lambda) cos, towards slope = tan(angle)."""
    cosine = 1.0 / np.sqrt(1.0 + slope * slope)
    return np.sinc(element_width / wavelength * slope * cosine) * cosine


def flat_factor(sine: NDArray[np.float64], cosine: NDArray[np.float64], wavelengths: float) -> NDArray[np.float64]:
    """`element_factor` of an element so many wavelengths wide, towards any direction: 0 behind its plane."""
    return np.sinc(wavelengths * sine) * np.maximum(cosine, 0.0)


def half_aperture(depth: NDArray[np.float64] | float, f_number: float, probe: Probe) -> NDArray[np.float64]:
    """Half the active aperture (metres) for a focus at `depth`: z / 2F, at least one pitch, at most half the array."""
    return np.clip(np.asarray(depth) / (2.0 * f_number), probe.pitch, probe.aperture / 2.0)


def pupil_integral(
    offset: NDArray[np.float64],
    depth: float,
    focus: float,
    edges: tuple[NDArray[np.float64], NDArray[np.float64]],
    weight,
    wavelength: float,
) -> NDArray[np.complex128]:
    """The Fresnel pupil integral above, by Gauss-Legendre quadrature over [edges[0], edges[1]].

    The number of nodes follows the phase that the integrand runs through: to 1e-10 of the integral of |A|.

    offset: (C,) xi in metres.  edges: two (C,) arrays, metres, lower >= upper means an empty aperture (0).
    weight: function of v (C, nodes) that returns A(v) D(v/z).  focus may be inf.  Returns (C,) complex.
    """
    lower, upper = edges
    k = 2.0 * math.pi / wavelength
    widest = float(np.maximum(np.abs(lower), np.abs(upper)).max())
    turns = k * widest * (widest * abs(1.0 / depth - 1.0 / focus) + float(np.abs(offset).max()) / depth)
    abscissa, quadrature = _leggauss(-(-math.ceil(40 + 0.6 * turns) // 32) * 32)
    half = np.maximum(upper - lower, 0.0)[:, None] / 2.0
    v = (upper + lower)[:, None] / 2.0 + half * abscissa
    phase = -(k / 2.0) * (1.0 / depth - 1.0 / focus) * v * v + (k / depth) * offset[:, None] * v
    total = (weight(v) * np.exp(1j * phase) * quadrature * half).sum(axis=1)
    return total * np.exp(-0.5j * k / depth * offset * offset) / math.sqrt(depth)
