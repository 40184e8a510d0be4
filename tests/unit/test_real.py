"""Images without truth: measures against closed forms, tricks that must lose something, bad input, and the command."""

import itertools
import json
import math
import pickle
import re

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from speckled import FIELD, decibel, disc, intensity

import usim
from s2s.cli import main
from s2s.evaluation import real
from s2s.evaluation.controls import NOISY, controls
from s2s.evaluation.files import functions, load_denoisers
from s2s.evaluation.real import RealJob, evaluate_real, judge_image
from s2s.evaluation.real_images import RealImages
from s2s.images import Stated
from s2s.metrics.fidelity import psnr, tone_fit
from s2s.metrics.no_truth import edges, removed, speckle
from s2s.metrics.no_truth.agreement import median_image, rms
from s2s.metrics.no_truth.battery import METRICS, score
from s2s.metrics.no_truth.seen import Areas, Edges, Output, Seen, find_areas
from s2s.metrics.no_truth.tone import curve_fit
from usim.errors import ConfigError, DataError
from usim.generate import generate

#: FWHM of the speckle's intensity autocovariance: that of the field's, squared, for Gaussians.
CELL = tuple(2.0 * math.sqrt(math.log(2.0) * 2.0) * sigma for sigma in FIELD)
STATED = Stated("log", 60.0, 255.0)


def grey(image_db):
    return np.rint((image_db / 60.0 + 1.0) * 255.0).astype(np.uint8)


@pytest.fixture(scope="module")
def plain():
    return Seen(decibel(intensity((192, 192), 1)), 60.0)


@pytest.fixture(scope="module")
def levels():
    return disc()[0]


@pytest.fixture(scope="module")
def seen(levels):
    return Seen(decibel(intensity(levels.shape, 2), levels), 60.0)


@pytest.fixture(scope="module")
def noisy(seen):
    return score(Output(seen.noisy_db, seen))


def scores_of(image, seen):
    return score(Output(image, seen))


# Where is measured


def test_pure_speckle_is_found_as_what_it_is(plain):
    assert plain.cell == pytest.approx(CELL, rel=0.12)
    assert plain.speckle_db == pytest.approx(5.57, rel=0.06)
    assert len(plain.areas.corners) >= 20
    assert plain.edges is None
    assert len(plain.missing) == 1
    assert "nothing is said of edges" in plain.missing[0]


def test_areas_keep_off_borders_and_edges_lie_on_them(seen):
    _, mask = disc()
    distance = np.where(mask, ndimage.distance_transform_edt(mask), -ndimage.distance_transform_edt(~mask))
    covered = seen.areas.mask(mask.shape)
    border = np.abs(distance) < 2.0
    assert (covered & border).sum() < 0.02 * covered.sum()
    rows, columns = seen.edges.points.astype(int).T
    assert np.median(np.abs(distance[rows, columns])) < 3.0
    assert np.quantile(np.abs(distance[rows, columns]), 0.95) < 8.0
    outwards = seen.edges.points - (np.array(mask.shape) - 1) / 2.0
    assert ((outwards * seen.edges.across).sum(axis=1) > 0).mean() > 0.95, "across points to the bright side"


def test_dark_white_and_layered_places_are_no_areas():
    power = intensity((192, 192), 3)
    level = np.full(power.shape, -25.0)
    level[:, :64], level[:, 128:] = -56.0, -3.0
    columns = find_areas(decibel(power, level), 60.0, CELL).corners[:, 1]
    assert columns.min() >= 56
    assert columns.max() <= 124
    layers = 8.0 * np.sin(np.arange(192) * 2 * np.pi / 6.0)[:, None]
    with pytest.raises(DataError, match="take it in full size"):
        find_areas(np.clip(layers + 0.2 * decibel(power) - 20.0, -60, 0), 60.0, CELL)


def test_what_has_no_speckle_is_refused_with_a_reason_and_the_rest_is_measured():
    z, x = np.mgrid[:128, :128] / 128.0
    for image in (-60.0 * z, -20.0 - 10.0 * np.sin(7 * x) * z, np.where(x > 0.5, -10.0, -40.0) + 1e-3 * z):
        nothing = Seen(image, 60.0)
        assert nothing.areas is None
        assert nothing.edges is None
        assert nothing.missing
        assert all(re.search(r"take it in full size|larger picture|speckle", reason) for reason in nothing.missing)
        found = scores_of(ndimage.gaussian_filter(image, 2), nothing)
        assert set(found) == set(METRICS) - {"to_median", "between/"}
        measured = {name for name, value in found.items() if not math.isnan(value)}
        assert measured == {"bias", "black", "white", "hom"}


