"""NPY: one array for each dataset, frames first, that np.load can map into memory; params.json beside them.

Names are those of the datasets with `-` for `/`: truth-bmode.npy. An axis that is the same for all frames is stored
once. Scatterers of all frames stand one after the other: frame f owns those from offsets[f] to offsets[f + 1].
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.export import Job
from usim.export.rows import per_frame, records, shared, stored
from usim.io.growing import Growing, growing


def write_npy(job: Job) -> Generator[None, None, None]:
    """Write one .npy for each dataset and params.json, frame by frame; yields after every frame."""
    names = stored(job.frames)
    axes = [name for name in names if "axes/" in name]
    constant = shared(job.frames, axes)
    names = (*per_frame(names), *(name for name in axes if name not in constant))
    with contextlib.ExitStack() as stack:
        params = stack.enter_context(records(job.folder, len(job.chosen)))
        arrays: dict[str, _Array] = {}

        def add(name: str, values: NDArray[Any], more: int = 1) -> None:
            if name not in arrays:
                path = job.folder / f"{name.replace('/', '-')}.npy"
                arrays[name] = stack.enter_context(_array(path, values, values.nbytes * more))
            arrays[name].add(values)

        for name, values in constant.items():
            add(name, values)
        found = 0
        for row in job.rows(names):
            add("frame", np.array([row.number]), len(job.chosen))
            for name, values in row.arrays.items():
                add(name, values[None], len(job.chosen))
            if row.scatterers is not None:
                offsets = [] if "scatterers/offsets" in arrays else [0]
                found += len(row.scatterers)
                add("scatterers/position", row.scatterers.position, len(job.chosen))
                add("scatterers/amplitude", row.scatterers.amplitude, len(job.chosen))
                add("scatterers/offsets", np.array([*offsets, found]), len(job.chosen))
            params.add(row)
            yield


class _Array:
    """A .npy file that grows along its first side; its header is written again when the length is known."""

    def __init__(self, file: Growing, like: NDArray[Any]) -> None:
        self.file, self.dtype, self.shape = file, like.dtype, like.shape[1:]
        self.length = 0
        file.write(self.header())

    def header(self) -> bytes:
        """The header for the present length; NumPy leaves room in it, so that all have one size."""
        text = io.BytesIO()
        form = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(text, {**form, "shape": (self.length, *self.shape)})
        return text.getvalue()

    def add(self, values: NDArray[Any]) -> None:
        """Append rows; raises OSError when they could not be written."""
        if values.size:
            self.file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
            self.length += len(values)
        self.file.check()


@contextlib.contextmanager
def _array(path: Path, like: NDArray[Any], size: int) -> Iterator[_Array]:
    with growing(path, size) as file:
        array = _Array(file, like)
        yield array
        file.seek(0)
        file.write(array.header())
