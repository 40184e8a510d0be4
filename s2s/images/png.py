"""Grey PNG of 8 or 16 bits; colour only when it shows grey."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from s2s.images.image import Image, Stated, find_domain, quantise, survey
from usim.errors import DataError
from usim.io.atomic import write_atomic
from usim.png import chunks

#: Colour types of a PNG's header.
_GREY, _PALETTE = 0, 3
#: Pillow takes more for an attack; it is a square of 9459 pixels.
_MOST_PIXELS = 89_478_485
#: Colour channels may differ by this many grey levels of 255: rounding of colour conversions.
_SAME_GREY = 1


def read_png(path: Path, stated: Stated) -> Image:
    """Open a PNG; raises DataError when it is damaged, animated, coloured, transparent, or of too few bits."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    depth, colour = _inspect(data, path)
    try:
        with PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as file:
            levels = _grey(file, depth, colour, path)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # Pillow raises errors of many kinds on damaged files
        raise DataError(f"{path}: damaged: {error}; restore a copy") from error
    low, high = survey(levels, str(path))
    domain, note = find_domain(levels.dtype, low, high, stated, str(path))

    def write(target: Path, frames: Iterable[NDArray[Any]], about: dict[str, str]) -> None:
        (frame,) = frames
        write_png(target, quantise(frame, levels.dtype))

    return Image([levels], domain, note, ".png", write)


def write_png(path: Path, levels: NDArray[Any]) -> None:
    """Write grey levels (H, W) uint8 or uint16; raises ResourceError when the system refuses."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(levels).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def _inspect(data: bytes, path: Path) -> tuple[int, int]:
    """Return bits per channel and colour type; every chunk must be whole, with its checksum right."""
    header, ended = b"", False
    for name, content in chunks(data, path):
        if name == b"acTL":
            raise DataError(f"{path}: an animated PNG; save each of its frames as a PNG")
        header = content if name == b"IHDR" else header
        ended = name == b"IEND"
    if len(header) != 13 or not ended:
        raise DataError(f"{path}: damaged: header or end is missing; restore a copy")
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    if width * height > _MOST_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels; a PNG may have {_MOST_PIXELS}; give it as NPY")
    if colour != _PALETTE and depth not in (8, 16):
        raise DataError(f"{path}: {depth} bits per pixel; allowed are 8 and 16; save it with 8")
    if colour not in (_GREY, _PALETTE) and depth == 16:
        raise DataError(f"{path}: 16 bits with colour or transparency; save it as grey of 16 bits")
    return depth, colour


def _grey(file: PIL.Image.Image, depth: int, colour: int, path: Path) -> NDArray[Any]:
    if depth == 16:
        levels = np.asarray(file).astype(np.uint16)
        hidden = levels == file.info["transparency"] if "transparency" in file.info else np.zeros(1, bool)
    elif colour == _GREY and "transparency" not in file.info:
        return np.array(file, np.uint8)
    else:
        rgba = np.asarray(file.convert("RGBA"))
        hidden = rgba[..., 3] < 255
        spread = int(np.ptp(rgba[..., :3].astype(np.int16), axis=2).max())
        if spread > _SAME_GREY:
            raise DataError(
                f"{path}: a colour image, its channels differ by up to {spread} of 255; save it as grey, without "
                "colour maps, Doppler or marks"
            )
        levels = np.ascontiguousarray(rgba[..., 1])
    if hidden.any():
        raise DataError(f"{path}: {np.count_nonzero(hidden)} pixels are transparent; save it without transparency")
    return levels
