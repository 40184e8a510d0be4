"""Transmit events: units, limits, weights, and what can't be."""

import math

import numpy as np
import pytest

import usim
from usim.errors import ConfigError

WAVE = usim.Waveform(samples=(0.0, 1.0, -1.0), sampling_frequency=40e6)
EVENTS = [
    usim.PlaneWave(angle=0.1),
    usim.Focused(point=(0, 0, 20e-3)),
    usim.Diverging(source=(0, 0, -10e-3)),
    usim.Delays(delays=(0, 1e-6)),
    usim.FullMatrix(),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_frozen_equal_by_value_and_have_a_signal(event):
    assert type(event)(**event.model_dump()) == event
    assert hash(type(event).model_validate_json(event.model_dump_json())) == hash(event)
    assert (event.cycles, event.excitation) == (1.0, None)
    assert type(event)(**{**event.model_dump(), "excitation": WAVE}).excitation == WAVE
    with pytest.raises(ValueError, match="frozen"):
        event.cycles = 2


def test_numbers_may_carry_units():
    assert usim.PlaneWave(angle="-10 deg", cycles="2").angle == pytest.approx(-math.radians(10))
    assert usim.Focused(point=("1 mm", 0, "20 mm")).point == (1e-3, 0.0, 20e-3)
    assert usim.Diverging(source=(0, "1 cm", "-20 mm")).source == (0.0, 0.01, -20e-3)
    assert usim.Delays(delays=("0 s", "120 ns", "1 us")).delays == (0.0, 120e-9, 1e-6)


def test_arrays_are_taken_as_lists():
    event = usim.Delays(delays=np.array([0.0, 1e-6]), apodization=np.array([1, 0]))
    assert (event.delays, event.apodization) == ((0.0, 1e-6), (1.0, 0.0))
    assert usim.Focused(point=np.array([0, 0, 0.02])).point == (0.0, 0.0, 0.02)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("PlaneWave", {"angle": 10}, r"PlaneWave\.angle: 10 rad is beyond 80 deg; did you mean 10 deg\?"),
        ("PlaneWave", {"angle": "-81 deg"}, "angle: must be at least -80 deg"),
        ("PlaneWave", {"cycles": 0}, "cycles: must be at least 0.5"),
        ("PlaneWave", {"point": (0, 0, 1e-3)}, "point: unknown key"),
        ("PlaneWave", {"apodization": "han"}, r"^PlaneWave\.apodization: 'han' is none of boxcar.*did you mean 'hann'"),
        (
            "PlaneWave",
            {"apodization": 1.0},
            "apodization: '1' is none of boxcar, hann, hamming, nor a list of one weight",
        ),
        ("PlaneWave", {"apodization": []}, "all elements are off"),
        ("PlaneWave", {"apodization": [1, math.inf]}, r"apodization\.1: must be finite"),
        ("PlaneWave", {"apodization": [0, 0]}, "all elements are off"),
        ("PlaneWave", {"apodization": [1.0] * 16385}, "at most 16384 weights, got 16385"),
        ("PlaneWave", {"excitation": {"samples": [0, 0], "sampling_frequency": 1e8}}, "every sample is zero"),
        ("Focused", {}, "point: this key is required"),
        ("Focused", {"point": (0, 0.02)}, "value 3 of the list is missing"),
        ("Focused", {"point": (0, 0, 20)}, r"point\.2: 20 m is beyond 0.5 m; did you mean 20 mm"),
        ("Diverging", {"source": (0, 0, 1e-3)}, r"source\.2: 0\.001 m is beyond 0"),
        ("FullMatrix", {"apodization": "hann"}, "apodization: unknown key"),
        ("Delays", {"delays": [0, -1e-9]}, r"delays\.1: must be at least 0 \(got -1e-09 s\)"),
        (
            "Delays",
            {"delays": [0, None]},
            r"delays\.1: expected a finite delay, got null; an element is switched off by a weight of 0",
        ),
        ("Delays", {"delays": np.array([np.nan, 0])}, r"delays\.0: expected a finite delay, got nan"),
        ("Delays", {"delays": [0, math.inf]}, r"delays\.1: must be finite"),
        ("Delays", {"delays": [0, 1.0]}, r"delays\.1: 1 s is beyond .*; did you mean"),
        ("Delays", {"delays": 0}, "delays: expected a list"),
        ("Delays", {"delays": [0.0] * 16385}, "at most 16384 values"),
    ],
)
def test_impossible_events_are_refused(kind, given, message):
    with pytest.raises(ConfigError, match=message) as caught:
        getattr(usim, kind)(**given)
    assert "\n" not in str(caught.value)
