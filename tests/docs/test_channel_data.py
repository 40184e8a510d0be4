"""The page on channel data: its blocks run from top to bottom, and its errors are those that are raised."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import usim

PAGE = Path(__file__).parents[2] / "docs" / "channel_data.md"
TEXT = PAGE.read_text()
POINT = usim.Scatterers([[0, 0, 0.02]], [1])
FAR = usim.Scatterers([[0, 0, 1e-3], [0, 0, 0.2]], [1, 1])
WAVE = usim.PlaneWave()


def test_the_page_runs():
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 12
    for text in blocks:
        with warnings.catch_warnings():
            if "pymust" in text:  # its own code, when Python compiles and imports it
                warnings.simplefilter("ignore")
            exec(compile(text, str(PAGE), "exec"), names)
    first = [line for line in blocks[0].splitlines() if line.strip()]
    assert len(first) <= 15
    assert names["bmode"].shape == (321, 161)
    print(f"against MUST: {names['difference']:.1f} dB")
    assert names["difference"] < -45.0
    assert np.isfinite(names["image"]).all()


def simulate(event=WAVE, cloud=POINT, probe="L11-5v", loss=0.5, **options):
    return usim.simulate_rf(probe, event, usim.Medium(attenuation=loss), cloud, **options)


def image(points, **options):
    return usim.beamform(simulate(), points, **options)


MISTAKES = {
    "is no preset": lambda: simulate(probe="L11-5"),
    "lies behind the array or on an element": lambda: simulate(cloud=usim.Scatterers([[0, 0, -1e-3]], [1])),
    "there are none; give at least one": lambda: simulate(cloud=usim.Scatterers(np.zeros((0, 3)), [])),
    "is not finite; remove or repair it": lambda: usim.Scatterers([[0, 0, np.nan]], [1]),
    "the band reaches to": lambda: simulate(sampling_frequency=15e6),
    "an element would be split into": lambda: simulate(sub_elements=(100, 100)),
    "give one for each": lambda: simulate(usim.Delays(delays=[0, 1e-6])),
    "all elements are off": lambda: usim.PlaneWave(apodization=[0] * 128),
    "is in front of no active element": lambda: simulate(usim.Focused(point=(0, 0, -10e-3))),
    "expected PlaneWave, Focused, Diverging, FullMatrix or Delays": lambda: simulate([None]),
    "elements would overlap": lambda: usim.Probe(preset="L11-5v", pitch="0.1 mm"),
    "are allowed; simulate fewer events at a time": lambda: simulate([usim.FullMatrix()] * 40, FAR),
    "echoes last for": lambda: simulate(cloud=usim.Scatterers([[0, 0, 1e-3], [0, 0, 200]], [1, 1]), loss=0),
    "dB at the centre frequency, at most": lambda: simulate(cloud=usim.Scatterers([[0, 0, 20]], [1])),
    "us from t = 0, at most": lambda: simulate(
        usim.PlaneWave(excitation=usim.Waveform(samples=(0, 1, 0), sampling_frequency=40e6, start=1e-3))
    ),
    "channel data are single precision": lambda: simulate(cloud=usim.Scatterers([[0, 0, 0.02]], [1e20])),
    "lies behind the array (": lambda: image((np.zeros(1), -np.ones(3))),
    "with lines=True every transmit has its own": lambda: image((np.zeros(2), np.ones(3)), lines=True),
    "need 79 GB of memory": lambda: image((np.zeros(30_000), np.ones(30_000))),
}


def test_every_error_of_the_page_is_tried():
    table = TEXT[TEXT.index("| message | cure |") :]
    assert set(re.findall(r"^\| `(.*?)`", table, re.MULTILINE)) == set(MISTAKES)


@pytest.mark.parametrize("message", MISTAKES)
def test_errors_are_those_of_the_page(message):
    with pytest.raises(usim.errors.UsimError, match=re.escape(message)):
        MISTAKES[message]()
