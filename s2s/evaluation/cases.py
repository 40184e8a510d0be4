"""What is judged: scenes, each with the images that a method is given and what may be known of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2s.alike import frames_alike
from s2s.evaluation.robustness import changed_images
from s2s.images import READERS
from s2s.metrics.frame_view import FrameView
from s2s.metrics.judged import CHANGED, IMAGE, LOOK, PROBE, SHAM
from s2s.recordings import TRAIN
from s2s.seeds import judged_seed
from usim.errors import DataError
from usim.frame import Frame
from usim.io.dataset import open_frames, rows_of
from usim.phantom.load import Phantom, load_phantom, phantom_from_dict
from usim.pipeline import Renderer

Image = NDArray[np.float32]

#: Endings of files that hold images without a truth, whether they can be read or not.
PICTURE_FILES = (frozenset(READERS) | {".bmp", ".npz", ".dcm"}) - {".h5", ".hdf5"}


@dataclass(frozen=True, eq=False)
class Task:
    """One image that a method is given.

    role: see s2s.metrics.judged.  given: the image (h, w) in dB, clipped to [-dynamic range, 0].  view: of the scene.
    undo: brings what the method made of `given` to the pixels and the scale of the view.
    """

    role: str
    given: Image
    view: FrameView
    undo: Callable[[Image], Image] = lambda image: image


@dataclass(frozen=True, eq=False)
class Case:
    """One scene of a suite.

    suite: the name of its phantom.  scene: its number there.  frames: by role, that of `IMAGE` first.
    changed: whether methods are also given the image with another gain, size and so on.
    swept: whether methods are also run at other strengths.
    """

    suite: str
    scene: int
    frames: Mapping[str, Frame]
    changed: bool = False
    swept: bool = False

    def __post_init__(self) -> None:
        """Raise DataError for looks that do not lie on the same pixels: they can't be draws of one scene."""
        first = self.frames[IMAGE]
        for role, frame in self.frames.items():
            if role.startswith(LOOK) and not _same_pixels(first, frame):
                raise DataError(
                    f"{self.suite}, scene {self.scene}: {role} has {_pixels_of(frame)}, the first look "
                    f"{_pixels_of(first)}; looks of a scene must have the same: keep runs of usim generate in folders "
                    "of their own"
                )

    def tasks(self) -> Iterator[Task]:
        """Every image that a method is given, the one that all metrics judge first."""
        for role, frame in self.frames.items():
            view = FrameView.of(frame)
            yield Task(role, view.noisy_db.astype(np.float32), view)
            if role == IMAGE and self.changed:
                for one in changed_images(frame.bmode.astype(np.float64), view):
                    yield Task(CHANGED + one.name, one.given, one.view, one.undo)


@dataclass(frozen=True)
class Suite:
    """A shipped phantom of the evaluation, and the further images of each scene that methods are given.

    sham: the same places in tissue alone, all regions having its echogenicity.  looks: further independent draws.
    probe: the same anatomy through this one, as a phantom describes it.  changed: of how many scenes, the first,
    methods are also given the image with another gain, size and so on.  swept: see Case.
    """

    phantom: str
    sham: bool = False
    looks: int = 0
    probe: Mapping[str, Any] | None = None
    changed: int = 0
    swept: bool = False


#: A second probe that no training phantom has: coarser speckle than that of all suites, and a lower frequency.
OTHER_PROBE: Mapping[str, Any] = {
    "name": "linear, 4.1 MHz", "elements": 128, "pitch": "0.3 mm", "element_width": "0.26 mm",
    "element_height": "8 mm", "elevation_focus": "28 mm", "center_frequency": "4.1 MHz", "fractional_bandwidth": 0.6,
}  # fmt: skip
#: The suites that `--sim evaluation` stands for.
SUITES = (
    Suite("evaluation/scenes", looks=3, probe=OTHER_PROBE, changed=4),
    Suite("evaluation/speckle-only"),
    Suite("evaluation/lesions", sham=True, swept=True),
    Suite("evaluation/wires"),
    Suite("evaluation/edges"),
    Suite("evaluation/contrast-ladder"),
    Suite("evaluation/shadows"),
)
#: What stands for all of them.
ALL = "evaluation"
DEFAULT_SEED, DEFAULT_SCENES = 0, 12


def suites_of(name: str) -> tuple[Suite, ...]:
    """The suites that a name stands for: all of them, one of them, or any other phantom by itself."""
    return SUITES if name == ALL else tuple(suite for suite in SUITES if suite.phantom == name) or (Suite(name),)


class Source(Protocol):
    """Where scenes come from: a list of their places, picklable, and a way to make each."""

    @property
    def items(self) -> Sequence[tuple[str, int]]:
        """(suite, scene) of every scene."""

    def open(self) -> Callable[[tuple[str, int]], Case]:
        """Return the function that makes a scene; called once in each process."""


