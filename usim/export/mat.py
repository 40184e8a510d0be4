"""MATLAB: files that `load` reads, version 5 without compression, one for each shard.

Variables are called as the datasets with `_` for `/`: truth_bmode. Images are (z, x, frame), complex single for `iq`;
axes are columns, or (x, frame) where they differ between frames; `params` and `truth_label_names` are cells by frame.
"""

from __future__ import annotations

import io
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from usim.export import Job
from usim.export.rows import Row, per_frame, stored
from usim.io.atomic import write_atomic

#: Arrays in a file at most: MATLAB ends at 2 GB for a variable, and a file is built in memory.
FILE_BYTES = 128 << 20
#: Bytes of the text at the start of a file; that of SciPy tells the time.
_TEXT_BYTES = 116


def write_mat(job: Job) -> Generator[None, None, None]:
    """Write each shard to SHARD.mat, the rest of a large one to SHARD-1.mat, ...; yields after every frame."""
    names = stored(job.frames)
    names = (*per_frame(names), *(name for name in names if "axes/" in name))
    held: list[Row] = []
    size = files = 0
    for row in job.rows(names):
        more = sum(values.nbytes for values in row.arrays.values())
        if held and (row.shard != held[0].shard or size + more > FILE_BYTES):
            _write(job.folder, held, files)
            files = files + 1 if row.shard == held[0].shard else 0
            held, size = [], 0
        held.append(row)
        size += more
        yield
    _write(job.folder, held, files)


def _write(folder: Path, held: list[Row], files: int) -> None:
    shard = held[0].shard
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, variables(held), format="5", oned_as="column")
    data = buffer.getbuffer()
    data[:_TEXT_BYTES] = b"MATLAB 5.0 MAT-file, written by usim".ljust(_TEXT_BYTES)
    write_atomic(folder / (f"{shard}-{files}.mat" if files else f"{shard}.mat"), data)


def variables(held: list[Row]) -> dict[str, Any]:
    """Return the variables of a file; frames come last, as MATLAB stacks images."""
    found: dict[str, Any] = {
        name.replace("/", "_"): _stacked([row.arrays[name] for row in held], "axes/" in name) for name in held[0].arrays
    }
    found["frame"] = np.array([row.number for row in held], np.int64)
    found["params"] = _cells([json.dumps(row.params, sort_keys=True) for row in held])
    found["truth_label_names"] = _cells([_cells(row.label_names) for row in held])
    clouds = [row.scatterers for row in held if row.scatterers is not None]
    if clouds:
        found["scatterers_position"] = _cells([cloud.position for cloud in clouds])
        found["scatterers_amplitude"] = _cells([cloud.amplitude for cloud in clouds])
    return found


def _stacked(values: list[NDArray[Any]], may_agree: bool) -> NDArray[Any]:
    if may_agree and all(np.array_equal(value, values[0]) for value in values):
        return values[0]
    out = np.empty((*values[0].shape, len(values)), values[0].dtype, order="F")
    for number, value in enumerate(values):
        out[..., number] = value
    return out


def _cells(values: list[Any]) -> NDArray[Any]:
    cells = np.empty(len(values), object)
    cells[:] = values
    return cells
