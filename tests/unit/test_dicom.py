"""DICOM in and out: pixels outside of the ultrasound and all that the header says of patient and scale are kept."""

import contextlib
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom (extra dicom) is not installed")

import made_dicoms as made  # noqa: E402
from pydicom.uid import (  # noqa: E402
    MPEG4HP41,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from s2s.denoise import load  # noqa: E402
from s2s.domain import Domain  # noqa: E402
from s2s.files import denoise_files  # noqa: E402
from s2s.images import Stated, open_image  # noqa: E402
from usim.errors import ConfigError, DataError  # noqa: E402

GREY = made.screen()
DEEP = made.screen(white=4095)
CLIP = np.stack([made.screen(seed) for seed in range(3)])
COLOUR = np.stack([GREY] * 3, axis=-1)
COLOUR[4:12, 190:210] = (20, 200, 90)
NOTHING = Stated()
#: What a derived image has of its own, pixels apart.
OWN = {
    "SOPInstanceUID", "SeriesInstanceUID", "ImageType", "SeriesDescription", "DerivationDescription",
    "SourceImageSequence", "PixelData",
}  # fmt: skip


def smoothed(frame):
    """Some denoiser: the mean of 3 x 3 pixels."""
    padded = np.pad(frame.astype(float), 1, mode="edge")
    height, width = frame.shape
    return sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3)) / 9


def process(source, target, stated=NOTHING, about=None):
    image = open_image(source, stated)
    clean = (image.whole(frame, smoothed(image.inside(frame))) for frame in image.frames)
    image.write(target, clean, about or {"method": "mean", "settings": "{}", "checkpoint_sha256": "ab12"})
    return image


def box():
    mask = np.zeros(made.SHAPE, bool)
    left, top, right, bottom = made.BOX
    mask[top : bottom + 1, left : right + 1] = True
    return mask


STORED = {
    "8 bits": ({"stored": GREY}, GREY, ("log", 60, 255)),
    "clip": ({"stored": CLIP}, CLIP, ("log", 60, 255)),
    "12 of 16 bits": ({"stored": DEEP, "bits": 12}, DEEP, ("log", 60, 4095)),
    "16 bits": ({"stored": DEEP * 16}, DEEP * 16, ("log", 60, 65535)),
    "MONOCHROME1": ({"stored": 255 - GREY, "photometric": "MONOCHROME1"}, GREY, ("log", 60, 255)),
    "colour": ({"stored": COLOUR, "photometric": "RGB"}, GREY, ("log", 60, 255)),
    "signed with a window": (
        {"stored": DEEP.astype(np.int16) - 1000, "WindowCenter": 1047.5, "WindowWidth": 4095,
         "VOILUTFunction": "LINEAR_EXACT"},
        DEEP, ("log", 60, 4095),
    ),
    "rescaled": (
        {"stored": DEEP, "bits": 12, "RescaleSlope": "0.5", "RescaleIntercept": "-7"}, DEEP, ("log", 60, 4095),
    ),
    "window of the standard": (
        {"stored": GREY, "WindowCenter": [128, 40], "WindowWidth": [256, 80]}, GREY, ("log", 60, 255),
    ),
}  # fmt: skip


def outside(pixels, mask):
    """The pixels outside of a mask (H, W), whatever the number of frames and samples."""
    return np.reshape(pixels, (-1, *made.SHAPE, 3 if pixels.shape[-1] == 3 else 1))[:, ~mask]


@pytest.mark.parametrize("name", STORED)
def test_numbers_come_in_as_grey_levels_and_only_the_ultrasound_changes(tmp_path, name):
    options, levels, domain = STORED[name]
    source = made.dicom(tmp_path / "a.dcm", **options)
    image = process(source, tmp_path / "b.dcm")
    assert image.domain == Domain(*domain)
    assert image.mask.any()
    assert not image.mask[~box()].any()
    frames = levels if levels.ndim == 3 else levels[None]
    assert len(image.frames) == len(frames)
    for found, expected in zip(image.frames, frames, strict=True):
        np.testing.assert_allclose(found[image.mask], expected[image.mask], atol=1e-6)
    (before, old), (after, new) = made.read(source), made.read(tmp_path / "b.dcm")
    assert (old.dtype, old.shape) == (new.dtype, new.shape)
    np.testing.assert_array_equal(outside(old, image.mask), outside(new, image.mask))
    assert (old != new).any()
    assert after.PhotometricInterpretation == before.PhotometricInterpretation


