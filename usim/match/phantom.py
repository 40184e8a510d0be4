"""The phantom of a scan: a commented YAML file and, beside it, its echogenicity as a picture."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from usim.errors import ConfigError
from usim.match.area import Area, Fan
from usim.match.cells import Cells
from usim.match.measure import Match, cells_of, describe_curve
from usim.match.tissue import despeckle, echogenicity
from usim.phantom.load import load_phantom
from usim.pipeline import Renderer
from usim.probe import PRESETS

Array = NDArray[np.float64]
Aim = tuple[float | None, float | None]
AXES: Final = ("axial", "lateral")
ROUNDS: Final = 2
#: Depth that is assumed where none is given, metres: what scanners show most often.
DEPTHS: Final = {"linear": 40e-3, "phased": 160e-3, "convex": 160e-3}
SHALLOW: Final = 50e-3  # metres; linear probes of more than 7 MHz see no deeper
TOP: Final = 1e-3  # metres; echoes begin below the face
MEAN_OF_LOG: Final = -2.507  # dB; mean of 10 log10 of an exponential intensity of mean 1
STEP: Final = 8.0  # dB; at most, by which a round corrects the map
FARTHEST: Final = 1.5  # by which a round corrects the cell
LOWEST, HIGHEST = -90.0, 60.0  # dB of an echogenicity
SPARE: Final = 0.02  # radians of the array beyond the first and the last line
SNR, MOST_SNR = 60.0, 150.0  # dB; where the search starts, and where noise is gone
BELOW: Final = 3.0  # dB; noise lies below the median of the deepest tenth, which tissue makes


@dataclass(frozen=True)
class Chosen:
    """What a scan does not say: the pixel's side in metres, whether it is a guess, and the probe's preset."""

    pixel: float
    guessed: bool
    probe: str


@dataclass(frozen=True, eq=False)
class Draft:
    """A phantom in the making.

    level: (Z, X) of the map, dB below white. aim: cell to ask for, pixels, None where the probe can't make it. snr: dB.
    """

    level: Array
    aim: Aim
    snr: float | None


def choose(match: Match, depth: float | None = None, pixel: float | None = None, probe: str | None = None) -> Chosen:
    """Choose what is not given: pixel from the depth, depth and probe from the kind of scan; lengths in metres.

    Raises ConfigError for both depth and pixel, a size that no probe sees, or a probe of another kind.
    """
    if depth is not None and pixel is not None:
        raise ConfigError("--depth and --pixel both give the size of a pixel; give one of them")
    kind = match.area.kind
    guessed = depth is None and pixel is None
    side = pixel or (depth or DEPTHS[kind]) / match.depth_pixels
    whole = side * match.depth_pixels
    if not 5e-3 <= whole <= 0.45:
        raise ConfigError(
            f"--{'pixel' if pixel else 'depth'}: the scan would be {whole * 1e3:.3g} mm deep, 5 mm to 450 mm are "
            "allowed; lengths have a unit, as in 40mm"
        )
    usual = {"linear": "L12-3v" if whole <= SHALLOW else "L7-4", "phased": "P4-2v", "convex": "C5-2v"}[kind]
    probe = probe or usual
    if probe not in PRESETS:
        raise ConfigError(f"--probe: '{probe}' is none of {', '.join(PRESETS)}")
    curved = "radius" in PRESETS[probe]
    if curved != (kind == "convex"):
        shape = "convex" if curved else "straight"
        raise ConfigError(f"--probe: the scan is {kind}, and {probe} is {shape}; {usual} fits")
    return Chosen(side, guessed, probe)


def write_match(
    match: Match, chosen: Chosen, target: Path, progress: Callable[[str], None] = lambda text: None
) -> None:
    """Write the phantom to `target`, and its map beside it as NAME.map.png.

    The frames of a draft are simulated and measured as the scan was; the map is corrected by what their expectation
    lacks (edges of the aperture, blur of the beam, noise), the cell by what theirs differs, in two rounds.
    """
    from usim.io.atomic import write_atomic

    draft = _first_draft(match)
    wanted = draft.level
    last: Aim = (None, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / target.name
        for number in range(ROUNDS):
            draft = _possible(draft, last, path, progress, lambda d: _write(match, chosen, d, path, Path.write_bytes))
            last = draft.aim
            draft, off = _corrected(match, wanted, draft, path, 1.0 / (number + 1))
            cell = f"speckle cell off by {off[0]:+.0%} axially, {off[1]:+.0%} laterally"
            progress(f"round {number + 1} of {ROUNDS}: {cell}")
        draft = _possible(draft, last, path, progress, lambda d: _write(match, chosen, d, path, Path.write_bytes))
        _write(match, chosen, draft, target, write_atomic)


def _possible(
    draft: Draft, last: Aim, path: Path, progress: Callable[[str], None], write: Callable[[Draft], None]
) -> Draft:
    """The draft, written to `path`; what the probe can't make of its cell is replaced by that of the `last` one."""
    for _ in AXES:
        write(draft)
        try:
            load_phantom(path)
            return draft
        except ConfigError as error:
            refused = [f"speckle.{name}" in str(error) for name in AXES]
            if not any(refused):
                raise
            for axis, name in enumerate(AXES):
                if refused[axis] and last[axis] is None:
                    progress(f"speckle of {draft.aim[axis]:.2f} pixels {name}ly can't be had; give --depth or --probe")
            axial, lateral = (old if no else new for new, old, no in zip(draft.aim, last, refused, strict=True))
            draft = replace(draft, aim=(axial, lateral))
    write(draft)
    return draft


