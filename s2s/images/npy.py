"""One array per file, as numpy.save writes it: an image (z, x) or frames (frame, z, x)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from s2s.images.image import Image, Stated, find_domain, quantise, refuse_lone_white, survey
from usim.errors import DataError, first_line
from usim.io.growing import growing


def read_npy(path: Path, stated: Stated) -> Image:
    """Open an array of floats or whole numbers; raises DataError when it is damaged or no image."""
    try:
        with open(path, "rb") as file:
            _inspect(file, path)
            file.seek(0)
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}") from error
    except (DataError, MemoryError):
        raise
    except Exception as error:  # numpy raises errors of many kinds on damaged headers
        raise DataError(f"{path}: damaged: {first_line(error)}; save it again with numpy.save") from error
    frames = array[None] if array.ndim == 2 else array
    ranges = [survey(frame, _place(path, index, array.ndim)) for index, frame in enumerate(frames)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    brightest = max(range(len(ranges)), key=lambda index: ranges[index][1])
    refuse_lone_white(frames[brightest], high, stated, _place(path, brightest, array.ndim))
    domain, note = find_domain(array.dtype, low, high, stated, str(path))

    def write(target: Path, clean: Iterable[NDArray[Any]], about: dict[str, str]) -> None:
        write_npy(target, clean, array.shape, array.dtype)

    return Image(frames, domain, note, ".npy", write)


def write_npy(path: Path, frames: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write frames (H, W) as one array of the shape and type; raises ResourceError when the system refuses."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    with growing(path, math.prod(shape) * dtype.itemsize) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for frame in frames:
            file.write(quantise(frame, dtype).tobytes())
            file.check()


def _inspect(file: BinaryIO, path: Path) -> None:
    """Refuse what is no image by its header, before any memory is taken."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers of Python 2 are read all the same
        shape, _, dtype = reader(file)
    if dtype.kind == "c":
        raise DataError(f"{path}: complex numbers: IQ data is no image; give its envelope, numpy.abs(iq)")
    if dtype.kind not in "fiu":
        raise DataError(f"{path}: values of type {dtype}; allowed are floats and whole numbers; use astype")
    if len(shape) not in (2, 3) or 0 in shape:
        raise DataError(f"{path}: shape {shape}; allowed are (z, x) and (frame, z, x), with something in it")
    expected, start = math.prod(shape) * dtype.itemsize, file.tell()
    found = file.seek(0, os.SEEK_END) - start
    if found != expected:
        raise DataError(f"{path}: truncated or damaged: {found} bytes of values, {expected} expected; save it again")


def _place(path: Path, index: int, dims: int) -> str:
    return str(path) if dims == 2 else f"{path}: frame {index}"
