"""The real zea.File opens, validates and reads our shards."""

import os

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "numpy")  # zea needs keras; its numpy back end is the lightest
zea = pytest.importorskip("zea", reason="zea (development extra) is not installed")

from usim.io.atomic import write_atomic  # noqa: E402
from usim.io.shard import ShardHeader, encode_shard  # noqa: E402


def write(path, frames, store=()):
    write_atomic(path, encode_shard(frames, ShardHeader(len(frames), 0, 7, "", "cysts", {"usim": "0.1.0"}, store)))
    return path


def test_zea_reads_the_values_and_the_probe(tmp_path, make_frame):
    frames = [make_frame(i) for i in range(3)]
    path = write(tmp_path / "shard-00000.h5", frames, ("iq", "scatterers"))
    with zea.File(path) as file:
        assert file.validate() == {"status": "success"}
        spec = file.validate_spec()
        assert file.probe.name == "L11-5v"
        assert file.description == "cysts"
        assert file.n_frames == 3
        for row, frame in enumerate(frames):
            np.testing.assert_array_equal(file.data.image.values[row], frame.bmode)
            np.testing.assert_array_equal(file.data.envelope_data.values[row], frame.envelope)
            np.testing.assert_array_equal(file.data.truth_bmode.values[row], frame.truth.bmode)
            np.testing.assert_array_equal(file.data.beamformed_data.values[row][..., 1], frame.iq.imag)
        x = spec.data.image.coordinates[..., 0]
        np.testing.assert_allclose(x, np.broadcast_to(frames[0].axes.x, x.shape), atol=1e-9)
    np.testing.assert_allclose(spec.probe.element_width, 0.27e-3, rtol=1e-6)
    assert spec.probe.probe_geometry.shape == (128, 3)


def test_zea_validates_a_file_of_several_probes_and_fields_of_view(tmp_path, make_frame):
    other = dict(make_frame().params["scene"]["probe"], name="L12-3v", elements=192)
    path = write(tmp_path / "shard-00000.h5", [make_frame(0), make_frame(1, probe=other, wider=1e-3)])
    with zea.File(path) as file:
        assert file.validate() == {"status": "success"}
        file.validate_spec()
        assert file.data.image.coordinates.shape == (2, 24, 16, 3)