@pytest.mark.parametrize("name", STORED)
def test_what_is_written_unchanged_is_unchanged(tmp_path, name):
    source = made.dicom(tmp_path / "a.dcm", **STORED[name][0])
    image = open_image(source, NOTHING)
    image.write(tmp_path / "b.dcm", (np.asarray(frame, float) for frame in image.frames), {"method": "none"})
    np.testing.assert_array_equal(made.read(source)[1], made.read(tmp_path / "b.dcm")[1])


def test_a_smoothed_pixel_is_the_mean_of_its_neighbours(tmp_path):
    source = made.dicom(tmp_path / "a.dcm", 255 - GREY, photometric="MONOCHROME1", regions=None)
    image = open_image(source, Stated("log", 50.0))
    assert image.domain == Domain("log", 50.0, 255.0)
    assert image.note == ""
    clean = [smoothed(frame) for frame in image.frames]
    image.write(tmp_path / "b.dcm", iter(clean), {"method": "mean"})
    new = made.read(tmp_path / "b.dcm")[1]
    where = np.ones(made.SHAPE, bool) if image.mask is None else image.mask
    np.testing.assert_array_equal(new[where], np.rint(255 - smoothed(GREY))[where])


def test_the_header_keeps_patient_study_and_scale_and_says_what_was_done(tmp_path):
    source = made.dicom(tmp_path / "a.dcm", CLIP, PixelPaddingValue=0, InstanceCreationDate="20200101")
    about = {"method": "unet", "settings": "{}", "checkpoint_sha256": "ab12" * 16, "input": "DOE.dcm"}
    process(source, tmp_path / "b.dcm", about=about)
    before, after = pydicom.dcmread(source), pydicom.dcmread(tmp_path / "b.dcm")
    changed = {element.keyword for element in after if before.get(element.tag) != element}
    assert changed == OWN
    assert {element.keyword for element in before if element.tag not in after} == {
        "PixelPaddingValue", "InstanceCreationDate"
    }  # fmt: skip
    assert after.SequenceOfUltrasoundRegions[0].PhysicalDeltaX == 0.0123
    assert after.ImageType == ["DERIVED", "SECONDARY", "ABDOMINAL"]
    assert after.SeriesDescription == "Liver; denoised (unet)"
    process(source, tmp_path / "r.dcm", about=about | {"content": "residual: input minus output in dB"})
    residual = pydicom.dcmread(tmp_path / "r.dcm")
    assert residual.SeriesDescription == "Liver; residual (unet)"
    assert residual.SeriesInstanceUID != after.SeriesInstanceUID
    for word in ("unet", "ab12" * 16, "60 dB between black and white"):
        assert word in after.DerivationDescription
    assert "DOE" not in after.DerivationDescription
    (link,) = after.SourceImageSequence
    assert (link.ReferencedSOPClassUID, link.ReferencedSOPInstanceUID) == (made.CLASS, made.INSTANCE)
    assert after.file_meta.TransferSyntaxUID.name == "Explicit VR Little Endian"
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    for uid in (after.SOPInstanceUID, after.SeriesInstanceUID):
        assert uid.is_valid
        assert uid.startswith("2.25.")


def test_equal_runs_give_equal_bytes_and_other_settings_other_instances(tmp_path):
    source = made.dicom(tmp_path / "a.dcm", CLIP[:2])
    made_by = [
        {"method": "mean", "settings": "{}"},
        {"method": "mean", "settings": "{}", "input": "other name"},
        {"method": "mean", "settings": '{"window": 5}'},
    ]
    for number, about in enumerate(made_by):
        process(source, tmp_path / f"{number}.dcm", about=about)
    process(source, tmp_path / "3.dcm", Stated(dynamic_range=50.0), about=made_by[0])
    first, again, *others = ((tmp_path / f"{number}.dcm").read_bytes() for number in range(4))
    assert first == again
    assert first not in others
    uids = {pydicom.dcmread(tmp_path / f"{number}.dcm").SOPInstanceUID for number in range(4)}
    assert len(uids) == 3


