"""usim export: what the readers of each format find in the files that are written for them."""

import csv
import json
import re
import tracemalloc

import numpy as np
import PIL.Image
import pytest
import scipy.io
from kinds import KINDS, display, sector

import usim.export.mat
from s2s.images import Stated, open_image
from usim.cli import cli
from usim.elements import elements_of
from usim.errors import ConfigError
from usim.export import FORMATS, export
from usim.export.rows import per_frame, stored
from usim.io.dataset import open_frames
from usim.io.provenance import Manifest, ShardEntry, sha256, write_manifest
from usim.io.shard import ShardHeader, encode_shard
from usim.probe import Probe


def store(folder, frames, words=(), shard_size=3):
    folder.mkdir()
    for number, start in enumerate(range(0, len(frames), shard_size)):
        part = frames[start : start + shard_size]
        header = ShardHeader(len(part), start, 7, "", "cysts", {"usim": "0.1.0"}, words)
        (folder / f"shard-{number:05d}.h5").write_bytes(encode_shard(part, header))
    return folder


@pytest.fixture
def data(tmp_path, make_frame):
    """Two shards, of three frames and of two."""
    return store(tmp_path / "data", [make_frame(i) for i in range(5)], ("iq", "scatterers"))


def arrays(source):
    """What differs from frame to frame: (frame, ...) by dataset name."""
    frames = open_frames(source)
    return {name: np.stack([item[name] for item in frames.arrays(name)]) for name in per_frame(stored(frames))}


