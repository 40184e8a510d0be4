"""Invention, draws and removal against what was planted: blobs, bias maps, noise of known size, sinusoids."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import view_of
from scipy import ndimage

from s2s.evaluation.cases import Case
from s2s.evaluation.controls import NOISY
from s2s.evaluation.run import evaluate
from s2s.metrics import draws, invention, removal
from s2s.metrics.draws import bias_and_spread, bias_map, spread_map
from s2s.metrics.invention import structures
from s2s.metrics.judged import IMAGE, LOOK, Judged
from s2s.metrics.plane import without_plane
from s2s.metrics.removal import coarse_share

PIXEL = (0.125e-3, 0.125e-3)
SIZE = 256
ALL = np.ones((SIZE, SIZE), bool)
AXIS = np.arange(SIZE) * PIXEL[0]
#: Centres of discs in metres, (z, x), far from one another.
PLACES = [(6e-3, 6e-3), (6e-3, 16e-3), (6e-3, 26e-3), (20e-3, 8e-3), (20e-3, 24e-3)]


def blobs(contrast, radius=1e-3, places=PLACES):
    """Discs of one contrast in dB on nothing."""
    image = np.zeros((SIZE, SIZE))
    for z, x in places:
        image[np.hypot(AXIS[:, None] - z, AXIS - x) <= radius] = contrast
    return image


def speckle(seed, sigma=1.2):
    """Log-compressed fully developed speckle of about sigma pixels, mean about 0 dB."""
    random = np.random.default_rng(seed)
    field = random.normal(size=(SIZE, SIZE)) + 1j * random.normal(size=(SIZE, SIZE))
    power = np.abs(ndimage.gaussian_filter(field.real, sigma) + 1j * ndimage.gaussian_filter(field.imag, sigma)) ** 2
    return 10 * np.log10(power / power.mean()) + 2.507


def flat_view(truth=-30.0, noisy=None, **more):
    truth = np.full((SIZE, SIZE), truth) if np.isscalar(truth) else truth
    names = more.pop("names", ("tissue",))
    labels = more.pop("labels", np.zeros(truth.shape, int))
    return view_of(truth, labels, names, AXIS, AXIS, noisy_db=truth if noisy is None else noisy, **more)


def judged(view, image, looks=()):
    images = {IMAGE: image} | {f"{LOOK}{number}": look for number, look in enumerate(looks, start=1)}
    return Judged(images, dict.fromkeys(images, view))


@pytest.mark.parametrize("contrast", [-8.0, -4.0, 3.0, 6.0])
@pytest.mark.parametrize("radius", [0.75e-3, 1.5e-3])
@pytest.mark.parametrize("count", [2, 5])
def test_planted_blobs_are_counted_with_their_contrast(contrast, radius, count):
    noise = np.random.default_rng(0).normal(0, 0.3, ALL.shape)
    found = structures(blobs(contrast, radius, PLACES[:count]) + noise, ALL, PIXEL)
    assert len(found) == count
    for one in found:
        # The mean over 10 mm holds a part of the disc: a faint one loses its rim.
        assert one.contrast == pytest.approx(contrast, rel=0.14)
        assert one.area == pytest.approx(np.pi * radius**2, rel=0.36)
        assert one.gcnr > 0.85
    places = sorted(tuple(round(1e3 * at * 0.125e-3) for at in one.center) for one in found)
    assert places == sorted((round(1e3 * z), round(1e3 * x)) for z, x in PLACES[:count])


def test_their_number_is_per_square_centimetre_of_background():
    view = flat_view()
    noise = np.random.default_rng(1).normal(0, 0.3, ALL.shape)
    scores = invention.measure(judged(view, view.truth_db + blobs(-5.0) + noise))
    area = 1e4 * view.background.sum() * PIXEL[0] * PIXEL[1]
    assert scores["invented"] == pytest.approx(5 / area)
    assert scores["invented_db"] == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize(
    "residual",
    [
        np.zeros(ALL.shape),
        np.full(ALL.shape, 12.0),
        np.add.outer(np.linspace(0, 15, SIZE), np.linspace(-9, 0, SIZE)),
        np.random.default_rng(2).normal(0, 5.6, ALL.shape),
        blobs(1.0),
        blobs(8.0, radius=0.3e-3),
    ],
    ids=["nothing", "offset", "slope", "white noise", "too faint", "too small"],
)
def test_what_is_no_structure(residual):
    assert structures(residual, ALL, PIXEL) == []


def test_untouched_speckle_is_no_structure_but_what_a_blur_leaves_of_it_is():
    """Every blur draws blotches; the stronger, the fainter and fewer; more looks draw fewer."""
    noisy = speckle(3)
    assert len(structures(noisy, ALL, PIXEL)) <= 2
    counts = [len(structures(ndimage.gaussian_filter(noisy, sigma), ALL, PIXEL)) for sigma in (2, 4, 6, 10)]
    assert counts[0] > 40
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] <= 3
    average = np.mean([speckle(seed) for seed in range(3, 11)], axis=0)
    assert len(structures(ndimage.gaussian_filter(average, 2), ALL, PIXEL)) < counts[0] / 4


def test_only_background_is_searched():
    lesion = np.hypot(AXIS[:, None] - 16e-3, AXIS - 16e-3) <= 4e-3
    view = flat_view(np.where(lesion, -40.0, -30.0), labels=lesion.astype(int), names=("tissue", "cyst"))
    inside = view.truth_db + blobs(6.0, places=[(16e-3, 16e-3)])
    assert invention.measure(judged(view, inside))["invented"] == 0
    assert math.isnan(invention.measure(judged(view, inside))["invented_db"])
    assert invention.measure(judged(view, inside + blobs(6.0, places=[(6e-3, 6e-3)])))["invented"] > 0
    nowhere = flat_view(-55.0)
    assert math.isnan(invention.measure(judged(nowhere, nowhere.truth_db))["invented"])


@settings(max_examples=20, deadline=None)
@given(st.floats(-50, 50), st.floats(-20, 20), st.floats(-20, 20), st.integers(0, 99))
def test_a_plane_leaves_nothing(offset, down, right, seed):
    mask = np.random.default_rng(seed).random((20, 31)) < 0.3
    plane = offset + np.add.outer(down * np.arange(20), right * np.arange(31))
    np.testing.assert_allclose(without_plane(plane, mask), 0, atol=1e-9)
    image = np.random.default_rng(seed).normal(size=mask.shape)
    np.testing.assert_allclose(without_plane(image + plane, mask), without_plane(image, mask), atol=1e-9)
    terms = np.stack([np.ones(mask.sum()), *np.nonzero(mask)])
    np.testing.assert_allclose(terms @ without_plane(image, mask)[mask], 0, atol=1e-8)


@pytest.mark.parametrize("count", [2, 4, 16])
def test_bias_and_spread_of_known_draws(count):
    """A bias of 3 dB rms under noise of 5 dB: without the correction two draws would say 4.6 dB."""
    random = np.random.default_rng(count)
    bias = np.where(blobs(1.0, 4e-3) > 0, 1.0, -1.0)
    bias = 3.0 * (bias - bias.mean()) / bias.std()
    images = [-30.0 + bias + random.normal(0, 5.0, bias.shape) for _ in range(count)]
    ((wrong, spread),) = bias_and_spread(images, np.full(bias.shape, -30.0), ALL)
    assert wrong == pytest.approx(3.0, rel=0.02)
    assert spread == pytest.approx(5.0, rel=0.01)
    assert np.std(bias_map(images, bias - 30.0)) == pytest.approx(5.0 / math.sqrt(count), rel=0.02)
    assert np.corrcoef(bias_map(images, np.full(bias.shape, -30.0)).ravel(), bias.ravel())[0, 1] > 0.6
    assert np.sqrt(np.mean(spread_map(images) ** 2)) == pytest.approx(5.0, rel=0.01)


def test_draws_without_bias_and_without_spread():
    random = np.random.default_rng(9)
    truth = np.full(ALL.shape, -30.0)
    noise = [truth + random.normal(0, 5.0, truth.shape) for _ in range(4)]
    ((wrong, spread),) = bias_and_spread(noise, truth, ALL)
    assert wrong < 0.2
    assert spread == pytest.approx(5.0, rel=0.01)
    assert bias_and_spread([truth + 7.0] * 3, truth, ALL) == [(0.0, 0.0)]
    (nothing,) = bias_and_spread(noise, truth, ~ALL)
    assert all(map(math.isnan, nothing))


def test_one_draw_has_neither_bias_nor_spread():
    view = flat_view()
    assert draws.measure(judged(view, view.truth_db)) == {}
    assert draws.maps(judged(view, view.truth_db)) == {}


def test_a_blur_is_wrong_at_edges_and_a_constant_everywhere():
    """Blur trades spread for bias at edges; a picture that is always the same has no spread and all of the bias."""
    square = np.zeros(ALL.shape, int)
    square[80:180, 80:180] = 1
    truth = np.where(square, -18.0, -30.0)
    view = flat_view(truth, labels=square, names=("tissue", "block"))
    noisy = [truth + speckle(seed) for seed in range(4)]
    kinds = {
        "noisy": noisy,
        "weak": [ndimage.gaussian_filter(one, 2) for one in noisy],
        "strong": [ndimage.gaussian_filter(one, 6) for one in noisy],
        "constant": [np.full(truth.shape, -27.0)] * 4,
        "truth": [truth] * 4,
    }
    found = {name: draws.measure(judged(view, images[0], images[1:])) for name, images in kinds.items()}
    spread, bias, edge = (
        [found[name][key] for name in ("noisy", "weak", "strong")] for key in ("spread_db", "bias_db", "bias_edge_db")
    )
    assert spread == sorted(spread, reverse=True)
    assert spread[0] == pytest.approx(5.57, rel=0.05)
    assert bias[2] > bias[1]
    assert edge[2] > edge[1] > 1.0
    assert edge[2] > 1.5 * bias[2]
    assert found["constant"]["spread_db"] == 0
    assert found["constant"]["bias_db"] == pytest.approx(truth.std())
    assert found["truth"] == {"bias_db": 0.0, "bias_edge_db": 0.0, "spread_db": 0.0}
    shown = draws.maps(judged(view, kinds["strong"][0], kinds["strong"][1:]))
    assert {name: one.shape for name, one in shown.items()} == {"bias": ALL.shape, "spread": ALL.shape}
    assert np.abs(shown["bias"][draws.at_edges(view)]).mean() > 2 * np.abs(shown["bias"][~draws.at_edges(view)]).mean()


def test_the_maps_of_a_kept_scene_are_there_for_every_method(make_frame):
    frames = {IMAGE: make_frame(shape=(40, 32)), f"{LOOK}1": make_frame(shape=(40, 32), look=1)}
    scenes = [Case("s", 0, frames), Case("s", 1, frames)]
    found = evaluate({"half": lambda image: image / 2}, scenes)
    (picture,) = found.pictures
    assert set(picture.maps) == {"bias", "spread"}
    for one in picture.maps.values():
        assert list(one) == list(found.methods)
    np.testing.assert_allclose(picture.maps["spread"]["half"], picture.maps["spread"][NOISY] / 2, atol=1e-4)
    assert evaluate({}, [Case("s", 0, {IMAGE: frames[IMAGE]})]).pictures[0].maps == {}


@pytest.mark.parametrize(("wavelength", "share"), [(8e-3, 1.0), (4e-3, 1.0), (1e-3, 0.0), (0.5e-3, 0.0)])
@pytest.mark.parametrize("angle", [0, 30, 90])
def test_a_sinusoid_is_coarse_or_fine(wavelength, share, angle):
    along = np.cos(np.radians(angle)) * AXIS[:, None] + np.sin(np.radians(angle)) * AXIS
    image = np.sin(2 * np.pi * along / wavelength)
    assert coarse_share(image, ALL, PIXEL) == pytest.approx(share, abs=0.02)
    assert coarse_share(40.0 + image + np.add.outer(AXIS, AXIS) * 500, ALL, PIXEL) == pytest.approx(share, abs=0.02)


def test_shares_of_a_mixture_and_of_white_noise():
    """Powers of 4 and 1 make 0.8; of white noise it is the share of frequencies, a disc of those of the band."""
    mixture = 2 * np.sin(2 * np.pi * AXIS / 6e-3)[:, None] + np.sin(2 * np.pi * AXIS / 0.7e-3)
    assert coarse_share(mixture, ALL, PIXEL) == pytest.approx(0.8, abs=0.01)
    noise = [np.random.default_rng(seed).normal(size=ALL.shape) for seed in range(20)]
    shares = [coarse_share(one, ALL, PIXEL) for one in noise]
    assert np.mean(shares) == pytest.approx(np.pi * (PIXEL[0] / 2e-3) ** 2, rel=0.08)
    odd = coarse_share(mixture[:251, :251], ALL[:251, :251], PIXEL)
    assert odd == pytest.approx(0.8, abs=0.02)


def test_removed_structure_shows():
    """What should be removed is speckle; whoever takes the lesions with it has removed too much that is coarse."""
    lesions = blobs(-8.0, 3e-3)
    truth = -28.0 + ndimage.gaussian_filter(lesions, 2)
    noisy = truth + speckle(5)
    view = flat_view(truth, noisy)
    true = removal.measure(judged(view, truth))
    assert true["removed_low"] == true["removed_low_true"]
    assert 0.02 < true["removed_low_true"] < 0.3
    flat = removal.measure(judged(view, np.full(truth.shape, truth.mean())))
    assert flat["removed_low"] > true["removed_low_true"] + 0.1
    weak = removal.measure(judged(view, ndimage.gaussian_filter(noisy, 1)))
    assert weak["removed_low"] < true["removed_low_true"] / 2
    assert math.isnan(removal.measure(judged(view, noisy))["removed_low"])
    assert math.isnan(removal.measure(judged(view, noisy - 1.0))["removed_low"]) or noisy.min() < -59
    assert math.isnan(coarse_share(noisy, ~ALL, PIXEL))
