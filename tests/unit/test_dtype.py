"""Images that are stored smaller: what is lost is what is said, what must not change does not, everybody reads them."""

import io
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from usim.errors import ConfigError
from usim.frame import Polar, PolarAxes
from usim.io.atomic import write_atomic
from usim.io.dataset import open_frames
from usim.io.layout import BY_PATH, DATASETS
from usim.io.packing import STEP_DB, bytes_per_frame, envelope_of, packing_of
from usim.io.shard import ShardHeader, encode_shard, read_frame

TRUTHS_DB = ("bmode", "resolved_db", "echogenicity_db")
WHOLE = ("labels", "few_scatterers", "mask")


def header(frames, dtype, *, compress=False, store=()):
    return ShardHeader(frames, 0, 7, "", "", {}, store, dtype, compress)


def full_frame(make_frame, index=0, shape=(24, 16)):
    """A frame with every image that there is: polar, display, looks, displacement, mask."""
    frame = make_frame(index, shape=shape)
    rng = np.random.default_rng(index)
    truth = replace(
        frame.truth,
        looks=rng.uniform(1, 9, shape).astype(np.float32),
        displacement=rng.normal(0, 1e-4, (*shape, 2)).astype(np.float32),
        mask=np.ones(shape, np.uint8),
        display=rng.uniform(0, 255, shape).astype(np.float32),
        bmode=rng.uniform(-90, -1, shape).astype(np.float32),
        echogenicity_db=rng.choice(np.float32([-100, -12, 0, 20]), shape),
    )
    lines = replace(truth, mask=None, display=None)
    axes = PolarAxes(np.linspace(1e-3, 3e-2, shape[0]), np.linspace(-0.5, 0.5, shape[1]))
    polar = Polar(frame.bmode, frame.envelope, frame.iq, lines, axes)
    return replace(frame, iq=None, truth=truth, polar=polar, display=rng.integers(0, 256, shape).astype(np.uint8))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_what_is_lost_is_what_is_said(make_frame, dtype, compress):
    made = [full_frame(make_frame, i) for i in range(2)]
    data = encode_shard(made, header(2, dtype, compress=compress, store=("iq",)))
    with h5py.File(io.BytesIO(data)) as file:
        for row, frame in enumerate(made):
            read = read_frame(file, row)
            for a, b in ((frame, read), (frame.polar, read.polar)):
                half = 2.0**-11 if dtype == "float16" else 0.0
                level = STEP_DB / 2 if dtype == "uint8" else 0.0
                for name in ("bmode", "envelope", "iq"):
                    if getattr(a, name) is None:
                        assert getattr(b, name) is None
                        continue
                    assert getattr(b, name).dtype == getattr(a, name).dtype
                assert np.abs(a.bmode - b.bmode).max() <= level + half * 128 + 1e-4 * (dtype == "uint8")
                np.testing.assert_allclose(
                    b.envelope, a.envelope, rtol=max(half, 10 ** (level / 20) - 1 + 1e-4), atol=3e-8
                )
                for name in TRUTHS_DB:
                    x, y = getattr(a.truth, name), getattr(b.truth, name)
                    assert y.dtype == np.float32
                    assert np.abs(x - y).max() <= level + half * 128
                for name in ("looks", "displacement"):
                    x, y = getattr(a.truth, name), getattr(b.truth, name)
                    assert y.dtype == np.float32
                    np.testing.assert_allclose(y, x, rtol=0 if dtype == "float32" else 2.0**-11, atol=3e-8)
                for name in WHOLE:
                    np.testing.assert_array_equal(getattr(b.truth, name), getattr(a.truth, name), strict=True)
            np.testing.assert_allclose(
                read.polar.iq,
                frame.polar.iq,
                rtol=0,
                atol=0 if dtype == "float32" else np.abs(frame.polar.iq).max() / 1e3,
            )
            np.testing.assert_array_equal(read.display, frame.display, strict=True)
            np.testing.assert_array_equal(read.axes.x, frame.axes.x, strict=True)
            np.testing.assert_array_equal(read.polar.axes.angle, frame.polar.axes.angle, strict=True)
            if dtype == "float32":
                np.testing.assert_array_equal(read.bmode, frame.bmode, strict=True)
                np.testing.assert_array_equal(read.truth.displacement, frame.truth.displacement, strict=True)
        for spec in DATASETS:
            if spec.is_image and spec.path in file:
                assert file[spec.path].fletcher32
                assert file[spec.path].chunks == (1, *file[spec.path].shape[1:])
                assert (file[spec.path].compression, file[spec.path].shuffle) == (
                    ("gzip", True) if compress else (None, False)
                )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(arrays(np.float32, 50, elements=st.floats(-200, 60, width=32)), st.sampled_from(["bmode", "truth/resolved_db"]))
