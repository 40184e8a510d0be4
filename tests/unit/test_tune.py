"""Choosing settings: the search finds what brute force finds, hidden pixels stay hidden, and the file comes back."""

import json
import re
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from s2s.cli import main
from s2s.domain import SPECKLE_DB
from s2s.evaluation import tune, tuned
from s2s.evaluation.calibrate import PERIOD, REACH, half_block, hidden_views, hide, self_error
from s2s.evaluation.cases import Simulated, suites_of
from s2s.evaluation.files import filters, load_denoisers
from s2s.evaluation.tune import LARGEST, Scene, at_end, choose, search, spec_of
from s2s.evaluation.tuned import Choice, Tuning, read_specs
from s2s.methods import METHODS, method_class
from s2s.metrics.fidelity import psnr
from s2s.seeds import held_out_seed, judged_seed, training_seed, tuning_seed
from s2s.toy import toy_clean, toy_looks, toy_scene
from usim.errors import ConfigError, DataError
from usim.speckle_size import cell_size
from usim.workers import Event

DEEP = 60.0
#: Two frames of it take a tenth of a second.
SMALL = """
probe: L11-5v
transmit: {type: focused, depth: 12 mm, f_number: 3}
receive: {f_number: 2}
image: {x: [-7 mm, 7 mm], z: [6 mm, 20 mm], pixels: [128, 128], dynamic_range: 60 dB}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - repeat: 3
    name: lesion
    shape: circle
    center: [{uniform: [-6 mm, 6 mm]}, {uniform: [7 mm, 19 mm]}]
    size: {uniform: [2 mm, 5 mm]}
    echogenicity: {uniform: [-15 dB, 9 dB]}
frames: 2
seed: 1
"""
LEARNED = [name for name in METHODS if not method_class(name).TUNING]


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def toy(seed, shape=(160, 176), views=6):
    """A toy scene to tune on: speckle over 2.8 x 5.2 pixels, and the truth."""
    generator = np.random.default_rng(seed)
    anatomy = toy_scene(generator, shape)
    noisy = toy_looks(anatomy, generator)[0].astype(np.float32)
    return Scene(noisy, DEEP, tuple(hidden_views(noisy, views, generator)), toy_clean(anatomy))


@pytest.fixture(scope="module")
def toys():
    return [toy(seed) for seed in range(6)]


@pytest.fixture
def phantom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return "small.yaml"


# The search


@pytest.mark.parametrize("best", [0.3, 0.5, 1.6, 2.0, 7.0, 30.0])
def test_the_search_comes_as_close_to_a_known_optimum_as_its_refinement_allows(best):
    grid = {"strength": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0), "other": (1, 3, 5)}
    found, tried = search(
        grid, {"strength": 1.0, "other": 1}, lambda s: -abs(np.log(s["strength"] / best)) - abs(s["other"] - 3)
    )
    assert found["other"] == 3
    assert abs(np.log2(found["strength"] / np.clip(best, 0.5, 16.0))) <= 0.25 + 0.02
    assert tried <= LARGEST


def test_settings_that_depend_on_one_another_are_found_together():
    grid = {"a": tuple(float(n) for n in range(1, 9)), "b": (1, 2, 3, 4, 5)}

    def score(s):
        return -((s["a"] - s["b"]) ** 2) - 0.1 * (s["b"] - 4) ** 2

    found, _ = search(grid, {"a": 1.0, "b": 1}, score)
    every = max(({"a": a, "b": b} for a in grid["a"] for b in grid["b"]), key=score)
    assert score(found) >= score(every)


