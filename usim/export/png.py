"""PNG: what a screen shows of every frame, its truth and its labels beside it, and an index of them all.

`bmode` and `truth-bmode` are 8-bit grey, linear in dB from black, `dynamic_range` below white, to 0 dB; or `display`
and `truth-display` where the phantom has a display. `truth-labels` holds the numbers of the regions, in 8 bits up to
256 regions and in 16 beyond. Pixel sizes are in the files' pHYs; index.csv has the axes, params.json what was drawn.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from usim.export import Job
from usim.export.rows import Row, records, stored
from usim.io.atomic import write_atomic
from usim.io.growing import Growing, growing
from usim.io.layout import AXES

_INCH = 0.0254
#: Digits of a frame's number in the names of files.
_DIGITS = 6
#: Bytes of a line of the index, about.
_LINE_BYTES = 256
_COLUMNS = (
    "frame", *AXES, "split", "image", "truth", "labels", "rows", "columns", "x_first_mm", "x_last_mm", "z_first_mm",
    "z_last_mm", "dynamic_range_db",
)  # fmt: skip


def write_png(job: Job) -> Generator[None, None, None]:
    """Write the folders of pictures, index.csv and params.json; yields after every frame."""
    shown = "display" if job.dynamic_range is None and "display" in stored(job.frames) else "bmode"
    names = (shown, f"truth/{shown}", "truth/labels")
    folders = [job.folder / name.replace("/", "-") for name in names]
    for folder in folders:
        folder.mkdir()
    several = [axis for axis, numbers in job.frames.places().items() if len(np.unique(numbers)) > 1]
    with contextlib.ExitStack() as stack:
        index = stack.enter_context(growing(job.folder / "index.csv", _LINE_BYTES * len(job.chosen)))
        params = stack.enter_context(records(job.folder, len(job.chosen)))
        _line(index, _COLUMNS)
        for row in job.rows((*names, "axes/x", "axes/z")):
            file = f"{row.number:0{_DIGITS}d}{''.join(f'-{axis}{row.place[axis]}' for axis in several)}.png"
            depth = job.dynamic_range or _dynamic_range(row)
            pictures = [_grey(row.arrays[name], row.arrays[shown].dtype, depth, shown) for name in names[:2]]
            labels = row.arrays["truth/labels"]
            pictures.append(labels.astype(np.uint8) if len(row.label_names) <= 256 else labels)
            for folder, picture in zip(folders, pictures, strict=True):
                _save(picture, row, folder / file)
            _line(
                index, _entry(row, [f"{folder.name}/{file}" for folder in folders], depth if shown == "bmode" else "")
            )
            params.add(row)
            yield


def _dynamic_range(row: Row) -> float:
    """Decibels between black and white that the phantom says."""
    return float(row.params["scene"]["image"]["dynamic_range"])


def _grey(values: NDArray[Any], dtype: np.dtype[Any], depth: float, shown: str) -> NDArray[np.uint8]:
    """The 8-bit grey levels of decibels, or of a display; dtype: that of the image, which tells the display's white."""
    level = 1.0 + values / depth if shown == "bmode" else values / (255.0 if dtype == np.uint8 else 1.0)
    return np.rint(255.0 * np.clip(level, 0.0, 1.0)).astype(np.uint8)


def _save(picture: NDArray[Any], row: Row, path: Path) -> None:
    inches = tuple(_INCH / _step(row.arrays[name]) for name in ("axes/x", "axes/z"))
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, "PNG", dpi=inches)
    write_atomic(path, buffer.getvalue())


def _step(axis: NDArray[np.float64]) -> float:
    """Distance of neighbouring pixels in metres."""
    return float(axis[-1] - axis[0]) / (len(axis) - 1)


def _entry(row: Row, files: list[str], depth: float | str) -> list[Any]:
    ends = [row.arrays[name][end] * 1e3 for name in ("axes/x", "axes/z") for end in (0, -1)]
    sizes = row.arrays["truth/labels"].shape
    return [
        row.number,
        *(row.place[axis] for axis in AXES),
        row.split,
        *files,
        *sizes,
        *(f"{end:.9g}" for end in ends),
        depth,
    ]


def _line(file: Growing, values: Any) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    file.write(text.getvalue().encode())
    file.check()
