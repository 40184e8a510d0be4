"""Draw the pictures of how channel RF agrees: with PyMUST's SIMUS, with a piston's formula, and in which time.

    python docs/make_agreement.py                     # rf-channel, rf-bands and rf-piston
    python docs/make_agreement.py bands               # one of them
    python docs/make_agreement.py times LINES         # rf-times, from the lines that benchmarks/rf_vs_pymust.py printed

They go to docs/pictures. What is simulated is what tests/physics judges (simus.py and test_channel_analytic.py there).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1"
)  # before numpy: PyMUST has its own threads

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Bitmap

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
sys.path.insert(0, str(ROOT / "tests" / "physics"))

LIMIT = -45.0  # dB that are asked for
MAGNIFIED = 1000


def figure(rows: int = 1, height: float = 2.6) -> tuple[Figure, Any]:
    """An empty figure of the pages' width, and its axes."""
    made = Figure(figsize=(6.4, height), layout="constrained")
    FigureCanvasAgg(made)
    return made, made.subplots(rows, 1)


def save(made: Figure, name: str) -> None:
    """Write a figure to docs/pictures, in few colours."""
    target = PICTURES / f"rf-{name}.png"
    made.savefig(target, dpi=120, metadata={"Software": None})
    Bitmap.open(target).convert("RGB").quantize(64, dither=Bitmap.Dither.NONE).save(target, optimize=True)
    print(f"{target}  {target.stat().st_size / 1e3:.0f} kB", flush=True)


def label(axes: Any, x: str, y: str) -> None:
    """Names of both axes, in the pages' size."""
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)


def channel() -> None:
    """One channel of a plane wave by both programs, and their difference."""
    from simus import Case, agreement, on_grid, ours, scattered, theirs

    from usim.events import PlaneWave
    from usim.probe import Probe

    case = Case(Probe.preset("L11-5v"), PlaneWave())
    cloud = scattered(300, (-15, 15), (1, 40))
    wanted = theirs(case, cloud)
    found = on_grid(*ours(case, cloud), len(wanted))
    error = agreement(found, wanted).nrmse_db
    time, element = np.arange(len(wanted)) / case.rate * 1e6, 64
    shown = (time > 18.0) & (time < 26.0)
    scale = np.abs(wanted[shown, element]).max()
    made, (upper, lower) = figure(2, 3.4)
    upper.plot(time[shown], wanted[shown, element] / scale, color="0.65", linewidth=3.0, label="PyMUST")
    upper.plot(time[shown], found[shown, element] / scale, color="C0", linewidth=0.8, label="usim")
    upper.legend(fontsize=7, loc="upper right")
    upper.set_title("L11-5v, plane wave, 300 scatterers, 2-D: channel 65", fontsize=8)
    difference = MAGNIFIED * (found - wanted)[shown, element] / scale
    lower.plot(time[shown], difference, color="C3", linewidth=0.8)
    lower.set_ylim(-1.1, 1.1)
    lower.set_title(f"difference x {MAGNIFIED}; over all channels and depths {error:.0f} dB", fontsize=8)
    label(upper, "", "RF")
    label(lower, "time [µs]", f"x {MAGNIFIED}")
    save(made, "channel")


def bands() -> None:
    """NRMSE of every 2-D case in every band of depth."""
    from simus import PROBES, cases_2d, study

    made, rows = figure(2, 4.4)
    for axes, (name, (edges, x)) in zip(rows, PROBES.items(), strict=True):
        middle = (np.array(edges[:-1]) + np.array(edges[1:])) / 2.0
        cases = [case for case in cases_2d().values() if case.probe.name == name]
        for shift, case in zip(np.linspace(-0.3, 0.3, len(cases)) * (edges[2] - edges[1]), cases, strict=True):
            found = [band.nrmse_db for band in study(case, edges, x, count=13)[1]]
            colour = "C1" if case.attenuation else "C0"
            axes.plot(middle + shift, found, ".", color=colour, markersize=3)
        for colour, what in (("C0", "no attenuation"), ("C1", "0.5 dB/cm/MHz (PyMUST rounds 8.686 dB/Np to 8.69)")):
            axes.plot([], [], ".", color=colour, markersize=4, label=what)
        axes.axhline(LIMIT, color="0.3", linewidth=0.8, linestyle="--", label="asked for")
        axes.set_ylim(-100.0, -35.0)
        axes.set_title(f"{name}: 4 events, soft and rigid baffle, directivity at the centre and full", fontsize=8)
        label(axes, "", "NRMSE [dB]")
    rows[0].legend(fontsize=7, loc="lower right", ncols=3)
    rows[1].set_xlabel("depth, middle of the band [mm]", fontsize=8)
    save(made, "bands")


