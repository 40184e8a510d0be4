"""Steps of a training: precision and accumulated batches change how a step is computed, not what is learnt."""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from trainings import SURROUNDINGS

from s2s.ask import find_precision
from s2s.cli import main
from s2s.data import Feed
from s2s.methods import METHODS, make, method_class
from s2s.methods.base import Training
from s2s.pool import Pool
from s2s.request import Request
from s2s.run import Run
from s2s.toy import ToyScenes
from s2s.train import Plan, State, fit
from usim.errors import ConfigError

SMALL = {"width": 8, "depth": 1}
TRAINING = Training(steps=40, batch=2, crop=32, gain=(0.0, 0.0))
LEARNED = [name for name in METHODS if method_class(name).needs and not method_class(name).holds_image]

pytestmark = pytest.mark.usefixtures("one_thread")


def curve(training, name="noise2noise", settings=SMALL, seed=0):
    """The losses of a training on toy scenes, step by step, and its state."""
    torch.manual_seed(seed)
    method = make(name, "toy", **settings)
    state, losses = State.fresh(method, training, "cpu"), []
    one = Pool(method, training, seed=seed, reuse=4.0)
    feed = Feed(ToyScenes(seed, method.needs), workers=0)
    fit(state, Plan(training, training.steps, seed=seed), one, feed, lambda _, logs: losses.append(logs["loss"]))
    return np.array(losses), state


def smooth(losses):
    return np.convolve(losses, np.full(10, 0.1), "valid")


@pytest.mark.parametrize("residual", [True, False])
def test_accumulated_batches_are_one_large_batch(residual):
    """Sums in another order differ by 1e-7; forty steps of Adam make 1e-4 of it, and 1e-3 in the weights."""
    settings = {**SMALL, "residual": residual}
    large, one = curve(replace(TRAINING, batch=6), settings=settings)
    parts, other = curve(replace(TRAINING, batch=2, accumulate=3), settings=settings)
    np.testing.assert_allclose(parts, large, rtol=1e-4)
    mine, theirs = (torch.cat([weight.detach().flatten() for weight in s.method.parameters()]) for s in (one, other))
    assert torch.linalg.norm(mine - theirs) < 1e-3 * torch.linalg.norm(mine)
    small, _ = curve(replace(TRAINING, batch=2), settings=settings)
    assert np.abs(small / large - 1.0).max() > 1e-2


@pytest.mark.parametrize("name", ["noise2true", "speckle2self"])
def test_bf16_learns_as_fp32_does(name):
    """The two differ by less than a quarter of what another seed changes, and by less than one percent at the end."""
    settings, training = (SMALL, TRAINING) if name == "noise2true" else ({}, replace(TRAINING, steps=20))
    exact, state = curve(training, name, settings)
    other, _ = curve(training, name, settings, seed=1)
    rounded, half = curve(replace(training, precision="bf16"), name, settings)
    assert not np.array_equal(exact, rounded)
    assert np.abs(smooth(rounded) - smooth(exact)).mean() < 0.25 * np.abs(smooth(other) - smooth(exact)).mean()
    assert smooth(rounded)[-1] == pytest.approx(smooth(exact)[-1], rel=1e-2)
    for kept in (state, half):
        assert {weight.dtype for weight in kept.method.parameters()} == {torch.float32}
        assert {weight.dtype for weight in kept.average.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)  # the first traces as the second does, and compiles nothing
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")  # by torch's own inductor
def test_a_compiled_loss_is_the_loss_and_leaves_no_name(monkeypatch, backend):
    """Products in another order: 1e-3 after forty steps."""
    plain, state = curve(TRAINING)
    torch._dynamo.reset()  # what other tests compiled is no recompilation of this one
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    with torch._dynamo.config.patch(error_on_recompile=True):
        compiled, other = curve(replace(TRAINING, compile=True))
    np.testing.assert_allclose(compiled, plain, rtol=1e-3)
    for mine, theirs in ((state.method, other.method), (state.average, other.average)):
        assert mine.state_dict().keys() == theirs.state_dict().keys()


def test_a_loss_that_can_not_be_compiled_is_one_clear_error(monkeypatch):
    def fail(graph, inputs):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=fail))
    with pytest.raises(ConfigError, match=r"^--compile: torch can't compile this loss here: .*; train with --no-comp"):
        curve(replace(TRAINING, compile=True))


