"""What comes of a benchmark: a page of Markdown and one of HTML, with the paper's figures beside ours, and pictures."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from s2s.benchmark import tables
from s2s.benchmark.judging import only
from s2s.benchmark.paper import PATIENTS, SETS
from s2s.benchmark.words import DIFFERENCES, MEASURED
from s2s.benchmark.work import Benchmark
from s2s.evaluation.cost import machine
from s2s.evaluation.export import to_csv, to_json
from s2s.evaluation.files import write_text
from s2s.evaluation.results import Evaluation, Picture
from s2s.evaluation.verdict import verdict
from s2s.report.markup import Section, anchor, escape, fold, note
from s2s.report.page import write_report
from s2s.report.pictures import gallery, grey, png_bytes, title_of
from s2s.report.scores import Scores
from usim.errors import ConfigError
from usim.io.atomic import write_atomic
from usim.progress import human_time

TITLE = "Speckle reduction on known truth"
#: First line of the page, by which it is known again.
HEADING = "# Results"
#: The sets whose first scene is shown, and pictures in a row.
SHOWN, ACROSS = (SETS["S-II"], PATIENTS[1]), 4
#: The suites of the evaluation of which HTML has pictures: all of them, of so many methods, are too much for a file.
REPORTED = ("evaluation/scenes", "evaluation/lesions", "evaluation/edges")


def write(work: Benchmark, result: Evaluation, page: Path) -> list[Path]:
    """Write JSON and CSV into the benchmark's folder, and the page with HTML and a folder of pictures beside it.

    Returns the paths of the files.

    Raises ResourceError when a file can't be written.
    """
    scores = [work.folder / "scores.json", work.folder / "scores.csv"]
    write_text(scores[0], to_json(result))
    write_text(scores[1], to_csv(result))
    battery = only(result, [suite.phantom for suite in work.suite.battery])
    sets = [*SETS.values(), PATIENTS[1]]
    filters = [one.label for one in work.contenders if one.way == "tuned"]
    trainings = {label: entry["seconds"] for label, entry in work.done.trained.items()}
    paper = tables.paper_tables(result, trainings)
    phases = tables.phases_table(only_measured(result, sets))
    gains = tables.gain_table(battery, filters)
    own = [*tables.battery_tables(battery), *(one for one in (gains, phases) if one)]
    drawn, missing = _write_pictures(result, page), _missing(work, result)
    parts = [
        *_head(work, result),
        "## The paper's table",
        MEASURED,
        *(one.markdown() for one in paper),
        "## What differs, and why",
        DIFFERENCES,
        "## Our battery",
        _verdict(battery, [one.label for one in work.able if one.is_slow]),
        *(one.markdown() for one in own),
        *_pictures(result, drawn, page),
        *(["## What is missing", "\n".join(f"- {html.escape(line)}" for line in missing)] if missing else []),
    ]
    write_text(page, "\n\n".join(parts) + "\n")
    first = [
        Section("The paper's table", _prose(MEASURED) + "".join(one.html() for one in paper)),
        Section("What differs, and why", _prose(DIFFERENCES)),
        Section("The paper's sets", _galleries(result)),
        Section("By how much", "".join(one.html() for one in (gains, phases) if one)),
        Section(
            "What is missing", f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in missing)}</ul>" * bool(missing)
        ),
    ]
    few = replace(
        battery,
        failures=result.failures,
        pictures=tuple(_plain(one) for one in battery.pictures if one.suite in REPORTED),
    )
    write_report(few, page.with_suffix(".html"), TITLE, [one for one in first if one.body])
    return [page, page.with_suffix(".html"), *scores]


def refuse_page(page: Path) -> None:
    """Raise ConfigError where the page, or the folder of its pictures, would take the place of something else."""
    folder = page.with_suffix("")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: a file is in the way of the page's pictures; name another page")
    try:
        first = page.read_text(encoding="utf-8").partition("\n")[0] if page.exists() else HEADING
    except (OSError, UnicodeDecodeError):
        first = ""
    if first != HEADING:
        raise ConfigError(f"{page}: holds something else than results; name another page")


def only_measured(result: Evaluation, suites: list[str]) -> Evaluation:
    """The part of an evaluation that some suites make, with all methods, also those that saw a few scenes alone."""
    return replace(result, rows=tuple(row for row in result.rows if row.suite in suites))


def _head(work: Benchmark, result: Evaluation) -> list[str]:
    asked, around, preset = work.asked, work.around, work.preset
    command = str(result.about["command"])
    steps = {entry["steps"] for entry in work.done.trained.values()}
    many = f"{min(steps):,.0f}" if len(steps) == 1 else f"{min(steps):,.0f} to {max(steps):,.0f}" if steps else ""
    taught = f"{many} steps of training with the settings `{preset.method}` on `{work.phantom}`, " if steps else ""
    apart = [f"{one.label} on `{one.phantom}`" for one in work.able if one.phantom and one.label in work.done.trained]
    taught += f"{', '.join(apart)}; " if apart else ""
    fits = {one.label: preset.fit.get(one.bare_method, {}) for one in work.able if one.way == "fitted"}
    fewer = [f"{label} with {', '.join(f'{key}={fit[key]}' for key in fit)}" for label, fit in fits.items() if fit]
    taught += f"fitted to each image with the settings `{preset.method}`, but {', '.join(fewer)}; " if fewer else ""
    versions = ", ".join(f"{name} {text}" for name, text in result.about["versions"].items())
    facts = [
        f"Preset `{asked.preset}`: {taught}filters tuned on {preset.tuning} scenes of `{work.phantom}`; judged on "
        f"{result.about['frames']}.",
        f"{len(result.methods) - len(result.controls)} methods and {len(result.controls)} controls, "
        f"{len(result.scenes)} scenes, {human_time(work.done.seconds)} of work on {machine(around.device)} with "
        f"{around.workers} processes ({result.about['date']}; {versions}).",
    ]
    return [
        HEADING,
        "Every method that the Speckle2Self paper compares, and those that belong beside it, on scenes whose truth is "
        "known. This page is written by the command that does all of the work:",
        f"```sh\n{command}\n```",
        "The same with `-m LABEL`, and another folder, makes one row alone.",
        *facts,
    ]


def _verdict(battery: Evaluation, slow: list[str]) -> str:
    said = "\n".join(f"> {line}" for line in verdict(battery).statement)
    left = f" Not judged here, for they take long per image: {', '.join(slow)}." if slow else ""
    return f"The suites and metrics of `s2s evaluate --sim`, {len(battery.scenes)} scenes.{left}\n\n{said}"


def _prose(text: str) -> str:
    """Paragraphs and list items of our own Markdown as HTML."""
    parts = []
    for block in text.split("\n\n"):
        items = re.split(r"^- ", block, flags=re.MULTILINE)
        inside = [tables.inline(" ".join(item.split())) for item in items if item.strip()]
        parts.append(
            f"<ul>{''.join(f'<li>{item}</li>' for item in inside)}</ul>" if len(items) > 1 else f"<p>{inside[0]}</p>"
        )
    return "".join(parts)


def _plain(picture: Picture) -> Picture:
    """A picture without most of the controls, and without maps."""
    kept = {n: image for n, image in picture.images.items() if n in tables.CONTROLS or not n.startswith("control ")}
    return replace(picture, images=kept, maps={})


def _galleries(result: Evaluation) -> str:
    scores = Scores(only_measured(result, list(SHOWN)))
    shown = [_plain(one) for one in result.pictures if one.suite in SHOWN]
    parts = [fold(escape(title_of(one)), gallery(one, scores.looks), is_open=one.suite == SHOWN[0]) for one in shown]
    return note("The middle of the first scene of each set, all methods on one scale.") + "".join(parts)


def _write_pictures(result: Evaluation, page: Path) -> Mapping[tuple[str, str], Path]:
    """Write the pictures that the page shows; their paths by suite and method."""
    drawn = {}
    for picture in result.pictures:
        for name, image in picture.images.items() if picture.suite in SHOWN else ():
            if name in tables.CONTROLS or name not in result.controls:
                path = page.parent / page.stem / picture.suite / f"{anchor(name)}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, png_bytes(grey(image, picture.dynamic_range), optimize=True))
                drawn[picture.suite, name] = path
    return drawn


def _pictures(result: Evaluation, drawn: Mapping[tuple[str, str], Path], page: Path) -> list[str]:
    parts = []
    for picture in result.pictures:
        names = [name for suite, name in drawn if suite == picture.suite]
        if names:
            cells = [_cell(picture, name, drawn[picture.suite, name], page) for name in ("truth", *names[:-1])]
            cells += [" "] * (-len(cells) % ACROSS)
            rows = [f"| {' | '.join(cells[k : k + ACROSS])} |" for k in range(0, len(cells), ACROSS)]
            head = [f"|{' |' * ACROSS}", "|---" * ACROSS + "|"]
            parts += [f"### `{picture.suite}`, the middle of its first scene", "\n".join([*head, *rows])]
    return ["## Pictures", *parts] if parts else []


def _cell(picture: Picture, name: str, path: Path, page: Path) -> str:
    address = quote(Path(os.path.relpath(path, page.parent)).as_posix())
    return f"![{name}: {title_of(picture)}]({address})<br>{name}"


def _missing(work: Benchmark, result: Evaluation) -> list[str]:
    told = [f"{one.label} was left out: {one.lacking}" for one in work.contenders if one.lacking]
    told += [f"{label} was left out: {why}" for label, why in work.done.failed.items()]
    told += [f"{one.method} failed in {one.suite}, scene {one.scene}: {one.reason}" for one in result.failures]
    return told
