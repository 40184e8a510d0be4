"""Tricks must lose, on the way that every method takes: blur, curves, black, priors, sharpening; the truth must win."""

import ast
import inspect
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import s2s.metrics
from s2s.evaluation import files, run
from s2s.evaluation.cases import SUITES, Simulated, Suite, cases_of
from s2s.evaluation.run import evaluate
from s2s.evaluation.statistics import interval
from s2s.evaluation.verdict import verdict
from s2s.metrics.battery import METRICS, metric_of
from s2s.metrics.frame_view import FrameView
from s2s.metrics.judged import Judged
from usim.phantom.load import load_phantom
from usim.pipeline import Renderer

#: Small scenes on the machine of the suites, but for their number of pixels.
SMALL = """
probe: L7-4
medium: {sound_speed: 1540 m/s, attenuation: 0.5 dB/cm/MHz}
transmit: {type: focused, depth: 16 mm, f_number: 3}
receive: {f_number: 1.8, apodization: hann}
image: {x: [-9 mm, 9 mm], z: [7 mm, 25 mm], pixels: [144, 144], dynamic_range: 60 dB}
scatterers: {model: plane, per_cell: 15}
noise: {snr: 45 dB}
background: {name: tissue, echogenicity: 0 dB, texture: {std: 1 dB, correlation: 3 mm}}
regions:
  - name: ring
    repeat: {integer: [1, 2]}
    apart: 0.3 mm
    shape: annulus
    center: [{uniform: [-6 mm, 6 mm]}, {uniform: [10 mm, 22 mm]}]
    inner: {uniform: [0.5 mm, 1.2 mm]}
    outer: {uniform: [1.8 mm, 2.5 mm]}
    echogenicity: {choice: [{uniform: [-18 dB, -6 dB]}, {uniform: [6 dB, 12 dB]}]}
  - name: block
    repeat: {integer: [1, 3]}
    apart: 0.3 mm
    shape: ellipse
    center: [{uniform: [-6 mm, 6 mm]}, {uniform: [10 mm, 22 mm]}]
    size: {uniform: [2 mm, 4 mm]}
    aspect: {uniform: [0.5, 2]}
    echogenicity: {choice: [anechoic, {uniform: [-18 dB, -6 dB]}, {uniform: [6 dB, 14 dB]}]}
points:
  - {position: [{uniform: [-8 mm, 8 mm]}, {uniform: [9 mm, 23 mm]}], amplitude: 25 dB}
seed: 1
"""
#: The denoisers that tricks are compared with.
HONEST = ("nlm", "srad")


def gamma(image, exponent=1.5):
    return 60.0 * (np.clip(image / 60.0 + 1.0, 0.0, 1.0) ** exponent - 1.0)


def stretch(image):
    """The middle 96 % of the grey levels over the whole scale."""
    low, high = np.percentile(image, [2, 98])
    return 60.0 * (np.clip((image - low) / max(high - low, 1e-6), 0.0, 1.0) - 1.0)


def black(image):
    """The darker levels made black: the picture looks as if it had contrast."""
    return np.where(image < -36.0, -60.0, image)


def blur(image, sigma=3.5):
    return ndimage.gaussian_filter(image, sigma)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "small.yaml"
    path.write_text(SMALL)
    (lesions,) = [suite for suite in SUITES if suite.sham]
    plain = (Suite("evaluation/contrast-ladder"), replace(lesions, looks=0, changed=0))
    return [
        *cases_of(Simulated((Suite(str(path), looks=1),), scenes=6)),
        *cases_of(Simulated(plain, scenes=2)),
    ]


def fitting(images):
    """A method that gives the truth-like image of the right size, whatever it is given."""
    by_shape = {image.shape: image for image in images}
    return lambda image: by_shape[image.shape].astype(np.float32)


@pytest.fixture(scope="module")
def priors(cases):
    """What copies of the prior return: a typical clean image, their mean, and another scene's, in both sizes."""
    renderer = Renderer(load_phantom("training"), seed=1)
    clean = [np.clip(renderer.render(index).truth.bmode, -60.0, 0.0) for index in range(4)]
    other = np.clip(Renderer(load_phantom("evaluation/validation"), seed=1).render(0).truth.bmode, -60.0, 0.0)
    both = lambda image: fitting([image, image[40:184, 40:184]])  # noqa: E731
    return {"typical": both(clean[0]), "mean of truths": both(np.mean(clean, axis=0)), "other scene": both(other)}


