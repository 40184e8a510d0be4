"""Trainings by several processes, and trainings that are stopped in places that no handler of Python reaches."""

import contextlib
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from surroundings import PATIENCE, environment
from torch import nn
from trainings import SURROUNDINGS, lines

from s2s.board import BOARD
from s2s.checkpoint import load_checkpoint
from s2s.data import Feed, SharedFeed
from s2s.methods import make
from s2s.methods.base import Method, Training
from s2s.pool import Pool
from s2s.ranks import Ranks, joined
from s2s.request import Request
from s2s.run import Run
from s2s.toy import ToyScenes
from s2s.train import Plan, State, fit
from usim.errors import ConfigError, ResourceError

PHANTOM = """\
probe: L11-5v
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [32, 32]}
scatterers: {model: field}
background: {echogenicity: {uniform: [-10 dB, 0 dB]}}
"""
STEPS = 12

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small(tmp_path):
    """A request of twelve steps with a validation after each."""
    (tmp_path / "small.yaml").write_text(PHANTOM)
    return Request(
        method="noise2true", preset="toy", settings={"width": 4, "depth": 1}, phantom=str(tmp_path / "small.yaml"),
        steps=STEPS, changes={"batch": 4, "crop": 16}, reuse=1.0, held_out=1,
    )  # fmt: skip


def words_of(small, folder, *more):
    """The command line of a request."""
    return ["train", "-o", str(folder), "--device", "cpu", "--workers", "0", "--sim", small.phantom, "--method",
            small.method, "--preset", "toy", "--set", "width=4", "--set", "depth=1", "--steps", str(small.steps),
            "--batch", str(small.changes["batch"]), "--crop", "16", "--reuse", "1", "--held-out", "1", "--precision",
            "fp32", *more]  # fmt: skip


def launch(*command):
    variables = environment(OMP_NUM_THREADS="1")
    return subprocess.Popen([sys.executable, *command], env=variables, stderr=subprocess.PIPE, text=True)


