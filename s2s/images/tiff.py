"""TIFF: grey of 8 or 16 bits, 32-bit floats, colour of 8 bits, palettes; one page or many."""

from __future__ import annotations

import io
import mmap
import os
import struct
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import PIL.Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from s2s.images.image import Image, LazyFrames, Stated
from s2s.images.picture import Kind, Pixels, decoding, open_picture, pixels_of, refuse_size, software
from usim.errors import DataError
from usim.io.growing import growing

#: Tags that are kept page by page: names and words, resolution, date, artist, Exif-like text, ICC profile.
_KEPT = (269, 270, 271, 272, 282, 283, 285, 286, 287, 296, 297, 306, 315, 316, 700, 33432, 34675)
_DESCRIPTION, _SOFTWARE, _COMPRESSION, _PHOTOMETRIC, _BITS, _FORMAT = 270, 305, 259, 262, 258, 339
#: Where the data of strips and tiles is, and how long.
_PLACES = ((273, 279), (324, 325))
#: Compressions that keep every value, and how Pillow calls them; others are written as Deflate.
_LOSSLESS = {1: "raw", 5: "tiff_lzw", 8: "tiff_adobe_deflate", 32946: "tiff_adobe_deflate", 32773: "packbits"}
_DEFLATE = 8
_JPEG = (6, 7, 34892, 50001)
#: Bytes of pixels for which offsets of 32 bits are enough, with the directories of many pages.
_MOST_BYTES = (4 << 30) - (64 << 20)
#: Types of tags, and bytes of their values by type.
_SHORT, _LONG = 3, 4
_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8)


class Pages(LazyFrames):
    """The pages of a TIFF, decoded one by one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with decoding(path):
            with open(path, "rb") as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            file = PIL.Image.open(cast(IO[bytes], mapped), formats=["TIFF"])
            assert isinstance(file, TiffImageFile)
            self._file, self._bytes = file, len(mapped)
            super().__init__(file.n_frames)

    def read(self, index: int) -> Pixels:
        """The page's pixels, decoded."""
        with decoding(self._path):
            tags = self._tags(index)
            refuse_size(self._path, *self._file.size)
            self._refuse(tags)
            self._file.load()
            return pixels_of(self._file, self._path)

    @cached_property
    def lossy(self) -> bool:
        """True when the first page is compressed with loss."""
        return self._tags(0).get(_COMPRESSION) in _JPEG

    def kept(self, index: int) -> tuple[ImageFileDirectory_v2, str]:
        """Return the tags of a page that are kept, and its compression, or Deflate for one with loss."""
        tags, kept = self._tags(index), ImageFileDirectory_v2()
        for tag in _KEPT:
            if tag in tags:
                kept.tagtype[tag] = tags.tagtype[tag]
                kept[tag] = tags[tag]
        return kept, _LOSSLESS.get(tags.get(_COMPRESSION, 1), _LOSSLESS[_DEFLATE])

    def _tags(self, index: int) -> ImageFileDirectory_v2:
        self._file.seek(index)
        return self._file.tag_v2

    def _refuse(self, tags: ImageFileDirectory_v2) -> None:
        for offsets, lengths in _PLACES:
            ends = [start + length for start, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False)]
            if max(ends, default=0) > self._bytes:
                raise DataError(f"{self._path}: truncated: {self._bytes} bytes of {max(ends)}; restore a copy")
        bits, form = tags.get(_BITS, (1,)), tags.get(_FORMAT, (1,))[0]
        fits = {"L": (8, 1), "F": (32, 3)}.get(self._file.mode, (16, 1) if self._file.mode.startswith("I;16") else None)
        if fits is None:  # colours and palettes; other kinds of pixel are refused with their name
            fits = (8, 1) if self._file.mode in ("RGB", "RGBA", "LA") else (max(bits), form)
        if set(bits) != {fits[0]} or form != fits[1] or (max(bits) > 8 and tags.get(_PHOTOMETRIC) == 0):
            raise DataError(
                f"{self._path}: {'/'.join(map(str, bits))} bits of sample format {form}; allowed are grey of 8 or 16 "
                "bits with 0 as black, 32-bit floats, and colour of 8 bits"
            )


def read_tiff(path: Path, stated: Stated) -> Image:
    """Open a TIFF; raises DataError when it is damaged, of other kinds of pixel, or shows colours only.

    An orientation is applied, by Pillow, and not asked for again.
    """
    pages = Pages(path)
    with decoding(path):
        kind = Kind("TIFF", ".tif", "its pixels were compressed with loss; they are written without" * pages.lossy)
    first = pages[0]

    def save(target: Path, made: Iterable[Pixels], text: str) -> None:
        write_tiff(target, made, pages, text, size=first.nbytes * len(pages))

    return open_picture(path, [first] if len(pages) == 1 else pages, stated, kind, save)


def write_tiff(path: Path, frames: Iterable[Pixels], pages: Pages, text: str, *, size: int) -> None:
    """Write pages with the tags and the compression of others; raises ResourceError when the system refuses.

    text: goes into the tag Software, and is the image description of pages without one.  size: bytes of all pixels.
    """
    if size > _MOST_BYTES:
        raise DataError(f"{path}: {size} bytes of pixels; a TIFF holds {_MOST_BYTES}; save the pages in several files")
    with growing(path, size) as file:
        link = 4  # where the file says at which byte the next page's directory is
        for index, pixels in enumerate(frames):
            tags, compression = pages.kept(index)
            tags[_SOFTWARE] = f"{software()}; {text}"
            if _DESCRIPTION not in tags:
                tags[_DESCRIPTION] = text
            buffer = io.BytesIO()
            # one strip a page, so that one number says where it is
            options: dict[str, Any] = {"tiffinfo": tags, "compression": compression, "strip_size": pixels.nbytes}
            PIL.Image.fromarray(pixels).save(buffer, "TIFF", **options)
            start = file.seek(0, os.SEEK_END)
            page, directory, end = _moved(buffer.getvalue(), start)
            file.write(page)
            if index:
                file.seek(link)
                file.write(struct.pack("<I", directory))
            link = end
            file.check()


def _moved(page: bytes, start: int) -> tuple[bytes, int, int]:
    """Return a TIFF of one page as it is to stand from byte `start` on, and where its directory and its link are then.

    The link is the place of the number that says where the next page's directory is.
    """
    made = bytearray(page + b"\0" * (-len(page) % 16))
    assert made[:4] == b"II*\0", "Pillow writes little-endian"
    (directory,) = struct.unpack_from("<I", made, 4)
    (count,) = struct.unpack_from("<H", made, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from("<HHI", made, entry)
        if tag in (offsets for offsets, _ in _PLACES):
            assert values == 1, "one strip a page"
            (place,) = struct.unpack_from("<H" if kind == _SHORT else "<I", made, entry + 8)
            struct.pack_into("<HHII", made, entry, tag, _LONG, 1, place + start)
        elif _SIZES[kind] * values > 4:
            (place,) = struct.unpack_from("<I", made, entry + 8)
            struct.pack_into("<I", made, entry + 8, place + start)
    return bytes(made), directory + start, directory + 2 + 12 * count + start