@given(st.lists(st.floats(-5, 5), min_size=40, max_size=40), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_no_search_is_long_or_asks_twice_or_misses_what_it_saw(scores, first, second):
    grid = {"a": tuple(range(1, 2 * first + 2, 2)), "b": tuple(range(second))}
    seen = {}

    def score(chosen):
        key = (chosen["a"], chosen["b"])
        assert key not in seen
        seen[key] = scores[hash(key) % 40]
        return seen[key]

    found, tried = search(grid, {"a": 1, "b": 0}, score)
    assert tried == len(seen) <= LARGEST
    assert seen[found["a"], found["b"]] == max(seen.values())
    assert all(a % 2 for a, _ in seen)


def test_the_end_of_a_grid_is_named_where_there_is_one():
    grid = {"h": (0.5, 1.0, 2.0), "looks": ("auto", 1.0, 2.0, 3.0), "way": ("a", "b"), "two": (1, 2)}
    assert at_end(grid, {"h": 0.5, "looks": 3.0, "way": "a", "two": 1}) == ("h", "looks")
    assert at_end(grid, {"h": 0.7, "looks": "auto", "way": "b", "two": 2}) == ()


def test_a_spec_loads_as_the_settings_it_says():
    given = {
        "nlm": {"h": 1.45, "patch": 7, "distance": 11},
        "lee": {"window": 9, "looks": "auto"},
        "srad": {"step": 0.4},
    }
    for name, chosen in given.items():
        spec = spec_of(name, chosen)
        assert {key: load_denoisers([spec])[spec].method.settings[key] for key in chosen} == chosen


# By the truth


def test_the_truth_finds_the_gaussian_that_brute_force_finds_in_white_noise():
    generator = np.random.default_rng(4)
    smooth = 8.0 * ndimage.gaussian_filter(generator.normal(size=(96, 96)), 7.0) / 0.04 - 30.0
    truth = np.clip(smooth, -55.0, -5.0)
    noisy = (truth + generator.normal(0.0, 2.0, truth.shape)).astype(np.float32)
    fine = np.geomspace(0.5, 11.0, 120)
    scores = [psnr(ndimage.gaussian_filter(noisy, sigma), truth, DEEP) for sigma in fine]
    views = tuple(hidden_views(noisy, 1, generator, reach=0.01))
    found = choose("gaussian", "truth", [Scene(noisy, DEEP, views, truth)])
    sigma = float(found.spec.partition("=")[2])
    assert found.psnr[0] == pytest.approx(max(scores), abs=0.03)
    assert abs(np.log(sigma / fine[int(np.argmax(scores))])) < 0.2
    assert 10 < found.evaluations <= 14
    assert found.at_end == ()


def test_the_truth_is_never_beaten_by_the_default(toys):
    for name in ("gaussian", "lee", "kuan"):
        best, default = (choose(name, by, toys[:2]) for by in ("truth", "default"))
        assert np.mean(best.psnr) >= np.mean(default.psnr)
        assert best.spec.startswith(f"{name}:")
        assert default.spec == name


# Without it


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_what_is_shown_of_a_block_does_not_depend_on_what_is_hidden_in_it(data):
    half = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 6)))
    periods = [PERIOD * (2 * n - 1) for n in half]
    shape = tuple(period + data.draw(st.integers(0, 30)) for period in periods)
    offset = tuple(data.draw(st.integers(0, period - 1)) for period in periods)
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = generator.uniform(-60.0, 0.0, shape).astype(np.float32)
    view = hide(image, half, offset)
    other = np.where(view.hidden, generator.uniform(-60.0, 0.0, shape), image).astype(np.float32)
    again = hide(other, half, offset)
    assert np.array_equal(view.shown, again.shown)
    assert np.array_equal(view.shown[~view.hidden], image[~view.hidden])
    assert view.shown.dtype == np.float32
    assert np.isfinite(view.shown).all()
    # Around every centre all is hidden, up to the distance that was asked for.
    for row in view.rows:
        for column in view.columns:
            block = view.hidden[
                max(row - half[0] + 1, 0) : row + half[0], max(column - half[1] + 1, 0) : column + half[1]
            ]
            assert block.all()