def test_steps_of_decibels_err_by_half_a_step_and_clip(image, path):
    packing = packing_of(BY_PATH[path], "uint8")
    codes = packing.pack(image, path)
    scale, offset = packing.attributes["scale_factor"], packing.attributes["add_offset"]
    read = codes.astype(np.float32) * np.float32(scale) + np.float32(offset)
    inside = np.clip(image, offset, offset + 255 * scale)
    assert np.abs(read - inside).max() <= STEP_DB / 2 + 1e-4
    np.testing.assert_array_equal(packing.pack(read, path), codes)  # a second time loses nothing


def test_black_white_and_anechoic_are_exact():
    for path, values in (("bmode", [0.0, -60.0, -127.5]), ("truth/echogenicity_db", [-100.0, 0.0, 6.0])):
        packing = packing_of(BY_PATH[path], "uint8")
        codes = packing.pack(np.array(values, np.float32), path).astype(np.float32)
        np.testing.assert_array_equal(codes * STEP_DB + packing.offset, values)


def test_the_envelope_is_the_bmode_again(make_frame):
    bmode = make_frame().bmode
    np.testing.assert_allclose(envelope_of(bmode), 10.0 ** (bmode.astype(np.float64) / 20), rtol=1e-5)


def test_what_halves_cannot_hold_is_refused(make_frame):
    frame = make_frame()
    frame = replace(frame, envelope=frame.envelope * np.float32(1e7))
    with pytest.raises(ConfigError, match=r"envelope reaches .*float16 ends at 65504; choose --dtype float32"):
        encode_shard([frame], header(1, "float16"))
    encode_shard([frame], header(1, "uint8"))  # which has no envelope


@pytest.mark.parametrize(("dtype", "ratio"), [("float16", 0.5), ("uint8", 0.25)])
def test_it_takes_the_room_that_is_planned(make_frame, dtype, ratio):
    made = [full_frame(make_frame, i, (256, 200)) for i in range(3)]
    words, lines = ("iq", "compound", "sequence", "display"), (200, 256)
    size = {kind: len(encode_shard(made, header(3, kind, store=("iq",)))) for kind in ("float32", dtype)}
    planned = {kind: 3 * bytes_per_frame((200, 256), words, lines, kind) for kind in size}
    for kind, found in size.items():
        assert abs(found / planned[kind] - 1) < 0.1
    plain = [make_frame(i, shape=(256, 200)) for i in range(3)]
    small, large = (len(encode_shard(plain, header(3, kind))) for kind in (dtype, "float32"))
    assert small < (ratio + 0.12) * large  # labels and coordinates stay


def test_compression_is_without_loss_and_equal_every_time(make_frame):
    made = [make_frame(i, shape=(128, 128)) for i in range(2)]
    one, two = (encode_shard(made, header(2, "uint8", compress=True)) for _ in range(2))
    assert one == two
    assert len(one) < 0.8 * len(encode_shard(made, header(2, "uint8")))


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_zea_validates_and_reads_it(tmp_path, make_frame, dtype):
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    zea = pytest.importorskip("zea", reason="zea (development extra) is not installed")
    made = [make_frame(i) for i in range(2)]
    write_atomic(tmp_path / "a.h5", encode_shard(made, header(2, dtype, compress=True)))
    with zea.File(tmp_path / "a.h5") as file:
        assert file.validate() == {"status": "success"}
        file.validate_spec()
        values = np.asarray(file.data.image.values[1], np.float32)
        if dtype == "uint8":
            values = values * STEP_DB - 127.5
        np.testing.assert_allclose(values, made[1].bmode, atol=0.26)


def test_usim_view_and_s2s_take_them(tmp_path, make_frame):
    from s2s.images.hdf5 import read_hdf5
    from s2s.images.image import Stated
    from usim.info import describe
    from usim.view.choice import Request, draw

    made = [make_frame(i) for i in range(2)]
    for dtype in ("float16", "uint8"):
        path = tmp_path / f"{dtype}.h5"
        write_atomic(path, encode_shard(made, header(2, dtype)))
        frames = open_frames(path)
        assert frames[1].bmode.dtype == frames[1].envelope.dtype == frames[1].truth.bmode.dtype == np.float32
        draw(frames, tmp_path / f"{dtype}.png", Request(), "a")
        said = next(line for line in describe(path).splitlines() if line.startswith("datasets"))
        assert ("envelope" in said) == (dtype == "float16")
        shown = read_hdf5(path, Stated()).frames[0]
        np.testing.assert_allclose(shown, np.clip(made[0].bmode, -60, 0), atol=0.26)