def together(*words):
    """Two ranks by torchrun."""
    return launch("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "s2s", *words)


def wait(process, ready):
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def weights(folder):
    return load_checkpoint(folder / "last.pt").resume["weights"]


def assert_alike(folder, whole, rtol=0.0):
    """Losses and validations step by step, and the weights at the end."""
    found, expected = lines(folder), lines(whole)
    assert [line["step"] for line in found] == [line["step"] for line in expected] == list(range(1, STEPS + 1))
    for key in ("loss", "psnr", "ssim"):
        assert [line[key] for line in found] == pytest.approx([line[key] for line in expected], rel=rtol, abs=0.0), key
    for key, value in weights(whole).items():
        torch.testing.assert_close(weights(folder)[key], value, rtol=rtol, atol=rtol)


def test_two_ranks_are_one_process_with_the_double_batch(small, tmp_path):
    """Sums in another order: 1e-7 in a loss, and twelve steps of Adam make 1e-5 of it."""
    Run.new(small, tmp_path / "one", **SURROUNDINGS).train(lambda: None)
    half = replace(small, changes={**small.changes, "batch": 2})
    process = together(*words_of(half, tmp_path / "two"))
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    assert_alike(tmp_path / "two", tmp_path / "one", rtol=1e-5)
    assert sum(line.startswith("step 12,") for line in error.splitlines()) == 1  # one of them speaks


#: What a training does among ranks, and the threads of torch.distributed that are left after it.
ALONE_AGAIN = """
import os
from s2s.methods import make
from s2s.ranks import joined

with joined("cpu") as (ranks, _):
    method = make("noise2true", "toy", width=4, depth=1)
    method.optimizers(method.TRAINING["toy"])
    assert ranks.first(float(ranks.rank)) == (0.0,)
names = [open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")]
print("left:", [name for name in names if "gloo" in name], flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="names of threads are read from /proc")
def test_no_thread_of_a_group_outlives_it(tmp_path):
    """One that does may abort a process that has done its work."""
    (tmp_path / "alone_again.py").write_text(ALONE_AGAIN)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(tmp_path / "alone_again.py")]
    done = subprocess.run(command, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["left: []"] * 2


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_and_the_training_goes_on(small, tmp_path):
    half = replace(small, steps=400, changes={**small.changes, "batch": 2})
    process = together(*words_of(half, tmp_path / "two"))
    wait(process, lambda: len(lines(tmp_path / "two")) >= 2)
    ranks = psutil.Process(process.pid).children()
    (second,) = (one for one in ranks if one.environ()["RANK"] == "1")
    second.kill()
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert not psutil.wait_procs([one for one in ranks if one.is_running()], timeout=PATIENCE)[1]
    said = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "one of the 2 processes that train together has ended" in said[0] or "interrupted" in said[0]
    step = load_checkpoint(tmp_path / "two/last.pt").resume["step"]
    process = together("train", "--resume", "-o", str(tmp_path / "two"), "--device", "cpu", "--workers", "0")
    wait(process, lambda: lines(tmp_path / "two")[-1]["step"] > step + 40)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=PATIENCE)
    assert sum(line.startswith("error: ") for line in error.splitlines()) == 1
    assert "error: interrupted" in error
    assert load_checkpoint(tmp_path / "two/last.pt").resume["step"] >= lines(tmp_path / "two")[-1]["step"] > step


def test_one_gpu_can_not_be_that_of_all(monkeypatch):
    for key, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ConfigError, match="device: cuda:1 is one, but each process"), joined("cuda:1"):
        pass


@contextlib.contextmanager
def rank_of(number, scenes=None):
    """A stand-in for ranks that hears the scenes of the others from a list."""

    class Alone:
        rank, world, leads = number, 2, number == 0

        def give(self, item, owner):
            return item if owner == number else scenes.pop(0)

    yield Alone()


def test_ranks_cut_their_shares_of_one_batch_from_scenes_that_they_make_in_turn():
    """Rank 1 makes every second scene, hears the others, and cuts the second half of what one process would."""
    method = make("noise2true", "toy", width=4, depth=1)
    make_scene = ToyScenes(3, method.needs).open()
    training = Training(batch=2, crop=16)
    with rank_of(1, [make_scene(index) for index in range(0, 40, 2)]) as ranks:
        feed = SharedFeed(ToyScenes(3, method.needs), ranks, workers=0)
        mine = Pool(method, training, seed=0, reuse=0.1, ranks=ranks)
        whole = Pool(method, replace(training, batch=4), seed=0, reuse=0.1)
        other = Feed(ToyScenes(3, method.needs), workers=0)
        for step in range(12):
            share, batch = mine.batch(step, feed), whole.batch(step, other)
            assert all(torch.equal(share[key], batch[key][2:]) for key in batch)


# Stops.

#: A training whose n-th call of something takes a minute in one call of a library.
STUCK = """
import hashlib, sys
import s2s.held_out, s2s.methods.noise2true
from s2s.cli import main

def stuck(kind, name, number):
    inner, calls = getattr(kind, name), []
    def call(*arguments):
        calls.append(1)
        found = inner(*arguments)
        if len(calls) == number:
            print("here", file=sys.stderr, flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 150_000_000)
        return found
    setattr(kind, name, call)

stuck(*{
    "step": (s2s.methods.noise2true.Noise2True, "loss", 4),
    "validation": (s2s.held_out.HeldOut, "scores", 5),
}[sys.argv.pop(1)])
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("where", "step", "number"), [("step", 3, signal.SIGINT), ("validation", 4, signal.SIGTERM)])
def test_what_is_stuck_in_a_call_is_stopped_with_its_checkpoint_written(small, tmp_path, where, step, number):
    """The call would last a minute; the last whole step is saved, and a validation that was cut off is made again."""
    Run.new(small, tmp_path / "whole", **SURROUNDINGS).train(lambda: None)
    (tmp_path / "stuck.py").write_text(STUCK)
    process = launch(str(tmp_path / "stuck.py"), where, *words_of(small, tmp_path / "parts"))
    while "here" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert error.splitlines()[-1].startswith("error: interrupted")
    assert load_checkpoint(tmp_path / "parts/last.pt").resume["step"] == step
    assert not list((tmp_path / "parts").glob(".*"))
    Run.resumed(tmp_path / "parts", **SURROUNDINGS).train(lambda: None)
    assert_alike(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
def test_a_stop_while_the_loss_is_compiled(small, tmp_path):
    process = launch("-m", "s2s", *words_of(small, tmp_path / "out", "--compile"))
    wait(process, (tmp_path / "out/last.pt").exists)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, error
    assert error.splitlines()[-1].startswith("error: interrupted")
    assert load_checkpoint(tmp_path / "out/last.pt").resume["step"] == 0
    assert not psutil.wait_procs([one for one in family if one.is_running()], timeout=PATIENCE)[1]


class Counting(Method):
    """A method whose forward pass changes a buffer, and whose fourth loss is interrupted."""

    needs = ("y",)

    def __init__(self, interrupt_in):
        super().__init__()
        self.shift = nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros(()))
        self.interrupt_in = interrupt_in

    def loss(self, batch, progress):
        self.seen += 1
        if self.seen == 4 and self.interrupt_in == "loss":
            raise KeyboardInterrupt
        return (batch["y"] * self.shift).square().mean()

    def step(self, batches, progress, optimizers, descend):
        logs = super().step(batches, progress, optimizers, descend)
        if self.seen == 4 and self.interrupt_in == "step":
            raise KeyboardInterrupt
        return logs