def render(path: Path) -> Array:
    """What the display shows of the phantom's first frame (Z, X), grey 0 to 255."""
    return np.asarray(Renderer(load_phantom(path)).render(0).display, dtype=np.float64)


def map_name(target: Path) -> str:
    """Name of the map that belongs to a phantom file."""
    return f"{target.stem}.map.png"


def picture_grid(match: Match) -> tuple[Array, Array]:
    """Columns (X,) and rows (Z,) of the scan's picture, in its pixels, at the phantom's pixels."""
    fan = match.area.fan
    if fan is None:
        x0, z0, x1, z1 = match.area.box
        return np.arange(x0, x1, dtype=np.float64), np.arange(z0, z1, dtype=np.float64)
    (x0, x1), (z0, z1) = fan.box
    return np.linspace(x0, x1, round(x1 - x0) + 1), np.linspace(z0, z1, round(z1 - z0) + 1)


def simulated_area(match: Match) -> Area:
    """The area of a frame of the phantom, in the frame's pixels."""
    x, z = picture_grid(match)
    box = (0, 0, len(x), len(z))
    fan = match.area.fan
    if fan is None:
        return Area(np.ones((len(z), len(x)), dtype=bool), box, None)
    across, down = (len(x) - 1) / (x[-1] - x[0]), (len(z) - 1) / (z[-1] - z[0])
    moved = Fan(((fan.apex[0] - x[0]) * across, (fan.apex[1] - z[0]) * down), fan.radii, fan.angles)
    r, a = moved.polar(*np.meshgrid(np.arange(len(x), dtype=np.float64), np.arange(len(z), dtype=np.float64)))
    mask = (fan.radii[0] <= r) & (r <= fan.radii[1]) & (fan.angles[0] <= a) & (a <= fan.angles[1])
    return Area(mask, box, moved)


def _first_draft(match: Match) -> Draft:
    law = match.compression.law
    grey = despeckle(match.straight, match.seen, match.cells.size, law)
    x, z = picture_grid(match)
    fan = match.area.fan
    if fan is not None:
        r, a = fan.polar(*np.meshgrid(x, z))
        columns = (a - fan.angles[0]) * (fan.radii[0] + fan.radii[1]) / 2.0
        grey = ndimage.map_coordinates(grey, [r - fan.radii[0], columns], order=1, mode="nearest")
    return Draft(echogenicity(grey, law), match.cells.size, None if match.floor.black else SNR)


