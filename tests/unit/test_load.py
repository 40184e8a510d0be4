"""Loading: shipped phantoms, the user's files, and errors that say where and how."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from usim.errors import ConfigError, DataError
from usim.phantom import load
from usim.phantom.cloud import load_cloud
from usim.phantom.draw import draw
from usim.phantom.load import load_phantom, phantom_from_dict, phantom_from_text, shipped_phantoms

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
NAMES = list(shipped_phantoms())
MINIMAL = "probe: L7-4\nimage: {x: [-1 cm, 1 cm], z: [5 mm, 4 cm], pixels: [8, 8]}\nbackground: {echogenicity: 0}\n"


def refusal(text):
    with pytest.raises(ConfigError) as caught:
        phantom_from_text(text, "p.yaml")
    return str(caught.value)


def test_shipped_phantoms_are_these():
    files = {path.relative_to(ROOT / "phantoms").with_suffix("").as_posix() for path in ROOT.glob("phantoms/**/*.yaml")}
    assert set(NAMES) == files
    assert {"cyst", "training", "carotid", "evaluation/lesions"} <= files


@pytest.mark.parametrize("name", NAMES)
def test_shipped_phantoms_load_by_name(name):
    phantom = load_phantom(name)
    assert draw(phantom).description
    schema = "../schema.json" if "/" in name else "schema.json"
    assert phantom.config_yaml.startswith(f"# yaml-language-server: $schema={schema}\n")


@pytest.mark.parametrize("name", ["cyst", "training"])
def test_the_examples_load_verbatim_and_are_what_is_shipped(name):
    example, shipped = load_phantom(DATA / f"{name}.yaml"), load_phantom(name)
    assert example.document == shipped.document
    assert [draw(example, index=i) for i in range(5)] == [draw(shipped, index=i) for i in range(5)]


def test_phantoms_of_a_wheel_are_found(tmp_path, monkeypatch):
    """A wheel holds the phantoms inside the package, an editable install only beside it: both are looked at."""
    package = tmp_path / "site-packages" / "usim"
    (package / "phantoms").mkdir(parents=True)
    (package / "phantoms" / "mine.yaml").write_text(MINIMAL, encoding="utf-8")
    monkeypatch.setattr(load, "__file__", str(package / "phantom" / "load.py"))
    assert list(shipped_phantoms()) == ["mine"]
    assert load_phantom("mine").frames == 1


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    (tmp_path / "cyst").write_text(MINIMAL + "seed: 99\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_phantom("cyst").seed == 99


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cist", "cist: no such file, and no shipped phantom of that name; did you mean 'cyst'"),
        ("elsewhere/wire.yaml", "did you mean 'wires'"),
        (".", "is a folder, not a phantom file"),
        ("a\0b", "a.*b: no such file|is not a file name"),
        ("x" * 5000, "no such file|is not a file name"),
    ],
)
def test_a_missing_phantom_is_named_with_the_shipped_ones(name, message):
    with pytest.raises(ConfigError, match=message):
        load_phantom(name)


def test_phantoms_travel_to_workers():
    phantom = load_phantom("training")
    copy = pickle.loads(pickle.dumps(phantom))
    assert copy == phantom
    assert hash(copy) == hash(phantom)
    assert draw(copy, index=3) == draw(phantom, index=3)


def test_a_dict_is_a_phantom_too():
    phantom = load_phantom("training")
    assert draw(phantom_from_dict(phantom.document), index=2) == draw(phantom, index=2)
    with pytest.raises(ConfigError, match="plain mappings"):
        phantom_from_dict({"probe": {1, 2}})


def test_an_error_shows_line_column_source_and_caret():
    text = MINIMAL + "regions:\n  - {shape: circle, center: [0, 2 cm], radius: -3 mm, echogenicity: 3}\n"
    lines = refusal(text).splitlines()
    assert lines[0] == "p.yaml:5:48: regions.0.radius: must be greater than 0 (got -3 mm)"
    assert lines[1][lines[2].index("^") :].startswith("-3 mm")


def test_all_errors_come_at_once_in_order():
    text = "prob: L7-4\nimage: {x: [40, 0.1], z: [5 mm, 4 cm], pixels: [9000, 8]}\nbackground: {ecogenicity: 0}\n"
    text += "transmit: {type: focusd}\nreceive: {apodization: han}\nprobe: L7-5\nengine: sird\nmedium: 3\n"
    found = re.findall(r"^p\.yaml:(\d+):\d+: ([\w.]+): (.*)", refusal(text), flags=re.M)
    assert [(line, path) for line, path, _ in found] == [
        ("1", "prob"),
        ("2", "image.x.0"),
        ("2", "image.pixels.0"),
        ("3", "background.echogenicity"),
        ("3", "background.ecogenicity"),
        ("4", "transmit.type"),
        ("5", "receive.apodization"),
        ("6", "probe"),
        ("7", "engine"),
        ("8", "medium"),
    ]
    hints = {path: message for _, path, message in found}
    assert "did you mean 'probe'" in hints["prob"]
    assert "did you mean 40 mm" in hints["image.x.0"]
    assert "did you mean 'focused'" in hints["transmit.type"]
    assert "did you mean 'L7-4'" in hints["probe"]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("[12 mm, 30 mm]", "[30 mm, 12 mm]", 5, "low end 30 mm is above the high end 12 mm"),
        ("[50 dB, 70 dB]", "[50 dB, 70 mm]", 7, "same kind of unit"),
        ("[50 dB, 70 dB]", "[50 dB, 700 dB]", 7, r"uniform\.1: 700 dB is beyond 150 dB"),
        ("[1 mm, 8 mm]", "[0 mm, 8 mm]", 16, "must be greater than 0, got 0 mm"),
        ("{log_uniform: [1 mm, 8 mm]}", "{normal: [2 mm, 1 mm]}", 16, r"must be greater than 0 \(got -0\.002 m\)"),
        ("polygon]", "poligon]", 14, r"choice\.4: 'poligon' is none of .*did you mean 'polygon'"),
        ("{uniform: [3 dB, 15 dB]}", "{uniform: [3 dB, 15 mm]}", 18, "same kind of unit"),
        ("{integer: [2, 8]}", "{integer: [2, 8.5]}", 12, "expected two whole numbers"),
        ("{integer: [2, 8]}", "{integer: [-1, 8]}", 12, "-1 is below 0"),
        ("{integer: [2, 8]}", "5000", 12, "5000 is beyond 4096"),
        ("[256, 256]", "[{integer: [2, 8]}, 256]", 7, "can't be drawn: all frames have the same pixels"),
        ("frames: 64", "frames: {integer: [1, 2]}", 23, "can't be drawn: the number of frames"),
        ("{choice: [boxcar, hann]}", "{choice: []}", 6, "expected a list of 1 to 64 options"),
        ("{uniform: [2, 4]}", "{uniform: [2, 4], x: 3}", 5, "a range stands alone"),
        ("{uniform: [2, 4]}", "{uniform: 3}", 5, r"expected a list of two, \[low, high\], got 3"),
        ("{uniform: [2, 4]}", "{unifrom: [2, 4]}", 5, "got a mapping"),
        ("{uniform: [2, 4]}", "{uniform: [2, .inf]}", 5, "must be finite"),
        ("{uniform: [2, 4]}", "{uniform: [2, fast]}", 5, "expected a number, with a unit or in SI, got fast"),
    ],
)
def test_ranges_are_checked_where_they_are_written(old, new, line, message):
    text = (DATA / "training.yaml").read_text(encoding="utf-8")
    assert old in text
    error = refusal(text.replace(old, new))
    assert re.search(rf"^p\.yaml:{line}:\d+: .*{message}", error, flags=re.M), error


def test_every_option_of_a_nested_choice_is_checked():
    nested = "{choice: [{choice: [1 dB, 2 dB]}, {choice: [3 dB, 400 dB]}]}"
    assert "noise.snr.choice.1.choice.1: 400 dB is beyond 200 dB" in refusal(MINIMAL + f"noise: {{snr: {nested}}}\n")


def test_repeats_are_bounded_together():
    item = "  - {repeat: 3000, shape: circle, center: [0, 2 cm], size: 1 mm, echogenicity: 0}\n"
    assert "6000 regions with all repeats, at most 4096" in refusal(MINIMAL + "regions:\n" + item + item)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p.yaml").write_text(MINIMAL + "scatterers: {file: cloud.npz}\n", encoding="utf-8")
    return tmp_path


def test_own_scatterers_are_read_beside_the_phantom(folder):
    np.savez(folder / "cloud.npz", position=[[0, 0, 0.02], [1e-3, 0, 0.03]], amplitude=[1, -2.0])
    phantom = load_phantom(folder / "p.yaml")
    scene = draw(phantom)
    assert len(scene.scatterers.sha256) == 64
    assert load_cloud(phantom, scene).amplitude.tolist() == [1.0, -2.0]
    assert load_cloud(load_phantom("cyst"), draw(load_phantom("cyst"))) is None
    np.savez(folder / "cloud.npz", position=[[0, 0, 0.02]], amplitude=[1.0])
    with pytest.raises(DataError, match="the file has changed"):
        load_cloud(phantom, scene)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (None, "no such scatterer file"),
        (b"PK\x03\x04 broken", "not a readable .npz"),
        ({"position": [[0, 0, 1e-2]]}, "holds no array 'amplitude'"),
        ({"position": [[0, 1e-2]], "amplitude": [1]}, r"shape \(1, 2\), expected \(N, 3\)"),
        ({"position": [[0, 0, np.nan]], "amplitude": [1]}, "row 0 is not finite"),
        ({"position": [[0, 0, 20]], "amplitude": [1]}, "beyond 0.5 m; were millimetres meant"),
        ({"position": [[0, 0, 1e-2]], "amplitude": ["a"]}, "expected real numbers"),
        ({"position": np.array([[{}]]), "amplitude": [1]}, "not a readable .npz"),
    ],
)
def test_a_broken_scatterer_file_is_refused_at_loading(folder, arrays, message):
    if isinstance(arrays, bytes):
        (folder / "cloud.npz").write_bytes(arrays)
    elif arrays is not None:
        np.savez(folder / "cloud.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load_phantom(folder / "p.yaml")
    assert "cloud.npz" in str(caught.value)
