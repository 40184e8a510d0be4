"""Benchmarks: who competes, what is kept of an interrupted one, and tables that hold no figure without an interval."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from surroundings import PATIENCE, environment

from s2s.benchmark import store, tables
from s2s.benchmark.judging import joined, only
from s2s.benchmark.paper import COLUMNS, PATIENTS, ROWS, SETS
from s2s.benchmark.state import Done
from s2s.benchmark.suite import PAPER, SUITES, Contender, Preset, Suite
from s2s.benchmark.work import Benchmark
from s2s.cli import main
from s2s.evaluation.cases import Suite as Judged
from s2s.evaluation.controls import NOISY
from s2s.evaluation.results import Cost, Evaluation, Failure, Picture, Row
from s2s.evaluation.run import EVERYONE, Judgement
from s2s.evaluation.statistics import Interval
from s2s.methods import METHODS, make, method_class
from s2s.published import published
from usim.errors import DataError
from usim.phantom.load import load_phantom, shipped_phantoms

PHANTOM = """
probe: {elements: 32, pitch: 0.3 mm, element_width: 0.27 mm, element_height: 5 mm, elevation_focus: 15 mm,
        center_frequency: 5 MHz, fractional_bandwidth: 0.6}
medium: {sound_speed: 1540 m/s}
transmit: {type: plane}
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [64, 64], dynamic_range: 60 dB}
scatterers: {model: field}
background: {echogenicity: 0 dB}
regions:
  - {shape: circle, center: [{uniform: [-2 mm, 2 mm]}, 14 mm], radius: 2 mm, echogenicity: -12 dB}
