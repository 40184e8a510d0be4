"""Whatever a map file holds, and wherever it lies, it is used or refused where the phantom names it."""

import gzip
import io
import re
import struct
import sys
import zlib

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from usim.errors import ConfigError, DataError, UsimError
from usim.phantom import map_sampling, maps
from usim.phantom.draw import draw
from usim.phantom.load import load_phantom, phantom_from_text
from usim.phantom.truth import echogenicity_at

nibabel = pytest.importorskip("nibabel")

HEAD = "probe: L7-4\nimage: {x: [-1 cm, 1 cm], z: [5 mm, 4 cm], pixels: [8, 8]}\nbackground: {echogenicity: 0}\n"
EDGES = "x: [-5 mm, 5 mm], z: [8 mm, 20 mm]"
LABELS = (np.arange(300).reshape(15, 20) // 40).astype(np.uint8)


def png(values=LABELS, **how):
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, "PNG", **how)
    return buffer.getvalue()


def tiff(values, **how):
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, "TIFF", **how)
    return buffer.getvalue()


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def nifti(values):
    return nibabel.Nifti1Image(values, np.eye(4)).to_bytes()


def thin_png(bits):
    """A grey PNG of few bits, all black."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + b"\0" * bits) * 8))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


def huge_png(width, height):
    whole = thin_png(8)
    header = struct.pack(">II", width, height) + whole[24:29]
    return whole[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + whole[33:]


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


def loaded(folder, name, shape="labels"):
    how = "values: {0: none}, others: none" if shape == "labels" else "levels: [-20, 0], grey: [0, 7]"
    text = HEAD + f"regions:\n  - {{shape: {shape}, file: {name}, {EDGES}, {how}}}\n"
    return phantom_from_text(text, "p.yaml", base=folder)


NAN = np.full((4, 5), np.nan, np.float32)
BAD = [
    ("m.png", None, "no such map"),
    ("m.png", b"", "damaged"),
    ("m.jpg", png(), "of no kind that maps come in; allowed are .png"),
    ("m.png", b"\x89PNG\r\n\x1a\n" + b"x" * 90, "damaged"),
    ("m.png", png()[:-20], "damaged"),
    ("m.png", flipped(png(), 60), "damaged"),
    ("m.png", png(np.zeros((4, 5, 3), np.uint8)), r"a colour image \(RGB\); a map is grey"),
    ("m.png", png(np.zeros((4, 5, 4), np.uint8)), r"a colour image \(RGBA\)"),
    ("m.png", thin_png(4), "4 bits per pixel; save it with 8 or 16"),
    ("m.png", huge_png(9000, 9000), "9000 x 9000 pixels; a map may have 67108864"),
    ("m.png", huge_png(100000, 100000), "a map may have 67108864 pixels"),
    ("m.tif", tiff(LABELS)[:200], "damaged"),
    ("m.tif", tiff(NAN), "NaN or infinity at row 0, column 0"),
    ("m.tif", png(), ""),
    ("m.npy", npy(LABELS)[:-3], "truncated or damaged: 297 bytes of values, 300 expected"),
    ("m.npy", npy(np.array([[{}]])), "values of type object"),
    ("m.npy", npy(LABELS.astype(complex)), r"complex numbers; store their magnitude"),
    ("m.npy", npy(np.array([["a"]])), "values of type <U1"),
    ("m.npy", npy(np.zeros((2, 3, 4, 5))), r"has shape \(2, 3, 4, 5\); a map has 2 dimensions, or 3"),
    ("m.npy", npy(np.zeros(7)), r"has shape"),
    ("m.npy", npy(np.zeros((0, 7))), r"has shape"),
    ("m.npy", npy(LABELS).replace(b"(15, 20), }  ", b"(15, 2**9), }"), "damaged"),
    ("m.npy", b"PK\x03\x04" + b"x" * 50, "damaged"),
    ("m.npy", npy(np.where(LABELS == 3, np.inf, LABELS)), "NaN or infinity at row 6, column 0"),
    ("m.npy", npy(LABELS + 0.5), r"values are no whole numbers, such as 0\.5; labels are whole"),
    ("m.nii", nifti(LABELS)[:200], "damaged"),
    ("m.nii", nifti(LABELS[..., None])[:-50], "damaged"),
    ("m.nii", nifti(np.zeros((3, 4, 5, 6), np.uint8)), r"has shape \(3, 4, 5, 6\); a volume has 3 dimensions"),
    ("m.nii", nifti(np.zeros((3, 4, 5), np.complex64)), "complex numbers"),
    ("m.nii.gz", nifti(LABELS), "damaged"),
    ("m.nii.gz", gzip.compress(nifti(LABELS))[:-30], "damaged"),
    ("m.nii.gz", gzip.compress(b"x" * 5000), "damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=[f"{bad[0]} {bad[2][:30]}" for bad in BAD])
def test_a_file_that_holds_no_map_is_refused_where_it_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    if not message:
        assert loaded(tmp_path, name).files
        return
    with pytest.raises(DataError, match=message) as caught:
        loaded(tmp_path, name)
    assert re.match(r"p\.yaml:5:\d+: regions\.0\.file: ", str(caught.value)), str(caught.value)
    assert str(caught.value).splitlines()[1].find(name) == str(caught.value).splitlines()[2].index("^")


def test_unpacking_stops_at_the_limit(tmp_path, monkeypatch):
    """A small file that unpacks to very much is refused before memory is taken."""
    monkeypatch.setattr(maps, "MOST_BYTES", 1 << 20)
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(20 << 20)))
    with pytest.raises(DataError, match="unpacks to more than 1048576 bytes"):
        loaded(tmp_path, "bomb.nii.gz")


def test_a_huge_array_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "MOST_PIXELS", 299)
    for name, content in (("m.npy", npy(LABELS)), ("m.nii", nifti(LABELS)), ("m.tif", tiff(LABELS))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"(20 x 15|15 x 20) pixels; a map may have 299"):
            loaded(tmp_path, name)


def test_a_large_file_is_not_read(tmp_path):
    with (tmp_path / "m.npy").open("wb") as file:
        file.truncate(maps.MOST_BYTES + 1)
    with pytest.raises(DataError, match="536870913 bytes; a map may have 536870912"):
        loaded(tmp_path, "m.npy")


OUTSIDE = ["/etc/hostname", "../m.png", "sub/../../m.png", "link.png", "linked/m.png", "sub/../m.png"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_the_folder_is_read(tmp_path, name):
    """Absolute paths, `..` and symbolic links do not lead out of the phantom's folder."""
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (tmp_path / "m.png").write_bytes(png())
    (home / "m.png").write_bytes(png())
    (home / "link.png").symlink_to(tmp_path / "m.png")
    (home / "linked").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"^p\.yaml:5:\d+: regions\.0\.file: leads out of the phantom's folder"):
        loaded(home, name)
    with pytest.raises(ConfigError, match=r"^p\.yaml:4:\d+: scatterers\.file: leads out of the phantom's folder"):
        phantom_from_text(HEAD + f"scatterers: {{file: {name}}}\n", "p.yaml", base=home)


