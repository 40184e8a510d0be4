"""An evaluation as one HTML page: the verdict first, then tables, curves and pictures, and how all of it was made.

The page has its pictures, style and script inside and refers to nothing outside of it. Without the script all of it can
be read; with it tables sort, and pictures zoom side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from s2s.evaluation.files import write_text
from s2s.evaluation.results import Evaluation
from s2s.metrics.battery import METRICS
from s2s.report import figures, findings, tables
from s2s.report.looks import TRUTH
from s2s.report.markup import Section, escape, fold, note
from s2s.report.pictures import gallery, map_gallery, title_of
from s2s.report.profiles import TALL, profile_charts
from s2s.report.scores import Scores
from s2s.report.strengths import same_width

#: The suite whose picture the profiles across edges are of, where it was judged.
EDGES = "evaluation/edges"
#: The suite whose levels are drawn as curves, where it was judged.
LADDER = "evaluation/contrast-ladder"


def write_report(
    evaluation: Evaluation, path: str | Path, title: str = "Denoisers against the truth", first: Sequence[Section] = ()
) -> None:
    """Write an evaluation to `path` as one self-contained HTML page, whole or not at all.

    first: sections before all others.
    Raises ResourceError when the file can't be written.

    >>> write_report(evaluation, "report.html")  # doctest: +SKIP
    """
    write_text(Path(path), page(evaluation, title, first))


def page(evaluation: Evaluation, title: str, first: Sequence[Section] = ()) -> str:
    """The page as text; first: sections before all others."""
    scores = Scores(evaluation)
    sections = [
        *first,
        Section("Verdict", findings.verdict_text(scores)),
        Section("Side by side", _side_by_side(scores)),
        Section("Scores", note(_COLUMNS) + tables.score_tables(scores)),
        Section("Pictures", _pictures(scores)),
        Section("Edges", _edges(scores)),
        Section("Contrast", _contrast(scores)),
        Section("Detection", _detection(scores)),
        Section("At the same edge width", same_width(scores)),
        Section("Robustness", tables.family_table(scores, "robust/")),
        Section("Bias and spread", _maps(scores)),
        Section("Suite by suite", tables.suite_tables(scores)),
        Section("Region by region", tables.family_tables(scores, skip=("robust/",))),
        Section("Cost", tables.cost_table(scores)),
        Section("Failures", _failures(scores)),
        Section("What each number is", tables.metric_lists()),
        Section("How it was made", _origin(evaluation)),
    ]
    return document(title, _subtitle(scores), [section for section in sections if section.body])


_COLUMNS = (
    "Means over scenes, with 95 % bootstrap intervals in small print. Arrows say which way is better; \u2248 means "
    "nearer to the truth. <b>Bold</b> is who a metric chooses. Click on a head to sort."
)


def document(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """A whole page of sections, with a bar that leads to them."""
    assets = files("s2s.report")
    style, script = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    links = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{style}</style>"
    )
    choose = '<label><input type="checkbox" id="hide-controls"> hide controls</label>'
    body = "\n".join(section.html for section in sections)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n<header><h1>{escape(title)}</h1>\n'
        f'<p class="subtitle">{escape(subtitle)}</p></header>\n<nav>{choose}<div>{links}</div></nav>\n'
        f"<main>\n{body}\n</main>\n<script>\n{script}</script>\n</body></html>\n"
    )


def _subtitle(scores: Scores) -> str:
    evaluation = scores.evaluation
    counts = (
        (len(scores.methods), "method"),
        (len(evaluation.controls), "control"),
        (len(evaluation.scenes), "scene"),
        (len(evaluation.suites), "suite"),
    )
    methods, controls, scenes, suites = (f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    date = evaluation.about.get("date")
    return f"{methods} and {controls} on {scenes} of {suites}{f'; {date}' if date else ''}"


def _side_by_side(scores: Scores) -> str:
    return note(
        "The first metric of each group that can't be fooled: means over scenes with 95 % intervals, best first."
    ) + figures.side_by_side(scores)


def _pictures(scores: Scores) -> str:
    """Every scene that was kept, a suite at a time; that with the most to be seen is open."""
    parts = []
    pictures = scores.evaluation.pictures
    seen = [float(np.ptp(shown.images[TRUTH].clip(-shown.dynamic_range, 0.0))) for shown in pictures]
    for contrast, picture in zip(seen, pictures, strict=True):
        inside = gallery(picture, scores.looks)
        parts.append(fold(escape(title_of(picture)), inside, is_open=contrast == max(seen)))
    told = "Every image at its own pixels, and all on one grey scale. Depth in millimetres on the left. "
    return (
        note(told + '<span class="script">Click on a picture to see two of them side by side and zoom.</span>')
        + ("\n".join(parts))
        if parts
        else ""
    )


def _edges(scores: Scores) -> str:
    """Profiles across the edges of one picture, with a legend."""
    pictures = sorted(scores.evaluation.pictures, key=lambda picture: picture.suite != EDGES)
    names = figures.drawn_curves(scores)
    for picture in pictures:
        charts = profile_charts(picture, scores.looks, names)
        if charts:
            told = f"Mean over {1e3 * TALL:.0f} mm of depth; {title_of(picture)}."
            return note(escape(told)) + figures.legend(scores, names) + f'<div class="charts">{"".join(charts)}</div>'
    return ""


def _contrast(scores: Scores) -> str:
    drawn = figures.contrast_charts(scores, "level/", "level_true/", LADDER)
    return figures.legend(scores, figures.drawn_curves(scores)) + drawn if drawn else ""


def _detection(scores: Scores) -> str:
    """Maps of what can still be told from its surroundings, and of what can still be found."""
    detect = figures.maps(scores, "detect/", {"what the data hold": "detect_ideal/"})
    gcnr = figures.maps(scores, "gcnr/", {"the truth": "gcnr_true/"}, beside="gcnr_sham/")
    parts = [_explained("detect/", "0.5 is chance.") + detect if detect else ""]
    parts.append(_explained("gcnr/", "Small print: the same where there is no lesion.") + gcnr if gcnr else "")
    return "\n".join(parts).strip()


def _explained(family: str, more: str) -> str:
    metric = METRICS[family]
    return f"<h3>{escape(metric.title)}</h3>" + note(f"{escape(metric.meaning)}; diameter by contrast. {escape(more)}")


def _maps(scores: Scores) -> str:
    """Maps of a scene that was drawn several times: what is wrong in the mean, and what changes with the draw."""
    parts: list[str] = []
    for picture in scores.evaluation.pictures:
        for kind in picture.maps:
            name = escape(f"{kind}: {title_of(picture)}")
            parts.append(fold(name, map_gallery(picture, kind, scores.looks), is_open=not parts))
    told = "Bias is what is wrong in the mean over independent draws of a scene, spread what changes from draw to draw."
    return note(told) + "\n".join(parts) if parts else ""


def _failures(scores: Scores) -> str:
    if not scores.evaluation.failures:
        return note("None: every method made every image.")
    return note("Scores of these scenes are missing; the rest was judged.") + tables.failure_table(scores)


def _origin(evaluation: Evaluation) -> str:
    command = evaluation.about.get("command")
    told = f'<pre class="command"><code>{escape(command)}</code></pre>' if command else ""
    return told + tables.about_lists(evaluation.about, skip=("command",))
