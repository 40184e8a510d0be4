"""HDF5 files of zea and of the USTB: the image is replaced, everything else is the same."""

import json
import os

import h5py
import numpy as np
import pytest

from s2s.domain import Domain
from s2s.images import Stated, open_image
from usim.errors import DataError

RNG = np.random.default_rng(2)
DB = RNG.uniform(-55, 0, (3, 24, 20)).astype(np.float32)
GREY = RNG.integers(0, 256, (3, 24, 20), dtype=np.uint8)
IQ = (RNG.normal(size=(3, 24, 20)) + 1j * RNG.normal(size=(3, 24, 20))).astype(np.complex64)
NOTHING = Stated()
ABOUT = {"method": "none", "checkpoint_sha256": "ab12"}


def zea_file(path, home="data", **maps):
    """A file as zea writes it: a group of values and coordinates for each map, flat arrays for the rest."""
    with h5py.File(path, "w") as file:
        file.attrs["zea_version"] = "0.1.8"
        file.attrs["probe_name"] = "L11-5v"
        for name, values in maps.items():
            data = file.require_group(home)
            if name in ("raw_data", "image_sc"):
                data[name] = values
                continue
            made = data.create_group(name)
            made["values"] = values
            made["values"].attrs["unit"] = "dB"
            made["coordinates"] = np.zeros((*values.shape, 3), np.float32)
        file["scan/sound_speed"] = np.float32(1540)
        file["alias"] = h5py.SoftLink("/scan/sound_speed")
    return path


def uff_file(path, pixels, *, scan="uff.linear_scan", name="b_data", waves=1):
    """A file as the USTB writes it from MATLAB: (frame, wave, channel, pixel), depth fastest, one array per part."""
    axes = {"uff.linear_scan": ("z_axis", "x_axis"), "uff.sector_scan": ("depth_axis", "azimuth_axis")}[scan]
    frames, depth, width = pixels.shape
    flat = np.repeat(pixels.transpose(0, 2, 1).reshape(frames, 1, 1, -1), waves, axis=1)
    flat = flat[0, 0] if frames == 1 else flat  # MATLAB drops the last sides when they are 1
    with h5py.File(path, "a") as file:
        file.attrs["version"] = np.bytes_("v1.2.0")
        group = file.create_group(name)
        group.attrs["class"], group.attrs["name"] = np.bytes_("uff.beamformed_data"), np.bytes_(name)
        group["scan/" + axes[0]] = np.linspace(0.005, 0.04, depth, dtype=np.float32)[None]
        group["scan/" + axes[1]] = np.linspace(-0.01, 0.01, width, dtype=np.float32)[None]
        group["scan"].attrs["class"] = np.bytes_(scan)
        if np.iscomplexobj(flat):
            group["data/real"], group["data/imag"] = flat.real, flat.imag
            group["data"].attrs["complex"] = 1
        else:
            group["data"] = flat
        group["data"].attrs["class"] = np.bytes_("single")
        group["probe/pitch"] = np.float32(3e-4)
    return path


def content(path):
    """All values and attributes of a file, links as themselves."""
    found = {}

    def note(name, item):
        found[name] = item[()].tobytes() if isinstance(item, h5py.Dataset) else None
        found.update({f"{name}@{key}": str(value) for key, value in item.attrs.items()})

    with h5py.File(path) as file:
        file.visititems(note)
        found.update({f"@{key}": str(value) for key, value in file.attrs.items()})
        found.update({key: file.get(key, getlink=True).path for key in file if key == "alias"})
    return found


