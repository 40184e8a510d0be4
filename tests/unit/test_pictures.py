"""Real picture files: each goes in and comes out as it was, with what it said besides, and only its scan changed."""

import io
import json

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from made_scans import scan
from made_screens import DISPLAY, screen

from s2s.domain import Domain
from s2s.images import Stated, open_image
from s2s.images.gif import indexed
from s2s.images.picture import grey_of, repaint
from usim.errors import DataError

RNG = np.random.default_rng(5)
SPECKLE = np.rint(scan(DISPLAY, shape=(64, 80), seed=1)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (40, 31), dtype=np.uint16)
NOTHING = Stated()
ABOUT = {"method": "lee", "settings": "{}", "checkpoint_sha256": "ab" * 32, "input": "a"}


def rgb(grey):
    return PIL.Image.fromarray(np.dstack([grey] * 3))


def rewrite(path, change=lambda frame: frame, suffix=None):
    """Open a file and write its like with every frame changed; returns the image and where it is written."""
    image = open_image(path, NOTHING)
    target = path.with_name(f"out{suffix or path.suffix}")
    made = (image.whole(frame, change(image.inside(frame).astype(float))) for frame in image.frames)
    image.write(target, made, ABOUT)
    return image, target


def told(text):
    found = json.loads(text)
    assert found.pop("software").startswith("s2s ")
    assert found == ABOUT


@pytest.fixture(scope="module")
def shown():
    return screen("convex", 1)


KINDS = {
    "grey.png": (SPECKLE, "L"),
    "deep.png": (DEEP, "I;16"),
    "colour.png": (np.dstack([SPECKLE] * 3), "RGB"),
    "opaque.png": (np.dstack([SPECKLE] * 3 + [np.full_like(SPECKLE, 255)]), "RGBA"),
    "opaque-grey.png": (np.dstack([SPECKLE, np.full_like(SPECKLE, 255)]), "LA"),
    "grey.tif": (SPECKLE, "L"),
    "deep.tiff": (DEEP, "I;16"),
    "float.tif": (RNG.uniform(0.0, 2.0, (40, 31)).astype(np.float32), "F"),
    "colour.tif": (np.dstack([SPECKLE] * 3), "RGB"),
    "grey.gif": (SPECKLE, None),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_is_what_was_read(tmp_path, name):
    array, mode = KINDS[name]
    path = tmp_path / name
    PIL.Image.fromarray(array).save(path)
    image, target = rewrite(path)
    grey = array if array.ndim == 2 else array[..., 0]
    np.testing.assert_array_equal(image.frames[0], grey)
    assert image.mask is None
    with PIL.Image.open(target) as file:
        assert mode is None or file.mode == mode
        np.testing.assert_array_equal(np.asarray(file if mode else file.convert("L")), array)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".gif"])
def test_only_the_scan_changes_and_marks_stay_bit_for_bit(tmp_path, shown, suffix):
    path = tmp_path / f"screen{suffix}"
    # a GIF holds 256 colours: without smoothed letters in colour there are fewer
    picture = shown.picture if suffix != ".gif" else screen("convex", 1, colour=False).picture
    marks = shown.outside if suffix != ".gif" else screen("convex", 1, colour=False).outside
    PIL.Image.fromarray(picture).save(path)
    image, target = rewrite(path, lambda frame: 0.5 * frame)
    assert "taken for ultrasound" in image.note
    with PIL.Image.open(target) as file:
        after = np.asarray(file.convert("RGB"))
    np.testing.assert_array_equal(after[~image.mask], picture[~image.mask])
    assert not (image.mask & marks).any()
    half = np.rint(0.5 * grey_of(picture)[image.mask])
    np.testing.assert_allclose(grey_of(after)[image.mask], half, atol=1)
    assert np.mean(after[image.mask] != half[:, None]) < 1e-4  # the faintest edges of letters have a hue


