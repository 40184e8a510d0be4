"""Write the generated parts of the pages: the help texts and the Python names in reference.md, the table in format.md.

    python docs/make_reference.py

A test compares the pages with what this would write.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import click

import s2s
import s2s.cli
import s2s.denoise
import s2s.methods
import usim
import usim.cli
from usim.io.layout import DATASETS

DOCS = Path(__file__).parent
FUNCTIONS = (
    "load_phantom", "simulate", "simulate_rf", "beamform", "stream", "batches", "open", "cell_size", "validate",
    "verify",
)  # fmt: skip
S2S_FUNCTIONS = {
    "s2s.load": s2s.load,
    "s2s.denoise.Denoiser.denoise": s2s.denoise.Denoiser.denoise,
    "s2s.methods.make": s2s.methods.make,
}
S2S_CLASSES = {"s2s.denoise.Denoiser": s2s.denoise.Denoiser, "s2s.Domain": s2s.Domain}
EVENTS = ("PlaneWave", "Focused", "Diverging", "FullMatrix", "Delays")
CLASSES = ("Frame", "Truth", "Axes", "Batch", "RF", "Probe", "Waveform", "Medium", "Scatterers", *EVENTS)


def fill(page: str, name: str, content: str) -> str:
    """Return the page with the part between the markers `name: begin` and `name: end` replaced."""
    pattern = rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
    return re.sub(pattern, lambda found: f"{found[1]}\n{content}\n{found[2]}", page, flags=re.DOTALL)


def help_texts() -> str:
    """Return the help of `usim` and `s2s`, and of each of their commands."""
    parts = []
    for program, group in (("usim", usim.cli.cli), ("s2s", s2s.cli.cli)):
        commands = {program: group, **{f"{program} {name}": group.commands[name] for name in sorted(group.commands)}}
        for name, command in commands.items():
            # A command keeps the names of its help option from its first context: all contexts must agree.
            names = group.context_settings["help_option_names"]
            context = click.Context(
                command, info_name=name, terminal_width=80, max_content_width=80, help_option_names=names
            )
            parts.append(f"### `{name}`\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def python_names() -> str:
    """Return the public functions and classes with their docstrings."""
    parts = []
    for name in FUNCTIONS:
        function = getattr(usim, name)
        parts.append(f"### `usim.{name}`\n\n```python\nusim.{name}{_signature(function)}\n```\n\n{_doc(function)}\n")
    for name in CLASSES:
        kind = getattr(usim, name)
        parts.append(f"### `usim.{name}`\n\n{_doc(kind)}{_fields(kind)}")
    parts.append("### `usim.errors`\n\n" + "\n".join(
        f"- `{error.__name__}` (exit code {error.exit_code}): {inspect.getdoc(error)}"
        for error in (usim.errors.UsimError, usim.errors.ConfigError, usim.errors.DataError, usim.errors.ResourceError)
    ) + "\n")  # fmt: skip
    for name, function in S2S_FUNCTIONS.items():
        parts.append(f"### `{name}`\n\n```python\n{name}{_signature(function)}\n```\n\n{_doc(function)}\n")
    for name, kind in S2S_CLASSES.items():
        parts.append(f"### `{name}`\n\n{_doc(kind)}")
    return "\n".join(parts)


def dataset_table() -> str:
    """Return the table of a shard's datasets."""
    rows = ["| dataset | type | axes | unit | what it is |", "|---|---|---|---|---|"]
    for d in DATASETS:
        extra = f" (with `--store {d.store}`)" if d.store else ""
        meaning = d.description.replace("|", r"\|") + extra
        rows.append(f"| `{d.path}` | {d.dtype} | {', '.join(d.dims) or 'scalar'} | {d.unit} | {meaning} |")
    return "\n".join(rows) + "\n"


class _Written(str):
    """An annotation as it is written in the source."""

    __repr__ = str.__str__


def _signature(function: Any) -> str:
    given = inspect.signature(function)
    kept = [
        p.replace(annotation=_Written(p.annotation)) if isinstance(p.annotation, str) else p
        for p in given.parameters.values()
        if p.name != "self"
    ]
    returned = _Written(given.return_annotation)
    text = re.sub(r"<function .*? at \w+>", "...", str(given.replace(parameters=kept, return_annotation=returned)))
    if len(text) > 110:
        inside, _, end = text[1:].rpartition(") -> ")
        lines = re.split(r", (?=\*,|\w+:)", inside)
        text = "(\n    " + ",\n    ".join(lines) + f",\n) -> {end}"
    return text


def _doc(thing: Any) -> str:
    """Return a docstring without its examples, its paragraphs and its lines `name: meaning` as they stand."""
    text = (inspect.getdoc(thing) or "").split("\n>>>")[0].rstrip()
    text = re.sub(r"\n(?=\w+(, \w+)*: )", "\n\n", text)
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _fields(kind: Any) -> str:
    if dataclasses.is_dataclass(kind):
        return ""
    rows = ["", "| field | default | meaning |", "|---|---|---|"]
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else field.default
        rows.append(f"| `{name}` | {default} | {field.description or ''} |")
    return "\n".join(rows) + "\n"


def pages() -> dict[Path, str]:
    """Return the pages as they should be."""
    reference, layout = DOCS / "reference.md", DOCS / "format.md"
    return {
        reference: fill(fill(reference.read_text(), "help", help_texts()), "api", python_names()),
        layout: fill(layout.read_text(), "datasets", dataset_table()),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(path)