@pytest.mark.parametrize(("where", "possible"), [("loss", True), ("step", False)])
def test_a_step_is_taken_back_unless_weights_have_changed(where, possible):
    method, training = Counting(where), Training(batch=2, crop=16)
    method.name = "counting"
    state, kept = State.fresh(method, training, "cpu"), []
    feed = Feed(ToyScenes(0, ("y",)), workers=0)
    with pytest.raises(KeyboardInterrupt):
        fit(state, Plan(training, steps=9), Pool(method, training, seed=0), feed,
            lambda state, logs: kept.append(state.method.shift.item()))  # fmt: skip
    assert state.step == 3
    assert state.rewind() == possible
    if possible:
        assert state.method.seen.item() == 3.0
        assert state.method.shift.item() == kept[-1]


# TensorBoard.


def test_tensorboard_shows_what_metrics_tell_and_frames_beside_their_truth(small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def check():
        if run.state.step == 7:
            raise KeyboardInterrupt

    run = Run.new(small, tmp_path / "out", tensorboard=True, **SURROUNDINGS)
    with pytest.raises(KeyboardInterrupt):
        run.train(check)
    Run.resumed(tmp_path / "out", tensorboard=True, **SURROUNDINGS).train(lambda: None)
    found = EventAccumulator(str(tmp_path / "out" / BOARD)).Reload()
    told = lines(tmp_path / "out")
    for name in ("loss", "psnr", "ssim"):
        shown = [(event.step, event.value) for event in found.Scalars(name)]
        assert [step for step, _ in shown] == [line["step"] for line in told]
        assert [value for _, value in shown] == pytest.approx([line[name] for line in told], rel=1e-6)
    assert "noisy/psnr" in found.Tags()["scalars"]
    (name,) = found.Tags()["images"]
    assert name.endswith("/0")
    picture = found.Images(name)[-1]
    assert (picture.height, picture.width) == (32, 3 * 32)


def test_tensorboard_that_is_not_there_is_named(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r'pip install "usim-s2s\[tensorboard\]"'):
        Run.new(small, tmp_path / "out", tensorboard=True, **SURROUNDINGS).train(lambda: None)


def test_a_lost_rank_is_named(monkeypatch):
    def closed(*arguments, **named):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr("torch.distributed.all_reduce", closed)
    with pytest.raises(ResourceError, match="one of the 2 processes that train together has ended"):
        Ranks(0, 2).any(False)
