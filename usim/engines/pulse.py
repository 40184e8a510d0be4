"""The axial half of the PSF: the pulse-echo spectrum of excitation, probe and attenuating medium."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from usim.medium import Medium
from usim.probe import Probe

SPECTRUM_POINTS = 96  # trapezoidal rule on a smooth, band-limited spectrum; the pulse repeats after some 7 mm
SPECTRUM_FLOOR = 1e-5  # amplitude below which the band ends; -100 dB, as the channel engine drops bins
DEEPEST = 0.6  # metres; deeper than any image
MOST_LOSS_DB = 250.0  # of an echo at the centre frequency; single precision ends some 100 dB beyond
CENTROID_NODES = 301  # 2 mm apart: linear interpolation is within 1e-5 of the centroid


def probe_response(frequency: NDArray[np.float64], probe: Probe) -> NDArray[np.float64]:
    """Two-way amplitude response of the probe, a generalised Gaussian of its -6 dB fractional bandwidth.

    exp(-(|f - fc| / (B / (2 ln2^(1/p))))^p),  p = ln 126 / ln(2 fc / B),  B = fractional_bandwidth fc

    (the response model documented by MUST). `frequency` in Hz, any shape; returns the same shape, 1 at fc.
    """
    centre = probe.center_frequency
    bandwidth = probe.fractional_bandwidth * centre
    p = math.log(126.0) / math.log(2.0 * centre / bandwidth)
    scale = bandwidth / (2.0 * math.log(2.0) ** (1.0 / p))
    return np.exp(-((np.abs(frequency - centre) / scale) ** p))


def burst_spectrum(frequency: NDArray[np.float64], center_frequency: float, cycles: float) -> NDArray[np.float64]:
    """Spectrum of a rectangular burst of `cycles` periods of a sine, over half its duration and a constant phase.

    sinc(T (f - fc)) - sinc(T (f + fc)),  T = cycles / fc,  sinc(x) = sin(pi x) / (pi x)
    """
    duration = cycles / center_frequency
    return np.sinc(duration * (frequency - center_frequency)) - np.sinc(duration * (frequency + center_frequency))


def excitation_spectrum(frequency: NDArray[np.float64], center_frequency: float, cycles: float) -> NDArray[np.float64]:
    """`burst_spectrum` divided by its value at the centre frequency."""
    return burst_spectrum(frequency, center_frequency, cycles) / (1.0 - np.sinc(2.0 * cycles))


@dataclass(frozen=True, eq=False)
class Pulse:
    """A pulse-echo spectrum sampled over its band.

    frequency: (F,) Hz, uniform.  amplitude: (F,), real, 0 dB at its peak, without attenuation.
    center_frequency: Hz, the demodulation frequency k0 c / 2 pi, never shifted.
    alpha: (F,) attenuation at each frequency, one way, dB/cm.
    """

    frequency: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    center_frequency: float
    sound_speed: float
    alpha: NDArray[np.float64]

    @classmethod
    def of(cls, probe: Probe, cycles: float, medium: Medium) -> Pulse:
        """Pulse-echo spectrum P(f) R(f)^2 of a probe driven with `cycles` periods, over the band above -100 dB."""
        wide = np.linspace(0.0, 4.0 * probe.center_frequency, 8193)[1:]
        amplitude = excitation_spectrum(wide, probe.center_frequency, cycles) * probe_response(wide, probe)
        peak = np.abs(amplitude).max()
        band = wide[np.abs(amplitude) > SPECTRUM_FLOOR * peak]
        frequency = np.linspace(band[0], band[-1], SPECTRUM_POINTS)
        amplitude = excitation_spectrum(frequency, probe.center_frequency, cycles) * probe_response(frequency, probe)
        alpha = medium.alpha(frequency)
        return cls(frequency, amplitude / peak, probe.center_frequency, medium.sound_speed, alpha)

    def spectrum(self, depth: NDArray[np.float64]) -> NDArray[np.float64]:
        """Attenuated amplitude spectra (D, F) of echoes from `depth` (D,) metres: 10^(-alpha(f) 2z / 20)."""
        loss_db = self.alpha[None, :] * (2.0 * depth * 1e2)[:, None]
        return self.amplitude[None, :] * 10.0 ** (-loss_db / 20.0)

    @cached_property
    def _centroids(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        depth = np.linspace(0.0, DEEPEST, CENTROID_NODES)
        # relative to the lowest frequency: the absolute loss of a deep echo can underflow
        loss_db = 2e2 * np.outer(depth, self.alpha - self.alpha[0])
        power = (self.amplitude * 10.0 ** (-loss_db / 20.0)) ** 2
        return depth, (power * self.frequency).sum(axis=1) / power.sum(axis=1)

    def centroid(self, depth: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Mean frequency of the echo's power spectrum, Hz, from depths in metres (any shape)."""
        return np.interp(depth, *self._centroids)

    def phasor(self, offset: NDArray[np.float64], axial_stretch: float = 1.0) -> NDArray[np.complex128]:
        """exp(i 2 pi (f s - f0) 2 dz / c) df for axial offsets dz (N,) metres: (N, F); s = (1 + cos steering) / 2.

        A sampled spectrum repeats its pulse every c / 2 df (some 7 mm): beyond half of that the pulse has ended.
        """
        step = self.frequency[1] - self.frequency[0]
        baseband = self.frequency * axial_stretch - self.center_frequency
        phasor = np.exp((4j * np.pi / self.sound_speed) * offset[:, None] * baseband[None, :]) * step
        return phasor * (np.abs(offset) < self.sound_speed / (4.0 * step * axial_stretch))[:, None]

    def __call__(self, offset: NDArray[np.float64], depth: float, axial_stretch: float = 1.0) -> NDArray[np.complex128]:
        """Complex envelope p(dz; z_s) (N,) of the echo from depth z_s, seen at dz = z - z_s metres behind it."""
        return self.phasor(np.asarray(offset, dtype=np.float64), axial_stretch) @ self.spectrum(np.array([depth]))[0]

    def energy(self, depth: NDArray[np.float64], power: int = 2) -> NDArray[np.float64]:
        """Integral of |p|^power over dz (D,), in metres; power 2 by Parseval's theorem, 4 by quadrature."""
        step = self.frequency[1] - self.frequency[0]
        spectrum = self.spectrum(depth)
        if power == 2:
            return (spectrum**2).sum(axis=1) * step * self.sound_speed / 2.0
        # |p|^2 is the transform of the spectrum's autocorrelation, so the integral of |p|^4 is its energy
        size = 2 * spectrum.shape[1]
        transform = np.abs(np.fft.rfft(spectrum, size, axis=1)) ** 2
        autocorrelation = np.fft.irfft(transform, size, axis=1)
        return (autocorrelation**2).sum(axis=1) * step**3 * self.sound_speed / 2.0

    def half_length(self, tolerance: float) -> float:
        """Half-length in metres outside which the fraction `tolerance` of the pulse's energy lies (no attenuation)."""
        step = self.sound_speed / (8.0 * (self.frequency[-1] - self.frequency[0]))
        offset = step * np.arange(4 * len(self.frequency))
        power = np.abs(self(offset, 0.0)) ** 2
        outside = np.cumsum(power[::-1])[::-1] / power.sum()
        return float(offset[min(int(np.searchsorted(-outside, -tolerance)) + 1, len(offset) - 1)])
