"""Draw the picture of docs/channel_data.md from the first Python block of the page.

    python docs/make_channel_pictures.py

It depends on that block, on usim and on matplotlib's version alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from usim.process import rf_to_iq

PAGE = Path(__file__).with_name("channel_data.md")
PICTURE = Path(__file__).with_name("pictures") / "channel-bmode.png"
SHOWN = 60.0  # dB


def first_block() -> dict[str, Any]:
    """Run the first Python block of the page; return its names."""
    found = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found[1], str(PAGE), "exec"), names)
    return names


def draw(names: dict[str, Any]) -> None:
    """Draw the envelope of the channels of the wave that is not steered, and the image of all waves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image as Bitmap

    rf, x, z = names["rf"], names["x"] * 1e3, names["z"] * 1e3
    wave = len(rf.events) // 2
    time = rf.time[wave] * 1e6
    channels = rf_to_iq(rf.data, rf.t0, rf.sampling_frequency, rf.center_frequency)
    echoes = 20.0 * np.log10(np.abs(channels[wave]) / np.abs(channels[wave]).max())
    figure = Figure(figsize=(6.4, 3.2), layout="compressed")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    extent = (0.5, rf.data.shape[2] + 0.5, time[-1], time[0])
    left.imshow(echoes, extent=extent, aspect="auto", cmap="gray", vmin=-SHOWN, vmax=0.0)
    left.set(title=f"envelope of channel data, one wave, {SHOWN:g} dB", xlabel="element", ylabel="time [us]")
    right.imshow(names["bmode"], extent=(x[0], x[-1], z[-1], z[0]), cmap="gray", vmin=-SHOWN, vmax=0.0)
    right.set(title=f"image of {len(rf.events)} waves, {SHOWN:g} dB", xlabel="lateral [mm]", ylabel="depth [mm]")
    for axes in (left, right):
        axes.title.set_fontsize(8)
        axes.xaxis.label.set_fontsize(7)
        axes.yaxis.label.set_fontsize(7)
        axes.tick_params(labelsize=6)
    figure.savefig(PICTURE, dpi=100, metadata={"Software": None})
    Bitmap.open(PICTURE).convert("RGB").quantize(32, dither=Bitmap.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    draw(first_block())
    print(f"{PICTURE}  {PICTURE.stat().st_size / 1e3:.0f} kB")
