"""Widths of edges and wires, survival of points, and dips between pairs: closed forms, real frames, and tricks."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import view_of
from scipy import ndimage
from scipy.special import erf

import usim
from s2s.metrics import edges, wires
from s2s.metrics.battery import judged
from s2s.metrics.edges import Edge
from s2s.metrics.frame_view import FrameView
from s2s.metrics.wires import low_gain, width

PIXEL = 0.1e-3
SIZE = 160
TO_WIDTH = 2.5631
SIGMAS = (1, 2, 3, 4, 5, 6)


def speckle(seed, shape=(SIZE, SIZE), cell=(1.0, 2.5)):
    """Fully developed speckle in dB of mean 0 dB, in cells of so many pixels (z, x)."""
    rng = np.random.default_rng(seed)
    field = [ndimage.gaussian_filter(rng.normal(size=shape), cell, mode="wrap") for _ in range(2)]
    intensity = field[0] ** 2 + field[1] ** 2
    return 10 * np.log10(intensity / intensity.mean()) + 2.507


def axis():
    return (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL


def block(half=5e-3, angle=0.0, inside=-42.0, outside=-30.0):
    """The view of a square of one level on background of another, without blur."""
    x, z = axis(), axis()[:, None]
    across, along = x * math.cos(angle) + z * math.sin(angle), z * math.cos(angle) - x * math.sin(angle)
    labels = (np.maximum(np.abs(across), np.abs(along)) <= half).astype(np.uint16)
    return view_of(np.where(labels, inside, outside), labels, ("tissue", "block"), axis(), axis() + 20e-3)


def frames(phantom, number):
    return [FrameView.of(frame) for frame in itertools.islice(usim.stream(phantom, seed=7), number)]


@pytest.fixture(scope="module")
def edge_views():
    return frames("evaluation/edges", 4)


@pytest.fixture(scope="module")
def wire_views():
    return frames("evaluation/wires", 5)


def mean_of(measure, images, views):
    """Each metric's mean over the scenes in which it was measured."""
    rows = [measure(judged(image, view)) for image, view in zip(images, views, strict=True)]
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if not math.isnan(row.get(name, math.nan))] for name in names}
    return {name: float(np.mean(found)) if found else math.nan for name, found in values.items()}


# Edges


def straight(slope=0.0):
    """Signed distance to a straight border through the middle."""
    x, z = axis(), axis()[:, None]
    return (x + 0.03e-3) * math.cos(slope) + z * math.sin(slope)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3e-3, 3.0e-3), st.floats(0, 2 * math.pi), st.floats(2, 30), st.booleans())
def test_edge_width_of_an_error_function(true, slope, step, falls):
    """From 0.3 to 3 mm, along any direction, rising and falling: 10 to 90 % are 2 x 1.2816 standard deviations."""
    distance = straight(slope)
    image = -40 + (-step if falls else step) * erf(distance / (true / TO_WIDTH) / math.sqrt(2)) / 2
    found, height = Edge.of(distance, np.ones(distance.shape, bool)).fit(image)
    assert found == pytest.approx(true, rel=0.01, abs=0.012e-3), "bins of 0.1 mm widen the narrowest"
    assert height == pytest.approx(-step if falls else step, rel=0.02)


@pytest.mark.parametrize(("true", "bias"), [(0.3e-3, 0.15), (0.6e-3, 0.1), (1.2e-3, 0.1), (2.4e-3, 0.1)])
def test_speckle_hardly_biases_the_width(true, bias):
    """16 mm of an edge of 12 dB in speckle as coarse as in the suites: the mean over 40 draws is the width."""
    distance = straight(0.3)
    image = -36 + 6 * erf(distance / (true / TO_WIDTH) / math.sqrt(2))
    edge = Edge.of(distance, np.ones(distance.shape, bool))
    found = [edge.fit(image + speckle(seed))[0] for seed in range(40)]
    assert np.mean(found) == pytest.approx(true, rel=bias)
    assert np.std(found) < 0.4e-3 + 0.1 * true


@pytest.mark.parametrize("angle", [0.0, 0.35])
@pytest.mark.parametrize("sigma", [0.2e-3, 0.5e-3, 0.9e-3])
def test_edge_width_of_a_blurred_block_by_its_labels(angle, sigma):
    view = block(angle=angle)
    image = ndimage.gaussian_filter(view.truth_db, sigma / PIXEL)
    scores = edges.measure(judged(image, view))
    # Distances to slanted borders are short by a third of a pixel on either side.
    assert scores["edge_mm"] == pytest.approx(1e3 * TO_WIDTH * sigma, rel=0.07 if angle else 0.03, abs=0.04)
    assert scores["edge_true_mm"] < 0.13
    assert scores["edge_skipped"] == 0