def piston() -> None:
    """The field on the axis of a disc of elements, and the formula."""
    import test_channel_analytic as analytic

    radius, depth = 4.0 * analytic.LAMBDA, np.linspace(0.5, 40.0, 800) * analytic.LAMBDA
    probe = analytic.piston(radius, 40)
    area = np.pi * radius**2 / probe.elements
    pieces = [analytic.field(probe, analytic.on_axis(part)).sum(axis=1) for part in np.array_split(depth, 20)]
    found = analytic.WAVENUMBER / (2.0 * np.pi) * area * np.abs(np.concatenate(pieces))
    exact = 2.0 * np.abs(np.sin(analytic.WAVENUMBER / 2.0 * (np.hypot(depth, radius) - depth)))
    made, axes = figure()
    axes.plot(depth / analytic.LAMBDA, exact, color="0.65", linewidth=3.0, label="2 |sin(k/2 (√(z² + a²) − z))|")
    axes.plot(depth / analytic.LAMBDA, found, color="C0", linewidth=0.8, label=f"usim, {probe.elements} elements")
    axes.legend(fontsize=7)
    axes.set_title(f"piston of 4 wavelengths' radius: within {np.abs(found - exact).max():.3f} of rho c U", fontsize=8)
    label(axes, "depth [wavelengths]", "pressure / (rho c U)")
    save(made, "piston")


def times(path: str) -> None:
    """Seconds over the number of scatterers, the best of the benchmark's lines in a file."""
    lines = [json.loads(line) for line in Path(path).read_text().splitlines() if line.startswith("{")]
    lines = sorted((line for line in lines if "seconds" in line), key=lambda line: line["scatterers"])
    made, axes = figure()
    ours, theirs, error = ({} for _ in range(3))  # the best of all lines of one number
    for line in lines:
        count = line["scatterers"]
        ours[count] = min(line["seconds"], ours.get(count, np.inf))
        if "pymust_seconds" in line:
            alone = line.get("pymust_cpu_seconds", np.inf) / line["threads"]  # had the machine been idle
            theirs[count] = min(line["pymust_seconds"], alone, theirs.get(count, np.inf))
            error[count] = max(line["nrmse_db"], error.get(count, -np.inf))
    for best, colour, what in ((ours, "C0", "usim"), (theirs, "0.5", "PyMUST, its thread pool")):
        axes.loglog(list(best), list(best.values()), "o-", color=colour, markersize=3, linewidth=0.8, label=what)
    for count, seconds in theirs.items():
        note = f"{seconds / ours[count]:.0f} x at {error[count]:.0f} dB"
        axes.annotate(note, (count, seconds), xytext=(4, -9), textcoords="offset points", fontsize=7)
    axes.set_title(f"one plane wave, L11-5v, 40 mm, 2-D, {lines[0]['threads']} threads", fontsize=8)
    axes.legend(fontsize=7, loc="upper left")
    label(axes, "scatterers", "seconds")
    save(made, "times")


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    PICTURES.mkdir(exist_ok=True)
    if arguments[:1] == ["times"]:
        times(arguments[1])
        return
    for draw in (channel, bands, piston):
        if not arguments or draw.__name__ in arguments:
            draw()


if __name__ == "__main__":
    main(sys.argv[1:])
