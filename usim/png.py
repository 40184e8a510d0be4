"""The chunks of a PNG file, each with its checksum proved."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from usim.errors import DataError


def chunks(data: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk; DataError when one is cut short or its checksum is wrong."""
    # Pillow checks no sum over the pixels: damaged ones would come through as an image.
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        stored = data[position + 8 + length : position + 12 + length]
        if len(stored) != 4 or int.from_bytes(stored, "big") != zlib.crc32(name + content):
            raise DataError(f"{path}: damaged or truncated at byte {position} of {len(data)}; restore a copy")
        yield name, content
        position += 12 + length
