"""Images without truth: what can be said of methods there, and what can't. No winner is named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.denoise import load
from s2s.domain import SPECKLE_DB
from s2s.evaluation import run
from s2s.evaluation.controls import NOISY, Denoise, controls
from s2s.evaluation.export import finite
from s2s.evaluation.files import functions
from s2s.evaluation.real_images import RealImages
from s2s.evaluation.results import Evaluation, Failure, Row
from s2s.evaluation.table import MISSING, aligned, number
from s2s.metrics.no_truth.agreement import median_image, rms
from s2s.metrics.no_truth.battery import METRICS, score
from s2s.metrics.no_truth.seen import Output, Seen
from usim.errors import DataError
from usim.workers import Event

Image = NDArray[np.float32]

FORMAT = "s2s-real/1"
#: The metrics of the terminal's table.
COLUMNS = (
    "area_enl", "area_enl_fit", "edge_kept", "edge_width", "edge_noise", "removed_width", "removed_low", "bias",
    "to_median", "hom",
)  # fmt: skip
#: Role of a failure that is an image's, not a method's.
UNREADABLE = "file"
#: Share by which the spread of speckle may miss 5.57 dB before the stated dynamic range is doubted.
TOLERANCE = 0.15
#: What a reader must know before any number; the same on the page.
CAN = (
    "Without a truth it can be said how much still varies where the untouched image shows speckle and nothing else, "
    "how much of its strong edges is left, whether what was removed looks like speckle, and where methods disagree."
)
CANNOT = (
    "It can't be said which method is right: a structure that all of them removed, or all invented, is in no number "
    "here, and every number can be raised by a trick. No winner is named."
)


@dataclass(frozen=True, eq=False)
class Found:
    """What was found on an image before any method saw it.

    scene: its number.  file, frame: where it is.  taken_as: the meaning of its numbers.  shape: (H, W).  cell: axial
    and lateral FWHM of the speckle in pixels.  areas, edges: number of areas of speckle, and of pixels on strong
    edges.  speckle_db: standard deviation in the areas; fully developed speckle in true decibels has 5.57.
    missing: why there are no areas or edges.
    """

    scene: int
    file: str
    frame: int
    taken_as: str
    shape: tuple[int, ...]
    cell: tuple[float, float] | None
    areas: int
    edges: int
    speckle_db: float
    missing: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Sight:
    """An image kept to be looked at: where was measured, and what every method made of it, in dB."""

    found: Found
    seen: Seen
    images: Mapping[str, Image]


@dataclass(frozen=True, eq=False)
class Judged:
    """One image after all methods; found: None for one that could not be read."""

    judgement: run.Judgement
    found: Found | None = None
    sight: Sight | None = None


@dataclass(frozen=True, eq=False)
class RealEvaluation:
    """What `evaluate_real` found: the scores, what was found on each image, and what could not be read."""

    evaluation: Evaluation
    images: tuple[Found, ...]
    unreadable: tuple[str, ...] = ()
    assumed: str = ""
    sights: tuple[Sight, ...] = field(default=(), repr=False)

    @property
    def named(self) -> tuple[str, ...]:
        """The untouched image and the methods that are no controls."""
        return (NOISY, *(name for name in self.evaluation.methods if name not in self.evaluation.controls))

    @property
    def between(self) -> NDArray[np.float64]:
        """Mean rms difference in dB between each pair of `named`, (M, M), 0 between a method and itself."""
        means = [
            [0.0 if one == other else self.evaluation.mean(one, f"between/{other}").mean for other in self.named]
            for one in self.named
        ]
        return np.array(means)


@dataclass(frozen=True)
class RealJob:
    """What a process needs to judge images: which, and by what methods; picklable.

    specs: what `s2s.load` takes, by label.  pictures: how many images are kept to be looked at.
    """

    source: RealImages
    specs: Mapping[str, str]
    device: str = "cpu"
    pictures: int = 4

    def __call__(self) -> Callable[[tuple[str, int], Callable[[Any], None]], Judged]:
        """Return the function that judges an image."""
        denoisers = {label: load(spec, device=self.device) for label, spec in self.specs.items()}
        return judging(run.with_controls(functions(denoisers)), self.source, self.pictures)


def judging(
    methods: Mapping[str, Denoise], source: RealImages, pictures: int
) -> Callable[[tuple[str, int], Callable[[Any], None]], Judged]:
    """Return the function that judges an image of the source by its (name, number)."""
    read = source.open()

    def judge(item: tuple[str, int], report: Callable[[Any], None]) -> Judged:
        name, scene = item
        given = source.given[scene]
        try:
            image, dynamic_range = read(scene)
        except DataError as error:
            failure = Failure(given.file, name, scene, UNREADABLE, str(error))
            return Judged(run.Judgement(name, scene, (), (failure,), None, {}))
        seen = Seen(image.astype(np.float64), dynamic_range)
        made, rows, failures = judge_image(methods, image, seen, name, scene)
        found = Found(
            scene, given.file, given.frame, given.taken_as, image.shape, seen.cell,
            0 if seen.areas is None else len(seen.areas.corners), 0 if seen.edges is None else len(seen.edges.points),
            seen.speckle_db, seen.missing,
        )  # fmt: skip
        sight = Sight(found, seen, made) if scene < pictures else None
        return Judged(run.Judgement(name, scene, rows, failures, None, {}), found, sight)

    return judge


def judge_image(
    methods: Mapping[str, Denoise], image: Image, seen: Seen, suite: str, scene: int
) -> tuple[dict[str, Image], tuple[Row, ...], tuple[Failure, ...]]:
    """Run methods and controls on one image (H, W) in dB; returns what they made, the scores and the failures."""
    made: dict[str, Image] = {}
    seconds: dict[str, float] = {}
    failures = []
    for name, denoise in methods.items():
        try:
            made[name], seconds[name] = run.run_on(denoise, image)
        except DataError as error:
            failures.append(Failure(name, suite, scene, "image", str(error)))
    outputs = {name: Output(result, seen) for name, result in made.items()}
    apart = _agreement(outputs)
    rows = [Row(name, suite, scene, seconds[name], score(one) | apart[name]) for name, one in outputs.items()]
    return made, tuple(rows), tuple(failures)


def _agreement(outputs: Mapping[str, Output]) -> dict[str, dict[str, float]]:
    """How far each output is from the median of all methods, and from each method and the untouched image."""
    yardsticks = controls()
    named = {name: one.fitted for name, one in outputs.items() if name not in yardsticks}
    middle = median_image(list(named.values()))
    others = {NOISY: outputs[NOISY].fitted, **named} if NOISY in outputs else named
    return {
        name: {"to_median": math.nan if middle is None else rms(one.fitted, middle)}
        | {f"between/{other}": rms(one.fitted, image) for other, image in others.items() if other != name}
        for name, one in outputs.items()
    }


def evaluate_real(
    methods: Mapping[str, Denoise], source: RealImages, *, pictures: int = 4, about: Mapping[str, Any] | None = None
) -> RealEvaluation:
    """Run every method and every control on images without truth, and measure what can be measured there.

    methods: functions by name, from an image (H, W) in dB, clipped to [-dynamic range, 0], to one of the same shape
    and meaning.  pictures: how many images are kept to be looked at.  about: told in reports as it is.

    What can't be read or fails is told and left out. Raises ConfigError for a method with a control's name, DataError
    when no image is left.

    >>> evaluate_real({"blur": blur}, RealImages.of("scans/", Stated("log", 60.0)))  # doctest: +SKIP
    """
    everyone = run.with_controls(methods)
    judge = judging(everyone, source, pictures)
    return collected(everyone, [judge(item, lambda value: None) for item in source.items], source, about)


def evaluate_in_processes(
    job: RealJob, workers: int, *, listen: Callable[[Event], None], about: Mapping[str, Any] | None = None
) -> RealEvaluation:
    """`evaluate_real` over several processes, with equal scores for any number of them; listen: told of every image."""
    found = run.gather(job, job.source.items, workers, listen)
    return collected((*job.specs, *controls()), found, job.source, about)


def collected(
    methods: Iterable[str], judged: Sequence[Judged], source: RealImages, about: Mapping[str, Any] | None
) -> RealEvaluation:
    """All images together; raises DataError when none could be read."""
    in_order = sorted(judged, key=lambda one: one.judgement.scene)
    bad = [failure for one in in_order for failure in one.judgement.failures if failure.role == UNREADABLE]
    unreadable = (*source.unreadable, *(failure.reason for failure in bad))
    good = [one for one in in_order if one.found is not None]
    if not good:
        raise DataError("\n".join([*unreadable, f"{source.name}: none of its images can be read"]))
    return RealEvaluation(
        run.collect(methods, [one.judgement for one in good], about),
        tuple(one.found for one in good if one.found),
        unreadable,
        source.assumed,
        tuple(one.sight for one in good if one.sight),
    )


def refuse_failures(real: RealEvaluation) -> None:
    """Raise DataError that names every file that could not be read and every method that failed."""
    told = [f"not read: {reason}" for reason in real.unreadable]
    try:
        run.refuse_failures(real.evaluation)
    except DataError as error:
        told.append(str(error))
    if told:
        raise DataError("\n".join(told))


def notes(real: RealEvaluation) -> list[str]:
    """What a reader of the table must know: what the numbers stand on, and what could not be measured."""
    count = len(real.images)
    lines = [
        f"means over {count} images with 95 % bootstrap intervals; the unit is the image: frames of one clip are "
        "alike, and their intervals are too narrow"
        if count > 1
        else "one image: no intervals"
    ]
    lines += [real.assumed] if real.assumed else []
    shapes = {found.shape for found in real.images}
    if len(shapes) > 1:
        lines.append(f"images of {len(shapes)} sizes: each is measured by itself, in its own speckle cells")
    doubted = [found.speckle_db for found in real.images if abs(found.speckle_db / SPECKLE_DB - 1.0) > TOLERANCE]
    if doubted:
        lines.append(
            f"{len(doubted)} of {count} images: speckle spreads {np.mean(doubted):.2f} dB, where fully developed "
            f"speckle in true decibels has {SPECKLE_DB:.2f}: the stated display curve is not theirs (usim match "
            "measures it); compare methods by ENL, not images"
        )
    for name, wanted in (("areas", "areas of speckle"), ("edges", "strong edges")):
        without = [found for found in real.images if not getattr(found, name)]
        if without:
            reason = next(iter(without[0].missing), "")
            lines.append(f"no {wanted} in {len(without)} of {count} images, as in {without[0].file}: {reason}")
    return lines


def table(real: RealEvaluation) -> str:
    """What can be said and what can't, a row of means for each method with its intervals, and who agrees with whom."""
    evaluation, metrics = real.evaluation, [METRICS[name] for name in COLUMNS]
    rows = [["method", *(metric.title + ("*" if metric.fooled_by else "") for metric in metrics), "ms"]]
    for method in evaluation.methods:
        means = [evaluation.mean(method, metric.name) for metric in metrics]
        cells = [number(one.mean, metric.digits) for one, metric in zip(means, metrics, strict=True)]
        rows.append([method, *cells, number(evaluation.costs[method].milliseconds, 1)])
        spreads = [
            "" if math.isnan(one.low) else f"{number(one.low, metric.digits)}..{number(one.high, metric.digits)}"
            for one, metric in zip(means, metrics, strict=True)
        ]
        rows += [["", *spreads, ""]] if any(spreads) else []
    fooled = [f"* {metric.title}: raised by {metric.fooled_by}" for metric in metrics if metric.fooled_by]
    return "\n\n".join([
        f"{CAN}\n{CANNOT}",
        aligned(rows),
        "\n".join([*notes(real), *fooled]),
        f"rms difference in dB between images, curve fitted\n{aligned(agreement_rows(real))}",
    ])  # fmt: skip


