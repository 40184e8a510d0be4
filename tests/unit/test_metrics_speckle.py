"""What is left of speckle, against closed forms: SNR 1.913, looks, and widths of blurred noise; planes never count."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import smooth, speckle, view_of
from scipy import ndimage

from s2s.metrics.battery import METRICS, judged
from s2s.metrics.speckle import RAYLEIGH_SNR, detrended, enl, grain, measure, snr

SHAPE = (256, 256)
EVERYWHERE = np.ones(SHAPE, bool)


def plane(offset=-7.0, down=30.0, across=-12.0, shape=SHAPE):
    """An offset and a tilt in dB over the image."""
    rows, columns = np.indices(shape)
    return offset + down * rows / shape[0] + across * columns / shape[1]


def ragged(seed=0, shape=SHAPE):
    """An irregular mask of about half of the image."""
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 9) > 0


def scene(truth, **others):
    z, x = (np.arange(size) * 1e-4 for size in truth.shape)
    labels = np.zeros(truth.shape, np.uint16)
    noisy = np.clip(truth + speckle(1, truth.shape), -60, 0)
    return view_of(truth, labels, ("tissue",), x, z, **{"noisy_db": noisy, **others})


@pytest.mark.parametrize("mask", [EVERYWHERE, ragged()], ids=["everywhere", "ragged"])
def test_snr_of_full_speckle_on_a_tilted_plane(mask):
    image = plane() + speckle(3, SHAPE)
    assert pytest.approx(1.913, abs=1e-3) == RAYLEIGH_SNR
    assert snr(detrended(image, mask), mask) == pytest.approx(RAYLEIGH_SNR, rel=0.015)
    assert snr(image, mask) < 1.2
    assert enl(detrended(image, mask), mask) == pytest.approx(1.0, rel=0.03)
    assert enl(image, mask) < 0.5


@pytest.mark.parametrize("looks", [4, 25])
def test_enl_counts_looks(looks):
    image = plane() + speckle(looks, SHAPE, looks)
    rest = detrended(image, EVERYWHERE)
    assert enl(rest, EVERYWHERE) == pytest.approx(looks, rel=0.05)
    # The amplitude of L looks: Nakagami's law with m = L.
    ratio = math.exp(2 * (math.lgamma(looks + 0.5) - math.lgamma(looks))) / looks
    assert snr(rest, EVERYWHERE) == pytest.approx(math.sqrt(ratio / (1 - ratio)), rel=0.03)


@settings(max_examples=20, deadline=None)
@given(st.floats(-50, 50), st.floats(-60, 60), st.floats(-60, 60), st.integers(0, 5))
def test_planes_and_offsets_change_nothing(offset, down, across, seed):
    shape = (64, 48)
    mask, level = ragged(seed, shape), speckle(seed, shape)
    plain, tilted = detrended(level, mask), detrended(level + plane(offset, down, across, shape), mask)
    np.testing.assert_allclose(tilted, plain, atol=1e-9)
    np.testing.assert_allclose(detrended(plain, mask), plain, atol=1e-9)
    assert (plain[~mask] == 0).all()


def test_what_is_outside_the_mask_never_counts():
    mask, level = ragged(), ndimage.gaussian_filter(speckle(4, SHAPE), 1)
    spoilt = np.where(mask, level, 1e3)
    for metric in (snr, enl, lambda *one: grain(*one, (1.0, 1.0))):
        assert metric(detrended(spoilt, mask), mask) == metric(detrended(level, mask), mask)


@pytest.mark.parametrize("sigma", [(1.5, 3.0), (4.0, 2.0)])
@pytest.mark.parametrize("mask", [EVERYWHERE, ragged()], ids=["everywhere", "ragged"])
def test_grain_of_blurred_white_noise(sigma, mask):
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=SHAPE), sigma)
    axial, lateral = grain(detrended(noise, mask), mask, (0.1, 0.2))
    width = 2 * math.sqrt(2 * math.log(2)) * math.sqrt(2)
    assert axial == pytest.approx(width * sigma[0] * 0.1, rel=0.06)
    assert lateral == pytest.approx(width * sigma[1] * 0.2, rel=0.06)


def test_grain_of_white_noise_is_one_pixel_and_of_columns_is_without_end():
    noise = np.random.default_rng(6).normal(size=SHAPE)
    axial, lateral = grain(noise, EVERYWHERE, (1.0, 1.0))
    assert axial == pytest.approx(1.0, abs=0.05)
    assert lateral == pytest.approx(1.0, abs=0.05)
    axial, lateral = grain(np.ones((256, 1)) * noise[:1], EVERYWHERE, (1.0, 1.0))
    assert math.isnan(axial)
    assert lateral == pytest.approx(1.0, abs=0.2)


def test_grain_is_the_definition_pair_by_pair():
    """Against sums over all pairs inside a ragged mask, written out."""
    shape, mask = (40, 30), np.random.default_rng(2).uniform(size=(40, 30)) < 0.6
    rest = np.where(mask, ndimage.gaussian_filter(speckle(7, shape), (2, 1)), 0.0)
    rest[mask] -= rest[mask].mean()
    sums = []
    for lag in range(9):
        pairs = [(rest[r, c], rest[r + lag, c]) for r in range(40 - lag) for c in range(30)
                 if mask[r, c] and mask[r + lag, c]]  # fmt: skip
        sums.append(np.mean([a * b for a, b in pairs]))
    k = int(np.argmax(np.array(sums) <= sums[0] / 2))
    wanted = 2 * np.interp(-sums[0] / 2, [-sums[k - 1], -sums[k]], [k - 1, k])
    assert grain(rest, mask, (1.0, 1.0))[0] == pytest.approx(wanted)


def test_nothing_left_and_nothing_to_see():
    nothing = detrended(plane(), EVERYWHERE)
    assert snr(nothing, EVERYWHERE) == enl(nothing, EVERYWHERE) == math.inf
    assert all(map(math.isnan, grain(nothing, EVERYWHERE, (1.0, 1.0))))
    level = speckle(8, SHAPE)
    nowhere = detrended(level, ~EVERYWHERE)
    assert math.isnan(snr(nowhere, ~EVERYWHERE))
    assert math.isnan(enl(nowhere, ~EVERYWHERE))
    assert all(map(math.isnan, grain(nowhere, ~EVERYWHERE, (1.0, 1.0))))
    assert np.isfinite(enl(level + 1e4 * (level > 0), EVERYWHERE))


def test_true_changes_of_brightness_are_no_speckle():
    truth = smooth(size=256)
    scores = measure(judged(truth + speckle(9, truth.shape), scene(truth)))
    assert scores["enl"] == pytest.approx(1.0, rel=0.1)
    assert scores["snr"] == pytest.approx(RAYLEIGH_SNR, rel=0.05)


def test_the_truth_has_nothing_left_also_on_another_level_or_slope():
    truth = np.full(SHAPE, -30.0)
    view = scene(truth)
    for image in (truth, truth - 4.0, truth + plane(0.0, 5.0, 5.0)):
        scores = measure(judged(image.astype(np.float32), view))
        assert scores["snr"] == scores["enl"] == math.inf
        assert math.isnan(scores["grain_axial_mm"])
        assert scores["grain_axial_noisy_mm"] == pytest.approx(0.1, rel=0.1)


def test_blur_widens_the_grain():
    view = scene(np.full(SHAPE, -30.0))
    found = [measure(judged(ndimage.gaussian_filter(view.noisy_db, s), view)) for s in (0, 1, 2, 4)]
    for one, two in itertools.pairwise(found):
        assert one["grain_axial_mm"] < two["grain_axial_mm"]
        assert one["grain_lateral_mm"] < two["grain_lateral_mm"]
        assert one["enl"] < two["enl"]
        assert one["snr"] < two["snr"]
    assert found[0]["grain_axial_mm"] == found[0]["grain_axial_noisy_mm"]
    assert {scores["grain_lateral_noisy_mm"] for scores in found} == {found[0]["grain_lateral_noisy_mm"]}


def test_a_curve_that_compresses_greys_gains_snr_and_looks_and_the_metrics_say_so():
    view = scene(np.full(SHAPE, -40.0))
    plain, pale = (measure(judged(image, view)) for image in (view.noisy_db, -20 + view.noisy_db / 2))
    for name in ("snr", "enl"):
        assert pale[name] > 1.5 * plain[name]
        assert "curve" in METRICS[name].fooled_by


def test_where_there_is_no_speckle_to_judge_the_metrics_say_what_they_need():
    view = scene(np.full((30, 30), -30.0))
    assert not view.background.any()
    scores = measure(judged(view.noisy_db, view))
    assert set(scores) == {name for name, metric in METRICS.items() if metric.group == "speckle left"}
    for name, value in scores.items():
        assert math.isnan(value)
        assert "background" in METRICS[name].needs