"""
TINY = Preset(
    method="toy", steps=3, crops=1, images=2, few=1, battery=2, tuning=1, sweep=False,
    fit={"zs-n2n": {"fit": 2, "width": 4}}, took="seconds",
)  # fmt: skip
SMALL = {"width": 4, "depth": 1}
CONTENDERS = (
    Contender("median", "median", "tuned"),
    Contender("noise2noise", "noise2noise", "trained", settings=SMALL),
    Contender(
        "noise2noise (slices)", "noise2noise", "trained", settings={**SMALL, "pair": "slice"}, phantom="sweep.yaml"
    ),
    Contender("zs-n2n", "zs-n2n", "fitted"),
    Contender("default (in the box)", "default", "published"),
)


# Who competes.


def test_contenders_are_what_the_paper_compares_and_more():
    labels = [one.label for one in PAPER.contenders]
    assert len(set(labels)) == len(labels)
    assert len({one.folder for one in PAPER.contenders}) == len(labels)
    assert set(ROWS) <= set(labels)
    competing = {one.method.rpartition(":")[2] for one in PAPER.contenders}
    assert set(METHODS) <= competing


@pytest.mark.parametrize("preset", PAPER.presets)
@pytest.mark.parametrize("one", PAPER.contenders, ids=lambda one: one.label)
def test_every_contender_can_be_made_with_every_preset(one, preset):
    asked = PAPER.presets[preset]
    if one.way == "published":
        assert one.method in published()
    elif one.way == "fitted":
        made = make(one.method, **asked.fit[one.bare_method])
        assert made.fit_steps > 0
        assert made.needs == ("y",)
    elif one.way == "tuned":
        assert method_class(one.method).TUNING
    else:
        made = make(one.method, one.preset or asked.method, **one.settings)
        training = method_class(one.method).TRAINING[one.preset or asked.method]
        changed = one.changes(asked.crops)
        assert changed.get("crop", training.crop) % made.multiple == 0
        assert changed.get("crop", training.crop) >= made.smallest or not changed
        if changed:
            pixels = max(asked.crops * 64**2, changed["crop"] ** 2)
            assert changed["batch"] * changed["crop"] ** 2 == pytest.approx(pixels, rel=0.3)


def test_what_is_learned_from_and_judged_on_is_shipped():
    shipped = shipped_phantoms()
    assert {suite.phantom for suite in (*PAPER.images, *PAPER.battery)} <= set(shipped)
    assert {one.phantom for one in PAPER.contenders if one.phantom} | {PAPER.phantom} <= set(shipped)
    for one in PAPER.contenders:
        if one.settings.get("pair") == "slice":
            assert load_phantom(one.phantom).views.slice > 1


def test_the_papers_figures_are_those_of_its_table():
    assert ROWS["speckle2self (as published)"].sets[1] == (18.94, 0.777, 0.792, 0.233)
    assert ROWS["noise2true"].sets[2] == (27.66, 0.973, 0.941, 0.062)
    assert ROWS["srad"].patients == 0.705
    assert ROWS["noise2noise"].patients is None
    assert all(len(row.sets) == 3 for row in ROWS.values())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--suite", "papers"], "--suite: 'papers' is unknown; allowed are paper"),
        (["--preset", "smoky"], "--preset: 'smoky' is unknown; did you mean 'smoke'"),
        (["-m", "noise2nose"], "--method: 'noise2nose' is none of this suite; did you mean 'noise2noise'"),
        (["--page", "results.html"], "end its name with .md"),
        (["--sim", "nowhere"], "nowhere"),
        (["-m", "noise2true", "--sim", "nowhere"], "nowhere"),
        (["-m", "noise2true", "--seed", "9223372036854775808"], "seed: "),
        (["--page", "notes.md"], "notes.md: holds something else than results"),
        (["--page", "out/results.md"], "a file is in the way of the page's pictures"),
        (["--minutes", "0"], "--minutes"),
    ],
)
def test_bad_calls_are_refused_before_any_work(tmp_path, monkeypatch, capsys, options, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("# Notes")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/results").write_text("a file")
    assert main(["benchmark", "-m", "gaussian", "-o", "work", *options]) == 2
    assert text in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "work").exists()


# What is kept.


def judgement(suite="paper-s2", scene=0, methods=("nlm", "srad"), picture=True):
    random = np.random.default_rng(scene)
    scores = {"psnr": 30.0, "hom": math.nan}
    rows = tuple(Row(name, suite, scene, 0.5, {**scores, "psnr": random.uniform(20, 30)}) for name in methods)
    images = {name: random.uniform(-60.0, 0.0, (300, 280)).astype(np.float32) for name in (NOISY, *methods, "truth")}
    axes = np.arange(280) * 1e-4, np.arange(300) * 1e-4
    maps = {"bias": {methods[0]: images["truth"]}}
    shown = Picture(suite, scene, images, *axes, 60.0, maps) if picture else None
    failures = (Failure("srad", suite, scene, "image", "it broke"),)
    return Judgement(suite, scene, rows, failures, shown, {("nlm", "h=1"): {"edge_mm": 1.5}})


@pytest.mark.parametrize("picture", [True, False])
def test_a_judged_scene_is_read_as_it_was_written(tmp_path, picture):
    wanted = judgement(picture=picture)
    store.save(tmp_path / "deep" / "scene-0", wanted, {"nlm": "nlm:h=1"})
    assert store.known(tmp_path / "deep" / "scene-0") == {"nlm": "nlm:h=1"}
    assert store.known(tmp_path / "deep" / "scene-1") == {}
    found = store.read(tmp_path / "deep" / "scene-0")
    assert [(row.method, row.seconds, row.scores["psnr"]) for row in found.rows] == [
        (row.method, row.seconds, row.scores["psnr"]) for row in wanted.rows
    ]
    assert all(math.isnan(row.scores["hom"]) for row in found.rows)
    assert (found.failures, found.swept) == (wanted.failures, wanted.swept)
    if picture:
        assert list(found.picture.images) == [NOISY, "nlm", "srad", "truth"]
        for name, image in wanted.picture.images.items():
            np.testing.assert_allclose(found.picture.images[name], image, atol=0.02)
        np.testing.assert_array_equal(found.picture.z, wanted.picture.z)
        assert found.picture.maps["bias"]["nlm"].shape == (300, 280)
    else:
        assert found.picture is None


def test_pictures_show_the_middle():
    whole = judgement().picture
    found = store.middle(whole)
    for name, image in whole.images.items():
        np.testing.assert_array_equal(found.images[name], image[22 : 22 + 256, 12 : 12 + 256])
    np.testing.assert_array_equal(found.z, whole.z[22:278])
    np.testing.assert_array_equal(found.x, whole.x[12:268])
    assert found.maps["bias"]["nlm"].shape == (256, 256)
    again = store.middle(found)
    assert all(np.array_equal(again.images[name], image) for name, image in found.images.items())


def test_a_damaged_scene_is_named(tmp_path):
    store.save(tmp_path / "scene", judgement(), {})
    whole, packed = (tmp_path / "scene.json").read_text(), bytearray((tmp_path / "scene.npz").read_bytes())
    packed[200:220] = bytes(20)
    for broken in (b"PK nonsense", b"", bytes(packed)):
        (tmp_path / "scene.npz").write_bytes(broken)
        with pytest.raises(DataError, match=r"scene\.json: damaged: .*remove it, and --resume judges the scene again"):
            store.read(tmp_path / "scene")
    for broken in ("{", "[]", "null", whole.replace('"scores": {', '"scores": null, "x": {')):
        (tmp_path / "scene.json").write_text(broken)
        with pytest.raises(DataError, match="damaged"):
            store.read(tmp_path / "scene")


@pytest.mark.parametrize(
    "broken", ["{", "[]", '{"settings": null}', '{"settings": {"median": 3}}', '{"seconds": "x"}', '{"what": {}}']
)
def test_a_damaged_state_is_named_with_its_cure(tmp_path, broken):
    (tmp_path / "state.json").write_text(broken)
    with pytest.raises(DataError, match=r"state\.json: damaged: .*remove it, and --resume makes again"):
        Done.read(tmp_path)
    assert Done.read(tmp_path / "elsewhere") == Done()


def test_two_judgements_of_a_scene_are_joined():
    first, second = judgement(methods=("nlm", "srad")), judgement(methods=("srad", "lee"))
    made = joined(first, replace(second, failures=()))
    assert [row.method for row in made.rows] == ["nlm", "srad", "lee"]
    assert made.rows[1].scores["psnr"] == second.rows[0].scores["psnr"]
    assert made.failures == ()
    assert list(made.picture.images) == [NOISY, "nlm", "srad", "lee", "truth"]
    gone = replace(first, rows=(), failures=(Failure(EVERYONE, "a", 0, "image", "gone"),))
    assert joined(gone, second).failures == second.failures


# Tables.


def evaluation():
    suites = [*SETS.values(), PATIENTS[1], "evaluation/edges", "evaluation/wires"]
    random, rows = np.random.default_rng(1), []
    for suite in suites:
        for scene in range(3):
            for number, name in enumerate(("nlm", "noise2void", "polyphase(4):noise2void", "dip", NOISY)):
                if name == "dip" and (suite.startswith("evaluation") or scene > 1):
                    continue
                scores = {
                    key: 20.0 + number + random.normal(0.0, 0.1) for key in (*COLUMNS[:3], *tables.OWN, "edge_mm")
                }
                rows.append(Row(name, suite, scene, 0.1 * (number + 1), scores))
    names = tuple(dict.fromkeys(row.method for row in rows))
    costs = {name: Cost(1.0, 1000) for name in names}
    return Evaluation(names, frozenset({NOISY}), tuple(rows), costs=costs, about={})


def test_every_figure_of_ours_has_an_interval():
    found = evaluation()
    battery = only(found, ["evaluation/edges", "evaluation/wires"])
    every = [*tables.paper_tables(found, {}), *tables.battery_tables(battery), tables.gain_table(battery, ["nlm"])]
    every.append(tables.phases_table(found))
    assert [one.title for one in every][:3] == ["S-I, our `paper-s1`", "S-II, our `paper-s2`", "S-III, our `paper-s3`"]
    for table in every:
        assert table.lines
        for name, cells in table.lines:
            assert len(cells) == len(table.heads)
            for head, cell in zip(table.heads, cells, strict=True):
                plain = head in ("paper", "scenes", "parameters", "told from 0", "training, minutes")
                form = (
                    r"[\d.]+ \([\d.]+ to [\d.]+\)" if head == "s per image" else r"\+?-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]"
                )
                assert plain or cell == "-" or re.fullmatch(form, cell), (name, head)


def test_the_papers_rows_come_first_with_its_figures_beside_ours():
    table = tables.paper_tables(evaluation(), {})[1]
    assert [name for name, _ in table.lines] == ["nlm", "dip", "noise2void", "polyphase(4):noise2void", NOISY]
    cells = dict(table.lines)
    assert cells["nlm"][1::2][:4] == ["19.52", "0.738", "0.740", "0.428"]
    assert cells["polyphase(4):noise2void"][1::2][:4] == ["-"] * 4
    assert (cells["nlm"][-1], cells["dip"][-1]) == ("3", "2")
    assert "| nlm | " in table.markdown()
    assert "<table" in table.html()


def test_times_tell_what_was_trained():
    *_, times = tables.paper_tables(evaluation(), {"noise2void": 90.0})
    assert times.title == "Time"
    assert {name: cells[-1] for name, cells in times.lines}["noise2void"] == "1.5"
    assert {cells[-1] for name, cells in times.lines if name != "noise2void"} == {"-"}


def test_gains_are_of_the_same_scenes_and_the_best_filter():
    whole = evaluation()
    flat = [row for row in whole.rows if (row.suite, row.scene) == ("evaluation/wires", 2)]
    rows = [replace(row, scores={**row.scores, tables.GAIN: math.nan}) if row in flat else row for row in whole.rows]
    battery = only(replace(whole, rows=tuple(rows)), ["evaluation/edges", "evaluation/wires"])
    assert "dip" not in battery.methods
    table = tables.gain_table(battery, ["nlm", "bm3d"])
    assert [name for name, _ in table.lines] == ["polyphase(4):noise2void", "noise2void"]
    gain, real = table.lines[0][1]
    assert float(gain.split()[0]) == pytest.approx(2.0, abs=0.15)
    assert real == "yes"
    assert tables.gain_table(battery, ["bm3d"]) is None
    (line,) = tables.phases_table(evaluation()).lines
    assert line[0] == "noise2void"
    assert float(line[1][0].split()[0]) == pytest.approx(1.0, abs=0.15)


def test_one_scene_is_told_to_be_one():
    assert tables.shown(Interval(1.0, math.nan, math.nan, 1), 1) == "1.0 (one scene)"
    assert tables.shown(Interval(1.0, math.nan, math.nan, 9), 1) == "1.0 (9 scenes, no interval)"
    assert tables.shown(Interval(math.nan, math.nan, math.nan, 0), 1) == "-"
    assert tables.shown(Interval(1.0, 0.5, 1.5, 4), 1, "+") == "+1.0 [0.5, 1.5]"


# The whole work, small.


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A suite of small contenders on small scenes, and the folder in which commands run."""
    for name in ("small.yaml", "other.yaml"):
        (tmp_path / name).write_text(PHANTOM)
    sweep = PHANTOM.replace("{model: field}", "{model: volume}\nsweep: {slices: 2, step: 2 mm}")
    (tmp_path / "sweep.yaml").write_text(sweep.replace("type: plane", "type: focused, depth: 14 mm"))
    images, battery = ((Judged(str(tmp_path / name)),) for name in ("small.yaml", "other.yaml"))
    suite = Suite("tiny", str(tmp_path / "small.yaml"), CONTENDERS, {"smoke": TINY}, images, battery)
    monkeypatch.setitem(SUITES, "tiny", suite)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*more):
    return main(["benchmark", "--suite", "tiny", "--workers", "1", "--device", "cpu", "-o", "work", *more])


