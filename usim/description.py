"""The base of every description (probe, medium, scan, scene): a frozen value that can't be impossible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from usim.errors import ConfigError
from usim.units import did_you_mean, show

_PLACE = re.compile(r"Value error, ([a-z]\w*)((?:\.\w+)*): ")
_AT_KEY = "[key]"  # ends pydantic's path where the key of a mapping is wrong, not its value


class Refusal(NamedTuple):
    """One thing that is wrong: where (keys and indices), whether the key itself is wrong, and what to do."""

    path: tuple[str | int, ...]
    at_key: bool
    message: str


class Description(BaseModel):
    """A frozen, hashable set of fields; unknown fields are refused, and constructing one raises ConfigError."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
    shorthands: ClassVar[tuple[str, ...]] = ()
    """Keys that are no fields but are accepted and expanded, such as a probe's `preset`."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            name = type(self).__name__
            lines = [f"{'.'.join(map(str, (name, *r.path)))}: {r.message}" for r in refusals(error, type(self))]
            raise ConfigError("\n".join(lines)) from None

    # pydantic calls an overridden __init__ for nested models too, and a ConfigError there would hide the other errors;
    # this mark, which BaseModel.__init__ carries as well, says that the override adds nothing to the validation.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]


def refusals(error: ValidationError, model: type[BaseModel]) -> list[Refusal]:
    """Return what pydantic found wrong in our own words, without the tags of unions in the paths."""
    return [_refusal(detail, model) for detail in error.errors(include_url=False)]


def _refusal(detail: ErrorDetails, model: type[BaseModel]) -> Refusal:
    path, keys = _follow(detail["loc"], model)
    if (place := _PLACE.match(detail["msg"])) and place[1] in keys:
        # a check of the whole that says where: the place becomes part of the path
        inside = (int(part) if part.isdigit() else part for part in place[2].split(".")[1:])
        return Refusal((*path, place[1], *inside), False, detail["msg"][place.end() :])
    kind, got, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), keys)
        return Refusal(path, True, f"unknown key{hint} (allowed: {', '.join(sorted(keys))})")
    if kind == "missing":
        if isinstance(path[-1], int):
            return Refusal(path[:-1], False, f"value {path[-1] + 1} of the list is missing")
        return Refusal(path, True, "this key is required and missing")
    if kind == "union_tag_not_found":
        name = context["discriminator"].strip("'")
        if isinstance(got, dict):
            return Refusal((*path, name), True, "this key is required and missing")
        return Refusal(path, False, f"expected a mapping of keys, got {show(got)}")
    if kind == "union_tag_invalid":
        allowed = _quoted(context["expected_tags"])
        message = f"'{show(context['tag'])}' is none of {', '.join(allowed)}{did_you_mean(context['tag'], allowed)}"
        return Refusal((*path, context["discriminator"].strip("'")), False, message)
    if kind == "literal_error":
        allowed = _quoted(context["expected"])
        hint = did_you_mean(got, allowed) if isinstance(got, str) else ""
        return Refusal(path, False, f"'{show(got)}' is none of {', '.join(allowed)}{hint}")
    if kind in ("too_long", "too_short"):
        limit = context.get("max_length", context.get("min_length"))
        least = "at most" if kind == "too_long" else "at least"
        return Refusal(path, False, f"expected {least} {limit} values, got {context['actual_length']}")
    expected = {"model_type": "a mapping of keys", "model_attributes_type": "a mapping of keys", "tuple_type": "a list"}
    expected |= {"dict_type": "a mapping of keys", "string_type": "text"}
    if kind in expected:
        return Refusal(path, False, f"expected {expected[kind]}, got {show(got)}")
    return Refusal(path, detail["loc"][-1:] == (_AT_KEY,), detail["msg"].removeprefix("Value error, "))


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']+)'", text)


def _follow(loc: tuple[str | int, ...], model: type[BaseModel]) -> tuple[tuple[str | int, ...], set[str]]:
    """Return the path without the tags of unions, and the keys allowed where the path ends."""
    path: list[str | int] = []
    models, keyed = [model], False
    loc = loc[:-1] if loc[-1:] == (_AT_KEY,) else loc
    for step, part in enumerate(loc):
        tagged = [m for m in models if part in _tags(m)]
        fields = [m.model_fields[part] for m in models if isinstance(part, str) and part in m.model_fields]
        last = step == len(loc) - 1
        if tagged and len(models) > 1:
            models = tagged
        elif isinstance(part, int) or keyed or (last and not fields):
            path.append(part)
            keyed = False
        elif fields:
            path.append(part)
            models = [inner for field in fields for inner in _models(field.annotation)]
            keyed = any(_is_mapping(field.annotation) for field in fields)
    return tuple(path), {name for m in models for name in (*m.model_fields, *getattr(m, "shorthands", ()))}


def _tags(model: type[BaseModel]) -> set[str]:
    """The name under which a model stands in a tagged union: the default of its `shape` or `type`, or its own name."""
    defaults = {field.default for name, field in model.model_fields.items() if name in ("shape", "type")}
    return {default for default in defaults if isinstance(default, str)} | {model.__name__}


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict or any(map(_is_mapping, get_args(annotation)))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