@pytest.mark.parametrize(("scale", "offset"), [(0.5, -10.0), (1.5, 5.0), (2.0, 20.0)])
def test_no_stretch_of_grey_levels_sharpens_an_edge(scale, offset):
    view = block(inside=-35.0, outside=-29.0)
    image = ndimage.gaussian_filter(view.truth_db, 6)
    stretched = (image + 30) * scale - 30 + offset
    plain, other = (edges.measure(judged(one, view)) for one in (image, stretched))
    assert other["edge_mm"] == pytest.approx(plain["edge_mm"], rel=1e-6)


def test_cutting_an_edge_off_at_black_makes_it_sharper_than_the_truth_which_is_no_merit():
    view = block(inside=-42.0, outside=-30.0)
    soft = dataclasses.replace(view, truth_db=ndimage.gaussian_filter(view.truth_db, 4))
    scores = edges.measure(judged(np.where(soft.truth_db < -36, -60.0, soft.truth_db), soft))
    assert scores["edge_mm"] < 0.5 * scores["edge_true_mm"]


def test_an_edge_that_is_lost_has_no_width():
    view = block()
    for image in (np.full(view.truth_db.shape, -30.0), -30 + 0.1 * (view.truth_db + 30), -72 - view.truth_db):
        scores = edges.measure(judged(image, view))
        assert math.isnan(scores["edge_mm"])
        assert scores["edge_skipped"] == 1
        assert "edge/block" not in scores


def test_edges_that_cannot_be_measured():
    view = block()
    (region,) = view.regions
    everywhere = np.ones(region.distance.shape, bool)
    assert math.isnan(Edge.of(region.distance, everywhere).fit(np.full(everywhere.shape, -30.0))[0])
    assert Edge.of(region.distance, region.distance < 0) is None
    assert edges.measure(judged(view.truth_db, block(half=0.4e-3)))["edge_skipped"] == 1
    faint = edges.measure(judged(view.truth_db, block(inside=-34.0)))
    assert faint["edge_skipped"] == 1
    plain = view_of(view.truth_db, np.zeros_like(view.labels), ("tissue",), view.x, view.z)
    assert edges.measure(judged(view.truth_db, plain)) == {}


def test_names_have_widths_of_their_own(edge_views):
    scores = edges.measure(judged(edge_views[0].truth_db, edge_views[0]))
    widths = {name.partition("/")[2]: value for name, value in scores.items() if name.startswith("edge/")}
    assert widths["upright"] < 0.7
    assert widths["tilted"] < 0.7
    assert 1.0 < widths["soft 1 mm"] < 1.4 < 1.9 < widths["soft 2 mm"] < 2.4
    assert np.mean(list(widths.values())) == pytest.approx(scores["edge_mm"])


def test_real_edges_of_the_truth_are_its_own_and_those_of_the_untouched_image_near(edge_views):
    """The crossings of a rising curve made 0.74 and 0.72 mm of the sharp ones, 0.65 and 0.51 in the truth."""
    true = mean_of(edges.measure, [view.truth_db for view in edge_views], edge_views)
    noisy = mean_of(edges.measure, [view.noisy_db for view in edge_views], edge_views)
    assert true["edge_mm"] == true["edge_true_mm"]
    assert true["edge_skipped"] == noisy["edge_skipped"] == 0
    for name, room in (("upright", 0.15), ("tilted", 0.2), ("soft 1 mm", 0.3), ("soft 2 mm", 0.9)):
        assert noisy[f"edge/{name}"] == pytest.approx(true[f"edge/{name}"], abs=room)


def test_blurred_real_edges_widen_with_the_blur(edge_views):
    images = [view.noisy_db for view in edge_views]
    widths = [
        mean_of(edges.measure, [ndimage.gaussian_filter(image, sigma) for image in images], edge_views)["edge_mm"]
        for sigma in (0, *SIGMAS)
    ]
    assert (np.diff(widths) > 0.02).all()
    assert widths[-1] > 1.8 * widths[0]


# Wires