def test_the_command_knows_the_formats():
    option = next(p for p in cli.commands["export"].params if p.name == "form")
    assert set(option.type.choices) == set(FORMATS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_from_npy_and_mat(tmp_path, kind):
    frames = KINDS[kind]()
    words = ("iq",) if frames[0].iq is not None or frames[0].polar is not None else ()
    source = store(tmp_path / "data", frames, words)
    for form in ("npy", "mat"):
        assert export(source, tmp_path / form, form).frames == len(frames)
    matlab = scipy.io.loadmat(tmp_path / "mat/shard-00000.mat")
    for name, values in arrays(source).items():
        saved = np.load(tmp_path / f"npy/{name.replace('/', '-')}.npy", mmap_mode="r", allow_pickle=False)
        assert saved.dtype == values.dtype
        np.testing.assert_array_equal(saved, values)
        found = matlab[name.replace("/", "_")]
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(np.moveaxis(found, -1, 0) if values.ndim > 1 else found[:, 0], values)
    for axis in ("x", "z"):
        each = [getattr(frame.axes, axis) for frame in frames]
        agree = all(np.array_equal(one, each[0]) for one in each)
        np.testing.assert_array_equal(np.load(tmp_path / f"npy/axes-{axis}.npy"), each[0] if agree else each)
        np.testing.assert_array_equal(matlab[f"axes_{axis}"].T, each[:1] if agree else each)


def test_npy_has_the_scatterers_and_what_was_drawn(tmp_path, data):
    export(data, tmp_path / "npy", "npy", frames=[3, 0, -1])
    frames = open_frames(data).choose([0, 3, 4])
    read = {path.stem: np.load(path) for path in (tmp_path / "npy").glob("*.npy")}
    assert read["frame"].tolist() == [0, 3, 4]
    np.testing.assert_array_equal(read["bmode"], [frame.bmode for frame in frames])
    ends = read["scatterers-offsets"]
    for number, frame in enumerate(frames):
        mine = slice(ends[number], ends[number + 1])
        np.testing.assert_array_equal(read["scatterers-position"][mine], frame.scatterers.position)
        np.testing.assert_array_equal(read["scatterers-amplitude"][mine], frame.scatterers.amplitude)
    records = json.loads((tmp_path / "npy/params.json").read_text())
    assert [record["params"] for record in records] == [frame.params for frame in frames]
    assert [(record["frame"], record["scene"]) for record in records] == [(0, 0), (3, 3), (4, 4)]


def test_a_part_of_a_split_is_exported_by_itself(tmp_path, data):
    parts = [("train", 3), ("test", 2)]
    manifest = Manifest("cysts", 5, 7, 3, [], "0" * 64, {"usim": "0.1.0"}, split=(("train", 0.6), ("test", 0.4)))
    for number, (part, count) in enumerate(parts):
        path = (data / f"shard-{number:05d}.h5").rename(data / f"{part}-00000.h5")
        content = path.read_bytes()
        manifest.shards.append(ShardEntry(3 * number, count, path.name, len(content), sha256(content), part))
    write_manifest(data, manifest)
    export(data, tmp_path / "npy", "npy", split="test")
    assert np.load(tmp_path / "npy/frame.npy").tolist() == [3, 4]
    assert {record["split"] for record in json.loads((tmp_path / "npy/params.json").read_text())} == {"test"}
    export(data, tmp_path / "png", "png", split="train", frames=[0, 2, 4])
    assert [(entry["frame"], entry["split"]) for entry in lines_of(tmp_path / "png")] == [
        ("0", "train"),
        ("2", "train"),
    ]
    with pytest.raises(ConfigError, match="has no part 'val'; its parts are train, test"):
        export(data, tmp_path / "out", "mat", split="val")
    with pytest.raises(ConfigError, match="none of the frames"):
        export(data, tmp_path / "out", "mat", split="test", frames=[0])


def test_npy_takes_no_more_memory_for_more_frames(tmp_path, make_frame):
    source = store(tmp_path / "data", [make_frame(i, shape=(64, 64)) for i in range(60)], shard_size=60)
    peaks = []
    for number, chosen in enumerate(((0,), range(10), range(60))):
        tracemalloc.start()
        export(source, tmp_path / f"npy{number}", "npy", frames=chosen)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 300_000  # fifty frames more are 4.5 MB


def test_matlab_finds_legal_names_and_everything_by_frame(tmp_path, data):
    export(data, tmp_path / "mat", "mat")
    frames = open_frames(data)
    rest = scipy.io.loadmat(tmp_path / "mat/shard-00001.mat")
    names = [name for name in rest if not name.startswith("__")]
    assert all(re.fullmatch(r"[A-Za-z]\w{0,30}", name) for name in names)
    assert rest["bmode"].shape == (24, 16, 2)
    assert rest["frame"][:, 0].tolist() == [3, 4]
    for number, frame in enumerate(frames[3:]):
        assert json.loads(rest["params"][number, 0][0]) == frame.params
        assert [cell[0] for cell in rest["truth_label_names"][number, 0][:, 0]] == list(frame.truth.label_names)
        np.testing.assert_array_equal(rest["scatterers_position"][number, 0], frame.scatterers.position)


def test_large_shards_become_several_matlab_files_and_equal_runs_equal_ones(tmp_path, data, monkeypatch):
    export(data, tmp_path / "whole", "mat")
    export(data, tmp_path / "again", "mat")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    size = sum(item.nbytes for item in open_frames(data).arrays(*stored(open_frames(data)))[0].values())
    monkeypatch.setattr(usim.export.mat, "FILE_BYTES", 2 * size)
    export(data, tmp_path / "cut", "mat")
    files = sorted(path.name for path in (tmp_path / "cut").iterdir())
    assert files == ["shard-00000-1.mat", "shard-00000.mat", "shard-00001.mat"]
    found = [scipy.io.loadmat(tmp_path / "cut" / name)["frame"][:, 0].tolist() for name in files]
    assert found == [[2], [0, 1], [3, 4]]


def read_png(path):
    with PIL.Image.open(path) as picture:
        return np.asarray(picture), picture.info


def lines_of(folder):
    with (folder / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_png_shows_image_truth_and_labels(tmp_path, data):
    export(data, tmp_path / "png", "png")
    frames = open_frames(data)
    entries = lines_of(tmp_path / "png")
    assert [entry["frame"] for entry in entries] == list("01234")
    for entry, frame in zip(entries, frames, strict=True):
        grey, info = read_png(tmp_path / "png" / entry["image"])
        assert grey.dtype == np.uint8
        np.testing.assert_array_equal(grey, np.rint(255 * np.clip(1 + frame.bmode / 60, 0, 1)))
        truth, _ = read_png(tmp_path / "png" / entry["truth"])
        np.testing.assert_array_equal(truth, np.rint(255 * np.clip(1 + frame.truth.bmode / 60, 0, 1)))
        labels, _ = read_png(tmp_path / "png" / entry["labels"])
        np.testing.assert_array_equal(labels, frame.truth.labels)
        steps = [(axis[-1] - axis[0]) / (len(axis) - 1) for axis in (frame.axes.x, frame.axes.z)]
        np.testing.assert_allclose(np.array(info["dpi"], float) * steps, 0.0254, rtol=1e-3)
        ends = [float(entry[f"{axis}_{end}_mm"]) for axis in "xz" for end in ("first", "last")]
        np.testing.assert_allclose(ends, 1e3 * np.array([*frame.axes.x[[0, -1]], *frame.axes.z[[0, -1]]]))
        assert (int(entry["rows"]), int(entry["columns"]), float(entry["dynamic_range_db"])) == (*frame.bmode.shape, 60)
    assert len(json.loads((tmp_path / "png/params.json").read_text())) == 5


def test_png_names_what_varies_and_takes_another_range(tmp_path, make_frame):
    source = store(tmp_path / "data", [make_frame(i // 2, look=i % 2) for i in range(4)])
    export(source, tmp_path / "png", "png", frames=[2, 3], dynamic_range=40)
    names = sorted(path.name for path in (tmp_path / "png/bmode").iterdir())
    assert names == ["000002-scene1-look0.png", "000003-scene1-look1.png"]
    grey, _ = read_png(tmp_path / "png/bmode" / names[1])
    np.testing.assert_array_equal(grey, np.rint(255 * np.clip(1 + open_frames(source)[3].bmode / 40, 0, 1)))


def test_labels_beyond_a_byte_are_of_two(tmp_path, make_frame):
    source = store(tmp_path / "data", [make_frame(names=[f"region {i}" for i in range(300)])])
    export(source, tmp_path / "png", "png")
    labels, _ = read_png(tmp_path / "png/truth-labels/000000.png")
    assert labels.max() == 299
    np.testing.assert_array_equal(labels, open_frames(source)[0].truth.labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_display_is_shown_instead_unless_a_range_is_given(tmp_path, dtype):
    source = store(tmp_path / "data", [display(0, dtype)])
    white = 255 if dtype == np.uint8 else 1
    frame = open_frames(source)[0]
    export(source, tmp_path / "png", "png")
    for name, values in (("display", frame.display), ("truth-display", frame.truth.display)):
        grey, _ = read_png(tmp_path / f"png/{name}/000000.png")
        np.testing.assert_array_equal(grey, np.rint(255.0 * np.clip(values / np.float32(white), 0, 1)))
    assert lines_of(tmp_path / "png")[0]["dynamic_range_db"] == ""
    export(source, tmp_path / "db", "png", dynamic_range=50)
    assert (tmp_path / "db/bmode/000000.png").exists()


def test_s2s_reads_the_pictures(tmp_path, data):
    export(data, tmp_path / "png", "png", frames=[1])
    picture = open_image(tmp_path / "png/bmode/000001-scene1.png", Stated())
    decibels = picture.domain.to_db(np.asarray(picture.frames[0], float))
    expected = np.clip(open_frames(data)[1].bmode, -60, 0)
    assert np.abs(decibels - expected).max() <= 60 / 255 / 2 + 1e-6


def uff_file(path):
    pyuff = pytest.importorskip("pyuff_ustb", reason="pyuff_ustb (development extra) is not installed")
    return pyuff.Uff(str(path))


def pixels_of(data, depth, across):
    """Images (frame, depth, across) of beamformed data as MATLAB's USTB lays it out; pyuff_ustb does not turn it."""
    return data.reshape(len(data), across, depth).transpose(0, 2, 1)


@pytest.mark.parametrize("words", [(), ("iq",)])
def test_the_ustb_reads_linear_scans(tmp_path, make_frame, words):
    frames = [make_frame(i) for i in range(3)]
    export(store(tmp_path / "data", frames, words), tmp_path / "uff", "uff")
    beamformed = uff_file(tmp_path / "uff/shard-00000.uff").read("b_data")
    image = pixels_of(beamformed.data, 24, 16)
    np.testing.assert_array_equal(image, [frame.iq if words else frame.envelope for frame in frames])
    np.testing.assert_array_equal(beamformed.scan.x_axis, frames[0].axes.x)
    np.testing.assert_array_equal(beamformed.scan.z_axis, frames[0].axes.z)
    # Pixel by pixel, where pyuff_ustb says that it is.
    x, z = (pixels_of(getattr(beamformed.scan, axis)[None], 24, 16)[0] for axis in "xz")
    np.testing.assert_array_equal(x, np.broadcast_to(frames[0].axes.x, (24, 16)))
    np.testing.assert_array_equal(z, np.broadcast_to(frames[0].axes.z[:, None], (24, 16)))
    truth = uff_file(tmp_path / "uff/shard-00000-truth.uff").read("truth")
    levels = 20 * np.log10(pixels_of(truth.data, 24, 16))
    np.testing.assert_allclose(levels, [frame.truth.bmode for frame in frames], atol=1e-4)
    assert beamformed.probe.geometry.shape == (7, 128)
    np.testing.assert_allclose(
        beamformed.probe.x, elements_of(Probe(**frames[0].params["scene"]["probe"])).centre[:, 0]
    )
    assert (float(beamformed.modulation_frequency), float(beamformed.pulse.center_frequency)) == (7.6e6, 7.6e6)
    assert json.loads(beamformed.info)["frames"] == [0, 1, 2]


@pytest.mark.parametrize("radius", [None, 49.57e-3])
def test_the_ustb_reads_sectors_where_their_lines_lie(tmp_path, radius):
    frames = [sector(i, radius) for i in range(2)]
    export(store(tmp_path / "data", frames, ("iq",)), tmp_path / "uff", "uff")
    beamformed = uff_file(tmp_path / "uff/shard-00000.uff").read("b_data")
    polar = frames[0].polar
    image = pixels_of(beamformed.data, *polar.iq.shape)
    np.testing.assert_array_equal(image, [frame.polar.iq for frame in frames])
    away, angle = polar.axes.range[:, None] + (radius or 0), polar.axes.angle
    for axis, expected in (("x", away * np.sin(angle)), ("z", away * np.cos(angle) - (radius or 0))):
        found = pixels_of(getattr(beamformed.scan, axis)[None], *polar.iq.shape)[0]
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert abs(float(beamformed.scan.origin.z) + (radius or 0)) < 1e-12
    assert abs(float(beamformed.scan.origin.x)) < 1e-12
    elements = elements_of(Probe(**frames[0].params["scene"]["probe"]))
    np.testing.assert_allclose(beamformed.probe.xyz, elements.centre, atol=1e-12)
    np.testing.assert_allclose(np.sin(beamformed.probe.theta), elements.normal[:, 0], atol=1e-12)
    kind = uff_file(tmp_path / "uff/shard-00000.uff").read("b_data")._reader["probe"].attrs["class"]
    assert kind == (b"uff.curvilinear_array" if radius else b"uff.linear_array")


@pytest.mark.parametrize("kind", ["linear", "phased", "drawn axes", "drawn probes"])
def test_s2s_reads_the_beamformed_data(tmp_path, kind):
    frames = KINDS[kind]()
    export(store(tmp_path / "data", frames, ("iq",)), tmp_path / "uff", "uff")
    files = sorted(path for path in (tmp_path / "uff").iterdir() if "truth" not in path.name)
    assert len(files) == (len(frames) if kind.startswith("drawn") else 1)
    files.sort(key=lambda path: len(path.name))
    found = [image for path in files for image in open_image(path, Stated()).frames]
    expected = [frame.envelope if frame.polar is None else np.abs(frame.polar.iq) for frame in frames]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
