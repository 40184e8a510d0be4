"""The work of a benchmark in its folder: choose settings, train, judge; every step is kept, and an end goes on from it.

plan.json      what was asked
state.json     what is done: settings that were chosen, trainings that ended, seconds
trained/       a folder for each training (s2s.run)
judged/        a file for each scene (s2s.benchmark.store)
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from s2s.benchmark import store
from s2s.benchmark.suite import SUITES, Contender, Preset, Suite
from s2s.denoise import load
from s2s.evaluation import files, tune
from s2s.evaluation.cases import Case, Simulated, Source, suites_of
from s2s.evaluation.controls import controls
from s2s.evaluation.results import Evaluation, Picture
from s2s.evaluation.run import Job, Judgement, collect, gather, processes, refuse_failures
from s2s.metrics.judged import IMAGE
from s2s.request import Request
from s2s.run import LAST, Ending, Run
from s2s.seeds import tuning_seed
from usim.errors import ConfigError, DataError, ResourceError
from usim.io.folder import held
from usim.workers import Event

PLAN, STATE = "plan.json", "state.json"
#: Frames by which trainings show how far they are; no figure of theirs decides anything here.
_HELD_OUT = 2


class TimeIsUp(KeyboardInterrupt):
    """The minutes that were given are over; raised wherever an interrupt may be."""


@dataclass(frozen=True)
class Asked:
    """What a benchmark is asked to do; equal ones give equal scores on one machine, but for times.

    suite, preset: names.  labels: of the contenders, all for none.  phantom: what methods learn from; the suite's own
    when empty.  seed: of trainings and of the scenes that are judged, which never meet.
    """

    suite: str = "paper"
    preset: str = "smoke"
    labels: tuple[str, ...] = ()
    phantom: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Surroundings:
    """Where and how a benchmark works: nothing of it changes a score.

    workers: processes.  device: of torch.  precision: of trainings.  minutes: after which to stop.  say: gets the
    progress in words.  check: raises when the user wants to stop.  ending: a context in which a stop does not wait.
    """

    workers: int
    device: str
    precision: str
    say: Callable[[str], None]
    check: Callable[[], None]
    ending: Ending
    minutes: float | None = None
    command: str = ""


@dataclass(frozen=True)
class Part:
    """Some scenes of a source (s2s.evaluation.cases.Source); bare: the judged image alone, without further ones."""

    source: Source
    items: Sequence[tuple[str, int]]
    bare: bool = False

    def open(self) -> Callable[[tuple[str, int]], Case]:
        """Return the function that makes a scene."""
        make = self.source.open()
        if not self.bare:
            return make

        def case(item: tuple[str, int]) -> Case:
            whole = make(item)
            return replace(whole, frames={IMAGE: whole.frames[IMAGE]}, changed=False, swept=False)

        return case


@dataclass
class Done:
    """What is done, as state.json holds it.

    settings: chosen, by contender.  trained: steps, seconds and parameters.  failed: why a contender is left out.
    seconds: that the work took so far.
    """

    settings: dict[str, str] = field(default_factory=dict)
    trained: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Benchmark:
    """A benchmark in its folder. Raises ConfigError for what can't be asked, or a folder that holds something else."""

    def __init__(self, asked: Asked, folder: Path, around: Surroundings, *, resume: bool) -> None:
        if asked.suite not in SUITES:
            raise ConfigError(f"--suite: {asked.suite!r} is unknown; allowed are {', '.join(SUITES)}")
        self.asked, self.folder, self.around = asked, folder, around
        self.suite: Suite = SUITES[asked.suite]
        self.preset: Preset = self.suite.preset(asked.preset)
        self.phantom = asked.phantom or self.suite.phantom
        self.contenders = self.suite.chosen(asked.labels)
        self.done = self._opened(resume)
        self._began = time.monotonic()

    def _opened(self, resume: bool) -> Done:
        plan = self.folder / PLAN
        if not plan.exists():
            if resume:
                raise DataError(f"{self.folder}: holds no benchmark to go on with; leave out --resume to begin one")
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise ConfigError(f"{self.folder}: holds something else; name a folder that is empty or not there yet")
            return Done()
        if not resume:
            raise ConfigError(f"{self.folder}: holds a benchmark; go on with it with --resume, or name another folder")
        stored = _read(plan)
        if stored != self._plan():
            other = [key for key, value in self._plan().items() if stored.get(key) != value]
            told = ", ".join(f"{key} {stored.get(key)}" for key in other)
            raise ConfigError(f"{self.folder}: was begun with {told}; ask the same, or name another folder")
        state = self.folder / STATE
        try:
            return Done(**_read(state)) if state.exists() else Done()
        except TypeError as error:
            raise DataError(f"{state}: is of another version ({error}); begin in another folder") from error

    def _plan(self) -> dict[str, Any]:
        about = files.surroundings()["versions"]
        versions = {name: about[name] for name in ("s2s", "usim")}
        return {**asdict(self.asked), "labels": [one.label for one in self.contenders], "versions": versions}

    def outlook(self) -> str:
        """What an interrupt leaves, and how the benchmark goes on."""
        if not (self.folder / PLAN).exists():
            return "nothing was begun; the same command begins again"
        return f"{self.progress()}; go on with the same command and --resume"

    def progress(self) -> str:
        """How far the work is, in words."""
        ways = {way: sum(one.way == way for one in self.able) for way in ("tuned", "trained")}
        judged = sum(store.is_there(self._path(kind, item)) for kind, item in self._judged_items())
        return (
            f"{len(self.done.settings)} of {ways['tuned']} filters are tuned, {len(self.done.trained)} of "
            f"{ways['trained']} trainings done, {judged} of {len(self._judged_items())} scenes judged"
        )

    @property
    def able(self) -> list[Contender]:
        """The contenders that nothing is lacking for."""
        return [one for one in self.contenders if not one.lacking]

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
            if not (self.folder / PLAN).exists():
                files.write_text(self.folder / PLAN, json.dumps(self._plan(), indent=1) + "\n")
            try:
                with self._counted():
                    self._tune()
                    self._train()
                    self._judge()
            except TimeIsUp as error:
                raise ResourceError(
                    f"{around.minutes:g} minutes are over: {self.progress()}; the same command with --resume goes on"
                ) from error
            return self.evaluation()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._began, before = time.monotonic(), self.done.seconds
        try:
            yield
        finally:
            self.done.seconds = before + time.monotonic() - self._began
            self._save()

    def _save(self) -> None:
        files.write_text(self.folder / STATE, json.dumps(asdict(self.done), indent=1) + "\n")

    def _check(self) -> None:
        self.around.check()
        minutes = self.around.minutes
        if minutes is not None and time.monotonic() - self._began > 60.0 * minutes:
            raise TimeIsUp

    # Settings.

    def _tune(self) -> None:
        wanted = [one.label for one in self.able if one.way == "tuned" and one.label not in self.done.settings]
        if not wanted:
            return
        self.around.say(f"tuning {', '.join(wanted)} on {self.preset.tuning} scenes of {self.phantom}")
        scenes = tune.FromSimulation(
            Simulated(suites_of(self.phantom), self.preset.tuning, self.asked.seed, "", tuning_seed)
        )

        def hear(event: Event) -> None:
            if event.kind == "done":
                self.done.settings[event.value.method] = event.value.spec
                self._save()
                self.around.say(f"tuned: {event.value.spec}")
            self._check()

        tune.tune(wanted, scenes, workers=self.around.workers, listen=hear, by=("truth",))

    # Trainings.

    def _train(self) -> None:
        wanted = [one for one in self.able if one.way == "trained" and one.label not in self.done.trained]
        self.done.failed = {}
        for number, one in enumerate(wanted, start=1):
            self._check()
            self.around.say(f"training {one.label}, {number} of {len(wanted)}")
            try:
                self._train_one(one)
            except (ConfigError, DataError) as error:
                self.done.failed[one.label] = str(error)
                self.around.say(f"{one.label} is left out: {error}")
            self._save()

    def _train_one(self, one: Contender) -> None:
        folder, around = self.folder / "trained" / one.folder, self.around
        surroundings = {"workers": max(around.workers - 1, 1), "device": around.device, "say": _silent}
        if (folder / LAST).exists():
            run = Run.resumed(folder, **surroundings)
        else:
            request = Request(
                method=one.method,
                preset=one.preset or self.preset.method,
                settings=dict(one.settings),
                phantom=one.phantom or self.phantom,
                steps=self.preset.steps,
                changes={"precision": around.precision, **one.changes(self.preset.crops)},
                seed=self.asked.seed,
                held_out=_HELD_OUT,
            )
            run = Run.new(request, folder, **surroundings)
        run.train(self._check, around.ending)
        state = run.state
        self.done.trained[one.label] = {"steps": state.step, "seconds": round(state.elapsed, 1)}
        around.say(f"trained: {one.label}, {state.step} steps in {state.elapsed:.0f} s")

    # Judging.

    def specs(self) -> dict[str, str]:
        """What `s2s.load` takes, by label, of all contenders that are ready and see every scene."""
        return {one.label: spec for one, spec in self._ready() if not one.is_slow}

    def slow_specs(self) -> dict[str, str]:
        """The same of those that take long, and see the first scenes of the paper's sets alone."""
        return {one.label: spec for one, spec in self._ready() if one.is_slow}

    def _ready(self) -> Iterator[tuple[Contender, str]]:
        for one in self.able:
            if one.way == "tuned" and one.label in self.done.settings:
                yield one, self.done.settings[one.label]
            elif one.way == "trained" and one.label in self.done.trained:
                # Weights of the last step: best.pt is chosen by the truth, which most of these methods must not know.
                yield one, str(self.folder / "trained" / one.folder / LAST)
            elif one.way == "published":
                yield one, one.method
            elif one.way == "fitted":
                settings = dict(self.preset.fit[one.method.rpartition(":")[2]])
                yield one, tune.spec_of(one.method, settings) if settings else one.method

    def _sources(self) -> dict[str, Part]:
        """Scenes by the kind of judging: all contenders on the paper's sets and on the battery, and slow ones."""
        preset, seed = self.preset, self.asked.seed
        images = Simulated(self.suite.images, preset.images, seed)
        battery = Simulated(self.suite.battery, preset.battery, seed)
        few = [item for item in images.items if item[1] < preset.few]
        parts = {"images": Part(images, images.items), "battery": Part(battery, battery.items)}
        return parts | ({"few": Part(images, few, bare=True)} if any(one.is_slow for one in self.able) else {})

    def _judged_items(self) -> list[tuple[str, tuple[str, int]]]:
        return [(kind, item) for kind, part in self._sources().items() for item in part.items]

    def _path(self, kind: str, item: tuple[str, int]) -> Path:
        return self.folder / "judged" / kind / f"{item[0].replace('/', '-')}-{item[1]}"

    def _judge(self) -> None:
        for kind, part in self._sources().items():
            pending = [item for item in part.items if not store.is_there(self._path(kind, item))]
            if not pending:
                continue
            self._check()
            self.around.say(f"judging {len(pending)} scenes ({kind})")
            alone = kind == "few"
            job = Job(
                replace(part, items=pending),
                self.slow_specs() if alone else self.specs(),
                self.around.device,
                pictures=1,
                sweep=self.preset.sweep and not alone,
                controls=not alone,
            )

            def hear(event: Event, kind: str = kind) -> None:
                if event.kind == "done":
                    store.save(self._path(kind, (event.value.suite, event.value.scene)), event.value)
                    self.around.say(f"judged: {event.value.suite}, scene {event.value.scene} ({kind})")
                self._check()

            workers = min(self.around.workers, processes(self.around.device))
            gather(job, pending, workers, hear)

    def evaluation(self) -> Evaluation:
        """Every score of every scene, from the files."""
        found: dict[tuple[str, int], Judgement] = {}
        for kind, item in self._judged_items():
            judged = store.read(self._path(kind, item))
            found[item] = _joined(found[item], judged) if item in found else judged
        specs = self.specs() | self.slow_specs()
        order = [one.label for one in self.contenders if one.label in specs]
        denoisers = {label: load(specs[label]) for label in order}
        about = files.origin(self._words(), denoisers, self.around.command)
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