def test_folders_and_links_inside_are_fine(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.png").write_bytes(png())
    (tmp_path / "link.png").symlink_to(tmp_path / "sub" / "m.png")
    assert loaded(tmp_path, "sub/m.png").files[0][1] == loaded(tmp_path, "link.png").files[0][1]


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png", "."])
def test_names_that_are_no_files(tmp_path, name):
    with pytest.raises(UsimError):
        loaded(tmp_path, f'"{name}"'.replace("\0", "\\0"))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("x: [2 cm, 3 cm], z: [8 mm, 20 mm]", r"regions\.0\.x: the map lies wholly outside the image: x 20 to 30 mm"),
        ("x: [-5 mm, 5 mm], z: [5 cm, 6 cm]", r"regions\.0\.x: .*the image shows x -10 to 10, z 5 to 40 mm"),
        ("center: [0, 20 cm], pixel: 0.1 mm", r"regions\.0\.center: the map lies wholly outside"),
        ("center: [0, 2 cm]", r"regions\.0\.pixel: the file does not say how large"),
        ("x: [-5 mm, 5 mm], z: [{uniform: [1 cm, 5 cm]}, 6 cm]", r"regions\.0\.x: the map lies wholly outside"),
    ],
)
def test_maps_beside_the_image_are_refused(tmp_path, place, message):
    (tmp_path / "m.png").write_bytes(png())
    text = HEAD + f"regions:\n  - {{shape: labels, file: m.png, {place}, values: {{0: none}}, others: none}}\n"
    with pytest.raises(ConfigError, match=rf"^p\.yaml:5:\d+: {message}"):
        phantom_from_text(text, "p.yaml", base=tmp_path)


