"""What `usim match` measures, on scans whose every property is known."""

import math

import numpy as np
import pytest
from made_scans import CONVEX, PHASED, fan_scan, levels, scan, shown, speckle
from PIL import Image

from usim.errors import ConfigError, DataError
from usim.match.area import find_area
from usim.match.blocks import find_blocks
from usim.match.cells import measure_cells
from usim.match.curve import Law, find_curve
from usim.match.levels import find_floor, find_trend
from usim.match.measure import measure, table
from usim.match.scan import Scan, read_scan
from usim.match.tissue import despeckle, echogenicity
from usim.phantom.screen import Display

LOG = {"curve": {"type": "log", "dynamic_range": 60}}


def measured(grey):
    return measure(Scan(grey, np.zeros(grey.shape, dtype=bool), None))


@pytest.mark.parametrize("cell", [(1.6, 3.2), (2.5, 5.0), (4.0, 3.0), (6.0, 9.0)])
def test_the_cell_is_measured_within_a_tenth(cell):
    found = measured(scan(LOG, cell=cell, seed=3))
    assert found.cells.size == pytest.approx(cell, rel=0.1)
    assert len(found.bands) >= 3
    for band in found.bands:
        assert band.size == pytest.approx(cell, rel=0.4)


@pytest.mark.parametrize("cut", [40.0, 60.0, 80.0])
def test_the_range_of_a_logarithm_is_measured_within_3_db(cut):
    found = measured(scan({"curve": {"type": "log", "dynamic_range": cut}}, seed=1)).compression
    assert found.law.display.curve.type == "log"
    assert found.law.display.gamma == 1.0
    assert found.law.display.curve.dynamic_range == pytest.approx(cut, abs=3.0)
    assert abs(found.slope) < 0.1 or cut == 40.0  # black cuts the darkest patches of a narrow range


@pytest.mark.parametrize(("exponent", "black"), [(0.4, -45.0), (0.8, -60.0), (0.3, -60.0)])
def test_the_power_of_a_curve_is_measured_within_a_twentieth(exponent, black):
    curve = {"type": "power", "exponent": exponent, "black": black}
    found = measured(scan({"curve": curve}, seed=2)).compression
    assert found.law.display.curve.type == "power"
    assert found.law.display.curve.exponent == pytest.approx(exponent, abs=0.05)
    if exponent * black > -30.0:  # lower blacks are less than a grey away from none
        assert found.law.display.curve.black == pytest.approx(black, abs=4.0)
    assert found.slope > 0.3


def test_the_gamma_of_a_curve_is_measured():
    display = {"curve": {"type": "log", "dynamic_range": 50}, "gamma": 1.7}
    found = measured(scan(display, seed=4)).compression
    assert found.law.display.gamma == pytest.approx(1.7, abs=0.2)
    assert found.law.display.curve.dynamic_range == pytest.approx(50.0, abs=3.0)
    assert found.slope == pytest.approx(1.0 - 1.0 / 1.7, abs=0.1)


def test_the_law_of_a_display_is_that_of_speckle():
    """Against draws, and the plain logarithm in closed form: 5.57 dB wide, 2.507 dB below the mean intensity."""
    law = Law(Display(curve={"type": "log", "dynamic_range": 100.0}))
    assert law.std(150.0) == pytest.approx(255.0 * 5.57 / 100.0, rel=0.01)
    assert law.mean_grey(-40.0) == pytest.approx(255.0 * (1.0 - 0.42507), abs=0.5)
    assert law.level_of_mean(law.mean_grey(-30.0)) == pytest.approx(-30.0, abs=0.1)
    law = Law(Display(curve={"type": "power", "exponent": 0.5, "black": -40.0}))
    drawn = law.grey(-20.0 + 10.0 * np.log10(np.random.default_rng(0).exponential(size=40000)))
    assert law.mean_grey(-20.0) == pytest.approx(drawn.mean(), rel=0.02)
    assert law.std(law.mean_grey(-20.0)) == pytest.approx(drawn.std(), rel=0.02)
    assert law.quantiles(np.array([drawn.mean()]), np.array([0.5]))[0] == pytest.approx(np.median(drawn), rel=0.02)


