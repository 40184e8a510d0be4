"""Draw the picture of docs/speckle2self.md: what the copies of the paper agree on, and what lies around hidden cells.

python docs/make_speckle2self.py                         # before any training
python docs/make_speckle2self.py runs/a runs/b           # and what trainings made of the frame
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image as Bitmap

from s2s.denoise import Denoiser, load
from s2s.methods import make
from s2s.methods.speckle2self import multi_scale
from usim.phantom.load import load_phantom
from usim.pipeline import simulate

TARGET = Path(__file__).parent / "pictures" / "speckle2self-copies.png"
#: The frame, and the part of it that is shown, in metres: first and last x, first and last z.
PHANTOM, PART = "cyst", (-6e-3, 15e-3, 8.5e-3, 32e-3)


def panels(frame: Any, weights: list[str]) -> dict[str, Any]:
    """Return the images in dB by their titles."""
    depth = frame.params["scene"]["image"]["dynamic_range"]
    noisy = frame.bmode.clip(-depth, 0.0)
    half, quarter = (copy[0, 0].numpy() for copy in multi_scale(torch.from_numpy(noisy)[None, None], (0.5, 0.25)))
    around = Denoiser(make("speckle2self", keep=0.0))
    found = {
        "noisy": noisy,
        "copy at 1/2": half,
        "copy at 1/4": quarter,
        "around the cell, untrained": around.denoise(noisy, domain="db", dynamic_range=depth),
    }
    for spec in weights:
        found[Path(spec).name] = load(spec).denoise(noisy, domain="db", dynamic_range=depth)
    return {**found, "truth": frame.truth.bmode}


def main() -> None:
    """Draw the picture."""
    frame = simulate(load_phantom(PHANTOM))
    shown = panels(frame, sys.argv[1:])
    depth = frame.params["scene"]["image"]["dynamic_range"]
    columns = slice(*np.searchsorted(frame.axes.x, PART[:2]))
    rows = slice(*np.searchsorted(frame.axes.z, PART[2:]))
    figure = Figure(figsize=(2.3 * len(shown), 2.85), layout="compressed")
    FigureCanvasAgg(figure)
    for axes, (title, image) in zip(figure.subplots(1, len(shown)), shown.items(), strict=True):
        axes.imshow(image[rows, columns], extent=np.multiply(PART, 1e3)[[0, 1, 3, 2]], cmap="gray", vmin=-depth, vmax=0)
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    figure.savefig(TARGET, dpi=100, metadata={"Software": None})
    # Steps of 5 are invisible, and halve the file.
    Bitmap.open(TARGET).convert("L").point(lambda grey: round(grey / 5) * 5).save(TARGET, optimize=True)
    print(f"{TARGET}  {TARGET.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
