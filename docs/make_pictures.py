"""Draw the pictures of docs/phantoms.md from the page's own snippets, and write its lines of units and limits.

    python docs/make_pictures.py            # everything
    python docs/make_pictures.py --facts    # only the lines of units, defaults and limits
    python docs/make_pictures.py tgc points.amplitude    # the pictures of these sections

The pictures depend on the snippets, on usim and on matplotlib's version alone.
"""

from __future__ import annotations

import math
import re
import runpy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import yaml
from pydantic import BaseModel

from usim.medium import Medium
from usim.phantom import cell, map_regions, motion, regions, schema, screen, structure, tissue, views
from usim.probe import Probe
from usim.scan import Image, Noise, Receive, Sector
from usim.transmit import FocusedScan, PlaneScan
from usim.units import UNITS, Count, Quantity, Size

PAGE = Path(__file__).with_name("phantoms.md")
PICTURES = Path(__file__).with_name("pictures")
SHAPES: tuple[type[BaseModel], ...] = (
    regions.Circle,
    regions.Ellipse,
    regions.Annulus,
    regions.Rectangle,
    regions.Triangle,
    regions.Polygon,
    regions.Spline,
    regions.Tube,
    regions.Layer,
    map_regions.ImageMap,
    map_regions.LabelMap,
)
#: Which models a section's prefix speaks of.
MODELS: dict[str, tuple[type[BaseModel], ...]] = {
    "": (schema.Scene,),
    "probe": (Probe,),
    "medium": (Medium,),
    "transmit": (FocusedScan, PlaneScan),
    "receive": (Receive,),
    "image": (Image, Sector),
    "scatterers": (schema.CloudSpec, schema.CloudFile),
    "speckle": (cell.Speckle,),
    "noise": (Noise,),
    "background": (schema.Background,),
    "background.texture": (tissue.Smooth, tissue.Fibres, tissue.Clusters),
    "regions": SHAPES,
    "regions.wave": (regions.Wave,),
    "regions.roughness": (regions.Roughness,),
    "regions.wall": (tissue.Wall,),
    "points": (structure.Point,),
    "wires": (structure.Wire,),
    "interfaces": (structure.Interface,),
    "interfaces.reverberation": (structure.Bounces,),
    "reverberation": (structure.Reverberation,),
    "haze": (structure.Haze,),
    "sweep": (views.Sweep,),
    "sequence": (motion.Sequence,),
    "sequence.motions": get_args(get_args(motion.AnyMotion)[0]),
    "compound": (views.Compound,),
    "display": (screen.Display,),
    "display.curve": (screen.LogCurve, screen.PowerCurve),
    "display.tgc_error": (screen.Sliders, screen.DriftingGain),
}
RANGES = ("uniform", "log_uniform", "normal", "integer", "choice", "regions.repeat", "points.repeat")
RANGES += ("wires.repeat", "interfaces.repeat")
#: Keys of groups and items that no model of a region has.
GROUPS = ("regions.group", "regions.at", "regions.points", "regions.apart")
FRAMES = (*RANGES[:5], "frames", "looks", "angles", "sweep.slices", "sweep.step", "sequence.times", "sequence.rate")
FRAMES += ("display.persistence",)
#: Keys that hold others and have a section with a snippet of their own.
HOLDERS = (
    *("background.texture", "regions.wave", "regions.roughness", "regions.wall", "interfaces.reverberation"),
    "sequence.motions",
)
LABELLED = (
    *("regions", "regions.name", "regions.shape", "regions.wall", "regions.edge"),
    *("regions.file", "regions.values", "regions.group"),
    *("background.name", "scatterers.file"),
)


@dataclass(frozen=True)
class Section:
    """One key of the page: its name and the variants of its snippet, as YAML text."""

    key: str
    variants: tuple[str, ...]

    @property
    def picture(self) -> Path:
        """Where its picture lies."""
        return PICTURES / f"{self.key}.png"