@dataclass(frozen=True)
class Simulated:
    """The first scenes of each suite, simulated when they are asked for.

    engine: `psf` or `sir`; the phantom's own when empty.  seed_of: from `seed` to that of the simulator.
    """

    suites: tuple[Suite, ...] = SUITES
    scenes: int = DEFAULT_SCENES
    seed: int = DEFAULT_SEED
    engine: str = ""
    seed_of: Callable[[int], int] = judged_seed

    @property
    def items(self) -> Sequence[tuple[str, int]]:
        """(suite, scene) of every scene, the first scenes of all suites first."""
        return [(suite.phantom, scene) for scene in range(self.scenes) for suite in self.suites]

    def open(self) -> Callable[[tuple[str, int]], Case]:
        """Return the function that simulates a scene; raises ConfigError for a bad phantom."""
        stages = {suite.phantom: self._stage(suite) for suite in self.suites}
        return lambda item: stages[item[0]](item[1])

    def _stage(self, suite: Suite) -> Callable[[int], Case]:
        """The function that simulates a scene of a suite."""
        phantom = _with(load_phantom(suite.phantom), **({"engine": self.engine} if self.engine else {}))
        seed = self.seed_of(self.seed)
        renderer, others = Renderer(phantom, seed=seed), {}
        if suite.sham:
            regions = [{**region, "echogenicity": "0 dB"} for region in phantom.document["regions"]]
            others[SHAM] = Renderer(_with(phantom, regions=regions), seed=seed)
        if suite.probe:
            others[PROBE] = Renderer(_with(phantom, probe=suite.probe), seed=seed)

        def case(scene: int) -> Case:
            frames = {IMAGE: renderer.render(scene)}
            # Another look: what is judged and what it is compared with share no speckle.
            frames |= {role: other.render(scene, 1) for role, other in others.items()}
            frames |= {f"{LOOK}{look}": renderer.render(scene, look) for look in range(1, suite.looks + 1)}
            return Case(suite.phantom, scene, frames, scene < suite.changed, suite.swept)

        return case


@dataclass(frozen=True)
class Stored:
    """The scenes of a dataset folder or shard that usim wrote, or the first few; frames of one scene are its looks.

    Of a folder with a split, the part `train`, which s2s learns from, is left out.

    Raises DataError for files without truth, such as pictures, and for missing or damaged ones.
    """

    path: Path
    scenes: int | None = None

    def __post_init__(self) -> None:
        inside = list(self.path.iterdir()) if self.path.is_dir() else [self.path]
        suffixes = {file.suffix.lower() for file in inside}
        if suffixes & PICTURE_FILES and not suffixes & {".h5", ".json"}:
            raise DataError(
                f"{self.path}: pictures come without a truth to score against; make frames with usim generate, or see "
                "what can be said without a truth: s2s evaluate --real"
            )
        open_frames(self.path)

    @cached_property
    def _looks(self) -> list[list[int]]:
        """Numbers of the frames of each scene, its first look first."""
        parts = rows_of(self.path)
        learned = parts.get(TRAIN, range(0)) if len(parts) > 1 else range(0)
        groups = ([n for n in group if n not in learned] for group in frames_alike(self.path, "look"))
        return [group for group in groups if group][: self.scenes]

    @property
    def items(self) -> Sequence[tuple[str, int]]:
        """(name of the folder, number) of every scene; slices, angles and times count as scenes of their own."""
        return [(self.path.name, number) for number in range(len(self._looks))]

    def open(self) -> Callable[[tuple[str, int]], Case]:
        """Return the function that reads a scene."""
        frames = open_frames(self.path)

        def case(item: tuple[str, int]) -> Case:
            first, *others = self._looks[item[1]]
            looks = {f"{LOOK}{k}": frames[number] for k, number in enumerate(others, start=1)}
            return Case(*item, {IMAGE: frames[first], **looks})

        return case


def cases_of(source: Source) -> Iterator[Case]:
    """Every scene of a source, made when it is asked for."""
    return map(source.open(), source.items)


def _same_pixels(first: Frame, second: Frame) -> bool:
    return all(np.array_equal(getattr(first.axes, name), getattr(second.axes, name)) for name in ("x", "z"))


def _pixels_of(frame: Frame) -> str:
    (depth, width), (z, x) = frame.bmode.shape, (np.ptp(axis) * 1e3 for axis in (frame.axes.z, frame.axes.x))
    return f"{depth} x {width} pixels over {z:.4g} x {x:.4g} mm"


def _with(phantom: Phantom, **changes: Any) -> Phantom:
    """The phantom with some keys of its document replaced; messages name it and them."""
    if not changes:
        return phantom
    source = f"{phantom.source} with another {', '.join(changes)}"
    return phantom_from_dict({**phantom.document, **changes}, base=phantom.base, source=source)
