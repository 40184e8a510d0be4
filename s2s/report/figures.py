"""What the page draws of an evaluation: means side by side, contrast curves, and maps of what can still be found."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from s2s.evaluation.statistics import Interval
from s2s.evaluation.table import number
from s2s.metrics.battery import metric_of
from s2s.metrics.metric import Metric
from s2s.report.looks import THE_TRUTH, Look
from s2s.report.markup import escape, fold
from s2s.report.plots import Axis, Curve, chart, intervals
from s2s.report.scores import Scores

#: A region's name that tells its diameter and its contrast, and one that tells its contrast alone.
_DISC = re.compile(r"(\d+(?:\.\d+)?) mm ([+-]?\d+(?:\.\d+)?) dB")
_LEVEL = re.compile(r"([+-]?\d+(?:\.\d+)?) dB")
#: Values by diameter in mm and contrast in dB.
Places = Mapping[tuple[float, float], float]
#: Colours of maps from 0 to 1: white to dark blue, so that lightness alone tells the value.
_PALE, _DEEP = (255, 255, 255), (8, 48, 107)


def side_by_side(scores: Scores) -> str:
    """For the first metric of each group that can't be fooled: every row's mean with its interval, best first."""
    drawn = []
    for group, metrics in scores.groups.items():
        ranking = [metric for metric in metrics if metric.better != "none"]
        metric = next((metric for metric in ranking if not metric.fooled_by), next(iter(ranking), None))
        if metric is not None:
            drawn.append(means_of(scores, metric, f"{group}: {metric.title}"))
    return f'<div class="charts">{"".join(drawn)}</div>'


def means_of(scores: Scores, metric: Metric, title: str) -> str:
    """Every row's mean of a metric with its interval, best first."""
    names = sorted(scores.looks, key=lambda name: _last(scores.badness(name, metric.name)))
    rows = [(scores.looks[name], scores.mean(name, metric.name)) for name in names]
    told = {"higher": "higher is better", "lower": "lower is better", "nearer": "nearer to the truth is better"}
    unit = f"{metric.unit} " if metric.unit else ""
    return intervals(
        f"{title} [{unit.strip()}], {told[metric.better]}" if unit else f"{title}, {told[metric.better]}",
        [(look, one.mean, one.low, one.high) for look, one in rows],
        unit.strip(),
        scores.evaluation.truth(metric.name),
    )


def _last(value: float) -> float:
    return math.inf if math.isnan(value) else value


def contrast_charts(scores: Scores, given: str, true: str, ladder: str) -> str:
    """Levels of regions in dB, and what is wrong with them, against the truth's; empty when they were not measured.

    given, true: families of metrics.  ladder: the suite that counts; all of them where it was not judged.
    """
    suite = ladder if ladder in scores.evaluation.suites else None
    members = [name.partition("/")[2] for name in scores.families.get(given, ())]
    steps = [(given + member, true + member) for member in members]
    curves = [_levels(scores, name, steps, suite) for name in drawn_curves(scores)]
    if not any(curve.x for curve in curves):
        return ""
    across = Axis("level in the truth [dB]")
    levels = chart("Levels of the regions", curves, across, Axis("level in the image [dB]"), same=True)
    wrong = [
        Curve(curve.look, curve.x, [level - level_true for level_true, level in zip(curve.x, curve.y, strict=True)])
        for curve in curves
    ]
    zero = Curve(THE_TRUTH, [x for curve in curves[-1:] for x in curve.x], [0.0] * len(curves[-1].x), marked=False)
    errors = chart("What is wrong with them", [zero, *wrong], across, Axis("image less truth [dB]"))
    return f'<div class="charts">{levels}{errors}</div>'


def _levels(scores: Scores, name: str, steps: Sequence[tuple[str, str]], suite: str | None) -> Curve:
    """A row's curve through regions, each (its measured, its true level), in the order of the true one."""
    means = {made: scores.mean(name, made, suite) for made, _ in steps}
    across = {made: scores.mean(name, true, suite).mean for made, true in steps if means[made].count}
    ordered = sorted(across, key=across.__getitem__)
    return _curve(scores.looks[name], [across[made] for made in ordered], [means[made] for made in ordered])