def sections(page: str) -> list[Section]:
    """Return every section that has a snippet; the first, `base`, is the phantom that the others change."""
    found, key = [], "base"
    for heading, block in re.findall(r"^##+ `([\w.]+)`|^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        key = heading or key
        if block:
            found.append(Section(key, tuple(block.split("---\n"))))
    return found


def documents(section: Section, base: str) -> list[dict[str, Any]]:
    """Return the phantoms of a section: the base with the snippet's keys in place of its own."""
    return [{**yaml.safe_load(base), **yaml.safe_load(variant)} for variant in section.variants]


def write_phantom(document: dict[str, Any], folder: Path) -> Path:
    """Write a phantom file, and the cloud and the maps that snippets name, to a folder."""
    random = np.random.default_rng(1)
    position = random.uniform((-12e-3, 0.0, 2e-3), (12e-3, 0.0, 26e-3), (40_000, 3))
    ring = np.abs(np.hypot(position[:, 0], position[:, 2] - 14e-3) - 5e-3) < 1e-3
    np.savez(folder / "cloud.npz", position=position, amplitude=np.where(ring, 4.0, 1.0))
    _write_maps(folder)
    path = folder / "phantom.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _write_maps(folder: Path) -> None:
    import nibabel

    maps = runpy.run_path(str(PAGE.with_name("make_maps.py")))
    maps["write"](maps["section"](), folder / "section.png")
    maps["write"](maps["scan"](), folder / "scan.png")
    maps["write"](maps["scan"](12, 10), folder / "coarse.png")
    np.save(folder / "organs.npy", maps["organs"]())
    # (slice, depth, lateral) becomes (left to right, back to front, foot to head), of 0.25 x 0.25 x 0.4 mm
    volume = np.ascontiguousarray(maps["organs"]()[:, ::-1, ::-1].transpose(2, 1, 0))
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.25, 0.25, 0.4, 1])), folder / "organs.nii.gz")


def facts(key: str) -> str:
    """Return the line under a key's heading: unit, default, limits, from the models; for a motion of all its keys."""
    prefix, _, name = key.rpartition(".")
    if key in (*RANGES, *GROUPS) or key not in keys():
        return ""
    if prefix == "sequence.motions":
        (model,) = [model for model in MODELS[prefix] if model.model_fields["type"].default == name]
        fields = {key: field for key, field in model.model_fields.items() if key != "type"}
        return "\n".join(f"- *`{key}`: {_fact(field)}*" for key, field in fields.items())
    owners = [model for model in MODELS[prefix] if name in model.model_fields]
    field = owners[0].model_fields[name]
    if name in ("shape", "type"):
        words = ", ".join(f"`{model.model_fields[name].default}`" for model in owners)
        defaults = {"transmit": "`plane`", "display.curve": "`log`", "background.texture": "`smooth`"}
        return f"*One of {words}. {f'Default: {defaults[prefix]}.' if prefix in defaults else 'Required.'}*"
    defaults = list(dict.fromkeys(_default(model.model_fields[name]) for model in owners))
    parts = [_kind(field), f"Default: {defaults[0]}." if defaults[0] else "Required."]
    if prefix == "regions" and len(owners) < len(SHAPES):
        parts.append("Shapes: " + ", ".join(model.model_fields["shape"].default for model in owners) + ".")
    if prefix == "background.texture" and len(owners) < len(MODELS[prefix]):
        parts.append("Types: " + ", ".join(model.model_fields["type"].default for model in owners) + ".")
    return "*" + " ".join(part for part in parts if part) + "*"


def _fact(field: Any) -> str:
    default = _default(field)
    return f"{_kind(field)} {f'Default: {default}.' if default else 'Required.'}"


def keys() -> list[str]:
    """Return every key of the language but those that only hold other keys.

    A wall's are those that regions lack; motions have their types instead.
    """
    nested = set(MODELS) - {"", *HOLDERS}
    found = []
    for prefix, models in MODELS.items():
        if prefix == "sequence.motions":
            found += [f"{prefix}.{model.model_fields['type'].default}" for model in models]
            continue
        for model in models:
            for name in model.model_fields:
                if model is Probe and name in schema.NOT_IN_PHANTOMS:
                    continue
                if model is tissue.Wall and name in tissue.Region.model_fields:
                    continue
                key = f"{prefix}.{name}" if prefix else name
                if key not in nested and key not in found:
                    found.append(key)
    return found


