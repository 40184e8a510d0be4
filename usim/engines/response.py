"""What a pulse is in channel data: its spectrum, the band it needs and how long it lasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.engines.pulse import probe_response
from usim.errors import ConfigError
from usim.events import Excitation
from usim.medium import Medium
from usim.probe import Probe, Waveform

Array = NDArray[np.float64]
FLOOR = 3e-4  # amplitude below the spectrum's peak at which the band ends, at every depth: -70 dB
TAIL = 1e-3  # amplitude below the pulse's peak at which the pulse ends: -60 dB
HIGHEST = 3.0  # centre frequencies; nothing is looked for beyond
SPECTRUM_POINTS = 4096


def waveform_spectrum(frequency: Array, waveform: Waveform) -> NDArray[np.complex128]:
    """Fourier transform of a sampled signal at `frequency` Hz (F,), divided by the magnitude of its peak."""
    samples = np.asarray(waveform.samples)
    time = waveform.start + np.arange(len(samples)) / waveform.sampling_frequency
    peak = np.abs(np.fft.rfft(samples, 8 * len(samples))).max()
    spectrum = np.empty(frequency.size, np.complex128)
    for part in np.array_split(np.arange(frequency.size), 1 + frequency.size * len(samples) // 2_000_000):
        spectrum[part] = np.exp(-2j * np.pi * np.outer(frequency[part], time)) @ samples
    # samples say nothing about frequencies above their own Nyquist frequency
    return np.where(frequency <= waveform.sampling_frequency / 2.0, spectrum / peak, 0.0)


def excitation_spectrum(frequency: Array, event: Excitation, center_frequency: float) -> NDArray[np.complex128]:
    """P(f) (F,): spectrum of what drives the elements, in the convention exp(-i 2 pi f t).

    A burst of n periods of sin(2 pi fc t), centred on t = 0, has -i [sinc(T (f - fc)) - sinc(T (f + fc))] T / 2 with
    T = n / fc and sinc(x) = sin(pi x) / (pi x); the factor T / 2 is left out, as in SIMUS (Garcia 2022).
    """
    if event.excitation is not None:
        return waveform_spectrum(frequency, event.excitation)
    duration = event.cycles / center_frequency
    return -1j * (
        np.sinc(duration * (frequency - center_frequency)) - np.sinc(duration * (frequency + center_frequency))
    )


def two_way_response(frequency: Array, probe: Probe) -> NDArray[np.complex128]:
    """R(f)^2 (F,): transmission and reception by the same element, 1 at its peak."""
    if probe.impulse_response is not None:
        return waveform_spectrum(frequency, probe.impulse_response) ** 2
    return probe_response(frequency, probe).astype(np.complex128)


def attenuation(frequency: Array, medium: Medium) -> Array:
    """alpha(f) in Np/m (any shape): a f[MHz]^p dB/cm, and 20 log10 e = 8.686 dB per Np."""
    return medium.attenuation * (np.asarray(frequency) * 1e-6) ** medium.attenuation_power * 100.0 / 8.685889638


@dataclass(frozen=True, eq=False)
class Response:
    """P(f) R(f)^2 of one probe and excitation.

    low, high: Hz, the band outside which echoes of every path up to `longest` are below -70 dB of their peak.
    start, end: seconds, between which the pulse lies, relative to its arrival.
    """

    probe: Probe
    event: Excitation
    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, probe: Probe, event: Excitation, medium: Medium, longest: float) -> Response:
        """The response in a medium, for paths of up to `longest` metres, there and back."""
        top = HIGHEST * probe.center_frequency
        frequency = np.linspace(0.0, top, SPECTRUM_POINTS + 1)
        spectrum = excitation_spectrum(frequency, event, probe.center_frequency) * two_way_response(frequency, probe)
        magnitude = np.abs(spectrum)
        if not magnitude.max() > 0.0:
            raise ConfigError("excitation: it has no energy in the probe's band; change its frequency or the probe's")
        deep = magnitude * np.exp(-attenuation(frequency, medium) * longest)
        used = (magnitude > FLOOR * magnitude.max()) | (deep > FLOOR * deep.max())
        inside = np.nonzero(used)[0]
        low, high = frequency[max(inside[0] - 1, 0)], frequency[min(inside[-1] + 1, SPECTRUM_POINTS)]
        # the pulse of the echo without attenuation, which is the shortest in its band but has the sharpest edges
        pulse = np.fft.fftshift(np.fft.ifft(spectrum, 4 * SPECTRUM_POINTS))
        time = (np.arange(pulse.size) - pulse.size // 2) / (pulse.size * (frequency[1] - frequency[0]))
        loud = np.nonzero(np.abs(pulse) > TAIL * np.abs(pulse).max())[0]
        return cls(probe, event, float(low), float(high), float(time[loud[0]]), float(time[loud[-1]]))

    def __call__(self, frequency: Array) -> NDArray[np.complex128]:
        """P(f) R(f)^2 (F,)."""
        excitation = excitation_spectrum(frequency, self.event, self.probe.center_frequency)
        return excitation * two_way_response(frequency, self.probe)
