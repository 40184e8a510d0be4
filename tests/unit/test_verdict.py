"""The verdict: who wins, what is real, and which metrics may not choose."""

import dataclasses
import math

import numpy as np
import pytest

from s2s.evaluation.controls import controls
from s2s.evaluation.results import Evaluation, Row
from s2s.evaluation.same_width import Sweep
from s2s.evaluation.verdict import verdict
from s2s.metrics.battery import METRICS
from s2s.metrics.metric import Metric

CONTROLS = tuple(controls())
SCENES = 8
#: Scenes differ much, methods little: only paired differences can tell them.
HARD = np.linspace(-3.0, 3.0, SCENES)
WOBBLE = 0.1 * np.resize([1.0, -1.0, 0.5, -0.5], SCENES)


#: Metrics of this file's own, so that its tests do not depend on what is in the battery.
MADE_UP = (
    Metric("quality", "PSNR", "fidelity", "the higher the better", "dB"),
    *(Metric(f"up {k}", f"up {k}", "made up", "the higher the better") for k in range(5)),
    Metric("width", "width", "made up", "best where the truth's is", "mm", "nearer", "true width"),
    Metric("true width", "true width", "made up", "the truth's", "mm", "none"),
    Metric("gameable", "gameable", "made up", "the higher the better", fooled_by="any blur"),
)


@pytest.fixture(autouse=True)
def made_up(monkeypatch):
    for metric in MADE_UP:
        monkeypatch.setitem(METRICS, metric.name, metric)


def evaluation_of(scores, scenes=SCENES, metric="quality"):
    """Scores by method, (S,) or one for all scenes; controls have 20 dB unless given."""
    scores = {**dict.fromkeys(CONTROLS, 20.0), **scores}
    methods = [name for name in scores if name not in CONTROLS] + list(CONTROLS)
    rows = [
        Row(name, "suite", k, 0.1, {metric: float(np.broadcast_to(scores[name], scenes)[k] + HARD[k])})
        for name in methods
        for k in range(scenes)
    ]
    return Evaluation(tuple(methods), frozenset(CONTROLS), tuple(rows))


def test_the_best_method_wins_and_the_difference_is_real():
    found = verdict(evaluation_of({"nlm": 30.0 + WOBBLE, "n2n": 31.2, "srad": 29.0}))
    one = found.of("quality")
    assert (one.winner, one.runner_up, one.control, one.warning) == ("n2n", "nlm", CONTROLS[0], "")
    assert one.ranking[:3] == ("n2n", "nlm", "srad")
    assert one.means["n2n"] == pytest.approx(31.2)
    assert one.is_real
    assert one.over_runner_up.mean == pytest.approx(1.2)
    assert one.over_runner_up.low > 1.0
    assert one.ties == ()
    assert one.holds
    first = found.statement[0]
    assert first.startswith("n2n is nearest to the truth: PSNR 31.20 dB, 1.20 [")
    assert first.endswith("] dB over the next, nlm.")


def test_ties_are_said():
    one = verdict(evaluation_of({"a": 30.01 + WOBBLE, "b": 30.0 - WOBBLE, "c": 25.0}))
    assert one.of("quality").ties == ("b",)
    assert not one.of("quality").is_real
    assert "By PSNR, a is not told apart from b." in one.statement


def test_a_lead_among_many_metrics_must_be_larger_to_hold():
    """Alone it is real and holds; with many metrics that choose, chance alone would make some of them look real."""
    lead = 1.2 + np.array([1.3, -1.1, 0.9, -1.2, 1.0, -0.9, 1.2, -1.2])
    alone = evaluation_of({"nlm": 30.0 + lead, "b": 30.0})
    one = verdict(alone).of("quality")
    assert (one.is_real, one.holds) == (True, True)
    names = [f"up {k}" for k in range(5)]
    rows = [Row(r.method, r.suite, r.scene, 0.0, dict.fromkeys(names, r.scores["quality"])) for r in alone.rows]
    many = verdict(Evaluation(alone.methods, alone.controls, tuple(rows)))
    assert [(m.winner, m.is_real, m.holds) for m in many.findings] == [("nlm", True, False)] * 5
    assert "A winner is chosen by 5 of 5 metrics: nlm by 5 (5 real, 0 held)." in many.statement


@pytest.mark.parametrize(("metric", "best"), [("quality", "high"), ("width", "near")])
def test_the_direction_of_a_metric_counts(metric, best):
    """width is best where it is the truth's own width, 20 mm here, not where it is small."""
    scores = {"high": 40.0, "near": 20.5, "low": 15.0, **dict.fromkeys(CONTROLS, 10.0)}
    made = evaluation_of(scores, metric=metric)
    rows = [Row(r.method, r.suite, r.scene, 0.0, {**r.scores, "true width": 20.0 + HARD[r.scene]}) for r in made.rows]
    found = verdict(Evaluation(made.methods, made.controls, tuple(rows)))
    assert found.of(metric).winner == best
    assert found.of("true width") is None, "what has no best value has no finding"


@pytest.mark.parametrize("control", ["noisy", "control gaussian:sigma=6", "control median gamma=2"])
def test_a_metric_that_ranks_a_control_first_chooses_nobody(control):
    found = verdict(evaluation_of({"nlm": 30.0, control: 31.0}))
    one = found.of("quality")
    assert one.winner == ""
    assert control in one.warning
    assert not one.is_real
    assert found.statement[0] == "Nobody is said to be nearest to the truth."
    (warning,) = found.warnings()
    assert warning.startswith("Warning: no winner by PSNR: ")
    assert control in warning
    assert found.warnings("quality") == [warning]
    assert found.warnings("other") == []


def test_a_control_that_is_not_told_apart_from_the_first_counts_as_first():
    one = verdict(evaluation_of({"nlm": 30.01 + WOBBLE, "control median": 30.0})).of("quality")
    assert one.ranking[:2] == ("nlm", "control median")
    assert one.winner == ""
    assert "nlm is not told from control median" in one.warning


def test_of_equals_the_control_is_first():
    assert verdict(evaluation_of({"copy": 20.0})).of("quality").ranking[0] in CONTROLS


def test_metrics_that_can_be_fooled_choose_nobody():
    one = verdict(evaluation_of({"nlm": 30.0}, metric="gameable")).of("gameable")
    assert one.ranking[0] == "nlm"
    assert (one.winner, one.warning) == ("", "it can be fooled by any blur")


def test_a_method_that_fails_somewhere_is_not_ranked():
    """Else it would gain by failing where it would do badly."""
    values = np.full(SCENES, 35.0)
    values[3] = math.nan
    found = verdict(evaluation_of({"picky": values, "nlm": 30.0}))
    one = found.of("quality")
    assert one.winner == "nlm"
    assert "picky" not in one.ranking
    assert one.left_out == {"picky": "measured in 7 of 8 scenes"}
    assert any("picky" in line for line in found.statement)


def test_a_scene_that_few_can_be_measured_in_does_not_count():
    values = np.full(SCENES, 20.0)
    values[3] = math.nan
    one = verdict(evaluation_of({"nlm": 30.0, "b": 25.0, **dict.fromkeys(CONTROLS, values)})).of("quality")
    assert (one.scenes, one.winner, one.left_out) == (SCENES - 1, "nlm", {})


def test_one_scene_gives_no_interval_and_no_winner():
    found = verdict(evaluation_of({"nlm": 30.0, "b": 25.0}, scenes=1))
    one = found.of("quality")
    assert one.ranking[0] == "nlm"
    assert one.winner == ""
    assert "one scene only" in one.warning
    assert any("no interval" in line for line in found.warnings())


def test_a_method_alone_is_compared_with_the_best_control():
    found = verdict(evaluation_of({"nlm": 30.0 + WOBBLE, "control median": 28.0}))
    one = found.of("quality")
    assert (one.winner, one.runner_up, one.over_runner_up, one.control) == ("nlm", "", None, "control median")
    assert one.is_real
    assert found.statement[0].endswith("over the best control, control median.")


def test_without_methods_there_is_nothing_to_judge():
    assert verdict(evaluation_of({})).statement == ("There is no method to judge: the rows are controls.",)


def test_the_truth_itself_wins():
    """Its PSNR is infinite; so is its lead."""
    one = verdict(evaluation_of({"oracle": math.inf, "nlm": 30.0})).of("quality")
    assert (one.winner, one.runner_up, one.is_real) == ("oracle", "nlm", True)
    same = verdict(evaluation_of({"oracle": math.inf, "again": math.inf})).of("quality")
    assert same.over_runner_up.mean == 0
    assert same.ties == ("again",)


def test_names_of_methods_mean_nothing():
    one = verdict(evaluation_of({"nlm": 30.0 + WOBBLE, "truth": 29.0}))
    two = verdict(evaluation_of({"truth": 30.0 + WOBBLE, "nlm": 29.0}))
    assert one.of("quality").over_runner_up == two.of("quality").over_runner_up
    assert two.of("quality").winner == "truth"


def sweep_of(method, gcnr, edges=(0.6, 1.0, 1.4)):
    """A method whose edges grow with its strength, at one gCNR+ but for what each scene adds."""
    edge, score = np.tile(np.array(edges)[:, None], SCENES), np.tile(gcnr + 0.01 * HARD / 3.0, (3, 1))
    scores = {"gcnr_above_sham": score, "detect": score, "psnr_fit": score}
    return Sweep(method, ("a", "b", "c"), tuple(("s", k) for k in range(SCENES)), edge, np.full(SCENES, 0.5), scores)


@pytest.mark.parametrize(
    ("sweeps", "said"),
    [
        ((("a", 0.6), ("b", 0.7), ("control gaussian", 0.5)), "b tells lesions best: gCNR+ 0.7"),
        ((("a", 0.6), ("control gaussian", 0.65)), "no method tells lesions better than control gaussian"),
        ((("a", 0.6, (2.0, 3.0, 4.0)), ("control gaussian", 0.5)), "nobody can be compared: 1 of 2"),
    ],
)
def test_at_the_same_edge_width_one_sentence_says_who_tells_lesions_best(sweeps, said):
    found = evaluation_of({"a": 30.0, "b": 31.0})
    found = dataclasses.replace(found, sweeps=tuple(sweep_of(*one) for one in sweeps))
    (line,) = [line for line in verdict(found).statement if line.startswith("With edges equally wide (1.00 mm)")]
    assert said in line
