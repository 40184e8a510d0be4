"""Metrics against closed forms: what each must be where the answer is known."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judging import smooth, speckle, view_of
from scipy import ndimage
from scipy.stats import norm
from skimage.feature import graycomatrix, graycoprops

from s2s.metrics.battery import METRICS, judged, score
from s2s.metrics.detection import gcnr
from s2s.metrics.distance import signed_distance
from s2s.metrics.frame_view import FrameView
from s2s.metrics.homogeneity import hom
from usim.errors import DataError

PIXEL = 0.1e-3
SIZE = 176


def disc(radius=4e-3, inside=-45.0, outside=-30.0):
    """The view of a disc of one level on background of another, 16 mm square, without blur."""
    axis = (np.arange(SIZE) - (SIZE - 1) / 2) * PIXEL
    labels = (np.hypot(axis[:, None], axis) <= radius).astype(np.uint16)
    truth = np.where(labels, inside, outside).astype(float)
    return view_of(truth, labels, ("tissue", "cyst"), axis, axis + 20e-3)


def halves(first, second):
    """Two samples as one image with the masks of each."""
    image = np.concatenate([first, second])[None, :]
    inside = (np.arange(image.size) < len(first))[None, :]
    return image, inside, ~inside


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.0, 3.0])
def test_gcnr_of_two_gaussians(distance):
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=20_000), rng.normal(size=20_000) + distance
    assert gcnr(*halves(first, second)) == pytest.approx(2 * norm.cdf(distance / 2) - 1, abs=0.016)


def test_gcnr_of_gaussians_that_differ_in_width_needs_two_thresholds():
    rng = np.random.default_rng(3)
    crossing = math.sqrt(2 * math.log(3) / (1 - 1 / 9))
    exact = 2 * (norm.cdf(crossing) - norm.cdf(crossing / 3))
    image, narrow, wide = halves(rng.normal(size=20_000), 3 * rng.normal(size=20_000))
    assert gcnr(image, narrow, wide) == pytest.approx(exact, abs=0.015)
    assert gcnr(image, wide, narrow) == gcnr(image, narrow, wide)


@pytest.mark.parametrize("contrast", [3.0, 6.0, 12.0])
def test_gcnr_of_speckle(contrast):
    """Exponential intensities of ratio r are best told apart at r ln r / (r - 1)."""
    r = 10 ** (contrast / 10)
    image, *masks = halves(speckle(4, 40_000), speckle(5, 40_000) + contrast)
    exact = r ** (-1 / (r - 1)) - r ** (-r / (r - 1))
    assert gcnr(image, *masks) == pytest.approx(exact, abs=0.012)
    assert gcnr(np.exp(image / 7), *masks) == gcnr(image, *masks)


def test_gcnr_at_its_limits():
    assert gcnr(*halves(np.arange(9.0), np.arange(9.0))) == 0.0
    assert gcnr(*halves(np.zeros(9), np.zeros(5))) == 0.0
    assert gcnr(*halves(np.arange(9.0), np.arange(9.0, 12.0))) == 1.0
    assert math.isnan(gcnr(*halves(np.arange(9.0), np.zeros(0))))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20), st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_gcnr_is_the_best_interval(first, second):
    """The definition, tried out: the largest difference of probability over all intervals."""
    image, *masks = halves(np.array(first, float), np.array(second, float))
    ends = np.arange(-6, 6) + 0.5
    share = [[np.mean((np.array(v) > a) & (np.array(v) < b)) for a in ends for b in ends] for v in (first, second)]
    assert gcnr(image, *masks) == pytest.approx(np.abs(np.subtract(*share)).max())
    assert 0 <= gcnr(image, *masks) <= 1


def test_hom_is_that_of_the_cooccurrence_matrix():
    image = smooth() + speckle(6, (64, 64))
    grey = np.rint((np.clip(image, -60, 0) / 60 + 1) * 255).astype(np.uint8)
    matrix = graycomatrix(grey, [1], [0], levels=256, normed=True)
    assert hom(image, 60.0) == pytest.approx(graycoprops(matrix, "homogeneity")[0, 0])
    assert hom(np.full((8, 8), -12.3), 60.0) == 1.0
    assert hom(ndimage.gaussian_filter(image, 3), 60.0) > hom(image, 60.0)


@pytest.mark.parametrize("pixel", [(1.0, 1.0), (0.5, 2.0)])
def test_distance_to_straight_borders(pixel):
    rows, columns = np.indices((20, 20))
    distance, nearest = signed_distance(columns >= 8, pixel)
    np.testing.assert_allclose(distance, (columns - 7.5) * pixel[1])
    assert set(nearest[1][0]) == {7, 8}
    np.testing.assert_allclose(signed_distance(rows < 5, pixel)[0], (4.5 - rows) * pixel[0])


def test_distance_to_a_circle():
    rows, columns = np.indices((81, 81)) - 40
    radius = np.hypot(rows, columns)
    distance, _ = signed_distance(radius <= 25.3, (1.0, 1.0))
    assert np.abs(distance - (25.3 - radius)).max() < 0.8
    assert np.abs((distance - (25.3 - radius)).mean()) < 0.1


def test_the_places_of_measurement_keep_their_distances():
    view = disc()
    (region,) = view.regions
    radius = np.hypot(view.x, (view.z - 20e-3)[:, None])
    inside, ring = (np.zeros(view.labels.shape, bool) for _ in range(2))
    inside[region.window], ring[region.window] = region.inside, region.ring
    assert 3.6e-3 < radius[inside].max() < 3.75e-3
    assert 4.45e-3 < radius[ring].min() < 4.6e-3
    assert 6.9e-3 < radius[ring].max() < 7.1e-3
    assert 4.9e-3 < radius[view.background].min() < 5.1e-3
    assert not view.background[:9].any()
    assert view.background[11:-11, 11:-11][radius[11:-11, 11:-11] > 5.1e-3].all()


def test_points_are_kept_out():
    view = disc()
    spot = dataclasses.replace(view, points=np.array([[0.0, 20e-3]]))
    assert 0.95 < (~spot.clear).sum() * PIXEL**2 / (math.pi * 1.5e-3**2) < 1.05
    assert spot.regions[0].inside.sum() < view.regions[0].inside.sum()
    assert not spot.clear[80, 80]


def test_borders_between_regions_are_no_edges_and_rings_avoid_neighbours():
    view = disc()
    labels = view.labels.copy()
    labels[:, 80:] *= 2
    half = dataclasses.replace(view, labels=labels, label_names=("tissue", "left", "right"))
    left, right = half.regions
    assert (left.name, right.name) == ("left", "right")
    cut = np.zeros(labels.shape, bool)
    cut[left.window] = left.edge
    assert not cut[70:90, 75:80].any()
    assert cut[70:90, 42].all()
    assert not (left.ring & (labels[left.window] > 0)).any()


def test_the_truth_itself_scores_perfectly():
    view = disc()
    scores = score(judged(view.truth_db, view))
    assert scores["psnr"] == scores["psnr_fit"] == scores["snr"] == scores["enl"] == math.inf
    assert scores["ssim"] == scores["ssim_fit"] == scores["ms_ssim"] == scores["ms_ssim_fit"] == pytest.approx(1.0)
    assert scores["gcnr"] == scores["gcnr_true"] == scores["gcnr/cyst"] == scores["gcnr_true/cyst"] == 1.0
    assert scores["edge_mm"] == scores["edge_true_mm"] < 0.2
    assert scores["gcnr_skipped"] == scores["edge_skipped"] == 0
    everywhere = {name for name, metric in METRICS.items() if not name.endswith("/") and not metric.needs}
    families = {f"{name}/cyst" for name in ("gcnr", "gcnr_true", "edge", "edge_true")}
    assert everywhere <= set(scores) <= {*METRICS, *families}
    assert (scores["invented"], scores["removed_low"]) == (0.0, pytest.approx(scores["removed_low_true"], nan_ok=True))


@pytest.mark.parametrize(("radius", "contrast", "skipped"), [(0.3e-3, -15, (1, 1)), (4e-3, -4, (0, 1))])
def test_what_cannot_be_measured_is_counted(radius, contrast, skipped):
    view = disc(radius, inside=-30.0 + contrast)
    scores = score(judged(view.truth_db + speckle(8, view.truth_db.shape), view))
    assert (scores["gcnr_skipped"], scores["edge_skipped"]) == skipped
    assert math.isnan(scores["edge_mm"])
    assert math.isnan(scores["gcnr"]) == bool(skipped[0])


@pytest.mark.parametrize("label", [0, 1])
def test_frames_without_regions_or_without_background(label):
    view = disc()
    labels = np.full_like(view.labels, label)
    plain = view_of(np.full(labels.shape, -30.0), labels, ("a", "b"), view.x, view.z)
    scores = score(judged(plain.truth_db + speckle(9, labels.shape), plain))
    assert math.isnan(scores["gcnr"])
    assert math.isnan(scores["enl"]) if label else scores["enl"] == pytest.approx(1, rel=0.1)


def test_an_image_darker_than_black_has_no_looks():
    view = disc()
    dark = dataclasses.replace(view, truth_db=view.truth_db - 25)
    assert not dark.background.any()


def test_a_frame_without_its_dynamic_range_is_refused(make_frame):
    frame = make_frame()
    assert FrameView.of(frame).dynamic_range == 60.0
    frame.params["scene"]["image"].pop("dynamic_range")
    with pytest.raises(DataError, match="dynamic_range"):
        FrameView.of(frame)
