"""Curves and intervals as SVG that is drawn here: small, sharp on any screen, and known row by row to the script."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from s2s.report.looks import BLACK, Look, marker
from s2s.report.markup import escape

#: Size of a chart in its own units, and margins left, right, top, bottom: text of 11 is legible on a phone's width.
WIDTH, HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 26, 38


@dataclass(frozen=True)
class Curve:
    """One row's points in a chart; those that are not finite break the line.  low, high: ends of intervals."""

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    marked: bool = True


@dataclass(frozen=True)
class Axis:
    """What runs along one side of a chart, and from where to where; found from the curves when not given."""

    title: str
    low: float = math.nan
    high: float = math.nan


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers between two ends, some `about` of them.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * k for k in (1, 2, 2.5, 5, 10) if unit * k >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, curves: Sequence[Curve], x: Axis, y: Axis, *, same: bool = False) -> str:
    """A chart of curves, the last one on top.  same: whether a line is drawn where y equals x."""
    across = _ends(x, [value for curve in curves for value in curve.x])
    ends = [value for curve in curves for values in (curve.y, curve.low, curve.high) for value in values]
    up = _ends(y, ends)
    inner = (WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM)

    def place(a: float, b: float) -> tuple[float, float]:
        return (
            _LEFT + inner[0] * (a - across[0]) / (across[1] - across[0]),
            _TOP + inner[1] * (up[1] - b) / (up[1] - up[0]),
        )

    parts = []
    for value in ticks(*across):
        a = place(value, up[0])[0]
        parts.append(f'<path class="rule" d="M{a:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{a:.1f}" y="{HEIGHT - _BOTTOM + 14}" text-anchor="middle">{_told(value)}</text>')
    for value in ticks(*up):
        b = place(across[0], value)[1]
        parts.append(f'<path class="rule" d="M{_LEFT} {b:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{b + 4:.1f}" text-anchor="end">{_told(value)}</text>')
    if same:
        ends_of_same = max(across[0], up[0]), min(across[1], up[1])
        if ends_of_same[0] < ends_of_same[1]:
            (a, b), (c, d) = (place(end, end) for end in ends_of_same)
            parts.append(f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" stroke="{BLACK}" stroke-width="1.2"/>')
    parts += [_curve(curve, place) for curve in curves]
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x.title)}</text>')
    parts.append(f'<text x="4" y="14">{escape(y.title)}</text>')
    return _figure(title, parts)


def intervals(title: str, rows: Iterable[tuple[Look, float, float, float]], unit: str, best: float = math.nan) -> str:
    """A row for each mean with its interval, from top to bottom, as HTML: rows that are hidden leave no gap.

    rows: look, mean, low, high; those without a finite mean show a dash.  best: where the truth's own value is marked.
    """
    rows = list(rows)
    ends = _ends(Axis(""), [value for _, *three in rows for value in three] + [best])

    def share(value: float) -> float:
        return 100.0 * (value - ends[0]) / (ends[1] - ends[0])

    rules = "".join(f'<i class="tick" style="left:{share(value):.2f}%"></i>' for value in ticks(*ends, 4))
    if math.isfinite(best):
        rules += f'<i class="best" style="left:{share(best):.2f}%"></i>'
    lines = []
    for look, mean, low, high in rows:
        shape, told = "", f"{look.label}: {_told(mean)}"
        if math.isfinite(low) and math.isfinite(high):
            told += f" ({_told(low)} to {_told(high)})"
            left, width = share(low), share(high) - share(low)
            shape = f'<i class="bar" style="left:{left:.2f}%;width:{width:.2f}%;background:{look.colour}"></i>'
        point = f'<i class="dot" style="left:{share(mean):.2f}%;background:{look.colour}"></i>'
        shape += point if math.isfinite(mean) else "-"
        lines.append(
            f'<div class="{look.classes}" data-row="{look.key}" title="{escape(told)}">'
            f'<span>{escape(look.label)}</span><span class="track">{rules}{shape}</span></div>'
        )
    scale = "".join(f'<b style="left:{share(value):.2f}%">{_told(value)}</b>' for value in ticks(*ends, 4))
    lines.append(f'<div class="scale"><span>{escape(unit)}</span><span class="track">{scale}</span></div>')
    mark = " <small>the line is the truth</small>" if math.isfinite(best) else ""
    return f'<figure class="intervals"><figcaption>{escape(title)}{mark}</figcaption>{"".join(lines)}</figure>'


def _figure(title: str, parts: Iterable[str]) -> str:
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="img" aria-label="{escape(title)}">{"".join(parts)}</svg></figure>'
    )


def _row(look: Look, told: str, shape: str) -> str:
    return f'<g class="{look.classes}" data-row="{look.key}"><title>{escape(told)}</title>{shape}</g>'


def _curve(curve: Curve, place: Callable[[float, float], tuple[float, float]]) -> str:
    look, path, drawn = curve.look, "", False
    points = [place(a, b) for a, b in zip(curve.x, curve.y, strict=True)]
    for a, b in points:
        known = math.isfinite(a) and math.isfinite(b)
        path += f"{'L' if drawn else 'M'}{a:.1f} {b:.1f}" if known else ""
        drawn = known
    width = 1.2 if look.control else 2.0
    shape = f'<path d="{path}" stroke="{look.colour}" stroke-width="{width}" stroke-dasharray="{look.dash}"/>'
    for a, low, high in zip(curve.x, curve.low, curve.high, strict=bool(curve.low)):
        if math.isfinite(low) and math.isfinite(high):
            (left, bottom), (_, top) = place(a, low), place(a, high)
            shape += (
                f'<path d="M{left:.1f} {bottom:.1f}V{top:.1f}" stroke="{look.colour}" stroke-width="1" opacity=".55"/>'
            )
    if curve.marked:
        shape += "".join(marker(look.marker, a, b, look.colour) for a, b in points if math.isfinite(a + b))
    return _row(look, look.label, shape)


def _ends(axis: Axis, values: Iterable[float]) -> tuple[float, float]:
    """Where an axis begins and ends: what is asked for, or all finite values and a little more."""
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    more = 0.05 * (high - low) or 0.05 * abs(low) or 0.5
    ends = (low - more if math.isnan(axis.low) else axis.low, high + more if math.isnan(axis.high) else axis.high)
    return ends if ends[0] < ends[1] else (ends[0], ends[0] + 1.0)


def _told(value: float) -> str:
    return f"{value:.4g}".replace("-", "\u2212")