def agreement_rows(real: RealEvaluation) -> list[list[str]]:
    """The differences between methods as cells, with a head."""
    rows = [["", *(str(k) for k in range(len(real.named)))]]
    for k, (name, line) in enumerate(zip(real.named, real.between, strict=True)):
        rows.append([f"{k} {name}", *(MISSING if k == j else number(float(value), 2) for j, value in enumerate(line))])
    return rows


def to_json(real: RealEvaluation) -> str:
    """The evaluation as JSON: about, images, definitions, means with intervals, and every row; nan becomes null."""
    evaluation = real.evaluation
    content = {
        "format": FORMAT,
        "about": dict(evaluation.about),
        "can": CAN,
        "cannot": CANNOT,
        "notes": notes(real),
        "images": [asdict(found) for found in real.images],
        "unreadable": list(real.unreadable),
        "definitions": {name: asdict(metric) for name, metric in METRICS.items()},
        "methods": [
            {
                "name": method,
                "control": method in evaluation.controls,
                "cost": asdict(evaluation.costs[method]),
                "metrics": {name: asdict(evaluation.mean(method, name)) for name in evaluation.metrics},
            }
            for method in evaluation.methods
        ],
        "failures": [asdict(failure) for failure in evaluation.failures],
        "rows": [asdict(row) for row in evaluation.rows],
    }
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"
