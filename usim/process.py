"""From IQ to a B-mode image, over the array namespace of the arguments."""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace

from usim.speckle import FLOOR_DB

MOST_GAIN = 1e6  # 60 dB of power


def envelope(iq: Any) -> Any:
    """|IQ|, same shape."""
    return array_namespace(iq).abs(iq)


def log_compress(envelope: Any) -> Any:
    """20 log10(envelope) in dB, clipped to [-150, 0]; 1 is 0 dB."""
    xp = array_namespace(envelope)
    floor = 10.0 ** (FLOOR_DB / 20.0)
    return xp.clip(20.0 * xp.log10(xp.clip(envelope, floor, None)), FLOOR_DB, 0.0)


def tgc_gain(setting: float | str, depth: Any, tissue: Any, reference: float) -> Any:
    """Time-gain compensation as a power gain (Z,).

    setting: "auto" undoes the mean tissue intensity `tissue` (Z,), relative to `reference`, by at most 60 dB; "none"
    is 1; a number is a slope in dB/cm.  depth: (Z,) metres.
    """
    xp = array_namespace(depth)
    if setting == "none":
        return xp.ones_like(depth)
    if setting == "auto":
        return xp.minimum(reference / xp.clip(tissue, 1e-300, None), xp.full_like(depth, MOST_GAIN))
    return 10.0 ** (float(setting) * depth * 100.0 / 10.0)


def rf_to_iq(
    data: Any,
    t0: Any,
    sampling_frequency: float,
    demodulation: float,
    band: tuple[float, float] | None = None,
    upsample: int = 1,
) -> Any:
    """Analytic signal of real channel data, at baseband: (T, S, E) -> (T, upsample S, E) complex.

        iq(t) = exp(-i 2 pi f_d t)  2 integral_{f > 0} RF(f) exp(i 2 pi f t) df,   t = t0 + n / (upsample f_s)

    (Gabor 1946; a positive frequency turns as exp(+i 2 pi f t).)  t0: (T,) s, the first sample's absolute time.
    sampling_frequency, demodulation f_d: Hz.  band: (lowest, highest) Hz that is kept; None keeps all.  upsample: how
    many times denser the result is sampled.  Padded with as many zeros as there are samples, so that nothing wraps.
    """
    xp = array_namespace(data)
    transmits, samples, elements = data.shape
    size = _smooth_length(2 * samples)
    zeros = xp.zeros((transmits, elements, size - samples), dtype=data.dtype)
    channels = xp.concat([xp.matrix_transpose(data), zeros], axis=-1)  # in memory along time: twice as fast
    frequency = xp.arange(size // 2 + 1, dtype=t0.dtype) * (sampling_frequency / size)
    edge = (frequency == 0.0) | (frequency == sampling_frequency / 2.0)
    gain = xp.where(edge, xp.ones_like(frequency), xp.full_like(frequency, 2.0)) * upsample
    if band is not None:
        gain = xp.where((frequency >= band[0]) & (frequency <= band[1]), gain, xp.zeros_like(gain))
    spectrum = xp.fft.rfft(channels) * xp.astype(gain, data.dtype)
    analytic = xp.fft.ifft(spectrum, n=size * upsample)[..., : samples * upsample]
    time = t0[:, None] + xp.arange(samples * upsample, dtype=t0.dtype) / (sampling_frequency * upsample)
    angle = -2.0 * math.pi * xp.remainder(time * demodulation, xp.ones_like(time))
    return xp.matrix_transpose(analytic * xp.astype(xp.exp(1j * angle), analytic.dtype)[:, None, :])


def _smooth_length(least: int) -> int:
    """The shortest length >= least that is a power of two times a product of 3 and 5 below it: fast to transform."""
    power = 1 << max(6, (least - 1).bit_length())
    return next(n for n in (power // 32 * k for k in (18, 20, 24, 25, 27, 30, 32)) if n >= least)
