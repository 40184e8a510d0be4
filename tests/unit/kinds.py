"""Frames of every kind that a phantom can bring, made of numbers: what is stored of them, not how they came about."""

from dataclasses import fields, replace

import numpy as np
from conftest import PROBE, synthetic_frame

from usim.frame import Polar, PolarAxes, Truth

SHAPE = (24, 16)
LINES = (20, 18)  # samples, lines
RNG = np.random.default_rng(5)


def _values(shape, dtype=np.float32):
    return RNG.uniform(0, 3, shape).astype(dtype)


def _with_truth(frame, **more):
    return replace(frame, truth=replace(frame.truth, **more))


def sector(index=0, radius=None, **options):
    """A frame of a phased array, or of a convex one of this radius in metres, with the lines that it was made of."""
    probe = dict(PROBE, name="C5-2v" if radius else "P4-2v", **({"radius": radius} if radius else {}))
    frame = synthetic_frame(index, shape=SHAPE, probe=probe, **options)
    names = ("bmode", "resolved_db", "echogenicity_db")
    truth = Truth(**{name: -10 * _values(LINES) for name in names}, labels=_values(LINES, np.uint16),
                  few_scatterers=_values(LINES, np.uint8), label_names=frame.truth.label_names)  # fmt: skip
    iq = (_values(LINES) + 1j * _values(LINES)).astype(np.complex64)
    axes = PolarAxes(np.linspace(5e-3, 8e-2, LINES[0]), np.radians(np.linspace(-30, 35, LINES[1])))
    polar = Polar(-20 * _values(LINES), np.abs(iq), iq, truth, axes)
    mask = (_values(SHAPE) > 1).astype(np.uint8)
    return replace(_with_truth(frame, mask=mask), iq=None, polar=polar)


def display(index=0, dtype=np.uint8):
    """A frame with the scanner's own display: 8 bits, or floats from 0 to 1."""
    white = 255 if dtype == np.uint8 else 1
    frame = _with_truth(synthetic_frame(index, shape=SHAPE), display=_values(SHAPE) * np.float32(white / 3))
    return replace(frame, display=(_values(SHAPE) / 3 * white).astype(dtype))


def _placed(frame, **place):
    return replace(frame, params={**frame.params, **place})


KINDS = {
    "linear": lambda: [synthetic_frame(i) for i in range(3)],
    "points alone": lambda: [replace(synthetic_frame(i), scatterers=None) for i in range(2)],
    "phased": lambda: [sector(i) for i in range(2)],
    "convex": lambda: [sector(i, 49.57e-3) for i in range(2)],
    "sweep": lambda: [_placed(synthetic_frame(0, look=i), slice=i) for i in range(3)],
    "angles": lambda: [_placed(synthetic_frame(0, look=i), angle=i) for i in range(3)],
    "sequence": lambda: [
        _placed(_with_truth(synthetic_frame(0, look=i), displacement=_values((*SHAPE, 2)) * np.float32(1e-4)), time=i)
        for i in range(3)
    ],
    "moving sector": lambda: [
        _with_truth(_placed(sector(0, look=i), time=i), displacement=_values((*SHAPE, 2))) for i in range(2)
    ],
    "compound": lambda: [replace(_with_truth(synthetic_frame(i), looks=1 + _values(SHAPE)), iq=None) for i in range(2)],
    "display of 8 bits": lambda: [display(i) for i in range(2)],
    "display of floats": lambda: [display(i, np.float32) for i in range(2)],
    "drawn axes": lambda: [synthetic_frame(i, wider=i * 1e-3) for i in range(2)],
    "drawn probes": lambda: [
        synthetic_frame(0), synthetic_frame(1, probe=dict(PROBE, name="L12-3v", elements=192), wider=1e-3)
    ],
    "one frame": lambda: [synthetic_frame()],
}  # fmt: skip


def truths(truth):
    """The arrays that a truth has, by name."""
    found = {f.name: getattr(truth, f.name) for f in fields(truth) if f.name != "label_names"}
    return {name: values for name, values in found.items() if values is not None}
