"""The page: verdict first, everything in it, nothing from outside; and in a browser: sorting, zoom, a phone's width."""

import base64
import csv
import io
import itertools
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import usim
from s2s.evaluation.cases import Case
from s2s.evaluation.controls import NOISY
from s2s.evaluation.export import ALL_SUITES, to_csv, to_json
from s2s.evaluation.results import Cost, Evaluation, Failure, Picture, Row
from s2s.evaluation.run import evaluate
from s2s.evaluation.same_width import SCORES, Sweep
from s2s.metrics.battery import METRICS
from s2s.metrics.judged import IMAGE, LOOK
from s2s.report.figures import discs
from s2s.report.looks import THE_TRUTH, Look, looks_of
from s2s.report.markup import Cell, Line, anchor, table
from s2s.report.page import page, write_report
from s2s.report.pictures import extent, gallery, grey, map_gallery
from s2s.report.plots import Axis, Curve, chart, intervals, ticks
from s2s.report.profiles import find_edges, profile
from s2s.report.scores import Scores
from s2s.report.strengths import same_width
from usim.errors import ResourceError

PHANTOM = """
probe: L11-5v
transmit: {type: focused, depth: 12 mm, f_number: 3}
image: {x: [-8 mm, 8 mm], z: [5 mm, 21 mm], pixels: [96, 96]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: 5 mm -15 dB, shape: rectangle, center: [-4 mm, 13 mm], width: 7 mm, height: 9 mm, echogenicity: -15 dB}
  - {name: 5 mm +9 dB, shape: circle, center: [4.5 mm, 13 mm], radius: 2.5 mm, echogenicity: 9 dB}
seed: 1
"""
ODD = "<i>&\"' odd"
#: Elements without an end.
VOID = {"meta", "img", "input", "br", "link"}


def sharp(image):
    return ndimage.median_filter(ndimage.gaussian_filter(image, 1.5), 5)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "tiny.yaml"
    path.write_text(PHANTOM)
    first, second = itertools.islice(usim.stream(path, seed=5), 2)
    cases = [Case("suite a", 0, {IMAGE: first, f"{LOOK}1": second}), Case("suite b", 1, {IMAGE: second})]
    methods = {"sharp (runs/one)": sharp, ODD: lambda image: ndimage.gaussian_filter(image, 2.5)}
    about = {"frames": "8 of <b>", "date": "2026-01-02", "command": "s2s evaluate --sim '<x>'"}
    found = evaluate(methods, iter(cases), pictures=2, about=about)
    failed = Failure(ODD, "suite a", 0, "probe", "7 pixels are <nan>")
    rows = tuple(sorted((one for row in found.rows for one in again(row)), key=lambda row: (row.suite, row.scene)))
    return replace(found, rows=rows, failures=(failed,), costs={**found.costs, ODD: Cost(12.5, 34567, None)})


def again(row):
    """A row as three more scenes would have it: other values, near those of the scene that was judged."""
    for k in range(4):
        others = np.random.default_rng([k, row.scene])
        scores = {name: value + 1e-3 * k * others.normal() for name, value in row.scores.items()}
        yield replace(row, scene=row.scene + 2 * k, scores=scores)


@pytest.fixture(scope="module")
def text(evaluation):
    return page(evaluation, "A <title>")


