"""Beamformed data in files of the USTB (UFF): the envelope of complex pixels, or real ones, on linear and sector scans.

MATLAB writes pixels x channels x waves x frames, which is (frame, wave, channel, pixel) here; z runs fastest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from s2s.images.hdf5_copy import Frames, attribute, image_of
from s2s.images.image import Image, Stated, quantise
from usim.errors import DataError
from usim.io.reading import open_hdf5

_CLASS = "uff.beamformed_data"
_AXES = {"uff.linear_scan": ("z_axis", "x_axis"), "uff.sector_scan": ("depth_axis", "azimuth_axis")}


def beamformed(file: h5py.File) -> list[str]:
    """Return the names of the beamformed data in an open file."""
    return [
        name for name in file if isinstance(file.get(name), h5py.Group) and attribute(file[name], "class") == _CLASS
    ]


def read_uff(path: Path, file: h5py.File, stated: Stated) -> Image:
    """Return the image of an open UFF file with one set of beamformed data; raises DataError for any other."""
    names = beamformed(file)
    if len(names) != 1:
        raise DataError(f"{path}: beamformed data {', '.join(names)}; allowed is one; save it as a file of its own")
    group = file[names[0]]
    depth, width = _size(path, group)
    data = group.get("data")
    parts = ("real", "imag") if isinstance(data, h5py.Group) else ("",)
    places = tuple(f"{names[0]}/data/{part}".rstrip("/") for part in parts)
    if not all(isinstance(file.get(place), h5py.Dataset) for place in places):
        raise DataError(f"{path}: {names[0]} has no data, real or complex; save it again with the USTB")
    shape, dtype = file[places[0]].shape, file[places[0]].dtype
    if any(file[place].shape != shape for place in places) or shape[-1] != depth * width:
        raise DataError(f"{path}: {names[0]}/data is {shape}, its scan has {depth} x {width} pixels; save it again")
    if len(shape) not in (2, 3, 4) or np.prod(shape[-3:-1]) != 1 or (len(shape) < 4 and shape[0] != 1):
        raise DataError(
            f"{path}: {names[0]}/data is {shape}; allowed is one channel and one wave: sum them in the USTB"
        )
    if dtype.kind not in "fiu":
        raise DataError(f"{path}: {names[0]}/data holds {dtype}; allowed are floats and whole numbers")

    def values(file: h5py.File, index: int) -> list[NDArray[Any]]:
        return [np.asarray(file[place][index]).reshape(width, depth).T for place in places]

    def read(file: h5py.File, index: int) -> NDArray[Any]:
        found = values(file, index)
        return found[0] if len(found) == 1 else np.hypot(*found)

    def stored(index: int, clean: NDArray[Any], removed: bool) -> tuple[NDArray[Any], ...]:
        if len(places) == 1:
            return (quantise(clean, dtype).T,)
        if removed:
            return clean.T, np.zeros_like(clean).T
        with open_hdf5(path) as source:
            real, imaginary = values(source, index)
        phase = np.arctan2(imaginary.astype(np.float64), real)
        return (clean * np.cos(phase)).T, (clean * np.sin(phase)).T

    frames = Frames(path, shape[0] if len(shape) == 4 else 1, read)
    return image_of(path, frames, stated, places, stored)


def _size(path: Path, group: h5py.Group) -> tuple[int, int]:
    """Return the pixels of the scan along depth and across."""
    scan = group.get("scan")
    kind = attribute(scan, "class") if isinstance(scan, h5py.Group) else ""
    if kind not in _AXES:
        raise DataError(f"{path}: its scan is {kind or 'missing'}; allowed are {' and '.join(_AXES)}")
    sizes = [int(np.size(scan[axis])) if axis in scan else 0 for axis in _AXES[kind]]
    return sizes[0], sizes[1]