def judged_by(scores):
    """How many scenes each method has, by its name."""
    return {one["name"]: one["metrics"]["psnr"]["count"] for one in scores["methods"] if not one["control"]}


@pytest.mark.usefixtures("one_thread")
def test_a_benchmark_goes_on_where_it_was_and_names_what_failed(tiny, capsys, monkeypatch):
    judged, save, train_one = [], store.save, Benchmark._train_one

    def stop_after_three(path, judgement, known):
        save(path, judgement, known)
        judged.append(path)
        if len(judged) == 3:
            raise KeyboardInterrupt

    def one_fails(self, one):
        if "slices" in one.label:
            raise RuntimeError("out of memory")
        train_one(self, one)

    monkeypatch.setattr(store, "save", stop_after_three)
    monkeypatch.setattr(Benchmark, "_train_one", one_fails)
    assert run() == 130
    said = capsys.readouterr().err
    assert "1 of 1 filters are tuned, 1 of 2 trainings done, 3 of 5 scenes judged" in said
    assert "--resume" in said
    assert "noise2noise (slices) is left out: RuntimeError: out of memory" in said
    trained = (tiny / "work/trained/noise2noise/last.pt").read_bytes()
    state = json.loads((tiny / "work/state.json").read_text())
    assert run() == 2
    assert "holds a benchmark; go on with it with --resume" in capsys.readouterr().err
    assert run("--resume", "--seed", "5") == 2
    assert "was begun with seed 0" in capsys.readouterr().err

    monkeypatch.setattr(store, "save", lambda *one: judged.append(one[0]) or save(*one))
    assert run("--resume") == 3  # all is written, and what failed is named
    told = capsys.readouterr()
    assert len(judged) == len(set(judged)) == 5
    assert (tiny / "work/trained/noise2noise/last.pt").read_bytes() == trained
    assert json.loads((tiny / "work/state.json").read_text())["settings"] == state["settings"]
    assert "noise2noise (slices): RuntimeError: out of memory" in told.err
    written = [line for line in told.out.splitlines() if line.startswith("work")]
    assert written == ["work/results.md", "work/results.html", "work/scores.json", "work/scores.csv"]
    page, html = (tiny / "work/results.md").read_text(), (tiny / "work/results.html").read_text()
    assert "s2s benchmark --suite tiny --preset smoke -o work" in page
    assert "## What is missing" in page
    assert "noise2noise (slices) was left out: RuntimeError: out of memory" in page
    assert "noise2noise (slices) was left out: RuntimeError: out of memory" in html
    counts = judged_by(json.loads((tiny / "work/scores.json").read_text()))
    assert counts == {"median": 4, "noise2noise": 4, "zs-n2n": 1, "default (in the box)": 4}

    monkeypatch.setattr(Benchmark, "_train_one", train_one)
    assert run("--resume") == 0  # what failed before is trained, and judged on every scene that is there already
    assert "What is missing" not in (tiny / "work/results.md").read_text()
    scores = json.loads((tiny / "work/scores.json").read_text())
    assert judged_by(scores) == {**counts, "noise2noise (slices)": 4}
    assert len(scores["rows"]) == len({(row["method"], row["suite"], row["scene"]) for row in scores["rows"]})