@pytest.fixture(scope="module")
def honest():
    return files.functions(files.load_denoisers(HONEST))


@pytest.fixture(scope="module")
def tricks(priors, honest):
    nlm = honest["nlm"]
    return {
        **priors,
        "identity": np.copy,
        "blur": blur,
        "wide blur": lambda image: blur(image, 7.0),
        "blur and gamma": lambda image: gamma(blur(image)),
        "stretch": stretch,
        "blur and stretch": lambda image: stretch(blur(image)),
        "black": black,
        "blur and black": lambda image: black(blur(image)),
        "constant": lambda image: np.full_like(image, image.mean()),
        "sharpen": lambda image: np.clip(2.0 * image - blur(image, 2.0), -60.0, 0.0),
        "nlm and gamma": lambda image: gamma(nlm(image)),
        "nlm and stretch": lambda image: stretch(nlm(image)),
        "nlm, half the contrast": lambda image: 0.5 * nlm(image) + 0.5 * image.mean(),
    }


@pytest.fixture(scope="module")
def oracle(cases):
    """The truth of the image that it is given."""
    truths = {task.given.tobytes(): task.view.truth_db for case in cases for task in case.tasks()}
    return lambda image: truths[image.tobytes()]


@pytest.fixture(scope="module")
def everything(cases, honest, tricks, oracle):
    return evaluate({"truth": oracle, **honest, **tricks}, cases)


def without(evaluation, names):
    """The evaluation as if these methods had never been there."""
    kept = tuple(name for name in evaluation.methods if name not in names)
    return replace(evaluation, methods=kept, rows=tuple(row for row in evaluation.rows if row.method in kept))


@pytest.fixture(scope="module")
def evaluation(everything):
    return without(everything, {"truth"})


@pytest.fixture(scope="module")
def found(evaluation):
    return verdict(evaluation)


def really_worse(evaluation, first, second):
    """Metrics by which the first is really farther from the best value than the second, over the scenes of both."""
    worse = []
    for name in evaluation.metrics:
        if metric_of(name).better == "none" or "/" in name:
            continue
        with np.errstate(invalid="ignore"):
            difference = evaluation.distance(first, name) - evaluation.distance(second, name)
        one = interval(difference, evaluation.strata)
        worse += [name] * (one.is_real and one.mean > 0)
    return worse


#: A trick, and metrics that have to see it, when compared with nlm.
SEEN = {
    "typical": {"psnr_fit", "gcnr_above_sham"},
    "mean of truths": {"psnr_fit", "gcnr_above_sham"},
    "other scene": {"psnr_fit", "gcnr_above_sham"},
    "identity": {"psnr_fit"},
    "blur": {"psnr_fit"},
    "wide blur": {"psnr_fit", "edge_mm", "contrast_slope"},
    "blur and gamma": {"psnr_fit", "psnr"},
    "stretch": {"psnr_fit", "black_share", "contrast_slope"},
    "blur and stretch": {"psnr_fit", "black_share", "contrast_slope"},
    "black": {"psnr_fit", "black_share", "contrast_slope"},
    "blur and black": {"psnr_fit", "black_share", "contrast_slope"},
    "constant": {"psnr_fit", "contrast_slope"},
    "sharpen": {"psnr_fit", "psnr"},
    "nlm and gamma": {"psnr", "ms_ssim"},
    "nlm and stretch": {"psnr", "black_share", "contrast_slope"},
    "nlm, half the contrast": {"psnr", "contrast_slope", "contrast_range"},
}


def test_every_trick_is_seen(evaluation, tricks):
    assert set(SEEN) == set(tricks)
    missed = {}
    for trick, wanted in SEEN.items():
        worse = really_worse(evaluation, trick, "nlm")
        print(f"{trick}: worse than nlm by {', '.join(worse)}")
        missed |= {trick: wanted - set(worse)} if wanted - set(worse) else {}
    assert not missed


