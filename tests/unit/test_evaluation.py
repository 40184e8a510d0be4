"""Judging: equal images for all, names that mean nothing, controls, failures that cost one row, and every refusal."""

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import usim
from s2s.cli import main
from s2s.evaluation import cost, files, run
from s2s.evaluation.cases import Case, Simulated, Stored, Suite, cases_of, suites_of
from s2s.evaluation.controls import NOISY, controls
from s2s.evaluation.export import to_json
from s2s.evaluation.results import Evaluation, Row
from s2s.evaluation.run import Job, evaluate, evaluate_in_processes
from s2s.evaluation.table import number, table
from s2s.evaluation.verdict import verdict
from s2s.metrics.judged import IMAGE, SHAM
from s2s.published import weights_of
from s2s.report.page import page
from s2s.seeds import judged_seed
from usim.errors import ConfigError, DataError, ResourceError
from usim.frame import Axes
from usim.generate import generate
from usim.phantom.load import load_phantom, shipped_phantoms
from usim.workers import map_items

PHANTOM = """
probe: L11-5v
transmit: {type: focused, depth: 12 mm, f_number: 3}
image: {x: [-8 mm, 8 mm], z: [5 mm, 21 mm], pixels: [96, 96]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: cyst, shape: circle, center: [-3 mm, 12 mm], radius: 2.5 mm, echogenicity: -15 dB}
  - {name: lesion, shape: circle, center: [4 mm, 13 mm], radius: 2.5 mm, echogenicity: 10 dB}
seed: 1
"""


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "tiny.yaml"
    path.write_text(PHANTOM)
    return path


@pytest.fixture(scope="module")
def cases(phantom):
    return [
        Case("tiny", k, {IMAGE: frame}) for k, frame in enumerate(itertools.islice(usim.stream(phantom, seed=5), 3))
    ]


def blur(image):
    return ndimage.gaussian_filter(image, 2)


@pytest.fixture(scope="module")
def evaluation(cases):
    return evaluate({"blur": blur, "<i>&": np.copy}, iter(cases), pictures=2, about={"frames": "3 of <b>"})


def test_every_method_sees_the_same_images_as_a_scanner_shows_them(cases):
    seen = {"one": [], "two": []}

    def spoil(image):
        seen["one"].append(image.copy())
        image[:] = 0
        return image

    def keep(image):
        seen["two"].append(image.copy())
        return image

    evaluate({"one": spoil, "two": keep}, cases)
    for one, two, case in zip(seen["one"], seen["two"], cases, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, np.clip(case.frames[IMAGE].bmode, -60, 0))
        assert one.dtype == np.float32


def test_scenes_are_taken_one_at_a_time(cases):
    log = []

    def source():
        for case in cases:
            log.append(f"scene {case.scene}")
            yield case

    def method(image):
        log.append("method")
        return image

    evaluate({"method": method}, source())
    assert log == ["scene 0", "method", "scene 1", "method", "scene 2", "method"]


def test_names_mean_nothing_to_the_scores(cases, evaluation):
    other = evaluate({"truth": blur, "psnr": np.copy}, cases)
    for (first, second), metric in itertools.product((("blur", "truth"), ("<i>&", "psnr")), evaluation.metrics):
        np.testing.assert_array_equal(evaluation.values(first, metric), other.values(second, metric))
    for metric in evaluation.metrics:
        np.testing.assert_array_equal(evaluation.values(NOISY, metric), evaluation.values("<i>&", metric))


def test_blurring_helps_where_it_should_and_its_price_is_seen(evaluation):
    """The figures of speckle before and after a blur, in wide bounds: signs and sizes, not decimals."""
    noisy, clean = ({m: evaluation.mean(name, m).mean for m in evaluation.metrics} for name in (NOISY, "blur"))
    assert 15 < noisy["psnr"] < clean["psnr"] - 5
    assert noisy["psnr_fit"] > noisy["psnr"]
    assert noisy["gcnr"] < clean["gcnr"] <= noisy["gcnr_true"] == 1
    assert noisy["edge_true_mm"] < clean["edge_mm"] < 2.5
    assert noisy["hom"] < clean["hom"]


