"""Maps of grey values or labels: PNG, TIFF, NPY and NIfTI files, read as arrays (Z, X) with their pixel size.

A file holds one map or a stack of them (a NIfTI volume, the pages of a TIFF, a 3-D NPY). Rows of PNG, TIFF and NPY are
depths, columns are lateral positions. NIfTI volumes are turned to the nearest anatomical axes first: x to the patient's
right, y to the front, z to the head.
"""

from __future__ import annotations

import functools
import io
import math
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError, DataError, UsimError, first_line
from usim.phantom.files import read_file
from usim.png import chunks

MOST_PIXELS: Final = 1 << 26
"""Of one map: 8192 x 8192."""
MOST_BYTES: Final = 1 << 29
"""Of a file, and of a volume when it is unpacked."""
_Read = tuple[NDArray[Any], tuple[float, float] | None]
_INCH, _CM = 25.4e-3, 1e-2
_LETTERS: Final = "xyz"
_UNITS: Final = {"meter": 1.0, "mm": 1e-3, "micron": 1e-6, "unknown": 1e-3}


@dataclass(frozen=True, eq=False)
class Raster:
    """A map: values (Z, X), real numbers as stored; pixel: (x, z) metres as the file says, None where it is silent."""

    values: NDArray[Any]
    pixel: tuple[float, float] | None

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """The different values in ascending order, which must be whole numbers; DataError otherwise."""
        found = np.unique(self.values)
        odd = found[found != np.rint(found)] if found.dtype.kind == "f" else []
        if len(odd):
            raise DataError(f"{len(odd)} values are no whole numbers, such as {odd[0]:g}; labels are whole")
        return found.astype(np.int64)


def read_map(path: Path, sha256: str, index: int | None = None, axes: tuple[str, str] = ("-x", "-y")) -> Raster:
    """Return one map of a file, decoded once per process.

    index: which of a stack, from 0; None is the middle one. axes: the anatomical axes of a NIfTI volume that become x
    and z. Raises DataError for a file that holds no map, ConfigError for an index beyond it or a library that lacks.
    """
    return _map_of(path, sha256, index, axes)