@pytest.mark.parametrize("name", LEARNED)
def test_losses_subtract_in_float32(name):
    """What the network adds is rounded, what it is compared with is not."""
    torch.manual_seed(0)
    method = make(name, "toy")
    pool = Pool(method, TRAINING, seed=0)
    batch = pool.batch(0, Feed(ToyScenes(0, method.needs), workers=0))
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.train().loss(batch, 0.0)
    assert loss.dtype == torch.float32
    torch.manual_seed(1)
    assert loss.item() == pytest.approx(method.loss(batch, 0.0).item(), rel=1e-2)
    others = ("inpaint", "r2d2+", "cosdd")  # all but these begin with no correction at all
    if method.settings.get("residual") and name not in others:
        with torch.autocast("cpu", torch.bfloat16):
            image = next(iter(batch.values()))
            assert torch.equal(method.infer(image), image)


def test_auto_takes_bf16_where_the_processor_has_it(monkeypatch):
    words = []
    for flags, expected in (("fpu avx512f avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx512f avx2", "fp32")):
        monkeypatch.setattr(Path, "read_text", lambda path, flags=flags: f"flags\t\t: {flags}\n")
        assert find_precision("auto", "cpu", words.append) == expected
        assert words.pop().startswith(f"precision {expected}: ")
    assert find_precision("fp32", "cpu", words.append) == "fp32"
    assert find_precision("auto", "mps", words.append) == "fp32"
    assert words == ["precision fp32: bfloat16 is not known to gain on this mps"]


PHANTOM = """\
probe: L11-5v
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [32, 32]}
scatterers: {model: field}
background: {echogenicity: 0 dB}
"""


@pytest.fixture
def request_of(tmp_path):
    """A function that makes requests of small trainings."""
    (tmp_path / "small.yaml").write_text(PHANTOM)
    common = Request(
        method="noise2true", preset="toy", settings={"width": 4, "depth": 1}, phantom=str(tmp_path / "small.yaml"),
        steps=6, held_out=1,
    )  # fmt: skip
    return lambda **changes: replace(common, changes={"batch": 2, "crop": 16, **changes})


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"accumulate": 2}])
def test_a_stopped_training_goes_on_in_its_own_way(request_of, tmp_path, changes):
    def check():
        if run.state.step == 3:
            raise KeyboardInterrupt

    whole = Run.new(request_of(**changes), tmp_path / "whole", **SURROUNDINGS)
    whole.train(lambda: None)
    run = Run.new(request_of(**changes), tmp_path / "parts", **SURROUNDINGS)
    with pytest.raises(KeyboardInterrupt):
        run.train(check)
    run = Run.resumed(tmp_path / "parts", **SURROUNDINGS)
    assert run.plan == whole.plan
    run.train(lambda: None)
    for mine, theirs in zip(run.state.method.parameters(), whole.state.method.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"precision": "fp8"}, "precision: 'fp8' is unknown; allowed are fp32, bf16"),
     ({"accumulate": 0}, "accumulate: 0 is not allowed; choose from 1 to 4096")],
)  # fmt: skip
def test_steps_that_make_no_sense_are_refused(request_of, tmp_path, changes, text):
    with pytest.raises(ConfigError, match=text):
        Run.new(request_of(**changes), tmp_path / "out", **SURROUNDINGS)


def test_the_command_line_says_how_steps_are_made(request_of, tmp_path, capsys):
    words = ["train", "--sim", request_of().phantom, "--method", "noise2true", "--preset", "toy", "--set", "width=4",
             "--set", "depth=1", "--steps", "2", "--batch", "2", "--crop", "16", "--workers", "0",
             "--device", "cpu", "-o", str(tmp_path / "out"), "--precision", "bf16", "--accumulate", "2"]  # fmt: skip
    assert main(words) == 0
    stopped = Run.resumed(tmp_path / "out", **SURROUNDINGS)
    assert stopped.request.changes == {"batch": 2, "crop": 16, "precision": "bf16", "accumulate": 2}
    assert main(["train", "--resume", "-o", str(tmp_path / "out"), "--device", "cpu", "--precision", "fp32"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("leave out --precision")