def test_every_table_has_the_controls(evaluation):
    plain = ["noisy", *(f"control gaussian:sigma={sigma}" for sigma in range(1, 7)), "control median"]
    dark = ["control noisy gamma=2", *(f"{name} gamma=2" for name in plain[1:])]
    assert list(evaluation.methods) == ["blur", "<i>&", *plain, *dark]
    assert evaluation.controls == set(controls()) == {*plain, *dark}
    text = table(evaluation, verdict(evaluation))
    assert all(name in text for name in evaluation.methods)


def test_a_gamma_is_worth_nothing_after_the_fit_and_costs_before(evaluation):
    for name in ("control gaussian:sigma=2", "control median"):
        bright, dark = (
            {m: evaluation.values(each, m) for m in ("psnr", "psnr_fit")} for each in (name, f"{name} gamma=2")
        )
        # A float32 image loses a few of its levels where the curve is flat.
        np.testing.assert_allclose(dark["psnr_fit"], bright["psnr_fit"], atol=0.02)
        assert (dark["psnr"] < bright["psnr"] - 5).all()


def test_means_leave_out_what_was_not_measured():
    values = [1.0, math.nan, 4.0, math.inf]
    rows = [Row(NOISY, "s", k, 0.1, {"psnr": v, "ssim": math.nan, "edge_mm": float(k)}) for k, v in enumerate(values)]
    found = Evaluation((NOISY,), frozenset({NOISY}), tuple(rows[:3]))
    assert found.mean(NOISY, "psnr").mean == 2.5
    assert found.mean(NOISY, "psnr").count == 2
    assert found.mean(NOISY, "edge_mm").mean == 1.0
    assert math.isnan(found.mean(NOISY, "ssim").mean)
    assert found.mean(NOISY, "ssim").count == 0
    endless = Evaluation((NOISY,), frozenset(), tuple(rows)).mean(NOISY, "psnr")
    assert endless.mean == math.inf
    assert math.isnan(endless.low)


def test_differences_are_paired_by_scene(evaluation):
    difference = evaluation.difference("blur", NOISY, "psnr")
    pairs = evaluation.values("blur", "psnr") - evaluation.values(NOISY, "psnr")
    assert difference.mean == pytest.approx(pairs.mean())
    assert difference.low < difference.mean < difference.high
    assert difference.is_real
    apart = evaluation.mean("blur", "psnr"), evaluation.mean(NOISY, "psnr")
    assert difference.high - difference.low < sum(one.high - one.low for one in apart)
    assert not evaluation.difference("<i>&", NOISY, "psnr").is_real


def test_distance_follows_the_way_a_metric_goes(evaluation):
    assert evaluation.distance("blur", "psnr") == pytest.approx(-evaluation.values("blur", "psnr"))
    edges = evaluation.values("blur", "edge_mm"), evaluation.values("blur", "edge_true_mm")
    assert evaluation.distance("blur", "edge_mm") == pytest.approx(abs(edges[0] - edges[1]))


def test_json_comes_back(evaluation):
    content = json.loads(to_json(evaluation), parse_constant=lambda word: pytest.fail(word))
    assert content["about"] == {"frames": "3 of <b>"}
    assert [method["name"] for method in content["methods"]] == list(evaluation.methods)
    for method, metric in itertools.product(content["methods"], ("psnr", "ssim_fit", "edge_mm")):
        mean = evaluation.mean(method["name"], metric)
        expected = {"mean": mean.mean, "low": mean.low, "high": mean.high, "count": 3}
        assert method["metrics"][metric] == pytest.approx(expected)
        assert method["control"] == (method["name"] in evaluation.controls)
    for row, one in zip(content["rows"], evaluation.rows, strict=True):
        assert (row["method"], row["suite"], row["scene"]) == (one.method, one.suite, one.scene)
        assert row["scores"] == {name: None if math.isnan(v) or math.isinf(v) else v for name, v in one.scores.items()}
    assert set(content["definitions"]) == set(evaluation.metrics)


