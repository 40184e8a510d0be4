"""Judging denoisers: every one sees the same frames, and every metric sees images without names.

>>> evaluation = evaluate({"nlm": s2s.load("nlm").denoise}, simulated_frames("training", 1000, 4))  # doctest: +SKIP
>>> print(table(evaluation))  # doctest: +SKIP
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2s.domain import LOWEST_DB, Domain
from s2s.metrics.frame_view import FrameView
from s2s.metrics.score import DEFINITIONS, score_image
from usim.errors import ConfigError, DataError, ResourceError
from usim.frame import Frame

if TYPE_CHECKING:
    from s2s.denoise import Denoiser

Image = NDArray[np.float32]
Denoise = Callable[[Image], NDArray[Any]]

#: The row of the untouched images.
NOISY = "noisy"
#: What tables show where a metric could not be measured.
MISSING = "-"
#: Far from the seeds that phantoms and tutorials start with, so that nobody judges on frames that were trained on.
DEFAULT_SEED = 1000
DEFAULT_FRAMES = 12
PICTURE_FILES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".npy", ".npz", ".dcm"})


@dataclass(frozen=True)
class Row:
    """One method on one frame: the scores by metric, and the seconds that the method took."""

    method: str
    frame: int
    seconds: float
    scores: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame kept to be looked at: images (H, W) in dB by method, the truth last; axes in metres."""

    frame: int
    images: Mapping[str, Image]
    x: NDArray[np.float64]
    z: NDArray[np.float64]
    dynamic_range: float