def test_an_image_that_was_smoothed_before_has_no_areas(plain):
    smooth = ndimage.gaussian_filter(plain.noisy_db, 8)
    assert Seen(smooth, 60.0).areas is None


def test_an_edge_that_leaves_the_image_is_not_used(seen):
    for sign in (-4, 4):
        ends = seen.edges.points + sign * seen.edges.across
        assert (ends >= 0).all()
        assert (ends <= 191).all()


# Closed forms


@pytest.mark.parametrize("looks", [1, 4, 16])
def test_enl_is_the_number_of_looks(plain, looks):
    power = np.mean([intensity((192, 192), 100 + k) for k in range(looks)], axis=0)
    slope = np.linspace(0, 6, 192)[:, None]
    image = 10 * np.log10(power) - 30 + slope
    assert speckle.area_enl(image, plain.areas) == pytest.approx(looks, rel=0.2)


def test_snr_is_that_of_rayleigh(plain):
    image = 10 * np.log10(intensity((192, 192), 7))
    assert speckle.area_snr(image, plain.areas) == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.06)


def test_nothing_that_varies_has_endless_looks(plain):
    flat = np.full((192, 192), -20.0)
    assert speckle.area_enl(flat, plain.areas) == math.inf
    assert speckle.area_snr(flat, plain.areas) == math.inf
    assert speckle.grey_enl(flat, plain.areas, 60.0) == math.inf
    assert speckle.grey_enl(np.full((192, 192), -60.0), plain.areas, 60.0) == math.inf


def test_grey_enl_of_known_levels():
    areas = Areas(np.array([[0, 0], [0, 20]]), (20, 20))
    checks = np.where(np.indices((20, 40)).sum(axis=0) % 2, 0.6, 0.4)
    assert speckle.grey_enl(60.0 * (checks - 1.0), areas, 60.0) == pytest.approx(0.25 / 0.01, rel=1e-3)


def test_planes_are_taken_off(plain):
    z, x = np.mgrid[:192, :192]
    assert np.abs(plain.areas.rest(3.0 + 0.1 * z - 0.2 * x)).max() < 1e-9


def straight(cell):
    """A vertical edge in the middle of an image, its points and the step across it."""
    rows = np.arange(40, 150, dtype=float)
    return Edges(np.stack([rows, np.full(len(rows), 95.0)], axis=1), np.tile([0.0, cell], (len(rows), 1)))


def test_slope_and_width_of_a_ramp():
    ramp = np.tile(np.clip((np.arange(191) - 95.0) * 1.5, -60, 60), (191, 1)) - 30.0
    found = straight(4.0)
    profile = found.profile(ramp)
    assert edges.slope(profile, found.offsets) == pytest.approx(6.0)
    assert edges.width(profile, found.offsets) == pytest.approx(6.0)
    assert math.isnan(edges.width(-profile, found.offsets))
    assert math.isnan(edges.width(0.05 * profile, found.offsets))


@pytest.mark.parametrize("sigma", [2.0, 4.0, 6.0])
def test_slope_of_a_blurred_step(sigma):
    """The weighted slope of an error function: a Gaussian of both widths."""
    found = straight(4.0)
    step = np.tile(30.0 * stats.norm.cdf((np.arange(191) - 95.0) / sigma), (191, 1))
    steep = edges.slope(found.profile(step), found.offsets)
    expected = 30.0 / math.sqrt(2 * math.pi) / math.hypot(sigma / 4.0, edges.SLOPE)
    assert steep == pytest.approx(expected, rel=0.02)


def test_half_width_of_a_gaussian_autocovariance():
    noise = np.random.default_rng(5).normal(size=(30, 90, 90))
    smooth = ndimage.gaussian_filter(noise, (0, 2.0, 3.0), mode="wrap")
    down, right = removed.half_width(smooth)
    assert (down, right) == pytest.approx([2 * s * math.sqrt(math.log(2)) for s in (2.0, 3.0)], rel=0.05)
    assert math.isnan(removed.half_width(np.zeros((2, 9, 9)))[0])