def test_jpeg_keeps_its_quality_and_what_is_outside_to_a_few_levels(tmp_path, shown):
    path = tmp_path / "screen.jpg"
    options = {"comment": b"from the ward", "dpi": (118, 118), "progressive": True}
    PIL.Image.fromarray(shown.picture).save(path, quality=87, **options)
    image, target = rewrite(path)
    assert "JPEG loses" in image.note
    with PIL.Image.open(path) as before, PIL.Image.open(target) as after:
        assert after.quantization == before.quantization
        assert after.info["dpi"] == (118, 118)
        assert after.info["progressive"]
        assert after.layer == [(1, 1, 1, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # no subsampling
        comment, ours = after.info["comment"].split(b"\n", 1)
        change = np.abs(np.asarray(after).astype(int) - np.asarray(before))
    assert comment == b"from the ward"
    told(ours)
    assert np.quantile(change, 0.99) <= 6
    assert change.mean() < 0.6


def test_exif_rotation_is_kept_and_not_applied(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    for name in ("a.jpg", "a.png"):
        PIL.Image.fromarray(SPECKLE).save(tmp_path / name, exif=exif, quality=95)
        image, target = rewrite(tmp_path / name)
        assert image.frames[0].shape == SPECKLE.shape
        with PIL.Image.open(target) as file:
            assert dict(file.getexif()) == {0x0112: 6, 0x010F: "Maker"}
            assert file.size == SPECKLE.shape[::-1]


def test_png_keeps_resolution_texts_and_profile(tmp_path):
    texts = PIL.PngImagePlugin.PngInfo()
    texts.add_text("Patient", "none")
    texts.add_itxt("Ort", "Köln")
    profile = b"a profile of no meaning"
    rgb(SPECKLE).save(tmp_path / "a.png", pnginfo=texts, dpi=(300, 150), icc_profile=profile)
    _, target = rewrite(tmp_path / "a.png")
    with PIL.Image.open(target) as file:
        assert file.info["icc_profile"] == profile
        assert [round(x) for x in file.info["dpi"]] == [300, 150]
        assert (file.text["Patient"], file.text["Ort"]) == ("none", "Köln")
        told(file.text["s2s"])


def test_tiff_keeps_pages_tags_and_compression(tmp_path):
    pages = [PIL.Image.fromarray(DEEP // (k + 1)) for k in range(3)]
    info = {270: "ImageJ=1.54\nimages=3", 282: 118.5, 283: 90.0, 296: 3, 305: "scanner", 274: 6}
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo=info, compression="tiff_lzw")
    image, target = rewrite(path)
    assert len(image.frames) == 3
    with PIL.Image.open(target) as file:
        assert file.n_frames == 3
        for k in range(3):
            file.seek(k)
            np.testing.assert_array_equal(np.asarray(file), np.rot90(DEEP // (k + 1), -1))
            tags = file.tag_v2
            assert (tags[259], tags.get(274, 1), tags[282], tags[296]) == (5, 1, 118.5, 3)
            assert tags[270] == info[270]
            told(tags[305].split("; ", 1)[1])
    PIL.Image.fromarray(SPECKLE).save(path)
    with PIL.Image.open(rewrite(path)[1]) as file:
        told(file.tag_v2[270])


def test_colour_doppler_stays_as_it_is_and_is_told(tmp_path):
    made = screen("linear", 2, doppler=True)
    PIL.Image.fromarray(made.picture).save(tmp_path / "a.png")
    image, target = rewrite(tmp_path / "a.png", lambda frame: 0.5 * frame)
    assert "may be Doppler" in image.note
    assert not image.mask[230:270, 290:360].any()  # greys between the colours as well
    assert image.mask[area_without_marks(made)].mean() > 0.9
    with PIL.Image.open(target) as file:
        np.testing.assert_array_equal(np.asarray(file)[~image.mask], made.picture[~image.mask])


def test_a_coloured_bar_of_the_user_interface_is_no_doppler(tmp_path):
    made = screen("linear", 2)
    picture = made.picture.copy()
    picture[446:476, 100:520] = 30, 60, 160
    PIL.Image.fromarray(picture).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png", NOTHING)
    assert "taken for ultrasound" in image.note
    assert "Doppler" not in image.note
    assert not image.mask[440:].any()


def area_without_marks(made):
    free = made.area & ~made.inside
    free[200:300, 260:390] = False
    return free


def test_a_colour_map_is_refused(tmp_path):
    grey = screen("convex", 1, colour=False).picture.astype(float)
    tinted = np.rint(grey * [1.0, 0.8, 0.5]).astype(np.uint8)
    PIL.Image.fromarray(tinted).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: \d+ % of what it shows is coloured: a colour map"):
        open_image(tmp_path / "a.png", NOTHING)


def test_transparent_pixels_are_kept(tmp_path):
    alpha = np.full_like(SPECKLE, 255)
    alpha[:12] = 100
    pixels = np.dstack([SPECKLE] * 3 + [alpha])
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    image, target = rewrite(tmp_path / "a.png", lambda frame: 0.5 * frame)
    assert not image.mask[:12].any()
    with PIL.Image.open(target) as file:
        after = np.asarray(file)
    np.testing.assert_array_equal(after[:12], pixels[:12])
    np.testing.assert_array_equal(after[..., 3], alpha)
    np.testing.assert_array_equal(after[20:, :, 0], np.rint(0.5 * SPECKLE[20:]))


def test_palette_with_colours_becomes_rgb(tmp_path, shown):
    small = PIL.Image.fromarray(screen("linear", 1).picture).quantize(200)
    small.save(tmp_path / "a.png")
    image, target = rewrite(tmp_path / "a.png")
    with PIL.Image.open(target) as file:
        assert file.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(file), np.asarray(small.convert("RGB")))
    assert image.mask is not None


def test_repainting_moves_grey_and_leaves_colour():
    pixels = np.array([[[100, 100, 100], [101, 100, 98], [250, 10, 10], [3, 3, 3]]], np.uint8)
    grey = grey_of(pixels).astype(float)
    np.testing.assert_array_equal(repaint(pixels, grey, lossy=False), pixels)
    after = repaint(pixels, grey - [[20, 20, 20, 20]], lossy=False)
    np.testing.assert_array_equal(after, [[[80, 80, 80], [81, 80, 78], [250, 10, 10], [0, 0, 0]]])


def test_gif_palettes_keep_what_did_not_change_whatever_there_is_room_for():
    before = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    before[2:] = before[0, 0]
    after = before.copy()
    after[32:] = RNG.integers(0, 256, (32, 64, 1), dtype=np.uint8)
    indices, palette = indexed(after, before)
    made = np.frombuffer(palette, np.uint8).reshape(256, 3)[indices]
    np.testing.assert_array_equal(made[:32], after[:32])
    assert np.abs(made[32:].astype(int) - after[32:]).max() <= 2
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    indices, palette = indexed(grey, np.zeros_like(grey))
    np.testing.assert_array_equal(np.frombuffer(palette, np.uint8).reshape(256, 3)[indices], grey)


def test_a_lone_bright_pixel_does_not_decide_what_white_is(tmp_path):
    hot = (DEEP // 64).copy()
    hot[3, 4] = 65535
    for name in ("a.png", "a.tif"):
        PIL.Image.fromarray(hot).save(tmp_path / name)
    np.save(tmp_path / "a.npy", hot)
    np.save(tmp_path / "b.npy", (hot / 7.0).astype(np.float32) ** 2)
    for name in ("a.png", "a.tif", "a.npy", "b.npy"):
        with pytest.raises(DataError, match=r"1 pixels of up to .* --white"):
            open_image(tmp_path / name, NOTHING)
    stated = Stated(white=float(hot.max()))
    assert open_image(tmp_path / "a.npy", stated).domain == Domain("log", 60.0, 65535.0)


def picture_of(mode, suffix, **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(SPECKLE).convert(mode).save(buffer, suffix, **options)
    return buffer.getvalue()


REFUSED = {
    "one-bit.png": (lambda: picture_of("1", "PNG"), "1 bits per pixel"),
    "one-bit.tif": (lambda: picture_of("1", "TIFF"), "1 bit per pixel shows no speckle"),
    "print.jpg": (lambda: picture_of("CMYK", "JPEG"), "pixels of kind CMYK are not read; save it as grey or RGB"),
    "words.tif": (lambda: picture_of("I", "TIFF"), "pixels of kind I are not read"),
    "short.jpg": (lambda: picture_of("L", "JPEG")[:-300], "truncated"),
    "cut.jpg": (lambda: picture_of("L", "JPEG", progressive=True)[:-2], "truncated"),
    "short.tif": (lambda: picture_of("L", "TIFF")[:-300], "damaged|truncated"),
    "short.gif": (lambda: picture_of("L", "GIF")[:-300], "truncated"),
    "cut.gif": (lambda: picture_of("L", "GIF")[:-1], "truncated"),
    "really.gif": (lambda: picture_of("L", "PNG"), "a PNG by its content; rename it to really.png"),
    "really.jpg": (lambda: picture_of("L", "TIFF"), "a TIFF by its content; rename it to really.tif"),
    "picture.bmp": (lambda: picture_of("L", "BMP"), "a BMP; allowed are PNG, JPEG, TIFF, GIF"),
    "empty.tif": (lambda: b"", "the file is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pictures_that_are_refused(tmp_path, name):
    make, text = REFUSED[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(DataError, match=text) as caught:
        open_image(tmp_path / name, NOTHING)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_floats_that_are_no_numbers_and_constant_pictures_are_refused(tmp_path):
    holed = KINDS["float.tif"][0].copy()
    holed[3, 4] = np.nan
    PIL.Image.fromarray(holed).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="1 of 1240 values are NaN or infinite, the first at row 3, column 4"):
        open_image(tmp_path / "a.tif", NOTHING)
    for suffix in ("png", "jpg", "tif", "gif"):
        PIL.Image.new("L", (40, 40), 7).save(tmp_path / f"flat.{suffix}")
        with pytest.raises(DataError, match="constant"):
            open_image(tmp_path / f"flat.{suffix}", NOTHING)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif"])
def test_too_large_pictures_are_refused_before_they_are_decoded(tmp_path, suffix):
    PIL.Image.new("L", (10_000, 10_000)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match="10000 x 10000 pixels; a picture may have 89478485; cut it"):
        open_image(tmp_path / f"a.{suffix}", NOTHING)


def test_pages_of_several_sizes_are_refused(tmp_path):
    pages = [PIL.Image.fromarray(SPECKLE), PIL.Image.fromarray(SPECKLE[:40])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"frame 1: .* save the frames one by one"):
        open_image(tmp_path / "a.tif", NOTHING)


@pytest.mark.parametrize("suffix", ["jpg", "tif", "gif"])
def test_truncated_pictures_are_refused_wherever_they_end(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(SPECKLE).save(path)
    data = path.read_bytes()
    for end in np.unique(np.linspace(0, len(data) - 1, 60).astype(int)):
        path.write_bytes(data[:end])
        with pytest.raises(DataError) as caught:
            open_image(path, NOTHING)
        assert "\n" not in str(caught.value), end