@pytest.mark.usefixtures("one_thread")
def test_weights_that_changed_or_went_are_noticed(tiny, capsys):
    asked = ("-m", "noise2noise", "-m", "noise2noise (slices)", "-m", "median")
    assert run(*asked) == 0
    first, second = (tiny / "work/trained" / name / "last.pt" for name in ("noise2noise", "noise2noise-slices"))
    before = json.loads((tiny / "work/scores.json").read_text())
    first.write_bytes(second.read_bytes())
    capsys.readouterr()
    assert run(*asked, "--resume") == 0
    assert "judging 1 rows on 2 scenes (images)" in capsys.readouterr().err
    after = json.loads((tiny / "work/scores.json").read_text())
    rows = [
        [row["scores"]["psnr"] for row in scores["rows"] if row["method"] == name]
        for scores, name in ((before, "noise2noise"), (after, "noise2noise"), (after, "noise2noise (slices)"))
    ]
    assert rows[0] != rows[1] == rows[2]
    second.write_bytes(second.read_bytes()[:1000])
    assert run(*asked, "--resume") == 3
    told = capsys.readouterr().err
    assert "noise2noise (slices) is left out: " in told
    assert f"remove {Path('work/trained/noise2noise-slices')}, and --resume trains it again" in told
    shutil.rmtree(second.parent)
    assert run(*asked, "--resume") == 0
    assert run("-m", "median", "--resume") == 2
    assert "was begun with other methods, or other settings of them; ask the same" in capsys.readouterr().err
    assert judged_by(json.loads((tiny / "work/scores.json").read_text()))["noise2noise (slices)"] == 4
    (tiny / "sweep.yaml").write_text((tiny / "sweep.yaml").read_text().replace("-12 dB", "-30 dB"))
    assert run(*asked, "--resume") == 2
    assert "was begun with another text of its phantoms" in capsys.readouterr().err


