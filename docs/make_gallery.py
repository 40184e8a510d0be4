"""Draw every phantom that comes with usim, and write docs/gallery.md.

    python docs/make_gallery.py            # the page and all pictures
    python docs/make_gallery.py --page     # the page alone
    python docs/make_gallery.py cyst evaluation/edges    # the pictures of these phantoms

The pictures depend on the phantoms, on usim and on matplotlib's version alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from usim.phantom.load import Phantom, load_phantom, shipped_phantoms

PAGE = Path(__file__).with_name("gallery.md")
PICTURES = Path(__file__).with_name("pictures") / "gallery"
HEAD = """# Gallery

The phantoms that come with usim. Each name can be given to the commands, as in `usim generate cyst` or
`usim generate carotid --preview carotid.gif`; `usim phantoms` lists them. From left to right: images (three scenes, or
three times of a sequence, as the scanner shows them where the phantom has a display), and the truth of the last. The
page is made by `python docs/make_gallery.py`.
"""


def picture_of(name: str) -> Path:
    """Where a phantom's picture lies."""
    return PICTURES / f"{name.replace('/', '-')}.png"


def page() -> str:
    """Return the text of docs/gallery.md."""
    parts = [HEAD]
    for name in shipped_phantoms():
        document = load_phantom(name).document
        picture = f"pictures/gallery/{picture_of(name).name}"
        parts.append(f"## `{name}`\n\n{document['description']}.\n\n![{name}]({picture})\n")
    return "\n".join(parts)


def chosen(phantom: Phantom) -> list[int]:
    """Three frames: of three scenes where they differ, of three times of a sequence, else the first alone."""
    views = int(np.prod(phantom.views))
    if phantom.views.time > 1:
        return [0, phantom.views.time // 3, 2 * phantom.views.time // 3]
    return [0, views, 2 * views] if phantom.is_random else [0]


def draw(name: str) -> None:
    """Draw a phantom's picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image as Bitmap

    from usim.pipeline import Renderer

    phantom = load_phantom(name)
    renderer = Renderer(phantom)
    frames = [renderer.frame(number) for number in chosen(phantom)]
    panels = [(frame, "image", frame.bmode, frame.display) for frame in frames]
    panels.append((frames[-1], "truth", frames[-1].truth.bmode, frames[-1].truth.display))
    x, z = frames[0].axes.x, frames[0].axes.z
    figure = Figure(figsize=(2.1 * len(panels), 2.1 * float(np.ptp(z) / np.ptp(x)) + 0.5), layout="compressed")
    FigureCanvasAgg(figure)
    for axes, (frame, title, level, grey) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _panel(axes, frame, title, level, grey)
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(picture_of(name), dpi=100, metadata={"Software": None})
    small = Bitmap.open(picture_of(name)).convert("L").quantize(48, dither=Bitmap.Dither.NONE)
    small.save(picture_of(name), optimize=True)


def _panel(axes: Any, frame: Any, title: str, level: Any, grey: Any) -> None:
    x, z = frame.axes.x * 1e3, frame.axes.z * 1e3
    extent = (x[0], x[-1], z[-1], z[0])
    if grey is None:
        black = -frame.params["scene"]["image"]["dynamic_range"]
        axes.imshow(level, extent=extent, cmap="gray", vmin=black, vmax=0.0)
    else:
        white = 255 if frame.display.dtype == np.uint8 else 1.0
        axes.imshow(grey, extent=extent, cmap="gray", vmin=0, vmax=white)
    sequence = frame.params["scene"]["sequence"]
    time = f", {frame.params['time'] / sequence['rate'] * 1e3:.0f} ms" if sequence else ""
    axes.set_title(title + time, fontsize=8)
    axes.tick_params(labelsize=6)


def main(arguments: list[str]) -> None:
    """Write the page and draw the pictures; see the module's docstring."""
    PAGE.write_text(page())
    if "--page" in arguments:
        return
    for name in arguments or shipped_phantoms():
        draw(name)
        print(f"{picture_of(name)}  {picture_of(name).stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
