"""Whether contrast that goes in comes out: closed forms of display curves, real frames, and tricks."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging import view_of
from scipy import ndimage

import usim
from s2s.metrics import contrast
from s2s.metrics.battery import judged
from s2s.metrics.contrast import end_shares, line, make_a_line
from s2s.metrics.frame_view import FrameView

PIXEL = 0.1e-3
LEVELS = (-18, -12, -6, 6, 12)
TISSUE = -30.0


def ladder(levels=LEVELS, names=None):
    """The view of blocks of 4 mm at these levels over tissue, without blur."""
    labels = np.zeros((80, 70 * len(levels)), np.uint16)
    truth = np.full(labels.shape, TISSUE)
    for k, level in enumerate(levels):
        labels[20:60, 70 * k + 15 : 70 * k + 55] = k + 1
        truth[labels == k + 1] += level
    x, z = (np.arange(size) * PIXEL for size in labels.shape[::-1])
    return view_of(truth, labels, ("tissue", *(names or (f"{level:+d} dB" for level in levels))), x, z)


def grey(image):
    return image / 60 + 1


def gamma_two(image):
    return 60 * (grey(image) ** 2 - 1)


def cut_to_black(image):
    return np.where(image < -34, -60.0, image)


def stretched(image):
    return 2 * (image + 30) - 30


@pytest.fixture(scope="module")
def views():
    return [FrameView.of(frame) for frame in itertools.islice(usim.stream("evaluation/contrast-ladder", seed=7), 6)]


def mean_of(views, change):
    rows = [contrast.measure(judged(change(view), view)) for view in views]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@given(
    st.lists(st.floats(-50, 0), min_size=3, max_size=20, unique=True).filter(lambda levels: np.ptp(levels) > 0.1),
    st.floats(0.1, 5),
    st.floats(-20, 20),
)
def test_line_through_a_stretch(levels, scale, offset):
    slope, over, bend = line(scale * np.array(levels) + offset, levels)
    assert slope == pytest.approx(scale)
    assert over == pytest.approx(scale)
    assert bend == pytest.approx(0, abs=1e-9)


def test_line_is_that_of_polyfit():
    rng = np.random.default_rng(0)
    true, levels = rng.normal(size=(2, 12))
    slope, over, bend = line(levels, true)
    exact = np.polyfit(true, levels, 1)
    assert slope == pytest.approx(exact[0])
    assert bend == (pytest.approx(np.abs(levels - np.polyval(exact, true)).max() / slope) if slope > 0 else np.inf)
    low, high = np.argmin(true), np.argmax(true)
    assert over == pytest.approx((levels[high] - levels[low]) / (true[high] - true[low]))


@given(st.floats(0.05, 4), st.integers(0, 5))
def test_less_contrast_does_not_straighten_a_line(scale, seed):
    rng = np.random.default_rng(seed)
    true = np.arange(-20.0, 20.0, 3.0)
    levels = true + rng.normal(size=len(true))
    assert line(scale * levels, true)[2] == pytest.approx(line(levels, true)[2])
    assert line(-levels, true)[2] == line(np.zeros(len(true)), true)[2] == np.inf


@pytest.mark.parametrize(
    ("levels", "enough"),
    [
        ([-40, -37, -34, -31, -28], True),
        ([-40, -37, -34, -31, -28.1], False),
        ([-40, -37, -34, -28], False),
        ([-40, -37, -36.9, -34, -28], False),
        ([-28, -40, -34, -37, -31], True),
        ([], False),
    ],
)
def test_a_line_needs_levels(levels, enough):
    assert make_a_line(levels) == enough


def test_the_truth_has_a_slope_of_one():
    view = ladder()
    scores = contrast.measure(judged(view.truth_db, view))
    assert (scores["contrast_slope"], scores["contrast_range"]) == pytest.approx((1.0, 1.0))
    assert scores["contrast_bend_db"] == pytest.approx(0, abs=1e-9)
    assert scores["black_share"] == scores["white_share"] == 0
    names = [name.partition("/")[2] for name in scores if name.startswith("level/")]
    assert names == ["-18 dB", "-12 dB", "-6 dB", "background", "+6 dB", "+12 dB"]
    assert all(scores[f"level/{name}"] == scores[f"level_true/{name}"] for name in names)
    assert scores["level/-18 dB"] == pytest.approx(-48)


def test_a_gain_costs_nothing():
    view = ladder()
    scores = contrast.measure(judged(view.truth_db + 7, view))
    assert (scores["contrast_slope"], scores["contrast_range"]) == pytest.approx((1.0, 1.0))
    assert scores["level/background"] == pytest.approx(TISSUE + 7)


@pytest.mark.parametrize("change", [gamma_two, cut_to_black, stretched])
def test_display_curves_are_measured_as_they_are(change):
    """Slope, range and bend are those of the curve at the levels themselves; half of the pixels of the stretch end."""
    view = ladder()
    true = np.sort(TISSUE + np.array([*LEVELS, 0.0]))
    out = np.clip(change(true), -60, 0)
    scores = contrast.measure(judged(change(view.truth_db), view))
    slope, offset = np.polyfit(true, out, 1)
    assert scores["contrast_slope"] == pytest.approx(slope)
    assert scores["contrast_range"] == pytest.approx((out[-1] - out[0]) / (true[-1] - true[0]))
    assert scores["contrast_bend_db"] == pytest.approx(np.abs(out - offset - slope * true).max() / slope)
    assert abs(slope - 1) > 0.06
    assert scores["contrast_bend_db"] > 1.4
    blocks = {name: (view.labels == k).mean() for k, name in enumerate(view.label_names)}
    black = {gamma_two: 0, cut_to_black: 3, stretched: 1}[change]
    assert scores["black_share"] == pytest.approx(sum(list(blocks.values())[1 : black + 1]))
    assert scores["white_share"] == 0


def test_shares_count_what_the_truth_has_not():
    truth = np.array([[-60.0, -60.0, -30.0, -30.0, 0.0, -0.2, -30.0, -30.0]])
    image = np.array([[-60.0, -30.0, -60.0, -59.9, 0.0, -0.1, -59.8, -0.2]])
    everywhere = np.ones(truth.shape, bool)
    assert end_shares(image, truth, everywhere, 60.0) == (2 / 8, 1 / 8)
    assert end_shares(image, truth, image < -1, 60.0) == (2 / 5, 0.0)


def test_what_lies_outside_the_image_is_not_black():
    view = ladder()
    image = view.truth_db.copy()
    image[:, :35] = -60
    fan = np.ones(image.shape, bool)
    fan[:, :35] = False
    of_fan = view_of(view.truth_db, view.labels, view.label_names, view.x, view.z, insonified=fan)
    assert contrast.measure(judged(image, view))["black_share"] == pytest.approx(35 / 350)
    assert contrast.measure(judged(image, of_fan))["black_share"] == 0


def test_levels_near_black_and_small_regions_are_left_out_and_shares_always_there():
    scores = contrast.measure(judged(ladder((-25, -18, -12, -6, 6)).truth_db, ladder((-25, -18, -12, -6, 6))))
    assert "level/-25 dB" not in scores
    assert "level/-18 dB" in scores
    few = ladder((-18, -12, -6))
    assert set(contrast.measure(judged(few.truth_db, few))) == {"black_share", "white_share"}


def test_regions_of_one_name_share_a_level_and_count_one_by_one():
    view = ladder(LEVELS, ("dark", "dark", "grey", "bright", "bright"))
    scores = contrast.measure(judged(gamma_two(view.truth_db), view))
    other = contrast.measure(judged(gamma_two(view.truth_db), ladder()))
    assert scores["contrast_slope"] == other["contrast_slope"]
    assert scores["level/dark"] == pytest.approx((other["level/-18 dB"] + other["level/-12 dB"]) / 2)
    assert scores["level_true/bright"] == pytest.approx(TISSUE + 9)


def test_real_ladders(views):
    true, noisy = (mean_of(views, lambda view, which=which: getattr(view, which)) for which in ("truth_db", "noisy_db"))
    assert true["contrast_slope"] == pytest.approx(1.0)
    assert true["contrast_bend_db"] == pytest.approx(0, abs=1e-9)
    assert noisy["contrast_slope"] == pytest.approx(1.0, abs=0.03)
    assert noisy["contrast_range"] == pytest.approx(1.0, abs=0.06)
    assert noisy["contrast_bend_db"] < 2
    assert noisy["black_share"] < 0.003
    levels = [name for name in noisy if name.startswith("level/")]
    assert len(levels) == 13
    assert [true[name] for name in levels] == sorted(true[name] for name in levels)
    np.testing.assert_allclose([noisy[name] for name in levels], [true[name] for name in levels], atol=1.2)


def test_tricks_show_on_real_ladders(views):
    """A blur alone leaves the middles of regions; with a curve, a stretch or a threshold the line is another."""
    smooth = {view: ndimage.gaussian_filter(view.noisy_db, 3) for view in views}
    blurred = mean_of(views, lambda view: smooth[view])
    assert blurred["contrast_slope"] == pytest.approx(1.0, abs=0.04)
    for change, bend, slope in ((gamma_two, 2.5, 1.05), (stretched, 2.2, 1.5), (cut_to_black, 2.5, 1.4)):
        scores = mean_of(views, lambda view, change=change: change(smooth[view]))
        assert scores["contrast_bend_db"] > max(bend, 2 * blurred["contrast_bend_db"])
        assert scores["contrast_slope"] > slope
    assert mean_of(views, lambda view: cut_to_black(smooth[view]))["black_share"] > 0.1
    assert mean_of(views, lambda view: stretched(smooth[view]))["white_share"] > 0.03
