"""The phantom that `usim match` writes: its frames show what the scan showed, and the command says so."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_scans import CONVEX, PHASED, fan_scan, scan
from PIL import Image

from usim.cli import main
from usim.errors import ConfigError
from usim.match.measure import measure
from usim.match.phantom import choose, render, simulated_area, simulated_cells, write_match
from usim.match.scan import Scan
from usim.phantom.load import load_phantom

LOG = {"curve": {"type": "log", "dynamic_range": 60}}
POWER = {"curve": {"type": "power", "exponent": 0.5, "black": -50}}


def matched(grey, path):
    found = measure(Scan(grey, np.zeros(grey.shape, dtype=bool), path.with_suffix(".png")))
    chosen = choose(found, pixel=0.15e-3 if found.area.kind == "linear" else 0.4e-3)
    write_match(found, chosen, path)
    return found, render(path)


def again(grey):
    return measure(Scan(grey, np.zeros(grey.shape, dtype=bool), None))


@pytest.mark.parametrize("display", [pytest.param(LOG, marks=pytest.mark.slow), POWER], ids=["log", "power"])
def test_a_match_of_a_match_measures_the_same(tmp_path, display):
    hole = ((0.1, 0.08, 0.3, 0.4, -10.0), (0.1, 0.55, 0.3, 0.4, 8.0), (0.6, 0.55, 0.3, 0.4, -90.0))
    grey = scan(display, shape=(200, 220), cell=(2.2, 4.0), patches=hole, noise=-22.0, slope=-0.02)
    first, frame = matched(grey, tmp_path / "a.yaml")
    assert frame.shape == grey.shape
    second = again(frame)
    # the edges of the map that makes the phantom count as wide speckle: 10.4 % too large here
    assert second.cells.size == pytest.approx(first.cells.size, rel=0.12)
    before, after = (found.compression.law.display for found in (first, second))
    assert before.curve.type == after.curve.type == display["curve"]["type"]
    if display is POWER:
        assert after.curve.exponent == pytest.approx(before.curve.exponent, abs=0.05)
    else:
        assert after.curve.dynamic_range == pytest.approx(before.curve.dynamic_range, abs=3.0)
    assert second.trend.low <= first.trend.slope <= second.trend.high
    assert second.floor.level == pytest.approx(first.floor.level, abs=4.0)
    for part in (np.s_[30:70, 30:90], np.s_[30:70, 135:190], np.s_[130:190, 20:100]):
        assert frame[part].mean() == pytest.approx(grey[part].mean(), abs=8.0)
        assert frame[part].std() == pytest.approx(grey[part].std(), rel=0.2)
    assert np.quantile(frame, [0.1, 0.5, 0.9]) == pytest.approx(np.quantile(grey, [0.1, 0.5, 0.9]), abs=12.0)


@pytest.mark.parametrize("fan", [pytest.param(PHASED, marks=pytest.mark.slow), CONVEX], ids=["phased", "convex"])
def test_a_fan_becomes_a_fan(tmp_path, fan):
    grey = fan_scan(fan, (440, 360), (3.0, 5.0), LOG, seed=5)
    found, frame = matched(grey, tmp_path / "fan.yaml")
    scene = load_phantom(tmp_path / "fan.yaml").document
    near, far = (part * 0.4e-3 for part in found.area.fan.radii)
    depth = [float(text.split()[0]) * 1e-3 for text in scene["image"]["depth"]]
    assert depth[1] - depth[0] == pytest.approx(far - near, rel=0.01)
    assert ("radius" in scene["probe"]) is (fan is CONVEX)
    cut = found.area.cut(grey)
    assert frame.shape == pytest.approx(cut.shape, abs=4)
    area = simulated_area(found)
    assert frame[~area.mask].mean() < 1.0
    assert frame[area.mask].mean() == pytest.approx(cut[found.area.cut(found.area.mask)].mean(), rel=0.06)
    assert simulated_cells(found, frame).size == pytest.approx(found.cells.size, rel=0.15)


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(scan(LOG, shape=(160, 180), cell=(2.2, 4.0)).astype(np.uint8)).save("my scan.png")
    return "my scan.png"


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_writes_a_phantom_a_map_and_a_picture(picture, capsys):
    code, out, err = run(capsys, "match", picture, "--depth", "24mm", "-o", "mine.yaml", "--compare", "both.png")
    assert code == 0, err
    assert "speckle cell" in out
    assert "usim generate mine.yaml --preview mine.png" in out
    assert "guess" not in err
    assert sorted(os.listdir()) == ["both.png", "mine.map.png", "mine.yaml", "my scan.png"]
    text = Path("mine.yaml").read_text()
    assert len(text.splitlines()) < 60
    assert text.count("#") >= 6
    assert os.getcwd() not in text
    image = yaml.safe_load(text)["image"]
    assert image["pixels"] == [180, 160]
    with Image.open("mine.map.png") as levels, Image.open("both.png") as both:
        assert levels.size == (180, 160)
        assert both.size[0] > 800
    code, _, err = run(capsys, "generate", "mine.yaml", "--preview", "mine.png")
    assert code == 0, err


def test_an_unknown_size_is_a_guess_that_is_told(picture, capsys):
    code, out, err = run(capsys, "match", picture)
    assert code == 0
    assert "warning" in err
    assert "--depth" in err
    assert "a guess" in Path("my scan.yaml").read_text()
    assert "40.0 mm" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone.png",), 3, "no such file"),
        (("SCAN", "--depth", "40mm", "--pixel", "0.1mm"), 2, "give one of them"),
        (("SCAN", "--depth", "40"), 2, "--depth"),
        (("SCAN", "--depth", "40 kg"), 2, "--depth"),
        (("SCAN", "--probe", "X7"), 2, "none of L11-5v"),
        (("SCAN", "--probe", "C5-2v"), 2, "the scan is linear"),
        (("SCAN", "--crop", "1,2,3"), 2, "expected x0,y0,x1,y1"),
        (("SCAN", "--crop", "0,0,900,900"), 2, "does not lie"),
        (("SCAN", "-o", "mine.png"), 2, "ends in .yaml"),
        (("SCAN", "-o", "gone/mine.yaml"), 4, "no such folder"),
        (("SCAN", "--compare", "both.doc"), 2, "a picture cannot be"),
    ],
)
def test_bad_requests_end_before_any_work(picture, capsys, arguments, code, message):
    found, _, err = run(capsys, "match", *(picture if word == "SCAN" else word for word in arguments))
    assert found == code, err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert os.listdir() == [picture]


def test_probes_follow_from_shape_and_depth():
    grey = scan(LOG, shape=(160, 180), cell=(2.2, 4.0))
    found = again(grey)
    assert choose(found, depth=30e-3).probe == "L12-3v"
    assert choose(found, depth=70e-3).probe == "L7-4"
    assert choose(found).guessed
    assert choose(found, pixel=0.2e-3).pixel == 0.2e-3
    assert math.isclose(choose(found, depth=32e-3).pixel, 0.2e-3)
    with pytest.raises(ConfigError, match="5 mm to 450 mm"):
        choose(found, pixel=10.0)