@functools.lru_cache(maxsize=8)
def _map_of(path: Path, sha256: str, index: int | None, axes: tuple[str, str]) -> Raster:
    raw = _content(path, sha256)
    read = READERS[_kind(path)]
    try:
        values, pixel = read(raw, index, axes)
        _check(values)
    except UsimError as error:
        raise type(error)(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow, numpy and nibabel raise errors of many kinds on damaged files
        raise DataError(f"{path}: damaged: {first_line(error)}; restore a copy") from None
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    values.setflags(write=False)
    return Raster(values, pixel)


def _kind(path: Path) -> str:
    name = path.name.lower()
    kind = next((ending for ending in READERS if name.endswith(ending)), "")
    if not kind:
        raise DataError(f"{path}: of no kind that maps come in; allowed are {', '.join(READERS)}")
    return kind


@functools.lru_cache(maxsize=2)
def _content(path: Path, sha256: str) -> bytes:
    """The bytes of a file, unpacked; volumes of which frames draw their slices are unpacked once."""
    raw = read_file(path, "map", MOST_BYTES, sha256)[0]
    if not path.name.lower().endswith(".gz"):
        return raw
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(raw, MOST_BYTES)
    except zlib.error as error:
        raise DataError(f"{path}: damaged: {error}; restore a copy") from None
    if unpacker.unconsumed_tail:
        raise DataError(f"{path}: unpacks to more than {MOST_BYTES} bytes; store the slice that you need by itself")
    if not unpacker.eof:
        raise DataError(f"{path}: damaged: the file ends too soon; restore a copy")
    return data


def _check(values: NDArray[Any]) -> None:
    """Refuse what is no map of real numbers."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DataError(f"NaN or infinity at row {row}, column {column}; replace it by a number")


def _refuse_shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse by shape and type what is no stack (slice, Z, X) of maps, before anything is unpacked."""
    if dtype.kind == "c":
        raise DataError("holds complex numbers; store their magnitude, numpy.abs(...)")
    if dtype.kind not in "biuf":
        raise DataError(f"holds values of type {dtype}, expected real numbers")
    if len(shape) != 3 or 0 in shape:
        raise DataError(f"has shape {shape}; a map has 2 dimensions, or 3 for a stack, with something in each")
    _refuse_pixels(shape[-1], shape[-2])


def _refuse_pixels(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise DataError(f"{width} x {height} pixels; a map may have {MOST_PIXELS}: make it coarser or cut it")


def _chosen(index: int | None, count: int) -> int:
    if index is not None and index >= count:
        raise ConfigError(f"slice {index}: the file holds {count}, counted from 0")
    return count // 2 if index is None else index


def _read_npy(raw: bytes, index: int | None, axes: tuple[str, str]) -> _Read:
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers of Python 2 are read all the same
        shape, by_column, dtype = reader(file)
    stack = (1, *shape) if len(shape) == 2 else shape
    _refuse_shape(stack, dtype)
    start, size = file.tell(), math.prod(shape) * dtype.itemsize
    if len(raw) - start != size:
        raise DataError(f"truncated or damaged: {len(raw) - start} bytes of values, {size} expected")
    values = np.frombuffer(raw, dtype, offset=start).reshape(shape, order="F" if by_column else "C").reshape(stack)
    return values[_chosen(index, stack[0])], None


def _read_picture(raw: bytes, index: int | None, axes: tuple[str, str]) -> _Read:
    """A PNG or a TIFF; palettes of PNG label maps are labels, colour is refused."""
    import PIL.Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # our limit is lower, and refused below
        try:
            file = PIL.Image.open(io.BytesIO(raw), formats=["PNG", "TIFF"])
        except PIL.Image.DecompressionBombError:
            raise DataError(f"a map may have {MOST_PIXELS} pixels: make it coarser or cut it") from None
        with file:
            file.seek(_chosen(index, getattr(file, "n_frames", 1)))
            _refuse_pixels(*file.size)
            if file.mode not in ("1", "L", "P", "I", "F") and not file.mode.startswith("I;16"):
                raise DataError(f"a colour image ({file.mode}); a map is grey, of 8, 16 or 32 bits: convert it first")
            if file.format == "PNG":
                _refuse_thin_png(raw, file.mode)
            values = np.asarray(file)
            return values.astype(np.uint8) if values.dtype == bool else values.copy(), _pixel_of(file)


def _refuse_thin_png(raw: bytes, mode: str) -> None:
    """Refuse damage, and the 2 and 4 bits of grey that Pillow stretches to 8: labels would become others."""
    parts = list(chunks(raw, Path("its content")))
    if not parts or parts[0][0] != b"IHDR" or parts[-1][0] != b"IEND":
        raise DataError("damaged: header or end is missing; restore a copy")
    if mode == "L" and parts[0][1][8] != 8:
        raise DataError(f"{parts[0][1][8]} bits per pixel; save it with 8 or 16")


def _pixel_of(file: Any) -> tuple[float, float] | None:
    """The pixel size that a TIFF states in pixels per inch or per centimetre."""
    tags = getattr(file, "tag_v2", None) or {}
    unit = {2: _INCH, 3: _CM}.get(tags.get(296, 0))
    density = [float(tags.get(tag, 0.0)) for tag in (282, 283)]
    return (unit / density[0], unit / density[1]) if unit and min(density) > 0 else None


def _read_nifti(raw: bytes, index: int | None, axes: tuple[str, str]) -> _Read:
    try:
        import nibabel
    except ImportError:
        raise ConfigError("reading NIfTI needs nibabel: pip install 'usim-s2s[nifti]'") from None
    kind = nibabel.Nifti2Image if raw[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else nibabel.Nifti1Image
    volume = kind.from_bytes(raw)
    shape = volume.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3 or len(shape) < 2:
        raise DataError(f"has shape {shape}; a volume has 3 dimensions: store one of its times or channels by itself")
    _refuse_shape((*shape, 1)[:3], volume.get_data_dtype())
    whole = volume.slicer[(..., *[0] * (len(volume.shape) - 3))] if len(volume.shape) > 3 else volume
    return _cut(nibabel, whole, index, axes)


def _cut(nibabel: Any, volume: Any, index: int | None, axes: tuple[str, str]) -> _Read:
    """The slice of a volume whose axes become x and z, read without the others."""
    order = nibabel.orientations.io_orientation(volume.affine)[: len(volume.shape)]
    # order[i] is the anatomical axis, and the sign, of the array's axis i; array axes without extent come last.
    home = {int(axis): i for i, (axis, _) in enumerate(order) if np.isfinite(axis)}
    lateral, depth = (_LETTERS.index(axis[-1]) for axis in axes)
    across = 3 - lateral - depth
    if lateral not in home or depth not in home:
        raise DataError(f"has {len(volume.shape)} dimensions, and not both of the axes {', '.join(axes)}")
    cut: list[Any] = [slice(None)] * len(volume.shape)
    if across in home:
        count = volume.shape[home[across]]
        chosen = _chosen(index, count)
        cut[home[across]] = chosen if order[home[across], 1] > 0 else count - 1 - chosen
    values = np.asarray(volume.dataobj[tuple(cut)])
    _refuse_pixels(values.shape[0], values.shape[1])
    values = values.T if home[depth] > home[lateral] else values
    for position, axis, name in ((0, depth, axes[1]), (1, lateral, axes[0])):
        if (order[home[axis], 1] > 0) == name.startswith("-"):
            values = np.flip(values, position)
    unit = _UNITS.get(volume.header.get_xyzt_units()[0], 1e-3)
    zooms = volume.header.get_zooms()
    pixel = float(zooms[home[lateral]]) * unit, float(zooms[home[depth]]) * unit
    return values, pixel if min(pixel) > 0 else None


#: How files end, and the function that reads one of their maps.
READERS: Final[dict[str, Callable[[bytes, int | None, tuple[str, str]], _Read]]] = {
    ".png": _read_picture,
    ".tif": _read_picture,
    ".tiff": _read_picture,
    ".npy": _read_npy,
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
}
