"""A strict reader of YAML that keeps the place of every value.

The document is built from the parser's events with a stack of our own: nothing recurses, so that no input can exhaust
the stack, and every limit is checked before the next node is built (5,000 nested brackets kill PyYAML's composer).
Plain scalars follow YAML 1.2 (`5e6` is a number, `no` is text, `1:30` is text).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import yaml

from usim.errors import ConfigError
from usim.units import show

MOST_BYTES: Final = 1_000_000
MOST_DEPTH: Final = 32
MOST_NODES: Final = 50_000
# libyaml's parser where PyYAML was built with it (25 times faster); both yield the same events.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,40}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
}

Path = tuple[str | int, ...]


class Mark(NamedTuple):
    """A place in the text, both counted from 0."""

    line: int
    column: int


@dataclass
class Marked:
    """Plain nested data with the place of each value and each key by path."""

    data: Any = None
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)


def pointed(source: str, text: str, mark: Mark, message: str) -> str:
    """Return `source:line:column: message`, the source line, and a caret under the place."""
    lines = _BREAK.split(text)
    line = lines[mark.line] if mark.line < len(lines) else ""
    start = max(0, mark.column - 70)
    shown = "".join(c if c.isprintable() else " " for c in line[start : start + 110])
    head = f"{source}:{mark.line + 1}:{mark.column + 1}: {message}"
    return f"{head}\n    {shown}\n    {' ' * (mark.column - start)}^" if shown.strip() else head


def decode(raw: bytes, source: str) -> str:
    """Return the text of a file, without a byte-order mark; ConfigError when it is too large or not UTF-8."""
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"{source}:1:1: more than {MOST_BYTES} bytes; a phantom file is a page of text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, before = raw.count(b"\n", 0, error.start), raw.rfind(b"\n", 0, error.start) + 1
        column = error.start - before
        raise ConfigError(f"{source}:{line + 1}:{column + 1}: not UTF-8 text; save the file as UTF-8") from None


def read_yaml(text: str, source: str) -> Marked:
    """Return the data of one YAML document with the place of every value and key.

    Raises ConfigError for anything but plain mappings, lists and scalars: aliases, tags, duplicate keys, more than one
    document, and for more than MOST_BYTES, MOST_DEPTH or MOST_NODES.
    """
    try:
        too_long = len(text.encode("utf-8")) > MOST_BYTES
    except UnicodeEncodeError:
        raise ConfigError(f"{source}:1:1: the text holds half a surrogate pair; save the file as UTF-8") from None
    if too_long:
        raise ConfigError(f"{source}:1:1: more than {MOST_BYTES} bytes; a phantom file is a page of text")
    try:
        # The whole document is scanned before anything is built: a refusal stays under 0.1 s whatever its size.
        return _build(list(_checked_events(text, source)), text, source)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = Mark(at.line, at.column) if at else Mark(0, 0)
        problem = error.problem or error.context or "not YAML"
        if _tab_at(text, mark):
            problem = f"{problem} (tabs can't indent YAML: use spaces)"
        raise ConfigError(pointed(source, text, mark, f"not YAML: {problem}")) from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        line = text.count("\n", 0, getattr(error, "position", 0) or 0)
        raise ConfigError(f"{source}:{line + 1}:1: not YAML text: {reason}") from None


def _tab_at(text: str, mark: Mark) -> bool:
    """Whether the blank before or at a place holds a tab, which YAML refuses as indentation without naming it."""
    line = "".join(_BREAK.split(text)[mark.line : mark.line + 1])
    return "\t" in line[: mark.column + 1]


def _checked_events(text: str, source: str) -> Iterator[Any]:
    """Yield the events of one document; refuse what a phantom has no use for before anything is built from it."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        refusal = ""
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            refusal = "a second document; a phantom file holds one" if documents > 1 else ""
        elif getattr(event, "anchor", None):
            refusal = "anchors and aliases (& and *) are not allowed; write the values out"
        elif getattr(event, "tag", None):
            refusal = f"tags are not allowed ('{show(event.tag)}'); write a plain value"
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            refusal = f"more than {MOST_NODES} values; use `repeat` or a scatterer file" if nodes > MOST_NODES else ""
            depth += isinstance(event, yaml.CollectionStartEvent)
            refusal = refusal or (f"nested deeper than {MOST_DEPTH}" if depth > MOST_DEPTH else "")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if refusal:
            raise ConfigError(pointed(source, text, Mark(event.start_mark.line, event.start_mark.column), refusal))
        yield event


@dataclass
class _Open:
    """A mapping or list that is being filled."""

    container: dict[str, Any] | list[Any]
    path: Path
    key: str | None = None


def _build(events: list[Any], text: str, source: str) -> Marked:
    marked, stack = Marked(), list[_Open]()
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        mark = Mark(event.start_mark.line, event.start_mark.column)
        top = stack[-1] if stack else None
        if top and isinstance(top.container, dict) and top.key is None:
            top.key = _key(event, top, mark, marked, text, source)
            continue
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event.value) if event.implicit[0] else event.value
        else:
            value = {} if isinstance(event, yaml.MappingStartEvent) else []
        path = _place(value, top, marked)
        marked.values[path] = mark
        if isinstance(event, yaml.CollectionStartEvent):
            stack.append(_Open(value, path))
    return marked


def _key(event: Any, top: _Open, mark: Mark, marked: Marked, text: str, source: str) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        raise ConfigError(pointed(source, text, mark, "a key must be a word, not a mapping or a list"))
    key = str(event.value)
    path = (*top.path, key)
    if key in top.container:
        message = f"{'.'.join(map(str, path))}: duplicate key, first on line {marked.keys[path].line + 1}; remove one"
        raise ConfigError(pointed(source, text, mark, message))
    marked.keys[path] = mark
    return key


def _place(value: Any, top: _Open | None, marked: Marked) -> Path:
    """Put a value into the container that is open, and return its path."""
    if top is None:
        marked.data = value
        return ()
    if isinstance(top.container, list):
        top.container.append(value)
        return (*top.path, len(top.container) - 1)
    key, top.key = str(top.key), None
    top.container[key] = value
    return (*top.path, key)


def _scalar(text: str) -> Any:
    """Resolve a plain scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
