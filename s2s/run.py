"""A training as a folder: what was asked, the checkpoints, the scores against the truth, and how to go on after a stop.

best.pt        the weights that came closest to the truth on held-out frames; what s2s denoise takes
last.pt        everything that is needed to go on
metrics.jsonl  one line per validation
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from s2s.checkpoint import BEST, load_checkpoint, save_checkpoint
from s2s.data import Feed, Pool, Simulation, Source
from s2s.evaluation.export import finite
from s2s.held_out import HeldOut
from s2s.images import Stated
from s2s.methods import make, method_class
from s2s.methods.base import Method, Training
from s2s.recordings import Recordings
from s2s.seeds import training_seed
from s2s.train import Plan, State, fit
from usim.errors import ConfigError, DataError, first_line
from usim.io.atomic import make_folder, no_room, write_atomic
from usim.phantom.load import Phantom, load_phantom, phantom_from_text
from usim.progress import human_time

LAST, METRICS = "last.pt", "metrics.jsonl"
#: Validations in a training, seconds between checkpoints beside them, seconds between lines that show life.
VALIDATIONS, SAVE_EVERY_S, LINE_EVERY_S = 12, 60.0, 10.0


@dataclass(frozen=True)
class Request:
    """What a training is asked to do; equal requests give equal weights (on one machine, with steps given).

    phantom: path or name of what is simulated.  data: files or folders to learn from instead; the phantom then only
    judges.  stated: domain, dynamic_range and white of the data, where known.  steps or minutes: when to end; the
    preset's steps when neither is given.  changes: fields of Training to replace.  reuse: how often a pixel is shown
    on average.  looks: independent draws per simulated scene.  held_out: frames that judge.
    """

    method: str = "speckle2self"
    preset: str = "default"
    settings: dict[str, Any] = field(default_factory=dict)
    phantom: str = "training"
    data: tuple[str, ...] = ()
    stated: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    reuse: float = 4.0
    looks: int = 2
    held_out: int = 4


class Run:
    """A training in its folder; `new` begins one, `resumed` goes on with one.

    phantom: what is simulated, or what judges.  workers: processes that make data.  device: of torch.
    say: gets the progress in words.
    Raises ConfigError for a request that can't be fulfilled.
    """

    def __init__(
        self, request: Request, phantom: Phantom, folder: Path, *, workers: int, device: str, say: Callable[[str], None]
    ) -> None:
        self.request, self.phantom, self.folder, self.workers, self.say = request, phantom, folder, workers, say
        kind = method_class(request.method)
        if not kind.needs:
            raise ConfigError(f"{request.method}: a filter has nothing to learn; use it with s2s denoise -m")
        training = training_of(kind, request)
        steps = request.steps if request.steps or request.minutes else training.steps
        self.plan = Plan(training, steps, request.minutes, request.seed)
        torch.manual_seed(request.seed)
        method = make(request.method, request.preset, **request.settings)
        self.pool = Pool(method, training, seed=request.seed, reuse=request.reuse)
        self.state = State.fresh(method, training, device)
        self.source = self._source()
        self.scene = 0
        self._losses: list[float] = []  # since the last validation
        self._shown_losses = 0

    @classmethod
    def new(cls, request: Request, folder: Path, **surroundings: Any) -> Run:
        """A training that begins; raises ConfigError for a folder that holds one already."""
        if (folder / LAST).exists() or (folder / BEST).exists():
            raise ConfigError(f"{folder}: holds a training; go on with it with --resume, or name another folder")
        return cls(request, load_phantom(request.phantom), folder, **surroundings)

    @classmethod
    def resumed(cls, folder: Path, **surroundings: Any) -> Run:
        """The training of a folder, as it was when last.pt was written; raises DataError when there is none."""
        stopped = load_checkpoint(folder / LAST)
        if stopped.resume is None:
            raise DataError(f"{folder / LAST}: holds no training to go on with; start a new one in another folder")
        with _fitting(folder / LAST):
            phantom = phantom_from_text(**stopped.about["phantom"])
            request = _request_from(stopped.about["request"])
        run = cls(request, phantom, folder, **surroundings)
        with _fitting(folder / LAST):
            run._restore(stopped.resume, stopped.method)
        return run

    def _restore(self, resume: dict[str, Any], average: Method) -> None:
        state = self.state
        state.method.load_state_dict(resume["weights"])
        state.average.load_state_dict(average.state_dict())
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(resume["optimizers"][name])
        state.step, state.elapsed, state.best = resume["step"], resume["elapsed"], resume["best"]
        self._losses = resume.get("losses", [])
        self.scene = self.pool.start_at(state.step, tuple(resume["scene_shape"]))

    def _source(self) -> Source:
        needs, request = self.state.method.needs, self.request
        if request.data:
            recordings = Recordings.of(request.data, needs, Stated(**request.stated), request.seed)
            if recordings.note:
                self.say(recordings.note)
            return recordings
        return Simulation(self.phantom, training_seed(request.seed), needs, request.looks, self.plan.training.gain)

    def train(self, check: Callable[[], None]) -> Path:
        """Train to the end and return the path of the best checkpoint; `check` raises when the user wants to stop."""
        make_folder(self.folder)
        with _alone(self.folder), Feed(self.source, start=self.scene, workers=self.workers) as feed:
            if (self.folder / LAST).exists():
                with _fitting(self.folder / METRICS):
                    _cut_metrics(self.folder / METRICS, self.state.step)
            self._train(feed, check)
        return self.folder / BEST

    def _train(self, feed: Feed, check: Callable[[], None]) -> None:
        self.feed = feed
        threads = torch.get_num_threads()
        self.held_out = HeldOut.simulate(self.phantom, self.request.seed, self.request.held_out)
        torch.set_num_threads(threads)  # numba's pool, when it starts, takes every core for torch as well
        self.noisy = self.held_out.scores(None)
        if self.held_out.alike:
            self.say(f"{self.phantom.source}: nothing in its scene varies; the scores tell nothing about other scenes")
        self.pool.batch(self.state.step, feed)  # what can't be cut is refused before anything is written
        feed.waited = 0.0
        if not self.state.step:
            self._save()
        self._began = (self.state.step, self.state.elapsed)
        self._shown = self._saved = time.perf_counter()
        next_validation = int(self.plan.progress(*self._began) * VALIDATIONS) + 1

        def listen(state: State, logs: dict[str, float]) -> None:
            nonlocal next_validation
            self._losses.append(logs["loss"])
            progress = self.plan.progress(state.step, state.elapsed)
            if progress * VALIDATIONS >= next_validation or progress >= 1.0:
                next_validation = int(progress * VALIDATIONS) + 1
                self._validate(progress)
            elif time.perf_counter() - self._shown > LINE_EVERY_S:
                self._show(progress, "")
            if time.perf_counter() - self._saved > SAVE_EVERY_S:
                self._save()
            try:
                check()
            except BaseException:
                self._save()
                raise

        fit(self.state, self.plan, self.pool, feed, listen)

    def _validate(self, progress: float) -> None:
        scores = self.held_out.scores(self.state.average)
        state = self.state
        line = {
            "step": state.step,
            "seconds": round(state.elapsed, 3),
            "loss": float(np.mean(self._losses)),
            "waiting": round(self._waiting(), 4),
            **scores,
            "noisy": self.noisy,
        }
        _append(self.folder / METRICS, json.dumps(finite(line), allow_nan=False) + "\n")
        if not state.best or scores["psnr"] > state.best["psnr"]:
            state.best = {"step": state.step, **scores}
            save_checkpoint(self.folder / BEST, state.average, {**self._about(), "scores": state.best})
        text = f"psnr {scores['psnr']:.2f} dB, {scores['psnr_fit']:.2f} after a tone fit"
        self._show(progress, f", {text} (noisy {self.noisy['psnr']:.2f}, {self.noisy['psnr_fit']:.2f})")
        self._losses, self._shown_losses = [], 0
        self._save()

    def _save(self) -> None:
        state = self.state
        resume = {
            "weights": state.method.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
            "step": state.step,
            "elapsed": state.elapsed,
            "best": state.best,
            "scene_shape": list(self.pool.scene_shape),
            "losses": self._losses,
        }
        save_checkpoint(self.folder / LAST, state.average, self._about(), resume)
        self._saved = time.perf_counter()

    def _about(self) -> dict[str, Any]:
        phantom = {"text": self.phantom.text, "source": self.phantom.source, "base": self.phantom.base}
        names = ("usim-s2s", "torch", "numpy", "numba")
        return {
            "request": dataclasses.asdict(self.request),
            "phantom": phantom,
            "step": self.state.step,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
        }

    def _waiting(self) -> float:
        """Share of this process's training time that was spent waiting for data."""
        spent = self.state.elapsed - self._began[1]
        return self.feed.waited / spent if spent else 0.0

    def _show(self, progress: float, scores: str) -> None:
        self._shown = time.perf_counter()
        spent = self.state.elapsed - self._began[1]
        rate = (self.state.step - self._began[0]) / spent
        done = self.plan.progress(*self._began)
        left = spent * (1.0 - progress) / max(progress - done, 1e-9)
        recent = np.mean(self._losses[self._shown_losses :])
        self._shown_losses = len(self._losses)
        self.say(
            f"step {self.state.step}, {progress:.0%}, loss {recent:.4g}{scores}, {rate:.2f} steps/s, "
            f"{self._waiting():.1%} waiting for data, {human_time(left)} left"
        )