@pytest.mark.usefixtures("one_thread")
def test_methods_that_are_added_are_shown_at_the_same_place(tiny, monkeypatch):
    box = "default (in the box)"
    monkeypatch.setattr(store, "SHOWN", 16)
    assert run("-m", "median", "-m", box) == 0
    (tiny / "work").rename("together")
    assert run("-m", "median") == 0
    assert run("-m", "median", "-m", box, "--resume") == 0
    pictures = sorted((tiny / "together").glob("judged/*/*.npz"))
    assert pictures
    for path in pictures:
        with np.load(path) as once, np.load(tiny / "work" / path.relative_to(tiny / "together")) as later:
            assert set(once.files) == set(later.files)
            assert once["image truth"].shape == (16, 16)
            for name in once.files:
                np.testing.assert_array_equal(once[name], later[name], name)


def test_a_benchmark_goes_on_with_more_methods(tiny, capsys):
    assert run("-m", "median") == 0
    before = json.loads((tiny / "work/scores.json").read_text())
    assert run("-m", "median", "-m", "noise2noise (slices)", "--resume") == 0
    after = json.loads((tiny / "work/scores.json").read_text())
    assert judged_by(after) == {"median": 4, "noise2noise (slices)": 4}
    psnr = [[row["scores"]["psnr"] for row in one["rows"] if row["method"] == "median"] for one in (before, after)]
    assert psnr[0] == psnr[1]
    assert list(json.loads((tiny / "work/plan.json").read_text())["contenders"]) == ["median", "noise2noise (slices)"]


