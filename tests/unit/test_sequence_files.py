"""Sequences in files: the displacement field, the index of times, sizes, and what `usim info` says."""

from contextlib import closing

import h5py
import numpy as np
import pytest

import usim
from usim.generate import generate
from usim.info import describe
from usim.io.packing import bytes_per_frame
from usim.phantom.load import phantom_from_text
from usim.pipeline import simulate

PHANTOM = """
probe: L11-5v
image: {x: [-3 mm, 3 mm], z: [15 mm, 21 mm], pixels: [48, 64]}
scatterers: {per_cell: 2}
background: {echogenicity: 0 dB}
regions: [{name: lumen, shape: layer, z: [17 mm, 19 mm], echogenicity: -10 dB}]
"""
SEQUENCE = """
sequence:
  times: 3
  rate: 20 Hz
  motions:
    - {type: flow, region: lumen, velocity: {uniform: [5 mm/s, 20 mm/s]}}
    - {type: translation, velocity: [0 mm/s, 10 mm/s]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sequence") / "data"
    generate(phantom_from_text(PHANTOM + SEQUENCE), path, frames=6, workers=1, shard_size=6)
    return path


def test_displacement_is_in_the_file_and_comes_back(folder):
    with h5py.File(folder / "shard-00000.h5") as file:
        stored = file["truth/displacement"]
        assert (stored.shape, stored.dtype, stored.attrs["unit"]) == ((6, 64, 48, 2), np.float32, "m")
        assert file["index/time"][:].tolist() == [0, 1, 2, 0, 1, 2]
        assert file["index/scene"][:].tolist() == [0, 0, 0, 1, 1, 1]
    with closing(usim.open(folder)) as frames:
        for number, time in enumerate((0, 1, 2)):
            frame = frames[number]
            assert frame.params["seconds"] == time / 20
            np.testing.assert_allclose(frame.truth.displacement[0, :, 1], 0.5e-3 * time, atol=1e-9)
        speeds = [frames[i].params["scene"]["sequence"]["motions"][0]["velocity"] for i in (0, 2, 3, 5)]
        assert speeds[0] == speeds[1] != speeds[2] == speeds[3]
        middle = int(np.argmin(np.abs(frames[2].axes.z - 19e-3)))
        assert frames[2].truth.displacement[middle, 24, 0] == pytest.approx(0.1 * speeds[0], rel=0.01)
        again = simulate(phantom_from_text(PHANTOM + SEQUENCE), index=1, time=1)
        np.testing.assert_array_equal(frames[4].bmode, again.bmode)
        np.testing.assert_array_equal(frames[4].truth.displacement, again.truth.displacement)


def test_size_is_foreseen(folder):
    """The displacement's 8 bytes per pixel are counted; the estimate is that of the file within 5 %."""
    whole = (folder / "shard-00000.h5").stat().st_size / 6
    assert bytes_per_frame((48, 64), ("sequence",)) - bytes_per_frame((48, 64)) == 8 * 48 * 64
    assert bytes_per_frame((48, 64), ("sequence",)) == pytest.approx(whole, rel=0.05)


def test_info_tells_of_the_sequence(folder):
    text = describe(folder)
    assert "3 times at 20 Hz; flow, translation" in text
    assert "truth/displacement" in text


def test_no_displacement_without_a_sequence(tmp_path):
    generate(phantom_from_text(PHANTOM), tmp_path / "data", workers=1)
    with h5py.File(tmp_path / "data" / "shard-00000.h5") as file:
        assert "truth/displacement" not in file
    with closing(usim.open(tmp_path / "data")) as frames:
        assert frames[0].truth.displacement is None
        assert "seconds" not in frames[0].params
