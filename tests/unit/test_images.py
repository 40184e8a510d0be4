"""Image files: each comes back as it was, what numbers mean is assumed as documented, and nonsense is refused."""

import numpy as np
import PIL.Image
import pytest

from s2s.domain import Domain
from s2s.images import READERS, Stated, open_image
from s2s.images.image import quantise
from usim.errors import ConfigError, DataError
from usim.io.atomic import write_atomic
from usim.io.shard import ShardHeader, encode_shard

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (20, 31), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (20, 31), dtype=np.uint16)
DB = RNG.uniform(-70, 0, (20, 31))
NOTHING = Stated()


def save(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        array.save(path, "PNG") if isinstance(array, PIL.Image.Image) else PIL.Image.fromarray(array).save(path, "PNG")
    return path


def colour(*channels):
    return PIL.Image.fromarray(np.dstack(channels))


def shard(path, make_frame, frames=3, **options):
    made = [make_frame(i, **options) for i in range(frames)]
    write_atomic(path, encode_shard(made, ShardHeader(frames, 0, 7, "", "", {"usim": "0.1.0"})))
    return path, made


def test_every_format_can_be_seen_in_one_place():
    pictures = [".png", ".apng", ".jpg", ".jpeg", ".tif", ".tiff", ".gif"]
    others = [".mp4", ".m4v", ".mov", ".avi", ".npy", ".h5", ".hdf5", ".uff", ".dcm", ".dicom"]
    assert list(READERS) == [*pictures, *others]


OPAQUE = np.full_like(GREY, 255)
PALETTE = PIL.Image.fromarray(255 - GREY)
PALETTE.putpalette([level for grey in range(255, -1, -1) for level in (grey, grey, grey)])
PNGS = {
    "grey": (GREY, GREY),
    "16 bits": (DEEP, DEEP),
    "RGB": (colour(GREY, GREY, GREY), GREY),
    "RGBA": (colour(GREY, GREY, GREY, OPAQUE), GREY),
    "grey and alpha": (colour(GREY, OPAQUE), GREY),
    "palette": (PALETTE, GREY),
}


@pytest.mark.parametrize("name", PNGS)
def test_png_goes_in_and_out(tmp_path, name):
    written, levels = PNGS[name]
    image = open_image(save(tmp_path / "a.PNG", written), NOTHING)
    assert len(image.frames) == 1
    np.testing.assert_array_equal(image.frames[0], levels)
    assert image.domain == Domain("log", 60.0, np.iinfo(levels.dtype).max)
    assert "log-compressed, 60 dB" in image.note
    image.write(tmp_path / "b.png", [image.frames[0].astype(float) + 0.4], {})
    with PIL.Image.open(tmp_path / "b.png") as file:
        np.testing.assert_array_equal(np.asarray(file).reshape(*levels.shape, -1)[..., 0], levels)
        assert file.mode == {"RGB": "RGB", "RGBA": "RGBA", "grey and alpha": "LA", "16 bits": "I;16"}.get(name, "L")


ARRAYS = {
    "uint8": GREY,
    "uint16": DEEP,
    "big-endian uint16": DEEP.astype(">u2"),
    "frames": np.stack([GREY, GREY[::-1], GREY]),
    "Fortran": np.asfortranarray(DB),
    "Fortran frames": np.asfortranarray(np.stack([DB, 2 * DB])),
    "float16": DB.astype(np.float16),
    "float32": DB.astype(np.float32),
    "int16 dB": np.rint(DB).astype(np.int16),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_npy_goes_in_and_out(tmp_path, name):
    array = ARRAYS[name]
    image = open_image(save(tmp_path / "a.npy", array), NOTHING)
    assert len(image.frames) == (array.shape[0] if array.ndim == 3 else 1)
    image.write(tmp_path / "b.npy", (frame.astype(float) for frame in image.frames), {})
    again = np.load(tmp_path / "b.npy", allow_pickle=False)
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize(
    ("array", "stated", "domain", "note"),
    [
        (GREY, {}, ("log", 60, 255), "log-compressed, 60 dB between black and white, white = 255"),
        (GREY, {"domain": "log"}, ("log", 60, 255), "60 dB"),
        (GREY, {"domain": "log", "dynamic_range": 50.0}, ("log", 50, 255), None),
        (DEEP, {"dynamic_range": 50.0}, ("log", 50, 65535), "50 dB"),
        (DEEP // 16, {"white": 4095.0}, ("log", 60, 4095), "white = 4095"),
        (GREY.astype(np.int64), {"white": 255.0}, ("log", 60, 255), "60 dB"),
        (GREY, {"domain": "envelope"}, ("envelope", 60, GREY.max()), "a linear envelope"),
        (GREY / 7, {}, ("envelope", 60, GREY.max() / 7), "a linear envelope"),
        (GREY / 255, {"domain": "log"}, ("log", 60, 1), "white = 1"),
        (GREY / 1.01, {"domain": "log"}, ("log", 60, 255), "white = 255"),
        (GREY / 255, {"domain": "log", "dynamic_range": 60.0, "white": 1.0}, ("log", 60, 1), None),
        (DB, {}, ("db", 60, 1), "decibels, black at -60 dB"),
        (DB, {"domain": "db", "dynamic_range": 70.0}, ("db", 70, 1), None),
        (GREY / 7, {"domain": "envelope", "dynamic_range": 60.0, "white": 30.0}, ("envelope", 60, 30), None),
    ],
)  # fmt: skip
def test_what_numbers_mean(tmp_path, array, stated, domain, note):
    image = open_image(save(tmp_path / "a.npy", array), Stated(**stated))
    assert image.domain == Domain(*domain)
    assert (image.note == "") == (note is None)
    assert (note or "") in image.note


def with_value(array, value):
    array = array.copy()
    array[3, 4] = value
    return array


REFUSED = {
    "NaN": (with_value(DB, np.nan), {}, "1 of 620 values are NaN or infinite, the first at row 3, column 4"),
    "log of zero": (with_value(DB, -np.inf), {}, "a dB of -inf by -150"),
    "constant": (np.full((20, 20), 7, np.uint8), {}, "constant, every value is 7"),
    "tiny": (GREY[:15], {}, "15 x 31 pixels; an image needs at least 16 x 16"),
    "empty": (GREY[:0], {}, "with something in it"),
    "no frames": (GREY[None][:0], {}, "with something in it"),
    "1-D": (GREY[0], {}, "allowed are (z, x) and (frame, z, x)"),
    "4-D": (GREY[None, None], {}, "allowed are (z, x) and (frame, z, x)"),
    "colour": (np.stack([GREY] * 3, axis=-1), {}, "31 x 3 pixels"),
    "one bad frame": (np.stack([GREY, 0 * GREY]), {}, "frame 1: constant"),
    "complex": (DB + 1j, {}, "give its envelope, numpy.abs(iq)"),
    "bool": (GREY > 99, {}, "values of type bool"),
    "text": (np.array([["a"] * 20] * 20), {}, "allowed are floats and whole numbers"),
    "RF": (DB + 35, {}, "of both signs"),
    "dB above 0": (DB + 3, {"domain": "db"}, "no decibels below full scale"),
    "grey as dB": (GREY, {"domain": "db"}, "no decibels below full scale"),
    "dB all black": (DB - 90, {}, "all black at 60 dB"),
    "dB as log": (DB, {"domain": "log"}, "are not negative; give --domain db"),
    "dB as envelope": (DB, {"domain": "envelope"}, "are not negative"),
    "log above white": (GREY / 100, {"domain": "log", "white": 1.0}, "go beyond white, 1"),
    "log without white": (DEEP / 7, {"domain": "log"}, "--white 255"),
    "int64": (GREY.astype(np.int64), {}, "--white 255"),
    "12 bits": (DEEP // 16, {}, "4095 for 12 bits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_are_no_images_are_refused(tmp_path, name):
    array, stated, text = REFUSED[name]
    path = save(tmp_path / "a.npy", array)
    with pytest.raises(DataError) as caught:
        open_image(path, Stated(**stated))
    assert text in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        ({"dynamic_range": 5.0}, "allowed are 10 to 150 dB"),
        ({"dynamic_range": float("nan")}, "allowed are 10 to 150 dB"),
        ({"white": 0.0}, "positive and finite"),
        ({"white": float("inf")}, "positive and finite"),
        ({"domain": "db", "white": 9.0}, "leave it out"),
    ],
)
def test_what_cannot_be_stated(tmp_path, stated, text):
    with pytest.raises(ConfigError, match=text):
        open_image(save(tmp_path / "a.npy", DB if stated.get("domain") else GREY), Stated(**stated))


BAD_PNGS = {
    "colour": (colour(GREY, GREY, GREY[::-1]), "is coloured"),
    "transparent": (colour(GREY, GREY, GREY, GREY // 2), "constant, every value is 0"),
    "1 bit": (PIL.Image.fromarray(GREY > 99), "1 bits per pixel"),
    "constant": (GREY * 0, "constant"),
}


@pytest.mark.parametrize("name", BAD_PNGS)
def test_pngs_that_are_refused(tmp_path, name):
    picture, text = BAD_PNGS[name]
    with pytest.raises(DataError, match=text):
        open_image(save(tmp_path / "a.png", picture), NOTHING)


def test_transparent_pixels_of_16_bits_are_refused(tmp_path):
    PIL.Image.fromarray(DEEP).save(tmp_path / "a.png", transparency=int(DEEP[0, 0]))
    with pytest.raises(DataError, match="transparent"):
        open_image(tmp_path / "a.png", NOTHING)


@pytest.mark.parametrize("kind", ["BMP", "WebP"])
@pytest.mark.parametrize("suffix", ["own", "png"])
def test_other_formats_are_named_with_the_cure(tmp_path, kind, suffix):
    path = tmp_path / f"a.{kind.lower() if suffix == 'own' else suffix}"
    PIL.Image.fromarray(GREY).save(path, kind)
    with pytest.raises(DataError, match=f"a {kind}; allowed are PNG") as caught:
        open_image(path, NOTHING)
    assert "convert it to PNG" in str(caught.value).rpartition(";")[2]


def test_files_that_are_not_what_they_are_called(tmp_path):
    PIL.Image.fromarray(GREY).save(tmp_path / "a.npy", "PNG")
    np.savez(tmp_path / "a.npz", GREY)
    np.save(tmp_path / "b.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "c.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "d.png").write_bytes(b"")
    (tmp_path / "e.txt").write_text("hello")
    for name, text in (
        ("a.npy", "a PNG by its content; rename it to a.png"),
        ("a.npz", "one array with numpy.save"),
        ("b.npy", "values of type object"),
        ("c.dcm", "no DICOM, or damaged"),
        ("d.png", "the file is empty"),
        ("e.txt", "a file of another kind"),
        ("f.png", "cannot read: No such file"),
    ):
        with pytest.raises(DataError, match=text):
            open_image(tmp_path / name, NOTHING)


def test_hdf5_is_shown_as_the_scanner_does_and_keeps_its_axes(tmp_path, make_frame):
    import h5py

    path, made = shard(tmp_path / "a.h5", make_frame)
    image = open_image(path, NOTHING)
    assert image.note == ""
    np.testing.assert_array_equal(image.frames[1], np.clip(made[1].bmode, -60, 0))
    assert open_image(path, Stated(dynamic_range=40.0)).frames[2].min() == -40
    image.write(tmp_path / "b.h5", (frame - 1.0 for frame in image.frames), {"method": "lee", "input": "a.h5"})
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["denoised"].dtype == np.float32
        assert file["denoised"].attrs["unit"] == "dB"
        for row, frame in enumerate(made):
            np.testing.assert_allclose(file["denoised"][row], np.clip(frame.bmode, -60, 0) - 1, rtol=1e-6)
        np.testing.assert_array_equal(file["axes/x"], made[0].axes.x)
        np.testing.assert_array_equal(file["axes/z"], made[0].axes.z)
        np.testing.assert_array_equal(file["index/scene"], [0, 1, 2])
        assert dict(file.attrs)["method"] == "lee"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_hdf5_axes_that_differ_are_kept_for_every_frame(tmp_path, make_frame):
    import h5py

    shard(tmp_path / "shard-0.h5", make_frame, 2)
    shard(tmp_path / "shard-1.h5", make_frame, 1, wider=1e-3)
    image = open_image(tmp_path, NOTHING)
    image.write(tmp_path / "out.h5", image.frames, {})
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["axes/x"].shape == (3, 16)
        assert file["axes/z"].shape == (24,)


def test_hdf5_of_others_and_what_it_knows_itself(tmp_path, make_frame):
    import h5py

    path, _ = shard(tmp_path / "a.h5", make_frame)
    for stated in (Stated(domain="log"), Stated(white=3.0)):
        with pytest.raises(ConfigError, match="says itself"):
            open_image(path, stated)
    with pytest.raises(ConfigError, match="allowed are 10 to 150"):
        open_image(path, Stated(dynamic_range=500.0))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["image"] = GREY
    with pytest.raises(DataError, match="HDF5 with image in it; allowed are data of usim"):
        open_image(tmp_path / "b.h5", NOTHING)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither manifest"):
        open_image(tmp_path / "empty", NOTHING)


def test_whole_numbers_are_rounded_and_clipped():
    values = np.array([-9.0, 0.4, 0.6, 254.5, 254.6, 300.0])
    np.testing.assert_array_equal(quantise(values, np.dtype(np.uint8)), [0, 0, 1, 254, 255, 255])
    for kind in (np.int64, np.uint64):
        high = quantise(np.array([1e30]), np.dtype(kind))[0]
        assert high > 0.999 * np.iinfo(kind).max