def test_minutes_end_a_benchmark_that_goes_on(tiny, capsys):
    only_tuned = ("-m", "median")
    assert run(*only_tuned, "--minutes", "0.0001") == 4
    said = capsys.readouterr().err
    assert "0.0001 minutes are over: " in said
    assert "the same command with --resume goes on" in said
    assert "preset smoke: seconds" in said
    assert run(*only_tuned, "--resume") == 0
    assert (tiny / "work/results.html").is_file()
    assert run(*only_tuned, "--resume") == 0  # everything is there: it is written again


def test_what_is_not_installed_is_named_and_the_table_goes_on(tiny, capsys, monkeypatch):
    monkeypatch.setattr(method_class("median"), "lacking", classmethod(lambda kind: "install it; its licence is free"))
    monkeypatch.setitem(
        SUITES, "tiny", replaced(SUITES["tiny"], (*CONTENDERS[:1], Contender("gaussian", "gaussian", "tuned")))
    )
    assert run() == 0
    assert "median is left out: install it; its licence is free" in capsys.readouterr().err
    page = (tiny / "work/results.md").read_text()
    assert "- median was left out: install it; its licence is free" in page
    assert "| gaussian | " in page


def replaced(suite, contenders):
    return Suite(suite.name, suite.phantom, contenders, suite.presets, suite.images, suite.battery)


def test_a_folder_that_holds_something_else_is_left_alone(tiny, capsys):
    (tiny / "work").mkdir()
    (tiny / "work/thesis.tex").write_text("years")
    assert run() == 2
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in (tiny / "work").iterdir()] == ["thesis.tex"]
    assert main(["benchmark", "--resume", "-o", "nothing"]) == 3
    assert "holds no benchmark to go on with" in capsys.readouterr().err


def test_a_signal_ends_a_benchmark_that_says_how_it_goes_on(tmp_path):
    command = [sys.executable, "-m", "s2s", "benchmark", "-m", "srad", "-o", "work", "--workers", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("tuning"):
            os.kill(process.pid, signal.SIGINT)
            break
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 130
    assert "interrupted; 0 of 1 filters are tuned" in said
    assert "go on with the same command and --resume" in said
    assert (tmp_path / "work/plan.json").is_file()
