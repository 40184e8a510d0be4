"""The course of a heartbeat: a fast rise in systole, a slow fall, and the dicrotic notch on its way."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
HARMONICS: Final = 16
SMOOTHING: Final = 9.0  # harmonics over which the sketch below is rounded off
UPSTROKE: Final = 0.13  # of a beat
NOTCH: Final = ((-0.14, 0.40, 0.035), (0.07, 0.48, 0.05))  # depth, place in the beat, width; then the wave after it


def _spectrum() -> NDArray[np.complex128]:
    """Fourier coefficients (HARMONICS + 1,) of the wave, which runs from 0 (at beat 0) to 1."""
    beat = np.arange(512) / 512
    rise = 0.5 - 0.5 * np.cos(np.pi * beat / UPSTROKE)
    wave = np.where(beat < UPSTROKE, rise, ((1.0 - beat) / (1.0 - UPSTROKE)) ** 1.5)
    wave += sum(depth * np.exp(-(((beat - at) / width) ** 2)) for depth, at, width in NOTCH)
    terms = np.fft.rfft(wave)[: HARMONICS + 1] / len(beat)
    terms[1:] *= 2.0
    terms *= np.exp(-0.5 * (np.arange(HARMONICS + 1) / SMOOTHING) ** 2)
    smooth = np.real(np.exp(2j * np.pi * np.outer(beat, np.arange(HARMONICS + 1))) @ terms)
    terms[0] -= smooth.min()
    terms *= np.exp(2j * np.pi * np.arange(HARMONICS + 1) * beat[smooth.argmin()])
    return np.asarray(terms / np.ptp(smooth))


_TERMS: Final = _spectrum()


def heartbeat(beat: ArrayLike) -> Array:
    """The wave at beats, counted from a diastole: 0 there, 1 in systole.

    >>> heartbeat([0.0, 1.0, 7.0]).round(9).tolist()
    [0.0, 0.0, 0.0]
    """
    return np.asarray(np.real(np.exp(2j * np.pi * np.multiply.outer(beat, np.arange(HARMONICS + 1))) @ _TERMS))


def heartbeat_until(beat: ArrayLike) -> Array:
    """The integral of the wave from beat 0 to `beat`; it grows by the wave's mean with every beat."""
    order = 2j * np.pi * np.arange(1, HARMONICS + 1)
    waves = (np.exp(np.multiply.outer(beat, order)) - 1.0) @ (_TERMS[1:] / order)
    return np.asarray(np.asarray(beat, np.float64) * _TERMS[0].real + np.real(waves))