def bright(places, sigma=(0.15e-3, 0.4e-3), height=27.0, tissue=-30.0, names=None, kind="wires"):
    """The view of Gaussian spots of so many dB over tissue at (x, z), their intensities summed."""
    x, z = axis(), axis()[:, None] + 20e-3
    places = np.asarray(places, dtype=float).reshape(-1, 2)
    power = np.full((SIZE, SIZE), 1.0)
    for at, below in places:
        spot = np.exp(-((z - below) ** 2) / (2 * sigma[0] ** 2) - (x - at) ** 2 / (2 * sigma[1] ** 2))
        power = power + (10 ** (height / 10) - 1) * spot
    names = names or [f"{k}" for k in range(len(places))]
    return view_of(
        tissue + 10 * np.log10(power), np.zeros((SIZE, SIZE), np.uint16), ("tissue",), axis(), axis() + 20e-3,
        points=places, scene={kind: [{"name": name} for name in names]},
    )  # fmt: skip


def pixel(column, row):
    """Place (x, z) of a pixel."""
    return float(axis()[column]), float(axis()[row]) + 20e-3


@settings(max_examples=40)
@given(st.floats(2.0, 15.0), st.floats(-0.5, 0.5))
def test_width_of_a_gaussian_intensity(sigma, shift):
    """10 log10 exp(-x^2 / 2 s^2) falls by 6 dB at s sqrt(2 x 0.6 ln 10), wherever its top lies between samples."""
    x = np.arange(-40, 41) - shift
    profile = -10 * np.log10(math.e) * x**2 / 2 / sigma**2
    assert width(profile, 40) == pytest.approx(2 * sigma * math.sqrt(1.2 * math.log(10)), rel=1e-3)
    assert math.isnan(width(np.maximum(profile, -5.0), 40))
    assert math.isnan(width(profile[:41], 40))


@pytest.mark.parametrize("blur", [0.1e-3, 0.2e-3, 0.4e-3])
def test_a_gaussian_wire_after_a_gaussian_blur_is_as_wide_as_the_sum_of_squares(blur):
    """Of intensities; off the pixels' centres."""
    sigma = (0.2e-3, 0.4e-3)
    view = bright([(0.23e-3, 20.04e-3)], sigma, height=40.0)
    power = ndimage.gaussian_filter(10 ** ((view.truth_db + 30) / 10) - 1, blur / PIXEL)
    power *= 10**3 / power.max()
    image = 10 * np.log10(power + 1e-3) - 31
    scores = wires.measure(judged(image, dataclasses.replace(view, noisy_db=image)))
    for axis_name, own in (("axial", sigma[0]), ("lateral", sigma[1])):
        exact = 1e3 * 2 * math.hypot(own, blur) * math.sqrt(1.2 * math.log(10))
        assert scores[f"wire_{axis_name}_mm"] == pytest.approx(exact, rel=0.02)


def test_a_wire_without_6_db_has_no_width():
    view = bright([pixel(80, 80)])
    for height, measured in ((8.0, True), (5.0, False), (0.0, False)):
        image = -30 + (view.truth_db + 30) * height / 27
        assert math.isnan(wires.measure(judged(image, view))["wire_axial_mm"]) != measured
    # As bright as before, but no brighter than what else is there.
    noise = np.random.default_rng(0).random(view.truth_db.shape) < 0.05
    assert math.isnan(wires.measure(judged(np.where(noise, 0.0, view.truth_db), view))["wire_lateral_mm"])


@pytest.mark.parametrize(("left", "kept"), [(1.0, 1.0), (0.51, 1.0), (0.49, 0.0), (0.0, 0.0)])
def test_points_are_kept_when_half_of_their_height_is(left, kept):
    view = bright([pixel(80, 80)], names=["bead"], kind="points")
    scores = wires.measure(judged(-30 + left * (view.truth_db + 30), view))
    assert scores["point_kept"] == kept
    assert scores["point_loss_db"] == pytest.approx(27 * (1 - left), abs=0.02)
    assert scores["point/bead"] == pytest.approx(27 * left, abs=0.02)
    assert scores["point_true/bead"] == pytest.approx(27.0, abs=0.02)


def test_a_point_among_as_bright_ones_is_not_kept():
    view = bright([pixel(80, 80)])
    noise = np.random.default_rng(0).random(view.truth_db.shape) < 0.05
    assert wires.measure(judged(np.where(noise, -2.9, view.truth_db), view))["point_kept"] == 0


