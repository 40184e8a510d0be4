"""The run: every method on every image of every scene, scored as they come."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2s.denoise import load
from s2s.evaluation.cases import Case, Source, Task
from s2s.evaluation.controls import NOISY, Denoise, Image, controls
from s2s.evaluation.files import functions
from s2s.evaluation.results import Cost, Evaluation, Failure, Picture, Row
from s2s.evaluation.same_width import sweeps_of
from s2s.evaluation.strength import Strength, measure, strengths
from s2s.metrics import draws
from s2s.metrics.battery import score
from s2s.metrics.judged import IMAGE, SHAM, Judged
from usim.errors import ConfigError, DataError, ResourceError, UsimError
from usim.workers import Event, map_items

#: Who fails where a scene can't be had at all.
EVERYONE = "every method"


def evaluate(
    methods: Mapping[str, Denoise],
    cases: Iterable[Case],
    *,
    pictures: int = 1,
    about: Mapping[str, Any] | None = None,
    sweeps: Mapping[str, Sequence[Strength]] | None = None,
) -> Evaluation:
    """Run every method and every control on every scene, and score what comes out.

    methods: functions by name, from an image (H, W) in dB, as a scanner shows it (clipped to [-dynamic range, 0]), to
    an image of the same shape and meaning.  cases: taken one at a time, each once.  pictures: how many scenes of each
    suite are kept to be looked at, from number 0.  about: told in reports as it is.  sweeps: methods at several
    strengths, run on the scenes that ask for it, see s2s.evaluation.same_width.

    A method that raises an error, or makes nan, inf, pixels that are no real numbers, or another shape fails there: its
    scores of that scene are missing, and the rest goes on. Raises ConfigError for a method with a control's name,
    DataError for no scenes.

    >>> evaluate({"blur": lambda image: gaussian_filter(image, 2)}, cases_of(Simulated(scenes=4)))  # doctest: +SKIP
    """
    everyone = with_controls(methods)
    judgements = [judge(everyone, case, case.scene < pictures, sweeps or {}) for case in cases]
    return collect(everyone, judgements, about)


def with_controls(methods: Mapping[str, Denoise]) -> dict[str, Denoise]:
    """Methods and then controls; raises ConfigError for a method with a control's name."""
    yardsticks = controls()
    for name in methods:
        if name in yardsticks:
            raise ConfigError(f"method: the name {name!r} is that of a control; choose another")
    return {**methods, **yardsticks}


@dataclass(frozen=True, eq=False)
class Judgement:
    """One scene after all methods: rows and failures, a picture if one was asked for, and scores by (method, strength)
    if the scene was swept."""

    suite: str
    scene: int
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    picture: Picture | None
    swept: Mapping[tuple[str, str], Mapping[str, float]]


def judge(
    methods: Mapping[str, Denoise], case: Case, keep_picture: bool, sweeps: Mapping[str, Sequence[Strength]]
) -> Judgement:
    """Run every method on every image of a scene, and score what comes out."""
    tasks = list(case.tasks())
    rows: list[Row] = []
    failures: list[Failure] = []
    images: dict[str, Image] = {}
    maps: dict[str, dict[str, Image]] = {}
    for name, denoise in methods.items():
        made, seconds, failed = _made(name, denoise, case, tasks)
        failures += failed
        if IMAGE in made:
            images[name] = made[IMAGE]
            judged = Judged(made, {task.role: task.view for task in tasks})
            rows.append(Row(name, case.suite, case.scene, seconds, score(judged)))
            for kind, one in draws.maps(judged).items() if keep_picture else ():
                maps.setdefault(kind, {})[name] = one.astype(np.float32)
    picture = _picture(case, tasks[0], images, maps) if keep_picture else None
    swept, failed = _swept(sweeps, case, tasks) if case.swept else ({}, [])
    return Judgement(case.suite, case.scene, tuple(rows), (*failures, *failed), picture, swept)


def collect(
    methods: Iterable[str], judgements: Iterable[Judgement], about: Mapping[str, Any] | None = None
) -> Evaluation:
    """The evaluation of all scenes, in the order of suites and scenes; raises DataError for none."""
    found = list(judgements)
    if not found:
        raise DataError("evaluate: there are no scenes; ask for one or more")
    suites = list(dict.fromkeys(one.suite for one in found))
    found.sort(key=lambda one: (suites.index(one.suite), one.scene))
    names = tuple(methods)
    rows = tuple(row for one in found for row in one.rows)
    if not rows:
        raise DataError(f"evaluate: no scene could be judged: {found[0].failures[0].reason}")
    taken = {name: [row.seconds for row in rows if row.method == name] for name in names}
    return Evaluation(
        names,
        frozenset(names) & frozenset(controls()),
        rows,
        tuple(failure for one in found for failure in one.failures),
        tuple(one.picture for one in found if one.picture),
        {name: Cost(1e3 * float(np.median(seconds or [np.nan]))) for name, seconds in taken.items()},
        dict(about or {}),
        sweeps_of({(one.suite, one.scene): one.swept for one in found if one.swept}),
    )


def refuse_failures(evaluation: Evaluation) -> None:
    """Raise DataError that names every method that failed in a scene, when all else is written."""
    told = []
    for name in dict.fromkeys(failure.method for failure in evaluation.failures):
        failed = [failure for failure in evaluation.failures if failure.method == name]
        where = {(failure.suite, failure.scene) for failure in failed}
        count = len({*evaluation.scenes, *((one.suite, one.scene) for one in evaluation.failures)})
        told.append(f"{name}: failed in {len(where)} of {count} scenes: {failed[0].reason}")
    if told:
        raise DataError("\n".join([*told, "these scores are missing above; everything else was judged"]))


