"""Publish a training: its weights as safetensors, and a model card that says what they are, reach, and can't do.

    s2s publish runs/default -o default.safetensors --half
    s2s evaluate --sim -m default.safetensors -m nlm --json scores.json
    s2s publish runs/default -o default.safetensors --half --scores scores.json

The card of the second call holds the scores, of the same weights: it is checked by their sha256.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from s2s.checkpoint import BEST, Checkpoint, load_checkpoint
from s2s.methods import method_class
from s2s.methods.base import in_words
from s2s.published import WEIGHTS, published, write_weights
from s2s.recipes import read_recipe
from s2s.request import Request, training_of
from usim.errors import ConfigError, DataError
from usim.io.atomic import write_atomic
from usim.progress import human_time

#: Figures of an evaluation that a card shows: their names there, heads, and digits.
SHOWN = (
    ("psnr", "PSNR", 2),
    ("psnr_fit", "PSNR fit", 2),
    ("ms_ssim", "MS-SSIM", 3),
    ("edge_mm", "edge mm", 2),
    ("point_kept", "points kept", 2),
    ("contrast_slope", "slope", 3),
    ("enl", "ENL", 1),
)


def publish(run: Path, target: Path, *, half: bool = False, scores: Sequence[Path] = ()) -> tuple[Path, Path]:
    """Write the weights of a training, and beside them their card (.md); returns both paths.

    run: a folder of s2s train, or a checkpoint.  half: 16 bits a number.  scores: JSON files of s2s evaluate that
    judged these weights.
    Raises ConfigError for another ending, DataError for a checkpoint or scores that are not of these weights.
    """
    if target.suffix != WEIGHTS:
        raise ConfigError(f"{target}: published weights end with {WEIGHTS}; name it so")
    if not run.exists():
        what = "are published weights already" if str(run) in published() else "no such file or folder"
        raise DataError(f"{run}: {what}; name the folder of a training, or a checkpoint in it such as runs/mine/{BEST}")
    checkpoint = load_checkpoint(run / BEST if run.is_dir() else run)
    about = _about(checkpoint)
    judged = [_scores(path) for path in scores]
    digest = write_weights(target, checkpoint.method, about, half=half)
    card = target.with_suffix(".md")
    lines = _card(target.stem, checkpoint, about, digest, target.stat().st_size, half)
    for path, evaluation in zip(scores, judged, strict=True):
        lines += _judged(path, evaluation, digest)
    write_atomic(card, ("\n".join(lines) + "\n").encode())
    return target, card


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is told about a training, without the paths of the machine that it ran on."""
    request, phantom = checkpoint.about["request"], checkpoint.about["phantom"]
    bare = {key: Path(request[key]).name for key in ("phantom", "recipe")}
    request = {**request, **bare, "data": [Path(path).name for path in request["data"]]}
    return {**checkpoint.about, "request": request, "phantom": {key: phantom[key] for key in ("source", "text")}}


def _scores(path: Path) -> dict[str, Any]:
    try:
        evaluation = json.loads(path.read_text())
        return {key: evaluation[key] for key in ("about", "methods", "rows")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: no evaluation; name a file of s2s evaluate --json") from error


def _card(name: str, checkpoint: Checkpoint, about: Mapping[str, Any], digest: str, size: int, half: bool) -> list[str]:
    request, method = checkpoint.about["request"], checkpoint.method
    recipe = read_recipe(request["recipe"]) if request.get("recipe") else None
    settings = ", ".join(f"{key} {value}" for key, value in method.settings.items())
    learnt = f"`{about['phantom']['source']}`, simulated on the fly"
    if request["data"]:
        learnt = "images in files: " + ", ".join(f"`{Path(path).name}`" for path in request["data"])
    versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
    command = f"s2s train --recipe {Path(request['recipe']).name} -o runs/{name}" if recipe else "s2s train"
    return [
        f"# {name}",
        "",
        *([recipe.description, ""] if recipe else []),
        "| | |",
        "|---|---|",
        f"| method | {method.name}: {settings} |",
        f"| learnt from | {' and '.join(map(in_words, method.needs))} |",
        f"| data | {learnt} |",
        f"| steps | {about['step']} of {_pixels(checkpoint)} |",
        f"| time, machine | {human_time(about['seconds'])} on {about['machine']} |",
        f"| seed | {request['seed']} |",
        f"| versions | {versions} |",
        f"| size | {method.parameter_count():,} parameters of {16 if half else 32} bits, {size / 1e6:.2f} MB |",
        f"| sha256 | `{digest}` |",
        f"| made by | `{command}` |",
        *([f"| note | {about['note']} |"] if "note" in about else []),
        "",
        "**Not a medical device: not for diagnosis.**",
        *(
            f"\n- {limit}" if not number else f"- {limit}"
            for number, limit in enumerate(recipe.limits if recipe else ())
        ),
    ]


def _pixels(checkpoint: Checkpoint) -> str:
    request = checkpoint.about["request"]
    training = training_of(method_class(request["method"]), Request(**request))
    return f"{training.batch} crops of {training.crop} x {training.crop} pixels"


def _judged(path: Path, evaluation: Mapping[str, Any], digest: str) -> list[str]:
    """Scores as tables: means over all scenes, and PSNR by suite."""
    about = evaluation["about"]
    own = [label for label, one in about["method"].items() if one["checkpoint_sha256"] == digest]
    if not own:
        raise DataError(f"{path}: judges other weights than these, {digest[:12]}; evaluate the file that was published")
    rows = [one["name"] for one in evaluation["methods"] if not one["control"]]
    by_name = {one["name"]: one["metrics"] for one in evaluation["methods"]}
    shown = [known for known in SHOWN if known[0] in by_name[own[0]]]
    lines = ["", f"## Scores: {about['frames']}", ""]
    lines += [f"`{about['command']}`", ""] if "command" in about else []
    lines += [_line(["", *(head for _, head, _ in shown)]), "|---" * (len(shown) + 1) + "|"]
    for name in rows:
        means = (_figure(by_name[name].get(key, {}).get("mean"), digits) for key, _, digits in shown)
        lines.append(_line([f"**{name}**" if name in own else name, *means]))
    suites = sorted({row["suite"] for row in evaluation["rows"]})
    lines += ["", "PSNR in dB by suite:", "", _line(["", *(suite.rpartition("/")[2] for suite in suites)])]
    lines.append("|---" * (len(suites) + 1) + "|")
    for name in rows:
        lines.append(
            _line([f"**{name}**" if name in own else name, *(_mean(evaluation, name, suite) for suite in suites)])
        )
    return lines


def _mean(evaluation: Mapping[str, Any], method: str, suite: str) -> str:
    scored = [
        row["scores"].get("psnr") for row in evaluation["rows"] if (row["method"], row["suite"]) == (method, suite)
    ]
    known = [value for value in scored if value is not None]
    return _figure(sum(known) / len(known) if known else None, 2)


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
