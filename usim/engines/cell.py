"""The size of a speckle cell that a PSF makes: FWHM of the intensity's autocovariance |rho|^2.

rho(dx, dz) = integral PSF(x, z) conj(PSF(x + dx, z + dz)) dx dz,   a product of lateral and axial parts
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from usim.engines.beam import Beam
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
OFFSETS = 64  # to either side, a quarter of wavelength times depth over the wider aperture apart: twice the band
LAGS = 129


def axial_cell(beam: Beam, depth: float) -> float:
    """FWHM of |rho|^2 along depth in metres, of echoes from `depth`: rho is the transform of the power spectrum."""
    pulse = beam.pulse
    power = pulse.spectrum(np.array([depth]))[0] ** 2
    power /= power.sum()
    shift = pulse.frequency - float((power * pulse.frequency).sum())
    wavenumber = 4.0 * math.pi * beam.axial_stretch / pulse.sound_speed * shift
    # half the width where the spectrum is Gaussian; of others it lies within three times that
    half = math.sqrt(math.log(2.0) / float((power * wavenumber**2).sum()))
    lag = np.linspace(0.0, 3.0 * half, LAGS)
    rho = np.exp(1j * np.outer(lag, wavenumber)) @ power
    return 2.0 * _falls_to_half(lag, np.abs(rho) ** 2)


def lateral_cell(beam: Beam, depth: float) -> float:
    """FWHM of |rho|^2 across the beam on the array's axis in metres, at `depth` metres."""
    half = float(beam.receive_half_aperture(np.array(depth)))
    if isinstance(beam.transmit, FocusedScan):
        half = max(half, beam.transmit_half_aperture())
    step = float(beam.wavelength_at(depth)) * depth / (8.0 * half)
    offset = step * np.arange(-OFFSETS, OFFSETS + 1.0)
    field = beam.lateral(offset, np.zeros_like(offset), depth)
    power = np.abs(np.fft.fft(field, 4 * OFFSETS + 2)) ** 2
    wavenumber = 2.0 * math.pi * np.fft.fftfreq(power.size, step)
    lag = step / 4.0 * np.arange(LAGS)
    rho = np.exp(1j * np.outer(lag, wavenumber)) @ (power / power.sum())
    return 2.0 * _falls_to_half(lag, np.abs(rho) ** 2)


def _falls_to_half(lag: Array, power: Array) -> float:
    """Where the power falls to a half, interpolated as between Gaussians; the last lag where it does not."""
    below = np.nonzero(power < 0.5)[0]
    if not len(below):
        return float(lag[-1])
    i = int(below[0])
    high, low = math.log(power[i - 1]), math.log(max(power[i], 1e-12))
    share = (high - math.log(0.5)) / (high - low)
    return math.sqrt(lag[i - 1] ** 2 + share * (lag[i] ** 2 - lag[i - 1] ** 2))
