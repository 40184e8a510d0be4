"""Lesions against places without: closed forms, and tricks that must gain nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import view_of
from scipy import ndimage
from scipy.stats import norm, rankdata

from s2s.metrics.battery import METRICS, metric_of
from s2s.metrics.detection import above_chance, gcnr, measure
from s2s.metrics.judged import IMAGE, SHAM, Judged
from s2s.metrics.lesions import detectability, ideal_detectability, lesions, normal_scores, share_above

PIXEL = 0.15e-3
TISSUE = -30.0
#: Radius in mm and contrast in dB of the discs, and where they are.
DISCS = [(r, c, (8 * k - 12, z)) for r, z in ((0.5, 6), (1.5, 13)) for k, c in enumerate((-9, -3, 3, 9))]


def circle(radius, contrast, place):
    x, z = place
    return {
        "name": f"{2 * radius:g} mm {contrast:+g} dB",
        "shape": "circle",
        "center": [x * 1e-3, z * 1e-3],
        "radius": radius * 1e-3,
        "echogenicity": contrast,
    }


def scene_views():
    """Views of eight discs, of 1 and of 3 mm, and of the same places without."""
    regions = [circle(*disc) for disc in DISCS]
    x, z = (np.arange(220) - 109.5) * PIXEL, np.arange(120) * PIXEL
    labels = np.zeros((z.size, x.size), np.uint16)
    for k, region in enumerate(regions, start=1):
        labels[np.hypot(x - region["center"][0], z[:, None] - region["center"][1]) <= region["radius"]] = k
    names = ("tissue", *(region["name"] for region in regions))
    levels = np.array([0.0, *(region["echogenicity"] for region in regions)])
    views = []
    for contrast, seed in ((1.0, 1), (0.0, 2)):
        truth = TISSUE + contrast * levels[labels]
        scene = {
            "background": {"name": "tissue", "echogenicity": 0.0},
            "regions": [{**region, "echogenicity": contrast * region["echogenicity"]} for region in regions],
        }
        noisy = np.clip(truth + speckle(seed, truth.shape), -60, 0)
        views.append(view_of(truth, labels, names, x, z, noisy_db=noisy, scene=scene))
    return views


def speckle(seed, shape):
    """Fully developed speckle of 2 x 3 pixels in dB, its mean intensity being 0 dB."""
    real, imaginary = np.random.default_rng(seed).normal(size=(2, *shape))
    field = ndimage.gaussian_filter(real + 1j * imaginary, (0.8, 1.2))
    return 10 * np.log10(np.abs(field) ** 2 / np.mean(np.abs(field) ** 2))


@pytest.fixture(scope="module")
def views():
    return scene_views()


def judged(method, views):
    """What a method makes of both noisy images."""
    roles = (IMAGE, SHAM)
    images = {role: method(view.noisy_db) for role, view in zip(roles, views, strict=True)}
    return Judged(images, dict(zip(roles, views, strict=True)))


def truths(views):
    return Judged({IMAGE: views[0].truth_db, SHAM: views[1].truth_db}, dict(zip((IMAGE, SHAM), views, strict=True)))


def blur(image):
    return ndimage.gaussian_filter(image, 2)


@pytest.mark.parametrize(("contrast", "exact"), [(3, 0.249), (6, 0.471), (10, 0.697), (20, 0.945)])
def test_gcnr_of_two_rayleigh_regions(contrast, exact):
    """Envelopes of ratio 10^(contrast / 20): the closed form of their crossing, to three decimals."""
    random = np.random.default_rng(contrast)
    image = np.concatenate([random.rayleigh(size=90_000), random.rayleigh(10 ** (contrast / 20), 90_000)])[None]
    inside = (np.arange(image.size) < 90_000)[None]
    assert gcnr(image, inside, ~inside) == pytest.approx(exact, abs=0.008)


def test_every_disc_is_measured_the_smallest_too(views):
    found = lesions(views[0])
    assert [(round(1e3 * lesion.diameter / 2, 6), lesion.contrast) for lesion in found] == [d[:2] for d in DISCS]
    assert found[0].name == "1 mm -9 dB"
    for lesion in found:
        kept = lesion.region.inside.sum() * PIXEL**2 / (math.pi * (lesion.diameter / 2) ** 2)
        margin = min(0.3e-3, lesion.diameter / 8)
        assert kept == pytest.approx((1 - 2 * margin / lesion.diameter) ** 2, rel=0.2)
        assert lesion.template.sum() == pytest.approx(0, abs=1e-12)
    assert lesions(views[1]) == ()


def test_the_truth_itself_scores_one(views):
    scores = measure(truths(views))
    assert scores["gcnr"] == scores["gcnr_true"] == scores["gcnr_above_sham"] == scores["detect"] == 1
    assert scores["gcnr_sham"] == scores["gcnr_skipped"] == 0
    named = [f"{family}/{2 * r:g} mm {c:+g} dB" for family in ("gcnr", "detect") for r, c, _ in DISCS]
    assert [scores[name] for name in named] == [1] * 16


def test_every_score_is_defined_and_all_metrics_are_made(views):
    scores = measure(judged(np.copy, views))
    assert {metric_of(name).group for name in scores} == {"detection"}
    families = {name if name in METRICS else f"{name.partition('/')[0]}/" for name in scores}
    assert families == {metric.name for metric in METRICS.values() if metric.group == "detection"}


def test_without_an_image_of_tissue_there_are_no_such_scores(views):
    alone = measure(Judged({IMAGE: views[0].noisy_db}, {IMAGE: views[0]}))
    assert not [name for name in alone if "sham" in name or "detect" in name]
    assert alone["gcnr/1 mm -9 dB"] == measure(judged(np.copy, views))["gcnr/1 mm -9 dB"]


@pytest.mark.parametrize("curve", [lambda a: 60 * ((a / 60 + 1) ** 2 - 1), lambda a: 0.3 * a - 5, np.tanh])
def test_a_rising_curve_changes_nothing(views, curve):
    curved = measure(judged(lambda image: curve(blur(image) / (60 if curve is np.tanh else 1)), views))
    assert curved == pytest.approx(measure(judged(blur, views)))


def test_blobs_painted_into_speckle_raise_gcnr_and_nothing_else(views):
    """Smooth blobs that know nothing of the image: chance alone gives them a high gCNR."""
    seeds = iter(range(1000))

    def paint(image):
        return -30 + 40 * ndimage.gaussian_filter(np.random.default_rng(next(seeds)).normal(size=image.shape), 6)

    found = [measure(judged(paint, views)) for _ in range(40)]
    mean = {name: np.mean([one[name] for one in found]) for name in ("gcnr", "gcnr_above_sham", "detect")}
    noisy = measure(judged(np.copy, views))
    assert mean["gcnr"] > noisy["gcnr"]
    assert mean["gcnr_above_sham"] == pytest.approx(0, abs=0.06)
    assert mean["gcnr_above_sham"] < noisy["gcnr_above_sham"] - 0.2
    assert mean["detect"] == pytest.approx(0.5, abs=0.06)


def test_ripples_on_top_of_a_good_image_cost(views):
    clean = measure(truths(views))
    images = {
        role: view.truth_db + 2 * blur(speckle(seed, view.truth_db.shape))
        for seed, (role, view) in enumerate(truths(views).views.items(), start=5)
    }
    painted = measure(Judged(images, truths(views).views))
    assert painted["gcnr_above_sham"] < clean["gcnr_above_sham"] - 0.05


@pytest.mark.parametrize("trick", [
    lambda image: np.where(image < -35, -60.0, image),
    lambda image: np.where(image > -28, 0.0, -60.0),
    lambda image: np.clip(4 * (image + 30) - 30, -60, 0),
    lambda image: ndimage.gaussian_filter(image, 4),
])  # fmt: skip
def test_tricks_do_not_make_lesions_easier_to_find(views, trick):
    assert measure(judged(trick, views))["detect"] <= measure(judged(np.copy, views))["detect_ideal"] + 0.03


def test_a_constant_image_knows_nothing(views):
    scores = measure(judged(lambda image: np.full(image.shape, -30.0), views))
    assert scores["gcnr"] == scores["gcnr_above_sham"] == 0
    assert scores["detect"] == 0.5


def test_what_looks_alike_everywhere_has_no_score_above_chance():
    assert above_chance(0.4, 0.4) == 0
    assert above_chance(0.0, 0.5) == -1
    assert math.isnan(above_chance(1.0, 1.0))


def test_an_image_without_lesions_is_judged_at_chance(views):
    """The sham's own speckle in another draw: what is compared is alike, so that half of it is above."""
    shares, names = [], [lesion.name for lesion in lesions(views[0])]
    for seed in range(60):
        shares += detectability(speckle(2 * seed, (120, 220)), speckle(2 * seed + 1, (120, 220)), views[0])
    assert len(shares) == 60 * len(names)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shift", [0.3, 1.0])
