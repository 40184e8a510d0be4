"""What validations tell: paired gains, the end of a training that has converged, and warnings that don't cry wolf."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from trainings import PHANTOM, SURROUNDINGS, lines, stop_after

import s2s.run
from s2s.cli import main
from s2s.course import LEAST_FALL_DB, Course, exceeds, gain
from s2s.held_out import HeldOut, Scores
from s2s.methods import METHODS
from s2s.methods.base import Method, Training
from s2s.request import VALIDATIONS_WATCHED, Request
from s2s.run import Run
from s2s.seeds import held_out_seed, judged_seed, training_seed, tuning_seed
from s2s.train import DECAY, WARM_UP, Plan
from usim.errors import ConfigError
from usim.phantom.load import phantom_from_text

pytestmark = pytest.mark.usefixtures("one_thread")


def course_of(psnr, losses, frames=4, spread=2.0, own=0.05, seed=0):
    """The course of means, with frames that differ by `spread` dB and move by themselves by `own` dB; its warnings."""
    random = np.random.default_rng(seed)
    level = random.normal(0.0, spread, frames)
    course, warnings = Course(), []
    for number, (mean, loss) in enumerate(zip(psnr, losses, strict=True)):
        course.add(100 * (number + 1), loss, [mean + level + random.normal(0.0, own, frames)])
        warnings.append(course.warning())
    return course, [number for number, text in enumerate(warnings) if text], warnings


def test_a_gain_is_the_mean_of_paired_differences_and_its_error_that_of_suites():
    random = np.random.default_rng(1)
    before = [random.normal(30.0, 5.0, 6), random.normal(20.0, 5.0, 9)]
    steps = [random.normal(0.3, 0.1, 6), random.normal(-0.1, 0.4, 9)]
    mean, error = gain(before, [a + d for a, d in zip(before, steps, strict=True)])
    assert mean == pytest.approx((steps[0].mean() + steps[1].mean()) / 2)
    parts = [d.std(ddof=1) / math.sqrt(d.size) for d in steps]
    assert error == pytest.approx(math.hypot(*parts) / 2)


def test_the_error_of_a_gain_is_its_scatter():
    random = np.random.default_rng(2)
    zeros = [np.zeros(4), np.zeros(7)]
    found = [gain(zeros, [random.normal(0.0, 0.3, 4), random.normal(0.0, 0.1, 7)]) for _ in range(2000)]
    means, errors = np.array(found).T
    assert math.sqrt((errors**2).mean()) == pytest.approx(means.std(), rel=0.05)


def test_perfect_and_single_frames_have_a_gain_too():
    assert gain([np.array([np.inf, 3.0])], [np.array([np.inf, 4.0])])[0] == 0.5
    mean, error = gain([np.array([3.0])], [np.array([3.1])])
    assert mean == pytest.approx(0.1)
    assert math.isnan(error)
    assert exceeds(0.1, math.nan)
    assert not exceeds(0.0, math.nan)
    assert not exceeds(0.1, 0.1)


def test_the_best_is_the_one_of_the_highest_mean_over_suites_however_many_frames_each_has():
    course = Course()
    assert course.add(1, 1.0, [np.array([30.0, 30.0]), np.array([20.0])])
    assert not course.add(2, 1.0, [np.array([31.0, 31.0]), np.array([18.5])])  # better for two frames of three
    assert course.add(3, 1.0, [np.array([29.0, 29.0]), np.array([22.0])])
    assert not course.add(4, 1.0, [np.array([29.0, 29.0]), np.array([22.0])])
    assert course.steps[course.best] == 3


@pytest.mark.parametrize("patience", [1, 3])
def test_a_training_stands_still_when_no_validation_gained_more_than_its_error(patience):
    level = np.array([25.0, 30.0, 35.0, 20.0])
    course, still = Course(), []
    gains = [0.0, 1.0, 1.5, 1.6, 1.5, 1.6, 1.5]
    for number, mean in enumerate(gains):
        noise = np.array([0.3, -0.3, 0.3, -0.3]) * (number % 2)  # error of a gain: 0.17
        course.add(number, 0.0, [level + mean + noise])
        still.append(course.stands_still(patience))
    assert still == [number >= 2 + patience for number in range(len(gains))]


def test_small_gains_that_add_up_are_gains():
    course = Course()
    for number in range(40):
        course.add(number, 0.0, [0.04 * number + np.array([0.3, -0.3, 0.3, -0.3]) * (number % 2)])
        assert not course.stands_still(6)


def healthy(seed):
    """A course that gains, or stands still in the end, and wobbles; its loss falls all the time."""
    random = np.random.default_rng([9, seed])
    count, wobble = int(random.integers(8, 49)), 10.0 ** random.uniform(-1.7, -0.3)
    time = np.arange(count)
    noise = random.normal(0.0, 1.0, count + 1)
    noise = noise[1:] + random.uniform(0.0, 1.0) * noise[:-1]  # the averaged weights remember
    psnr = 33.0 - random.uniform(1, 8) * np.exp(-time / random.uniform(1, 10)) + wobble * noise
    losses = 0.25 + 0.5 * np.exp(-time / random.uniform(2, 20)) + random.normal(0.0, 0.003, count) - 1e-3 * time
    return psnr, losses


def test_healthy_courses_are_not_warned_of():
    warned = [seed for seed in range(200) if course_of(*healthy(seed), seed=seed)[1]]
    assert len(warned) <= 4


@pytest.mark.parametrize(("wobble", "slope"), [(0.02, 0.1), (0.1, 0.25), (0.3, 0.5)])
def test_a_fall_that_is_more_than_wobble_is_warned_of_once(wobble, slope):
    """The scores rise, and then fall for good while the loss goes on falling."""
    late, several = 0, 0
    for seed in range(30):
        random = np.random.default_rng([4, seed])
        time = np.arange(24)
        psnr = 33.0 - np.abs(time - 10) * slope + random.normal(0.0, wobble, 24)
        losses = 1.0 / (1.0 + 0.1 * time) + random.normal(0.0, 0.002, 24)
        _, warned, _ = course_of(psnr, losses, seed=seed)
        assert all(number > 10 for number in warned)
        late += not warned
        several += len(warned) > 1
    assert late == 0
    assert several == 0


def test_a_second_fall_after_a_recovery_is_a_second_episode():
    psnr = [30, 31, 32, 33, 32, 31, 30, 29, 29, 30, 31, 32, 33, 34, 34, 33, 32, 31, 30, 29]
    _, warned, texts = course_of(psnr, np.linspace(1.0, 0.1, len(psnr)), own=0.01)
    assert len(warned) == 2
    assert warned[0] < 9 < 13 < warned[1]
    assert "the loss fell from" in texts[warned[1]]
    assert texts[warned[0]].startswith("since step 400 the loss fell from 0.")
    assert "best.pt holds step 400" in texts[warned[0]]


@pytest.mark.parametrize(
    ("psnr", "losses"),
    [
        (np.linspace(33, 30, 12), np.linspace(0.5, 1.0, 12)),  # the loss rises too: nobody is deceived
        (np.linspace(33, 32.9, 12), np.linspace(1.0, 0.5, 12)),  # too little to be seen
        (np.full(12, np.inf), np.linspace(1.0, 0.5, 12)),
        (np.full(12, np.nan), np.linspace(1.0, 0.5, 12)),
        (np.linspace(33, 20, 5), np.linspace(1.0, 0.5, 5)),  # too short to tell
    ],
)
def test_what_is_no_deception_is_not_warned_of(psnr, losses):
    assert not course_of(psnr, losses)[1]


def test_measured_courses_of_healthy_trainings_are_not_warned_of():
    """Speckle2Self, 2000 steps on the shipped training phantom: PSNR falls back by 0.4 dB between validations."""
    psnr = [30.39, 31.14, 31.12, 31.54, 32.85, 32.68, 32.93, 33.66, 33.38, 33.81, 33.44, 33.71]
    losses = [0.791, 0.334, 0.350, 0.348, 0.327, 0.310, 0.277, 0.269, 0.263, 0.265, 0.261, 0.260]
    assert not course_of(psnr, losses)[1]


def test_scores_that_fell_at_first_and_recover_are_not_warned_of():
    """A tiny network in its first sixty steps: PSNR begins at that of the noisy image, falls, and comes back."""
    psnr = [19.255, 19.292, 19.304, 19.072, 18.630, 18.581, 18.790, 18.917, 18.963, 18.983, 18.989, 18.991]
    losses = [1.549, 1.631, 1.422, 0.890, 0.786, 0.818, 0.792, 0.631, 0.710, 0.865, 0.825, 0.858]
    assert not course_of(psnr, losses)[1]


def test_a_course_is_plain_data_and_goes_on_from_it():
    psnr, losses = healthy(3)
    psnr[6:] -= 2.0 * np.arange(len(psnr) - 6)
    whole, warned, _ = course_of(psnr, losses)
    assert warned
    first, parts = Course(), []
    for number, (step, loss, scores) in enumerate(zip(whole.steps, whole.losses, whole.scores, strict=True)):
        first = Course(**json.loads(json.dumps(first.plain())))
        first.add(step, loss, [np.array(suite) for suite in scores])
        parts += [number] if first.warning() else []
    assert first == whole
    assert parts == warned


# Held-out suites.


def test_every_suite_counts_alike_and_metrics_that_some_frames_lack_are_taken_of_the_others():
    scores = Scores({"a": [{"psnr": 30.0, "psnr_fit": math.nan}] * 3, "b": [{"psnr": 20.0, "psnr_fit": 25.0}]})
    assert scores.plain() == {
        "psnr": 25.0, "psnr_fit": 25.0,
        "suites": {"a": {"psnr": 30.0, "psnr_fit": pytest.approx(math.nan, nan_ok=True)},
                   "b": {"psnr": 20.0, "psnr_fit": 25.0}},
    }  # fmt: skip
    assert [len(suite) for suite in scores.chosen()] == [3, 1]
    assert HeldOut({}).words(scores, scores) == (
        "psnr 25.00 dB, 25.00 after a tone fit (a 30.00, b 20.00) (noisy 25.00, 25.00)"
    )  # fmt: skip
    assert "suites" not in Scores({"a": [{"psnr": 1.0}]}).plain()


def test_held_out_frames_are_nobody_elses():
    phantom = phantom_from_text(PHANTOM)
    frames = HeldOut.simulate({"a": phantom, "b": phantom}, 7, 2).suites
    assert {frame.params["seed"] for suite in frames.values() for frame in suite} == {held_out_seed(7)}
    others = {make(seed) for make in (training_seed, judged_seed, tuning_seed) for seed in range(200)}
    assert not others & {held_out_seed(seed) for seed in range(200)}


# Plans whose end is brought forward.


def test_a_rate_that_is_held_falls_in_the_last_fifth():
    plan = Plan(Training(), steps=1000, hold=True)
    rates = np.array([plan.rate(plan.progress(step, 0.0)) for step in range(1001)])
    assert rates[0] == rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert (np.diff(rates[: round(1000 * WARM_UP) + 1]) > 0).all()
    assert (rates[round(1000 * WARM_UP) : round(1000 * (1 - DECAY))] == 1.0).all()
    assert (np.diff(rates[round(1000 * (1 - DECAY)) :]) < 0).all()
    assert Plan(Training(schedule="constant"), steps=10, hold=True).rate(0.99) == 1.0


def test_an_end_that_is_brought_forward_comes_after_a_fifth_of_the_whole():
    plan = Plan(Training(), steps=1000, hold=True)
    plan.bring_forward(400, 0.0)
    assert plan.progress(400, 0.0) == pytest.approx(1.0 - DECAY)
    assert plan.progress(500, 0.0) == pytest.approx(1.0)
    assert plan.rate(plan.progress(400, 0.0)) == pytest.approx(1.0)
    assert plan.rate(plan.progress(500, 0.0)) == pytest.approx(0.0, abs=1e-6)
    assert plan.is_ending(plan.progress(401, 0.0))
    late = Plan(Training(), minutes=10.0, hold=True)
    late.bring_forward(7, 590.0)
    assert late.end == 1.0
    constant = Plan(Training(schedule="constant"), steps=1000, hold=True)
    constant.bring_forward(400, 0.0)
    assert constant.progress(400, 0.0) == 1.0


# Trainings.


class Gain(Method):
    """Multiplies by a number that its loss lets grow: at 1 the output is the input, the more the worse."""

    def __init__(self, rate: float = 1.0, stop: float = 100.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))
        self.rate, self.stop = rate, stop

    def infer(self, y):
        return 1.0 + self.factor * (y - 1.0)

    def loss(self, batch, progress):
        return (self.factor - self.stop).abs() * self.rate


@pytest.fixture
def gain_method(monkeypatch):
    monkeypatch.setitem(METHODS, "gain", f"{__name__}:Gain")


@pytest.fixture
def request_for(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    return Request(
        method="noise2true", preset="toy", settings={"width": 4, "depth": 1}, phantom=str(path), steps=96,
        changes={"batch": 2, "crop": 16, "rate": 0.002}, seed=5, reuse=1.0, held_out=3,
    )  # fmt: skip


def test_a_loss_that_falls_while_the_output_gets_worse_is_warned_of_once(gain_method, request_for, tmp_path):
    words = []
    changes = {**request_for.changes, "rate": 0.02}
    request = replace(request_for, method="gain", preset="default", settings={}, steps=48, changes=changes)
    Run.new(request, tmp_path / "a", **{**SURROUNDINGS, "say": words.append}).train(lambda: None)
    told = lines(tmp_path / "a")
    warned = [line for line in told if "warning" in line]
    assert len(warned) == 1
    assert [text for text in words if text.startswith("warning: ")] == [f"warning: {warned[0]['warning']}"]
    assert "PSNR against the truth fell too" in warned[0]["warning"]
    assert told[-1]["loss"] < told[0]["loss"]
    assert told[-1]["psnr"] < told[0]["psnr"] - LEAST_FALL_DB


def test_a_converged_training_ends_early_with_a_falling_rate_and_resumes_to_the_same_bits(
    gain_method, request_for, tmp_path
):
    """The factor settles, nothing gains any more: the rest of the schedule is a fifth of the whole."""
    words, rates = [], []
    request = replace(
        request_for, method="gain", preset="default", settings={"rate": 1.0, "stop": 1.0}, steps=480, patience=3
    )
    run = Run.new(request, tmp_path / "whole", **{**SURROUNDINGS, "say": words.append})
    run.train(lambda: rates.append(run.state.optimizers["main"].param_groups[0]["lr"]))
    told = lines(tmp_path / "whole")
    still = told[3]["step"]  # nothing ever gains: the fourth validation is the third after the first
    assert still == 4 * 480 // VALIDATIONS_WATCHED
    assert run.state.step == told[-1]["step"] == math.ceil(still / (1 - DECAY))
    assert any(text.startswith(f"step {still}: none of the last 3 validations gained") for text in words)
    assert rates[still - 1] == pytest.approx(0.002)
    assert (np.diff(rates[still:]) < 0).all()
    for stops in ((5,), (still,), (still - 1, 2), (still + 3,)):
        folder = tmp_path / "-".join(map(str, stops))
        again = Run.new(request, folder, **SURROUNDINGS)
        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                again.train(stop_after(stop))
            again = Run.resumed(folder, **SURROUNDINGS)
        again.train(lambda: None)
        assert torch.equal(again.state.method.factor, run.state.method.factor)
        assert again.course == run.course
        timeless = [[{k: v for k, v in line.items() if k not in ("seconds", "waiting")} for line in found]
                    for found in (lines(folder), told)]  # fmt: skip
        assert timeless[0] == timeless[1]


def test_a_training_that_gains_to_the_end_uses_all_its_steps(request_for, tmp_path):
    words = []
    request = replace(request_for, patience=VALIDATIONS_WATCHED)
    run = Run.new(request, tmp_path / "a", **{**SURROUNDINGS, "say": words.append})
    run.train(lambda: None)
    assert run.state.step == 96
    assert len(lines(tmp_path / "a")) == VALIDATIONS_WATCHED
    assert not [text for text in words if "none of the last" in text]


def test_several_suites_judge_and_their_mean_chooses(request_for, tmp_path):
    bright = tmp_path / "bright.yaml"
    bright.write_text(PHANTOM.replace("anechoic", "6 dB"))
    request = replace(request_for, judge=(request_for.phantom, str(bright)), steps=24, held_out=2)
    Run.new(request, tmp_path / "a", **SURROUNDINGS).train(lambda: None)
    told = lines(tmp_path / "a")
    for line in told:
        assert set(line["suites"]) == set(line["noisy"]["suites"]) == set(request.judge)
        assert line["psnr"] == pytest.approx(np.mean([suite["psnr"] for suite in line["suites"].values()]))
    best = max(told, key=lambda line: line["psnr"])
    assert s2s.run.load_checkpoint(tmp_path / "a/best.pt").about["scores"]["step"] == best["step"]
    bright.unlink()  # a training carries its phantoms with it
    stopped = Run.resumed(tmp_path / "a", **SURROUNDINGS)
    assert [judge.text for judge in stopped.judges] == [PHANTOM, PHANTOM.replace("anechoic", "6 dB")]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"judge": ("training", "training")}, "judge: training, training: a phantom is named twice"),
        ({"patience": 3, "held_out": 1}, "held-out: one frame of a suite has no standard error"),
        ({"patience": 49}, "patience: 49 is not allowed; choose from 0 to 48"),
        ({"judge": ("trainings",)}, "trainings"),
    ],
)
def test_judges_that_can_not_judge_are_refused(request_for, tmp_path, changes, text):
    with pytest.raises(ConfigError, match=text.replace("(", r"\(")):
        Run.new(replace(request_for, **changes), tmp_path / "a", **SURROUNDINGS)
    assert not (tmp_path / "a").exists()


def test_the_command_line_names_judges(request_for, tmp_path, capsys):
    options = ["train", "--sim", request_for.phantom, "--judge", request_for.phantom, "--held-out", "2",
               "--until-converged", "--method", "noise2true", "--preset", "toy", "--set", "width=4", "--set", "depth=1",
               "--steps", "4", "--batch", "2", "--crop", "16", "--workers", "0", "--device", "cpu",
               "-o", str(tmp_path / "a")]  # fmt: skip
    assert main(options) == 0
    capsys.readouterr()
    asked = s2s.run.load_checkpoint(tmp_path / "a/last.pt").about["request"]
    assert (asked["judge"], asked["held_out"], asked["patience"]) == ((request_for.phantom,), 2, 4)