def test_json_has_no_infinities(cases):
    truths = iter([case.frames[IMAGE].truth.bmode for case in cases])
    content = json.loads(to_json(evaluate({"oracle": lambda image: next(truths)}, cases)))
    assert content["methods"][0]["metrics"]["psnr"]["mean"] is None
    assert content["methods"][0]["metrics"]["ssim"]["mean"] == pytest.approx(1)


def test_the_table_fits_a_screen(evaluation):
    lines = table(evaluation, verdict(evaluation)).splitlines()
    assert max(map(len, lines)) <= 160
    assert re.match(r"method +PSNR\S? +PSNR fit", lines[0])
    assert lines[1].startswith("(truth) ")
    assert lines[2].startswith("blur ")
    assert f"{evaluation.mean('blur', 'psnr').mean:.2f}" in lines[2]
    assert f"{evaluation.mean('blur', 'psnr').low:.2f}" in lines[3]
    assert any(re.match(r"method .* Hom\*", line) for line in lines)
    assert number(12345.678, 2) == "12346"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda image: image[:-1], r"\(95, 96\) from \(96, 96\)"),
        (lambda image: np.where(image < -20, np.nan, image), "pixels are nan"),
        (lambda image: image * np.inf, "are nan or infinite"),
        (lambda image: image.nothing, "AttributeError: .*nothing"),
        (lambda image: np.full(image.shape, 1e300), "are nan or infinite"),
        (lambda image: image + 1j, "type complex64; they must be real numbers"),
        (lambda image: image > -30.0, "type bool"),
        (lambda image: image.astype(object), "type object"),
    ],
)
def test_a_broken_method_is_named_and_the_rest_is_made(cases, result, said):
    found = evaluate({"good": blur, "bad": result}, cases)
    assert [(one.method, one.scene, one.role) for one in found.failures] == [("bad", k, IMAGE) for k in range(3)]
    assert all(re.search(said, one.reason) for one in found.failures)
    assert np.isfinite(found.values("good", "psnr")).all()
    assert np.isnan(found.values("bad", "psnr")).all()
    assert "bad" in table(found, verdict(found))
    assert page(found, "one is broken")
    assert json.loads(to_json(found))["failures"][0]["reason"] == found.failures[0].reason


def test_an_image_that_a_method_refuses_costs_that_scene(cases):
    def picky(image):
        if np.array_equal(image, np.clip(cases[1].frames[IMAGE].bmode, -60, 0).astype(np.float32)):
            raise DataError("image: constant")
        return image

    found = evaluate({"picky": picky}, cases)
    assert [(one.scene, one.reason) for one in found.failures] == [(1, "image: constant")]
    assert list(np.isnan(found.values("picky", "psnr"))) == [False, True, False]


def test_no_scenes_and_the_names_of_controls_are_refused(cases):
    with pytest.raises(DataError, match="no scenes"):
        evaluate({"blur": blur}, [])
    with pytest.raises(ConfigError, match="control"):
        evaluate({NOISY: blur}, cases)


def test_looks_on_other_pixels_are_refused(make_frame):
    frame = make_frame(shape=(40, 12))
    moved = replace(frame, axes=Axes(frame.axes.x + 1e-3, frame.axes.z * 2))
    for other, said in ((make_frame(shape=(40, 14)), "40 x 14 pixels"), (moved, "looks of a scene must have the same")):
        with pytest.raises(DataError, match=f"odd, scene 3: .*{said}"):
            Case("odd", 3, {IMAGE: frame, "look 1": other})
    assert Case("odd", 3, {IMAGE: frame, "look 1": replace(frame)}).scene == 3


