"""The work of a benchmark in its folder: choose settings, train, judge; every step is kept, and an end goes on from it.

plan.json, state.json   see s2s.benchmark.state
trained/                a folder for each training (s2s.run)
judged/                 a file for each scene (s2s.benchmark.judging)
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s2s.benchmark.judging import Judging, Part, Ready, joined
from s2s.benchmark.state import Asked, open_folder, plan_of, write_plan
from s2s.benchmark.suite import SUITES, Contender, Preset, Suite
from s2s.denoise import Denoiser, load
from s2s.evaluation import files, tune
from s2s.evaluation.cases import Simulated, suites_of
from s2s.evaluation.controls import controls
from s2s.evaluation.results import Evaluation
from s2s.evaluation.run import Judgement, collect, processes, refuse_failures
from s2s.methods import make, method_class
from s2s.request import Request, training_of
from s2s.run import LAST, Ending, Run
from s2s.seeds import tuning_seed
from usim.errors import ConfigError, DataError, ResourceError, UsimError, first_line
from usim.io.folder import held
from usim.phantom.load import Phantom, load_phantom
from usim.workers import Event

#: Frames by which trainings show how far they are; no figure of theirs decides anything here.
_HELD_OUT = 2


class TimeIsUp(KeyboardInterrupt):
    """The minutes that were given are over; raised wherever an interrupt may be."""


@dataclass(frozen=True)
class Surroundings:
    """Where and how a benchmark works.

    workers: processes.  device: of torch.  precision: of trainings.  minutes: after which to stop.  say: gets the
    progress in words.  check: raises when the user wants to stop.  ending: a context in which a stop does not wait.
    command: what pages say of how they were made.
    """

    workers: int
    device: str
    precision: str
    say: Callable[[str], None]
    check: Callable[[], None]
    ending: Ending
    minutes: float | None = None
    command: str = ""


class Benchmark:
    """A benchmark in its folder.

    Raises ConfigError for what can't be asked or done, or a folder that holds something else; DataError for a folder
    that is damaged. Nothing is written before `run`.
    """

    def __init__(self, asked: Asked, folder: Path, around: Surroundings, *, resume: bool) -> None:
        if asked.suite not in SUITES:
            raise ConfigError(f"--suite: {asked.suite!r} is unknown; allowed are {', '.join(SUITES)}")
        self.asked, self.folder, self.around = asked, folder, around
        self.suite: Suite = SUITES[asked.suite]
        self.preset: Preset = self.suite.preset(asked.preset)
        self.phantom = asked.phantom or self.suite.phantom
        self.contenders = self.suite.chosen(asked.labels)
        self.able = [one for one in self.contenders if not one.lacking]
        if not self.able:
            raise ConfigError("; ".join(f"--method: {one.label}: {one.lacking}" for one in self.contenders))
        phantoms = self._phantoms()
        for one in self.able:
            self._refuse(one)
        self.plan = plan_of(asked, self.preset, self.contenders, phantoms, around.precision)
        self.done = open_folder(folder, self.plan, resume=resume)
        self._began = time.monotonic()

    def _phantoms(self) -> dict[str, Phantom]:
        """All that is learned from and judged on."""
        learned = [self.phantom, *(one.phantom for one in self.able if one.phantom)]
        judged = [suite.phantom for suite in (*self.suite.images, *self.suite.battery)]
        return {name: load_phantom(name) for name in (*learned, *judged)}

    def _refuse(self, one: Contender) -> None:
        """Raise ConfigError for what can't be trained or fitted as it is asked."""
        if one.way == "trained":
            request = self._request(one)
            training_of(method_class(one.method), request)
            make(one.method, request.preset, **request.settings)
        elif one.way != "tuned":
            load(self._spec(one))

    def outlook(self) -> str:
        """What an interrupt leaves, and how the benchmark goes on."""
        if not self.folder.exists():
            return "nothing was begun; the same command begins again"
        return f"{self.progress()}; go on with the same command and --resume"

    def progress(self) -> str:
        """How far the work is, in words."""
        ways = {way: sum(one.way == way for one in self.able) for way in ("tuned", "trained")}
        kinds = self.judgings(self.ready())
        items = sum(len(kind.part.items) for kind in kinds)
        judged = items - sum(len(kind.pending()) for kind in kinds)
        return (
            f"{len(self.done.settings)} of {ways['tuned']} filters are tuned, {len(self.done.trained)} of "
            f"{ways['trained']} trainings done, {judged} of {items} scenes judged"
        )

    def run(self) -> Evaluation:
        """Do what is left to do, and return every score.

        Raises ResourceError when the minutes are over, or a process was ended from outside; all that was done is kept.
        """
        around = self.around
        for one in self.contenders:
            if one.lacking:
                around.say(f"{one.label} is left out: {one.lacking}")
        if self.preset.took:
            least = "" if around.minutes is None else f"; after {around.minutes:g} minutes it stops, and can go on"
            around.say(f"preset {self.asked.preset}: {self.preset.took}{least}")
        with held(self.folder):
            write_plan(self.folder, self.plan)
            try:
                with self._counted():
                    self.done.failed = {}
                    self._tune()
                    self._train()
                    denoisers = self.ready()
                    for kind in self.judgings(denoisers):
                        self._check()
                        kind.work(self._judges(), around.device, around.say, self._check)
            except TimeIsUp as error:
                raise ResourceError(
                    f"{around.minutes:g} minutes are over: {self.progress()}; the same command with --resume goes on"
                ) from error
            return self.evaluation(denoisers)

    def _judges(self) -> int:
        return min(self.around.workers, processes(self.around.device))

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._began = self._counted_at = time.monotonic()
        try:
            yield
        finally:
            self._save()

    def _save(self) -> None:
        now = time.monotonic()
        self.done.seconds, self._counted_at = self.done.seconds + now - self._counted_at, now
        self.done.write(self.folder)

    def _check(self) -> None:
        self.around.check()
        minutes = self.around.minutes
        if minutes is not None and time.monotonic() - self._began > 60.0 * minutes:
            raise TimeIsUp

    def _leave_out(self, label: str, error: Exception) -> None:
        why = str(error) if isinstance(error, UsimError) else f"{type(error).__name__}: {first_line(error)}"
        self.done.failed[label] = why
        self.around.say(f"{label} is left out: {why}")

    # Settings.

    def _tune(self) -> None:
        wanted = [one.label for one in self.able if one.way == "tuned" and one.label not in self.done.settings]
        if not wanted:
            return
        self.around.say(f"tuning {', '.join(wanted)} on {self.preset.tuning} scenes of {self.phantom}")
        try:
            self._tune_all(wanted)
        except UsimError:
            raise
        except Exception:  # whose it was is not known: one after the other tells it, and the others are done
            for label in [label for label in wanted if label not in self.done.settings]:
                try:
                    self._tune_all([label])
                except UsimError:
                    raise
                except Exception as error:
                    self._leave_out(label, error)

    def _tune_all(self, labels: list[str]) -> None:
        source = Simulated(suites_of(self.phantom), self.preset.tuning, self.asked.seed, "", tuning_seed)

        def hear(event: Event) -> None:
            if event.kind == "done":
                self.done.settings[event.value.method] = event.value.spec
                self._save()
                self.around.say(f"tuned: {event.value.spec}")
            self._check()

        tune.tune(labels, tune.FromSimulation(source), workers=self.around.workers, listen=hear, by=("truth",))

    # Trainings.

    def _train(self) -> None:
        for label in [one.label for one in self.able if one.label in self.done.trained]:
            self._look_at(label)
        wanted = [
            one
            for one in self.able
            if one.way == "trained" and one.label not in {**self.done.trained, **self.done.failed}
        ]
        for number, one in enumerate(wanted, start=1):
            self._check()
            self.around.say(f"training {one.label}, {number} of {len(wanted)}")
            try:
                self._train_one(one)
            except ResourceError:
                raise
            except Exception as error:  # whatever a method does wrong, the others' trainings must not be lost
                self._leave_out(one.label, error)
            self._save()

    def _look_at(self, label: str) -> None:
        """Find out whether weights that were trained before are still there."""
        path = self._weights(next(one for one in self.able if one.label == label))
        try:
            load(path)
        except UsimError as error:
            del self.done.trained[label]
            if path.exists():
                cure = f"remove {path.parent}, and --resume trains it again"
                self._leave_out(label, DataError(f"{error}; {cure}"))

    def _weights(self, one: Contender) -> Path:
        # Of the last step: best.pt is chosen by the truth, which most of these methods must not know.
        return self.folder / "trained" / one.folder / LAST

    def _request(self, one: Contender) -> Request:
        return Request(
            method=one.method,
            preset=one.preset or self.preset.method,
            settings=dict(one.settings),
            phantom=one.phantom or self.phantom,
            steps=self.preset.steps,
            changes={"precision": self.around.precision, **one.changes(self.preset.crops)},
            seed=self.asked.seed,
            held_out=_HELD_OUT,
        )

    def _train_one(self, one: Contender) -> None:
        around, weights = self.around, self._weights(one)
        surroundings = {"workers": max(around.workers - 1, 1), "device": around.device, "say": _silent}
        if weights.exists():
            run = Run.resumed(weights.parent, **surroundings)
        else:
            run = Run.new(self._request(one), weights.parent, **surroundings)
        run.train(self._check, around.ending)
        state = run.state
        self.done.trained[one.label] = {"steps": state.step, "seconds": round(state.elapsed, 1)}
        around.say(f"trained: {one.label}, {state.step} steps in {state.elapsed:.0f} s")

    # Judging.

    def ready(self) -> dict[str, Denoiser]:
        """All contenders that are ready, by label; weights that can't be read are not, see `_look_at`."""
        found = {}
        for one in self.able:
            tuned = one.way == "tuned" and one.label in self.done.settings
            trained = one.way == "trained" and one.label in self.done.trained
            if tuned or trained or one.way in ("published", "fitted"):
                with contextlib.suppress(UsimError):
                    found[one.label] = load(self._spec(one))
        return found

    def _spec(self, one: Contender) -> str:
        """What `s2s.load` takes."""
        if one.way == "tuned":
            return self.done.settings[one.label]
        if one.way == "trained":
            return str(self._weights(one))
        settings = dict(self.preset.fit[one.bare_method]) if one.way == "fitted" else {}
        return tune.spec_of(one.method, settings) if settings else one.method

    def judgings(self, denoisers: Mapping[str, Denoiser]) -> list[Judging]:
        """All contenders on the paper's sets and on the battery, and slow ones on the first scenes of the sets.

        denoisers: those that are ready, by label.
        """
        preset, seed = self.preset, self.asked.seed
        slow = {one.label for one in self.able if one.is_slow}
        specs = {one.label: self._spec(one) for one in self.able if one.label in denoisers}
        ready = {label: Ready(spec, denoisers[label].checkpoint or spec) for label, spec in specs.items()}
        most = {label: one for label, one in ready.items() if label not in slow}
        images = Simulated(self.suite.images, preset.images, seed)
        battery = Simulated(self.suite.battery, preset.battery, seed)
        few = [item for item in images.items if item[1] < preset.few]
        folder = self.folder / "judged"
        kinds = [
            Judging(Part(images, images.items), most, folder / "images", True, preset.sweep),
            Judging(Part(battery, battery.items), most, folder / "battery", True, preset.sweep),
        ]
        rest = {label: one for label, one in ready.items() if label in slow}
        few_of_them = Judging(Part(images, few, bare=True), rest, folder / "few", False, False)
        return [*kinds, few_of_them] if slow else kinds

    def evaluation(self, denoisers: Mapping[str, Denoiser]) -> Evaluation:
        """Every score of every scene, from the files; denoisers: those that are ready, by label."""
        found: dict[tuple[str, int], Judgement] = {}
        for kind in self.judgings(denoisers):
            for item in kind.part.items if kind.ready or kind.controls else ():
                judged = kind.read(item)
                found[item] = joined(found[item], judged) if item in found else judged
        order = [one.label for one in self.contenders if one.label in denoisers]
        about = files.origin(self._words(), {label: denoisers[label] for label in order}, self.around.command)
        result = collect((*order, *controls()), found.values(), about)
        costs = {
            label: replace(result.costs[label], parameters=one.method.parameter_count())
            for label, one in denoisers.items()
        }
        return replace(result, costs={**result.costs, **costs})

    def refuse_failures(self, result: Evaluation) -> None:
        """Raise DataError that names every contender that could not be trained or failed in a scene."""
        told = [f"{label}: {why}" for label, why in self.done.failed.items()]
        try:
            refuse_failures(result)
        except DataError as error:
            told.append(str(error))
        if told:
            raise DataError("\n".join(told))

    def _words(self) -> str:
        preset = self.preset
        return (
            f"{preset.images} scenes of each of the paper's sets ({preset.few} for methods that take long), "
            f"{preset.battery} of each suite of the evaluation, seed {self.asked.seed}"
        )


def command_of(asked: Asked, folder: Path) -> str:
    """The command that makes the benchmark."""
    words = ["s2s", "benchmark", "--suite", asked.suite, "--preset", asked.preset, "-o", str(folder)]
    words += [word for label in asked.labels for word in ("-m", label)]
    words += ["--sim", asked.phantom] if asked.phantom else []
    words += ["--seed", str(asked.seed)] if asked.seed else []
    return shlex.join(words)


def _silent(text: Any) -> None:
    """Say nothing: a benchmark has lines of its own."""
