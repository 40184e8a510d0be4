"""What a tuning found: settings by method and by the way they were chosen, as a table and as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from s2s.denoise import load
from s2s.evaluation.statistics import Interval, interval
from s2s.evaluation.table import aligned
from s2s.methods import split_spec
from usim.errors import ConfigError, DataError

#: First field of the file, with the version of what follows.
FORMAT = "s2s-tuning/1"
#: The way settings were chosen: by the truth, without it, or not at all.
By = Literal["truth", "self", "default"]
#: What follows a method in tables of an evaluation.
LABELS: Mapping[By, str] = {"truth": "tuned", "self": "self-tuned"}
#: With so many images of 256 x 256 the choice without truth was near that by the truth, for all eight filters.
ENOUGH = 8


@dataclass(frozen=True)
class Choice:
    """The settings of one method that were chosen in one way, and how good they are.

    spec: the method with its settings, as `s2s.load` takes it.  psnr, psnr_fit: of each scene, in dB; empty without
    truth.  hidden: rms error at hidden pixels in dB, noise included, of each image; empty where it was not measured.
    evaluations: settings that were tried.  seconds: the search took.  at_end: settings whose best value is the first
    or last of those that were tried.
    """

    method: str
    by: By
    spec: str
    psnr: tuple[float, ...] = ()
    psnr_fit: tuple[float, ...] = ()
    hidden: tuple[float, ...] = ()
    evaluations: int = 1
    seconds: float = 0.0
    at_end: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tuning:
    """Choices of all methods; about: plain JSON data on the scenes, the versions and the command."""

    choices: tuple[Choice, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(dict.fromkeys(choice.method for choice in self.choices))

    def choice(self, method: str, by: By) -> Choice | None:
        """What was chosen for a method in one way; None when that way was not gone."""
        found = [choice for choice in self.choices if (choice.method, choice.by) == (method, by)]
        return found[0] if found else None


def mean(values: Sequence[float]) -> Interval:
    """The mean over scenes with its bootstrap interval."""
    return interval(np.array(values, dtype=np.float64), np.zeros(len(values), dtype=np.intp))


def table(tuning: Tuning) -> str:
    """Three rows for each method: chosen by the truth, without it, and the default; then what a reader must know."""
    with_truth = any(choice.psnr for choice in tuning.choices)
    heads = ["PSNR", "PSNR fit", "over default"] if with_truth else ["error at hidden pixels", "over default"]
    rows = [["chosen by", "setting", *heads, "tried", "s"]]
    warnings = []
    for method in tuning.methods:
        default = tuning.choice(method, "default")
        for by in ("truth", "self", "default"):
            choice = tuning.choice(method, by)
            if choice is None or default is None:
                continue
            shown = [choice.psnr, choice.psnr_fit] if with_truth else [choice.hidden]
            over = np.subtract(choice.psnr, default.psnr) if with_truth else np.subtract(default.hidden, choice.hidden)
            cells = [_cell(values) for values in shown] + ["" if by == "default" else _cell(over.tolist(), "+")]
            rows.append([by, choice.spec, *cells, f"{choice.evaluations}", f"{choice.seconds:.1f}"])
            warnings += [
                f"{choice.spec}: {key} lies at the end of what was tried; there may be better beyond"
                for key in choice.at_end
            ]
    scenes = len(next(iter(tuning.choices)).psnr or next(iter(tuning.choices)).hidden)
    notes = ["dB, one image: no intervals"]
    if scenes > 1:
        notes = [f"dB, means over {scenes} images, with 95 % bootstrap intervals"]
    if scenes < ENOUGH:
        notes.append(f"fewer than {ENOUGH} images: the choice without truth is a matter of luck; more make it surer")
    return "\n\n".join([aligned(rows, left=2), "\n".join([*notes, *warnings])])


def _cell(values: Sequence[float], sign: str = "") -> str:
    found = mean(values)
    around = "" if math.isnan(found.low) else f" ({found.low:{sign}.2f}..{found.high:{sign}.2f})"
    return f"{found.mean:{sign}.2f}{around}"


def to_json(tuning: Tuning) -> str:
    """The file that `s2s evaluate -m` reads: specs by method, and all scores."""
    methods = {}
    for method in tuning.methods:
        chosen = {by: tuning.choice(method, by) for by in ("truth", "self", "default")}
        specs = {by: choice.spec if choice else None for by, choice in chosen.items() if by != "default"}
        methods[method] = {**specs, "scores": {by: _scores(choice) for by, choice in chosen.items() if choice}}
    return json.dumps({"format": FORMAT, "about": dict(tuning.about), "methods": methods}, indent=1, allow_nan=False)


def _scores(choice: Choice) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name in ("psnr", "psnr_fit", "hidden"):
        values = getattr(choice, name)
        if values:
            found = mean(values)
            ends = None if math.isnan(found.low) else [found.low, found.high]
            scores[name] = {"mean": found.mean, "interval": ends, "scenes": list(values)}
    return {
        **scores,
        "evaluations": choice.evaluations,
        "seconds": round(choice.seconds, 3),
        "at_end": list(choice.at_end),
    }


def read_specs(path: Path) -> list[tuple[str, str]]:
    """(label, spec) of all tuned methods of a file that `s2s tune -o` wrote; one of two equal settings.

    Raises DataError for a file that is missing, damaged, or something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}; name a file that s2s tune -o wrote") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON, or a damaged one ({error}); make it anew with s2s tune -o") from error
    kind = content.get("format") if isinstance(content, dict) else None
    if kind != FORMAT:
        raise DataError(f"{path}: its format is {kind!r}, not {FORMAT!r}; name a file that s2s tune -o wrote")
    methods = content.get("methods")
    if not isinstance(methods, dict) or not methods:
        raise DataError(f"{path}: holds no methods; make it anew with s2s tune -o")
    found = []
    for name, entry in methods.items():
        specs = {by: entry.get(by) if isinstance(entry, dict) else None for by in LABELS}
        given = {by: spec for by, spec in specs.items() if spec is not None}
        if not given or not all(isinstance(spec, str) and split_spec(spec)[0] == name for spec in given.values()):
            raise DataError(f"{path}: methods.{name}: holds no settings of it; make it anew with s2s tune -o")
        for spec in given.values():
            _refuse_settings(path, name, spec)
        chosen = {by: spec for by, spec in given.items() if by == "truth" or spec != given.get("truth")}
        found += [(f"{spec} ({LABELS[by]})", spec) for by, spec in chosen.items()]
    return found


def _refuse_settings(path: Path, name: str, spec: str) -> None:
    """Raise DataError that names the file for settings that the method does not have."""
    try:
        load(spec)
    except ConfigError as error:
        raise DataError(f"{path}: methods.{name}: {error}; make it anew with s2s tune -o") from error
