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
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from s2s.adapt import Unseen, begin, split
from s2s.board import Board
from s2s.checkpoint import BEST, load_checkpoint, save_checkpoint
from s2s.course import Course
from s2s.data import AnyFeed, Simulation, Source, feed_of, refuse_bands
from s2s.evaluation.cost import machine
from s2s.evaluation.export import finite
from s2s.held_out import HeldOut
from s2s.images import Stated
from s2s.methods import make, method_class
from s2s.methods.base import Method
from s2s.pool import Pool
from s2s.ranks import ALONE, Ranks
from s2s.recordings import Recordings
from s2s.request import VALIDATIONS, VALIDATIONS_WATCHED, Request, request_from_plain, training_of
from s2s.seeds import training_seed
from s2s.train import Plan, State, fit
from usim.errors import ConfigError, DataError, first_line
from usim.interrupts import TERMINATED
from usim.io.atomic import make_folder, no_room, write_atomic
from usim.phantom.load import Phantom, load_phantom, phantom_from_text
from usim.progress import human_time

#: A context that ends the process soon after a signal, and calls what it is given before.
Ending = Callable[[Callable[[], None]], contextlib.AbstractContextManager[None]]
LAST, METRICS = "last.pt", "metrics.jsonl"
#: Seconds between checkpoints beside those of validations, and between lines that show life.
SAVE_EVERY_S, LINE_EVERY_S = 60.0, 10.0