def test_colours_of_several_kinds_become_rgb(tmp_path):
    indices = (COLOUR[..., 1] != COLOUR[..., 0]).astype(np.uint8)
    palette = np.zeros((3, 256), np.uint8)
    palette[:] = np.arange(256)
    stored = GREY.copy()
    stored[indices > 0] = 1
    palette[:, 1] = (20, 200, 90)
    stored[(indices == 0) & (GREY == 1)] = 2
    tables = {
        f"{name}PaletteColorLookupTable{what}": value
        for name, row in zip(("Red", "Green", "Blue"), palette, strict=True)
        for what, value in (("Descriptor", [256, 0, 8]), ("Data", row.tobytes()))
    }
    source = made.dicom(tmp_path / "palette.dcm", stored, photometric="PALETTE COLOR", **tables)
    luma = pydicom.pixels.processing.convert_color_space(COLOUR, "RGB", "YBR_FULL")
    coded = made.dicom(tmp_path / "ybr.dcm", luma, photometric="YBR_FULL")
    for path in (source, coded):
        image = process(path, tmp_path / "out.dcm", about={"method": path.stem})
        data, pixels = made.read(tmp_path / "out.dcm")
        assert (data.PhotometricInterpretation, data.SamplesPerPixel, data.BitsStored) == ("RGB", 3, 8)
        assert "RedPaletteColorLookupTableData" not in data
        np.testing.assert_allclose(outside(pixels, image.mask), outside(COLOUR, image.mask), atol=2)
        assert np.ptp(pixels[image.mask].astype(int), axis=-1).max() <= 2
        (tmp_path / "out.dcm").unlink()