def test_speckle_as_it_was_has_the_width_and_the_little_share_of_low_frequencies_that_speckle_has(seen):
    alone = decibel(intensity((192, 192), 9), -30.0, 90.0)
    assert removed.relative_width(alone, seen.noisy_db, seen.areas) == pytest.approx(1.0, abs=0.1)
    assert removed.low_share(alone, seen.smoothed(alone)) < 0.04
    assert removed.low_share(alone * 0, alone) != removed.low_share(alone * 0, alone), "nan"


def test_agreement():
    one, other = np.zeros((4, 4)), np.full((4, 4), 3.0)
    assert rms(one, other) == 3.0
    assert median_image([one, other]) is None
    np.testing.assert_array_equal(median_image([one, other, other]), other)


# What the truth has, and what tricks get


def test_the_truth_is_near_the_best_of_everything(levels, seen, noisy):
    """Levels less the bias of the logarithm: the image that a perfect method makes."""
    best = scores_of(levels - 2.507, seen)
    assert best["area_enl"] > 1e3
    assert best["edge_kept"] == pytest.approx(1.0, abs=0.12)
    assert best["edge_width"] == pytest.approx(1.0, abs=0.12)
    assert best["removed_std"] == pytest.approx(1.0, abs=0.02)
    assert best["removed_width"] == pytest.approx(1.0, abs=0.05)
    assert best["removed_low"] < 0.05
    assert best["removed_edges"] < 1.2
    assert best["bias"] == pytest.approx(0.0, abs=0.3)
    assert best["edge_noise"] > 10 * noisy["edge_noise"]


def test_the_untouched_image_has_its_edges_and_its_speckle(noisy):
    assert noisy["area_enl"] == pytest.approx(1.0, rel=0.15)
    assert noisy["area_enl_fit"] == pytest.approx(noisy["area_enl"])
    assert (noisy["edge_kept"], noisy["edge_width"]) == pytest.approx((1.0, 1.0))
    assert noisy["bias"] == 0.0
    for name in ("removed_std", "removed_width", "removed_low", "removed_edges", "removed_follows"):
        assert math.isnan(noisy[name])


def test_a_blur_raises_looks_and_hom_and_pays_with_edges(seen, noisy):
    found = [scores_of(ndimage.gaussian_filter(seen.noisy_db, sigma), seen) for sigma in (1, 2, 4, 6)]
    course = [noisy, *found]
    for rising in ("area_enl", "area_enl_fit", "area_snr_fit", "grey_enl", "hom"):
        values = [one[rising] for one in course]
        assert values == sorted(values), f"fooled_by says so: {rising}"
        assert "blur" in METRICS[rising].fooled_by
    for name, sign in (("edge_kept", -1), ("edge_width", 1), ("removed_edges", 1)):
        values = [sign * one[name] for one in found]
        assert values == sorted(values), name
    assert found[-1]["edge_kept"] < 0.6
    assert found[1]["edge_noise"] > 2.0 * noisy["edge_noise"]
    assert found[-1]["removed_edges"] > 4.0


def test_a_display_curve_changes_looks_and_hom_and_nothing_that_is_fitted(seen, noisy):
    """Gamma 2 on the grey levels, and a flat curve, of the same image."""
    level = seen.noisy_db / 60.0 + 1.0
    dark, flat = (scores_of(60.0 * (curve - 1.0), seen) for curve in (level**2, 0.7 + 0.2 * level))
    assert dark["area_enl"] < 0.8 * noisy["area_enl"]
    assert flat["area_enl"] > 5.0 * noisy["area_enl"]
    assert dark["grey_enl"] < 0.5 * noisy["grey_enl"] < 5.0 * noisy["grey_enl"] < flat["grey_enl"]
    assert flat["hom"] > noisy["hom"]
    for name in ("area_enl_fit", "area_snr_fit", "edge_kept", "edge_width", "edge_noise"):
        assert dark[name] == pytest.approx(noisy[name], rel=1e-3), name
        assert flat[name] == pytest.approx(noisy[name], rel=1e-3), name