FILES = {
    "dB": (lambda p: zea_file(p, image=DB, raw_data=IQ.real), DB, ("db", 60, 1), "data/image/values"),
    "8 bits": (lambda p: zea_file(p, image=GREY), GREY, ("log", 60, 255), "data/image/values"),
    "image before envelope": (
        lambda p: zea_file(p, envelope_data=np.abs(IQ), image=DB), DB, ("db", 60, 1), "data/image/values",
    ),
    "envelope": (
        lambda p: zea_file(p, envelope_data=np.abs(IQ)), np.abs(IQ), ("envelope", 60, np.abs(IQ).max()),
        "data/envelope_data/values",
    ),
    "old": (lambda p: zea_file(p, image_sc=GREY), GREY, ("log", 60, 255), "data/image_sc"),
    "track": (
        lambda p: zea_file(p, "tracks/track_0/data", image=DB), DB, ("db", 60, 1), "tracks/track_0/data/image/values",
    ),
    "one slice": (lambda p: zea_file(p, image=DB[..., None]), DB, ("db", 60, 1), "data/image/values"),
    "USTB, complex": (
        lambda p: uff_file(p, IQ), np.abs(IQ), ("envelope", 60, np.abs(IQ).max()),
        ("b_data/data/real", "b_data/data/imag"),
    ),
    "USTB, one frame": (
        lambda p: uff_file(p, IQ[:1], scan="uff.sector_scan"), np.abs(IQ[:1]), ("envelope", 60, np.abs(IQ[:1]).max()),
        ("b_data/data/real", "b_data/data/imag"),
    ),
    "USTB, real": (lambda p: uff_file(p, DB), DB, ("db", 60, 1), "b_data/data"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_the_image_is_replaced_and_nothing_else(tmp_path, name):
    make, images, domain, places = FILES[name]
    source = make(tmp_path / ("a.uff" if name.startswith("USTB") else "a.h5"))
    before = source.read_bytes()
    image = open_image(source, NOTHING)
    assert (image.domain.kind, image.domain.dynamic_range) == domain[:2]
    np.testing.assert_allclose(image.domain.white, domain[2], rtol=1e-6)
    assert image.suffix == source.suffix
    assert len(image.frames) == len(images)
    for found, expected in zip(image.frames, images, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    target = tmp_path / f"b{source.suffix}"
    halved = [np.asarray(frame, float) / 2 for frame in image.frames]
    image.write(target, iter(halved), ABOUT)
    assert source.read_bytes() == before
    again = open_image(target, NOTHING)
    for found, expected in zip(again.frames, halved, strict=True):
        np.testing.assert_allclose(found, np.rint(expected) if images is GREY else expected, rtol=1e-5, atol=1e-6)
    old, new = content(source), content(target)
    provenance = json.loads(new.pop("@s2s_denoised"))
    assert provenance["method"] == "none"
    assert provenance["checkpoint_sha256"] == "ab12"
    places = (places,) if isinstance(places, str) else places
    assert {key for key in old | new if old.get(key) != new.get(key)} == set(places)


def test_complex_pixels_keep_their_phase(tmp_path):
    source = uff_file(tmp_path / "a.uff", IQ)
    image = open_image(source, NOTHING)
    image.write(tmp_path / "b.uff", (np.full(IQ.shape[1:], 2.0) for _ in IQ), ABOUT)
    with h5py.File(tmp_path / "b.uff") as file:
        flat = file["b_data/data/real"][()] + 1j * file["b_data/data/imag"][()]
    pixels = flat.reshape(3, 20, 24).transpose(0, 2, 1)
    np.testing.assert_allclose(pixels, 2 * IQ / np.abs(IQ), rtol=1e-5, atol=1e-6)


def test_minus_infinity_is_the_darkest_and_zea_gets_nothing_above_0_db(tmp_path):
    values = DB.copy()
    values[0, 3, 4] = -np.inf
    image = open_image(zea_file(tmp_path / "a.h5", image=values), NOTHING)
    assert image.domain == Domain("db", 60.0)
    assert image.frames[0][3, 4] == -150.0
    image.write(tmp_path / "b.h5", (np.full(DB.shape[1:], 0.2) for _ in DB), ABOUT)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["data/image/values"].dtype == np.float32
        assert file["data/image/values"][()].max() == 0.0


def test_zea_itself_accepts_the_copy(tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "numpy")
    zea = pytest.importorskip("zea", reason="zea (development extra) is not installed")
    image = open_image(zea_file(tmp_path / "a.h5", image=DB), NOTHING)
    image.write(tmp_path / "b.h5", (frame - 1.0 for frame in image.frames), ABOUT)
    with zea.File(tmp_path / "b.h5") as file:
        assert file.validate() == {"status": "success"}
        np.testing.assert_allclose(file.data.image.values[1], DB[1] - 1.0, rtol=1e-6)


def other(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def two(path):
    return uff_file(uff_file(path, IQ), IQ, name="second")


def cut(path):
    zea_file(path, image=DB)
    with h5py.File(path, "a") as file:
        file.move("data/image/values", "data/image/other")
        file.create_dataset("data/image/values", DB.shape, "f4", chunks=(1, 24, 20), fletcher32=True)[:] = DB
    data = bytearray(path.read_bytes())
    place = data.rfind(DB[1].tobytes())
    data[place + 5] ^= 64
    path.write_bytes(bytes(data))
    return path


BAD = {
    "unknown": (lambda p: other(p, pictures=DB, labels=GREY), "HDF5 with labels, pictures in it; allowed are"),
    "empty": (other, "HDF5 with nothing in it"),
    "PICMUS": (lambda p: other(p, US__US_DATASET0000__data__real=DB), "HDF5 with US in it"),
    "channel data of zea": (lambda p: zea_file(p, raw_data=DB), "with raw_data in data; allowed are image, image_sc"),
    "volume": (lambda p: zea_file(p, image=np.stack([DB] * 2, -1)), r"allowed is \(frame, z, x\)"),
    "NaN": (lambda p: zea_file(p, image=np.where(DB < -50, np.nan, DB)), "NaN or infinite"),
    "both signs": (lambda p: zea_file(p, image=DB + 30), "both signs"),
    "no frames": (lambda p: zea_file(p, image=DB[:0]), "no frames"),
    "tiny": (lambda p: zea_file(p, image=DB[:, :8]), "8 x 20 pixels"),
    "two images": (two, "beamformed data b_data, second; allowed is one"),
    "waves": (lambda p: uff_file(p, IQ, waves=2), "one channel and one wave"),
    "a bit that changed": (cut, "frame 1 can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_named(tmp_path, name):
    make, words = BAD[name]
    path = make(tmp_path / "a.h5")
    with pytest.raises(DataError, match=words) as caught:
        open_image(path, NOTHING)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scan_of_another_size_or_kind_is_refused(tmp_path):
    for number, (scan, axis, words) in enumerate(
        (
            (b"uff.linear_scan", np.zeros((1, 7)), "24 x 7 pixels"),
            (b"uff.linear_3D_scan", None, "allowed are uff.linear"),
        )
    ):
        path = uff_file(tmp_path / f"{number}.uff", IQ)
        with h5py.File(path, "a") as file:
            file["b_data/scan"].attrs["class"] = scan
            if axis is not None:
                del file["b_data/scan/x_axis"]
                file["b_data/scan/x_axis"] = axis
        with pytest.raises(DataError, match=words):
            open_image(path, NOTHING)
