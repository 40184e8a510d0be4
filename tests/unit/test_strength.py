"""Methods at several strengths, and what they say at the same edge width."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from judging import view_of
from scipy import ndimage

from s2s.evaluation.cases import SUITES, Simulated, Suite, cases_of
from s2s.evaluation.export import to_json
from s2s.evaluation.files import filters, load_denoisers
from s2s.evaluation.run import evaluate
from s2s.evaluation.same_width import (
    EDGE,
    SCORES,
    TRUE_EDGE,
    Sweep,
    at_edge_width,
    difference_at_edge_width,
    sweeps_of,
    told,
    unreached,
    widths,
)
from s2s.evaluation.statistics import interval
from s2s.evaluation.strength import BLURS, CONTROL, SHARES, Strength, measure, strengths
from s2s.evaluation.table import at_same_width
from s2s.metrics.battery import judged
from usim.errors import DataError

PIXEL = 0.15e-3
PHANTOM = """
probe: L11-5v
transmit: {type: focused, depth: 12 mm, f_number: 3}
image: {x: [-9 mm, 9 mm], z: [4 mm, 18 mm], pixels: [96, 112]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: 6 mm -9 dB, shape: circle, center: [-4 mm, 11 mm], radius: 3 mm, echogenicity: -9 dB}
  - {name: 6 mm +9 dB, shape: circle, center: [4 mm, 11 mm], radius: 3 mm, echogenicity: 9 dB}