@settings(max_examples=12, deadline=None)
@given(power=st.floats(0.6, 1.7), gain=st.floats(0.3, 0.9), offset=st.floats(0.0, 0.1), blur=st.floats(0.7, 3.0))
def test_no_gamma_gain_or_offset_changes_a_fitted_measure(power, gain, offset, blur):
    levels = disc(96)[0]
    noisy = decibel(intensity(levels.shape, 4), levels)
    image = ndimage.gaussian_filter(noisy, blur)
    curved = 60.0 * (offset + gain * (image / 60.0 + 1.0) ** power - 1.0)
    one = curve_fit(image, noisy, 60.0, CELL)
    if offset < 1e-3:  # an offset within the power is another curve
        np.testing.assert_allclose(curve_fit(curved, noisy, 60.0, CELL), one, atol=0.05)
    straight = 60.0 * (offset + gain * (image / 60.0 + 1.0) - 1.0)
    assert rms(curve_fit(straight, noisy, 60.0, CELL), one) < 0.3


def test_the_curve_fit_leaves_the_untouched_image_and_a_blur_as_they_are(seen):
    """A curve that is fitted to pixels makes a step out of a blurred one, in an image of two levels."""
    np.testing.assert_allclose(curve_fit(seen.noisy_db, seen.noisy_db, 60.0, seen.cell), seen.noisy_db, atol=1e-9)
    blurred = ndimage.gaussian_filter(seen.noisy_db, 5)
    assert rms(curve_fit(blurred, seen.noisy_db, 60.0, seen.cell), blurred) < 0.7
    flat = curve_fit(np.full((192, 192), -20.0), seen.noisy_db, 60.0, seen.cell)
    assert np.ptp(flat) == 0.0
    upside_down = curve_fit(-60.0 - blurred, seen.noisy_db, 60.0, seen.cell)
    assert np.ptp(upside_down) == 0.0


def test_brightening_raises_the_grey_enl_alone(seen, noisy):
    bright = scores_of(np.minimum(seen.noisy_db + 12.0, 0.0), seen)
    assert bright["grey_enl"] > 1.5 * noisy["grey_enl"]
    assert bright["bias"] > 8.0
    assert bright["area_enl_fit"] == pytest.approx(noisy["area_enl_fit"], rel=0.1)
    assert bright["white"] > noisy["white"]


def test_thresholding_to_black_is_seen(seen, noisy):
    cut = scores_of(np.where(seen.noisy_db < -30.0, -60.0, seen.noisy_db), seen)
    assert cut["black"] > noisy["black"] + 10.0
    assert cut["hom"] > noisy["hom"]
    assert cut["bias"] < -1.0


def test_leaving_the_speckle_in_keeps_edges_and_has_no_looks(seen, noisy):
    little = scores_of(0.9 * seen.noisy_db + 0.1 * ndimage.gaussian_filter(seen.noisy_db, 3), seen)
    assert little["edge_kept"] == pytest.approx(1.0, abs=0.05)
    assert little["removed_edges"] < 1.0
    assert little["area_enl_fit"] < 1.4
    assert little["removed_std"] < 0.2
    for name in ("edge_kept", "edge_width", "removed_edges"):
        assert "leaving the speckle in" in METRICS[name].fooled_by


def test_sharpening_keeps_more_than_there_was(seen):
    image = ndimage.gaussian_filter(seen.noisy_db, 1.5)
    sharp = image + 2.0 * (image - ndimage.gaussian_filter(image, 5))
    assert scores_of(sharp, seen)["edge_kept"] > 1.03 * scores_of(image, seen)["edge_kept"]
    assert "sharpening" in METRICS["edge_kept"].fooled_by


def test_flattening_all_but_edges_wins_the_edge_to_noise_ratio(levels, seen):
    """Two grey levels: what is left of the tissue is a stencil of its strongest edge."""
    stencil = np.where(ndimage.gaussian_filter(seen.noisy_db, 3) > -34.0, -20.0, -45.0)
    found = scores_of(stencil, seen)
    assert found["edge_noise"] > 5.0 * scores_of(ndimage.gaussian_filter(seen.noisy_db, 3), seen)["edge_noise"]
    assert "flattening" in METRICS["edge_noise"].fooled_by


def test_a_constant_output_keeps_nothing(seen):
    found = scores_of(np.full(seen.noisy_db.shape, -20.0), seen)
    assert found["edge_kept"] == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(found["edge_width"])
    assert found["area_enl"] == math.inf
    assert found["edge_noise"] == math.inf
    assert found["removed_edges"] > 5.0


def test_every_metric_that_a_trick_raises_says_so_and_names_no_winner():
    for metric in METRICS.values():
        assert metric.fooled_by or metric.better == "none", metric.name
        assert metric.meaning


