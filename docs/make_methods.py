"""Write the pages of the denoising methods from their source files: methods.md, and methods/NAME.md for each of them.

    python docs/make_methods.py                                        # the pages
    python docs/make_methods.py --pictures                             # and the pictures of the filters
    python docs/make_methods.py --pictures nlm lee                     # and the pictures of these two
    python docs/make_methods.py --weights noise2true=runs/n2t          # and the picture of a learned method

A page is the docstring of the method's module, its picture if there is one, and tables of its settings and of how it is
trained. The settings' meanings are the parts "name: meaning" of the class's docstring. A test compares the pages with
what this would write.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from s2s import ask
from s2s.listing import kind_of
from s2s.methods import METHODS, method_class, settings_of
from s2s.methods.base import KEYS, Method

DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures" / "methods"
#: The frame that every picture shows, and the part of it, in metres: first and last x, first and last z.
PHANTOM, PART = "cyst", (-6e-3, 15e-3, 8.5e-3, 32e-3)

INTRODUCTION = """\
# Methods

Filters work on any image at once. Learned methods have to be trained first; what they learn from is in the table.
Every method has a page with what it assumes, its formula, its settings and where it fails. The pages of the filters say
how close they come to the truth on the toy scene, random ellipses under correlated speckle (`s2s.toy`): PSNR, the mean
over twelve of them.

```sh
s2s methods
s2s methods lee
s2s denoise scan.png -m lee:window=9
```

## Noise that is wider than a pixel

Noise2Void, Noise2Self, Neighbor2Neighbor and their kin learn from the neighbours of a pixel, and need noise that these
do not share. Speckle is several pixels wide: of 11 to 12 dB that they gain on the toy scene with white speckle less
than 1 dB is left on that with speckle as in an image (their pages have the figures and commands). Two things help:

- hide the whole speckle cell: `structn2v`, `inpaint`, `speckle2self`;
- put `polyphase(4):` before a method's name, to train it, to name it as a filter, to tune it: it then sees every fourth
  pixel of every fourth row as an image of its own, and after it all others. `polyphase(2,4):` are every second row and
  every fourth column. The distance should be where the speckle's correlation has fallen below 0.15.

```sh
s2s train --sim --method "polyphase(2,4):noise2void" --minutes 20 -o runs/noise2void
s2s denoise scan.png -m "polyphase(2,4):nlm:h=1.2"
```

PSNR on twelve toy scenes with speckle as in an image, noisy 20.65 dB, after 400 steps of `preset="toy"` on one core
(`benchmarks/toy_denoise.py --steps 400 --method NAME`); phases make a crop of 128 x 128 pixels of one of 64 x 64:

| method | as it is | on 4 x 4 phases |
|---|---|---|
| noise2void | 21.17 | 28.91 |
| noise2self | 19.81 | 29.05 |
| neighbor2neighbor | 21.11 | 28.07 |
| structn2v, which hides the cell | 28.55 | |
| inpaint, which hides a block | 28.22 | |

## The methods
"""


def pages() -> dict[Path, str]:
    """Return the pages as they should be."""
    found = {DOCS / "methods" / f"{name}.md": page(name) for name in METHODS}
    return {DOCS / "methods.md": index(), **found}


def index() -> str:
    """Return the page that lists all methods."""
    rows = ["| method | kind | learns from | |", "|---|---|---|---|"]
    for name in METHODS:
        kind = method_class(name)
        rows.append(f"| [{name}](methods/{name}.md) | {kind_of(kind)} | {', '.join(kind.needs)} | {summary(kind)} |")
    keys = "\n".join(f"- `{key}`: {meaning}" for key, meaning in KEYS.items())
    tree = "\n".join(["```{toctree}", ":hidden:", "", *(f"methods/{name}" for name in METHODS), "```"])
    return "\n".join([INTRODUCTION, *rows, "", "What methods learn from:", "", keys, "", tree, ""])


def page(name: str) -> str:
    """Return the page of a method."""
    kind = method_class(name)
    scale = "decibels" if kind.domain == "db" else "linear amplitude"
    needs = " and ".join(f"`{key}` ({KEYS[key]})" for key in kind.needs)
    facts = [kind_of(kind).capitalize(), f"works on {scale}", f"learns from {needs}" if needs else "needs no training"]
    parts = [f"# {name}", f"*{'; '.join(facts)}.*", text_of(kind)]
    if (PICTURES / f"{name}.png").is_file():
        parts.append(f"![The phantom {PHANTOM}: noisy, {name}, truth](../pictures/methods/{name}.png)")
    if rows := judged(name):
        parts += ["## In the table", rows]
    parts += ["## Settings", settings_table(kind)]
    if kind.IN_USE:
        names = ", ".join(f"`{key}`" for key in kind.IN_USE)
        parts.append(f"Trained weights take other values of {names} when they are used: `-m RUN:KEY=VALUE,KEY=VALUE`.")
    if kind.TRAINING:
        parts += ["## Training", training_table(kind)]
    if kind.needs and not kind.fit_steps and not kind.holds_image:
        parts.append(recipe(name))
    return "\n\n".join(parts) + "\n"


def judged(name: str) -> str:
    """Return what the committed results say of a method, with and without a wrapper and in every row that it has."""
    heads, *lines = table_of((DOCS / "results.md").read_text(encoding="utf-8"), "### S-I")
    shown = [*(heads.index(column) for column in ("PSNR", "PSNR fit", "SSIM 8 bit", "scenes"))]
    own = [line for line in lines if line[0].rpartition("):")[2].split(" (")[0] == name]
    noisy = [line for line in lines if "noisy" in line[0]]
    rows = [[line[0], *(line[column] for column in shown)] for line in [*own, *noisy]]
    table = [["", *(heads[column] for column in shown)], ["---"] * (len(shown) + 1), *rows]
    told = (
        "Means over scenes of `paper-s1` with 95 % intervals, from [the table](../results.md), which says how each was "
        "trained and by which command:"
    )
    return "\n\n".join([told, "\n".join(f"| {' | '.join(row)} |" for row in table)]) if own else ""


def table_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, its heads first."""
    under = text[text.index(heading) :]
    rows = [line.strip("|").split("|") for line in under.split("\n\n")[1].splitlines()]
    cells = [[cell.strip() for cell in row] for row in rows]
    return [cells[0], *cells[2:]]