@dataclass(frozen=True)
class Job:
    """What a process needs to judge scenes: where they come from and which methods; picklable.

    specs: what `s2s.load` takes, by label.
    pictures: how many scenes of each suite are kept to be looked at.  sweep: whether methods are swept.  controls:
    whether controls are judged beside them.
    """

    source: Source
    specs: Mapping[str, str]
    device: str = "cpu"
    pictures: int = 1
    sweep: bool = True
    controls: bool = True

    def __call__(self) -> Callable[[tuple[str, int], Callable[[Any], None]], Judgement]:
        """Return the function that judges a scene."""
        denoisers = {label: load(spec, device=self.device) for label, spec in self.specs.items()}
        sweeps = strengths(denoisers) if self.sweep else {}
        methods = with_controls(functions(denoisers)) if self.controls else functions(denoisers)
        make = self.source.open()

        def work(item: tuple[str, int], report: Callable[[Any], None]) -> Judgement:
            try:
                case = make(item)
            except DataError as error:  # a damaged frame, or looks on other pixels: the other scenes are judged
                return Judgement(*item, (), (Failure(EVERYONE, *item, IMAGE, str(error)),), None, {})
            return judge(methods, case, item[1] < self.pictures, sweeps)

        return work


def processes(device: str) -> int:
    """How many processes judge scenes unless the user says it: one for each core, or one for all of a device."""
    return (os.cpu_count() or 1) if device == "cpu" else 1


def evaluate_in_processes(
    job: Job, workers: int, *, listen: Callable[[Event], None], about: Mapping[str, Any] | None = None
) -> Evaluation:
    """`evaluate` over several processes, with equal scores for any number of them.

    listen: told of every scene that is done, and now and then in between.
    Raises what `evaluate` does, and ResourceError when a process was ended from outside.
    """
    items = job.source.items
    found = gather(job, items, workers, listen)
    # As they are listed, not as they were done: suites keep their order however many processes there are.
    found.sort(key=lambda one: items.index((one.suite, one.scene)))
    return collect((*job.specs, *controls()), found, about)


def gather(
    job: Callable[[], Callable[[Any, Callable[[Any], None]], Any]],
    items: Sequence[tuple[str, int]],
    workers: int,
    listen: Callable[[Event], None],
) -> list[Any]:
    """What the function that `job` makes in each process returns for (suite, scene) items, as they are done."""
    found: list[Any] = []

    def hear(event: Event) -> None:
        if event.kind == "lost":
            raise ResourceError(
                f"evaluate: the process that judged scene {event.item[1]} of {event.item[0]} was ended from outside, "
                "perhaps for want of memory; run it again with --workers 1"
            )
        if event.kind == "done":
            found.append(event.value)
        listen(event)

    map_items(job, items, workers, hear)
    return found


def _made(name: str, denoise: Denoise, case: Case, tasks: list[Task]) -> tuple[dict[str, Image], float, list[Failure]]:
    """Images by role, the seconds that the judged one took, and what failed."""
    made: dict[str, Image] = {}
    failed: list[Failure] = []
    seconds = float("nan")
    for task in tasks:
        try:
            image, taken = run_on(denoise, task.given)
        except DataError as error:
            failed.append(Failure(name, case.suite, case.scene, task.role, str(error)))
            continue
        made[task.role] = task.undo(image)
        seconds = taken if task.role == IMAGE else seconds
    return made, seconds, failed


def _swept(
    sweeps: Mapping[str, Sequence[Strength]], case: Case, tasks: list[Task]
) -> tuple[dict[tuple[str, str], Mapping[str, float]], list[Failure]]:
    """What is kept of every method at every strength, and what failed."""
    tasks = [task for task in tasks if task.role in (IMAGE, SHAM)]
    swept: dict[tuple[str, str], Mapping[str, float]] = {}
    failures: list[Failure] = []
    for name, of_method in sweeps.items():
        for strength in of_method:
            made, _, failed = _made(f"{name} at {strength.label}", strength.denoise, case, tasks)
            failures += failed
            views = {task.role: task.view for task in tasks if task.role in made}
            swept[name, strength.label] = measure(Judged(made, views)) if IMAGE in made else {}
    return swept, failures


def run_on(denoise: Denoise, given: Image) -> tuple[Image, float]:
    """The image that a method makes of a copy of its own, and the seconds it took.

    Raises DataError for nan, inf, pixels that are no real numbers, another shape, and any error of the method's own.
    """
    copy = given.copy()
    start = time.perf_counter()
    try:
        result = np.asarray(denoise(copy))
    except Exception as error:  # whatever a user's function does wrong, the others' scores must not be lost
        reason = str(error) if isinstance(error, UsimError) else f"{type(error).__name__}: {error}"
        raise DataError(reason) from error
    seconds = time.perf_counter() - start
    if result.shape != given.shape:
        raise DataError(f"it made an image of shape {result.shape} from {given.shape}; the shape must stay")
    if result.dtype.kind not in "fiu":
        raise DataError(f"it made pixels of type {result.dtype}; they must be real numbers, in dB")
    with np.errstate(over="ignore"):
        image = result.astype(np.float32)
    wrong = int((~np.isfinite(image)).sum())
    if wrong:
        raise DataError(f"{wrong} of its {image.size} pixels are nan or infinite; every pixel must be a number")
    return image, seconds


def _picture(case: Case, task: Task, images: Mapping[str, Image], maps: Mapping[str, Mapping[str, Image]]) -> Picture:
    view = task.view
    shown = {name: image for name, image in images.items() if not name.endswith("gamma=2")}
    return Picture(
        case.suite,
        case.scene,
        {NOISY: task.given, **shown, "truth": view.truth_db.astype(np.float32)},
        view.x,
        view.z,
        view.dynamic_range,
        maps,
    )
