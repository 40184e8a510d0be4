"""Judging: equal frames for all, names that mean nothing, statistics, JSON, the page, and every refusal."""

import itertools
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from s2s.evaluate import NOISY, Column, Evaluation, Row, evaluate, notes, stored_frames, table, to_json
from scipy import ndimage

import usim
from s2s import evaluate as judge
from s2s.cli import main
from s2s.report import detail_of, draw_picture, page, write_report
from usim.errors import ConfigError, DataError, ResourceError
from usim.frame import Axes
from usim.generate import generate

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
def frames(phantom):
    return list(itertools.islice(usim.stream(phantom, seed=5), 3))


def blur(image):
    return ndimage.gaussian_filter(image, 2)


@pytest.fixture(scope="module")
def evaluation(frames):
    return evaluate({"blur": blur, "<i>&": np.copy}, iter(frames), pictures=2, about={"frames": "3 of <b>"})


def test_every_method_sees_the_same_frames_as_a_scanner_shows_them(frames):
    seen = {"one": [], "two": []}

    def spoil(image):
        seen["one"].append(image.copy())
        image[:] = 0
        return image

    def keep(image):
        seen["two"].append(image.copy())
        return image

    evaluate({"one": spoil, "two": keep}, frames)
    for one, two, frame in zip(seen["one"], seen["two"], frames, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, np.clip(frame.bmode, -60, 0))
        assert one.dtype == np.float32


def test_frames_are_taken_one_at_a_time(frames):
    log = []

    def source():
        for number, frame in enumerate(frames):
            log.append(f"frame {number}")
            yield frame

    evaluate({"blur": blur}, source(), progress=lambda done: log.append(f"done {done}"))
    assert log == ["frame 0", "done 1", "frame 1", "done 2", "frame 2", "done 3"]


def test_names_mean_nothing_to_the_scores(frames, evaluation):
    other = evaluate({"truth": blur, "psnr": np.copy}, frames)
    for (first, second), metric in itertools.product((("blur", "truth"), ("<i>&", "psnr")), evaluation.metrics):
        np.testing.assert_array_equal(evaluation.values(first, metric), other.values(second, metric))
    for metric in evaluation.metrics:
        np.testing.assert_array_equal(evaluation.values(NOISY, metric), evaluation.values("<i>&", metric))


def test_blurring_helps_where_it_should_and_its_price_is_seen(evaluation):
    """The figures of speckle before and after a blur, in wide bounds: signs and sizes, not decimals."""
    noisy, clean = ({m: evaluation.statistics(name, m).mean for m in evaluation.metrics} for name in (NOISY, "blur"))
    assert 15 < noisy["psnr"] < clean["psnr"] - 5
    assert noisy["psnr_fit"] > noisy["psnr"]
    assert noisy["enl"] == pytest.approx(1, abs=0.25)
    assert clean["enl"] > 4
    assert noisy["gcnr"] < clean["gcnr"] <= noisy["gcnr_true"] == 1
    assert noisy["edge_true_mm"] < clean["edge_mm"] < 2.5
    assert noisy["hom"] < clean["hom"]
    assert noisy["gcnr_skipped"] == noisy["edge_skipped"] == 0


def test_statistics_leave_out_what_was_not_measured():
    values = [1.0, math.nan, 4.0, math.inf]
    rows = [Row(NOISY, k, 0.1 * (k + 1), {"a": v, "b": math.nan, "c": float(k)}) for k, v in enumerate(values)]
    found = Evaluation((NOISY,), tuple(rows[:3]))
    assert found.statistics(NOISY, "a") == judge.Statistics(2.5, pytest.approx(4.5**0.5), 2)
    assert found.statistics(NOISY, "c") == judge.Statistics(1.0, 1.0, 3)
    nothing = found.statistics(NOISY, "b")
    assert math.isnan(nothing.mean)
    assert nothing.count == 0
    endless = Evaluation((NOISY,), tuple(rows)).statistics(NOISY, "a")
    assert endless.mean == math.inf
    assert math.isnan(endless.std)
    assert found.seconds(NOISY) == pytest.approx(0.2)
    assert found.frames == 3


