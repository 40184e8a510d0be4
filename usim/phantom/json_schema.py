"""The JSON Schema of phantom files, for editors: the models' own schema with ranges, choices and repeats let in."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import TypeAdapter

from usim.phantom.placement import APART, GROUPED, Group
from usim.phantom.ranges import FIXED, MOST_COPIES, MOST_OPTIONS, REPEATED
from usim.phantom.schema import NOT_IN_PHANTOMS, Scene
from usim.probe import PRESETS

_PAIR: Final = {"type": "array", "items": {"type": ["number", "string"]}, "minItems": 2, "maxItems": 2}
# Fields that every frame of a phantom has in common, by the model they stand in.
_COMMON: Final = {"Image": {"pixels"}, "Sector": {"pixels", "lines", "samples"}, "Display": {"bits"}}
_NUMERIC: Final = {
    "uniform": "Between the two, [low, high].",
    "log_uniform": "Between the two, [low, high], uniform in the logarithm.",
    "normal": "Gaussian, [mean, std], truncated at 4 std.",
    "integer": "A whole number, [low, high], both included.",
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a phantom file.

    >>> sorted(json_schema()["required"])
    ['background', 'image', 'probe']
    """
    schema = Scene.model_json_schema()
    definitions = schema.pop("$defs")
    for name, definition in definitions.items():
        _open(definition, _COMMON.get(name, set()))
    _open(schema, {str(path[0]) for path in FIXED if len(path) == 1})
    _add_groups(schema, definitions)
    definitions["Probe"] = _with_presets(definitions["Probe"])
    del definitions["Waveform"]
    for name, text in _NUMERIC.items():
        definitions[name] = {**_alone(name, _PAIR), "description": text}
    options = {"type": "array", "minItems": 1, "maxItems": MOST_OPTIONS}
    definitions["choice"] = {**_alone("choice", options), "description": "One of the options, equally likely."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "usim phantom",
        **{key: value for key, value in schema.items() if key != "title"},
        "$defs": definitions,
    }


def _add_groups(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Let items be repeated and kept apart, and groups stand among the regions."""
    group = Group.model_json_schema()
    _open(group, set())
    group["required"] += ["group"]
    several = _wrapped({"type": "integer", "minimum": 0, "maximum": MOST_COPIES})
    several["description"] = "So many copies, each drawn by itself."
    apart = _wrapped(TypeAdapter(Annotated[float, APART]).json_schema())
    apart["description"] = "Metres; the least distance to the other items of the list that have one too."
    members = {name for part in REPEATED for name in _references(schema["properties"][part])}
    definitions["Group"] = group
    for name in {"Group", *members}:
        definitions[name]["properties"] |= {"repeat": several, "apart": apart}
    for key, part in GROUPED.items():
        listed = next(kind for kind in schema["properties"][part]["anyOf"] if kind.get("type") == "array")
        if part == "regions":
            listed["items"]["anyOf"].insert(0, {"$ref": "#/$defs/Group"})
        text = f"{part.capitalize()} of the group, written about (0, 0)."
        group["properties"][key] = {"anyOf": [listed, {"$ref": "#/$defs/choice"}], "description": text}


def schema_text() -> str:
    """Return the schema as it is shipped in phantoms/schema.json."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _alone(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": False}


def _open(schema: dict[str, Any], fixed: set[str]) -> None:
    """Let a range or a choice stand for each property of an object, but for the fixed ones."""
    schema.pop("title", None)
    # An editor shows the first sentence; errors and examples of the docstring are for Python.
    schema["description"] = schema["description"].partition("\n\n")[0]
    for name, value in schema["properties"].items():
        value.pop("title", None)
        if name not in fixed:
            schema["properties"][name] = _wrapped(value)


def _wrapped(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that a value, a range of it (when it is a number) or a choice satisfies."""
    kept = {key: schema[key] for key in ("description", "default") if key in schema}
    bare = {key: value for key, value in schema.items() if key not in (*kept, "discriminator", "title")}
    # Where the tag of a union is a choice, several of its members fit: oneOf would refuse that.
    options = [_inside(option) for option in _flat(bare)]
    numeric = any(option.get("type") in ("number", "integer") for option in options)
    ranges = [{"$ref": f"#/$defs/{name}"} for name in (*(_NUMERIC if numeric else ()), "choice")]
    return {**kept, "anyOf": [*options, *ranges]}


def _flat(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the alternatives of a schema, those of its alternatives included."""
    alternatives = schema.get("anyOf", schema.get("oneOf"))
    return [schema] if alternatives is None else [inner for option in alternatives for inner in _flat(option)]


def _inside(schema: dict[str, Any]) -> dict[str, Any]:
    """Let ranges and choices into the items of a list and the values of a mapping."""
    opened = dict(schema)
    if "prefixItems" in opened:
        opened["prefixItems"] = [_wrapped(item) for item in opened["prefixItems"]]
    if "items" in opened:
        opened["items"] = _wrapped(opened["items"])
    if isinstance(opened.get("additionalProperties"), dict):
        opened["additionalProperties"] = _wrapped(opened["additionalProperties"])
    return opened


def _references(schema: Any) -> list[str]:
    if isinstance(schema, dict):
        found = [schema["$ref"].rpartition("/")[2]] if "$ref" in schema else []
        return [*(name for name in found if name != "choice"), *(n for v in schema.values() for n in _references(v))]
    return [name for value in schema for name in _references(value)] if isinstance(schema, list) else []


def _with_presets(probe: dict[str, Any]) -> dict[str, Any]:
    """A probe is a preset's name, a preset with some fields overridden, or all of the fields.

    Of pitch, element_width and kerf any two do.
    """
    name = {"enum": [preset for preset, given in PRESETS.items() if not {*given} & {*NOT_IN_PHANTOMS}]}
    name["description"] = "One of the probes that usim knows."
    properties = {key: value for key, value in probe["properties"].items() if key not in NOT_IN_PHANTOMS}
    pitch = properties["pitch"]
    properties["pitch"] = {**pitch, "anyOf": [option for option in pitch["anyOf"] if option != {"type": "null"}]}
    kerf = {"kerf": {**properties["pitch"], "description": "Metres; the gap, instead of pitch or of element_width."}}
    fields = {key: value for key, value in probe.items() if key != "required"}
    fields["properties"] = {"preset": _wrapped(name), **properties, **kerf}
    others = [key for key in probe["required"] if key not in ("pitch", "element_width")]
    pairs = [["pitch", "element_width"], ["pitch", "kerf"], ["element_width", "kerf"]]
    fields["anyOf"] = [{"required": ["preset"]}, *({"required": [*others, *pair]} for pair in pairs)]
    fields["description"] = "A row or an arc of elements along x, the centre of its face on the origin."
    return {"anyOf": [name, fields], "description": fields["description"]}