def recipe(name: str) -> str:
    """Return a recipe of a training, to be pasted into a file."""
    needs = method_class(name).needs
    phantom = ask.phantom_for(needs)
    lines = [f"description: {name}, taught by simulation", f"method: {name}", "preset: default"]
    lines += [f"phantom: {'training-any' if phantom == ask.PHANTOM else phantom}", "minutes: 60"]
    block = "\n".join(["```yaml", *lines, "```"])
    return f"As a recipe, `s2s train --recipe mine.yaml -o runs/mine`:\n\n{block}"


def text_of(kind: type[Method]) -> str:
    """Return the docstring of a method's module."""
    return inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")


def summary(kind: type[Method]) -> str:
    """Return the first paragraph of a method's text, without the full stop."""
    return " ".join(text_of(kind).split("\n\n")[0].split()).rstrip(".")


def settings_table(kind: type[Method]) -> str:
    """Return the table of settings: the default, each other preset's value, and the meaning."""
    presets = {preset: values for preset, values in kind.PRESETS.items() if preset != "default" or values}
    rows = [f"| setting | default |{''.join(f' {preset} |' for preset in presets)} meaning |"]
    rows.append("|---" * (len(presets) + 3) + "|")
    explained = meanings(kind)
    for name, default in settings_of(kind).items():
        values = "".join(f" {_show(changes[name]) if name in changes else ''} |" for changes in presets.values())
        rows.append(f"| `{name}` | {_show(default)} |{values} {explained.get(name, '')} |")
    return "\n".join(rows)


def training_table(kind: type[Method]) -> str:
    """Return the table of how each preset is trained."""
    names = [field.name for field in dataclasses.fields(next(iter(kind.TRAINING.values())))]
    rows = [f"| preset | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for preset, training in kind.TRAINING.items():
        rows.append(f"| {preset} | {' | '.join(_show(getattr(training, name)) for name in names)} |")
    return "\n".join(rows)


def meanings(kind: type[Method]) -> dict[str, str]:
    """Return what the settings mean, from "name: meaning" in the docstrings of the class and of its bases."""
    found: dict[str, str] = {}
    known = set(settings_of(kind))
    names = "|".join(map(re.escape, known))
    entry = rf"(?<![\w-])((?:{names})(?:, (?:{names}))*): "
    for base in kind.__mro__:
        text = " ".join(inspect.cleandoc(base.__dict__.get("__doc__") or "").replace("\n\n", "\0").split())
        pieces = re.split(entry, text) if known else []
        for together, meaning in zip(pieces[1::2], pieces[2::2], strict=True):
            for name in together.split(", "):
                found.setdefault(name, meaning.split("\0")[0].strip().removesuffix(".").replace("|", r"\|"))
    return found


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw(name: str, spec: str, frame: Any) -> Path:
    """Draw a frame before and after a method, beside its truth; spec is what `s2s.load` takes."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image as Bitmap

    import s2s

    depth = frame.params["scene"]["image"]["dynamic_range"]
    clean = s2s.load(spec).denoise(frame.bmode, domain="db", dynamic_range=depth)
    columns = slice(*np.searchsorted(frame.axes.x, PART[:2]))
    rows = slice(*np.searchsorted(frame.axes.z, PART[2:]))
    figure = Figure(figsize=(7.8, 3.05), layout="compressed")
    FigureCanvasAgg(figure)
    panels = {"noisy": frame.bmode, name: clean, "truth": frame.truth.bmode}
    for axes, (title, image) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(image[rows, columns], extent=np.multiply(PART, 1e3)[[0, 1, 3, 2]], cmap="gray", vmin=-depth, vmax=0)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    PICTURES.mkdir(parents=True, exist_ok=True)
    target = PICTURES / f"{name}.png"
    figure.savefig(target, dpi=100, metadata={"Software": None})
    # Steps of 5 are invisible, and halve the file.
    Bitmap.open(target).convert("L").point(lambda grey: round(grey / 5) * 5).save(target, optimize=True)
    return target


def main() -> None:
    """Write the pages, and the pictures that are asked for; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write the pages of the denoising methods.")
    parser.add_argument("--pictures", nargs="*", metavar="NAME", help="draw the filters, or those named")
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=PATH", help="draw a learned method")
    arguments = parser.parse_args()
    specs = dict(pair.split("=", 1) for pair in arguments.weights)
    if arguments.pictures is not None:
        filters = [name for name in METHODS if not method_class(name).needs]
        specs |= {name: name for name in arguments.pictures or filters}
    if specs:
        from usim.phantom.load import load_phantom
        from usim.pipeline import simulate

        frame = simulate(load_phantom(PHANTOM))
        for name, spec in specs.items():
            path = draw(name, spec, frame)
            print(f"{path}  {path.stat().st_size / 1e3:.0f} kB", flush=True)
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