def _curve(look: Look, x: Sequence[float], means: Sequence[Interval]) -> Curve:
    ends = ([], []) if look.control else ([one.low for one in means], [one.high for one in means])
    return Curve(look, x, [one.mean for one in means], *ends)


def drawn_curves(scores: Scores) -> list[str]:
    """Names of the rows that are drawn as curves, methods last, on top: of the controls, those without a gamma."""
    names = [name for name in scores.looks if not name.endswith(" gamma=2")]
    return sorted(names, key=lambda name: not scores.looks[name].control)


def legend(scores: Scores, names: Sequence[str]) -> str:
    """The rows of curves, methods first; a click on one brings it out."""
    kept = sorted(names, key=lambda name: scores.looks[name].control)
    rows = "".join(
        f'<span class="{look.classes}" data-row="{look.key}">{look.name}</span>'
        for look in (scores.looks[name] for name in kept)
    )
    return f'<div class="legend"><span>{THE_TRUTH.name}</span>{rows}</div>'


def discs(names: Sequence[str]) -> Mapping[tuple[float, float], str]:
    """Members of a family by the diameter in mm and the contrast in dB that their names tell.

    >>> discs(["gcnr/3 mm +6 dB", "gcnr/cyst"])
    {(3.0, 6.0): 'gcnr/3 mm +6 dB'}
    """
    found = {}
    for name in names:
        match = _DISC.fullmatch(name.partition("/")[2])
        if match:
            found[float(match[1]), float(match[2])] = name
    return dict(sorted(found.items()))


def maps(scores: Scores, family: str, bounds: Mapping[str, str], beside: str = "") -> str:
    """A map of diameter and contrast for each row, after those of the truth and other bounds; empty without discs.

    family: what is shown of each row.  bounds: families of one map each, the same for all rows, by title.
    beside: the family that is shown in small print.
    """
    places = discs(scores.families.get(family, ()))
    if not places:
        return ""
    metric = metric_of(family)
    drawn = []
    for title, bound in bounds.items():
        found = discs(scores.families.get(bound, ()))
        if found:
            first = scores.evaluation.methods[0]
            values = {place: scores.mean(first, name).mean for place, name in found.items()}
            drawn.append(_map(f"<b>{escape(title)}</b>", values, metric))
    others = discs(scores.families.get(beside, ()))
    folded: list[str] = []
    for name, look in scores.looks.items():
        values = {place: scores.mean(name, member).mean for place, member in places.items()}
        small = {place: scores.mean(name, member).mean for place, member in others.items()}
        (folded if look.control else drawn).append(_map(look.name, values, metric, look, small))
    shown, hidden = (f'<div class="maps">{"".join(part)}</div>' for part in (drawn, folded))
    return shown + f'<div class="control">{fold("controls", hidden)}</div>'


def _map(title: str, values: Places, metric: Metric, look: Look | None = None, small: Places | None = None) -> str:
    sizes, contrasts = (sorted({place[k] for place in values}) for k in (0, 1))
    head = "".join(f'<th scope="col">{contrast:+g}</th>' for contrast in contrasts)
    lines = "".join(
        f'<tr><th scope="row">{size:g} mm</th>'
        + "".join(_box((size, contrast), values, small or {}, metric.digits) for contrast in contrasts)
        + "</tr>"
        for size in sizes
    )
    known = f' class="{look.classes}" data-row="{look.key}"' if look else ' class="bound"'
    return (
        f"<figure{known}><figcaption>{title}</figcaption><table><thead><tr><th>dB</th>{head}</tr></thead>"
        f"<tbody>{lines}</tbody></table></figure>"
    )


def _box(place: tuple[float, float], values: Places, small: Places, digits: int) -> str:
    value = values.get(place, math.nan)
    if math.isnan(value):
        return "<td>-</td>"
    beside = f"<small>{number(small[place], min(digits, 2))}</small>" if place in small else ""
    share = min(max(value, 0.0), 1.0)
    red, green, blue = (round(pale + share * (deep - pale)) for pale, deep in zip(_PALE, _DEEP, strict=True))
    ink = "#fff" if share > 0.5 else "#16191d"
    return f'<td style="background:rgb({red},{green},{blue});color:{ink}">{number(value, min(digits, 2))}{beside}</td>'
