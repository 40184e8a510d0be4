"""Choosing a filter's settings before it is compared: by the truth of other scenes, and without any truth."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2s.denoise import load
from s2s.evaluation.calibrate import Hidden, hidden_views, self_error
from s2s.evaluation.cases import Simulated, cases_of
from s2s.evaluation.controls import Denoise, Image
from s2s.evaluation.files import filters, functions
from s2s.evaluation.tuned import By, Choice, Tuning
from s2s.images import Stated, open_image
from s2s.images.image import shown_db
from s2s.methods import method_class, settings_of, split_spec
from s2s.metrics.fidelity import psnr, tone_fit
from s2s.metrics.frame_view import FrameView
from s2s.metrics.judged import IMAGE
from s2s.recordings import Recordings
from usim.errors import ConfigError, DataError, ResourceError
from usim.workers import Event, map_items

Settings = dict[str, Any]

#: Images, and views of each with hidden blocks, unless the user says otherwise.
DEFAULT_SCENES, VIEWS = 8, 2
#: No search tries more settings than this; refinement of the strength halves its steps this often.
LARGEST, HALVINGS = 36, 2
#: The ways of choosing settings, in the order of tables.
WAYS: tuple[By, ...] = ("truth", "self", "default")


@dataclass(frozen=True, eq=False)
class Scene:
    """One image to tune on: (H, W) in dB, clipped to its dynamic range; the truth where there is one.

    views: the image with hidden blocks.  inside: where there is an image at all (H, W); everywhere for None.
    """

    noisy: Image
    dynamic_range: float
    views: tuple[Hidden, ...]
    truth: NDArray[np.float64] | None = None
    inside: NDArray[np.bool_] | None = None


class Scenes(Protocol):
    """Where images to tune on come from; picklable."""

    @property
    def has_truth(self) -> bool:
        """Whether the images come with their truth."""

    def open(self) -> list[Scene]:
        """Make or read them all."""


@dataclass(frozen=True)
class FromSimulation:
    """Images of simulated scenes, with truth."""

    source: Simulated
    has_truth = True

    def open(self) -> list[Scene]:
        """Simulate them; raises ConfigError for a bad phantom, DataError for images too small."""
        found: list[Scene] = []
        for case in cases_of(self.source):
            view = FrameView.of(case.frames[IMAGE])
            noisy = view.noisy_db.astype(np.float32)
            hidden = _views(noisy, (self.source.seed, len(found)), f"{case.suite}, scene {case.scene}")
            found.append(Scene(noisy, view.dynamic_range, hidden, view.truth_db, view.insonified))
        return found


@dataclass(frozen=True)
class FromFiles:
    """Images of files, without truth.

    items: (path, frame in it).  stated: what is known of their numbers.  seed: of the places that are hidden.
    """

    items: tuple[tuple[str, int], ...]
    stated: Stated
    seed: int
    has_truth = False

    @classmethod
    def of(cls, paths: Sequence[str], scenes: int, stated: Stated, seed: int) -> tuple[FromFiles, str]:
        """The first images of files and folders, and what was assumed about their numbers; raises DataError."""
        found = Recordings.of(paths, ("y",), stated, seed)
        return cls(found.items[:scenes], stated, seed), found.note

    def open(self) -> list[Scene]:
        """Read them; raises DataError for one that can't be read, or holds no speckle."""
        found: list[Scene] = []
        for path, number in self.items:
            image = open_image(path, self.stated)
            seen = image.inside(image.frames[number])
            noisy = np.minimum(shown_db(seen, image.domain), 0.0).astype(np.float32)
            hidden = _views(noisy, (self.seed, len(found)), f"{path}, image {number}")
            found.append(Scene(noisy, image.domain.dynamic_range, hidden))
        return found


def _views(noisy: Image, seed: tuple[int, ...], where: str) -> tuple[Hidden, ...]:
    try:
        return tuple(hidden_views(noisy, VIEWS, np.random.default_rng(seed)))
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def refuse_methods(names: Sequence[str]) -> tuple[str, ...]:
    """The methods' names, each once, all filters for none; raises ConfigError for one that can't be tuned."""
    for name in names:
        alone, settings = split_spec(name)
        if settings:
            raise ConfigError(f"{name}: settings are what is looked for; name the method alone, {alone}")
        kind = method_class(name)
        if kind.fit_steps and not kind.TUNING:
            raise ConfigError(
                f"{name}: is fitted to each image, and has no settings to choose; use it as it is, "
                f"s2s denoise -m {name}, s2s evaluate -m"
            )
        if not kind.TUNING:
            raise ConfigError(
                f"{name}: learns, and has no settings to choose afterwards; train it, s2s train --sim --method {name}, "
                "and name the folder of its training to s2s evaluate -m"
            )
    return tuple(dict.fromkeys(names)) or filters()


