"""Frames made of numbers, for tests of everything that stores or shows frames but does not make them."""

import os

# Tests run beside each other, one per core: torch's threads would wait for one another (ten times slower, measured).
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from usim.frame import Axes, Frame, Truth
from usim.scatterers import Scatterers

PROBE = {
    "name": "L11-5v",
    "elements": 128,
    "pitch": 0.3e-3,
    "element_width": 0.27e-3,
    "element_height": 5e-3,
    "center_frequency": 7.6e6,
    "fractional_bandwidth": 0.77,
}


def synthetic_frame(index=0, *, shape=(24, 16), look=0, probe=None, wider=0.0, names=("tissue", "cyst"), seed=7):
    rng = np.random.default_rng([seed, index, look])
    iq = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64) * np.float32(0.02)
    envelope = np.abs(iq)
    labels = np.zeros(shape, np.uint16)
    labels[8:16, 4:10] = len(names) - 1
    level = np.where(labels > 0, -12.0, 0.0).astype(np.float32)
    return Frame(
        bmode=np.clip(20 * np.log10(envelope), -150, 0).astype(np.float32),
        envelope=envelope,
        iq=iq,
        truth=Truth(level - 30, level, level, labels, (labels > 0).astype(np.uint8), tuple(names)),
        axes=Axes(np.linspace(-1e-2 - wider, 1e-2 + wider, shape[1]), np.linspace(2e-3, 3e-2, shape[0])),
        params={
            "scene": {
                "probe": probe or PROBE,
                "image": {"pixels": [shape[1], shape[0]], "dynamic_range": 60.0, "headroom": 25.0},
            },
            "seed": seed,
            "index": index,
            "look": look,
        },
        scatterers=Scatterers(rng.normal(size=(5 + index, 3)) * 0.01, rng.normal(size=5 + index)),
    )


@pytest.fixture
def make_frame():
    return synthetic_frame


@pytest.fixture
def fake_renderer(monkeypatch, make_frame):
    """Frames that cost nothing, where files and not pictures are looked at; yields the list of those made."""
    import usim.generate

    made = []

    class Fake:
        def __init__(self, phantom, *, seed=None):
            self.seed = seed

        def frame(self, number):
            made.append(number)
            return make_frame(number, seed=self.seed)

    monkeypatch.setattr(usim.generate, "Renderer", Fake)
    return made


@pytest.fixture
def one_thread():
    """Torch in one thread, whatever numba's pool asks for: bits depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
