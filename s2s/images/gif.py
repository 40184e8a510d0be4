"""GIF, still or animated: whole frames with a palette each, written one by one with their timing and loop."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from s2s.images.image import Image, LazyFrames, Stated
from s2s.images.picture import Kind, Pixels, decoding, open_picture, pixels_of, read_bytes, refuse_size
from usim.errors import DataError
from usim.io.growing import growing

KIND = Kind("GIF", ".gif")
_COLOURS = 256
_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _COMMENT, _APPLICATION = 0xF9, 0xFE, 0xFF


@dataclass(frozen=True)
class Header:
    """What a GIF says besides its pixels. size: (width, height).  delays: of each frame in 1/100 s.  loops: of the
    animation, None when it is shown once.  comments: as they stand in the file."""

    size: tuple[int, int]
    delays: tuple[int, ...]
    loops: int | None
    comments: tuple[bytes, ...]


class Animation(LazyFrames):
    """The frames of a GIF (H, W, 3) as they are shown, decoded one by one; (H, W) when the file holds no colour."""

    def __init__(self, data: bytes, path: Path, length: int) -> None:
        super().__init__(length)
        self._path = path
        with decoding(path):
            self._file = PIL.Image.open(io.BytesIO(data), formats=["GIF"])

    def read(self, index: int) -> Pixels:
        """The frame's colours, decoded."""
        with decoding(self._path):
            self._file.seek(index)
            pixels = pixels_of(self._file.convert("RGBA"), self._path)
        if (pixels[..., 3] < 255).any():
            raise DataError(f"{self._path}: frame {index} is transparent in part; save it without transparency")
        return pixels[..., :3]


def read_gif(path: Path, stated: Stated) -> Image:
    """Open a GIF; raises DataError when it is damaged or cut short, transparent, or shows colours only."""
    data = read_bytes(path)
    header = _inspect(data, path)
    frames = Animation(data, path, len(header.delays))

    def save(target: Path, made: Iterable[Pixels], text: str) -> None:
        write_gif(target, made, header, text, untouched=frames)

    return open_picture(path, frames, stated, KIND, save)


def write_gif(path: Path, frames: Iterable[Pixels], header: Header, text: str, *, untouched: Sequence[Pixels]) -> None:
    """Write frames (H, W, 3) with the timing of the header; raises ResourceError when the system refuses.

    Each frame has its own palette: the colours of the pixels that are as in `untouched`, and as many greys as fit
    besides, all 256 where there is no colour.  text: goes into a comment.
    """
    width, height = header.size
    with growing(path, width * height * len(header.delays)) as file:
        file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0))
        if header.loops is not None:
            file.write(bytes([_EXTENSION, _APPLICATION, 11]) + b"NETSCAPE2.0\3\1" + struct.pack("<HB", header.loops, 0))
        for comment in (*header.comments, text.encode()):
            file.write(bytes([_EXTENSION, _COMMENT]) + _blocks(comment))
        for index, pixels in enumerate(frames):
            indices, palette = indexed(pixels, untouched[index])
            # disposal 1: the frame stays until the next one, which covers it
            file.write(bytes([_EXTENSION, _CONTROL, 4, 1 << 2]) + struct.pack("<HBB", header.delays[index], 0, 0))
            file.write(bytes([_IMAGE]) + struct.pack("<HHHHB", 0, 0, width, height, 0x87) + palette)
            file.write(_compressed(indices))
            file.check()
        file.write(bytes([_TRAILER]))


def indexed(pixels: Pixels, untouched: Pixels) -> tuple[NDArray[np.uint8], bytes]:
    """Return indices (H, W) and a palette of 256 colours for pixels (H, W, 3).

    Pixels that are those of `untouched` come out exactly (the most frequent colours of them, should a frame that was
    put together from several palettes show more than 256); greys that changed, as the nearest of those there is room
    for.
    """
    same = (pixels == untouched).all(axis=2)
    codes = pixels.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    kept, counts = np.unique(codes[same], return_counts=True)
    kept = kept[np.argsort(-counts, kind="stable")[:_COLOURS]]
    new = np.setdiff1d(codes[~same], kept)
    room = _COLOURS - len(kept)
    if len(new) > room:
        new = new[np.unique(np.rint(np.linspace(0, len(new) - 1, room)).astype(int))] if room else new[:0]
    table = np.concatenate([kept, new])
    colours = np.stack([table >> 16, (table >> 8) & 255, table & 255], axis=1)
    every, where = np.unique(codes, return_inverse=True)
    wanted = np.stack([every >> 16, (every >> 8) & 255, every & 255], axis=1)
    nearest = np.abs(wanted[:, None] - colours[None]).sum(axis=2).argmin(axis=1)
    palette = np.zeros((_COLOURS, 3), np.uint8)
    palette[: len(colours)] = colours
    return nearest[where].reshape(codes.shape).astype(np.uint8), palette.tobytes()


def _inspect(data: bytes, path: Path) -> Header:
    """Return what stands beside the pixels; every block must be whole, and the last one there."""
    try:
        width, height, flags = struct.unpack("<HHB", data[6:11])
        refuse_size(path, width, height)
        position, delay, delays, loops, comments = 13 + _table(flags), 0, list[int](), None, list[bytes]()
        while (kind := data[position]) != _TRAILER:
            if kind == _IMAGE:
                position = _end_of_blocks(data, position + 11 + _table(data[position + 9]))
                delays.append(delay)
                delay = 0
                continue
            if kind != _EXTENSION:
                raise DataError(f"{path}: damaged at byte {position} of {len(data)}; restore a copy")
            start, label = position + 2, data[position + 1]
            position = _end_of_blocks(data, start)
            body = data[start:position]
            if label == _CONTROL:
                delay = int.from_bytes(body[2:4], "little")
            elif label == _COMMENT:
                comments.append(_joined(body))
            elif label == _APPLICATION and body[1:12] in (b"NETSCAPE2.0", b"ANIMEXTS1.0") and body[13:14] == b"\1":
                loops = int.from_bytes(body[14:16], "little")
    except (IndexError, struct.error) as error:
        raise DataError(
            f"{path}: truncated: it ends after {len(data)} bytes without its end; restore a copy"
        ) from error
    if not delays:
        raise DataError(f"{path}: no frames in it; save it again")
    return Header((width, height), tuple(delays), loops, tuple(comments))


def _table(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_blocks(data: bytes, position: int) -> int:
    while data[position]:
        position += data[position] + 1
    return position + 1


def _joined(body: bytes) -> bytes:
    parts, position = [], 0
    while body[position]:
        parts.append(body[position + 1 : position + 1 + body[position]])
        position += body[position] + 1
    return b"".join(parts)


def _blocks(content: bytes) -> bytes:
    parts = [content[start : start + 255] for start in range(0, len(content), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def _compressed(indices: NDArray[np.uint8]) -> bytes:
    """Return the coded pixels of one frame, taken out of a GIF of that frame alone."""
    picture = PIL.Image.fromarray(indices)
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", optimize=False, interlace=0)
    data = buffer.getvalue()
    position = 13 + _table(data[10])
    while data[position] == _EXTENSION:
        position = _end_of_blocks(data, position + 2)
    start = position + 10 + _table(data[position + 9])
    return data[start : _end_of_blocks(data, start + 1)]
