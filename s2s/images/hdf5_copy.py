"""Copies of HDF5 files of others, in which one image is another and everything else is the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from s2s import __version__
from s2s.images.image import Image, LazyFrames, Stated, find_domain, survey
from usim.errors import DataError, first_line
from usim.io.growing import growing
from usim.io.reading import BROKEN, open_hdf5

#: Root attribute that says how the copy came about.
PROVENANCE = "s2s_denoised"


class Frames(LazyFrames):
    """The images (H, W) of a file, read one at a time; the file is open only meanwhile.

    read_from: gives frame `index` of an open file.
    """

    def __init__(self, path: Path, count: int, read_from: Callable[[h5py.File, int], NDArray[Any]]) -> None:
        super().__init__(count)
        self._path, self._read_from = path, read_from

    def read(self, index: int) -> NDArray[Any]:
        """The image (H, W) of a frame."""
        try:
            with open_hdf5(self._path) as file:
                return self._read_from(file, index)
        except BROKEN as error:
            raise DataError(
                f"{self._path}: frame {index} can't be read: {first_line(error)}; restore a copy, or install what "
                "decompresses it: python -m pip install hdf5plugin"
            ) from error


def image_of(
    path: Path, frames: Frames, stated: Stated, names: tuple[str, ...], stored: Callable[..., tuple[NDArray[Any], ...]]
) -> Image:
    """Return the image of a file's frames; its writer makes a copy of the file.

    names: of the datasets that hold the image, frames first.  stored: what they hold of a frame, from its index, new
    values (H, W), and whether those are no image but decibels that were removed.
    """
    ranges = [survey(frame, f"{path}: frame {index}") for index, frame in enumerate(frames)]
    if not ranges:
        raise DataError(f"{path}: no frames in {names[0]}; save it again")
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    domain, note = find_domain(frames[0].dtype, low, high, stated, str(path))

    def write(target: Path, clean: Iterable[NDArray[Any]], about: dict[str, str]) -> None:
        removed = "content" in about
        write_copy(target, path, names, (stored(index, frame, removed) for index, frame in enumerate(clean)), about)

    return Image(frames, domain, note, path.suffix, write)


def write_copy(
    target: Path, source: Path, names: tuple[str, ...], rows: Iterable[tuple[NDArray[Any], ...]], about: dict[str, str]
) -> None:
    """Write a copy of `source` in which the datasets `names` hold, frame by frame, what `rows` gives.

    Raises DataError when the source can't be read, ResourceError when the system refuses.
    """
    with (
        growing(target, source.stat().st_size) as file,
        open_hdf5(source) as old,
        h5py.File(file, "w", libver=("earliest", "v114")) as new,
    ):
        try:
            _copy(old, new, set(names))
        except BROKEN as error:
            file.check()
            raise DataError(f"{source}: damaged: {first_line(error)}; restore a copy") from error
        new.attrs[PROVENANCE] = json.dumps({"software": f"s2s {__version__}", **about}, sort_keys=True)
        for index, values in enumerate(rows):
            for name, value in zip(names, values, strict=True):
                new[name][index] = value.reshape(new[name].shape[1:])
            file.check()


def _copy(old: h5py.Group, new: h5py.Group, names: set[str]) -> None:
    """Copy a group's attributes and content; datasets of `names`, relative to it, are made anew and left empty."""
    for key in old.attrs:
        new.attrs[key] = old.attrs[key]
    for key in old:
        link = old.get(key, getlink=True)
        inside = {name.removeprefix(f"{key}/") for name in names if name.startswith(f"{key}/")}
        if not isinstance(link, h5py.HardLink):
            new[key] = link
        elif inside:
            _copy(old[key], new.create_group(key), inside)
        elif key in names:
            like = old[key]
            chunks = (1, *like.shape[1:])
            made = new.create_dataset(key, like.shape, like.dtype, chunks=chunks, fletcher32=True, track_times=False)
            for name in like.attrs:
                made.attrs[name] = like.attrs[name]
        else:
            old.copy(key, new)


def attribute(item: Any, name: str) -> str:
    """Return an attribute as text, "" when it is missing; MATLAB writes it as bytes, or as an array of one."""
    found = item.attrs.get(name, "")
    found = found.flat[0] if isinstance(found, np.ndarray) and found.size else found
    return found.decode(errors="replace").strip("\0") if isinstance(found, bytes) else str(found)
