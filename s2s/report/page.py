"""An evaluation as one HTML page: what was judged, the table, pictures in millimetres, and what each number means.

The page has its pictures inside and refers to nothing outside of it.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.files import write_text
from s2s.evaluation.results import Evaluation, Picture
from s2s.evaluation.table import DETAIL, notes, number
from s2s.metrics.battery import METRICS
from s2s.metrics.grey import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

#: Inches of a panel's width, panels in a row at most, and pixels per inch: speckle of 256 pixels can be seen.
_PANEL, _MOST_COLUMNS, _DPI = 3.3, 4, 110
#: Side of the detail as a part of the image's.
_DETAIL = 1 / 3

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; margin: 0 auto; max-width: 1500px;
  padding: 1.5rem 2rem 4rem; }
h1 { font-size: 1.7rem; margin: 0 0 .6rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #e3e6ea; vertical-align: top; }
th { font-weight: 600; border-bottom: 2px solid #9aa4b0; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
td small { display: block; color: #66707c; }
td b { color: #0b5c8a; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: 0; }
dt { color: #66707c; }
dd { margin: 0; overflow-wrap: anywhere; }
.notes { color: #66707c; font-size: .9rem; margin: .3rem 0; }
code { font: .9em ui-monospace, monospace; }
img { max-width: 100%; height: auto; display: block; }
"""


def write_report(evaluation: Evaluation, path: str | Path, title: str = "Denoisers against the truth") -> None:
    """Write an evaluation to `path` as one self-contained HTML page, whole or not at all.

    Raises ResourceError when the file can't be written.

    >>> write_report(evaluation, "report.html")  # doctest: +SKIP
    """
    write_text(Path(path), page(evaluation, title))


def page(evaluation: Evaluation, title: str) -> str:
    """The page as text."""
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _facts(evaluation.about),
        "<h2>Scores</h2>",
        _scores(evaluation),
        "".join(f'<p class="notes">{html.escape(line)}</p>' for line in notes(evaluation)),
        "<h2>Pictures</h2>" if evaluation.pictures else "",
        *(_pictures(picture) for picture in evaluation.pictures),
        "<h2>What the numbers are</h2>",
        _definitions((metric.title, metric.meaning) for metric in METRICS.values()),
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _facts(about: Mapping[str, Any]) -> str:
    """Where the frames came from and what ran; mappings of mappings become lines of their own."""
    lines = []
    for key, value in about.items():
        nested = isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values())
        for name, content in value.items() if nested else [("", value)]:
            if isinstance(content, Mapping):
                content = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in content.items() if v != "")
            lines.append((f"{key} {name}".strip(), str(content)))
    return _definitions(lines)


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>' for k, v in pairs)}</dl>"


def _scores(evaluation: Evaluation) -> str:
    metrics = [METRICS[name] for name in DETAIL if name in evaluation.metrics]
    rows = []
    for method in evaluation.methods:
        cells = [html.escape(method)]
        for metric in metrics:
            one = evaluation.mean(method, metric.name)
            ends = f"{number(one.low, metric.digits)} to {number(one.high, metric.digits)}"
            cells.append(f"{number(one.mean, metric.digits)}<small>{ends}</small>")
        rows.append([*cells, number(evaluation.costs[method].milliseconds, 1)])
    return _table(["method", *(metric.title for metric in metrics), "ms"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>\n{body}</table></div>'


def _pictures(picture: Picture) -> str:
    name = f"{picture.suite}, scene {picture.scene}"
    whole = _image(draw_picture(picture), f"{name}: noisy, denoised, truth")
    detail = _image(draw_picture(picture, detail_of(picture)), f"{name}, detail")
    return f"<h3>{name}, {picture.dynamic_range:.0f} dB from black to white</h3>{whole}{detail}"


def draw_picture(picture: Picture, part: tuple[slice, slice] | None = None) -> Figure:
    """The matplotlib figure of a frame, or of a part of it: every method's image and the truth, on one grey scale."""
    rows, columns = part or (slice(None), slice(None))
    x, z = picture.x[columns] * 1e3, picture.z[rows] * 1e3
    count = len(picture.images)
    lines = math.ceil(count / _MOST_COLUMNS)
    across = math.ceil(count / lines)
    tall = min(max(float(np.ptp(z) / np.ptp(x)), 0.3), 3.0)
    figure = _figure(across * _PANEL + 1.0, lines * (_PANEL * tall + 0.6))
    panels = figure.subplots(lines, across, squeeze=False, sharex=True, sharey=True)
    grey: Any = None
    for panel, (name, values) in zip(panels.flat, picture.images.items(), strict=False):
        panel.set_title(name, fontsize=11)
        grey = _show(panel, values[rows, columns], x, z, picture.dynamic_range)
    for panel in panels.flat[count:]:
        panel.set_axis_off()
    for column in range(across):
        last = panels[(count - 1 - column) // across, column]
        last.set_xlabel("lateral [mm]")
        last.tick_params(labelbottom=True)
    for panel in panels[:, 0]:
        panel.set_ylabel("depth [mm]")
    figure.colorbar(grey, ax=panels, label="dB", pad=0.01, aspect=25 * lines)
    return figure


def detail_of(picture: Picture) -> tuple[slice, slice]:
    """Rows and columns of the part of a frame, a third of its sides, in which the truth varies most."""
    from scipy.ndimage import uniform_filter

    truth = shown(picture.images["truth"], picture.dynamic_range)
    sides = [max(round(side * _DETAIL), 2) for side in truth.shape]
    variance = uniform_filter(truth**2, sides) - uniform_filter(truth, sides) ** 2
    # Only windows that lie inside the image whole.
    starts = [slice(side // 2, full - side + side // 2 + 1) for side, full in zip(sides, truth.shape, strict=True)]
    inner = variance[starts[0], starts[1]]
    top, left = np.unravel_index(int(np.argmax(inner)), inner.shape)
    return slice(int(top), int(top) + sides[0]), slice(int(left), int(left) + sides[1])


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="compressed")
    FigureCanvasAgg(figure)
    return figure


def _show(panel: Panel, values: NDArray[Any], x: NDArray[Any], z: NDArray[Any], depth: float) -> Any:
    dx, dz = (abs(axis[-1] - axis[0]) / max(len(axis) - 1, 1) / 2 for axis in (x, z))
    extent = (x[0] - dx, x[-1] + dx, z[-1] + dz, z[0] - dz)
    return panel.imshow(
        values, extent=extent, aspect="equal", interpolation="antialiased", cmap="gray", vmin=-depth, vmax=0.0
    )


def _image(figure: Figure, text: str, *, grey: bool = True) -> str:
    """A figure as an HTML image with its pixels inside; as grey levels it takes a third of the bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    if grey:
        picture = Image.open(buffer).convert("L")
        buffer = io.BytesIO()
        picture.save(buffer, format="png", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'