@pytest.mark.parametrize("name", ["gaussian", "lee", "srad", "nlm"])
def test_a_filter_foretells_a_hidden_centre_without_having_seen_it(name, toys):
    view = toys[0].views[0]
    half = half_block(toys[0].noisy)
    offset = (int(view.rows[0]), int(view.columns[0]))
    changed = toys[0].noisy.copy()
    changed[view.hidden] = -3.0
    denoise = tune._denoise(name)
    assert np.array_equal(denoise(view.shown), denoise(hide(changed, half, offset).shown))


def test_the_filling_looks_like_the_speckle_around_it():
    generator = np.random.default_rng(5)
    noisy = toy_looks(np.zeros((240, 260)), generator)[0].astype(np.float32)
    view = hidden_views(noisy, 1, generator)[0]
    assert 0.08 < view.hidden.mean() < 0.14
    inside, outside = view.shown[view.hidden], noisy[~view.hidden]
    assert inside.mean() == pytest.approx(outside.mean(), abs=0.5)
    assert inside.std() == pytest.approx(outside.std(), rel=0.12)
    assert cell_size(view.shown, exponent=0.0) == pytest.approx(cell_size(noisy, exponent=0.0), rel=0.15)


def test_blocks_are_as_large_as_the_speckle_asks_for():
    generator = np.random.default_rng(6)
    noisy = toy_looks(np.zeros((240, 260)), generator)[0].astype(np.float32)
    cell = cell_size(noisy, exponent=0.0)
    assert half_block(noisy) == tuple(int(np.ceil(REACH * side)) for side in cell)
    assert half_block(noisy, reach=0.01) == (1, 1)
    # At the distance from the centre to the nearest pixel shown the noise is next to independent.
    rest = noisy - noisy.mean()
    for axis, lag in enumerate(half_block(noisy)):
        ahead, behind = (np.take(rest, range(a, rest.shape[axis] - b), axis) for a, b in ((lag, 0), (0, lag)))
        assert abs(np.mean(ahead * behind)) < 0.08 * rest.var()


def test_the_error_at_hidden_pixels_is_that_of_the_truth_plus_the_noise():
    """In plain speckle the mean is the truth: its error is the noise alone; what copies pixels has more."""
    generator = np.random.default_rng(7)
    noisy = toy_looks(np.full((300, 320), -8.0), generator)[0].astype(np.float32)
    views = hidden_views(noisy, 40, generator)
    flat = self_error(lambda image: np.full_like(image, noisy.mean()), views, DEEP)
    assert np.sqrt(flat) * DEEP == pytest.approx(SPECKLE_DB, rel=0.06)
    assert self_error(lambda image: image, views, DEEP) == pytest.approx(2.0 * flat, rel=0.25)
    assert self_error(lambda image: image + 10.0 * (image != noisy), views, DEEP) > 2.0 * flat


@pytest.mark.parametrize("name", ["gaussian", "lee"])
def test_without_truth_the_settings_come_close_to_those_by_the_truth(name, toys):
    best, own = (choose(name, by, toys) for by in ("truth", "self"))
    assert np.mean(own.psnr) > np.mean(best.psnr) - 0.4
    weak = choose(name, "default", toys).psnr if name != "gaussian" else _scores("gaussian:sigma=1", toys)
    assert np.mean(own.psnr) > np.mean(weak) - 0.2


def _scores(spec, scenes):
    return tune._psnrs(tune._denoise(spec), scenes)


def test_blocks_smaller_than_the_cell_choose_a_filter_that_is_too_weak(toys):
    """Hidden single pixels, as for white noise: their neighbours know their speckle, and doing least looks best."""
    generator = np.random.default_rng(8)
    leaky = [
        Scene(one.noisy, DEEP, tuple(hidden_views(one.noisy, 1, generator, reach=0.01)), one.truth) for one in toys[:3]
    ]
    fooled, right, best = (
        choose("gaussian", "self", leaky),
        choose("gaussian", "self", toys),
        choose("gaussian", "truth", toys),
    )
    sigma = [float(choice.spec.partition("=")[2]) for choice in (fooled, right, best)]
    assert sigma[0] < 1.0
    assert sigma[1] > 2.0
    assert np.mean(_scores(right.spec, toys)) > np.mean(_scores(fooled.spec, toys)) + 4.0