class Reader(HTMLParser):
    """Checks that elements end in the order in which they began, and keeps headings and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.words = [], [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not set(self.open) & {"style", "script"}:
            self.words.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


def test_the_page_is_one_file_that_refers_to_nothing(evaluation, tmp_path):
    path = tmp_path / "new" / "report.html"
    write_report(evaluation, path, title="A <title>")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    text = path.read_text()
    assert not re.search(r"https?:|<link|@import|url\(|<iframe|<object", text)
    for tag, attributes in read(text).found:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,"), tag
        assert attributes.get("href", "#").startswith("#"), tag
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links <= set(re.findall(r' id="([^"]+)"', text))


def test_the_verdict_comes_first_and_everything_is_there(evaluation, text):
    heads = re.findall(r"<h2>([^<]+) ", text)
    assert heads[0] == "Verdict"
    assert text.index("<h2>Verdict") < text.index("<table")
    statement = Scores(evaluation).verdict.statement
    words = "".join(read(text).words)
    assert statement[0].replace("sharp (runs/one)", "sharp") in words
    for name in (
        "sharp",
        ODD,
        NOISY,
        "gaussian σ\u00a06, γ\u00a02",
        "8 of <b>",
        "A <title>",
        "s2s evaluate --sim '<x>'",
    ):
        assert name in words
    assert "sharp (runs/one)" in text
    assert "<i>" not in text
    assert "&lt;i&gt;&amp;&quot;&#x27; odd" in text
    for metric in METRICS.values():
        assert metric.meaning in words
        assert metric.title in words
    assert "7 pixels are <nan>" in words
    assert "34567" in words


def test_every_row_is_in_every_table_of_scores(evaluation, text):
    tables = re.findall(r'<table class="sortable ">.*?</table>', text, re.DOTALL)
    full = [one for one in tables if one.count("<tbody") and one.count('data-row="r') == len(evaluation.methods)]
    assert len(full) >= len(Scores(evaluation).groups)
    for one in full:
        assert one.count('class="control"') == len(evaluation.controls)
        assert one.count(">control</span>") == len(evaluation.controls)


def test_bold_is_who_a_metric_chooses_and_a_warning_stands_where_it_chooses_nobody(evaluation, text):
    scores = Scores(evaluation)
    tables = text[text.index("<h2>Scores") : text.index("<h2>Pictures")]
    winners = [one for one in scores.verdict.findings if one.winner]
    assert winners
    assert len(re.findall("<td[^>]*><b>", tables)) == len(winners)
    nobody = [one for one in scores.verdict.findings if not one.winner]
    assert nobody
    assert tables.count('class="warn"') == len(nobody)
    words = html_text(text)
    for one in nobody:
        assert scores.shorten(one.warning) in words


def html_text(text):
    return " ".join("".join(read(text).words).split())


def test_what_was_not_measured_is_a_dash():
    rows = tuple(
        Row(name, "one", k, 0.0, {"psnr": 20.0 + 10 * (name == "m") + k, "edge_mm": math.nan})
        for name in ("m", NOISY)
        for k in range(3)
    )
    scores = Scores(Evaluation(("m", NOISY), frozenset({NOISY}), rows))
    text = page(scores.evaluation, "nothing")
    read(text)
    assert "nan" not in html_text(text)
    assert "Not measured in any scene: edge (it needs " in html_text(text)
    assert not re.search(r'data-key="-?(nan|inf)"', text)
    assert math.isnan(scores.evaluation.truth("psnr"))
    assert math.isnan(scores.badness("m", "edge_mm"))
    assert scores.badness("m", "psnr") < scores.badness(NOISY, "psnr")
    assert "<h2>Pictures" not in text


def test_one_scene_and_no_method_still_make_a_page(evaluation):
    first = [row for row in evaluation.rows if row.scene == 0]
    read(page(replace(evaluation, rows=tuple(first), pictures=()), "one scene"))
    names = tuple(name for name in evaluation.methods if name in evaluation.controls)
    alone = replace(evaluation, methods=names, rows=tuple(row for row in evaluation.rows if row.method in names))
    assert "no method to judge" in page(replace(alone, pictures=(), failures=()), "controls alone")


def test_pictures_have_their_own_pixels_and_one_grey_scale(evaluation):
    picture = evaluation.pictures[0]
    html = gallery(picture, looks_of(evaluation))
    found = read(html).found
    assert [attributes["alt"].split(":")[0] for tag, attributes in found if tag == "img"][:2] == ["truth", NOISY]
    images = [attributes for tag, attributes in found if tag == "img"]
    assert len(images) == len(picture.images)
    for attributes, name in zip(images[:2], ("truth", NOISY), strict=True):
        data = base64.b64decode(attributes["src"].partition(",")[2])
        with Image.open(io.BytesIO(data)) as image:
            assert (image.mode, image.size) == ("L", (96, 96))
            np.testing.assert_array_equal(np.asarray(image), grey(picture.images[name], 60.0))
    left, right, top, bottom = extent(picture)
    assert (left, right, top, bottom) == pytest.approx((-8, 8, 5, 21), abs=0.1)
    levels = grey(np.array([[-70.0, -60.0, -30.0, 0.0, 5.0]]), 60.0)
    assert levels.tolist() == [[0, 0, 128, 255, 255]]


def block(step=12.0, width=0.0, shape=(120, 120)):
    """A picture with a step at x = 1 mm, soft by an error function."""
    x, z = np.linspace(-8e-3, 8e-3, shape[1]), np.linspace(5e-3, 21e-3, shape[0])
    side = (x > 1e-3).astype(float) if not width else ndimage.gaussian_filter1d((x > 1e-3).astype(float), width)
    truth = np.broadcast_to(-30.0 + step * side, shape)
    return Picture("s", 0, {"truth": truth}, x, z, 60.0)


def test_edges_are_found_where_the_truth_has_them():
    for step in (12.0, -6.0):
        edge = find_edges(block(step))[0]
        assert edge.x == pytest.approx(1e-3, abs=0.15e-3)
        assert edge.step == pytest.approx(step, abs=0.1)
        line = profile(block(step).images["truth"], edge, 60.0)
        assert line[[0, -1]] == pytest.approx([-30, -30 + step])
    assert find_edges(block(2.0)) == []
    assert find_edges(block(shape=(4, 4))) == []
    tilted = np.add.outer(np.linspace(0, -30, 120), np.linspace(0, -30, 120))
    assert find_edges(replace(block(), images={"truth": tilted})) == []


def test_the_page_shows_the_edges_of_its_pictures(evaluation, text):
    assert find_edges(evaluation.pictures[0])
    assert "<h2>Edges" in text
    assert text.count('<figure class="chart">') >= 1


def test_maps_are_read_off_the_names_of_regions(evaluation, text):
    names = ["gcnr/5 mm -15 dB", "gcnr/cyst", "gcnr/2.5 mm +9 dB"]
    assert discs(names) == {(2.5, 9.0): names[2], (5.0, -15.0): names[0]}
    maps = text[text.index("<h2>Detection") :]
    assert "<h2>Detection" in text
    assert maps.count('<th scope="col">-15</th>') >= len(evaluation.methods)


def swept(evaluation):
    """The evaluation with two methods and a control at three strengths, in four scenes."""
    scenes = tuple(("suite a", k) for k in range(4))
    edge = np.array([[0.5], [1.0], [1.5]]) + 0.01 * np.arange(4)
    sweeps = tuple(
        Sweep(name, ("a=1", "a=2", "a=3"), scenes, edge + 5 * far, np.full(4, 0.6), {
            metric: lift + 0.1 * edge for metric in SCORES
        })
        for name, lift, far in (("control gaussian", 0.3, 0), ("sharp (runs/one)", 0.5, 0), (ODD, 0.5, 1))
    )  # fmt: skip
    return replace(evaluation, pictures=(), sweeps=sweeps)


def test_methods_are_shown_at_the_same_edge_width(evaluation):
    html = same_width(Scores(swept(evaluation)))
    reader = read(html)
    words = " ".join(reader.words)
    assert html.count('<figure class="chart">') == len(SCORES)
    lines = re.findall(r"<tr class.*?</tr>", html, re.DOTALL)
    assert len(lines) == 3
    assert re.search(r"sharp.*>0\.5\d\d<.*>0\.200<", lines[1], re.DOTALL)
    assert "its edges are wider at every strength" in lines[2]
    assert "nan" not in words
    assert same_width(Scores(evaluation)) == ""
    assert "<h2>At the same edge width" in page(swept(evaluation), "swept")


def test_what_failed_at_another_strength_is_told(evaluation):
    failed = Failure(f"{ODD} at h=3", "suite a", 1, "image", "it is broken")
    assert f"{ODD} at h=3" in html_text(page(replace(evaluation, pictures=(), failures=(failed,)), "failed"))


def test_maps_of_bias_are_blue_below_and_red_above(evaluation):
    picture = evaluation.pictures[0]
    assert set(picture.maps) == {"bias", "spread"}
    html = map_gallery(picture, "bias", looks_of(evaluation))
    assert html.count("<img") == len([name for name in evaluation.methods if not name.endswith("gamma=2")])
    data = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    bias = picture.maps["bias"]["sharp (runs/one)"]
    assert (pixels[bias > 1, 0] > pixels[bias > 1, 2]).all()
    assert (pixels[bias < -1, 0] < pixels[bias < -1, 2]).all()
    assert (pixels[np.abs(bias) < 0.1] == 255).all()


def test_a_curve_breaks_where_a_value_is_missing():
    look = Look("r0", "a <b>", "a", "#000")
    svg = chart("t", [Curve(look, [0, 1, 2, 3], [0, 1, math.nan, 2])], Axis("x"), Axis("y"), same=True)
    read(svg)
    assert len(re.findall(r'd="M[^"]*M[^"]*"', svg)) == 1
    assert "nan" not in svg
    assert "a &lt;b&gt;" in svg
    assert "nan" not in chart("t", [Curve(look, [0, 1], [math.nan, math.nan])], Axis("x"), Axis("y"))
    rows = intervals("t", [(look, math.nan, math.nan, math.nan), (look, 1.0, 0.5, 1.5)], "mm", 1.2)
    assert "nan%" not in rows
    assert rows.count('class="bar"') == 1


def test_ticks_are_round_and_inside():
    assert ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    for low, high in ((-61, 3), (0.013, 0.0131), (999, 12345), (-1e-9, 1e-9)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 7
        assert low <= found[0] <= found[-1] <= high


def test_rows_look_different_and_are_told_apart_by_name():
    names = (*(f"net (runs/{k})" for k in range(9)), "nlm", NOISY)
    rows = tuple(Row(name, "s", 0, 0.0, {"psnr": 1.0}) for name in names)
    looks = looks_of(Evaluation(names, frozenset({NOISY}), rows))
    assert looks["net (runs/3)"].label == "net 3"
    assert len({(look.colour, look.dash) for look in looks.values()}) == len(names)
    assert len({look.key for look in looks.values()}) == len(names)
    assert looks[NOISY].control
    assert THE_TRUTH.key not in {look.key for look in looks.values()}
    tuned = ("nlm", "nlm:h=1,patch=15,distance=20 (tuned)", "nlm:h=1,patch=19,distance=20 (self-tuned)", "net (runs/3)")
    labels = [look.label for look in looks_of(Evaluation(tuned, frozenset(), ())).values()]
    assert labels == ["nlm", "nlm (tuned)", "nlm (self-tuned)", "net"]
    same = ("a (x/best)", "a (y/best)")
    assert {look.label for look in looks_of(Evaluation(same, frozenset(), ())).values()} == set(same)


def test_tables_keep_what_they_sort_by():
    html = table(["", "v"], [Line("a", [Cell("-")]), Line("b", [Cell("1", -1.0)])], fixed=[Line("truth", [Cell("2")])])
    assert "<td>-</td>" in html
    assert '<td data-key="-1.0">1</td>' in html
    assert html.index("truth") < html.index("<tbody>")
    assert anchor("What each number is") == "what-each-number-is"


def test_csv_has_a_line_for_each_figure(evaluation):
    lines = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    assert {line["suite"] for line in lines} == {ALL_SUITES, "suite a", "suite b"}
    assert {line["method"] for line in lines} == set(evaluation.methods)
    for line in lines:
        suite = None if line["suite"] == ALL_SUITES else line["suite"]
        one = evaluation.mean(line["method"], line["metric"], suite)
        assert int(line["count"]) == one.count > 0
        assert float(line["mean"]) == one.mean
        assert float(line["low"] or "nan") == pytest.approx(one.low, nan_ok=True)
        assert int(line["control"]) == (line["method"] in evaluation.controls)
    wanted = {
        (method, metric) for method in evaluation.methods for metric in evaluation.metrics
        if evaluation.mean(method, metric).count
    }  # fmt: skip
    assert {(line["method"], line["metric"]) for line in lines} == wanted


def test_json_has_the_verdict(evaluation):
    content = json.loads(to_json(evaluation), parse_constant=lambda word: pytest.fail(word))
    scores = Scores(evaluation)
    assert content["verdict"]["statement"] == list(scores.verdict.statement)
    for told, one in zip(content["verdict"]["findings"], scores.verdict.findings, strict=True):
        assert (told["metric"], told["winner"], told["real"]) == (one.metric, one.winner, one.is_real)
        assert told["ranking"] == list(one.ranking)


def test_nothing_half_written_stays(tmp_path, monkeypatch, evaluation):
    def refuse(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("usim.io.atomic.os.write", refuse)
    with pytest.raises(ResourceError, match="No space left"):
        write_report(evaluation, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: A window of any width, since a browser's own has 500 pixels at least; its title is what it is told.
FRAME = """<!doctype html><iframe src="report.html" style="width: WIDTHpx; height: 844px; border: 0"></iframe><script>
addEventListener("message", (event) => { document.title = event.data; });
</script>"""
#: What is done to the page, and what is found.
ACTS = """<script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const seen = (one) => getComputedStyle(one).display !== "none";
const names = (table) => [...table.tBodies[0].rows].map((row) => row.dataset.row);
const keys = (table, k) => [...table.tBodies[0].rows].map((row) => row.cells[k].dataset.key ?? null);
(async () => {
  const told = { width: innerWidth, page: document.documentElement.scrollWidth };
  const table = document.querySelector("#scores table");
  told.before = names(table);
  const head = table.tHead.rows[0].cells[1];
  head.click();
  [told.once, told.sorted] = [names(table), keys(table, 1)];
  head.click();
  [told.twice, told.turned] = [names(table), head.getAttribute("aria-sort")];
  table.tHead.rows[0].cells[0].click();
  told.named = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
  document.querySelector("#hide-controls").click();
  told.hidden = [...document.querySelectorAll(".control")].filter(seen).map((one) => one.outerHTML.slice(0, 80));
  told.shown = seen(document.querySelector("#scores tbody tr:not(.control)"));
  document.querySelector("#hide-controls").click();
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  told.unfolded = document.documentElement.scrollWidth;
  const figures = document.querySelectorAll(".gallery figure");
  figures[2].click();
  await wait(200);
  const box = document.querySelector("dialog");
  const [left, right] = box.querySelectorAll(".view img");
  told.dialog = { open: box.open, left: left.alt, right: right.alt, marks: box.querySelectorAll(".depth").length };
  const first = left.getBoundingClientRect();
  [...box.querySelectorAll("button")].find((one) => one.textContent === "+").click();
  const [a, b] = [left, right].map((one) => one.getBoundingClientRect());
  told.zoom = { grown: a.width / first.width, same: Math.abs(a.width - b.width) };
  told.pixels = getComputedStyle(left).imageRendering;
  const view = box.querySelector(".view");
  const { x, y, width, height } = view.getBoundingClientRect();
  const at = { pointerId: 1, bubbles: true, clientX: x + width / 2, clientY: y + height / 2 };
  view.setPointerCapture = () => {};
  view.dispatchEvent(new PointerEvent("pointerdown", at));
  view.dispatchEvent(new PointerEvent("pointermove", { ...at, clientX: at.clientX + 10 }));
  view.dispatchEvent(new PointerEvent("pointerup", at));
  told.moved = [left, right].map((one, k) => one.getBoundingClientRect().x - [a, b][k].x);
  told.readout = box.querySelector(".foot > span").textContent;
  box.querySelector("select").value = 0;
  box.querySelector("select").dispatchEvent(new Event("change"));
  told.chosen = left.alt;
  [...box.querySelectorAll("button")].find((one) => one.textContent === "close").click();
  told.closed = !box.open;
  parent.postMessage("told " + JSON.stringify(told), "*");
})().catch((error) => parent.postMessage("failed " + error, "*"));
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: the page was not opened in a browser")
    return found