def test_json_comes_back(evaluation):
    content = json.loads(to_json(evaluation), parse_constant=lambda word: pytest.fail(word))
    assert content["about"] == {"frames": "3 of <b>"}
    assert [method["name"] for method in content["methods"]] == list(evaluation.methods) == [NOISY, "blur", "<i>&"]
    for method, metric in itertools.product(content["methods"], evaluation.metrics):
        statistics = evaluation.statistics(method["name"], metric)
        assert method["metrics"][metric] == {"mean": statistics.mean, "std": statistics.std, "count": 3}
    for row, one in zip(content["rows"], evaluation.rows, strict=True):
        assert (row["method"], row["frame"], row["scores"]) == (one.method, one.frame, one.scores)
    assert set(content["definitions"]) | {"gcnr/cyst", "gcnr_true/cyst", "gcnr/lesion", "gcnr_true/lesion"} == set(
        evaluation.metrics
    )


def test_json_has_no_infinities(frames):
    truths = iter([frame.truth.bmode for frame in frames])
    content = json.loads(to_json(evaluate({"oracle": lambda image: next(truths)}, frames)))
    assert content["methods"][1]["metrics"]["enl"]["mean"] is None
    assert content["methods"][1]["metrics"]["ssim"]["mean"] == pytest.approx(1)


def test_the_table_fits_a_screen(evaluation):
    text = table(evaluation)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 125
    assert lines[0].split()[:3] == ["method", "PSNR", "PSNR"]
    assert lines[1].startswith("noisy")
    assert f"{evaluation.statistics('blur', 'psnr').mean:.2f}" in lines[3]
    assert f"±{evaluation.statistics('blur', 'psnr').std:.2f}" in lines[4]
    assert re.search(r"^lesion +1\.000", text, re.MULTILINE)
    assert "over 3 frames" in text


def test_the_table_says_what_could_not_be_measured():
    scores = {"gcnr": math.nan, "gcnr_skipped": 2.0, "edge_mm": 1.0, "edge_skipped": 0.0}
    found = Evaluation((NOISY,), (Row(NOISY, 0, 0.0, scores),))
    assert "gCNR: measured in 0 of 1 frames; 2 regions left out" in notes(found)
    assert not [line for line in notes(found) if line.startswith("edge")]
    assert Column("gCNR", "gcnr", 3, beside="gcnr_true").mean(found, NOISY) == "-"
    assert Column("edge", "edge_mm", 2).spread(found, NOISY) == ""
    assert judge.number(12345.678, 2) == "12346"


def test_the_page_is_self_contained(evaluation, tmp_path):
    path = tmp_path / "report.html"
    write_report(evaluation, path, title="A <title>")
    text = path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    sources = re.findall(r'src="([^"]{0,22})', text)
    assert len(sources) == 1 + 2 * len(evaluation.pictures)
    assert set(sources) == {"data:image/png;base64,"}
    assert "<i>&" not in text
    assert "&lt;i&gt;&amp;" in text
    assert "3 of &lt;b&gt;" in text
    assert "A &lt;title&gt;" in text
    best = f"<b>{evaluation.statistics('blur', 'psnr').mean:.2f}</b>"
    assert best in text
    assert not re.search(r"<b>[^<]*\(", text), "what any blur improves is never set bold"


def test_a_page_without_pictures(evaluation):
    text = page(replace(evaluation, pictures=()), "none")
    assert "<h2>Pictures" not in text
    assert "<h2>Frame by frame" in text
    one = replace(evaluation, pictures=(), rows=evaluation.rows[: len(evaluation.methods)])
    assert "<img" not in page(one, "one frame")