def search(
    grid: Mapping[str, Sequence[Any]], start: Settings, score: Callable[[Settings], float]
) -> tuple[Settings, int]:
    """The settings with the highest score, and how many were tried: LARGEST at most.

    grid: values by setting, the strength first.  start: settings where the search begins.

    The strength is swept, then every other setting; then the best one's neighbours in the grid are tried, as long as
    that helps: one setting after the other, and where none helps alone, the strength together with another one; at
    last values of the strength between the best one and its neighbours. The score of equal settings is asked for once.

    >>> search({"a": (1.0, 2.0, 4.0)}, {"a": 1.0}, lambda settings: -abs(settings["a"] - 2.4))
    ({'a': 2.4}, 6)
    """
    tried: dict[tuple[Any, ...], float] = {}
    values = {key: list(given) for key, given in grid.items()}

    def best_of(candidates: Sequence[Settings], best: Settings) -> Settings:
        for settings in candidates:
            key = tuple(settings[name] for name in grid)
            if key not in tried and len(tried) < LARGEST:
                tried[key] = score(settings)
        # The earlier one of equals: of settings that change nothing the search takes the first.
        known = [one for one in (best, *candidates) if tuple(one[name] for name in grid) in tried]
        return max(known, key=lambda settings: tried[tuple(settings[name] for name in grid)])

    best = dict(start)
    for key in grid:
        best = best_of([{**best, key: value} for value in values[key]], best)
    strength, *others = grid
    before: Settings = {}
    while best != before:
        before = best
        best = best_of([{**best, key: value} for key in grid for value in _beside(values[key], best[key])], best)
        if best == before:
            stronger = [{**best, strength: value} for value in _beside(values[strength], best[strength])]
            both = [
                {**one, key: value} for one in stronger for key in others for value in _beside(values[key], best[key])
            ]
            best = best_of(both, best)
    for _ in range(HALVINGS):
        chosen, kind = best[strength], values[strength]
        between = (_between(chosen, value, kind) for value in _beside(kind, chosen))
        found = [value for value in between if value is not None]
        values[strength] = sorted({*values[strength], *found})
        best = best_of([{**best, strength: value} for value in found], best)
    return best, len(tried)


def _beside(values: Sequence[Any], value: Any) -> list[Any]:
    """The neighbours of a value."""
    if value not in values:
        return list(values)
    place = values.index(value)
    return [*values[max(place - 1, 0) : place], *values[place + 1 : place + 2]]


def _between(one: float, other: float, values: Sequence[Any]) -> float | None:
    """A value halfway between two, of the kind of all: odd, whole, or with two digits; None where there is none."""
    if all(isinstance(value, int) for value in values):
        step = 2 if all(value % 2 for value in values) else 1
        middle: float = one + step * round((other - one) / (2 * step))
    else:
        middle = float(f"{math.sqrt(one * other):.2g}")
    return None if middle in (one, other) else middle


def at_end(grid: Mapping[str, Sequence[Any]], chosen: Settings) -> tuple[str, ...]:
    """Settings whose chosen value is the least or largest of three or more numbers that were tried."""
    found = []
    for key, values in grid.items():
        numbers = sorted(value for value in values if not isinstance(value, str))
        if len(numbers) > 2 and chosen[key] in (numbers[0], numbers[-1]):
            found.append(key)
    return tuple(found)


def spec_of(name: str, settings: Settings) -> str:
    """A method with its settings as `s2s.load` takes it.

    >>> spec_of("nlm", {"h": 1.4, "patch": 7})
    'nlm:h=1.4,patch=7'
    """
    written = (f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items())
    return f"{name}:{','.join(written)}"


def _denoise(spec: str) -> Denoise:
    return functions({spec: load(spec)})[spec]