@pytest.mark.parametrize("fan", [PHASED, CONVEX], ids=["phased", "convex"])
def test_a_fan_is_found_with_its_speckle(fan):
    grey = fan_scan(fan, (440, 360), (2.5, 4.0), LOG, seed=5)
    found = measured(grey)
    assert found.area.kind == ("convex" if fan is CONVEX else "phased")
    assert found.area.fan.apex == pytest.approx(fan.apex, abs=6.0)
    assert found.area.fan.radii == pytest.approx(fan.radii, abs=6.0)
    assert np.degrees(found.area.fan.angles) == pytest.approx(np.degrees(fan.angles), abs=1.5)
    # a fan's columns widen with depth, so that the picture's own interpolation is part of the cell
    assert found.cells.size == pytest.approx((2.5, 4.0), rel=0.15)
    assert found.depth_pixels == pytest.approx(fan.radii[1] - (fan.radii[0] if fan is CONVEX else 0.0), abs=8.0)


def test_borders_text_and_rulers_are_left_out():
    picture = np.zeros((420, 520))
    picture[60:380, 100:400] = scan(LOG, seed=6)
    for row in range(60, 380, 32):  # a ruler
        picture[row : row + 2, 408:416] = 200.0
    for k in range(12):  # words, as strokes of two pixels
        picture[10:22, 110 + 9 * k : 112 + 9 * k] = 220.0
        picture[10:12, 110 + 9 * k : 116 + 9 * k] = 220.0
    area = find_area(picture)
    assert area.kind == "linear"
    assert area.box == pytest.approx((100, 60, 400, 380), abs=3)


def test_a_shadow_in_a_corner_does_not_make_a_fan():
    grey = scan(LOG, seed=7)
    z, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    shadow = (x < 90) & (z > 120)
    grey = np.where(shadow, shown(speckle(grey.shape, (2.5, 4.0), 8), LOG, below_white=58.0), grey)
    area = find_area(grey)
    assert area.kind == "linear"
    assert area.box == pytest.approx((0, 0, 300, 320), abs=3)


def test_the_trend_and_the_floor_are_measured():
    grey = scan(LOG, seed=9, patches=(), slope=-0.04)
    found = measured(grey)
    assert found.trend.slope == pytest.approx(-0.04, rel=0.1)
    assert found.trend.low <= found.trend.slope <= found.trend.high
    hole = ((0.4, 0.3, 0.3, 0.4, -90.0),)
    found = measured(scan(LOG, seed=9, patches=hole, noise=-25.0))
    assert not found.floor.black
    assert found.floor.level == pytest.approx(-50.0, abs=2.0)
    dark = measured(scan({"curve": {"type": "log", "dynamic_range": 40}}, seed=9, patches=hole, noise=-25.0))
    assert dark.floor.black
    assert dark.floor.level < -35.0


def test_even_blocks_are_those_without_edges():
    grey = scan(LOG, seed=10)
    seen = np.ones(grey.shape, dtype=bool)
    blocks = find_blocks(grey, seen, (2.5, 4.0))
    assert np.median(blocks.uneven[blocks.uneven < 3.0]) == pytest.approx(0.95, abs=0.25)  # chi^2 of 8 degrees, over 8
    true = levels(grey.shape)
    last = blocks.row + blocks.side[0] - 1, blocks.column + blocks.side[1] - 1
    edge = np.abs(true[blocks.row, blocks.column] - true[last])
    assert np.median(blocks.even().std) == pytest.approx(255.0 * 5.57 / 60.0, rel=0.05)
    chosen = {*zip(blocks.even().row.tolist(), blocks.even().column.tolist(), strict=True)}
    kept = np.array([place in chosen for place in zip(blocks.row.tolist(), blocks.column.tolist(), strict=True)])
    assert kept[edge == 0.0].mean() > 1.4 * kept[edge > 9.0].mean()


def test_despeckling_keeps_levels_and_edges():
    found = measured(scan(LOG, seed=11))
    grey = despeckle(found.straight, found.seen, found.cells.size, found.compression.law)
    level = echogenicity(grey, found.compression.law)
    true = levels(level.shape) - 25.0
    inside = [np.s_[60:120, 50:110], np.s_[60:120, 190:240], np.s_[200:280, 190:240], np.s_[200:280, 30:120]]
    for part in inside:
        assert level[part].mean() == pytest.approx(true[part].mean(), abs=1.5)
        assert level[part].std() < 2.0  # of 5.57 before
    row = level[60:120].mean(axis=0)
    rise = np.interp([0.25, 0.75], np.clip((row[135:195] - row[135]) / (row[195] - row[135]), 0, 1), np.arange(60))
    assert rise[1] - rise[0] < 30