def test_pictures_share_scale_and_millimetres(evaluation):
    picture = evaluation.pictures[0]
    assert list(picture.images) == [NOISY, "blur", "<i>&", "truth"]
    figure = draw_picture(picture)
    panels = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title() for panel in panels] == list(picture.images)
    assert {panel.images[0].get_clim() for panel in panels} == {(-60.0, 0.0)}
    left, right, bottom, top = panels[0].images[0].get_extent()
    assert (left, right) == pytest.approx((-8, 8), abs=0.1)
    assert (top, bottom) == pytest.approx((5, 21), abs=0.1)
    assert panels[0].get_ylabel() == "depth [mm]"
    assert {panel.get_xlabel() for panel in panels} == {"lateral [mm]"}


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_any_number_of_methods_has_its_place(evaluation, count):
    picture = evaluation.pictures[0]
    images = {f"method {k}": picture.images["blur"] for k in range(count)} | {"truth": picture.images["truth"]}
    panels = [panel for panel in draw_picture(replace(picture, images=images)).axes if panel.images]
    assert len(panels) == count + 1
    assert len({round(panel.get_position().x0, 3) for panel in panels}) <= 4


def test_the_detail_shows_a_border(evaluation):
    picture = evaluation.pictures[0]
    rows, columns = detail_of(picture)
    truth = picture.images["truth"][rows, columns]
    assert truth.shape == (32, 32)
    assert np.ptp(truth) > 10


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda image: image[:-1], r"bad, frame 0: .*\(95, 96\) from \(96, 96\)"),
        (lambda image: np.where(image < -20, np.nan, image), "bad, frame 0: .* pixels are nan"),
        (lambda image: image * np.inf, "bad, frame 0: "),
    ],
)
def test_a_broken_method_is_named(frames, result, said):
    with pytest.raises(DataError, match=said):
        evaluate({"good": blur, "bad": result}, frames)


def test_an_image_that_a_method_refuses_is_named(frames):
    def picky(image):
        if np.array_equal(image, np.clip(frames[1].bmode, -60, 0).astype(np.float32)):
            raise DataError("image: constant")
        return image

    with pytest.raises(DataError, match=r"^picky, frame 1: image: constant$"):
        evaluate({"picky": picky}, frames)


def test_no_frames_and_the_name_noisy_are_refused(frames):
    with pytest.raises(DataError, match="no frames"):
        evaluate({"blur": blur}, [])
    with pytest.raises(ConfigError, match="untouched"):
        evaluate({NOISY: blur}, frames)


def test_frames_of_any_shape_can_be_scored(make_frame):
    """Pixels of 20 mm, and an image of 2 mm in which nothing is large enough to be measured."""
    frame = make_frame(shape=(40, 12))
    wide = replace(frame, axes=Axes(np.linspace(-0.1, 0.1, 12), frame.axes.z))
    small = replace(frame, axes=Axes(np.linspace(-1e-3, 1e-3, 12), np.linspace(2e-3, 4e-3, 40)))
    found = evaluate({"blur": blur}, [frame, wide, small])
    assert "gCNR: measured in 2 of 3 frames; 1 regions left out" in table(found)
    assert math.isnan(found.values("blur", "enl")[2])
    assert " - " in table(evaluate({}, [small]))
    assert page(found, "odd")


def test_stored_frames_need_the_truth(tmp_path, phantom):
    folder = tmp_path / "data"
    generate(usim.load_phantom(phantom), folder, frames=2, workers=1)
    assert len(stored_frames(folder)) == 2
    assert len(stored_frames(folder, 1)) == 1
    assert stored_frames(next(folder.glob("*.h5")))[0].bmode.shape == (96, 96)
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "a.png").write_bytes(b"")
    for path in (tmp_path / "png", tmp_path / "png" / "a.png"):
        with pytest.raises(DataError, match="pictures come without a truth"):
            stored_frames(path)
    with pytest.raises(DataError, match="missing"):
        stored_frames(tmp_path / "nothing")