@dataclass(frozen=True)
class Job:
    """What a process needs to choose settings: where images come from; picklable."""

    scenes: Scenes

    def __call__(self) -> Callable[[tuple[str, By], Callable[[Any], None]], Choice]:
        """Return the function that chooses a method's settings in one way."""
        scenes = self.scenes.open()
        return lambda item, report: choose(*item, scenes, tell=lambda: report(None))


def choose(name: str, by: By, scenes: Sequence[Scene], *, tell: Callable[[], None] = lambda: None) -> Choice:
    """Choose a method's settings in one way, and measure how good they are.

    by: "truth", the highest mean PSNR; "self", the least mean squared error at hidden pixels; "default", none.
    tell: called for every settings that are tried.

    PSNR decides before the tone fit: a curve chosen knowing the truth forgives noise, so that it prefers filters that
    are too weak; and the error that can be measured without truth is the raw one, too.
    """
    start = time.perf_counter()
    kind = method_class(name)
    if by == "default":
        return _measured(Choice(name, by, name), scenes)
    measure = _psnrs if by == "truth" else _minus_errors

    def score(settings: Settings) -> float:
        tell()
        return float(np.mean(measure(_denoise(spec_of(name, settings)), scenes)))

    known = settings_of(kind)
    best, tried = search(kind.TUNING, {key: known[key] for key in kind.TUNING}, score)
    found = Choice(name, by, spec_of(name, best), evaluations=tried, at_end=at_end(kind.TUNING, best))
    return replace(_measured(found, scenes), seconds=time.perf_counter() - start)


def _psnrs(denoise: Denoise, scenes: Sequence[Scene]) -> list[float]:
    return [
        psnr(denoise(scene.noisy.copy()), scene.truth, scene.dynamic_range, scene.inside)
        for scene in scenes
        if scene.truth is not None
    ]


def _minus_errors(denoise: Denoise, scenes: Sequence[Scene]) -> list[float]:
    return [-self_error(denoise, scene.views, scene.dynamic_range) for scene in scenes]


def _measured(choice: Choice, scenes: Sequence[Scene]) -> Choice:
    """The choice with its scores."""
    denoise = _denoise(choice.spec)
    errors = zip(_minus_errors(denoise, scenes), scenes, strict=True)
    found = replace(choice, hidden=tuple(scene.dynamic_range * math.sqrt(-error) for error, scene in errors))
    fitted = []
    for scene in scenes:
        if scene.truth is not None:
            clean = tone_fit(denoise(scene.noisy.copy()), scene.truth, scene.dynamic_range, scene.inside)
            fitted.append(psnr(clean, scene.truth, scene.dynamic_range, scene.inside))
    return replace(found, psnr=tuple(_psnrs(denoise, scenes)), psnr_fit=tuple(fitted))


def tune(
    methods: Sequence[str],
    scenes: Scenes,
    *,
    workers: int = 1,
    listen: Callable[[Event], None] = lambda event: None,
    about: Mapping[str, Any] | None = None,
    by: Sequence[By] = (),
) -> Tuning:
    """Choose the settings of filters by the truth where there is one, and without it.

    methods: names.  workers: processes.  listen: told of every settings that are tried, and of every search that ends.
    by: the ways of choosing; all that the images allow for none.
    Raises ConfigError for a method that can't be tuned, DataError for images that can't serve, and ResourceError when
    a process was ended from outside.
    """
    names = refuse_methods(methods)
    # Hidden pixels take the longest, and the slow filters come last in the registry: a process that begins with them
    # is not the one that all wait for.
    items = [(name, way) for way in by or ways(scenes) for name in reversed(names)]
    found: dict[tuple[str, By], Choice] = {}

    def hear(event: Event) -> None:
        if event.kind == "lost":
            raise ResourceError(
                f"tune: the process that worked on {event.item[0]} was ended from outside, perhaps for want of memory; "
                "run it again with --workers 1"
            )
        if event.kind == "done":
            found[event.item] = event.value
        listen(event)

    map_items(Job(scenes), items, workers, hear)
    return Tuning(tuple(found[name, way] for name in names for way in WAYS if (name, way) in found), dict(about or {}))


def ways(scenes: Scenes) -> tuple[By, ...]:
    """The ways of choosing settings on such images, those that take longest first."""
    return ("self", "truth", "default") if scenes.has_truth else ("self", "default")