def test_methods_agree_or_not_whatever_their_curves(seen):
    blurred = ndimage.gaussian_filter(seen.noisy_db, 2)
    methods = {
        "a": lambda image: ndimage.gaussian_filter(image, 2),
        "b": lambda image: 60.0 * ((ndimage.gaussian_filter(image, 2) / 60.0 + 1.0) ** 1.5 - 1.0),
        "c": lambda image: ndimage.gaussian_filter(image, 3),
    }
    everyone = {**methods, **{name: one for name, one in controls().items() if name == NOISY}}
    _, rows, failures = judge_image(everyone, seen.noisy_db.astype(np.float32), seen, "s", 0)
    found = {row.method: row.scores for row in rows}
    assert not failures
    assert found["a"]["between/b"] == found["b"]["between/a"] < 0.02
    assert found["a"]["between/c"] > 0.3
    assert found["a"]["to_median"] < 0.02 < found["c"]["to_median"] < found[NOISY]["to_median"]
    apart = rms(curve_fit(blurred, seen.noisy_db, 60.0, seen.cell), seen.noisy_db)
    assert found["a"][f"between/{NOISY}"] == pytest.approx(apart, rel=1e-3)


def test_what_is_seen_in_the_residual_tells_the_truth_among_blurs():
    """On a simulated frame, where PSNR is known: looks and Hom go on rising after the best blur, edges do not."""
    frame = usim.simulate("evaluation/shadows", seed=4)
    seen = Seen(np.clip(frame.bmode, -60, 0).astype(np.float64), 60.0)
    made = [ndimage.gaussian_filter(seen.noisy_db, sigma) for sigma in (1, 2, 3, 4, 6, 9, 13)]
    found = [scores_of(image, seen) for image in made]
    true = np.array([psnr(tone_fit(image, frame.truth.bmode, 60.0), frame.truth.bmode, 60.0) for image in made])
    best = int(true.argmax())
    assert 0 < best < len(made) - 1
    for name in ("area_enl_fit", "hom"):
        assert max(range(len(found)), key=lambda k: found[k][name]) > best
    later = [one["removed_edges"] for one in found[best:]]
    assert later == sorted(later)


@pytest.mark.slow
def test_among_filters_the_residual_orders_as_the_truth_does_and_the_residuals_spectrum_does_not():
    """The table of docs/evaluation.md, with filters and frames enough to see it."""
    methods = functions(load_denoisers(["nlm", "srad", "lee", "kuan", "frost", "median", "gaussian:sigma=3"]))
    found = {"removed_edges": [], "edge_kept": [], "removed_low": []}
    frames = [next(usim.stream(name, seed=77)) for name in ("evaluation/shadows", "evaluation/contrast-ladder")]
    for frame in frames:
        image, truth = np.clip(frame.bmode, -60, 0), frame.truth.bmode
        seen = Seen(image.astype(np.float64), 60.0)
        made = [method(image) for method in methods.values()]
        rows = [scores_of(one, seen) for one in made]
        true = [psnr(tone_fit(one, truth, 60.0), truth, 60.0) for one in made]
        badness = {
            "removed_edges": [row["removed_edges"] for row in rows],
            "edge_kept": [abs(row["edge_kept"] - 1.0) for row in rows],
            "removed_low": [abs(row["removed_low"] - 0.022) for row in rows],
        }
        for name, values in badness.items():
            found[name].append(-stats.spearmanr(values, true).statistic)
    assert np.mean(found["removed_edges"]) > 0.6
    assert np.mean(found["edge_kept"]) > 0.5
    assert np.mean(found["removed_low"]) < 0.5


# The run


def write_images(folder, count=2, side=96):
    folder.mkdir(exist_ok=True)
    levels = disc(side)[0]
    for k in range(count):
        image = decibel(intensity((side, side), 20 + k), levels)
        PIL.Image.fromarray(grey(image)).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("scans") / "clips", 3)


def blur(image):
    return ndimage.gaussian_filter(image, 2)


@pytest.fixture(scope="module")
def result(folder):
    methods = {"blur": blur, "<i>&": np.copy, "soft": lambda image: ndimage.gaussian_filter(image, 1)}
    return evaluate_real(methods, RealImages.of(folder, STATED), pictures=1, about={"images": "3"})


