"""The run: every method on every image of every scene, scored as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from s2s.evaluation.cases import Case, Task
from s2s.evaluation.controls import NOISY, Denoise, Image, controls
from s2s.evaluation.results import Cost, Evaluation, Failure, Picture, Row
from s2s.metrics.battery import score
from s2s.metrics.judged import IMAGE, Judged
from usim.errors import ConfigError, DataError


def evaluate(
    methods: Mapping[str, Denoise],
    cases: Iterable[Case],
    *,
    pictures: int = 1,
    progress: Callable[[], None] = lambda: None,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Run every method and every control on every scene, and score what comes out.

    methods: functions by name, from an image (H, W) in dB, as a scanner shows it (clipped to [-dynamic range, 0]), to
    an image of the same shape and meaning.  cases: taken one at a time, each once.  pictures: how many scenes of each
    suite are kept to be looked at.  progress: called after each scene.  about: told in reports as it is.

    A method that makes nan, inf or another shape fails there: its scores of that scene are missing, and the rest
    goes on. Raises ConfigError for a method with a control's name, DataError for no scenes.

    >>> evaluate({"blur": lambda image: gaussian_filter(image, 2)}, cases("evaluation", frames=4))  # doctest: +SKIP
    """
    yardsticks = controls()
    for name in methods:
        if name in yardsticks:
            raise ConfigError(f"method: the name {name!r} is that of a control; choose another")
    all_methods: dict[str, Denoise] = {**methods, **yardsticks}
    rows: list[Row] = []
    failures: list[Failure] = []
    kept: list[Picture] = []
    for case in cases:
        tasks = list(case.tasks())
        images: dict[str, Image] = {}
        for name, denoise in all_methods.items():
            made, seconds, failed = _made(name, denoise, case, tasks)
            failures += failed
            if IMAGE in made:
                images[name] = made[IMAGE]
                views = {task.role: task.view for task in tasks if task.role in made}
                rows.append(Row(name, case.suite, case.scene, seconds, score(Judged(made, views))))
        if sum(picture.suite == case.suite for picture in kept) < pictures:
            kept.append(_picture(case, tasks[0], images))
        progress()
    if not rows:
        raise DataError("evaluate: there are no scenes; ask for one or more")
    names = tuple(all_methods)
    costs = {name: Cost(1e3 * float(np.median([row.seconds for row in rows if row.method == name]))) for name in names}
    return Evaluation(names, frozenset(yardsticks), tuple(rows), tuple(failures), tuple(kept), costs, dict(about or {}))


def _made(name: str, denoise: Denoise, case: Case, tasks: list[Task]) -> tuple[dict[str, Image], float, list[Failure]]:
    """Images by role, the seconds that the judged one took, and what failed."""
    made: dict[str, Image] = {}
    failed: list[Failure] = []
    seconds = float("nan")
    for task in tasks:
        try:
            image, taken = _run(denoise, task)
        except DataError as error:
            failed.append(Failure(name, case.suite, case.scene, task.role, str(error)))
            continue
        made[task.role] = image
        seconds = taken if task.role == IMAGE else seconds
    return made, seconds, failed


def _run(denoise: Denoise, task: Task) -> tuple[Image, float]:
    """The image that a method makes of a copy of its own, and the seconds it took."""
    given = task.given.copy()
    start = time.perf_counter()
    result = np.asarray(denoise(given))
    seconds = time.perf_counter() - start
    if result.shape != task.given.shape:
        raise DataError(f"it made an image of shape {result.shape} from {task.given.shape}; the shape must stay")
    wrong = int((~np.isfinite(result)).sum())
    if wrong:
        raise DataError(f"{wrong} of its {result.size} pixels are nan or infinite; every pixel must be a number")
    return task.undo(result.astype(np.float32)), seconds


def _picture(case: Case, task: Task, images: Mapping[str, Image]) -> Picture:
    view = task.view
    shown = {name: image for name, image in images.items() if not name.endswith("gamma=2")}
    return Picture(
        case.suite,
        case.scene,
        {NOISY: shown[NOISY], **shown, "truth": view.truth_db.astype(np.float32)},
        view.x,
        view.z,
        view.dynamic_range,
    )