def test_the_table_names_everything_once():
    text = table(measured(scan(LOG, seed=12)), 0.1e-3)
    named = [line[:16].strip() for line in text.splitlines() if line[0] != " "]
    assert named == ["scan area", "pixel", "speckle cell", "curve", "noise floor", "trend"]
    assert "0.1 mm" in text


def save(tmp_path, values, name="scan.png"):
    Image.fromarray(values).save(tmp_path / name)
    return tmp_path / name


def test_grey_pictures_of_every_type_are_read(tmp_path):
    grey = scan(LOG, shape=(96, 100)).astype(np.uint8)
    for name in ("a.png", "a.gif", "a.tif", "a.bmp"):
        assert np.array_equal(read_scan(save(tmp_path, grey, name)).values, grey)
    Image.fromarray(grey).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_scan(tmp_path / "a.jpg").values - grey).mean() < 3.0
    colour = np.repeat(grey[..., None], 3, axis=2)
    assert np.array_equal(read_scan(save(tmp_path, colour, "rgb.png")).values, grey)
    frames = [Image.fromarray(grey), Image.fromarray(255 - grey)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_scan(tmp_path / "two.gif").values, grey)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert read_scan(tmp_path / "deep.png").values == pytest.approx(grey, abs=0.01)
    colour[:2, :2] = (255, 0, 0)
    assert read_scan(save(tmp_path, colour, "mark.png")).ignored.sum() == 4
    assert read_scan(tmp_path / "a.png", (10, 5, 90, 80)).values.shape == (75, 80)


def test_what_is_no_scan_is_refused_with_a_cure(tmp_path):
    grey = scan(LOG, shape=(96, 100)).astype(np.uint8)
    colour = np.stack([grey, grey // 4, grey // 2], axis=2)
    (tmp_path / "words.png").write_text("this is no picture")
    (tmp_path / "cut.png").write_bytes(save(tmp_path, grey).read_bytes()[:2000])
    cases = [
        (save(tmp_path, colour, "colour.png"), "coloured.*--crop"),
        (save(tmp_path, grey[:40], "small.png"), "at least 64"),
        (save(tmp_path, np.full_like(grey, 90), "flat.png"), "no speckle"),
        (save(tmp_path, np.zeros_like(grey), "black.png"), "no speckle"),
        (tmp_path / "words.png", "no picture; allowed are PNG"),
        (tmp_path / "cut.png", "damaged|cannot read"),
        (tmp_path / "missing.png", "no such file"),
        (tmp_path, "cannot read"),
    ]
    for path, message in cases:
        with pytest.raises(DataError, match=message):
            read_scan(path)
    with pytest.raises(ConfigError, match="--crop: 0,0,200,50 does not lie"):
        read_scan(tmp_path / "scan.png", (0, 0, 200, 50))


def test_pictures_without_speckle_are_refused():
    z, x = np.mgrid[:200, :200]
    marks = np.where((x % 50 < 2) & (z % 50 < 30), 255.0, 0.0)
    for picture in (128.0 + 100.0 * np.sin(x / 40.0), 200.0 * (z > 100), marks):
        with pytest.raises(DataError):
            measured(np.broadcast_to(picture, (200, 200)).astype(np.float64))


def test_bands_of_a_cell_that_grows_with_depth_differ():
    near, far = speckle((160, 300), (2.5, 3.0), 1), speckle((160, 300), (2.5, 6.0), 2)
    whole, bands = measure_cells(10.0 * np.log10(np.concatenate([near, far]) + 1e-6), np.ones((320, 300), dtype=bool))
    assert bands[0].size[1] == pytest.approx(3.0, rel=0.15)
    assert bands[-1].size[1] == pytest.approx(6.0, rel=0.15)
    assert math.isfinite(whole.error[0])


def test_the_trend_of_a_black_picture_is_refused():
    law = Law(Display())
    with pytest.raises(DataError, match="--crop"):
        find_trend(np.zeros((100, 100)), np.ones((100, 100), dtype=bool), law)
    assert find_floor(np.zeros((100, 100)), np.ones((100, 100), dtype=bool), (2.0, 2.0), law).black


def test_a_named_family_is_kept():
    blocks = find_blocks(scan(LOG), np.ones((320, 300), dtype=bool), (2.5, 4.0)).even()
    assert find_curve(blocks, "power").law.display.curve.type == "power"