def test_no_trick_wins_anything(found, tricks):
    print(*found.statement, sep="\n")
    assert not {one.metric: one.winner for one in found.findings if one.winner in tricks}


@pytest.mark.parametrize("curve", ["nlm and gamma", "nlm, half the contrast", "nlm and stretch"])
def test_a_display_curve_is_worth_nothing(evaluation, curve):
    """By no metric that may choose a winner is a method really better after a rising curve of its output."""
    better = [name for name in really_worse(evaluation, "nlm", curve) if not metric_of(name).fooled_by]
    print(curve, better)
    assert not better
    fitted = [evaluation.mean(name, "psnr_fit").mean for name in ("nlm", curve)]
    assert fitted[1] <= fitted[0] + 0.05


# The truth.


@pytest.fixture(scope="module")
def crowned(everything, tricks):
    return without(everything, set(tricks))


def test_the_truth_scores_perfectly(crowned):
    """Every metric that tells its best value: the truth has it, in every scene."""
    for name in crowned.metrics:
        metric = metric_of(name)
        if metric.better == "none" or metric.truth == "":
            continue
        truth = name.replace(metric.name, metric.truth) if isinstance(metric.truth, str) else metric.truth
        values = crowned.values("truth", name)
        wanted = crowned.values("truth", truth) if isinstance(truth, str) else np.full(values.shape, truth)
        measured = ~np.isnan(values)
        # `detect` has what the data hold as its truth: the truth itself is above it.
        wanted = {"higher": np.maximum, "lower": np.minimum}.get(metric.better, lambda _, best: best)(values, wanted)
        np.testing.assert_allclose(values[measured], wanted[measured], rtol=1e-6, atol=1e-6, err_msg=name)
    assert np.isinf(crowned.values("truth", "psnr")).all()
    np.testing.assert_allclose(crowned.values("truth", "ssim"), 1.0, atol=1e-9)


def test_nothing_is_before_the_truth(crowned):
    """By metrics that may choose, in the mean over scenes; what the truth is measured in, it is measured in wholly."""
    for one in verdict(crowned).findings:
        if metric_of(one.metric).fooled_by:
            continue
        assert not one.left_out.get("truth"), one.metric
        means = [float(np.nanmean(crowned.distance(name, one.metric))) for name in ("truth", one.ranking[0])]
        assert means[0] == means[1] or math.isclose(*means, rel_tol=1e-6, abs_tol=1e-6), (one.metric, one.ranking[:3])


# Names.


SOURCES = sorted(Path(inspect.getfile(s2s.metrics)).parent.glob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_metric_code_knows_no_methods(path):
    """It neither imports them, nor takes, reads or mentions one."""
    tree = ast.parse(path.read_text())
    imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    banned = ("s2s.methods", "s2s.evaluation", "s2s.denoise", "s2s.checkpoint", "s2s.run", "inspect", "sys", "os")
    assert not [name for name in imported if name.startswith(banned)]
    words = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    words |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    words |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not words & {"method", "methods", "method_name", "denoiser", "denoise", "checkpoint", "control", "controls"}


def test_metrics_are_given_images_and_truth_alone(monkeypatch, cases):
    seen = []
    monkeypatch.setattr(run, "score", lambda scene: seen.append(scene) or {"psnr": 1.0})
    evaluate({"a name that must not be seen": np.copy}, cases[:1])
    assert seen
    for scene in seen:
        assert type(scene) is Judged
        assert set(vars(scene)) == {"images", "views"}
        assert all(type(view) is FrameView for view in scene.views.values())
        assert all(type(image) is np.ndarray for image in scene.images.values())
        assert "a name that must not be seen" not in repr(vars(scene))


def test_names_change_nothing(cases, honest):
    one = evaluate({"nlm": honest["nlm"], "truth": blur}, cases[:1])
    two = evaluate({"truth": honest["nlm"], "nlm": blur}, cases[:1])
    assert {name for name in one.metrics if "/" not in name} <= set(METRICS)
    for name, (first, second) in (
        (name, pair) for name in one.metrics for pair in (("nlm", "truth"), ("truth", "nlm"))
    ):
        np.testing.assert_array_equal(one.values(first, name), two.values(second, name))