@pytest.mark.parametrize("apart", [6, 10, 14, 20])
@pytest.mark.parametrize("below", [False, True])
def test_dip_between_two_gaussians(apart, below):
    """In the middle 2 exp(-d^2 / 8 s^2), at either one 1 + exp(-d^2 / 2 s^2)."""
    sigma = 0.4e-3
    ends = (pixel(80, 70), pixel(80, 70 + apart)) if below else (pixel(70, 80), pixel(70 + apart, 80))
    view = bright(ends, (sigma, sigma), height=56.0, tissue=-59.0, names=["pair", "pair"])
    scores = wires.measure(judged(view.truth_db, view))
    ratio = (apart * PIXEL) ** 2 / sigma**2
    exact = 10 * math.log10((1 + math.exp(-ratio / 2)) / (2 * math.exp(-ratio / 8)))
    assert scores["pair_dip_true/pair"] == pytest.approx(max(exact, 0.0), abs=0.02)
    assert scores["pair_dip/pair"] == scores["pair_dip_true/pair"]
    if exact >= 3:
        assert scores["pairs_resolved"] == 1.0
    else:
        assert math.isnan(scores["pairs_resolved"])
    assert "point_kept" not in scores


def test_a_pair_on_a_slant():
    ends = (pixel(70, 72), pixel(82, 84))
    view = bright(ends, (0.3e-3, 0.3e-3), height=50.0, tissue=-55.0, names=["pair", "pair"])
    ratio = 2 * (12 * PIXEL) ** 2 / 0.3e-3**2
    exact = 10 * math.log10(1 / (2 * math.exp(-ratio / 8)))
    assert wires.measure(judged(view.truth_db, view))["pair_dip/pair"] == pytest.approx(exact, abs=0.1)


def noisy_wires(seed=0):
    """A pair, a strong and a faint wire in speckle."""
    places = [pixel(72, 50), pixel(88, 50), pixel(50, 110), pixel(110, 110)]
    view = bright(places, tissue=-55.0, names=["pair", "pair", "strong", "faint"])
    return dataclasses.replace(view, noisy_db=view.truth_db + speckle(seed) / 4)


@settings(max_examples=25, deadline=None)
@given(st.floats(1.0, 5.0), st.floats(-30, 30), st.integers(0, 3))
def test_low_gain_is_that_of_a_stretch_after_a_blur(stretch, offset, seed):
    given_db = noisy_wires(seed).noisy_db
    everywhere = np.ones(given_db.shape, bool)
    for sigma, room in ((0.0, 1e-6), (1.0, 0.05), (3.0, 0.2)):
        image = offset + stretch * (ndimage.gaussian_filter(given_db, sigma) if sigma else given_db)
        assert low_gain(image, given_db, everywhere, (PIXEL, PIXEL)) == pytest.approx(stretch, rel=room)


def test_low_gain_does_not_raise_and_needs_something_to_compare():
    given_db, everywhere = noisy_wires().noisy_db, np.ones((SIZE, SIZE), bool)
    for image, before in ((given_db / 3, given_db), (-given_db, given_db), (given_db, np.full_like(given_db, -30.0))):
        assert low_gain(image, before, everywhere, (PIXEL, PIXEL)) == 1.0
    # What lies outside the fan is as black after a stretch as before.
    fan = everywhere & (np.arange(SIZE) >= 60)
    cut = [np.where(fan, image, -90.0) for image in (given_db, 2 * given_db)]
    assert low_gain(cut[1], cut[0], fan, (PIXEL, PIXEL)) == pytest.approx(2.0)


@pytest.mark.parametrize(("sigma", "kept"), [(2, 1.0), (6, 0.0)])
def test_a_stretch_after_a_blur_brings_nothing_back(sigma, kept):
    view = noisy_wires()
    blurred = ndimage.gaussian_filter(view.noisy_db, sigma)
    plain, stretched = (wires.measure(judged(image, view)) for image in (blurred, -55 + 2 * (blurred + 55)))
    assert plain["point_kept"] == stretched["point_kept"] == kept
    assert plain["pairs_resolved"] == stretched["pairs_resolved"]
    for name in ("point_loss_db", "wire_axial_mm", "wire_lateral_mm"):
        assert stretched[name] == pytest.approx(plain[name], rel=0.15, nan_ok=True)


def test_a_display_curve_does_not_resolve_a_pair():
    """Dips are counted as a share of the height, so that what is left of a curve deepens both."""
    view = bright([pixel(72, 80), pixel(88, 80)], tissue=-55.0, names=["pair", "pair"])
    sharp, blurred = (ndimage.gaussian_filter(view.truth_db, (2, sigma)) for sigma in (2, 4))
    kept, lost, dark = (
        wires.measure(judged(image, view)) for image in (sharp, blurred, 60 * ((blurred / 60 + 1) ** 2 - 1))
    )
    assert (kept["pairs_resolved"], lost["pairs_resolved"], dark["pairs_resolved"]) == (1.0, 0.0, 0.0)


