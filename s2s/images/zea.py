"""Images in zea's files: `image`, decibels or 8 bits; `image_sc` of old files; or else `envelope_data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from s2s.domain import LOWEST_DB
from s2s.images.hdf5_copy import Frames, image_of
from s2s.images.image import Image, Stated, quantise
from usim.errors import DataError

#: What is an image, the best first.
_IMAGES = ("image", "image_sc", "envelope_data")


def is_zea(file: h5py.File) -> bool:
    """True for a file that has zea's groups."""
    return isinstance(file.get("data"), h5py.Group) or isinstance(file.get("tracks"), h5py.Group)


def read_zea(path: Path, file: h5py.File, stated: Stated) -> Image:
    """Return the image of an open zea file; raises DataError without one, or when it is a volume."""
    name = _name(path, file)
    found = file[name]
    shape, dtype = found.shape, found.dtype
    flat = len(shape) == 4 and shape[3] == 1
    if len(shape) != 3 and not flat:
        raise DataError(f"{path}: {name} is {shape}; allowed is (frame, z, x); give slices of a volume as NPY")
    if dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} holds {dtype}; allowed are floats and whole numbers")

    def read(file: h5py.File, index: int) -> NDArray[Any]:
        frame: NDArray[Any] = np.asarray(file[name][index]).reshape(shape[1:3])
        return np.where(np.isneginf(frame), dtype.type(LOWEST_DB), frame) if dtype.kind == "f" else frame

    def stored(index: int, clean: NDArray[Any], removed: bool) -> tuple[NDArray[Any]]:
        below = image.domain.kind == "db" and not removed  # zea takes nothing else for decibels
        return (quantise(np.minimum(clean, 0.0) if below else clean, dtype),)

    image = image_of(path, Frames(path, shape[0], read), stated, (name,), stored)
    return image


def _name(path: Path, file: h5py.File) -> str:
    """Return where the image is."""
    tracks = sorted(file["tracks"]) if isinstance(file.get("tracks"), h5py.Group) else []
    if len(tracks) > 1:
        raise DataError(f"{path}: a zea file of {len(tracks)} tracks; save the one to denoise as a file of its own")
    home = f"tracks/{tracks[0]}/data" if tracks else "data"
    data = file.get(home, {})
    for kind in _IMAGES:
        for name in (f"{kind}/values", kind):
            if isinstance(data.get(name), h5py.Dataset):
                return f"{home}/{name}"
    raise DataError(
        f"{path}: a zea file with {', '.join(data) or 'nothing'} in {home}; allowed are {', '.join(_IMAGES)}: make an "
        "image of it with zea"
    )
