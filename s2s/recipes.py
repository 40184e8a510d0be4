"""Recipes: everything that a training is asked to do, in a YAML file, so that one command makes the weights again.

    s2s train --recipe default -o runs/default

A recipe has a `description` (one sentence), `limits` (what the weights can't do, for the card), and the fields of
`s2s.request.Request`; those that are left out keep their defaults.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from s2s.published import FOLDER
from s2s.request import Request
from usim.errors import ConfigError
from usim.phantom.strict_yaml import Mark, decode, pointed, read_yaml
from usim.units import did_you_mean


@dataclass(frozen=True)
class Recipe:
    """A training with a name, what it is for, and what its weights can't do."""

    name: str
    description: str
    limits: tuple[str, ...]
    request: Request


def recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def read_recipe(name: str) -> Recipe:
    """The recipe of a name, or of a file that ends with .yaml.

    Raises ConfigError for one that is not there, or says what no training knows.
    """
    path = Path(name).absolute() if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = recipes()
        raise ConfigError(
            f"recipe: {name!r} is unknown{did_you_mean(name, known)}; allowed are {', '.join(known)}, or a file"
        )
    text = decode(path.read_bytes(), path.name)
    marked = read_yaml(text, path.name)
    if not isinstance(marked.data, dict):
        raise ConfigError(f"{path}: expected a mapping with description, method and phantom")
    fields = {field.name for field in dataclasses.fields(Request)} - {"recipe"}
    for key in marked.data:
        if key not in fields | {"description", "limits"}:
            message = f"{key!r} is unknown{did_you_mean(key, fields)}; allowed are {', '.join(sorted(fields))}"
            raise ConfigError(pointed(path.name, text, marked.keys[(key,)], message))
    asked = {key: value for key, value in marked.data.items() if key in fields}
    try:
        asked["recipe"] = name if path.parent == FOLDER else str(path)
        request = TypeAdapter(Request).validate_python(asked)
        description = TypeAdapter(str).validate_python(marked.data.get("description", ""))
        limits = TypeAdapter(tuple[str, ...]).validate_python(marked.data.get("limits", ()))
    except ValidationError as error:
        first = error.errors()[0]
        mark = marked.values.get(first["loc"][:1], Mark(0, 0))
        where = ".".join(map(str, first["loc"])) or "description or limits"
        raise ConfigError(pointed(path.name, text, mark, f"{where}: {first['msg']}")) from None
    return Recipe(path.stem, description, limits, request)
