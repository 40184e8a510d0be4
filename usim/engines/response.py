"""What a pulse is in channel data: its spectrum, the band it needs and how long it lasts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.engines.pulse import MOST_LOSS_DB, burst_spectrum, probe_response
from usim.errors import ConfigError
from usim.events import Excitation
from usim.medium import Medium
from usim.probe import Probe, Waveform

Array = NDArray[np.float64]
FLOOR = 3e-4  # amplitude below the spectrum's peak at which the band ends, at every depth: -70 dB
TAIL = 1e-3  # amplitude below the pulse's peak at which the pulse ends: -60 dB
HIGHEST = 3.0  # centre frequencies; nothing is looked for beyond
SPECTRUM_POINTS = 4096  # at least
FAINTEST = 1e-6  # of P R^2, both of which are about 1 at their peaks: -120 dB is no signal
LONGEST_SIGNAL = 100e-6  # seconds from t = 0 at which excitation and responses together may begin or end


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


def drive_spectrum(frequency: Array, event: Excitation, center_frequency: float) -> NDArray[np.complex128]:
    """P(f) (F,): spectrum of what drives the elements, in the convention exp(-i 2 pi f t).

    A burst of n periods of sin(2 pi fc t), centred on t = 0, has -i [sinc(T (f - fc)) - sinc(T (f + fc))] T / 2 with
    T = n / fc and sinc(x) = sin(pi x) / (pi x); the factor T / 2 is left out, as in SIMUS (Garcia 2022).
    """
    if event.excitation is not None:
        return waveform_spectrum(frequency, event.excitation)
    return -1j * burst_spectrum(frequency, center_frequency, event.cycles)


def two_way_response(frequency: Array, probe: Probe) -> NDArray[np.complex128]:
    """R(f)^2 (F,): transmission and reception by the same element, 1 at its peak."""
    if probe.impulse_response is not None:
        return waveform_spectrum(frequency, probe.impulse_response) ** 2
    return probe_response(frequency, probe).astype(np.complex128)


def attenuation(frequency: Array, medium: Medium) -> Array:
    """alpha(f) in Np/m (F,): 20 log10 e = 8.686 dB per Np."""
    return medium.alpha(frequency) * 100.0 / 8.685889638


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
        _refuse_silence(probe, medium, longest)
        top = HIGHEST * probe.center_frequency
        # so many that a signal as late or long as ours does not come round again
        points = max(SPECTRUM_POINTS, math.ceil(4.0 * top * _latest(probe, event)))
        frequency = np.linspace(0.0, top, points + 1)
        spectrum = drive_spectrum(frequency, event, probe.center_frequency) * two_way_response(frequency, probe)
        magnitude = np.abs(spectrum)
        if not magnitude.max() > FAINTEST:
            raise ConfigError("excitation: it has no energy in the probe's band; change its frequency or the probe's")
        deep = magnitude * np.exp(-attenuation(frequency, medium) * longest)
        used = (magnitude > FLOOR * magnitude.max()) | (deep > FLOOR * deep.max())
        inside = np.nonzero(used)[0]
        low, high = frequency[max(inside[0] - 1, 1)], frequency[min(inside[-1] + 1, points)]
        # the pulse of the echo without attenuation, which is the shortest in its band but has the sharpest edges
        pulse = np.fft.fftshift(np.fft.ifft(spectrum, 4 * points))
        time = (np.arange(pulse.size) - pulse.size // 2) / (pulse.size * (frequency[1] - frequency[0]))
        loud = np.nonzero(np.abs(pulse) > TAIL * np.abs(pulse).max())[0]
        return cls(probe, event, float(low), float(high), float(time[loud[0]]), float(time[loud[-1]]))

    def __call__(self, frequency: Array) -> NDArray[np.complex128]:
        """P(f) R(f)^2 (F,)."""
        drive = drive_spectrum(frequency, self.event, self.probe.center_frequency)
        return drive * two_way_response(frequency, self.probe)


def _latest(probe: Probe, event: Excitation) -> float:
    """Seconds from t = 0 within which the sampled signals of excitation, transmission and reception lie."""
    begin = end = 0.0
    for waveform, times in ((event.excitation, 1), (probe.impulse_response, 2)):
        if waveform is not None:
            begin += times * waveform.start
            end += times * (waveform.start + waveform.duration)
    latest = max(abs(begin), abs(end))
    if latest > LONGEST_SIGNAL:
        raise ConfigError(
            f"excitation, impulse_response: together they reach to {latest * 1e6:.4g} us from t = 0, at most "
            f"{LONGEST_SIGNAL * 1e6:g} us are allowed; shorten them, or move their `start` nearer to 0"
        )
    return latest


def _refuse_silence(probe: Probe, medium: Medium, longest: float) -> None:
    loss = medium.alpha(probe.center_frequency) * 100.0 * longest
    if loss > MOST_LOSS_DB:
        raise ConfigError(
            f"medium.attenuation: echoes of the longest path, {longest * 1e3:.4g} mm there and back, lose "
            f"{loss:.0f} dB at the centre frequency, at most {MOST_LOSS_DB:g} dB are allowed; lower the attenuation "
            "or bring the scatterers nearer (positions are in metres)"
        )