@dataclass(frozen=True)
class Statistics:
    """Of one metric over the frames where it could be measured: mean, standard deviation (nan for one), their count."""

    mean: float
    std: float
    count: int


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` found: methods (the noisy images first), a row for each and each frame, and some pictures.

    about: plain JSON data on where the frames came from and what ran.
    """

    methods: tuple[str, ...]
    rows: tuple[Row, ...]
    pictures: tuple[Picture, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.rows) // len(self.methods)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics, in the order in which they were first met."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.scores))

    def values(self, method: str, metric: str) -> NDArray[np.float64]:
        """One metric of one method, frame by frame; nan where it could not be measured."""
        return np.array([row.scores.get(metric, math.nan) for row in self.rows if row.method == method])

    def statistics(self, method: str, metric: str) -> Statistics:
        """Mean and standard deviation of a metric over the frames where it could be measured."""
        values = self.values(method, metric)
        values = values[~np.isnan(values)]
        mean = float(values.mean()) if values.size else math.nan
        spread = values.size > 1 and bool(np.isfinite(values).all())
        return Statistics(mean, float(values.std(ddof=1)) if spread else math.nan, values.size)

    def seconds(self, method: str) -> float:
        """Median seconds per frame: the first frame often pays for imports and compilation."""
        return float(np.median([row.seconds for row in self.rows if row.method == method]))


def evaluate(
    denoisers: Mapping[str, Denoise],
    frames: Iterable[Frame],
    *,
    pictures: int = 3,
    progress: Callable[[int], None] = lambda done: None,
    about: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Run every denoiser on every frame and score what comes out.

    denoisers: functions by name, from an image (H, W) in dB, as a scanner shows it (clipped to [-dynamic range, 0]), to
    an image of the same shape and meaning. The row "noisy", the image untouched, comes before them.  frames: taken one
    at a time, each once.  pictures: how many frames are kept to be looked at, from the first.  progress: called with
    the number of frames that are done.  about: told in reports as it is.

    Raises ConfigError for the name "noisy", DataError for no frames, and for an image of another shape or with nan
    or inf, naming the denoiser.

    >>> evaluate({"blur": lambda image: gaussian_filter(image, 2)}, frames)  # doctest: +SKIP
    """
    if NOISY in denoisers:
        raise ConfigError(f"method: the name {NOISY!r} is that of the untouched images; choose another")
    methods: dict[str, Denoise] = {NOISY: np.copy, **denoisers}
    rows: list[Row] = []
    kept: list[Picture] = []
    for number, frame in enumerate(frames):
        view = FrameView.of(frame)
        noisy = np.clip(frame.bmode, -view.dynamic_range, 0.0).astype(np.float32)
        images: dict[str, Image] = {}
        for name, denoise in methods.items():
            images[name], seconds = _run(f"{name}, frame {number}", denoise, noisy)
            rows.append(Row(name, number, seconds, score_image(images[name], view)))
        if number < pictures:
            images["truth"] = view.truth_db.astype(np.float32)
            kept.append(Picture(number, images, view.x, view.z, view.dynamic_range))
        progress(number + 1)
    if not rows:
        raise DataError("evaluate: there are no frames; ask for one or more")
    return Evaluation(tuple(methods), tuple(rows), tuple(kept), dict(about or {}))


def _run(name: str, denoise: Denoise, noisy: Image) -> tuple[Image, float]:
    """The image that a denoiser makes of a copy of its own, and the seconds it took."""
    given = noisy.copy()
    start = time.perf_counter()
    try:
        result = np.asarray(denoise(given))
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    seconds = time.perf_counter() - start
    if result.shape != noisy.shape:
        raise DataError(f"{name}: it made an image of shape {result.shape} from {noisy.shape}; the shape must stay")
    wrong = int((~np.isfinite(result)).sum())
    if wrong:
        raise DataError(
            f"{name}: {wrong} of its {result.size} pixels are nan or infinite; every pixel must be a number"
        )
    return result.astype(np.float32), seconds


def load_denoisers(specs: Sequence[str], device: str = "cpu") -> dict[str, Denoiser]:
    """Denoisers by label: what was asked for, with the method's name before a checkpoint's path.

    Raises ConfigError for one that is asked for twice, and what `s2s.load` raises.
    """
    from s2s.denoise import load

    found: dict[str, Denoiser] = {}
    for spec in specs:
        denoiser = load(spec, device=device)
        label = f"{denoiser.name} ({spec.rstrip('/')})" if denoiser.checkpoint else spec
        if label in found:
            raise ConfigError(f"--method: {spec!r} is given twice; name each method once")
        found[label] = denoiser
    return found


def functions(denoisers: Mapping[str, Denoiser]) -> dict[str, Denoise]:
    """What `evaluate` takes. Images are clipped to their frame's dynamic range already: nothing more is cut off."""
    return {label: partial(denoiser.denoise, domain=Domain("db", -LOWEST_DB)) for label, denoiser in denoisers.items()}


def simulated_frames(phantom: str | Path, seed: int, frames: int) -> Iterator[Frame]:
    """The first frames of a phantom, simulated as they are asked for; raises ConfigError at once for a bad phantom."""
    from usim.streams import stream

    return itertools.islice(stream(phantom, seed=seed), frames)


def stored_frames(path: str | Path, frames: int | None = None) -> Sequence[Frame]:
    """The frames of a dataset folder or shard that usim wrote, or the first few of them; each is read when it is used.

    Raises DataError at once for files without truth, such as pictures, and for missing or damaged ones.
    """
    from usim.io.dataset import open_frames

    source = Path(path)
    inside = list(source.iterdir()) if source.is_dir() else [source]
    suffixes = {file.suffix.lower() for file in inside}
    if suffixes & PICTURE_FILES and not suffixes & {".h5", ".json"}:
        raise DataError(
            f"{source}: pictures come without a truth to score against; make frames with usim generate, or look at "
            "what a method makes of pictures with s2s denoise"
        )
    return open_frames(source)[:frames]


def origin(source: str, denoisers: Mapping[str, Denoiser], command: str = "") -> dict[str, Any]:
    """What reports tell about an evaluation: where frames came from, what each method is, versions, date, command."""
    libraries = ("torch", "numpy", "scipy", "scikit-image")
    from s2s import __version__ as s2s_version
    from usim import __version__ as usim_version

    about: dict[str, Any] = {
        "frames": source,
        "method": {label: denoiser.describe() for label, denoiser in denoisers.items()},
        "versions": {"s2s": s2s_version, "usim": usim_version, **{name: version(name) for name in libraries}},
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    return {**about, "command": command} if command else about


def refuse_target(path: Path | None, ending: str) -> None:
    """Find out before the long work whether an output can be written; nothing is made.

    Raises ConfigError for another ending or a folder, ResourceError where no file can be made.
    """
    if path is None:
        return
    if path.suffix.lower() != ending:
        raise ConfigError(f"{path}: it will be written as {ending[1:].upper()}; end its name with {ending}")
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ConfigError(f"{path}: {folder} is no folder; choose another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(f"{path}: cannot write: no permission; choose a folder that you may write to")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, and the folders on the way to it; raises ResourceError when that fails."""
    from usim.io.atomic import no_room, write_atomic

    data = text.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_room(path.parent, error, len(data)) from error
    write_atomic(path, data)


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as JSON: about, definitions, statistics by method, and every row; nan and inf become null."""
    content = {
        "format": "s2s-evaluation/1",
        "about": dict(evaluation.about),
        "definitions": dict(DEFINITIONS),
        "methods": [
            {
                "name": method,
                "seconds_per_frame": evaluation.seconds(method),
                "metrics": {name: asdict(evaluation.statistics(method, name)) for name in evaluation.metrics},
            }
            for method in evaluation.methods
        ],
        "rows": [asdict(row) for row in evaluation.rows],
    }
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def finite(content: Any) -> Any:
    """Plain data as JSON can hold it: None for nan and infinity."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@dataclass(frozen=True)
class Column:
    """How a metric is shown: title, name, decimals, the metric of the truth to put beside it.

    judged: whether the best of it may be marked. Only PSNR: on scenes that are mostly flat a strong blur wins SSIM, ENL
    and Hom (measured, docs/evaluation.md).
    """

    title: str
    metric: str
    digits: int
    beside: str = ""
    judged: bool = False

    def mean(self, evaluation: Evaluation, method: str) -> str:
        """The mean over frames as text, with the truth's in brackets."""
        text = number(evaluation.statistics(method, self.metric).mean, self.digits)
        if self.beside and text != MISSING:
            text += f" ({number(evaluation.statistics(method, self.beside).mean, self.digits)})"
        return text

    def spread(self, evaluation: Evaluation, method: str) -> str:
        """The standard deviation over frames as text; empty where there is none."""
        text = number(evaluation.statistics(method, self.metric).std, self.digits)
        return "" if text == MISSING else f"±{text}"


COLUMNS = (
    Column("PSNR", "psnr", 2, judged=True),
    Column("PSNR fit", "psnr_fit", 2, judged=True),
    Column("SSIM", "ssim", 3),
    Column("SSIM fit", "ssim_fit", 3),
    Column("ENL", "enl", 1),
    Column("gCNR (true)", "gcnr", 3, beside="gcnr_true"),
    Column("edge mm (true)", "edge_mm", 2, beside="edge_true_mm"),
    Column("Hom* (true)", "hom", 3, beside="hom_true"),
)


def number(value: float, digits: int) -> str:
    """A number as tables show it: "-" where there is none."""
    if math.isnan(value):
        return MISSING
    return f"{value:.{0 if abs(value) >= 1000 else digits}f}"


def region_names(evaluation: Evaluation) -> list[str]:
    """Names of the regions whose gCNR was measured in any frame."""
    return [metric.partition("/")[2] for metric in evaluation.metrics if metric.startswith("gcnr/")]


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the table must know: what is in the cells, and what could not be measured."""
    over = f"mean and ±standard deviation over {evaluation.frames} frames" if evaluation.frames > 1 else "one frame"
    lines = [f"{over}; fit: after the best tone curve", "* any blur raises Hom, and it knows no truth"]
    for title, metric, skipped in (("gCNR", "gcnr", "gcnr_skipped"), ("edge", "edge_mm", "edge_skipped")):
        counts = {evaluation.statistics(method, metric).count for method in evaluation.methods}
        left_out = [evaluation.values(method, skipped).sum() for method in evaluation.methods]
        if min(counts) < evaluation.frames or max(left_out):
            frames = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
            regions = " to ".join(f"{count:.0f}" for count in sorted({min(left_out), max(left_out)}))
            lines.append(f"{title}: measured in {frames} of {evaluation.frames} frames; {regions} regions left out")
    return lines


def table(evaluation: Evaluation) -> str:
    """The evaluation as text of some 100 columns: a row of means and one of standard deviations for each method.

    Where regions have several names, a second table has the gCNR of each beside its true value.
    """
    rows = [["method", *(column.title for column in COLUMNS), "ms/frame"]]
    for method in evaluation.methods:
        milliseconds = number(1e3 * evaluation.seconds(method), 1)
        rows.append([method, *(column.mean(evaluation, method) for column in COLUMNS), milliseconds])
        spreads = [column.spread(evaluation, method) for column in COLUMNS]
        rows += [["", *spreads, ""]] if any(spreads) else []
    parts = [_aligned(rows)]
    names = region_names(evaluation)
    if len(names) > 1:
        rows = [["gCNR of", "true", *evaluation.methods]]
        for name in names:
            true = number(evaluation.statistics(NOISY, f"gcnr_true/{name}").mean, 3)
            found = (evaluation.statistics(method, f"gcnr/{name}").mean for method in evaluation.methods)
            rows.append([name, true, *(number(value, 3) for value in found)])
        parts.append(_aligned(rows))
    return "\n\n".join([*parts, "\n".join(notes(evaluation))])


def _aligned(rows: list[list[str]]) -> str:
    """Rows of cells as text: the first column to the left, the others to the right."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if k else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
