"""Frames as exports take them: arrays by name, what was drawn, and the place in the dataset."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from usim.errors import DataError
from usim.io.arrays import stored_names
from usim.io.dataset import Frames, Part, open_shard
from usim.io.growing import Growing, growing
from usim.io.layout import AXES, BY_PATH
from usim.io.shard import canonical_json, read_arrays, read_scatterers
from usim.scatterers import Scatterers

#: Bytes of a frame's record, about.
_RECORD_BYTES = 4096


@dataclass(frozen=True, eq=False)
class Row:
    """One frame of an export.

    number: in the dataset.  shard: stem of its file.  split: its part of the dataset, "" without.  arrays: by dataset
    name.  params, label_names: as in Frame.  scatterers: None when they were not stored.  place: scene, look, slice,
    angle and time.
    """

    number: int
    shard: str
    split: str
    arrays: dict[str, NDArray[Any]]
    params: dict[str, Any]
    label_names: list[str]
    scatterers: Scatterers | None
    place: dict[str, int]

    @property
    def record(self) -> str:
        """What is no array, as a line of JSON: number, place, names of labels, and params."""
        part = {"split": self.split} if self.split else {}
        about = {"frame": self.number, **self.place, **part, "label_names": self.label_names, "params": self.params}
        return canonical_json(about)


def rows(frames: Frames, chosen: Sequence[int], names: Sequence[str]) -> Iterator[Row]:
    """Yield the chosen frames with the named datasets; frames of other sizes than the first are a DataError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number in chosen:
        part = frames.part_of(number)
        row = frames.read(number, functools.partial(_read, number=number, part=part, names=names))
        for name, values in row.arrays.items():
            if shapes.setdefault(name, values.shape) != values.shape:
                raise DataError(
                    f"{part.path}: {name} of frame {number} is {values.shape}, of those before it {shapes[name]}; "
                    "export frames of one size together"
                )
        yield row


def _read(file: h5py.File, row: int, *, number: int, part: Part, names: Sequence[str]) -> Row:
    return Row(
        number,
        part.path.stem,
        part.split,
        read_arrays(file, row, names),
        json.loads(file["params"][row]),
        json.loads(file["truth/label_names"][row]),
        read_scatterers(file, row) or (Scatterers(np.zeros((0, 3)), np.zeros(0)) if "scatterers" in file else None),
        {name: int(file[f"index/{name}"][row]) for name in AXES},
    )


class Records:
    """params.json: a JSON list with the record of every frame on a line of its own, written one by one."""

    def __init__(self, file: Growing) -> None:
        self._file, self._before = file, b"[\n"

    def add(self, row: Row) -> None:
        """Append a frame; raises OSError when it could not be written."""
        self._file.write(self._before + row.record.encode())
        self._before = b",\n"
        self._file.check()


@contextlib.contextmanager
def records(folder: Path, frames: int) -> Iterator[Records]:
    """Yield the params.json of a folder."""
    with growing(folder / "params.json", _RECORD_BYTES * frames) as file:
        yield Records(file)
        file.write(b"\n]\n")


def stored(frames: Frames) -> tuple[str, ...]:
    """Return the names of the arrays that the first shard of a dataset stores."""
    with open_shard(frames.parts[0].path, frames.parts[0].bytes) as file:
        return stored_names(file)


def per_frame(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that differ from frame to frame: images and indices."""
    return tuple(name for name in names if BY_PATH[name].dims[0] == "frame")


def shared(frames: Frames, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Return those of the named axes that are one and the same for all frames of a dataset."""
    same: dict[str, NDArray[np.float64]] = {}
    left = set(names)
    for part in frames.parts:
        with open_shard(part.path, part.bytes) as file:
            for name in sorted(left):
                found = np.atleast_2d(file[name][()])  # (frame, z) of frames that differ along x alone
                if not all(np.array_equal(same.setdefault(name, found[0]), values) for values in found):
                    left.discard(name)
    return {name: same[name] for name in names if name in left}