def test_a_map_that_is_drawn_beside_the_image_names_frame_and_seed(tmp_path):
    """The ends of the ranges lie in the image, a drawn place may not: image and map move apart."""
    (tmp_path / "m.png").write_bytes(png())
    head = HEAD.replace("z: [5 mm, 4 cm]", "z: [5 mm, {uniform: [2 cm, 9 cm]}]")
    place = "center: [0, {uniform: [1 cm, 8 cm]}], pixel: 0.1 mm"
    text = head + f"regions:\n  - {{shape: labels, file: m.png, {place}, values: {{0: none}}, others: none}}\n"
    phantom = phantom_from_text(text, "p.yaml", base=tmp_path)
    with pytest.raises(ConfigError, match=r"frame \d+ of seed 0 draws values(.|\n)*regions\.0\.center: the map lies"):
        [draw(phantom, index=index) for index in range(200)]


def test_a_file_that_changes_between_loading_and_drawing_is_noticed(tmp_path):
    (tmp_path / "m.png").write_bytes(png(LABELS + 1))
    phantom = loaded(tmp_path, "m.png", "image")
    (tmp_path / "m.png").write_bytes(png(LABELS + 2))
    for cache in (maps._content, maps._map_of, map_sampling._powers):
        cache.cache_clear()  # as in a worker that starts now
    scene = draw(phantom)
    with pytest.raises(DataError, match="the file has changed"):
        echogenicity_at(scene, 0.0, 0.01)


def test_nifti_without_nibabel_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "m.nii").write_bytes(nifti(LABELS + 40))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ConfigError, match=r"reading NIfTI needs nibabel: pip install 'usim-s2s\[nifti\]'"):
        loaded(tmp_path, "m.nii")


def test_a_missing_map_of_a_file_shows_its_line(tmp_path):
    region = (
        f"  - shape: labels\n    file: m.png\n    {EDGES.replace(', z', chr(10) + '    z')}\n    values: {{0: none}}\n"
    )
    (tmp_path / "p.yaml").write_text(f"{HEAD}regions:\n{region}")
    with pytest.raises(DataError, match=r"^p\.yaml:6:11: regions\.0\.file: .*m\.png: no such map"):
        load_phantom(tmp_path / "p.yaml")


WHOLE = {
    "m.png": png(), "m.tif": tiff(LABELS), "m.npy": npy(LABELS),
    "m.nii": nifti(LABELS), "m.nii.gz": gzip.compress(nifti(LABELS), mtime=0),
}  # fmt: skip
RELAXED = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, **RELAXED)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=4),
    st.floats(0.1, 1.2),
)
def test_damaged_files_are_read_or_refused(tmp_path_factory, name, flips, length):
    content = bytearray(WHOLE[name])
    for place, bits in flips:
        content[int(place * len(content))] ^= bits
    folder = tmp_path_factory.mktemp("damaged")
    (folder / name).write_bytes(content[: int(min(length, 1.0) * len(content))])
    for shape in ("labels", "image"):
        refusal = "p.yaml:5:"
        try:
            echogenicity_at(draw(loaded(folder, name, shape)), 0.0, 0.01)
        except UsimError as error:
            refusal = str(error)
        assert refusal.startswith("p.yaml:5:")