def _kind(field: Any) -> str:
    """Unit and limits of a field; the two items of a pair share a unit, and each has its limits when they differ."""
    marks = list(dict.fromkeys([*field.metadata, *_marks(field.annotation)]))
    quantities = [mark for mark in marks if isinstance(mark, Quantity)]
    if quantities:
        units = [unit for unit in UNITS[quantities[0].dimension] if unit]
        limits = [_limits(mark) for mark in quantities]
        if len(limits) == 2 and quantities[0].least is not None and quantities[0].least < 0:
            limits = [f"x {limits[0]}", f"z {limits[1]}"]
        elif len(limits) == 2:
            limits = [f"first {limits[0]}", f"second {limits[1]}"]
        words = " or ".join(f"`{word}`" for word in quantities[0].words)
        if isinstance(quantities[0], Size):
            units.append("px")
            limits.append("{:g} px to {:g} px".format(*quantities[0].pixels))
        unit = f"Unit: {', '.join(units)}" if units else "A number"
        return f"{unit}; {'; '.join(limits)}{f'; or {words}' if words else ''}."
    for mark in marks:
        if isinstance(mark, Count):
            most = {2**63 - 1: "2^63 - 1", 10**9: "10^9"}.get(mark.most, str(mark.most))
            return f"A whole number from {mark.least} to {most}."
    words = [word for word in get_args(field.annotation) if isinstance(word, str | int)]
    if words:
        return "One of " + ", ".join(f"`{word}`" for word in words) + "."
    longest = [m.max_length for m in field.metadata if hasattr(m, "max_length")]
    return f"Text of at most {longest[0]} characters." if longest and field.annotation is str else ""


def _marks(annotation: Any) -> list[Any]:
    found = []
    # Of a mapping the values count: its keys are greys or labels.
    for argument in get_args(annotation)[get_origin(annotation) is dict :]:
        found += [argument] if isinstance(argument, Quantity | Count) else _marks(argument)
    return found


def _limits(mark: Quantity) -> str:
    parts = [
        f"above {_write(mark.above, mark)}" if mark.above is not None else "",
        f"at least {_write(mark.least, mark)}" if mark.least is not None else "",
        f"at most {_write(mark.most, mark)}" if math.isfinite(mark.most) else "",
    ]
    return ", ".join(part for part in parts if part)


def _write(value: float, mark: Quantity) -> str:
    """Write a value in the unit that people use for it."""
    unit = {"length": "mm", "frequency": "MHz", "angle": "deg", "fraction": "%"}.get(mark.dimension)
    unit = "Hz" if mark.dimension == "frequency" and abs(value) < 0.1e6 else unit
    unit = next(iter(UNITS[mark.dimension])) if unit is None else unit
    return "0" if value == 0 else f"{value / float(UNITS[mark.dimension][unit]):g} {unit}".strip()


def _default(field: Any) -> str:
    if field.is_required():
        return ""
    if field.default is None:
        return "none"
    if isinstance(field.default, str):
        return f"`{field.default}`" if field.default else "empty"
    if isinstance(field.default, tuple) and field.default:
        return f"`[{', '.join(map(str, field.default))}]`"
    marks = [mark for mark in [*field.metadata, *_marks(field.annotation)] if isinstance(mark, Quantity)]
    return _write(field.default, marks[0]) if marks else f"{field.default}"


def refresh(page: str) -> str:
    """Return the page with the line of facts under each key and the picture at the end of each section renewed."""
    line_of_facts = r"^(?:- \*`.*\*\n)+\n|^\*(Unit|A number|A whole|One of|Text|Default|Required|Shapes).*\*\n\n"
    page = re.sub(line_of_facts, "", page, flags=re.MULTILINE)
    page = re.sub(r"^!\[[^\]]*\]\(pictures/(?!base)[^)]*\)\n\n?", "", page, flags=re.MULTILINE).rstrip() + "\n"
    lines = []
    for part in re.split(r"(?=^##+ )", page, flags=re.MULTILINE):
        heading = re.match(r"##+ `([\w.]+)`\n\n", part)
        if heading is None:
            lines.append(part)
            continue
        key, line = heading[1], facts(heading[1])
        picture = f"![{key}](pictures/{key}.png)\n\n" if "```yaml" in part else ""
        body = part[heading.end() :].rstrip() + "\n\n"
        lines.append(f"{heading[0]}{line + chr(10) * 2 if line else ''}{body}{picture}")
    return "".join(lines).rstrip() + "\n"


