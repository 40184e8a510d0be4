"""The real zea.File opens, validates and reads our shards."""

import os

import numpy as np
import pytest
from kinds import KINDS, truths

os.environ.setdefault("KERAS_BACKEND", "numpy")  # zea needs keras; its numpy back end is the lightest
zea = pytest.importorskip("zea", reason="zea (development extra) is not installed")

from usim.io.atomic import write_atomic  # noqa: E402
from usim.io.dataset import open_frames  # noqa: E402
from usim.io.layout import BY_PATH, ZEA_DATA  # noqa: E402
from usim.io.shard import ShardHeader, encode_shard  # noqa: E402


def write(path, frames, store=(), **packing):
    header = ShardHeader(len(frames), 0, 7, "", "cysts", {"usim": "0.1.0"}, store, **packing)
    write_atomic(path, encode_shard(frames, header))
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


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, "float32") for kind in KINDS), *((k, d) for k in ("linear", "phased") for d in ("float16", "uint8"))],
)
def test_zea_validates_and_reads_every_kind(tmp_path, kind, dtype):
    frames = KINDS[kind]()
    store, packed = ("iq",) if frames[0].iq is not None else (), dtype != "float32"
    path = write(tmp_path / "shard-00000.h5", frames, store, dtype=dtype, compress=packed)
    linked = {d.path: d.zea for d in BY_PATH.values() if d.zea is not None and d.path != "iq"}
    with zea.File(path) as file:
        assert file.validate() == {"status": "success"}
        if kind != "drawn probes":
            file.validate_spec()
            assert file.probe.name == frames[0].params["scene"]["probe"]["name"]
        assert file.n_frames == len(frames)
        for row, frame in enumerate(open_frames(path) if packed else frames):
            expected = {f"truth/{name}": values for name, values in truths(frame.truth).items()}
            expected |= {"bmode": frame.bmode} | ({} if dtype == "uint8" else {"envelope": frame.envelope})
            shown = {path: zea for path, zea in linked.items() if path in expected}
            assert set(shown.values()) == set(file[ZEA_DATA]) - {"beamformed_data"}
            for name in shown:
                found, kept = getattr(file.data, shown[name]), file[f"{ZEA_DATA}/{shown[name]}/values"].attrs
                # Steps of dB come as they are stored, with what netCDF's conventions say of them.
                values = found.values[row] * kept.get("scale_factor", 1) + kept.get("add_offset", 0)
                np.testing.assert_array_equal(values, expected[name])
                at = np.broadcast_to(found.coordinates, (len(frames), *values.shape, 3))[row]
                np.testing.assert_allclose(at[..., 0], np.broadcast_to(frame.axes.x, values.shape), atol=1e-8)
                np.testing.assert_allclose(at[..., 2], np.broadcast_to(frame.axes.z[:, None], values.shape), atol=1e-8)
