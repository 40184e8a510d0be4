"""From IQ to a B-mode image, over the array namespace of the arguments."""

from __future__ import annotations

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