def _corrected(match: Match, wanted: Array, draft: Draft, path: Path, gain: float) -> tuple[Draft, tuple[float, float]]:
    """The draft after one look at what it makes, and by how much its cells were off.

    wanted: level (Z, X). gain: share of the cell's error that is taken off, since it is measured with an error itself.
    """
    renderer = Renderer(load_phantom(path))
    frame = renderer.render(0)
    cells = simulated_cells(match, np.asarray(frame.display, dtype=np.float64))
    ratio = [want / found for want, found in zip(match.cells.size, cells.size, strict=True)]
    step = [min(max(r, 1.0 / FARTHEST), FARTHEST) ** gain for r in ratio]
    axial, lateral = (None if a is None else a * by for a, by in zip(draft.aim, step, strict=True))
    seen = np.isfinite(wanted) & (frame.truth.bmode > LOWEST)
    lack = np.where(seen, wanted + MEAN_OF_LOG - frame.truth.bmode, 0.0)
    level = draft.level + ndimage.gaussian_filter(np.clip(lack, -STEP, STEP), 1.0)
    snr = draft.snr
    if snr is not None:
        stage: Any = renderer.stage(0)
        noise = 10.0 * np.log10(stage.noise_power * np.ravel(stage.gain) / stage.scale)
        at = round(match.floor.depth / len(match.straight) * (len(noise) - 1))
        snr += max(noise[at] - match.floor.level, float(np.max(noise)) - match.floor.deep + BELOW)
        snr = min(max(snr, 0.0), MOST_SNR)
    return Draft(level, (axial, lateral), snr), (1.0 / ratio[0] - 1.0, 1.0 / ratio[1] - 1.0)


def simulated_cells(match: Match, picture: Array) -> Cells:
    """Cells of a frame of the phantom, (Z, X) in grey, measured as those of the scan were."""
    straight, seen = simulated_area(match).along_beams(picture)
    return cells_of(straight, seen, match.compression.law)[0]


def _write(match: Match, chosen: Chosen, draft: Draft, target: Path, write: Callable[[Path, bytes], Any]) -> None:
    """Write map and phantom, the phantom last: where it is, its map is."""
    from PIL import Image

    known = draft.level[np.isfinite(draft.level)]
    headroom = float(np.clip(round(-np.median(known)), 1.0, 90.0))
    low = max(float(np.quantile(known, 0.001)), LOWEST - headroom + 1.0)
    high = min(max(float(np.quantile(known, 0.9999)), low + 1.0), HIGHEST - headroom)
    grey = np.rint(1.0 + 254.0 * np.clip((draft.level - low) / (high - low), 0.0, 1.0))
    grey = np.where(np.isfinite(draft.level), grey, 0.0).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(grey).save(data, "PNG")
    write(target.with_name(map_name(target)), data.getvalue())
    text = phantom_text(match, chosen, draft, map_name(target), (low + headroom, high + headroom), headroom)
    write(target, text.encode())


def phantom_text(
    match: Match, chosen: Chosen, draft: Draft, map_file: str, levels: tuple[float, float], headroom: float
) -> str:
    """The phantom as YAML. levels: dB of the map's greys 1 and 255; headroom: dB from 0 dB tissue to white."""
    cells, noise = match.cells.size, ""
    if draft.snr is not None:
        noise = (
            f"\n# The darkest places lie {match.floor.level:.0f} dB below white.\nnoise: {{snr: {draft.snr:.1f} dB}}\n"
        )
    size = "a guess: give --depth or --pixel" if chosen.guessed else "as it was given"
    picture, edges = _geometry(match, chosen)
    return f"""\
# yaml-language-server: $schema=schema.json
#
# What usim match measured on {_plain(match.scan.path.name)}: frames of this phantom look like it.

description: Matched to {_plain(match.scan.path.name)}

# A {match.area.kind} scan. The size of its pixels, {chosen.pixel * 1e3:.4g} mm, is {size}.
{picture}
medium: {{attenuation: 0.5 dB/cm/MHz}}

transmit: {{type: focused, depth: {match.depth_pixels * chosen.pixel * 0.5e3:.1f} mm}}

# Speckle of the scan is {cells[0]:.2f} x {cells[1]:.2f} pixels (axial x lateral); frames show it when asked for this:
{_speckle(draft.aim)}

# The grey curve: {describe_curve(match.compression)}.
display: {_display(match)}
{noise}
# Fully developed speckle. Choose {{model: plane, per_cell: 12}} for scatterers that can move.
scatterers: {{model: field}}

# The scan without its speckle: echogenicity by grey, {headroom:g} dB below white is 0 dB; black scatters nothing.
background: {{name: surroundings, echogenicity: anechoic}}
regions:
  - name: tissue
    shape: image
    file: {map_file}
    x: {edges[0]}
    z: {edges[1]}
    grey: [1, 255]
    levels: [{levels[0]:.2f} dB, {levels[1]:.2f} dB]
    anechoic_below: 1

image: {_image(match, chosen, headroom)}
"""


