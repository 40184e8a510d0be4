"""JPEG: grey or colour, written once more with the quantisation tables of the input and no colour subsampling."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import PIL.Image

from s2s.images.image import Image, Stated
from s2s.images.picture import Kind, Pixels, decoding, open_picture, pixels_of, read_bytes, refuse_size
from usim.errors import DataError
from usim.io.atomic import write_atomic

KIND = Kind(
    "JPEG", ".jpg",
    "JPEG loses values, and loses once more when it is written: with the input's own quantisation tables, colours in "
    "full resolution",
)  # fmt: skip
#: End of the picture, and start of its coded data.
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
#: What is handed on as it is.
_KEPT = ("exif", "icc_profile", "dpi", "xmp")


def read_jpeg(path: Path, stated: Stated) -> Image:
    """Open a JPEG; raises DataError when it is damaged, CMYK, of several pictures, or shows colours only.

    Its Exif orientation is not applied: pixels stay in the order of the file, and the tag is kept.
    """
    data = read_bytes(path)
    if data.rfind(_END) < data.rfind(_SCAN):
        raise DataError(f"{path}: truncated: its end is missing; restore a copy")
    with decoding(path), PIL.Image.open(io.BytesIO(data), formats=["JPEG"]) as file:
        refuse_size(path, *file.size)
        if file.format != "JPEG":
            raise DataError(f"{path}: {getattr(file, 'n_frames', 2)} pictures in one JPEG; save them one by one")
        pixels = pixels_of(file, path)
        tables: Any = getattr(file, "quantization")  # noqa: B009  # Pillow declares it for JPEG files alone
        kept = {name: file.info[name] for name in _KEPT if name in file.info}
        comment, progressive = file.info.get("comment", b""), bool(file.info.get("progressive"))

    def save(target: Path, made: Iterable[Pixels], text: str) -> None:
        (frame,) = made
        buffer = io.BytesIO()
        remark = b"\n".join(part for part in (comment, text.encode()) if part)
        PIL.Image.fromarray(frame).save(
            buffer, "JPEG", qtables=tables, subsampling=0, comment=remark, progressive=progressive, **kept
        )
        write_atomic(target, buffer.getvalue())

    return open_picture(path, [pixels], stated, KIND, save)
