"""Judged scenes as files, so that an interrupted benchmark goes on where it was: JSON, and the pictures as NPZ."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from s2s.evaluation.export import finite
from s2s.evaluation.files import write_text
from s2s.evaluation.results import Failure, Picture, Row
from s2s.evaluation.run import Judgement
from usim.errors import DataError
from usim.io.atomic import write_atomic

#: What reading damaged JSON, or a damaged archive of arrays, raises.
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error)
#: Pictures are cut to so many pixels in the middle: reports hold those of some thirty methods.
SHOWN = 256


def save(path: Path, judgement: Judgement, known: Mapping[str, str]) -> None:
    """Write a judged scene to PATH.json, and its picture to PATH.npz; raises ResourceError.

    known: what each method was that was judged without a failure, by its label.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if judgement.picture is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **_arrays(judgement.picture))
        write_atomic(_ending(path, ".npz"), buffer.getvalue())
    content = {
        "suite": judgement.suite,
        "scene": judgement.scene,
        "rows": [asdict(row) for row in judgement.rows],
        "failures": [asdict(failure) for failure in judgement.failures],
        "swept": [[*place, dict(scores)] for place, scores in judgement.swept.items()],
        "known": dict(known),
        "dynamic_range": None if judgement.picture is None else judgement.picture.dynamic_range,
    }
    # Last: where it stands, all of the scene is there.
    write_text(_ending(path, ".json"), json.dumps(finite(content), allow_nan=False) + "\n")


def is_there(path: Path) -> bool:
    """Whether `save` wrote a judged scene to a path."""
    return _ending(path, ".json").exists()


def known(path: Path) -> dict[str, str]:
    """What each method was that `save` kept in a path, by its label; empty where nothing is kept."""
    return dict(_content(path)["known"]) if is_there(path) else {}


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_ending(path, ".json").read_text())
        if not isinstance(content["known"], dict):
            raise TypeError("known is no mapping")
    except _BROKEN as error:
        raise _damaged(path, error) from error
    return dict(content)


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}.json: damaged: {error}; remove it, and --resume judges the scene again")


def read(path: Path) -> Judgement:
    """The judged scene of `save`; raises DataError for files that are damaged."""
    content = _content(path)
    try:
        picture = None
        if content["dynamic_range"] is not None:
            with np.load(_ending(path, ".npz")) as arrays:
                picture = _picture(content, {name: arrays[name] for name in arrays.files})
        swept = {(method, label): _numbers(scores) for method, label, scores in content["swept"]}
        rows = [Row(**{**row, "seconds": _number(row["seconds"]), "scores": _numbers(row["scores"])})
                for row in content["rows"]]  # fmt: skip
        failures = [Failure(**failure) for failure in content["failures"]]
    except _BROKEN as error:
        raise _damaged(path, error) from error
    return Judgement(content["suite"], content["scene"], tuple(rows), tuple(failures), picture, swept)


def _ending(path: Path, ending: str) -> Path:
    """The path with an ending; names of suites may have dots of their own."""
    return path.with_name(path.name + ending)


def middle(picture: Picture) -> Picture:
    """The middle of a picture, as much of it as reports show."""
    rows, columns = (_middle(len(axis)) for axis in (picture.z, picture.x))
    return replace(
        picture,
        images={name: image[rows, columns] for name, image in picture.images.items()},
        x=picture.x[columns],
        z=picture.z[rows],
        maps={
            kind: {name: image[rows, columns] for name, image in images.items()}
            for kind, images in picture.maps.items()
        },
    )


def _arrays(picture: Picture) -> dict[str, Any]:
    arrays: dict[str, Any] = {"x": picture.x, "z": picture.z}
    # The order of a zip file's members is kept, and with it that of methods.
    for name, image in picture.images.items():
        arrays[f"image {name}"] = image.astype(np.float16)
    for kind, images in picture.maps.items():
        arrays |= {f"map {kind}|{name}": image.astype(np.float16) for name, image in images.items()}
    return arrays


def _middle(count: int) -> slice:
    first = max(0, (count - SHOWN) // 2)
    return slice(first, first + SHOWN)


def _picture(content: dict[str, Any], arrays: dict[str, Any]) -> Picture:
    images, maps = {}, {}  # type: ignore[var-annotated]
    for key, values in arrays.items():
        what, _, name = key.partition(" ")
        if what == "image":
            images[name] = values.astype(np.float32)
        elif what == "map":
            kind, _, method = name.partition("|")
            maps.setdefault(kind, {})[method] = values.astype(np.float32)
    place = (content["suite"], content["scene"])
    return Picture(*place, images, arrays["x"], arrays["z"], content["dynamic_range"], maps)


def _numbers(scores: dict[str, Any]) -> dict[str, float]:
    return {name: _number(value) for name, value in scores.items()}


def _number(value: float | None) -> float:
    """JSON holds neither nan nor infinity; both are None there, and no number here."""
    return float("nan") if value is None else float(value)
