"""Shards: what goes in comes out, equal frames give equal bytes, and the file describes itself."""

import io
import subprocess
import sys

import h5py
import numpy as np
import pytest

from usim.errors import ConfigError, DataError
from usim.io.layout import BY_PATH
from usim.io.packing import bytes_per_frame
from usim.io.shard import ShardHeader, encode_shard, read_config, read_frame

VERSIONS = {"numba": "0.68.1", "numpy": "2.4.6", "usim": "0.1.0"}


def header(frames, store=(), config="probe: L11-5v\n"):
    return ShardHeader(frames, 0, 7, config, "two cysts", VERSIONS, tuple(store))


def assert_equal_frames(a, b, *, iq=True, scatterers=True):
    for name in ("bmode", "envelope", *(["iq"] if iq else [])):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    for name in ("bmode", "resolved_db", "echogenicity_db", "labels", "few_scatterers"):
        np.testing.assert_array_equal(getattr(a.truth, name), getattr(b.truth, name), strict=True)
    assert a.truth.label_names == b.truth.label_names
    np.testing.assert_array_equal(a.axes.x, b.axes.x, strict=True)
    np.testing.assert_array_equal(a.axes.z, b.axes.z, strict=True)
    assert a.params == b.params
    if scatterers:
        np.testing.assert_array_equal(a.scatterers.position, b.scatterers.position, strict=True)
        np.testing.assert_array_equal(a.scatterers.amplitude, b.scatterers.amplitude, strict=True)


def test_frames_come_back_bit_for_bit(make_frame):
    frames = [make_frame(i, look=i % 2, wider=1e-3 * i, names=("tissue", f"region {i}")) for i in range(3)]
    data = encode_shard(iter(frames), header(3, ("iq", "scatterers")))
    with h5py.File(io.BytesIO(data)) as file:
        for row, frame in enumerate(frames):
            assert_equal_frames(read_frame(file, row), frame)
        assert file["axes/x"].ndim == 2
        assert list(file["index/look"]) == [0, 1, 0]
        assert "names" not in file["truth/labels"].attrs


def test_extras_are_stored_only_when_asked_for(make_frame):
    with h5py.File(io.BytesIO(encode_shard([make_frame()], header(1)))) as file:
        frame = read_frame(file, 0)
        assert frame.iq is None
        assert frame.scatterers is None
        assert_equal_frames(frame, make_frame(), iq=False, scatterers=False)


def test_frames_without_scatterers_can_be_asked_to_store_them(make_frame):
    frames = [make_frame(i) for i in range(2)]
    for frame in frames:
        object.__setattr__(frame, "scatterers", None)
    with h5py.File(io.BytesIO(encode_shard(frames, header(2, ("scatterers",))))) as file:
        assert read_frame(file, 1).scatterers is None
        assert list(file["scatterers/offsets"]) == [0, 0, 0]


def test_every_dataset_is_in_the_table_and_says_what_it_is(make_frame):
    def check(path, item):
        if isinstance(item, h5py.Dataset) and not path.startswith("tracks/"):
            spec = BY_PATH[path]
            assert item.attrs["unit"] == spec.unit
            assert item.attrs["description"] == spec.description
            assert item.dtype == np.dtype(spec.dtype) if spec.dtype[0] in "fiu" else item.dtype.kind in "SO"
            assert item.fletcher32 or item.ndim == 0
            if spec.is_image:
                assert item.chunks == (1, *item.shape[1:])

    with h5py.File(io.BytesIO(encode_shard([make_frame(i) for i in range(2)], header(2, ("iq",))))) as file:
        file.visititems(check)
        assert file.attrs["format"] == "usim-1"
        assert file.attrs["numba_version"] == "0.68.1"
        assert file.attrs["usim_version"] == "0.1.0"
        assert list(file["truth/labels"].attrs["names"]) == ["tissue", "cyst"]
        assert file["tracks/track_0/data/image/values"] == file["bmode"]
        assert file["probe/probe_geometry"].shape == (128, 3)
        np.testing.assert_allclose(file["probe/probe_bandwidth_percent"][()], 77)


def test_a_probe_that_changes_is_left_out(make_frame):
    other = dict(make_frame().params["scene"]["probe"], name="L12-3v")
    data = encode_shard([make_frame(0), make_frame(1, probe=other)], header(2))
    with h5py.File(io.BytesIO(data)) as file:
        assert "probe" not in file


@pytest.mark.parametrize("size", [100, 70_000])
def test_config_text_of_any_length(make_frame, size):
    text = "# " + "ä" * size + "\nprobe: L11-5v\n"
    with h5py.File(io.BytesIO(encode_shard([make_frame()], header(1, config=text)))) as file:
        assert read_config(file) == text


def test_equal_frames_give_equal_bytes_in_any_process(make_frame, request):
    code = (
        "import hashlib, sys; sys.path[:0] = sys.argv[1:];"
        "from conftest import synthetic_frame; from test_io_shard import header;"
        "from usim.io.shard import encode_shard;"
        "data = encode_shard([synthetic_frame(i) for i in range(3)], header(3, ('iq', 'scatterers')));"
        "print(hashlib.sha256(data).hexdigest())"
    )
    run = [sys.executable, "-c", code, str(request.path.parent), str(request.path.parents[1])]
    hashes = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(hashes) == 1


def test_bytes_do_not_depend_on_when_python_lets_go_of_datasets(make_frame, monkeypatch):
    """A profiler's thread that looks at frames keeps their variables: dask's made chunks change places."""
    frames, kept, get = [make_frame(i) for i in range(4)], [], h5py.Group.__getitem__

    def keep(group, name):
        kept.append(get(group, name))
        return kept[-1]

    plain = bytes(encode_shard(frames, header(4, ("iq", "scatterers"))))
    monkeypatch.setattr(h5py.Group, "__getitem__", keep)
    assert bytes(encode_shard(frames, header(4, ("iq", "scatterers")))) == plain
    assert kept


def test_wrong_frames_are_refused(make_frame):
    with pytest.raises(DataError, match="1 frames, 2 announced"):
        encode_shard([make_frame()], header(2))
    with pytest.raises(DataError, match="more than the 1 frames"):
        encode_shard([make_frame(), make_frame()], header(1))
    with pytest.raises(DataError, match="shape"):
        encode_shard([make_frame(), make_frame(shape=(8, 8))], header(2))
    frame = make_frame()
    object.__setattr__(frame, "iq", None)
    with pytest.raises(ConfigError, match="iq"):
        encode_shard([frame], header(1, ("iq",)))


def test_size_estimate_within_a_tenth(make_frame):
    frames = [make_frame(i, shape=(256, 200)) for i in range(4)]
    for store in ((), ("iq",)):
        size = len(encode_shard(frames, header(4, store)))
        assert abs(size / (4 * bytes_per_frame((200, 256), store)) - 1) < 0.1