# What is tuned on, and what is refused


def test_scenes_are_never_those_of_an_evaluation_or_a_training(phantom):
    seeds = [kind(seed) for kind in (tuning_seed, judged_seed, training_seed, held_out_seed) for seed in range(50)]
    assert len(set(seeds)) == len(seeds)
    one, other = (Simulated(suites_of(phantom), 1, 0, "", kind) for kind in (tuning_seed, judged_seed))
    frames = [source.open()(source.items[0]).frames["image"].bmode for source in (one, other)]
    assert not np.array_equal(*frames)


@pytest.mark.parametrize("name", LEARNED)
def test_what_learns_is_refused_with_what_to_do(name):
    how = "is fitted to each image" if method_class(name).fit_steps else "learns"
    with pytest.raises(ConfigError, match=f"{re.escape(name)}: {how}.* s2s .*{re.escape(name)}.*evaluate -m"):
        tune.refuse_methods([name])


def test_names_are_checked_before_anything_is_made():
    with pytest.raises(ConfigError, match="'nml' is unknown; did you mean 'nlm'"):
        tune.refuse_methods(["nml"])
    with pytest.raises(ConfigError, match="name the method alone, nlm"):
        tune.refuse_methods(["nlm:h=2"])
    assert tune.refuse_methods(["lee", "nlm", "lee"]) == ("lee", "nlm")
    assert tune.refuse_methods([]) == filters()


def test_an_image_too_small_for_its_blocks_is_refused():
    noisy = toy_looks(np.zeros((64, 26)), np.random.default_rng(1))[0].astype(np.float32)
    with pytest.raises(DataError, match=r"64 x 26 pixels are too few to hide blocks of \d+ x \d+"):
        half_block(noisy)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two PNG of different size, made of speckle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    for number, shape in enumerate([(150, 170), (190, 140)]):
        grey = np.rint((toy(number, shape, views=1).noisy / DEEP + 1.0) * 255.0).astype(np.uint8)
        PIL.Image.fromarray(grey).save(f"scans/{number}.png")
    return tmp_path


def test_pictures_of_different_size_are_tuned_on_without_truth(pictures, capsys):
    code, out, err = run(capsys, "tune", "gaussian", "--data", "scans", "-o", "tuned.json", "--workers", 1)
    assert code == 0
    assert "taken as" in err
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][:5] == ["chosen", "by", "setting", "error", "at"]
    assert [line[0] for line in lines[1:3]] == ["self", "default"]
    content = json.loads((pictures / "tuned.json").read_text())
    entry = content["methods"]["gaussian"]
    assert content["about"]["images"] == 2
    assert entry["truth"] is None
    assert 1.5 < float(entry["self"].partition("=")[2]) < 8.0
    assert "psnr" not in entry["scores"]["self"]
    assert len(entry["scores"]["self"]["hidden"]["scenes"]) == 2
    (label,) = load_denoisers(["tuned.json"])
    assert label == f"{entry['self']} (self-tuned)"


def test_one_image_has_no_interval(pictures, capsys):
    code, out, _ = run(capsys, "-q", "tune", "gaussian", "--data", "scans/0.png", "--workers", 1)
    assert code == 0
    assert ".." not in out
    assert "one image: no intervals" in out


