"""An evaluation on images without truth as one HTML page: first what can be said and what can't; no winner is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from s2s.evaluation.controls import NOISY, SIGMAS
from s2s.evaluation.files import write_text
from s2s.evaluation.real import CAN, CANNOT, RealEvaluation, Sight, notes
from s2s.evaluation.results import Evaluation, Picture
from s2s.evaluation.statistics import Interval
from s2s.evaluation.table import MISSING, number
from s2s.metrics.metric import Metric
from s2s.metrics.no_truth.battery import METRICS
from s2s.metrics.no_truth.seen import Output
from s2s.report import tables
from s2s.report.looks import GREY, Look, looks_of
from s2s.report.markup import Cell, Line, Section, escape, fold, note, pairs, table, words
from s2s.report.page import document
from s2s.report.pictures import gallery, grey, png
from s2s.report.plots import Axis, Curve, chart

#: dB from black to white of pictures of what was removed; grey is nothing.
REMOVED_DB = 40.0


def write_real_report(real: RealEvaluation, path: str | Path, title: str = "Denoisers without a truth") -> None:
    """Write an evaluation without truth to `path` as one self-contained HTML page, whole or not at all.

    Raises ResourceError when the file can't be written.

    >>> write_real_report(evaluate_real(methods, images), "real.html")  # doctest: +SKIP
    """
    write_text(Path(path), page(real, title))


def page(real: RealEvaluation, title: str) -> str:
    """The page as text."""
    looks = looks_of(real.evaluation)
    sections = [
        Section("What can be said", _said(real)),
        Section("Looks against edges", _trade(real.evaluation, looks)),
        Section("Pictures", _pictures(real.sights, looks)),
        Section("Scores", _scores(real.evaluation, looks)),
        Section("Agreement", _agreement(real, looks)),
        Section("Images", _images(real)),
        Section("Failures", _failures(real)),
        Section("What each number is", tables.metric_lists(METRICS)),
        Section("How it was made", tables.about_lists(real.evaluation.about)),
    ]
    count, named = len(real.images), len(real.named) - 1
    subtitle = (
        f"{named} method{'' if named == 1 else 's'} and {len(real.evaluation.controls)} controls on {count} "
        f"image{'' if count == 1 else 's'}"
    )
    return document(title, subtitle, [section for section in sections if section.body])


def _said(real: RealEvaluation) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in notes(real))
    warning = f'<div class="warning"><strong>{escape(CANNOT)}</strong><ul>{lines}</ul></div>'
    return f'<p class="lead">{escape(CAN)}</p>{warning}'


def _trade(evaluation: Evaluation, looks: Mapping[str, Look]) -> str:
    """Looks against slope of edges, with the line on which blurs lie; empty where neither was measured."""

    def point(name: str) -> tuple[float, float]:
        looks_fit = evaluation.mean(name, "area_enl_fit").mean
        level = 10.0 * math.log10(looks_fit) if 0.0 < looks_fit < math.inf else math.nan
        return level, evaluation.mean(name, "edge_kept").mean

    blurs = [point(name) for name in (NOISY, *(f"control gaussian:sigma={sigma}" for sigma in SIGMAS))]
    line = Look("blurs", "Gaussian blurs", "Gaussian blurs", GREY, control=True)
    curves = [Curve(line, *([one[axis] for one in blurs] for axis in (0, 1)))]
    for name in evaluation.methods:
        if name not in evaluation.controls:
            curves.append(Curve(looks[name], *([value] for value in point(name))))
    if not any(math.isfinite(value) for curve in curves for value in curve.y):
        return ""
    drawn = chart(
        "looks against edges", curves, Axis("ENL fit in dB, 10 log10 of looks"), Axis("edge kept", high=math.nan)
    )
    names = _legend([line, *(looks[name] for name in evaluation.methods if name not in evaluation.controls)])
    told = (
        "Each alone is won by a trick: looks by a blur, edges by leaving the speckle in. The grey line is the "
        "untouched image and Gaussian blurs: what lies above it keeps more of the edges than a blur that leaves as "
        "much speckle."
    )
    return f'{note(escape(told))}{names}<div class="charts">{drawn}</div>'


def _legend(looks: Sequence[Look]) -> str:
    names = "".join(f'<span data-row="{look.key}">{look.name}</span>' for look in looks)
    return f'<div class="legend">{names}</div>'


def _scores(evaluation: Evaluation, looks: Mapping[str, Look]) -> str:
    """A table for each group of metrics; nothing is bold, for nothing here chooses."""
    parts = [note("Means over images, with 95 % bootstrap intervals in small print. Click on a head to sort.")]
    known = [metric for metric in METRICS.values() if metric.name in evaluation.metrics]
    for group in dict.fromkeys(metric.group for metric in known):
        metrics = [metric for metric in known if metric.group == group]
        lines = [
            Line(looks[name].name, [_cell(evaluation.mean(name, one.name), one) for one in metrics], looks[name].key,
                 looks[name].classes)
            for name in evaluation.methods
        ]  # fmt: skip
        head = [
            f'<span title="{escape(one.meaning)}">{escape(one.title)}</span> {tables.ARROWS[one.better]}'
            f"{f' <small>{escape(one.unit)}</small>' if one.unit else ''}"
            for one in metrics
        ]
        fooled = [f"<b>{escape(one.title)}</b>: {escape(one.fooled_by)}." for one in metrics if one.fooled_by]
        fooled = ["Improved without merit by:", *fooled] if fooled else []
        parts.append(f"<h3>{escape(group)}</h3>{table(['method', *head], lines)}{note(' '.join(fooled))}")
    return "\n".join(parts)


def _cell(one: Interval, metric: Metric) -> Cell:
    low, high = number(one.low, metric.digits), number(one.high, metric.digits)
    ends = "" if math.isnan(one.low) or low == high else f"<small>{low} to {high}</small>"
    best = metric.truth if isinstance(metric.truth, float) else math.nan
    key = abs(one.mean - best) if metric.better == "nearer" else one.mean * (-1.0 if metric.better == "higher" else 1.0)
    return Cell(number(one.mean, metric.digits) + ends, key)


def _agreement(real: RealEvaluation, looks: Mapping[str, Look]) -> str:
    """Who differs from whom, in dB."""
    if len(real.named) < 3:
        return ""
    lines = [
        Line(
            looks[name].name,
            [Cell(MISSING if k == j else number(float(value), 2), float(value)) for j, value in enumerate(row)],
        )
        for k, (name, row) in enumerate(zip(real.named, real.between, strict=True))
    ]
    told = (
        "rms difference in dB between the images of two methods, each after its curve fit. Methods of one family "
        "agree, in their errors as well."
    )
    return note(told) + table(["", *(escape(looks[name].label) for name in real.named)], lines)


def _pictures(sights: Sequence[Sight], looks: Mapping[str, Look]) -> str:
    told = (
        "Every image at its own pixels, and all of an image on one grey scale; places in pixels. What was removed is "
        f"the untouched image less the curve-fitted output: grey is nothing, black and white are {REMOVED_DB / 2:.0f} "
        "dB. It should look like speckle: no borders, no layers."
    )
    drawn = "\n".join(_sight(sight, looks, k == 0) for k, sight in enumerate(sights))
    return note(escape(told)) + drawn if sights else ""


def _sight(sight: Sight, looks: Mapping[str, Look], is_open: bool) -> str:
    """One image: where was measured, what was made of it, what was removed, and the profiles across its edges."""
    seen = sight.seen
    shown = {name: image for name, image in sight.images.items() if not name.endswith("gamma=2")}
    height, width = seen.noisy_db.shape
    x, z = (1e-3 * np.arange(count, dtype=np.float64) for count in (width, height))
    name = Path(sight.found.file).name + (f", frame {sight.found.frame}" if sight.found.frame else "")
    picture = Picture(name, sight.found.scene, shown, x, z, seen.dynamic_range)
    named = {key: Output(image, seen) for key, image in shown.items() if key != NOISY}
    parts = [
        gallery(picture, looks, unit="px"),
        "<h4>Where was measured</h4>" + _places(sight),
        _profiles(sight, named, looks),
        fold("What was removed", _removed(named, looks, name)),
    ]
    head = f"<summary>{escape(name)}</summary>"
    return f"<details{' open' if is_open else ''}>{head}\n{''.join(parts)}</details>"


def _places(sight: Sight) -> str:
    """The untouched image with its areas of speckle and its strong edges drawn in."""
    seen = sight.seen
    height, width = seen.noisy_db.shape
    drawn = []
    if seen.areas is not None:
        down, right = seen.areas.side
        drawn += [
            f'<rect x="{column}" y="{row}" width="{right}" height="{down}" fill="none" stroke="#56b4e9"/>'
            for row, column in seen.areas.corners
        ]
    if seen.edges is not None:
        drawn += [
            f'<path d="M{column + 0.5:.1f} {row + 0.5:.1f}l{right:.1f} {down:.1f}" stroke="#e69f00"/>'
            for (row, column), (down, right) in zip(seen.edges.points, seen.edges.across, strict=True)
        ]
    picture = png(grey(seen.noisy_db.astype(np.float32), seen.dynamic_range))
    told = "Blue: areas in which only speckle varies. Orange: strong edges, each line one cell long, towards bright."
    return note(told) + (
        f'<svg class="places" viewBox="0 0 {width} {height}" role="img" aria-label="where was measured">'
        f'<image href="{picture}" width="{width}" height="{height}"/>{"".join(drawn)}</svg>'
    )


def _profiles(sight: Sight, named: Mapping[str, Output], looks: Mapping[str, Look]) -> str:
    """The image across all strong edges, untouched and of every method."""
    edges, untouched = sight.seen.edges, sight.seen.profile
    if edges is None or untouched is None:
        return "".join(note(escape(reason)) for reason in sight.found.missing)
    offsets = edges.offsets.tolist()
    curves = [Curve(looks[NOISY], offsets, untouched.tolist(), marked=False)]
    for name, output in named.items():
        if not looks[name].control and output.profile is not None:
            curves.append(Curve(looks[name], offsets, output.profile.tolist(), marked=False))
    drawn = chart("strong edges", curves, Axis("speckle cells across the edge"), Axis("dB"))
    names = _legend([curve.look for curve in curves])
    return f'<h4>Across the edges</h4>{names}<div class="charts">{drawn}</div>'


def _removed(named: Mapping[str, Output], looks: Mapping[str, Look], title: str) -> str:
    figures = []
    for name, output in named.items():
        levels = np.round(255.0 * np.clip(0.5 + output.removed / REMOVED_DB, 0.0, 1.0)).astype(np.uint8)
        look = looks[name]
        figures.append(
            f'<figure class="{look.classes}" data-row="{look.key}"><img src="{png(levels)}" '
            f'alt="{escape(f"removed by {look.label}: {title}")}"><figcaption>{look.name}</figcaption></figure>'
        )
    return f'<div class="removed">{"".join(figures)}</div>'


def _images(real: RealEvaluation) -> str:
    """What was found on each image, before any method saw it."""
    head = ["image", "frame", "pixels", "taken as", "cell, px", "areas", "edges, px", "speckle, dB", "missing"]
    lines = []
    for found in real.images:
        cell = "-" if found.cell is None else f"{found.cell[0]:.1f} x {found.cell[1]:.1f}"
        lines.append(
            Line(escape(Path(found.file).name), [
                Cell(f"{found.frame}", found.frame), words(f"{found.shape[0]} x {found.shape[1]}"),
                words(found.taken_as), words(cell), Cell(f"{found.areas}", found.areas),
                Cell(f"{found.edges}", found.edges),
                Cell(number(found.speckle_db, 2), found.speckle_db), words("; ".join(found.missing)),
            ])
        )  # fmt: skip
    told = "Fully developed speckle in true decibels varies by 5.57 dB; cells are FWHM, axial x lateral."
    return note(told) + table(head, lines)


def _failures(real: RealEvaluation) -> str:
    failed = [(f"{one.method}, image {one.scene}", one.reason) for one in real.evaluation.failures]
    return pairs([*(("not read", reason) for reason in real.unreadable), *failed]) if real.unreadable or failed else ""
