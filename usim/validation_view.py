"""The picture of a validation: what two engines make of the same scatterers, and where they differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from usim.frame import Axes
from usim.validation import AIM_DB, Single, Validation
from usim.view.files import save_figure
from usim.view.panels import show_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel
    from matplotlib.figure import Figure

PANEL, AROUND = 3.0, 1.0  # inches of one panel's width, and of what stands around panels
LOWER = 1.0  # height of the curves, in panels' widths
_PARTS = 64  # of the depth, in the curve over it


def validation_sheet(result: Validation, path: str | os.PathLike[str]) -> None:
    """Draw both engines' images, their difference on the same grey scale, and the error by place, depth and column.

    Raises ConfigError for an unknown file type, ResourceError when the file cannot be written.

    >>> validation_sheet(usim.validate("cyst"), "cyst.validate.png")  # doctest: +SKIP
    """
    save_figure(draw_validation(result), Path(path))


def draw_validation(result: Validation) -> Figure:
    """Return the matplotlib figure of a validation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, z = result.x * 1e3, result.z * 1e3
    tall = min(max(float(np.ptp(z) / np.ptp(x)), 0.4), 3.0)
    figure = Figure(figsize=(4 * PANEL + AROUND, PANEL * (tall + LOWER) + 2.3 * AROUND), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplot_mosaic(
        [["exact", "fast", "difference", "map"], ["depth", "depth", "column", "column"]],
        height_ratios=[PANEL * tall + 0.8 * AROUND, PANEL * LOWER],
    )
    figure.suptitle(
        f"{result.phantom}, frame {result.index}, seed {result.seed}: {result.used} scatterers, psf {result.psf} "
        f"(rank {result.rank}) against sir; inside the aperture {result.middle.nrmse_db:.1f} dB",
        fontsize=11,
    )
    axes, scale = Axes(result.x, result.z), {"cmap": "gray", "vmin": -result.dynamic_range, "vmax": 0.0}
    for name, title, iq in (
        ("exact", "exact (sir)", result.exact),
        ("fast", f"psf: {result.psf}", result.fast),
        ("difference", "difference", result.fast - result.exact),
    ):
        level = 20.0 * np.log10(np.maximum(np.abs(iq), 1e-9))
        grey = show_image(panels[name], axes, title, level, **scale)
        panels[name].set_xlabel("lateral [mm]")
        panels[name].tick_params(labelleft=name == "exact")
    panels["exact"].set_ylabel("depth [mm]")
    images = [panels[name] for name in ("exact", "fast", "difference")]
    figure.colorbar(grey, ax=images, label="dB", location="bottom", aspect=80)
    _draw_map(panels["map"], axes, result)
    _draw_by_depth(panels["depth"], result)
    _draw_by_column(panels["column"], result)
    return figure


def _draw_map(panel: Panel, axes: Axes, result: Validation) -> None:
    """NRMSE by place: strips of bands, and single scatterers as dots; a line around what is judged."""
    limits = {"cmap": "RdYlGn_r", "vmin": 2.0 * AIM_DB, "vmax": 0.0}
    errors = show_image(panel, axes, "error by place", result.strips, **{**limits, "interpolation": "nearest"})
    x, z = axes.x * 1e3, axes.z * 1e3
    if result.inside.any() and not result.inside.all():
        panel.contour(x, z, result.inside, levels=[0.5], colors="black", linewidths=1.0)
    place = np.array([(s.x, s.z, s.agreement.nrmse_db) for s in result.singles]).reshape(-1, 3)
    panel.scatter(
        place[:, 0] * 1e3, place[:, 1] * 1e3, c=place[:, 2], s=22, edgecolors="black", linewidths=0.6, **limits
    )
    panel.set_xlabel("lateral [mm]")
    panel.tick_params(labelleft=False)
    bar = panel.figure.colorbar(errors, ax=panel, label="NRMSE [dB], the line: the aim", location="bottom", aspect=25)
    bar.ax.axvline(AIM_DB, color="black")


def _draw_by_depth(panel: Panel, result: Validation) -> None:
    """NRMSE by depth, finer than the bands, inside the aperture and over the whole width; single scatterers as dots."""
    parts = np.array_split(np.arange(len(result.z)), min(_PARTS, len(result.z)))
    z = [result.z[part].mean() * 1e3 for part in parts]
    for label, used, color in (
        ("whole width", np.ones_like(result.inside), "0.65"), ("inside the aperture", result.inside, "C0")
    ):  # fmt: skip
        error, energy = _energies(result, used)
        panel.plot(
            z, _ratio_db([error[p].sum() for p in parts], [energy[p].sum() for p in parts]), c=color, label=label
        )
    _draw_singles(panel, [(s.z, s) for s in result.singles])
    _finish(panel, "depth [mm]")


def _draw_by_column(panel: Panel, result: Validation) -> None:
    """NRMSE of every column inside the aperture, over all depths and over those that meet the aim."""
    for label, columns, color in (
        ("inside the aperture", result.columns, "C0"),
        ("without the depth bands that miss the aim", result.good_columns, "C2"),
    ):
        if columns is result.columns or not all(band.inside.meets for band in result.judged_bands):
            panel.plot(result.x * 1e3, [column.nrmse_db for column in columns], c=color, lw=1.0, label=label)
    _draw_singles(panel, [(s.x, s) for s in result.singles])
    _finish(panel, "lateral [mm]")


def _energies(result: Validation, used: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Energy of the difference and of the exact image in every row (Z,)."""
    error, energy = (np.abs(iq.astype(np.complex128)) ** 2 for iq in (result.fast - result.exact, result.exact))
    return (error * used).sum(axis=1), (energy * used).sum(axis=1)


def _ratio_db(error: Sequence[float], energy: Sequence[float]) -> NDArray[Any]:
    above, below = np.asarray(error), np.asarray(energy)
    ratio = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0.0)
    return 10.0 * np.log10(np.maximum(ratio, 1e-20))


def _draw_singles(panel: Panel, placed: Sequence[tuple[float, Single]]) -> None:
    for inside, color, label in ((True, "C0", "single scatterers inside"), (False, "0.65", "single scatterers beyond")):
        points = [(place * 1e3, s.agreement.nrmse_db) for place, s in placed if s.inside is inside]
        if points:
            panel.plot(*zip(*points, strict=True), "o", ms=3.5, mfc="none", color=color, label=label)


def _finish(panel: Panel, across: str) -> None:
    panel.axhline(AIM_DB, color="C3", lw=1.0, ls="--", label=f"aim, {AIM_DB:g} dB")
    low, high = panel.get_ylim()
    panel.set(xlabel=across, ylabel="IQ NRMSE [dB]", ylim=(min(low, AIM_DB - 5.0), max(high, 0.0)))
    panel.margins(x=0.01)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="upper right", ncols=2)
