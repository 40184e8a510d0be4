"""PSNR, SSIM and MS-SSIM against closed forms and scikit-image; curves, and what is outside, are worth nothing."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import smooth, speckle, view_of
from scipy import ndimage
from skimage.metrics import structural_similarity

from s2s.metrics.battery import METRICS, judged
from s2s.metrics.fidelity import fidelity, measure, ms_ssim, picture, psnr, ssim, tone_fit
from s2s.metrics.frame_view import FrameView
from s2s.metrics.grey import grey
from s2s.metrics.similarity import C1, GAUSSIAN, UNIFORM, WEIGHTS, Reference, scales, smallest_side
from usim.display import Screen
from usim.errors import DataError
from usim.phantom.load import load_phantom
from usim.pipeline import Renderer


def scene(size=176, **others):
    """The view of a smooth truth, with speckle in the noisy image; the other truths differ from it."""
    truth = smooth(1, size)
    axis = np.arange(size) * 1e-4
    plain = {
        "noisy_db": np.clip(truth + speckle(2, truth.shape), -60, 0),
        "resolved_db": truth + np.linspace(-3, 3, size)[:, None],
        "echogenicity_db": np.where(truth > -30, -20.0, -40.0),
    }
    return view_of(truth, np.zeros(truth.shape, np.uint16), ("tissue",), axis, axis, **{**plain, **others})


def disc_of(size):
    """A round mask (size, size)."""
    axis = np.arange(size) - size / 2
    return np.hypot(axis[:, None], axis) < size / 2 - 2


@given(st.floats(0.1, 20), st.floats(40, 80))
def test_psnr_of_an_offset(offset, depth):
    truth = np.full((8, 8), -39.0)
    assert psnr(truth + offset, truth, depth) == pytest.approx(20 * np.log10(depth / offset))


def test_psnr_sees_what_the_screen_shows():
    assert psnr(np.array([[5.0, -90.0]]), np.array([[0.0, -70.0]]), 60.0) == math.inf
    assert psnr(np.array([[-60.0, 0.0]]), np.array([[0.0, -60.0]]), 60.0) == pytest.approx(0.0)


def test_rounding_is_no_error_but_a_thousandth_of_a_decibel_is():
    truth = smooth()
    assert psnr(truth.astype(np.float32), truth, 60.0) == math.inf
    assert psnr(truth + 1e-3, truth, 60.0) == pytest.approx(20 * np.log10(60 / 1e-3))


@pytest.mark.parametrize(
    ("window", "options"),
    [(GAUSSIAN, {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}), (UNIFORM, {})],
)
def test_ssim_is_that_of_scikit_image(window, options):
    one, two = grey(smooth(3, 90)[:, :71] + speckle(4, (90, 71)), 60.0), grey(smooth(3, 90)[:, :71], 60.0)
    found, many = Reference.of(two, np.ones(two.shape, bool), 1, window).similarity(scales(one, 1, window))
    assert found == pytest.approx(structural_similarity(one, two, data_range=1.0, **options), abs=1e-5)
    assert math.isnan(many)


def test_ssim_inside_a_mask_is_the_mean_of_the_windows_that_lie_in_it():
    image, truth, inside = smooth(3) + speckle(4, (64, 64)), smooth(3), disc_of(64)
    _, values = structural_similarity(
        grey(image, 60.0), grey(truth, 60.0), data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    whole = ndimage.binary_erosion(inside, np.ones((11, 11)))
    assert ssim(image, truth, 60.0, inside) == pytest.approx(values[whole].mean(), abs=1e-6)


def test_ms_ssim_is_its_definition():
    """Written out once more, with scipy's filters."""
    image, truth = grey(smooth(5, 181) + speckle(6, (181, 181)), 60.0), grey(smooth(5, 181), 60.0)
    factors, one, two = [], image, truth
    for level in range(5):
        means = [ndimage.gaussian_filter(v, 1.5, truncate=3.5) for v in (one, two, one * one, two * two, one * two)]
        covariance = means[4] - means[0] * means[1]
        variances = means[2] - means[0] ** 2 + means[3] - means[1] ** 2
        structure = (2 * covariance + 9e-4) / (variances + 9e-4)
        if level == 4:
            structure *= (2 * means[0] * means[1] + C1) / (means[0] ** 2 + means[1] ** 2 + C1)
        factors.append(structure[5:-5, 5:-5].mean())
        one, two = (np.pad(v, ((0, len(v) % 2),) * 2, "edge") for v in (one, two))
        one, two = ((v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4 for v in (one, two))
    wanted = np.prod(np.array(factors) ** WEIGHTS)
    assert ms_ssim(60 * (image - 1), 60 * (truth - 1), 60.0) == pytest.approx(wanted, abs=1e-5)
    assert sum(WEIGHTS) == pytest.approx(1.0001)


def test_equal_images_have_one_and_opposite_images_nothing():
    image = smooth(size=176)
    assert ssim(image, image, 60.0) == ms_ssim(image, image, 60.0) == pytest.approx(1.0)
    assert ms_ssim(-60 - image, image, 60.0) == 0.0
    assert ssim(image + speckle(1, image.shape), image, 60.0) < 0.5


@pytest.mark.parametrize("level", [-50.0, -20.0])
def test_an_offset_costs_ms_ssim_at_the_coarsest_scale_only(level):
    """Between constants nothing but the luminance differs: its factor to the power of the last weight."""
    size = smallest_side(5)
    one, two = np.full((size, size), level), np.full((size, size), level + 6.0)
    mx, my = 1 + level / 60, 1 + level / 60 + 0.1
    luminance = (2 * mx * my + C1) / (mx**2 + my**2 + C1)
    assert ssim(one, two, 60.0) == pytest.approx(luminance, rel=1e-4)
    assert ms_ssim(one, two, 60.0) == pytest.approx(luminance ** WEIGHTS[-1], rel=1e-4)


def test_images_that_hold_no_window_have_no_similarity():
    image = smooth(size=161)
    assert smallest_side(5) == 161
    assert ms_ssim(image, image, 60.0) == pytest.approx(1.0)
    assert math.isnan(ms_ssim(image[:160], image[:160], 60.0))
    assert ssim(image[:11], image[:11], 60.0) == pytest.approx(1.0)
    assert math.isnan(ssim(image[:10], image[:10], 60.0))
    nowhere = np.zeros(image.shape, bool)
    assert all(math.isnan(metric(image, image, 60.0, nowhere)) for metric in (psnr, ssim, ms_ssim))


@settings(max_examples=25)
@given(st.floats(0.3, 3), st.floats(-40, 40), st.floats(0.2, 4), st.integers(0, 9))
def test_a_tone_curve_is_worth_nothing_after_the_fit(gamma, offset, gain, seed):
    truth = smooth(seed)
    noisy = truth + speckle(seed, truth.shape)
    curved = offset + gain * 60 * ((noisy + 120) / 120) ** gamma
    np.testing.assert_allclose(tone_fit(curved, truth, 60.0), tone_fit(noisy, truth, 60.0))
    np.testing.assert_allclose(tone_fit(60 * ((truth + 120) / 120) ** gamma + offset, truth, 60.0), truth)


@pytest.mark.parametrize("curve", [lambda d: 60 * ((1 + d / 60) ** 2 - 1), lambda d: d / 3 - 4, np.exp])
def test_no_fitted_metric_gains_by_a_tone_curve(curve):
    view = scene()
    blurred = ndimage.gaussian_filter(view.noisy_db, 2)
    plain, curved = measure(judged(blurred, view)), measure(judged(curve(blurred), view))
    fitted = [name for name in plain if name.endswith("_fit")]
    assert len(fitted) == 9
    for name in fitted:
        assert curved[name] == pytest.approx(plain[name], rel=1e-6), name
    assert curved["psnr"] != pytest.approx(plain["psnr"], rel=0.01)
    assert all(METRICS[name].fooled_by for name in ("psnr", "psnr_resolved", "psnr_echogenicity", "psnr_8bit"))


TRICKS = {
    "blur": lambda image: ndimage.gaussian_filter(image, 12),
    "contrast stretch": lambda image: np.clip(3 * (image + 30) - 30, -60, 0),
    "threshold to black": lambda image: np.where(image < -35, -60.0, image),
    "copying the prior": lambda image: np.full(image.shape, image.mean()),
    "two greys": lambda image: np.where(image < image.mean(), -45.0, -15.0),
}


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("suffix", ["", "_resolved"])
def test_each_trick_loses_against_the_image_it_was_played_on(trick, suffix):
    view = scene()
    image = ndimage.gaussian_filter(view.noisy_db, 2)
    plain, played = (measure(judged(each, view)) for each in (image, TRICKS[trick](image)))
    for name in ("psnr", "ssim", "ms_ssim"):
        assert played[f"{name}{suffix}_fit"] < plain[f"{name}{suffix}_fit"] - 0.01, name


def test_the_fit_never_harms_and_cannot_sharpen():
    truth = np.where(np.arange(64)[None, :] < 32, -40.0, -20.0) * np.ones((64, 1))
    blurred = ndimage.gaussian_filter(truth + smooth(3) * 0.3 + 9, 4)
    fitted = tone_fit(blurred, truth, 60.0)
    assert psnr(blurred, truth, 60.0) < psnr(fitted, truth, 60.0) < 40
    order = np.argsort(blurred.ravel(), kind="stable")
    assert (np.diff(fitted.ravel()[order]) >= 0).all()


def test_the_fit_of_an_inverted_image_is_flat():
    truth = smooth()
    np.testing.assert_allclose(tone_fit(-truth, truth, 60.0), truth.mean())


def test_the_fit_averages_ties():
    image, truth = np.array([[1.0, 1.0, 2.0]]), np.array([[-30.0, -20.0, -10.0]])
    np.testing.assert_allclose(tone_fit(image, truth, 60.0), [[-25.0, -25.0, -10.0]])


def test_nothing_is_fitted_to_a_truth_that_hardly_varies():
    """Any image would come out as the truth: the fit of a constant is perfect."""
    truth = np.full((176, 176), -30.0)
    axis = np.arange(176) * 1e-4
    view = view_of(truth, np.zeros(truth.shape, np.uint16), ("tissue",), axis, axis)
    noisy = truth + speckle(1, truth.shape)
    scores = measure(judged(noisy, view))
    fitted = [name for name in scores if name.endswith("_fit")]
    assert all(math.isnan(scores[name]) and "deviation" in METRICS[name].needs for name in fitted)
    assert all(math.isfinite(value) for name, value in scores.items() if name not in fitted)
    some = fidelity(noisy, truth, 60.0)
    assert math.isnan(some["psnr_fit"])
    assert math.isnan(some["ssim_fit"])
    assert some["psnr"] == scores["psnr"]


def test_the_fit_sees_what_is_inside_only():
    image, truth = np.array([[1.0, 1.0, 2.0, 1.0]]), np.array([[-30.0, -20.0, -10.0, 0.0]])
    fitted = tone_fit(image, truth, 60.0, np.array([[True, True, True, False]]))
    np.testing.assert_allclose(fitted, [[-25.0, -25.0, -10.0, -60.0]])


def test_what_is_outside_the_insonified_area_never_counts():
    inside = disc_of(300)
    view = scene(300, insonified=inside)
    image = ndimage.gaussian_filter(view.noisy_db, 1)
    spoilt = np.where(inside, image, np.random.default_rng(7).uniform(-60, 0, image.shape))
    assert measure(judged(spoilt, view)) == measure(judged(image, view))
    other = dataclasses.replace(view, truth_db=np.where(inside, view.truth_db, 0.0))
    assert measure(judged(image, other))["ms_ssim"] == measure(judged(image, view))["ms_ssim"]
    assert measure(judged(np.where(inside, view.truth_db, -60.0), view))["psnr"] == math.inf
    assert fidelity(spoilt, view.truth_db, 60.0, inside) == fidelity(image, view.truth_db, 60.0, inside)


def test_every_truth_scores_perfectly_against_itself():
    view = scene()
    for suffix, truth in (
        ("", view.truth_db),
        ("_resolved", view.resolved_db),
        ("_echogenicity", view.echogenicity_db),
    ):
        scores = measure(judged(truth.astype(np.float32), view))
        assert scores[f"psnr{suffix}"] == scores[f"psnr{suffix}_fit"] == math.inf
        for name in ("ssim", "ssim_fit", "ms_ssim", "ms_ssim_fit"):
            assert scores[name.replace("ssim", f"ssim{suffix}")] == pytest.approx(1.0)
    assert measure(judged(view.truth_db, view))["ssim_8bit"] == scores["ssim_8bit_true"]


def test_a_training_sees_what_the_battery_says():
    view = scene()
    image = ndimage.gaussian_filter(view.noisy_db, 2)
    whole = measure(judged(image, view))
    some = fidelity(image, view.truth_db, 60.0)
    assert list(some) == ["psnr", "psnr_fit", "ssim", "ssim_fit"]
    assert some == pytest.approx({name: whole[name] for name in some}, rel=1e-5)


def test_eight_bits_without_a_display_are_linear_in_decibels():
    """0 dB tissue is shown where its mean intensity is, 2.5 dB above its mean level."""
    view = scene(96, echogenicity_db=np.full((96, 96), -40.0))
    off = measure(judged(np.full((96, 96), -40.0), view))["psnr_8bit"]
    assert off == pytest.approx(20 * math.log10(255 / 11), abs=1e-9)
    assert measure(judged(np.full((96, 96), -40.0 + 2.5068), view))["psnr_8bit"] == math.inf


def test_eight_bits_with_a_display_are_the_papers_convention():
    """As the sets like the paper's were tuned: the shown image against the shown echogenicity, by scikit-image."""
    frame = Renderer(load_phantom("paper-s2")).frame(0)
    view = FrameView.of(frame)
    level = frame.truth.echogenicity_db - frame.params["scene"]["image"]["headroom"]
    clean = Screen.of_frame(frame).show(10.0 ** (level / 10.0))
    np.testing.assert_array_equal(np.rint(255 * picture(view.noisy_db, view)), frame.display)
    scores = measure(judged(view.noisy_db, view))
    assert scores["ssim_8bit"] == pytest.approx(structural_similarity(frame.display, clean, data_range=255), abs=1e-5)
    rms = np.sqrt(np.mean((frame.display.astype(float) - clean) ** 2))
    assert scores["psnr_8bit"] == pytest.approx(20 * np.log10(255 / rms), abs=1e-6)
    dark = judged(60 * ((1 + view.noisy_db / 60) ** 2 - 1), view)
    assert scores["ssim_8bit"] < measure(dark)["ssim_8bit"] < scores["ssim_8bit_true"] < 0.9


def test_the_insonified_area_is_that_of_the_frame(make_frame):
    frame = make_frame()
    assert FrameView.of(frame).insonified.all()
    mask = np.tri(*frame.bmode.shape, dtype=np.uint8)
    sector = dataclasses.replace(frame, truth=dataclasses.replace(frame.truth, mask=mask))
    np.testing.assert_array_equal(FrameView.of(sector).insonified, mask == 1)


def test_a_frame_that_was_shown_but_does_not_tell_how_is_refused(make_frame):
    frame = make_frame()
    shown = dataclasses.replace(frame, display=np.zeros(frame.bmode.shape, np.uint8))
    with pytest.raises(DataError, match="display"):
        FrameView.of(shown)
    shown.params["scene"]["display"] = {"bits": 8}
    assert picture(np.zeros(frame.bmode.shape), FrameView.of(shown)).min() == 1.0