def test_all_methods_and_all_controls_on_the_same_images(result):
    evaluation = result.evaluation
    assert evaluation.methods == ("blur", "<i>&", "soft", *controls())
    assert {(row.suite, row.scene) for row in evaluation.rows} == {("clips", 0), ("clips", 1), ("clips", 2)}
    for metric in ("area_enl", "hom", "black"):
        np.testing.assert_array_equal(evaluation.values(NOISY, metric), evaluation.values("<i>&", metric))
    assert [found.shape for found in result.images] == [(96, 96)] * 3
    assert len(result.sights) == 1
    assert set(result.sights[0].images) == set(evaluation.methods)
    assert result.between.shape == (4, 4)
    np.testing.assert_allclose(result.between, result.between.T)
    assert result.evaluation.mean("blur", "hom").low < result.evaluation.mean("blur", "hom").mean


def test_the_table_says_what_can_be_said_first(result):
    text = real.table(result)
    assert text.startswith(real.CAN)
    assert "No winner is named" in text.splitlines()[1]
    assert re.search(r"^blur +\d", text, re.MULTILINE)
    assert "frames of one clip are alike" in text
    assert re.search(r"^\* ENL: raised by any blur", text, re.MULTILINE)
    assert re.search(r"^1 blur", text, re.MULTILINE)
    assert not re.search(r"best|wins|winner is [^n]", text.replace("No winner is named", ""))


def test_json_comes_back(result):
    content = json.loads(real.to_json(result), parse_constant=lambda word: pytest.fail(word))
    assert content["format"] == "s2s-real/1"
    assert [one["name"] for one in content["methods"]] == list(result.evaluation.methods)
    assert set(content["methods"][0]["metrics"]) == set(result.evaluation.metrics)
    assert [one["file"].rsplit("/", 1)[1] for one in content["images"]] == ["0.png", "1.png", "2.png"]
    assert content["images"][0]["cell"] == pytest.approx(CELL, rel=0.3)
    assert {name.partition("/")[0] for name in result.evaluation.metrics} == {
        name.partition("/")[0] for name in content["definitions"]
    }


def test_a_method_that_fails_costs_its_own_row(folder):
    def broken(image):
        return np.full_like(image, np.nan)

    found = evaluate_real({"bad": broken, "blur": blur}, RealImages.of(folder, STATED, 2))
    assert [failure.method for failure in found.evaluation.failures] == ["bad", "bad"]
    raising = evaluate_real({"worse": lambda image: image.nothing, "blur": blur}, RealImages.of(folder, STATED, 1))
    (failure,) = raising.evaluation.failures
    assert failure.reason.startswith("AttributeError: ")
    assert math.isnan(found.evaluation.mean("bad", "hom").mean)
    assert found.evaluation.mean("blur", "hom").count == 2
    text = real.table(found)
    assert re.search(r"^bad +-", text, re.MULTILINE)
    with pytest.raises(DataError, match=r"bad: failed in 2 of 2 scenes: .* nan or infinite"):
        real.refuse_failures(found)
    with pytest.raises(ConfigError, match="that of a control"):
        evaluate_real({NOISY: blur}, RealImages.of(folder, STATED, 1))