def test_pairs_and_points_alone_are_told_apart_by_their_places():
    alone, outside, crowd = (-5e-3, 15e-3), (-20e-3, 20e-3), [(4e-3, 24e-3), (5e-3, 24e-3), (4.5e-3, 25e-3)]
    view = bright([alone, outside, *crowd], names=["alone", "outside", "a", "b", "c"])
    names = {name for name in wires.measure(judged(view.truth_db, view)) if "/" in name}
    assert names == {"point/alone", "point_true/alone"}
    assert wires.measure(judged(view.truth_db, bright([], names=[]))) == {}


def test_faint_points_and_points_at_the_border_are_not_measured():
    view = bright([pixel(80, 80)], height=8.0)
    assert wires.measure(judged(view.truth_db, view)) == {}
    region = np.zeros((SIZE, SIZE), np.uint16)
    region[75:86, 75:86] = 1
    small = dataclasses.replace(bright([pixel(80, 80)]), labels=region, label_names=("tissue", "stone"))
    assert wires.measure(judged(small.truth_db, small)) == {}, "no tissue of its own around it"


def test_real_wires_of_the_truth_score_perfectly(wire_views):
    scores = mean_of(wires.measure, [view.truth_db for view in wire_views], wire_views)
    assert scores["point_kept"] == scores["pairs_resolved"] == 1.0
    assert scores["point_loss_db"] == 0.0
    for name in ("wire_lateral", "wire_axial"):
        assert scores[f"{name}_mm"] == scores[f"{name}_true_mm"]
    for name, value in scores.items():
        if name.startswith(("point/", "pair_dip/")):
            assert value == scores[name.replace("/", "_true/")]
    heights = [scores[f"point/{level} dB"] for level in (10, 15, 20, 25)]
    np.testing.assert_allclose(heights, [12.5, 17.5, 22.5, 27.5], atol=0.3)
    assert 0 == scores["pair_dip/beside 0.5 mm"] < 3 < scores["pair_dip/beside 1 mm"] < scores["pair_dip/beside 1.5 mm"]


def test_real_untouched_wires_are_near_the_truth(wire_views):
    scores = mean_of(wires.measure, [view.noisy_db for view in wire_views], wire_views)
    assert scores["wire_lateral_mm"] == pytest.approx(scores["wire_lateral_true_mm"], rel=0.1)
    assert scores["wire_axial_mm"] == pytest.approx(scores["wire_axial_true_mm"], rel=0.1)
    assert abs(scores["point_loss_db"]) < 1
    assert scores["point_kept"] >= 0.9
    assert scores["pairs_resolved"] >= 0.95
    for name in ("beside 0.5 mm", "beside 1 mm", "below 0.5 mm"):
        assert scores[f"pair_dip/{name}"] == pytest.approx(scores[f"pair_dip_true/{name}"], abs=2)


def test_blurred_real_wires_lose_with_the_blur(wire_views):
    found = [
        mean_of(wires.measure, [ndimage.gaussian_filter(view.noisy_db, sigma) for view in wire_views], wire_views)
        for sigma in (0, *SIGMAS)
    ]
    by_name = {name: [one[name] for one in found] for name in found[0]}
    assert (np.diff(by_name["point_loss_db"]) > 0.5).all()
    for name in ("point_kept", "pairs_resolved"):
        assert (np.diff(by_name[name]) <= 0).all()
        assert by_name[name][-1] <= 0.05
    for name in ("wire_lateral_mm", "wire_axial_mm"):
        assert (np.diff(by_name[name][:5]) > 0.03).all()


def test_speckle_without_wires_keeps_none_and_resolves_none(wire_views):
    """Accidental bright spots and dips at the places of wires that are not there."""
    other = frames("evaluation/speckle-only", len(wire_views))
    scores = mean_of(wires.measure, [view.noisy_db for view in other], wire_views)
    assert scores["point_kept"] <= 0.1
    assert scores["pairs_resolved"] <= 0.1
    assert math.isnan(scores["wire_axial_mm"])
    assert (
        wires.measure(judged(other[0].noisy_db, other[0])) == edges.measure(judged(other[0].noisy_db, other[0])) == {}
    )


def test_points_of_other_phantoms_are_measured_too():
    (view,) = frames("cyst", 1)
    scores = wires.measure(judged(view.truth_db, view))
    assert scores["point_kept"] == 1.0
    assert scores["point/point"] > 20
    assert not any(name.startswith("pair") for name in scores)