@pytest.mark.parametrize("syntax", [RLELossless, ImplicitVRLittleEndian])
def test_other_transfer_syntaxes_come_out_explicit_and_the_same(tmp_path, syntax):
    plain = made.dicom(tmp_path / "plain.dcm", CLIP[:2])
    data = made.header(CLIP[:2])
    if syntax == RLELossless:
        data.compress(syntax, generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    process(plain, tmp_path / "plain.out.dcm")
    process(tmp_path / "other.dcm", tmp_path / "other.out.dcm")
    assert (tmp_path / "plain.out.dcm").read_bytes() == (tmp_path / "other.out.dcm").read_bytes()


def test_a_file_without_preamble_and_meta_is_read(tmp_path):
    data = made.header(CLIP[:2])
    del data.file_meta
    data.save_as(tmp_path / "old.dcm", implicit_vr=True, little_endian=True)
    process(made.dicom(tmp_path / "new.dcm", CLIP[:2]), tmp_path / "new.out.dcm")
    process(tmp_path / "old.dcm", tmp_path / "old.out.dcm")
    assert (tmp_path / "new.out.dcm").read_bytes() == (tmp_path / "old.out.dcm").read_bytes()


def test_flow_is_left_untouched_and_regions_outside_of_the_picture_are_not_used(tmp_path):
    left, top, right, bottom = made.BOX
    flow = (90, 60, 120, 100)
    image = open_image(made.dicom(tmp_path / "flow.dcm", GREY, regions=[made.region(), made.region(flow, 2)]), NOTHING)
    assert image.mask[top : bottom + 1, left : right + 1].any()
    assert not image.mask[60:101, 90:121].any()
    far = made.dicom(tmp_path / "far.dcm", GREY, regions=[made.region((2 * left, top, 2 * right, bottom))])
    image = open_image(far, NOTHING)
    assert "lie outside of its pixels and are not used" in image.note
    assert open_image(made.dicom(tmp_path / "none.dcm", GREY, regions=None), NOTHING).note.count("\n") == 0
    with pytest.raises(DataError, match="shows no tissue"):
        open_image(made.dicom(tmp_path / "m.dcm", GREY, regions=[made.region(form=2), made.region(kind=3)]), NOTHING)
    with pytest.raises(DataError, match="shows no tissue"):
        open_image(made.dicom(tmp_path / "both.dcm", GREY, regions=[made.region(), made.region(kind=2)]), NOTHING)


def test_frames_are_decoded_when_they_are_asked_for(tmp_path):
    image = open_image(made.dicom(tmp_path / "a.dcm", CLIP), NOTHING)
    for index in (2, 0, 1, 1):
        np.testing.assert_array_equal(image.frames[index], CLIP[index])
    with pytest.raises(IndexError):
        image.frames[3]
    assert image.frames.nbytes == (tmp_path / "a.dcm").stat().st_size


def test_decibels_and_envelopes_are_taken_as_stated(tmp_path):
    decibel = made.dicom(
        tmp_path / "db.dcm", DEEP.astype(np.int16) - 4095, RescaleSlope="0.02", RescaleIntercept="0", regions=None
    )
    image = process(decibel, tmp_path / "db.out.dcm", Stated("db", 60.0))
    assert image.domain == Domain("db", 60.0)
    np.testing.assert_allclose(image.frames[0], 0.02 * (DEEP.astype(float) - 4095))
    envelope = made.dicom(tmp_path / "env.dcm", DEEP, regions=None)
    assert open_image(envelope, Stated("envelope")).domain == Domain("envelope", 60.0, float(DEEP.max()))
    assert open_image(envelope, Stated(white=4095.0)).domain == Domain("log", 60.0, 4095.0)
    with pytest.raises(DataError, match="go beyond"):
        open_image(envelope, Stated(white=1000.0))


def test_the_real_clip_keeps_its_text_and_its_spacing(tmp_path):
    from pydicom import examples

    original = examples.ybr_color
    pixels = original.pixel_array
    source = tmp_path / "clip.dcm"
    source.write_bytes(Path(examples.get_path("ybr_color")).read_bytes())
    ((target, _),) = denoise_files([source], load("median:window=3"), stated=NOTHING)
    assert target == tmp_path / "clip.denoised.dcm"
    mask = open_image(source, NOTHING).mask
    data, clean = made.read(target)
    assert clean.shape == pixels.shape == (30, 240, 320, 3)
    np.testing.assert_array_equal(clean[:, ~mask], pixels[:, ~mask])
    assert not mask[:14].any(), "patient's name and mark above the fan"
    assert not mask[220:].any(), "buttons below it"
    assert not mask[:140, :40].any(), "text to the left"
    assert not mask[:140, 300:].any(), "and to the right"
    assert mask[45:195, 130:190].mean() > 0.9
    assert (clean[:, mask] != pixels[:, mask]).mean() > 0.3
    tints = [np.diff(frames[:, mask].astype(int), axis=-1) for frames in (pixels, clean)]
    assert (np.abs(tints[1]) <= np.abs(tints[0])).all(), "channels move together, until one is black"
    for keyword in ("SequenceOfUltrasoundRegions", "FrameTime", "LossyImageCompression", "LossyImageCompressionRatio",
                    "PatientName", "StudyInstanceUID"):  # fmt: skip
        assert data[keyword] == original[keyword]
    assert (data.PhotometricInterpretation, data.NumberOfFrames) == ("RGB", 30)


def test_every_file_of_pydicom_opens_or_is_refused_in_one_line(tmp_path):
    """67 files with faults and formats of all kinds; none of them may raise anything but our errors, or warn."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    opened = []
    for path in sorted(folder.glob("*.dcm")):
        if outcome(path) is not None:
            continue
        image = open_image(path, NOTHING)
        image.write(tmp_path / path.name, (np.asarray(frame, float) for frame in image.frames), {"method": "none"})
        assert pydicom.dcmread(tmp_path / path.name).pixel_array.size
        opened.append(path.stem)
    assert {"examples_rgb_color", "examples_palette"} <= set(opened)  # SC_rgb_jpeg_dcmtk is colours only


BAD = {
    "no pixels": (lambda d: delattr(d, "PixelData"), "no pixel data in it"),
    "report": (lambda d: [delattr(d, k) for k in ("PixelData", "Rows", "Columns")], "without an image"),
    "zero frames": (lambda d: setattr(d, "NumberOfFrames", 0), "Number of Frames is 0"),
    "more frames": (lambda d: setattr(d, "NumberOfFrames", 4), "bytes of pixels, .* expected for 4 frames"),
    "fewer frames": (lambda d: setattr(d, "NumberOfFrames", 2), "bytes of pixels, .* expected for 2 frames"),
    "unknown photometric": (lambda d: setattr(d, "PhotometricInterpretation", "HSV"), "'HSV'; allowed are"),
    "no photometric": (lambda d: delattr(d, "PhotometricInterpretation"), "photometric interpretation ''"),
    "CT": (lambda d: setattr(d, "Modality", "CT"), "modality is CT"),
    "1 bit": (lambda d: setattr(d, "BitsAllocated", 1), "1 allocated"),
    "NaN slope": (lambda d: setattr(d, "RescaleSlope", "nan"), "RescaleSlope is no finite number"),
    "NaN window": (
        lambda d: d.update({"WindowCenter": "nan", "WindowWidth": "9"}), "WindowCenter is no finite number",
    ),
    "curved window": (
        lambda d: d.update({"WindowCenter": "9", "WindowWidth": "9", "VOILUTFunction": "SIGMOID"}), "SIGMOID",
    ),
    "negative slope": (lambda d: setattr(d, "RescaleSlope", "-1"), "must be positive"),
    "no rows": (lambda d: setattr(d, "Rows", None), "Rows is missing"),
    "tiny": (lambda d: d.update({"Rows": 4, "Columns": 4}), "4 x 4 pixels"),
    "huge": (lambda d: d.update({"Rows": 10000, "Columns": 10000}), "10000 x 10000 pixels; allowed"),
    "no UID": (lambda d: delattr(d, "SOPInstanceUID"), "no SOPInstanceUID"),
    "high bit": (lambda d: setattr(d, "HighBit", 6), "HighBit"),
    "signed": (lambda d: setattr(d, "PixelRepresentation", 1), "signed numbers without a window"),
    "constant": (lambda d: setattr(d, "PixelData", bytes(CLIP.size)), "constant"),
}  # fmt: skip


@contextlib.contextmanager
def no_rules():
    """Let pydicom write what no DICOM may hold."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refusal(path, stated=NOTHING):
    """The one line with which a file is refused; it names the file, and nobody else."""
    message = outcome(path, stated)
    assert message is not None
    assert str(path) in message
    return message


def outcome(path, stated=NOTHING):
    """None for a file that opens, or the one line with which it is refused; nothing else is said."""
    message = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            open_image(path, stated)
        except DataError as error:
            message = str(error)
    assert "\n" not in message
    assert not [secret for secret in made.SECRETS if secret in message]
    return message or None


@pytest.mark.parametrize("name", BAD)
def test_a_header_that_cannot_be_is_refused(tmp_path, name):
    spoil, words = BAD[name]
    data = made.header(CLIP)
    with no_rules():
        spoil(data)
        data.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    assert re.search(words, refusal(tmp_path / "a.dcm"))


def test_files_that_are_cut_or_called_something_else_are_refused(tmp_path):
    path = made.dicom(tmp_path / "a.dcm", CLIP)
    whole = path.read_bytes()
    for length in (*range(0, 400, 13), *np.linspace(400, len(whole) - 1, 25).astype(int)):
        path.write_bytes(whole[:length])
        refusal(path)
    path.write_bytes(whole)
    path.rename(tmp_path / "a.png")
    assert "a DICOM by its content; rename it to a.dcm" in refusal(tmp_path / "a.png")
    path.write_bytes(b"no DICOM at all, only words" * 20)
    refusal(path)


def test_bytes_that_change_give_an_image_or_one_line(tmp_path):
    path, rng = tmp_path / "a.dcm", np.random.default_rng(5)
    data = made.header(CLIP[:1])
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(path, enforce_file_format=True)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(40):
        spoiled = whole.copy()
        spoiled[rng.integers(132, len(whole), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(spoiled.tobytes())
        outcome(path)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, MPEG4HP41])
def test_what_cannot_be_decoded_here_is_named(tmp_path, syntax):
    if syntax == JPEGLSLossless and pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip("a decoder of JPEG-LS is installed")
    data = made.header(CLIP)
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 and so on "] * 3)
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    message = refusal(tmp_path / "a.dcm")
    assert f"compressed as {syntax.name}" in message
    assert "python-gdcm" in message


def test_a_clip_of_compressed_frames_that_ends_early_is_refused(tmp_path):
    data = made.header(CLIP)
    data.compress(RLELossless, generate_instance_uid=False)
    frames = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=3))
    for count, stated in ((2, 3), (3, 2)):
        data.PixelData = pydicom.encaps.encapsulate(frames[:count])
        data.NumberOfFrames = stated
        data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        assert "frame" in refusal(tmp_path / "a.dcm")
    data.PixelData = pydicom.encaps.encapsulate([*frames[:2], frames[2][:80]])
    data.NumberOfFrames = 3
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert "frame 2 of 3 can't be decoded" in refusal(tmp_path / "a.dcm")


def test_a_big_endian_file_is_refused(tmp_path):
    data = made.header(GREY)
    data.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    data.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=False, enforce_file_format=True)
    assert "big-endian" in refusal(tmp_path / "a.dcm")


def test_values_that_break_the_rules_are_kept_and_not_shown(tmp_path, caplog):
    data = made.header(GREY)
    with no_rules():
        data.PatientBirthDate = "19610503 or so, Jane Doe"
        data.PatientID = "PAT-4711" * 20
        data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    caplog.clear()
    with warnings.catch_warnings(), caplog.at_level("DEBUG"):
        warnings.simplefilter("error")
        process(tmp_path / "a.dcm", tmp_path / "b.dcm")
    assert not caplog.records
    with no_rules():
        after = pydicom.dcmread(tmp_path / "b.dcm")
        assert after.PatientBirthDate == data.PatientBirthDate
        assert after.PatientID == data.PatientID


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    path = made.dicom(tmp_path / "a.dcm", GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match=r'pip install "usim-s2s\[dicom\]"'):
        open_image(path, NOTHING)