def _joined(most: Judgement, slow: Judgement) -> Judgement:
    """One judgement of a scene from that of most contenders and that of the slow ones."""
    picture = most.picture
    if picture is not None and slow.picture is not None:
        images = {name: image for name, image in picture.images.items() if name != "truth"}
        images |= {name: image for name, image in slow.picture.images.items() if name not in picture.images}
        picture = replace(picture, images={**images, "truth": picture.images["truth"]})
    rows, failures = (*most.rows, *slow.rows), (*most.failures, *slow.failures)
    return replace(most, rows=rows, failures=failures, picture=picture)


def only(evaluation: Evaluation, suites: Sequence[str]) -> Evaluation:
    """The part of an evaluation that some suites make, with those methods alone that were judged on all of it."""
    rows = [row for row in evaluation.rows if row.suite in suites]
    scenes = len({(row.suite, row.scene) for row in rows})
    whole = [name for name in evaluation.methods if sum(row.method == name for row in rows) == scenes]
    failed = {failure.method for failure in evaluation.failures if failure.suite in suites}
    names = tuple(name for name in evaluation.methods if name in whole or name in failed)
    return replace(
        evaluation,
        methods=names,
        controls=frozenset(names) & evaluation.controls,
        rows=tuple(row for row in rows if row.method in names),
        failures=tuple(one for one in evaluation.failures if one.suite in suites),
        pictures=tuple(_without(one, names) for one in evaluation.pictures if one.suite in suites),
    )


def _without(picture: Picture, names: Sequence[str]) -> Picture:
    kept = {name: image for name, image in picture.images.items() if name in (*names, "truth")}
    return replace(picture, images=kept)


def command_of(asked: Asked, folder: Path) -> str:
    """The command that makes the benchmark."""
    words = ["s2s", "benchmark", "--suite", asked.suite, "--preset", asked.preset, "-o", str(folder)]
    words += [word for label in asked.labels for word in ("-m", label)]
    words += ["--sim", asked.phantom] if asked.phantom else []
    words += ["--seed", str(asked.seed)] if asked.seed else []
    return shlex.join(words)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged: {error}; begin in another folder") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: damaged: no mapping; begin in another folder")
    return content


def _silent(text: str) -> None:
    """Say nothing: a benchmark has lines of its own."""