def _until_it_ends(last: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


class Run:
    """A training in its folder; `new` begins one, `resumed` goes on with one.

    phantom: what is simulated, or what judges.  judges: what judges instead, if any.  workers: processes that make
    data.  device: of torch.  say: gets the progress in words.  ranks: processes that train together.  tensorboard:
    write what TensorBoard shows.
    Raises ConfigError for a request that can't be fulfilled.
    """

    def __init__(
        self,
        request: Request,
        phantom: Phantom,
        judges: tuple[Phantom, ...],
        folder: Path,
        *,
        workers: int,
        device: str,
        say: Callable[[str], None],
        ranks: Ranks = ALONE,
        tensorboard: bool = False,
    ) -> None:
        self.request, self.phantom, self.folder, self.workers = request, phantom, folder, workers
        self.device = device
        self.judges, self.ranks, self.say = judges, ranks, say if ranks.leads else _nothing
        kind = method_class(request.method)
        if not kind.needs:
            raise ConfigError(f"{request.method}: a filter has nothing to learn; use it with s2s denoise -m")
        if kind.holds_image:
            raise ConfigError(
                f"{request.method}: its weights hold one image, so that none can be trained before; it is fitted to "
                f"each when it is cleaned: s2s denoise -m {request.method}"
            )
        training = training_of(kind, request)
        steps = request.steps if request.steps or request.minutes else training.steps
        self.plan = Plan(training, steps, request.minutes, request.seed, hold=request.patience > 0)
        torch.manual_seed(request.seed)
        method = make(request.method, request.preset, **request.settings)
        self.pool = Pool(method, training, seed=request.seed, reuse=request.reuse, ranks=ranks)
        self.state = State.fresh(method, training, device)
        self.state.method.keeps_statistics = bool(request.adapt)
        self.source = self._source()
        for judge in self._judged_on().values():
            refuse_bands(judge, method.bands, "name one that has them with --judge; training-angles has two")
        self.course = Course(wary=bool(request.adapt))
        self.adapted = ""  # sha256 of the weights that are adapted
        self.scene = 0
        self.tensorboard, self.board = tensorboard, cast("Board | None", None)
        self._saving, self._saved_step, self._next = threading.RLock(), 0, 0 if request.adapt else 1
        self._losses: list[float] = []  # since the last validation
        self._shown_losses = 0
        if isinstance(self.source, Recordings) and self.source.note:
            self.say(self.source.note)

    @classmethod
    def new(cls, request: Request, folder: Path, **surroundings: Any) -> Run:
        """A training that begins; raises ConfigError for a folder that holds one already."""
        if (folder / LAST).exists() or (folder / BEST).exists():
            raise ConfigError(f"{folder}: holds a training; go on with it with --resume, or name another folder")
        judges = tuple(load_phantom(name) for name in request.judge)
        run = cls(request, load_phantom(request.phantom), judges, folder, **surroundings)
        if request.adapt:
            run.adapted = begin(run.state.method, run.state.average, request.adapt)
        return run

    @classmethod
    def resumed(cls, folder: Path, **surroundings: Any) -> Run:
        """The training of a folder, as it was when last.pt was written; raises DataError when there is none."""
        if not (folder / LAST).exists():
            raise DataError(
                f"{folder}: holds no training to go on with; leave out --resume to begin one, or name the folder of one"
            )
        stopped = load_checkpoint(folder / LAST)
        if stopped.resume is None:
            raise DataError(f"{folder / LAST}: holds no training to go on with; start a new one in another folder")
        with _fitting(folder / LAST):
            phantom = phantom_from_text(**stopped.about["phantom"])
            judges = tuple(phantom_from_text(**one) for one in stopped.about.get("judges", ()))
            request = request_from_plain(stopped.about["request"])
        run = cls(request, phantom, judges, folder, **surroundings)
        with _fitting(folder / LAST):
            run._restore(stopped.resume, stopped.method)
            run.adapted = stopped.about.get("adapted", "")
        return run

    def _restore(self, resume: dict[str, Any], average: Method) -> None:
        state = self.state
        state.method.load_state_dict(resume["weights"])
        state.average.load_state_dict(average.state_dict())
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(resume["optimizers"][name])
        state.step, state.elapsed, self.plan.end = resume["step"], resume["elapsed"], resume.get("end", 1.0)
        # Trainings that 0.1.0 began have no course, which then begins here.
        self.course, self._losses = Course(**resume.get("course", {})), resume.get("losses", [])
        self.scene = self.pool.start_at(state.step, tuple(resume["scene_shape"]))
        self._saved_step = state.step
        self._next = resume.get("next", self._number_of(self.plan.progress(state.step, state.elapsed)) + 1)

    def outlook(self) -> str:
        """What an interrupt leaves, and how the training goes on."""
        if (self.folder / LAST).exists():
            return f"go on with s2s train --resume -o {shlex.quote(str(self.folder))}"
        return "no step was made yet; the same command begins again"

    def _judge(self) -> HeldOut | Unseen:
        if self.request.adapt:
            return Unseen.of(self.unseen, self.request.seed)
        return HeldOut.simulate(self._judged_on(), self.request.seed, self.request.held_out, self.state.method.bands)

    def _judged_on(self) -> dict[str, Phantom]:
        """The phantoms of held-out scenes by name; none where images in files judge."""
        if self.request.adapt:
            return {}
        names = self.request.judge or (self.request.phantom,)
        return dict(zip(names, self.judges or (self.phantom,), strict=True))

    def _source(self) -> Source:
        method, request = self.state.method, self.request
        needs, looks = method.needs, request.looks or method.looks
        if request.data:
            recordings = Recordings.of(request.data, needs, Stated(**request.stated), request.seed)
            if request.adapt:
                recordings, self.unseen = split(recordings)
            return recordings
        training = self.plan.training
        simulated = Simulation(self.phantom, training_seed(request.seed), needs, looks, training.gain, training.screens)
        simulated.refuse_single_images()
        if request.simulate_on == "device":
            simulated.refuse_device()
        return simulated

    def train(self, check: Callable[[], None], ending: Ending = _until_it_ends) -> Path:
        """Train to the end and return the path of the best checkpoint.

        check: raises when the user wants to stop.  ending: a context in which a stop does not wait for long steps.
        """
        make_folder(self.folder)
        self.ranks.any(False)  # all have seen the folder as it was
        device = self.device if self.request.simulate_on == "device" else None
        feed = feed_of(self.source, device, start=self.scene, workers=self.workers, ranks=self.ranks)
        with contextlib.ExitStack() as stack:
            stack.enter_context(ending(self._last_words))
            stack.enter_context(feed)
            if self.ranks.leads:
                stack.enter_context(_alone(self.folder))
                if (self.folder / LAST).exists():
                    with _fitting(self.folder / METRICS):
                        _cut_metrics(self.folder / METRICS, self.state.step)
                if self.tensorboard:
                    self.board = Board(self.folder, self.state.step)
                    stack.callback(self.board.close)
            self._train(feed, check)
        return self.folder / BEST

    def _train(self, feed: AnyFeed, check: Callable[[], None]) -> None:
        self.feed = feed
        if self.ranks.leads:
            self._simulate_held_out()
        self.pool.batch(self.state.step, feed)  # what can't be cut is refused before anything is written
        feed.waited = 0.0
        self._began = (self.state.step, self.state.elapsed)
        self._shown = self._saved = time.perf_counter()
        if self.ranks.leads and not self.state.step:
            self._save()

        def listen(state: State, logs: dict[str, float]) -> None:
            if self.ranks.leads:
                self._losses.append(logs["loss"])
                self._look_after(self.plan.progress(state.step, state.elapsed))
            self._stop_together(check)

        try:
            if self.ranks.leads:  # a validation was interrupted, or what is adapted is to be judged first
                self._look_after(self.plan.progress(*self._began))
            fit(self.state, self.plan, self.pool, feed, listen, ranks=self.ranks)
            if self.request.adapt and self.ranks.leads and self.course.best == 0:
                self.say(
                    f"{BEST} holds the weights of the start: adapted ones did not foretell significantly better; "
                    f"those of the last step are in {LAST}"
                )
        except (KeyboardInterrupt, SystemExit):
            self._last_words()
            raise

    def _simulate_held_out(self) -> None:
        threads = torch.get_num_threads()
        self.held_out = self._judge()
        torch.set_num_threads(threads)  # numba's pool, when it starts, takes every core for torch as well
        self.noisy = self.held_out.scores(None)
        for name in self.held_out.alike:
            self.say(f"{name}: nothing in its scene varies; the scores tell nothing about other scenes")

    def _look_after(self, progress: float) -> None:
        """After a step: validate, say that there is life, save, each when it is time."""
        if self._number_of(progress) >= self._next:
            self._validate(progress)
        elif time.perf_counter() - self._shown > LINE_EVERY_S and len(self._losses) > self._shown_losses:
            self._show(progress, "")
        if time.perf_counter() - self._saved > SAVE_EVERY_S:
            self._save()

    def _stop_together(self, check: Callable[[], None]) -> None:
        """Let `check` raise; when it does in one rank, all end after the same step."""
        stop: BaseException | None = None
        try:
            check()
        except (KeyboardInterrupt, SystemExit) as error:
            stop = error
        if self.ranks.any(stop is not None):
            raise stop or SystemExit(TERMINATED)

    def _last_words(self) -> None:
        """Write last.pt as of the last whole step, when a training is interrupted wherever it is.

        A step that has begun to change weights can't be taken back; then the last.pt of up to a minute ago stays.
        """
        with self._saving:
            if self.ranks.leads and self.state.step != self._saved_step and self.state.rewind():
                self._save()

    def _number_of(self, progress: float) -> int:
        """How many validations belong to this share of a training."""
        return int(progress * (VALIDATIONS_WATCHED if self.request.patience else VALIDATIONS))

    def _validate(self, progress: float) -> None:
        state, loss = self.state, float(np.mean(self._losses or [np.nan]))
        scores = self.held_out.scores(state.average)
        pictures = self.held_out.pictures(state.average) if self.board and isinstance(self.held_out, HeldOut) else {}
        state.torn = True  # an interrupted validation is made again
        best = self.course.add(state.step, loss, scores.chosen())
        line = {
            "step": state.step,
            "seconds": round(state.elapsed, 3),
            "loss": loss,
            "waiting": round(self._waiting(), 4),
            **scores.plain(),
            "noisy": self.noisy.plain(),
        }
        warning = self.course.warning() if self.held_out.knows_truth else ""
        if warning:
            line["warning"] = warning
        _append(self.folder / METRICS, json.dumps(finite(line), allow_nan=False) + "\n")
        if self.board:
            self.board.add(finite(line), pictures)
        if best:
            about = {**self._about(), "scores": {"step": state.step, **scores.plain()}}
            save_checkpoint(self.folder / BEST, state.average, about)
        words = self.held_out.words(scores, self.noisy)
        if state.step:
            self._show(progress, f", {words}")
        else:
            self.say(f"before the first step: {words}")
        if warning:
            self.say(f"warning: {warning}")
        self._end_when_converged(progress)
        self._losses, self._shown_losses = [], 0
        self._next = self._number_of(self.plan.progress(state.step, state.elapsed)) + 1  # the end may be nearer now
        state.torn = False
        self._save()

    def _end_when_converged(self, progress: float) -> None:
        patience, plan, state = self.request.patience, self.plan, self.state
        if not patience or plan.is_ending(progress) or not self.course.stands_still(patience):
            return
        plan.bring_forward(state.step, state.elapsed)
        left = plan.progress(state.step, state.elapsed)
        self.say(
            f"step {state.step}: none of the last {patience} validations gained more than its standard error; the "
            f"learning rate now falls to zero, {1.0 - left:.0%} of the training is left"
        )

    def _save(self) -> None:
        state = self.state
        resume = {
            "weights": state.method.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in state.optimizers.items()},
            "step": state.step,
            "elapsed": state.elapsed,
            "end": self.plan.end,
            "course": self.course.plain(),
            "scene_shape": list(self.pool.scene_shape),
            "losses": self._losses,
            "next": self._next,
        }
        with self._saving:
            save_checkpoint(self.folder / LAST, state.average, self._about(), resume)
            self._saved, self._saved_step = time.perf_counter(), state.step

    def _about(self) -> dict[str, Any]:
        names = ("usim-s2s", "torch", "numpy", "numba")
        return {
            "request": dataclasses.asdict(self.request),
            "phantom": _as_text(self.phantom),
            "judges": [_as_text(judge) for judge in self.judges],
            "step": self.state.step,
            "adapted": self.adapted,
            "seconds": round(self.state.elapsed, 1),
            "machine": machine(str(next(self.state.method.parameters()).device), torch.get_num_threads()),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
        }

    def _waiting(self) -> float:
        """Share of this process's training time that was spent waiting for data."""
        spent = self.state.elapsed - self._began[1]
        return self.feed.waited / spent if spent else 0.0

    def _show(self, progress: float, scores: str) -> None:
        self._shown = time.perf_counter()
        spent = self.state.elapsed - self._began[1]
        rate = (self.state.step - self._began[0]) / max(spent, 1e-9)
        done = self.plan.progress(*self._began)
        left = spent * (1.0 - progress) / max(progress - done, 1e-9)
        recent = np.mean(self._losses[self._shown_losses :])
        self._shown_losses = len(self._losses)
        self.say(
            f"step {self.state.step}, {progress:.0%}, loss {recent:.4g}{scores}, {rate:.2f} steps/s, "
            f"{self._waiting():.1%} waiting for data, {human_time(left)} left"
        )


def _as_text(phantom: Phantom) -> dict[str, str]:
    return {"text": phantom.text, "source": phantom.source, "base": phantom.base}


def _nothing(text: str) -> None:
    """Say nothing."""


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