def test_a_simulation_is_tuned_on_with_and_without_truth_and_judged_afterwards(tmp_path, phantom, capsys):
    arguments = ("tune", "gaussian", "lee", "--sim", phantom, "--frames", 2, "-o", "tuned.json", "--workers", 1)
    code, out, err = run(capsys, *arguments)
    assert code == 0, err
    assert "tuning" in err
    assert out.splitlines()[-1] == "tuned.json: next, s2s evaluate --sim -m tuned.json"
    assert [line.split()[0] for line in out.splitlines()[1:7]] == ["truth", "self", "default"] * 2
    content = json.loads((tmp_path / "tuned.json").read_text())
    assert content["format"] == "s2s-tuning/1"
    assert content["about"]["phantom"] == phantom
    assert content["about"]["command"].startswith("s2s tune gaussian lee --sim small.yaml --frames 2")
    for name, entry in content["methods"].items():
        scores = entry["scores"]
        assert scores["truth"]["psnr"]["mean"] >= scores["default"]["psnr"]["mean"]
        low, high = scores["truth"]["psnr"]["interval"]
        assert low < scores["truth"]["psnr"]["mean"] < high
        assert all(entry[by].startswith(f"{name}:") and entry[by] in out for by in ("truth", "self"))
    expected = {f"{entry['truth']} (tuned)" for entry in content["methods"].values()}
    expected |= {
        f"{entry['self']} (self-tuned)" for entry in content["methods"].values() if entry["self"] != entry["truth"]
    }
    assert set(load_denoisers(["tuned.json"])) == expected
    code, out, err = run(capsys, "-q", "evaluate", "--sim", phantom, "--frames", 1, "-m", "tuned.json", "--workers", 1)
    assert code == 0, err
    assert all(label in out for label in expected)


def test_the_same_command_finds_the_same(phantom):
    source = tune.FromSimulation(Simulated(suites_of(phantom), 1, 3, "", tuning_seed))
    heard = []
    first, second = (tune.tune(["gaussian"], source, listen=heard.append) for _ in range(2))
    without_time = [
        [(choice.spec, choice.psnr, choice.hidden, choice.evaluations) for choice in one.choices]
        for one in (first, second)
    ]
    assert without_time[0] == without_time[1]
    assert sum(event.kind == "done" for event in heard) == 2 * 3