def test_detectability_of_gaussian_noise(views, shift):
    """Means of n and m independent normal values are d' = shift / sqrt(1/n + 1/m) apart: Phi(d' / sqrt 2)."""
    view, random = views[0], np.random.default_rng(4)
    small = [lesion for lesion in lesions(view) if lesion.diameter < 2e-3]
    expected = []
    for lesion in small:
        n, m = lesion.region.inside.sum(), lesion.region.ring.sum()
        expected.append(norm.cdf(shift / math.sqrt(1 / n + 1 / m) / math.sqrt(2)))
    levels = np.where(view.labels > 0, np.where(view.truth_db > TISSUE, shift, -shift), 0.0)
    drawn = [
        detectability(random.normal(size=levels.shape) + levels, random.normal(size=levels.shape), view)[: len(small)]
        for _ in range(400)
    ]
    assert np.mean(drawn) == pytest.approx(np.mean(expected), abs=0.015)


def test_the_ideal_is_no_worse_than_decibels(views):
    """What is asked of the noisy image is its mean intensity: the best that can be asked of speckle."""
    ideal, measured = [], []
    for seed in range(30):
        first, second = (
            view_of(v.truth_db, v.labels, v.label_names, v.x, v.z, scene=v.scene,
                    noisy_db=v.truth_db + speckle(3 * seed + k, v.truth_db.shape))
            for k, v in enumerate(views)
        )  # fmt: skip
        ideal.append(np.mean(ideal_detectability(first, second)))
        measured.append(np.mean(detectability(first.noisy_db, second.noisy_db, first)))
    assert 0.8 < np.mean(measured) <= np.mean(ideal) + 0.005


@settings(max_examples=40)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=30), st.lists(st.integers(-6, 6), min_size=1, max_size=30))
def test_normal_scores_are_quantiles_of_ranks(tissue, levels):
    scores = normal_scores(np.array([levels], float), np.array([tissue], float))
    for level, score in zip(levels, scores[0], strict=True):
        # The mid-rank of the level when it is put among tissue's.
        rank = rankdata([*tissue, level])[-1]
        assert norm.cdf(score) == pytest.approx((rank - 0.5) / (len(tissue) + 1))
    same = normal_scores(np.array([tissue], float), np.array([tissue], float))
    assert (np.diff(same[0][np.argsort(tissue)]) >= 0).all()


def test_share_above_counts_ties_half():
    assert share_above(1.0, [0.0, 1.0, 2.0, 2.0]) == 0.375
    assert share_above(1.0, [1.0]) == 0.5
