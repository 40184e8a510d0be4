"""The course of a heartbeat: a fast rise in systole, a slow fall, and the dicrotic notch on its way."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
HARMONICS: Final = 16
# Systolic upstroke, its shoulder, the dicrotic wave, and the run-off in diastole: place in the beat, height, and
# sharpness k of exp(k (cos(2 pi (s - place)) - 1)).
_BUMPS: Final = ((0.14, 1.0, 22.0), (0.27, 0.62, 12.0), (0.47, 0.36, 22.0), (0.60, 0.18, 5.0))


def _spectrum() -> NDArray[np.complex128]:
    """Fourier coefficients (HARMONICS + 1,) of the wave, which runs from 0 (at beat 0) to 1."""
    beat = np.arange(512) / 512
    wave = sum(height * np.exp(k * (np.cos(2 * np.pi * (beat - at)) - 1)) for at, height, k in _BUMPS)
    terms = np.fft.rfft(wave)[: HARMONICS + 1] / len(beat)
    terms[1:] *= 2.0
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