def test_a_scene_that_cannot_be_had_costs_no_other(tmp_path, phantom, capsys):
    folder = tmp_path / "data"
    generate(usim.load_phantom(phantom), folder, frames=3, workers=1, shard_size=1)
    (shard, *_) = sorted(folder.glob("*.h5"))
    whole = shard.read_bytes()
    bmode = np.float32(usim.simulate(phantom, index=0).bmode).tobytes()
    place = whole.index(bmode[:64])
    shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert main(["-q", "evaluate", "--data", str(folder), "-m", "lee", "--workers", "1"]) == 3
    shown = capsys.readouterr()
    assert re.search(r"^lee +\d\d\.\d\d", shown.out, re.MULTILINE)
    assert "means over 2 scenes" in shown.out
    assert re.search("every method: failed in 1 of 3 scenes: .*shard-00000.h5", shown.err)


def test_frames_of_any_shape_can_be_scored(make_frame):
    """Pixels of 20 mm, and an image of 2 mm in which nothing is large enough to be measured."""
    frame = make_frame(shape=(40, 12))
    wide = replace(frame, axes=Axes(np.linspace(-0.1, 0.1, 12), frame.axes.z))
    small = replace(frame, axes=Axes(np.linspace(-1e-3, 1e-3, 12), np.linspace(2e-3, 4e-3, 40)))
    found = evaluate({"blur": blur}, [Case("odd", k, {IMAGE: one}) for k, one in enumerate((frame, wide, small))])
    assert found.mean("blur", "gcnr").count == 2
    assert math.isnan(found.values("blur", "enl")[2])
    nothing = evaluate({"blur": blur}, [Case("odd", 0, {IMAGE: small})])
    assert "ENL: not measured" in table(nothing, verdict(nothing))
    assert page(found, "odd")


def test_simulated_scenes_depend_on_the_seed_alone(phantom):
    first, again, other = (list(cases_of(Simulated((Suite(str(phantom)),), 2, seed))) for seed in (3, 3, 4))
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one.frames[IMAGE].bmode, two.frames[IMAGE].bmode)
        assert not np.array_equal(one.frames[IMAGE].bmode, three.frames[IMAGE].bmode)
    assert not np.array_equal(first[0].frames[IMAGE].bmode, usim.simulate(phantom, seed=3).bmode)


def test_the_sham_has_the_places_and_nothing_in_them(phantom):
    (case,) = cases_of(Simulated((Suite(str(phantom), sham=True),), 1))
    real, sham = case.frames[IMAGE].truth, case.frames[SHAM].truth
    np.testing.assert_array_equal(real.labels, sham.labels)
    assert np.ptp(sham.echogenicity_db) == 0 < np.ptp(real.echogenicity_db)
    speckle = [case.frames[role].bmode - case.frames[role].truth.bmode for role in (IMAGE, SHAM)]
    assert abs(np.corrcoef(speckle[0].ravel(), speckle[1].ravel())[0, 1]) < 0.1


def test_names_stand_for_suites(phantom):
    assert {suite.phantom for suite in suites_of("evaluation")} <= set(shipped_phantoms())
    assert suites_of("evaluation/lesions")[0].sham
    assert suites_of(str(phantom)) == (Suite(str(phantom)),)


def test_judged_seeds_are_no_phantoms_own():
    assert not {judged_seed(seed) for seed in range(100)} & {load_phantom(name).seed for name in shipped_phantoms()}


def test_stored_scenes_need_the_truth(tmp_path, phantom):
    folder = tmp_path / "data"
    generate(usim.load_phantom(phantom), folder, frames=2, workers=1)
    assert [case.scene for case in cases_of(Stored(folder))] == [0, 1]
    assert len(Stored(folder, 1).items) == 1
    (case, *_) = cases_of(Stored(next(folder.glob("*.h5"))))
    assert case.frames[IMAGE].bmode.shape == (96, 96)
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "a.png").write_bytes(b"")
    for path in (tmp_path / "png", tmp_path / "png" / "a.png"):
        with pytest.raises(DataError, match="pictures come without a truth"):
            Stored(path)
    with pytest.raises(DataError, match="missing"):
        Stored(tmp_path / "nothing")


