"""PNG: grey of 8 or 16 bits, colour, palettes, transparency, and animations (APNG)."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from s2s.images.image import Image, LazyFrames, Stated
from s2s.images.picture import Kind, Pixels, decoding, open_picture, pixels_of, read_bytes, refuse_size
from usim.errors import DataError
from usim.io.growing import growing
from usim.png import chunks

KIND = Kind("PNG", ".png")
_START = b"\x89PNG\r\n\x1a\n"
#: Colour types of a PNG's header.
_GREY, _PALETTE = 0, 3
#: Chunks that are kept as they are: resolution, texts, Exif, and what the values mean on a screen.
_KEPT = (b"pHYs", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"iCCP")
#: Of these, the ones that say nothing of a grey picture.
_OF_COLOUR = (b"cHRM", b"sRGB", b"cICP", b"iCCP")


@dataclass(frozen=True)
class Header:
    """What a PNG says besides its pixels. kept: chunks to write again.  loops, delays: of an animation; delays: for
    each frame, its numerator and denominator in seconds, 2 bytes each; empty for a still picture."""

    size: tuple[int, int]
    depth: int
    colour: int
    kept: tuple[tuple[bytes, bytes], ...]
    loops: int
    delays: tuple[bytes, ...]


class Animation(LazyFrames):
    """The frames of an animated PNG as they are shown, decoded one by one."""

    def __init__(self, data: bytes, path: Path, length: int) -> None:
        super().__init__(length)
        self._data, self._path = data, path
        self._open()

    def _open(self) -> None:
        with decoding(self._path):
            self._file = PIL.Image.open(io.BytesIO(self._data), formats=["PNG"])
        # a picture before the animation, for programs that show none, is not part of it
        self._before = int(bool(getattr(self._file, "default_image", False)))

    def read(self, index: int) -> Pixels:
        """The frame's pixels, decoded."""
        if index + self._before < self._file.tell():
            self._open()  # Pillow takes going back in a PNG for a damaged one
        with decoding(self._path):
            self._file.seek(index + self._before)
            self._file.load()
            return pixels_of(self._file, self._path)


def read_png(path: Path, stated: Stated) -> Image:
    """Open a PNG; raises DataError when it is damaged, of too few bits, or shows colours only."""
    data = read_bytes(path)
    header = _inspect(data, path)
    frames = Animation(data, path, len(header.delays)) if header.delays else [_still(data, header, path)]

    def save(target: Path, made: Iterable[Pixels], text: str) -> None:
        write_png(target, made, header, text)

    return open_picture(path, frames, stated, KIND, save)


def write_png(path: Path, frames: Iterable[Pixels], header: Header, text: str) -> None:
    """Write pixels (H, W) or (H, W, C), or an animation of them, frame by frame; raises ResourceError when refused.

    header: what the input said besides its pixels.  text: kept as the text chunk s2s (tEXt).
    """
    numbers = count()
    width, height = header.size
    with growing(path, width * height * max(len(header.delays), 1)) as file:
        for index, pixels in enumerate(frames):
            coded = list(_encoded(pixels))
            body = [content for name, content in coded if name == b"IDAT"]
            parts: list[tuple[bytes, bytes]] = []
            if not index:
                file.write(_START)
                kept = [(name, content) for name, content in header.kept if pixels.ndim == 3 or name not in _OF_COLOUR]
                own = (b"tEXt", b"s2s\0" + text.encode("latin-1", "backslashreplace"))
                ours = [(b"acTL", struct.pack(">II", len(header.delays), header.loops))] if header.delays else []
                parts += [coded[0], *kept, own, *ours]
            if header.delays:  # whole frames, each in place of the one before
                place = struct.pack(">IIIII", next(numbers), width, height, 0, 0)
                parts.append((b"fcTL", place + header.delays[index] + b"\0\0"))
            if index:
                parts += [(b"fdAT", struct.pack(">I", next(numbers)) + content) for content in body]
            else:
                parts += [(b"IDAT", content) for content in body]
            file.write(_joined(parts))
            file.check()
        file.write(_joined([(b"IEND", b"")]))


def _inspect(data: bytes, path: Path) -> Header:
    """Return what stands beside the pixels; every chunk must be whole, with its checksum right."""
    header, ended, kept, loops, delays = b"", False, [], 0, []
    announced = 0
    for name, content in chunks(data, path):
        header = content if name == b"IHDR" else header
        ended = name == b"IEND"
        if name in _KEPT:
            kept.append((name, content))
        elif name == b"acTL" and len(content) == 8:
            announced, loops = struct.unpack(">II", content)
        elif name == b"fcTL" and len(content) == 26:
            delays.append(content[20:24])
    if len(header) != 13 or not ended or announced != len(delays):
        raise DataError(f"{path}: damaged: header, frames or end are missing; restore a copy")
    width, height, depth, colour = struct.unpack(">IIBB", header[:10])
    refuse_size(path, width, height)
    if colour != _PALETTE and depth not in (8, 16):
        raise DataError(f"{path}: {depth} bits per pixel; allowed are 8 and 16; save it with 8")
    if colour != _GREY and depth == 16:
        raise DataError(f"{path}: 16 bits with colour or transparency; save it as grey of 16 bits")
    return Header((width, height), depth, colour, tuple(kept), loops, tuple(delays))


def _still(data: bytes, header: Header, path: Path) -> Pixels:
    with decoding(path), PIL.Image.open(io.BytesIO(data), formats=["PNG"]) as file:
        if header.depth == 16:
            return _deep(file, path)
        pixels = pixels_of(file, path)
    if header.colour == _PALETTE and pixels.shape[-1] == 3 and not np.ptp(pixels, axis=2).any():
        return np.ascontiguousarray(pixels[..., 0])
    return pixels


def _deep(file: PIL.Image.Image, path: Path) -> NDArray[np.uint16]:
    levels = np.asarray(file).astype(np.uint16)
    if "transparency" in file.info and (hidden := levels == file.info["transparency"]).any():
        raise DataError(
            f"{path}: {np.count_nonzero(hidden)} pixels of 16 bits are transparent; save it without transparency"
        )
    return levels


def _encoded(pixels: Pixels) -> Iterator[tuple[bytes, bytes]]:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return chunks(buffer.getvalue(), Path("PNG"))


def _joined(parts: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return chunks as they stand in a file, each with its length and checksum."""
    return b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )
