"""What methods cost: memory that is known, parameters that are counted, calls that are timed."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import s2s
import usim.memory
from s2s.evaluation import cost
from s2s.evaluation.controls import NOISY
from s2s.evaluation.cost import cost_of, machine, measured_costs, peak_memory, with_costs
from s2s.evaluation.results import Cost, Evaluation, Picture, Row
from s2s.methods import make

IMAGE = np.random.default_rng(0).normal(-30, 5, (96, 96)).astype(np.float32)
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is told by Linux")


@linux
@pytest.mark.parametrize("size", [16, 64, 160])
def test_memory_is_what_was_allocated(size):
    assert peak_memory(lambda: np.ones(size << 17).sum()) == pytest.approx(size, abs=3)


@linux
def test_memory_is_the_peak_and_begins_anew():
    """An earlier, larger call leaves nothing; two arrays after each other count once, at a time twice."""
    peak_memory(lambda: np.ones(200 << 17))
    assert peak_memory(lambda: None) < 1
    assert peak_memory(lambda: [np.ones(32 << 17).sum() for _ in range(3)]) == pytest.approx(32, abs=3)
    assert peak_memory(lambda: [np.ones(32 << 17) for _ in range(3)]) == pytest.approx(96, abs=3)


@linux
def test_memory_that_was_kept_is_not_used_unseen():
    """Small blocks stay with the allocator when they are freed, and would serve the next call."""
    small = [bytes(4000) for _ in range(10_000)]
    del small
    assert peak_memory(lambda: [bytes(4000) for _ in range(10_000)]) == pytest.approx(40, abs=6)


def test_where_the_system_tells_nothing(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(usim.memory, "_RESET", tmp_path / "no" / "file")
    assert peak_memory(lambda: calls.append(1)) is None
    monkeypatch.setattr(cost.sys, "platform", "darwin")
    assert peak_memory(lambda: calls.append(1)) is None
    assert len(calls) == 2


def test_on_a_gpu_torch_tells(monkeypatch):
    said = iter([100 << 20, 160 << 20])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: next(said))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: next(said))
    assert peak_memory(lambda: None, "cuda") == 60


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_memory_on_a_gpu():
    assert peak_memory(lambda: torch.ones(64 << 18, device="cuda").sum(), "cuda") == pytest.approx(64, abs=1)


def test_parameters_are_those_that_denoising_uses():
    """The figures of the Speckle2Self paper: 3.9 M at inference of 7.8 M; its coarse encoders only train."""
    assert s2s.load("gaussian").method.parameter_count() == 0
    method = make("speckle2self", "paper")
    every = sum(one.numel() for one in method.parameters())
    used = method.parameter_count()
    assert used == pytest.approx(3.9e6, rel=0.02)
    assert every == pytest.approx(7.8e6, rel=0.02)
    method.infer(torch.zeros(1, 1, 64, 64)).sum().backward()
    assert used == sum(one.numel() for one in method.parameters() if one.grad is not None)


def test_each_method_has_a_process_of_its_own():
    found = measured_costs({"nothing": "no-such-filter", "blur": "gaussian:sigma=2", "slow": "srad"}, IMAGE)
    assert set(found) == {"blur", "slow"}
    assert 0 < found["blur"].milliseconds < found["slow"].milliseconds < 10_000
    assert found["blur"].parameters == 0
    if sys.platform.startswith("linux"):
        assert 0 <= found["blur"].memory < found["slow"].memory + 1 < 60


def test_calls_are_timed_after_the_first(monkeypatch):
    """The slow first call, on a corner, is not among the times; slow methods are called once."""
    shapes = []

    def functions(denoisers):
        return {"": lambda image: shapes.append(image.shape)}

    monkeypatch.setattr(cost, "functions", functions)
    cost_of(s2s.load("gaussian"), IMAGE)
    assert shapes == [(64, 64)] + [(96, 96)] * (1 + cost.REPEATS)
    shapes.clear()
    monkeypatch.setattr(cost, "ENOUGH_S", 0.0001)
    monkeypatch.setattr(cost, "functions", lambda denoisers: {"": lambda image: np.linalg.svd(np.ones((300, 300)))})
    assert cost_of(s2s.load("gaussian"), IMAGE).milliseconds > 0.1


def test_an_evaluation_gets_the_costs_of_its_methods(monkeypatch):
    asked = []

    def measured(specs, image, device, check):
        asked.append((dict(specs), image, device))
        return {"median": Cost(3.0, 0, 1.5)}

    monkeypatch.setattr(cost, "measured_costs", measured)
    picture = Picture("s", 0, {NOISY: IMAGE, "truth": IMAGE}, np.arange(96.0), np.arange(96.0), 60.0)
    rows = (Row("median", "s", 0, 0.5, {"psnr": 1.0}), Row(NOISY, "s", 0, 0.1, {"psnr": 1.0}))
    plain = Evaluation(("median", NOISY), frozenset({NOISY}), rows, pictures=(picture,), about={"a": "b"})
    found = with_costs(replace(plain, costs={"median": Cost(500.0), NOISY: Cost(0.1)}), {"median": "median"})
    assert found.costs == {"median": Cost(3.0, 0, 1.5), NOISY: Cost(0.1)}
    assert found.about == {"a": "b", "machine": machine()}
    assert asked[0][0] == {"median": "median"}
    assert asked[0][1] is IMAGE
    assert machine()


def test_the_user_can_stop_it():
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured_costs({"blur": "gaussian"}, IMAGE, check=check)