def test_processes_change_no_score(phantom):
    source = Simulated((Suite(str(phantom)),), 2)
    one, two = (
        evaluate_in_processes(Job(source, {"gaussian:sigma=2": "gaussian:sigma=2"}), workers, listen=lambda event: None)
        for workers in (1, 2)
    )
    assert [(row.method, row.scene) for row in one.rows] == [(row.method, row.scene) for row in two.rows]
    for a, b in zip(one.rows, two.rows, strict=True):
        np.testing.assert_equal(dict(a.scores), dict(b.scores))


def test_the_order_of_scenes_is_not_that_in_which_they_are_done(phantom, tmp_path, monkeypatch):
    other = tmp_path / "other.yaml"
    other.write_text(PHANTOM)
    source = Simulated((Suite(str(phantom)), Suite(str(other))), 2)
    backwards = lambda start, items, workers, listen: map_items(start, items[::-1], 1, listen)  # noqa: E731
    monkeypatch.setattr(run, "map_items", backwards)
    found = evaluate_in_processes(Job(source, {"gaussian:sigma=2": "gaussian:sigma=2"}), 1, listen=lambda event: None)
    assert found.scenes == tuple((str(path), scene) for path in (phantom, other) for scene in (0, 1))


def test_the_command_scores_filters(tmp_path, phantom, capsys):
    page_path, json_path = tmp_path / "new" / "r.html", tmp_path / "r.json"
    words = ["evaluate", "--sim", str(phantom), "-m", "gaussian:sigma=2.5", "-m", "lee", "--frames", "2", "--seed", "9"]
    words += ["-o", str(page_path), "--json", str(json_path), "--csv", str(tmp_path / "r.csv")]
    assert main([*words, "--workers", "1", "--pictures", "0"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"^gaussian:sigma=2.5 +\d\d\.\d\d", shown.out, re.MULTILINE)
    content = json.loads(json_path.read_text())
    assert [method["name"] for method in content["methods"]] == ["gaussian:sigma=2.5", "lee", *controls()]
    assert content["about"]["frames"] == f"2 of {phantom}, seed 9"
    assert content["about"]["command"].startswith(f"s2s evaluate --sim {phantom} --method gaussian:sigma=2.5 --method")
    assert set(content["about"]["method"]) == {"gaussian:sigma=2.5", "lee"}
    assert [method["cost"]["parameters"] for method in content["methods"][:3]] == [0, 0, None]
    assert "one thread" in content["about"]["machine"]
    assert page_path.read_text().startswith("<!doctype html>")
    assert "data:image/png" not in page_path.read_text()
    assert (tmp_path / "r.csv").read_text().startswith("method,control,suite,metric,")
    frame = usim.simulate(phantom, seed=judged_seed(9))
    image = np.clip(frame.bmode, -60, 0)
    lee = files.load_denoisers(["lee"])["lee"].denoise(image, "db")
    again = evaluate({"filter": lambda _: lee}, [Case("s", 0, {IMAGE: frame})])
    (row,) = [row for row in content["rows"] if row["method"] == "lee" and row["scene"] == 0]
    assert again.rows[0].scores["psnr"] == pytest.approx(row["scores"]["psnr"])


def test_checkpoints_are_called_by_their_method_and_by_their_path_where_there_are_two(tmp_path):
    golden = Path(__file__).parents[1] / "golden" / "s2s-1.pt"
    (other := tmp_path / "other.pt").write_bytes(golden.read_bytes())
    (label, one), _ = files.load_denoisers([str(golden), "nlm"]).items()
    assert label == one.name
    assert list(files.load_denoisers([str(golden), str(other)])) == [f"{label} ({golden})", f"{label} ({other})"]


def test_weights_of_a_file_and_those_in_the_box_are_told_apart(tmp_path):
    (mine := tmp_path / "mine.safetensors").write_bytes(weights_of("speckle2self").read_bytes())
    for specs in ([str(mine), "speckle2self"], ["speckle2self", str(mine)]):
        assert set(files.load_denoisers(specs)) == {f"speckle2self ({mine})", "speckle2self"}


def test_the_command_reads_data(tmp_path, phantom, capsys):
    folder = tmp_path / "data"
    generate(usim.load_phantom(phantom), folder, frames=2, workers=1)
    assert main(["-q", "evaluate", "--data", str(folder), "-m", "median", "--frames", "1", "--workers", "1"]) == 0
    shown = capsys.readouterr()
    assert "one scene: no intervals" in shown.out
    assert ".." not in shown.out
    assert shown.err == ""


def test_every_filter_is_judged_when_none_is_named(phantom, capsys, monkeypatch):
    monkeypatch.setattr(cost, "measured_costs", lambda *given: {})
    assert main(["-q", "evaluate", "--sim", str(phantom), "--frames", "1", "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    for name in ("gaussian", "median", "lee", "kuan", "frost", "srad", "nlm", "obnlm"):
        assert re.search(rf"^{name} +\d\d\.\d\d", shown, re.MULTILINE)
    assert not re.search(r"^(noise2|speckle2self)", shown, re.MULTILINE)


def test_a_failure_ends_with_exit_code_3_after_the_table(tmp_path, phantom, capsys, monkeypatch):
    real = files.functions

    def functions(denoisers):
        return real(denoisers) | {"broken": lambda image: image * np.nan}

    monkeypatch.setattr(run, "functions", functions)
    words = ["-q", "evaluate", "--sim", str(phantom), "-m", "lee", "--frames", "2", "--workers", "1"]
    assert main([*words, "--json", str(tmp_path / "r.json")]) == 3
    shown = capsys.readouterr()
    assert re.search(r"^lee +\d\d", shown.out, re.MULTILINE)
    assert "broken: failed in 2 of 2 scenes: 9216 of its 9216 pixels are nan or infinite" in shown.err
    assert json.loads((tmp_path / "r.json").read_text())["failures"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("-m median", 2, "either --sim, or --data"),
        ("--sim --data x -m median", 2, "either --sim, or --data"),
        ("--data x -m median --seed 1", 2, "belong to --sim"),
        ("--data x -m median --engine sir", 2, "--engine belong to --sim"),
        ("", 2, "either --sim, or --data"),
        ("--sim nothing -m median", 2, "nothing: no such file"),
        ("--sim -m median -m median", 2, "given twice"),
        ("--sim -m medain", 2, "did you mean 'median'"),
        ("--sim -m median -o report.pdf", 2, "end its name with .html"),
        ("--sim -m median --json report.html", 2, "end its name with .json"),
        ("--sim -m median --csv report.json", 2, "end its name with .csv"),
        ("--data nothing -m median", 3, "nothing: missing"),
        ("--sim -m median --frames 99999999999", 2, "1<=x<=100000"),
    ],
)
def test_refusals_come_before_any_work(tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "judge", lambda *given, **more: pytest.fail("work was begun"))
    assert main(["evaluate", *words.split()]) == code
    error = capsys.readouterr().err.splitlines()
    assert said in error[-1]
    assert [line for line in error if line.startswith("error:")] == [error[-1]]
    assert not list(tmp_path.iterdir())


def test_a_phantom_that_the_engine_refuses_is_named(tmp_path, capsys):
    path = tmp_path / "field.yaml"
    path.write_text(
        "probe: L7-4\nimage: {x: [-6 mm, 6 mm], z: [8 mm, 20 mm], pixels: [32, 32]}\n"
        "background: {echogenicity: 0 dB}\nscatterers: {model: field}\n"
    )
    assert main(["evaluate", "--sim", str(path), "--engine", "sir", "-m", "lee", "--frames", "1"]) == 2
    error = capsys.readouterr().err
    assert re.match(r"error: \S*field.yaml with another engine:.*sir needs scatterers", error.replace("\n", " "))


def test_outputs_are_looked_at_first(tmp_path, monkeypatch):
    (tmp_path / "a.html").mkdir()
    (tmp_path / "file").write_text("")
    for path, said in ((tmp_path / "a.html", "is a folder"), (tmp_path / "file" / "b.html", "no folder")):
        with pytest.raises(ConfigError, match=said):
            files.refuse_target(path, ".html")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(ResourceError, match="no permission"):
        files.refuse_target(tmp_path / "c.html", ".html")
    files.refuse_target(None, ".html")