def test_the_command_scores_filters(tmp_path, phantom, capsys):
    page_path, json_path = tmp_path / "new" / "r.html", tmp_path / "r.json"
    words = [
        "evaluate",
        "--sim",
        str(phantom),
        "-m",
        "gaussian:sigma=2",
        "-m",
        "median",
        "--frames",
        "2",
        "--seed",
        "9",
    ]
    assert main([*words, "-o", str(page_path), "--json", str(json_path)]) == 0
    shown = capsys.readouterr()
    assert re.search(r"^gaussian:sigma=2 +\d\d\.\d\d", shown.out, re.MULTILINE)
    content = json.loads(json_path.read_text())
    assert [method["name"] for method in content["methods"]] == [NOISY, "gaussian:sigma=2", "median"]
    assert content["about"]["frames"] == f"2 of phantom {phantom}, seed 9"
    assert content["about"]["command"].startswith(f"s2s evaluate --sim {phantom} --method gaussian:sigma=2 --method")
    assert set(content["about"]["method"]) == {"gaussian:sigma=2", "median"}
    assert page_path.read_text().startswith("<!doctype html>")
    frame = usim.simulate(phantom, seed=9)
    image = np.clip(frame.bmode, -60, 0)
    again = evaluate({"filter": lambda _: judge.load_denoisers(["median"])["median"].denoise(image, "db")}, [frame])
    assert again.rows[1].scores["psnr"] == pytest.approx(content["rows"][2]["scores"]["psnr"])


def test_the_command_reads_data(tmp_path, phantom, capsys):
    folder = tmp_path / "data"
    generate(usim.load_phantom(phantom), folder, frames=2, workers=1)
    assert main(["-q", "evaluate", "--data", str(folder), "-m", "median", "--frames", "1"]) == 0
    shown = capsys.readouterr()
    assert "one frame; fit" in shown.out
    assert "±" not in shown.out
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("-m median", 2, "either --sim, or --data"),
        ("--sim --data x -m median", 2, "either --sim, or --data"),
        ("--data x -m median --seed 1", 2, "--seed belongs to --sim"),
        ("--sim", 2, "--method"),
        ("--sim nothing -m median", 2, "nothing: no such file"),
        ("--sim -m median -m median", 2, "given twice"),
        ("--sim -m medain", 2, "did you mean 'median'"),
        ("--sim -m median -o report.pdf", 2, "end its name with .html"),
        ("--sim -m median --json report.html", 2, "end its name with .json"),
        ("--data nothing -m median", 3, "nothing: missing"),
    ],
)
def test_refusals_come_before_any_work(tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judge, "evaluate", lambda *given, **more: pytest.fail("work was begun"))
    assert main(["evaluate", *words.split()]) == code
    error = capsys.readouterr().err.splitlines()
    assert said in error[-1]
    assert [line for line in error if line.startswith("error:")] == [error[-1]]
    assert not list(tmp_path.iterdir())


def test_outputs_are_looked_at_first(tmp_path, monkeypatch):
    (tmp_path / "a.html").mkdir()
    (tmp_path / "file").write_text("")
    for path, said in ((tmp_path / "a.html", "is a folder"), (tmp_path / "file" / "b.html", "no folder")):
        with pytest.raises(ConfigError, match=said):
            judge.refuse_target(path, ".html")
    monkeypatch.setattr(judge.os, "access", lambda path, mode: False)
    with pytest.raises(ResourceError, match="no permission"):
        judge.refuse_target(tmp_path / "c.html", ".html")
    judge.refuse_target(None, ".html")


def test_nothing_half_written_stays(tmp_path, monkeypatch, evaluation):
    def refuse(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("usim.io.atomic.os.write", refuse)
    with pytest.raises(ResourceError, match="No space left"):
        write_report(evaluation, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_the_default_seed_is_no_phantoms_own():
    from usim.phantom.load import load_phantom, shipped_phantoms

    assert judge.DEFAULT_SEED not in {load_phantom(name).seed for name in shipped_phantoms()}