def test_files_that_cannot_be_read_are_named_and_the_rest_goes_on(tmp_path):
    folder = write_images(tmp_path / "mixed", 1)
    (folder / "note.txt").write_text("not an image")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    (folder / "movie.gif").write_bytes(b"GIF89a")
    colours = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(colours).save(folder / "colour.png")
    PIL.Image.fromarray(np.full((64, 64), 9, np.uint8)).save(folder / "flat.png")
    PIL.Image.fromarray(colours[:9, :9, 0]).save(folder / "tiny.png")
    np.save(folder / "other.npy", decibel(intensity((64, 150), 2)))
    found = RealImages.of(folder, Stated(dynamic_range=60.0))
    assert [given.file.rsplit("/", 1)[1] for given in found.given] == ["0.png", "other.npy"]
    told = "\n".join(found.unreadable)
    for name in ("broken.png", "movie.gif", "colour.png", "flat.png", "tiny.png"):
        assert name in told
    assert "note.txt" not in told
    result = evaluate_real({"blur": blur}, found)
    assert [one.shape for one in result.images] == [(96, 96), (64, 150)]
    assert "images of 2 sizes" in real.table(result)
    with pytest.raises(DataError, match=r"not read: .*broken\.png"):
        real.refuse_failures(result)


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(DataError, match="no images in this folder"):
        RealImages.of(tmp_path, STATED)
    (tmp_path / "movie.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match="none of its 1 images can be read"):
        RealImages.of(tmp_path, STATED)
    with pytest.raises(DataError, match=r"cannot read: .*\n.*none of its 1 images"):
        RealImages.of(tmp_path / "nothing.png", STATED)


def test_data_of_usim_has_its_own_black(tmp_path):
    text = (
        "probe: L11-5v\nimage: {x: [-5 mm, 5 mm], z: [5 mm, 12 mm], pixels: [64, 64], dynamic_range: 45}\n"
        "scatterers: {model: field}\nbackground: {name: tissue, echogenicity: 0 dB}\nseed: 1\n"
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    generate(usim.load_phantom(path), tmp_path / "data", frames=2, workers=1)
    found = RealImages.of(tmp_path / "data", Stated())
    image, dynamic_range = found.open()(1)
    assert len(found.given) == 2
    assert dynamic_range == 45.0
    assert image.min() >= -45.0
    assert image.dtype == np.float32
    with pytest.raises(ConfigError, match="leave out --domain"):
        RealImages.of(tmp_path / "data", Stated("log"))


def test_a_wrong_dynamic_range_is_told(folder):
    wrong = RealImages.of(folder, Stated("log", 30.0, 255.0), 1)
    assert "is not theirs" in real.table(evaluate_real({}, wrong))
    assert "is not theirs" not in real.table(evaluate_real({}, RealImages.of(folder, STATED, 1)))


def test_a_job_goes_to_another_process(folder):
    job = RealJob(RealImages.of(folder, STATED, 1), {"gaussian:sigma=2": "gaussian:sigma=2"}, pictures=1)
    judged = pickle.loads(pickle.dumps(job))()(("clips", 0), lambda value: None)
    again = pickle.loads(pickle.dumps(judged))
    np.testing.assert_equal(*([row.scores for row in one.judgement.rows] for one in (again, judged)))
    np.testing.assert_array_equal(again.sight.seen.areas.corners, judged.sight.seen.areas.corners)


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same(folder):
    job = RealJob(RealImages.of(folder, STATED, 2), {"gaussian:sigma=2": "gaussian:sigma=2"})
    alone, two = (real.evaluate_in_processes(job, workers, listen=lambda event: None) for workers in (1, 2))
    for metric, method in itertools.product(alone.evaluation.metrics, alone.evaluation.methods):
        np.testing.assert_array_equal(
            alone.evaluation.values(method, metric), two.evaluation.values(method, metric), metric
        )


# The command


def test_the_command(folder, tmp_path, capsys):
    page, data = tmp_path / "r.html", tmp_path / "r.json"
    words = ["evaluate", "--real", str(folder), "-m", "gaussian:sigma=2", "-m", "median", "--frames", "2"]
    assert main([*words, "--workers", "1", "-o", str(page), "--json", str(data)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(real.CAN)
    assert "taken as log-compressed, 60 dB" in shown.out
    content = json.loads(data.read_text())
    assert content["about"]["command"].startswith(f"s2s evaluate --real {folder}")
    assert len(content["images"]) == 2
    assert page.read_text().startswith("<!doctype html>")


def test_the_command_ends_with_3_when_a_file_cannot_be_read(tmp_path, capsys):
    folder = write_images(tmp_path / "mixed", 1)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    assert main(["-q", "evaluate", "--real", str(folder), "-m", "median", "--workers", "1"]) == 3
    shown = capsys.readouterr()
    assert re.search(r"^median +\d", shown.out, re.MULTILINE)
    assert "broken.png" in shown.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--real x --sim -m median", 2, "either --sim, or --data"),
        ("--real x --data y -m median", 2, "either --sim, or --data"),
        ("--real x -m median --seed 1", 2, "belong to --sim"),
        ("--real x -m median --engine sir", 2, "belong to --sim"),
        ("--sim -m median --dynamic-range 50", 2, "belong to --real"),
        ("--data x -m median --domain log", 2, "belong to --real"),
        ("--real nothing -m median", 3, "none of its 1 images can be read"),
        ("--real . -m median", 3, "no images in this folder"),
        ("--real . -m median -o r.txt", 2, "end its name with .html"),
        ("--real . -m medain", 2, "did you mean 'median'"),
        ("--real . -m median --dynamic-range 500", 3, "no images"),
    ],
)
def test_what_cannot_be_asked(words, code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *words.split()]) == code
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.iterdir())