def training_of(kind: type[Method], request: Request) -> Training:
    """The preset's training with the request's changes; raises ConfigError for values that make no sense."""
    if request.preset not in kind.TRAINING:
        raise ConfigError(
            f"{request.method}: preset {request.preset!r} is unknown; allowed are {', '.join(kind.TRAINING)}"
        )
    training = dataclasses.replace(kind.TRAINING[request.preset], **request.changes)
    limits = {"batch": (1, 4096), "crop": (0, 8192), "rate": (0.0, 1.0), "steps": (1, 10**9)}
    asked = {"seed": (0, 2**63 - 1), "reuse": (0.01, 1e6), "looks": (1, 1000), "held_out": (1, 10**6)}
    values = [(name, getattr(training, name), *limit) for name, limit in limits.items()]
    values += [(name, getattr(request, name), *limit) for name, limit in asked.items()]
    for name, value, low, high in values:
        if not low <= value <= high:
            raise ConfigError(f"{name}: {value:g} is not allowed; choose from {low:g} to {high:g}")
    if request.minutes is not None and not 0.0 < request.minutes < 1e6:
        raise ConfigError(f"minutes: {request.minutes:g} is not allowed; choose a positive number")
    return training


def _request_from(stored: dict[str, Any]) -> Request:
    return Request(**{key: tuple(value) if key == "data" else value for key, value in stored.items()})


@contextlib.contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Raise DataError when what a checkpoint tells of its training is not what this version writes."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = first_line(error)
        raise DataError(f"{path}: does not fit this version of s2s: {reason}; start a new training") from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder; the system lets go of it when this process ends, in whatever way."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(f"{folder}: another training is at work in it; name another folder") from error
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def _append(path: Path, text: str) -> None:
    try:
        with open(path, "a") as file:
            file.write(text)
    except OSError as error:
        raise no_room(path, error, len(text)) from error


def _cut_metrics(path: Path, step: int) -> None:
    """Forget validations that happened after the checkpoint from which a training goes on."""
    with contextlib.suppress(FileNotFoundError):
        lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        kept = "".join(line for line in lines if json.loads(line)["step"] <= step)
        write_atomic(path, kept.encode())
