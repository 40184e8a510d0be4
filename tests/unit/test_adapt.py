"""Adaptation to images without truth: what is kept apart to judge, how weights begin, and that truth is never asked."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from trainings import SURROUNDINGS, lines, stop_after

import s2s.held_out
import s2s.run
from s2s.adapt import RATE, STEPS, Unseen, begin, gentle, split, weights_to_adapt
from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.cli import main
from s2s.course import Course, is_significant
from s2s.images import Stated
from s2s.methods import make
from s2s.methods.base import Training
from s2s.recordings import Recordings
from s2s.request import VALIDATIONS, Request
from s2s.run import Run
from s2s.toy import toy_looks, toy_scene
from usim.errors import ConfigError, DataError

SETTINGS = {"target": "own", "scales": (1.0, 0.5)}
STATED = {"domain": "log", "dynamic_range": 60.0}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Five pictures of toy scenes, as a user has them."""
    folder, generator = tmp_path_factory.mktemp("scans"), np.random.default_rng(3)
    for number in range(5):
        noisy = toy_looks(toy_scene(generator), generator)[0]
        grey = np.rint(255.0 * np.clip(1.0 + noisy / 60.0, 0.0, 1.0)).astype(np.uint8)
        PIL.Image.fromarray(grey).save(folder / f"scan{number}.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A fresh network as weights for use alone: what only training needs is not in the file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    save_checkpoint(path, make("speckle2self", **SETTINGS), {})
    return path


@pytest.fixture
def request_for(scans, weights):
    return Request(
        method="speckle2self", settings=SETTINGS, data=(str(scans),), stated=STATED, steps=4,
        changes={"batch": 2, "crop": 32}, seed=5, adapt=str(weights),
    )  # fmt: skip


def recordings(*items):
    return Recordings(tuple(items), ("y",), Stated(), 0)


def test_whole_files_are_kept_apart_and_none_of_their_frames_is_trained_on():
    items = [(f"{name}.npy", frame) for name in "abcdefghij" for frame in range(3)]
    own, held = split(recordings(*items))
    judging = {path for path, _ in held.items}
    assert len(held.items) == len(judging) == 3
    assert {frame for _, frame in held.items} == {1}
    assert not judging & {path for path, _ in own.items}
    assert len(own.items) == 7 * 3


@pytest.mark.parametrize(("files", "judging"), [(3, 2), (5, 2), (8, 2), (9, 3), (16, 5), (100, 8)])
def test_a_third_of_the_files_judges_two_at_least_and_eight_at_most(files, judging):
    own, held = split(recordings(*((f"{number:03}.png", 0) for number in range(files))))
    assert len(held.items) == judging
    assert len(own.items) == files - judging


@pytest.mark.parametrize(("frames", "judging"), [(3, 2), (8, 2), (40, 8), (41, 8)])
def test_the_end_of_a_single_clip_judges_it(frames, judging):
    own, held = split(recordings(*(("clip.gif", number) for number in range(frames))))
    assert len(held.items) <= judging
    assert max(frame for _, frame in own.items) < min(frame for _, frame in held.items)
    assert len(own.items) == frames - max(2, frames // 3)


@pytest.mark.parametrize("items", [[("a.png", 0)], [("a.png", 0), ("b.png", 0)], [("a.gif", 0), ("a.gif", 1)]])
def test_two_images_can_not_judge_themselves(items):
    with pytest.raises(DataError, match=f"{len(items)} images in .* files; adaptation keeps 2 .*; give three or more"):
        split(recordings(*items))


def test_what_is_foretold_is_the_error_at_hidden_centres(scans):
    unseen = Unseen.of(Recordings.of([scans], ("y",), Stated(**STATED), 0), 1)
    assert len(unseen.views) == 5
    blurred, noisy = (unseen.scores(one).chosen()[0] for one in (make("gaussian", sigma=2.0), None))
    assert blurred.shape == (5,)
    assert blurred.mean() > noisy.mean() + 1.0
    views = next(iter(unseen.views.values()))
    errors = [((view.shown[np.ix_(view.rows, view.columns)] - view.values) / 60.0).ravel() for view in views]
    assert noisy[0] == pytest.approx(-10.0 * np.log10(np.square(np.concatenate(errors)).mean()))
    assert "foretold to" in unseen.words(unseen.scores(None), unseen.scores(None))


def test_parts_that_only_training_needs_begin_as_what_is_there(weights):
    method, average = (make("speckle2self", **SETTINGS) for _ in range(2))
    before = load_checkpoint(weights)
    assert begin(method, average, str(weights)) == before.sha256
    for one in (method, average):
        own = one.state_dict()
        for key, value in before.method.encoder.state_dict().items():
            assert torch.equal(own[f"encoder.{key}"], value)
            assert torch.equal(own[f"coarse.0.{key}"], value)


def test_a_network_without_coarse_copies_begins_as_it_is(tmp_path):
    save_checkpoint(tmp_path / "a.pt", make("speckle2self", preset="toy", width=4, depth=1), {})
    start = load_checkpoint(tmp_path / "a.pt").method
    method, average = (make("speckle2self", preset="toy", width=4, depth=1) for _ in range(2))
    begin(method, average, str(tmp_path / "a.pt"))
    for one in (method, average):
        assert all(torch.equal(value, one.state_dict()[key]) for key, value in start.state_dict().items())


def test_statistics_of_the_weights_stay_while_the_weights_move(request_for, tmp_path):
    run = Run.new(request_for, tmp_path / "a", **SURROUNDINGS)
    start = {key: value.clone() for key, value in run.state.method.state_dict().items()}
    run.train(lambda: None)
    moved = {key for key, value in run.state.method.state_dict().items() if not torch.equal(value, start[key])}
    assert moved
    assert not [key for key in moved if "running" in key or "tracked" in key]
    method = make("speckle2self", **SETTINGS)
    method.keeps_statistics = False
    norm = next(module for module in method.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert method.train().training
    assert norm.training


def test_an_adaptation_is_gentle_unless_told_otherwise(request_for, tmp_path):
    assert gentle(Training(rate=2e-3)) == Training(rate=2e-3 * RATE, steps=STEPS)
    run = Run.new(replace(request_for, steps=None), tmp_path / "a", **SURROUNDINGS)
    assert run.plan.steps == STEPS
    assert run.plan.training.rate == pytest.approx(RATE * 1e-3)
    told = Run.new(replace(request_for, changes={"rate": 0.01, "crop": 32}), tmp_path / "a", **SURROUNDINGS)
    assert told.plan.training.rate == 0.01


def test_the_first_is_the_best_until_something_gains_significantly():
    course = Course(wary=True)
    noise = np.array([0.3, -0.3, 0.3, -0.3])
    assert course.add(0, 1.0, [np.full(4, 20.0)])
    assert not course.add(1, 1.0, [20.3 + noise])  # 0.30 +- 0.17: t is 1.7, of three degrees of freedom 2.35 is needed
    assert course.add(2, 1.0, [20.5 + noise])
    assert not course.add(3, 1.0, [np.full(4, 20.4)])
    assert course.add(4, 1.0, [np.full(4, 20.51)])
    bold = Course()
    bold.add(0, 1.0, [np.full(4, 20.0)])
    assert bold.add(1, 1.0, [20.1 + noise])
    alone = Course(wary=True)
    assert alone.add(0, 1.0, [np.full(1, 20.0)])
    assert not alone.add(1, 1.0, [np.full(1, 25.0)])


@pytest.mark.parametrize("frames", [2, 3, 8])
def test_noise_is_taken_for_a_gain_in_one_of_twenty(frames):
    random = np.random.default_rng(frames)
    taken = [is_significant([np.zeros(frames)], [random.normal(0.0, 1.0, frames)]) for _ in range(2000)]
    assert np.mean(taken) == pytest.approx(0.05, abs=0.02)


def test_truth_is_never_asked_for(request_for, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("an adaptation has no truth")

    monkeypatch.setattr(s2s.held_out, "fidelity", refuse)
    monkeypatch.setattr(s2s.held_out.HeldOut, "simulate", refuse)
    run = Run.new(request_for, tmp_path / "a", **SURROUNDINGS)
    run.train(lambda: None)
    told = lines(tmp_path / "a")
    assert [line["step"] for line in told] == [0, 1, 2, 3, 4]
    assert told[0]["loss"] is None
    assert all(set(line) == {"step", "seconds", "loss", "waiting", "foretold", "noisy"} for line in told)
    best = load_checkpoint(tmp_path / "a/best.pt")
    assert best.about["scores"]["foretold"] == max(
        line["foretold"] for line in told if line["step"] == best.about["scores"]["step"]
    )
    assert best.about["adapted"] == load_checkpoint(tmp_path.__class__(request_for.adapt)).sha256


@pytest.mark.parametrize("kept", [0, 1])
def test_a_start_that_is_kept_is_told(request_for, tmp_path, monkeypatch, kept):
    words = []
    monkeypatch.setattr("s2s.course.is_significant", lambda before, after: kept == 1)
    run = Run.new(replace(request_for, steps=2), tmp_path / "a", **{**SURROUNDINGS, "say": words.append})
    run.train(lambda: None)
    monkeypatch.undo()
    start = "best.pt holds the weights of the start: adapted ones did not foretell significantly better" in words[-1]
    assert start == (run.course.best == 0) == (load_checkpoint(tmp_path / "a/best.pt").about["scores"]["step"] == 0)
    assert start or kept


def test_a_stopped_adaptation_goes_on_without_the_weights_that_it_began_with(request_for, weights, tmp_path):
    own = tmp_path / "mine.pt"
    own.write_bytes(weights.read_bytes())
    request = replace(request_for, adapt=str(own), steps=VALIDATIONS + 2)
    whole = Run.new(request, tmp_path / "whole", **SURROUNDINGS)
    whole.train(lambda: None)
    run = Run.new(request, tmp_path / "parts", **SURROUNDINGS)
    with pytest.raises(KeyboardInterrupt):
        run.train(stop_after(5))
    own.unlink()
    again = Run.resumed(tmp_path / "parts", **SURROUNDINGS)
    assert again.state.step == 5
    assert again.adapted == whole.adapted
    again.train(lambda: None)
    assert again.course.scores == whole.course.scores
    assert again.course.best == whole.course.best
    for one, other in zip(again.state.method.state_dict().values(), whole.state.method.state_dict().values(),
                          strict=True):  # fmt: skip
        assert torch.equal(one, other)
    assert len(lines(tmp_path / "parts")) == len(lines(tmp_path / "whole")) == VALIDATIONS + 1


def test_the_start_is_scored_once_also_when_nothing_follows_at_first(request_for, tmp_path, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s2s.run, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            Run.new(request_for, tmp_path, **SURROUNDINGS).train(lambda: None)
    Run.resumed(tmp_path, **SURROUNDINGS).train(lambda: None)
    assert [line["step"] for line in lines(tmp_path)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("method", "settings", "text"),
    [
        (
            "noise2true",
            {"width": 4, "depth": 1},
            "noise2true, which .* images alone lack, the image without speckle",
        ),
        (
            "noise2noise",
            {"width": 4, "depth": 1},
            "noise2noise, which .* images alone lack, a second, independent look",
        ),
    ],
)
def test_weights_that_need_more_than_images_are_refused(tmp_path, method, settings, text):
    path = tmp_path / "weights.pt"
    save_checkpoint(path, make(method, **settings), {})
    with pytest.raises(ConfigError, match=text) as error:
        weights_to_adapt(str(path))
    said = str(error.value)
    assert "; what can be adapted are weights of noise2void, " in said
    assert "dip" not in said
    assert said.endswith(" speckle2self; --adapt speckle2self comes with the package")


def test_filters_and_missing_weights_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="nlm is a filter, which has nothing to learn"):
        weights_to_adapt("nlm")
    with pytest.raises(ConfigError, match="has no weights by its name alone"):
        weights_to_adapt("noise2noise")
    with pytest.raises(ConfigError, match="dip is fitted to each image from fresh weights"):
        weights_to_adapt("dip")
    with pytest.raises(DataError, match="no such checkpoint"):
        weights_to_adapt(str(tmp_path / "none.pt"))


def test_weights_of_another_method_or_with_other_settings_are_refused(request_for, tmp_path):
    with pytest.raises(ConfigError, match=r"holds speckle2self with .*not speckle2self with"):
        Run.new(replace(request_for, settings={**SETTINGS, "scales": (1.0, 0.25)}), tmp_path / "a", **SURROUNDINGS)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--sim"], "on images alone; name them, --data PATH; leave out --sim"),
        ([], "--adapt goes on with its weights, on images alone; name them, --data PATH"),
        (
            ["--data", "SCANS", "--method", "noise2true", "--set", "width=4"],
            "alone; leave out --method, --set\n",
        ),
        (["--data", "SCANS", "--judge", "training"], "leave out --judge"),
        (["--data", "EMPTY"], "no images in this folder"),
        (["--data", "SMALL"], "20 x 20 pixels are"),
        (["--data", "SCANS", "--crop", "256"], "are smaller than crops of 256"),
        (["--data", "FLAT"], "flat"),
    ],
)
def test_calls_that_make_no_sense_say_so_before_anything_is_written(scans, weights, tmp_path, capsys, options, text):
    for name, image in (
        ("SMALL", np.random.default_rng(0).integers(1, 255, (20, 20)).astype(np.uint8)),
        ("FLAT", np.full((64, 64), 90, np.uint8)),
        ("EMPTY", None),
    ):
        (tmp_path / name).mkdir()
        for number in range(0 if image is None else 3):
            PIL.Image.fromarray(image).save(tmp_path / name / f"{number}-{name.lower()}.png")
    places = {"SCANS": str(scans), **{name: str(tmp_path / name) for name in ("SMALL", "FLAT", "EMPTY")}}
    options = [places.get(option, option) for option in options]
    arguments = ["train", "--adapt", str(weights), "--device", "cpu", "--workers", "0", "-o", str(tmp_path / "out")]
    arguments += [] if "--crop" in options else ["--crop", "32"]
    assert main([*arguments, *options]) in (2, 3)
    assert text in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.pt"))


def test_the_command_line_takes_method_and_settings_from_the_weights(scans, weights, tmp_path, capsys):
    arguments = ["train", "--adapt", str(weights), "--data", str(scans), "--domain", "log", "--dynamic-range", "60",
                 "--steps", "2", "--batch", "1", "--crop", "32", "--device", "cpu", "--workers", "0",
                 "-o", str(tmp_path / "out")]  # fmt: skip
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "hidden blocks foretold to" in captured.err
    assert "psnr" not in captured.err
    stopped = load_checkpoint(tmp_path / "out/last.pt")
    assert stopped.method.settings["scales"] == (1.0, 0.5)
    assert stopped.about["request"]["adapt"] == str(weights)