seed: 1
"""


def sweep_of(edge, gcnr, name="a"):
    """A sweep of edge widths and gCNR (K, S)."""
    edge, gcnr = (np.array(values, dtype=float) for values in (edge, gcnr))
    scores = {"gcnr_above_sham": gcnr, "detect": gcnr / 2, "psnr_fit": 30 * gcnr}
    labels = tuple(f"k={k}" for k in range(len(edge)))
    return Sweep(name, labels, tuple(("s", k) for k in range(edge.shape[1])), edge, np.full(edge.shape[1], 0.5), scores)


def drawn(seed, count=12, noise=0.02):
    """Five strengths of a made-up method: edges from 0.6 to 1.4 mm, gCNR from 0.4 to 0.8."""
    random = np.random.default_rng(seed)
    steps = np.arange(5)[:, None]
    edge = 0.6 + 0.2 * steps + noise * random.normal(size=(5, count))
    return edge, 0.4 + 0.1 * steps + noise * random.normal(size=(5, count))


def disc_view():
    """A disc of 9 dB and 6 mm in tissue, as sharp as pixels are."""
    axis = (np.arange(100) - 49.5) * PIXEL
    labels = (np.hypot(axis[:, None], axis) <= 3e-3).astype(np.uint16)
    return view_of(np.where(labels, -21.0, -30.0), labels, ("tissue", "disc"), axis, axis + 20e-3)


def test_a_gaussian_widens_edges_step_by_step():
    view = disc_view()
    found = strengths({})
    assert list(found) == [CONTROL]
    scores = [measure(judged(strength.denoise(view.truth_db.astype(np.float32)), view)) for strength in found[CONTROL]]
    edge = np.array([score[EDGE] for score in scores])
    sigma = np.array([float(strength.label.partition("=")[2]) for strength in found[CONTROL]])
    assert (np.diff(edge) > 0).all()
    wide = (sigma >= 1.5) & (sigma <= 5)
    np.testing.assert_allclose(edge[wide], 2.563 * 1e3 * PIXEL * sigma[wide], rtol=0.12)
    assert set(scores[0]) == {EDGE, TRUE_EDGE, *SCORES}


@pytest.mark.parametrize("name", filters())
def test_a_filters_strengths_are_those_of_its_tuning(name):
    (found,) = (of for method, of in strengths(load_denoisers([name])).items() if method != CONTROL)
    method = load_denoisers([name])[name].method
    setting, values = next(iter(method.TUNING.items()))
    assert [strength.label for strength in found] == [f"{setting}={value}" for value in values]
    assert len(found) >= 5
    image = 5 * np.random.default_rng(1).normal(size=(24, 24)).astype(np.float32) - 30
    first, last = found[0].denoise(image.copy()), found[-1].denoise(image.copy())
    assert np.std(last) < np.std(first) < np.std(image)


def test_other_settings_stay_as_they_were_given():
    image = 5 * np.random.default_rng(1).normal(size=(24, 24)).astype(np.float32) - 30
    for spec in ("nlm:patch=5,distance=3", "nlm"):
        found = {strength.label: strength for strength in strengths(load_denoisers([spec]))[spec]}
        (alone,) = load_denoisers([f"{spec}{',' if ':' in spec else ':'}h=1.0"]).values()
        np.testing.assert_array_equal(found["h=1.0"].denoise(image), alone.denoise(image, "db", 150.0))


def test_a_trained_method_is_mixed_and_blurred_and_runs_once():
    calls = []

    def denoise(image, domain):
        calls.append(image.copy())
        return np.full_like(image, -20.0)

    trained = SimpleNamespace(method=SimpleNamespace(TUNING={}), name="net", denoise=denoise)
    found = strengths({"net": trained})["net"]
    assert [one.label for one in found] == [
        *(f"{share:.0%} of it" for share in SHARES), *(f"blurred by {sigma:g} pixels" for sigma in BLURS)
    ]  # fmt: skip
    images = [np.random.default_rng(k).normal(size=(8, 9)).astype(np.float32) - 30 for k in range(2)]
    for share, one in zip(SHARES, found, strict=False):
        for image in images:
            np.testing.assert_allclose(one.denoise(image), share * -20.0 + (1 - share) * image, rtol=1e-6)
    for one in found[len(SHARES) :]:
        np.testing.assert_allclose(one.denoise(images[0]), -20.0)
    assert [call.tolist() for call in calls] == [image.tolist() for image in images]


def test_the_value_is_interpolated_between_mean_edges():
    edge = np.array([[0.5, 0.7], [0.9, 1.1], [1.3, 1.5]])
    gcnr = np.array([[0.2, 0.4], [0.6, 0.8], [0.7, 0.9]])
    # Means are 0.6, 1.0, 1.4 and 0.3, 0.7, 0.8.
    for width, expected in ((0.6, 0.3), (0.7, 0.4), (1.0, 0.7), (1.2, 0.75)):
        assert at_edge_width(sweep_of(edge, gcnr), width).mean == pytest.approx(expected)
    assert at_edge_width(sweep_of(edge, gcnr), 0.7, "detect").mean == pytest.approx(0.2)
    assert at_edge_width(sweep_of(edge, gcnr), 0.7, EDGE).mean == pytest.approx(0.7)


def test_edges_that_fall_before_they_grow_are_taken_where_they_grow():
    edge = [[0.9] * 4, [0.6] * 4, [0.8] * 4, [1.0] * 4]
    gcnr = [[0.1] * 4, [0.3] * 4, [0.5] * 4, [0.6] * 4]
    assert at_edge_width(sweep_of(edge, gcnr), 0.7).mean == pytest.approx(0.4)
    assert at_edge_width(sweep_of(edge, gcnr), 0.9).mean == pytest.approx(0.55)


def test_equal_methods_are_equal_and_a_better_one_is_told_apart():
    edge, gcnr = drawn(1)
    one, same, better = sweep_of(edge, gcnr), sweep_of(edge, gcnr, "b"), sweep_of(edge, gcnr + 0.02, "c")
    assert at_edge_width(one, 0.9) == at_edge_width(same, 0.9)
    zero = difference_at_edge_width(one, same, 0.9)
    assert (zero.mean, zero.low, zero.high) == (0, 0, 0)
    assert not zero.is_real
    lead = difference_at_edge_width(better, one, 0.9)
    assert lead.mean == pytest.approx(0.02)
    assert lead.is_real
    assert lead.high - lead.low < at_edge_width(one, 0.9).high - at_edge_width(one, 0.9).low


def test_smoothing_more_is_worth_nothing():
    """The same curve of gCNR over edge width, reached at other strengths."""
    edge, gcnr = drawn(1, noise=0.0)
    strong = sweep_of(edge[1:] + 0.05, gcnr[1:] + 0.025)
    assert np.nanmean(strong.gcnr) > gcnr.mean()
    assert at_edge_width(strong, 1.0).mean == pytest.approx(at_edge_width(sweep_of(edge, gcnr), 1.0).mean)


@pytest.mark.parametrize(("width", "said"), [(0.5, "wider at every strength: 0.60 mm"), (2.0, "narrower at every")])
def test_a_sweep_that_does_not_reach_a_width_has_no_value_there(width, said):
    sweep = sweep_of(*drawn(1, noise=0.0))
    value = at_edge_width(sweep, width)
    assert math.isnan(value.mean)
    assert math.isnan(value.low)
    assert value.count == 0
    assert said in unreached(sweep, width)
    assert unreached(sweep, 0.9) == ""
    assert math.isnan(difference_at_edge_width(sweep, sweep, width).mean)
    lost = sweep_of(np.full((5, 3), np.nan), np.ones((5, 3)))
    assert unreached(lost, 0.9) == "its edges can't be measured at any strength"


def test_the_interval_is_that_of_means_where_edges_are_known():
    _, gcnr = drawn(3, count=10, noise=0.1)
    edge = np.repeat(0.6 + 0.2 * np.arange(5)[:, None], 10, axis=1)
    found = at_edge_width(sweep_of(edge, gcnr), 0.9)
    exact = interval(gcnr[1:3].mean(axis=0), np.zeros(10, int))
    assert found.mean == pytest.approx(exact.mean)
    assert found.high - found.low == pytest.approx(exact.high - exact.low, rel=0.06)
    assert math.isnan(at_edge_width(sweep_of(edge[:, :1], gcnr[:, :1]), 0.9).low)


def test_intervals_cover():
    """How often the interval holds the value of endless scenes, edges being uncertain too."""
    true = at_edge_width(sweep_of(*drawn(0, noise=0.0)), 0.95).mean
    found = [at_edge_width(sweep_of(*drawn(seed, count=8, noise=0.05)), 0.95) for seed in range(120)]
    assert np.mean([one.low < true < one.high for one in found]) > 0.9


def test_a_width_that_few_resamples_reach_has_no_interval():
    edge, gcnr = drawn(5, count=4, noise=0.1)
    width = float(edge.mean(axis=1).max()) - 1e-6
    assert np.isfinite(at_edge_width(sweep_of(edge, gcnr), width).mean)
    assert math.isnan(at_edge_width(sweep_of(edge, gcnr), width).low)


def test_what_was_not_measured_is_left_out():
    edge, gcnr = drawn(1, noise=0.0)
    gaps = edge.copy()
    gaps[2, 3] = gaps[0, 1] = np.nan
    assert at_edge_width(sweep_of(gaps, gcnr), 0.9).mean == pytest.approx(at_edge_width(sweep_of(edge, gcnr), 0.9).mean)


def test_sweeps_are_gathered_in_order():
    row = {EDGE: 1.0, TRUE_EDGE: 0.5, **dict.fromkeys(SCORES, 0.3)}
    found = {("s", 0): {("a", "1"): row, ("a", "2"): {}, ("b", "1"): row}, ("s", 1): {("a", "1"): {}, ("a", "2"): row}}
    one, two = sweeps_of(found)
    assert (one.method, one.strengths, one.scenes) == ("a", ("1", "2"), (("s", 0), ("s", 1)))
    np.testing.assert_array_equal(one.edge, [[1, np.nan], [np.nan, 1]])
    np.testing.assert_array_equal(one.true_edge, [0.5, 0.5])
    np.testing.assert_array_equal(two.gcnr, [[0.3, np.nan]])
    assert widths((one, two)) == (0.75, 1.0, 1.25)
    assert sweeps_of({}) == ()
    assert told(()) == []


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "discs.yaml"
    path.write_text(PHANTOM)
    return list(cases_of(Simulated((Suite(str(path), sham=True, swept=True),), scenes=2)))


def test_an_evaluation_holds_its_sweeps(cases):
    def broken(image):
        raise DataError("no")

    sweeps = {
        "blur": [Strength(f"{s}", lambda a, s=s: ndimage.gaussian_filter(a, s)) for s in (0.5, 2, 4)],
        "half": [Strength("works", np.copy), Strength("fails", broken)],
    }
    found = evaluate({}, cases, sweeps=sweeps)
    blur, half = found.sweeps
    assert (np.diff(np.nanmean(blur.edge, axis=1)) > 0).all()
    assert np.isnan(half.edge[1]).all()
    failures = [failure for failure in found.failures if failure.method == "half at fails"]
    assert {failure.reason for failure in failures} == {"no"}
    content = json.loads(to_json(found), parse_constant=lambda word: pytest.fail(word))
    assert [one["method"] for one in content["sweeps"]] == ["blur", "half"]
    np.testing.assert_allclose(content["sweeps"][0][EDGE], blur.edge)
    assert [at["width_mm"] for at in content["sweeps"][0]["at_edge_width"]] == pytest.approx(widths(found.sweeps))
    text = at_same_width(found)
    assert "blur" in text
    assert "half" in text
    evaluated = evaluate(
        {}, [SimpleNamespace(**{**vars(cases[0]), "swept": False}, tasks=cases[0].tasks)], sweeps=sweeps
    )
    assert evaluated.sweeps == ()
    assert at_same_width(evaluated) == ""


def test_the_suite_of_lesions_is_the_one_that_is_swept():
    assert [suite.phantom for suite in SUITES if suite.swept] == ["evaluation/lesions"]
    assert all(suite.sham for suite in SUITES if suite.swept)