def test_a_lost_process_is_named(monkeypatch, phantom):
    monkeypatch.setattr(tune, "map_items", lambda job, items, workers, hear: hear(Event("lost", items[0], 9)))
    source = tune.FromSimulation(Simulated(suites_of(phantom), 1, 3, "", tuning_seed))
    with pytest.raises(tune.ResourceError, match="worked on gaussian was ended from outside"):
        tune.tune(["gaussian"], source)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gaussian"], 2, "either --sim, or --data with images"),
        (["gaussian", "--sim", "--data", "scans"], 2, "either --sim, or --data with images"),
        (["--sim", "nlm"], 2, "s2s tune nlm --sim"),
        (["speckle2self", "--sim"], 2, "speckle2self: learns"),
        (["nml", "--data", "scans"], 2, "did you mean 'nlm'"),
        (["gaussian", "--sim", "no-such"], 2, "no-such"),
        (["gaussian", "--sim", "--white", "3"], 2, "--white belongs to --data"),
        (["gaussian", "--data", "none.png"], 3, "none.png"),
        (["gaussian", "--data", "empty"], 3, "no images in this folder"),
        (["gaussian", "--data", "nan.npy"], 3, "NaN"),
        (["gaussian", "--data", "flat.npy"], 3, "constant"),
        (["gaussian", "--data", "small.npy"], 3, "small.npy, image 0: .*too few to hide blocks"),
        (["gaussian", "--data", "scans", "--frames", "0"], 2, "--frames"),
        (["gaussian", "--data", "scans", "-o", "tuned.txt"], 2, "end its name with .json"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line(pictures, capsys, arguments, code, message):
    (pictures / "empty").mkdir()
    speckle = toy(3, (60, 180), views=1).noisy
    np.save("nan.npy", np.where(np.arange(180) == 7, np.nan, speckle))
    np.save("flat.npy", np.full((60, 60), -10.0, np.float32))
    np.save("small.npy", speckle[:, :28])
    found, _, err = run(capsys, "-q", "tune", *arguments, "--workers", 1)
    assert found == code
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(message, err), err


# The file


GOOD = Tuning(
    (
        Choice("nlm", "truth", "nlm:h=1.4,patch=7", (30.0, 32.0), (31.0, 33.0), (5.0, 6.0), 20, 1.0, ("patch",)),
        Choice("nlm", "self", "nlm:h=1.4,patch=7", (30.0, 32.0), (31.0, 33.0), (5.0, 6.0), 21, 2.0),
        Choice("nlm", "default", "nlm", (29.0, 31.5), (30.0, 32.0), (5.5, 6.5)),
        Choice("lee", "self", "lee:window=9", (29.0, 30.0), (30.0, 31.0), (5.0, 6.0)),
        Choice("lee", "truth", "lee:window=11", (30.0, 31.0), (30.0, 31.0), (5.0, 6.0)),
        Choice("lee", "default", "lee", (29.0, 30.0), (30.0, 31.0), (5.0, 6.0)),
    ),
    {"phantom": "cyst"},
)


def test_the_table_shows_gains_over_the_default_and_warns_of_ends():
    lines = tuned.table(GOOD).splitlines()
    assert lines[1].split()[:3] == ["truth", "nlm:h=1.4,patch=7", "31.00"]
    assert "+0.75" in lines[1]
    assert "nlm:h=1.4,patch=7: patch lies at the end of what was tried; there may be better beyond" in lines
    assert any(line.startswith("fewer than 8 images: ") for line in lines)
    many = [replace(one, psnr=8 * (30.0,), psnr_fit=8 * (31.0,), hidden=8 * (5.0,)) for one in GOOD.choices]
    assert "fewer than" not in tuned.table(Tuning(tuple(many), {}))


def test_the_file_gives_equal_settings_once(tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text(tuned.to_json(GOOD))
    assert read_specs(path) == [
        ("nlm:h=1.4,patch=7 (tuned)", "nlm:h=1.4,patch=7"),
        ("lee:window=11 (tuned)", "lee:window=11"),
        ("lee:window=9 (self-tuned)", "lee:window=9"),
    ]
    with pytest.raises(ConfigError, match="given twice"):
        load_denoisers([str(path), str(path)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "no JSON, or a damaged one"),
        (lambda text: "", "no JSON, or a damaged one"),
        (lambda text: "[1, 2]", "its format is None, not 's2s-tuning/1'"),
        (lambda text: text.replace("tuning/1", "tuning/7"), "its format is 's2s-tuning/7'"),
        (lambda text: text.replace("s2s-tuning/1", "s2s-evaluation/1"), "its format is 's2s-evaluation/1'"),
        (lambda text: '{"format": "s2s-tuning/1"}', "holds no methods"),
        (lambda text: '{"format": "s2s-tuning/1", "methods": {"nlm": 3}}', "methods.nlm: holds no settings"),
        (lambda text: text.replace('"nlm:h=1.4,patch=7"', '"lee:window=3"'), "methods.nlm: holds no settings of it"),
        (lambda text: text.replace('"nlm:h=1.4,patch=7"', "7"), "methods.nlm: holds no settings of it"),
        (lambda text: text.replace("h=1.4", "g=1.4"), "tuned.json: methods.nlm: nlm: setting 'g' is unknown"),
        (lambda text: text.replace("h=1.4", "h=many"), "tuned.json: methods.nlm: nlm: h is 'many'"),
        (lambda text: "[" * 100_000, "no JSON, or a damaged one"),
        (lambda text: b"\xff\xfe\x00", "no JSON, or a damaged one"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path, phantom, change, message, capsys):
    path = tmp_path / "tuned.json"
    changed = change(tuned.to_json(GOOD))
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    code, _, err = run(capsys, "-q", "evaluate", "--sim", phantom, "--frames", 1, "-m", path)
    assert code in (2, 3)
    assert message in err
    assert err.count("\n") == 1


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read: No such file"):
        load_denoisers([str(tmp_path / "none.json")])
