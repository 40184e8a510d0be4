"""The elevational third of the PSF: a fixed aperture with a lens, out of the image plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import fresnel

from usim.engines.aperture import pupil_integral

Array = NDArray[np.float64]
SLAB_TOLERANCE = 1e-4  # -40 dB of the elevation profile's energy may lie outside the slab
PROFILE_POINTS = 257


@dataclass(frozen=True)
class Elevation:
    """Complex two-way elevation profile E(y; z) = Y(y; z)^2 of a rectangular element with a cylindrical lens.

    height: element height in metres.  focus: the lens's focal length in metres, inf without a lens.
    wavelength: metres, as a function of depth in metres (any shape).
    """

    height: float
    focus: float
    wavelength: Callable[[Array], Array]

    def definition(self, y: Array, depth: float) -> NDArray[np.complex128]:
        """E at elevations y (N,) and one depth, by quadrature of aperture.py's pupil integral."""
        edge = np.full(np.shape(y), self.height / 2.0)
        one_way = pupil_integral(y, depth, self.focus, (-edge, edge), np.ones_like, float(self.wavelength(depth)))
        return one_way**2

    def __call__(self, y: Array, depth: Array) -> NDArray[np.complex128]:
        """E at elevations y and depths (broadcast, metres) by Fresnel integrals, the closed form of the definition.

        Where the lens cancels the curvature to less than 1e-4 of a wavelength over the aperture the pupil is flat and
        its transform a sinc.
        """
        y, depth = np.broadcast_arrays(np.asarray(y, dtype=np.float64), np.asarray(depth, dtype=np.float64))
        wavelength = self.wavelength(depth)
        k = 2.0 * math.pi / wavelength
        edge = self.height / 2.0
        curvature = 1.0 / depth - 1.0 / self.focus
        flat = np.abs(curvature) * edge * edge < 2e-4 * wavelength
        safe = np.where(flat, 1.0, curvature)
        # complete the square: -k c/2 (w - y / (z c))^2 + k y^2 / (2 z^2 c)
        scale = np.sqrt(2.0 * np.abs(safe) / wavelength)
        centre = y / (depth * safe)
        upper_s, upper_c = fresnel(scale * (edge - centre))
        lower_s, lower_c = fresnel(scale * (-edge - centre))
        real, imaginary = (upper_c - lower_c) / scale, (upper_s - lower_s) / scale
        chirp = real - 1j * np.sign(safe) * imaginary
        chirp = chirp * np.exp(0.5j * k * y * y / (depth * depth * safe))
        field = np.where(flat, 2.0 * edge * np.sinc(2.0 * edge * y / (wavelength * depth)), chirp)
        return field**2 * np.exp(-1j * k / depth * y * y) / depth

    def half_slab(self, depth: Array) -> Array:
        """Half-thickness (D,) in metres of the slab that holds all but -40 dB of the profile's energy."""
        y, power = self._profile(depth)
        outside = np.cumsum(power[:, ::-1], axis=1)[:, ::-1] / power.sum(axis=1, keepdims=True)
        return y[np.arange(len(y)), np.argmax(outside < SLAB_TOLERANCE, axis=1)]

    def _profile(self, depth: Array) -> tuple[Array, Array]:
        # geometric shadow of the aperture through the lens, plus ten diffraction widths
        shadow = 0.5 * self.height * np.abs(1.0 - depth / self.focus)
        wavelength = self.wavelength(depth)
        widest = shadow + 6.0 * wavelength * depth / self.height + 2.0 * np.sqrt(wavelength * depth)
        y = widest[:, None] * np.linspace(0.0, 1.0, PROFILE_POINTS)
        return y, np.abs(self(y, depth[:, None])) ** 2

    def energies(self, depth: Array) -> tuple[Array, Array]:
        """Integrals of |E|^2 and |E|^4 over y (D,) at depths (D,): what an in-plane cloud has to fold in."""
        y, power = self._profile(depth)
        return 2.0 * np.trapezoid(power, y, axis=1), 2.0 * np.trapezoid(power**2, y, axis=1)
