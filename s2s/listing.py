"""What `s2s methods` prints: every method in a line, or one of them with its settings."""

from __future__ import annotations

import inspect

from s2s.methods import METHODS, method_class, settings_of
from s2s.methods.base import Method, in_words

_SHORT = {"y": "images", "y2": "second looks", "others": "other looks", "x": "truth"}


def list_methods() -> str:
    """Return a table: name, kind, what it learns from, presets, and what it is in one line."""
    rows = [("name", "kind", "learns from", "presets", "")]
    for name in METHODS:
        kind = method_class(name)
        summary = (inspect.getdoc(kind) or "").split("\n")[0]
        rows.append((name, kind_of(kind), _needs(kind), ", ".join(kind.PRESETS), summary))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*map(str.ljust, row, widths), row[4]]).rstrip() for row in rows]
    return "\n".join([*lines, "", "polyphase(4):NAME is a method on the pixels of every fourth row and column."])


def describe_method(name: str) -> str:
    """Return a method's settings with their defaults, its presets, its needs, and its docstring.

    Raises ConfigError for an unknown name.
    """
    kind = method_class(name)
    lines = [f"{name}: {kind_of(kind)}", "", inspect.cleandoc(kind.__doc__ or ""), "", "settings:"]
    settings = settings_of(kind)
    width = max(map(len, settings), default=0)
    lines += [f"  {key:{width}} = {value!r}" for key, value in settings.items()] or ["  none"]
    if kind.IN_USE:
        lines += ["", f"for trained weights in use, -m RUN:KEY=VALUE: {', '.join(kind.IN_USE)}"]
    lines += ["", "presets:"]
    for preset, values in kind.PRESETS.items():
        lines.append(f"  {preset}: {', '.join(f'{k}={v!r}' for k, v in values.items()) or 'as above'}")
    if kind.needs:
        lines += ["", "learns from:", *(f"  {in_words(key)}" for key in kind.needs)]
    return "\n".join(lines)


def kind_of(kind: type[Method]) -> str:
    """Return "filter", "learned", or "fitted to each image"."""
    if not kind.needs:
        return "filter"
    return "fitted to each image" if kind.fit_steps else "learned"


def _needs(kind: type[Method]) -> str:
    return ", ".join(_SHORT.get(key, key) for key in kind.needs) or "nothing"