def draw(section: Section, base: str) -> None:
    """Draw a section's picture: its variants side by side; a single one beside its truth (and labels)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image as Bitmap

    from usim.phantom.load import load_phantom
    from usim.pipeline import Renderer
    from usim.view.motion import add_arrows, farthest

    panels = []
    with tempfile.TemporaryDirectory() as folder:
        for document in documents(section, base):
            phantom = load_phantom(write_phantom(document, Path(folder)))
            moved = section.key.startswith("sequence.motions")
            indices = (0, 1, 2) if section.key in FRAMES else (0, phantom.views.time - 1) if moved else (0,)
            renderer = Renderer(phantom)
            for index in indices:
                frame = renderer.frame(index)
                values, depth = frame.bmode, frame.params["scene"]["image"]["dynamic_range"]
                if frame.display is not None:
                    values, depth = frame.display / (255.0 if frame.display.dtype == np.uint8 else 1.0) - 1.0, 1.0
                title = f"frame {index}" if len(indices) > 1 else document.get("description", "")
                title = f"{frame.params['seconds']:g} s" if moved else title
                panels.append((title, frame, values, depth))
        if len(panels) == 1:
            panels = [("image", *panels[0][1:]), ("truth/bmode", frame, frame.truth.bmode, depth)]
            if section.key in LABELLED:
                panels.append(("truth/labels", frame, None, 0.0))
    figure = Figure(figsize=(1.75 * len(panels) + 0.75, 2.35), layout="compressed")
    FigureCanvasAgg(figure)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, frame, values, depth) in zip(row, panels, strict=True):
        _panel(axes, title, frame, values, depth)
        if moved and frame.params["time"]:
            add_arrows(axes, frame, farthest([frame]))
    row[0].set_ylabel("depth [mm]", fontsize=7)
    target = section.picture
    figure.savefig(target, dpi=100, metadata={"Software": None})
    colors = 64 if any(values is None for *_, values, _ in panels) else 32
    Bitmap.open(target).convert("RGB").quantize(colors, dither=Bitmap.Dither.NONE).save(target, optimize=True)


def _panel(axes: Any, title: str, frame: Any, values: Any, depth: float) -> None:
    x, z = frame.axes.x * 1e3, frame.axes.z * 1e3
    half = (x[1] - x[0]) / 2, (z[1] - z[0]) / 2
    extent = (x[0] - half[0], x[-1] + half[0], z[-1] + half[1], z[0] - half[1])
    if values is None:
        names = frame.truth.label_names
        axes.imshow(frame.truth.labels, extent=extent, cmap="tab10", vmin=0, vmax=9, interpolation="nearest")
        for label, name in enumerate(names):
            rows, columns = np.nonzero(frame.truth.labels == label)
            if label and len(rows):
                axes.text(x[columns].mean(), z[rows].mean(), name, fontsize=6, ha="center", va="center", color="white")
        axes.text(0.02, 0.02, f"0: {names[0]}", fontsize=6, color="white", transform=axes.transAxes)
    else:
        axes.imshow(values, extent=extent, cmap="gray", vmin=-depth, vmax=0.0)
    axes.set_title(title, fontsize=8)
    axes.set_xlabel("lateral [mm]", fontsize=7)
    axes.tick_params(labelsize=6)


def main(arguments: list[str]) -> None:
    """Renew the page's lines and the pictures; see the module's docstring."""
    PAGE.write_text(refresh(PAGE.read_text()))
    if "--facts" in arguments:
        return
    PICTURES.mkdir(exist_ok=True)
    found = sections(PAGE.read_text())
    for section in found:
        if not arguments or section.key in arguments:
            draw(section, found[0].variants[0])
            print(f"{section.picture}  {section.picture.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
