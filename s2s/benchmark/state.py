"""The state of a benchmark in its folder: what was asked, and what is done.

plan.json      what was asked, with hashes of all that scores depend on; methods may be added, else another is refused
state.json     what is done: settings that were chosen, trainings that ended, seconds
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from s2s.benchmark.suite import Contender, Preset
from s2s.evaluation import files
from usim.errors import ConfigError, DataError
from usim.phantom.load import Phantom

PLAN, STATE = "plan.json", "state.json"


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


@dataclass
class Done:
    """What is done, as state.json holds it.

    settings: chosen, by contender.  trained: steps and seconds, by contender.  failed: why one is left out.  seconds:
    that the work took so far.
    """

    settings: dict[str, str] = field(default_factory=dict)
    trained: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Done:
        """The state of a folder, a fresh one where nothing is done; raises DataError for a damaged one."""
        path = folder / STATE
        if not path.exists():
            return cls()
        content = _mapping(path)
        kinds = {"settings": str, "trained": dict, "failed": str}
        sound = content.keys() <= {*kinds, "seconds"} and isinstance(content.get("seconds", 0.0), int | float)
        for name, kind in kinds.items():
            part = content.get(name, {})
            sound = sound and isinstance(part, dict) and all(isinstance(value, kind) for value in part.values())
        if not sound:
            raise _damaged(path, "it does not hold what is done")
        return cls(**content)

    def write(self, folder: Path) -> None:
        """Write state.json; raises ResourceError."""
        files.write_text(folder / STATE, json.dumps(asdict(self), indent=1) + "\n")


def plan_of(
    asked: Asked, preset: Preset, contenders: Iterable[Contender], phantoms: Mapping[str, Phantom], precision: str
) -> dict[str, Any]:
    """What a benchmark is to do, and all that its scores depend on beside the machine."""
    made = files.surroundings()["versions"]
    own = {key: value for key, value in asdict(preset).items() if key not in ("took", "fit")}
    return {
        **{key: value for key, value in asdict(asked).items() if key != "labels"},
        "preset": asked.preset,
        "precision": precision,
        "contenders": {
            one.label: _hash([asdict(one), dict(preset.fit.get(one.bare_method, {}))]) for one in contenders
        },
        "settings": _hash(own),
        "phantoms": {name: _hash(phantom.text) for name, phantom in phantoms.items()},
        "versions": {name: made[name] for name in ("s2s", "usim")},
    }


def open_folder(folder: Path, plan: dict[str, Any], *, resume: bool) -> Done:
    """What is done in a folder for a plan.

    Raises ConfigError for a folder that holds something else, or another plan; DataError for one without any.
    """
    path = folder / PLAN
    if not path.exists():
        if resume:
            raise DataError(f"{folder}: holds no benchmark to go on with; leave out --resume to begin one")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder}: holds something else; name a folder that is empty or not there yet")
        return Done()
    if not resume:
        raise ConfigError(f"{folder}: holds a benchmark; go on with it with --resume, or name another folder")
    stored = _mapping(path)
    if other := [key for key, value in plan.items() if not _goes_on(stored.get(key), value, key)]:
        told = ", ".join(_OTHER.get(key, f"{key} {stored.get(key)}") for key in other)
        raise ConfigError(f"{folder}: was begun with {told}; ask the same, or name another folder")
    return Done.read(folder)


def _goes_on(stored: Any, asked: Any, key: str) -> bool:
    """Whether what was begun is part of what is asked: methods may be added, with phantoms; nothing else may differ."""
    if key == "contenders" and isinstance(stored, dict):
        return all(asked.get(name) == value for name, value in stored.items())
    if key == "phantoms" and isinstance(stored, dict):
        return all(stored.get(name, value) == value for name, value in asked.items())
    return bool(stored == asked)


def write_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Write plan.json; raises ResourceError."""
    text = json.dumps(plan, indent=1) + "\n"
    if not (folder / PLAN).exists() or (folder / PLAN).read_text() != text:
        files.write_text(folder / PLAN, text)


#: Words for what is kept as a hash.
_OTHER = {
    "settings": "other settings of its preset",
    "contenders": "other methods, or other settings of them",
    "phantoms": "another text of its phantoms",
}


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path, f"{error}") from error
    if not isinstance(content, dict):
        raise _damaged(path, "no mapping")
    return content


def _damaged(path: Path, why: str) -> DataError:
    cure = "name another folder" if path.name == PLAN else "remove it, and --resume makes again what it told of"
    return DataError(f"{path}: damaged: {why}; {cure}")
