"""The public names: they are there, they are what they should be, and importing usim costs nothing."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

import usim

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [32, 24]}
medium: {attenuation: {uniform: [0.2 dB/cm/MHz, 0.8 dB/cm/MHz]}}
background: {name: tissue, echogenicity: 0 dB}
seed: 3
"""


def test_importing_usim_loads_nothing_heavy():
    code = "import sys, usim; print([m for m in ('numpy', 'h5py', 'pydantic', 'numba', 'click') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


@pytest.mark.parametrize("name", usim.__all__)
def test_every_name_is_there(name):
    assert getattr(usim, name) is getattr(usim, name)
    assert name in dir(usim)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'simulat'"):
        usim.simulat  # noqa: B018


def test_stream_is_lazy_endless_and_equal_to_simulate(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    frames = list(itertools.islice(usim.stream(path, seed=5), 3))
    assert [frame.params["index"] for frame in frames] == [0, 1, 2]
    again = usim.simulate(usim.load_phantom(path), seed=5, index=2)
    np.testing.assert_array_equal(frames[2].iq, again.iq)
    assert frames[2].params == again.params
    with pytest.raises(usim.errors.ConfigError):
        usim.stream(tmp_path / "gone.yaml", seed=1)