@pytest.mark.parametrize("width", [390, 1300])
def test_the_page_works_in_a_browser(browser, text, tmp_path, width):
    (tmp_path / "report.html").write_text(text.replace("</body>", f"{ACTS}</body>"))
    path = tmp_path / "frame.html"
    path.write_text(FRAME.replace("WIDTH", str(width)))
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    words += [
        "--window-size=1400,1000",
        "--hide-scrollbars",
        "--virtual-time-budget=8000",
        "--enable-logging=stderr",
        "--dump-dom",
    ]
    done = subprocess.run([*words, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert not re.findall(r".*CONSOLE.*", done.stderr)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]
    assert title.startswith("told "), title
    told = json.loads(html_text(title).removeprefix("told "))
    assert told["width"] == width
    assert told["page"] == told["unfolded"] == width, "the page itself must not scroll sideways"
    keys = [float(key) for key in told["sorted"] if key is not None]
    assert keys == sorted(keys)
    assert sorted(told["once"]) == sorted(told["before"])
    assert told["twice"] != told["once"]
    assert told["turned"] == "descending"
    assert told["named"] == sorted(told["named"], key=str.casefold)
    assert told["hidden"] == []
    assert told["shown"]
    assert told["dialog"]["open"]
    assert told["dialog"]["left"].startswith("sharp:")
    assert told["dialog"]["right"].startswith("truth:")
    assert told["dialog"]["marks"] >= 4
    assert told["zoom"]["grown"] == pytest.approx(1.5)
    assert told["zoom"]["same"] == 0
    assert told["pixels"] == "pixelated"
    assert told["moved"] == pytest.approx([10, 10], abs=0.1)
    assert re.search(r"depth 1\d\.\d mm.*sharp: -\d+\.\d dB.*truth: -\d+\.\d dB", told["readout"])
    assert told["chosen"].startswith("truth:")
    assert told["closed"]
