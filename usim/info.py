"""What a dataset holds, in the few lines that a person wants first."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.errors import DataError
from usim.frame import Frame
from usim.io.dataset import Frames, open_frames, open_shard
from usim.io.folder import writer
from usim.io.provenance import MANIFEST, read_manifest
from usim.progress import human_bytes

#: Frames read for the grey levels: enough for percentiles, few enough to answer at once.
_SAMPLE = 8
#: Damaged shards that are named.
_NAMED = 5
_BARS = " ▁▂▃▄▅▆▇█"


def describe(path: str | os.PathLike[str]) -> str:
    """Return the summary of a dataset folder or of one shard as lines of text.

    Raises DataError, naming the file, when something is missing or damaged.
    """
    folder = Path(path)
    frames, integrity = _sound(folder, open_frames(folder))
    try:
        places = frames.places()
        sample = [frames[int(i)] for i in np.unique(np.linspace(0, len(frames) - 1, _SAMPLE).astype(int))]
    finally:
        frames.close()
    lines = [
        *_origin(folder, frames),
        ("integrity", integrity),
        ("index", _index(places, sample[0])),
        *_shape(sample[0]),
        *_scene(sample),
        *_levels(sample),
    ]
    return "\n".join(f"{name:<12}{text}" for name, text in lines)


def _sound(folder: Path, frames: Frames) -> tuple[Frames, str]:
    """Return the frames of the shards whose sizes fit the manifest, and what that says of the dataset."""
    more = f"'usim verify {folder}' reads every byte"
    if frames.parts[0].bytes is None:
        return frames, f"no manifest to compare with; {more}"
    sizes = {part: part.path.stat().st_size if part.path.is_file() else None for part in frames.parts}
    bad = [part for part in frames.parts if sizes[part] != part.bytes]
    if not bad:
        return frames, f"sizes of all shards fit the manifest; {more}"
    said = [f"{p.path.name} {'is missing' if sizes[p] is None else f'has {sizes[p]} of {p.bytes} bytes'}" for p in bad]
    text = ", ".join(said[:_NAMED]) + (f" and {len(said) - _NAMED} more" if len(said) > _NAMED else "")
    if len(bad) == len(frames.parts):
        raise DataError(f"{folder}: no shard is whole: {text}; {more}")
    return Frames([part for part in frames.parts if part not in bad]), f"DAMAGED: {text}; {more}"


def _origin(folder: Path, frames: Frames) -> list[tuple[str, str]]:
    with open_shard(frames.parts[0].path) as file:
        try:
            description, seed = str(file.attrs["description"]), int(file.attrs["seed"])
            extras = [name for name in ("envelope", "display", "iq", "polar", "scatterers") if name in file]
            written = file["bmode"].dtype.name + (", compressed" if file["bmode"].compression else "")
            stored = ["bmode", *extras, *(f"truth/{name}" for name in file["truth"])]
        except (KeyError, ValueError, OSError) as error:
            raise DataError(f"{frames.parts[0].path}: damaged attributes ({error})") from error
    size = sum(part.path.stat().st_size for part in frames.parts)
    count, parts = f"{len(frames)}", []
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        state = writer(folder) or "the run was interrupted"
        count += "" if manifest.complete else f" finished of {manifest.frames} ({state})"
        finished = {name: sum(s.frames for s in manifest.shards if s.split == name) for name, _ in manifest.split}
        parts = [("split", ", ".join(f"{name} {number}" for name, number in finished.items()))] if finished else []
    return [
        ("path", str(folder)),
        ("description", description),
        ("frames", count),
        *parts,
        ("seed", str(seed)),
        ("shards", f"{len(frames.parts)}, {human_bytes(size)}"),
        ("stored as", written),
        ("datasets", ", ".join(stored)),
    ]


def _index(places: Mapping[str, NDArray[np.int64]], frame: Frame) -> str:
    """How the frame axis divides into scenes, looks, slices, angles and times."""
    scene = frame.params.get("scene", {})
    sweep, angles = scene.get("sweep"), scene.get("angles")
    notes = {
        "slice": f" ({sweep['step'] * 1e3:.4g} mm apart)" if sweep else "",
        "angle": f" ({', '.join(f'{np.degrees(angle):.4g}' for angle in angles)} degrees)" if angles else "",
    }
    counts = {name: len(np.unique(numbers)) for name, numbers in places.items()}
    text = " x ".join(f"{count} {name}{'s' * (count != 1)}{notes.get(name, '')}" for name, count in counts.items())
    missing = math.prod(counts.values()) - len(places["scene"])
    return text + (f"; {missing} of these are not there" if missing else "")


def _shape(frame: Frame) -> list[tuple[str, str]]:
    rows, columns = frame.bmode.shape
    lines = [
        ("shape", f"{rows} x {columns} (z, x)"),
        ("axes", f"z {_range_mm(frame.axes.z)}, x {_range_mm(frame.axes.x)}"),
    ]
    if frame.polar is not None:
        samples, count = frame.polar.bmode.shape
        first, last = np.degrees(frame.polar.axes.angle[[0, -1]])
        text = f"{count} lines, {first:.1f} to {last:.1f} deg, {samples} samples, {_range_mm(frame.polar.axes.range)}"
        lines.append(("sector", text))
    return lines


def _range_mm(axis: NDArray[np.float64]) -> str:
    step = (axis[-1] - axis[0]) / max(len(axis) - 1, 1) * 1e3
    return f"{axis[0] * 1e3:.2f} to {axis[-1] * 1e3:.2f} mm, step {step:.4f} mm"


def _scene(sample: list[Frame]) -> list[tuple[str, str]]:
    probes = sorted({str(frame.params.get("scene", {}).get("probe", {}).get("name")) for frame in sample})
    names = dict.fromkeys(name for frame in sample for name in frame.truth.label_names)
    sequence = sample[0].params.get("scene", {}).get("sequence")
    times = []
    if sequence:
        motions = ", ".join(motion["type"] for motion in sequence["motions"]) or "nothing moves"
        times = [("sequence", f"{sequence['times']} times at {sequence['rate']:g} Hz; {motions}")]
    return [("probe", ", ".join(probes)), ("labels", ", ".join(names)), *times]


def _seen(frame: Frame) -> Any:
    """Which pixels were scanned."""
    return slice(None) if frame.truth.mask is None else frame.truth.mask > 0


def _levels(sample: list[Frame]) -> list[tuple[str, str]]:
    lines = []
    for name, images in (
        ("bmode", [frame.bmode[_seen(frame)] for frame in sample]),
        ("truth/bmode", [frame.truth.bmode[_seen(frame)] for frame in sample]),
    ):
        values = np.concatenate([image.ravel() for image in images])
        low, quarter, middle, three, high = np.percentile(values, [1, 25, 50, 75, 99])
        counts, _ = np.histogram(values, bins=16, range=(-80, 0))
        bars = "".join(_BARS[int(np.ceil(8 * count / max(counts.max(), 1)))] for count in counts)
        text = f"{low:.1f} | {quarter:.1f} {middle:.1f} {three:.1f} | {high:.1f} dB (1, 25, 50, 75, 99 %)"
        lines.append((name, f"{text}  -80 [{bars}] 0"))
    return lines