def _display(match: Match) -> str:
    display = match.compression.law.display
    if display.curve.type == "power":
        curve = f"type: power, exponent: {display.curve.exponent:.3f}, black: {display.curve.black:.2f} dB"
        return f"{{curve: {{{curve}}}}}"
    gamma = f", gamma: {display.gamma:.3f}" if display.gamma != 1.0 else ""
    return f"{{curve: {{type: log, dynamic_range: {display.curve.dynamic_range:.2f} dB}}{gamma}}}"


def _geometry(match: Match, chosen: Chosen) -> tuple[str, tuple[str, str]]:
    """The probe's line of the file, and the edges of the map in x and z."""
    (x0, x1), (z0, z1) = _extent(match, chosen)
    half = chosen.pixel / 2.0
    edges = _pair(x0 - half, x1 + half), _pair(z0 - half, z1 + half)
    preset, fan = PRESETS[chosen.probe], match.area.fan
    needed, more = preset["elements"], ""
    if fan is None:
        needed = math.ceil((x1 - x0) / preset["pitch"])
    elif match.area.kind == "convex":
        radius = fan.radii[0] * chosen.pixel - TOP
        more = f", radius: {radius * 1e3:.2f} mm"
        needed = math.ceil(2.0 * (max(map(abs, fan.angles)) + SPARE) * radius / preset["pitch"])
    if needed > preset["elements"]:
        more += f", elements: {needed}"
    return f"probe: {{preset: {chosen.probe}{more}}}", edges


def _extent(match: Match, chosen: Chosen) -> tuple[tuple[float, float], tuple[float, float]]:
    """((x0, x1), (z0, z1)) of the centres of the phantom's first and last pixels, metres."""
    x, z = picture_grid(match)
    fan, side = match.area.fan, chosen.pixel
    if fan is None:
        half = (x[-1] - x[0]) / 2.0 * side
        return (-half, half), (max(TOP, side), max(TOP, side) + (z[-1] - z[0]) * side)
    face = fan.radii[0] * side - TOP if match.area.kind == "convex" else 0.0
    return (
        ((x[0] - fan.apex[0]) * side, (x[-1] - fan.apex[0]) * side),
        ((z[0] - fan.apex[1]) * side - face, (z[-1] - fan.apex[1]) * side - face),
    )


def _image(match: Match, chosen: Chosen, headroom: float) -> str:
    x, z = picture_grid(match)
    fan, shown = match.area.fan, f"dynamic_range: {match.compression.range_db:.0f} dB, headroom: {headroom:g} dB"
    if fan is None:
        across, down = _extent(match, chosen)
        return f"{{x: {_pair(*across)}, z: {_pair(*down)}, pixels: [{len(x)}, {len(z)}], {shown}}}"
    first, last = (math.degrees(a) for a in fan.angles)
    near, far = (r * chosen.pixel for r in fan.radii)
    if match.area.kind == "convex":
        near, far = TOP, far - near + TOP
    lines, samples = match.straight.shape[1], 2 * match.straight.shape[0]
    return (
        f"{{angle: [{first:.2f} deg, {last:.2f} deg], depth: {_pair(near, far)}, lines: {lines}, samples: {samples},\n"
        f"  pixels: [{len(x)}, {len(z)}], {shown}}}"
    )


def _speckle(aim: Aim) -> str:
    """The key that asks for a cell, as far as the probe can make it."""
    asked = [f"{name}: {a:.3f} px" for name, a in zip(AXES, aim, strict=True) if a is not None]
    return f"speckle: {{{', '.join(asked)}}}" if asked else "# Neither size can be had with this probe."


def _pair(first: float, last: float) -> str:
    return f"[{first * 1e3:.4f} mm, {last * 1e3:.4f} mm]"


def _plain(name: str) -> str:
    """A file name as it may stand in a YAML comment or text."""
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in name)
