"""Image files: which formats there are, and how one is opened.

>>> image = open_image("scan.png", Stated(dynamic_range=50.0))  # doctest: +SKIP
>>> image.frames[0].shape, image.domain.white  # doctest: +SKIP
((637, 812), 255.0)
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

from s2s.images.image import Image, Stated
from usim.errors import DataError

__all__ = ["READERS", "Image", "Stated", "open_image"]

#: How files end, and the function that opens them.
READERS = {
    ".png": "s2s.images.png:read_png",
    ".apng": "s2s.images.png:read_png",
    ".jpg": "s2s.images.jpeg:read_jpeg",
    ".jpeg": "s2s.images.jpeg:read_jpeg",
    ".tif": "s2s.images.tiff:read_tiff",
    ".tiff": "s2s.images.tiff:read_tiff",
    ".gif": "s2s.images.gif:read_gif",
    ".mp4": "s2s.images.movie:read_movie",
    ".m4v": "s2s.images.movie:read_movie",
    ".mov": "s2s.images.movie:read_movie",
    ".avi": "s2s.images.movie:read_movie",
    ".npy": "s2s.images.npy:read_npy",
    ".h5": "s2s.images.hdf5:read_hdf5",
    ".hdf5": "s2s.images.hdf5:read_hdf5",
    ".uff": "s2s.images.hdf5:read_hdf5",
    ".dcm": "s2s.images.dicom:read_dicom",
    ".dicom": "s2s.images.dicom:read_dicom",
}

_DICOM = (".dcm", ".dicom")

#: How files begin, what they then are, and how they may end.
_SIGNATURES = (
    (128, b"DICM", "DICOM", _DICOM),  # first, since what is before it may be that of a TIFF
    (0, b"\x89PNG\r\n\x1a\n", "PNG", (".png", ".apng")),
    (0, b"\x93NUMPY", "NPY", (".npy",)),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5", (".h5", ".hdf5", ".uff")),
    (0, b"PK\x03\x04", "NPZ or ZIP", ()),
    (0, b"\xff\xd8\xff", "JPEG", (".jpg", ".jpeg")),
    (0, b"GIF8", "GIF", (".gif",)),
    (0, b"II*\0", "TIFF", (".tif", ".tiff")),
    (0, b"MM\0*", "TIFF", (".tif", ".tiff")),
    (0, b"II+\0", "TIFF", (".tif", ".tiff")),
    (0, b"MM\0+", "TIFF", (".tif", ".tiff")),
    (4, b"ftypheic", "HEIC", ()),
    (4, b"ftypavif", "AVIF", ()),
    (4, b"ftyp", "MP4", (".mp4", ".m4v", ".mov")),
    (4, b"moov", "MP4", (".mov", ".mp4")),
    (8, b"AVI ", "AVI", (".avi",)),
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM", ()),
    (0, b"BM", "BMP", ()),
    (8, b"WEBP", "WebP", ()),
)
_ALLOWED = "allowed are PNG, JPEG, TIFF, GIF, MP4, MOV, AVI, DICOM, NPY, and data of usim (.h5 or folder)"
_CURES = {
    "Matroska or WebM": "convert it to MP4",
    "NPZ or ZIP": "save one array with numpy.save",
}


def open_image(path: str | os.PathLike[str], stated: Stated) -> Image:
    """Open and check an image file, or a folder that usim wrote.

    Raises DataError, naming the file and the cure, for anything that can't be denoised as it is.
    """
    path = Path(path)
    home = READERS[".h5"] if path.is_dir() else READERS[_suffix(path)]
    module, _, name = home.partition(":")
    read: Callable[[Path, Stated], Image] = getattr(importlib.import_module(module), name)
    image = read(path, stated)
    try:
        image.region  # noqa: B018  # refuses a mask that holds too little before any work begins
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return image


def _suffix(path: Path) -> str:
    """Return how the file ends, when it is what its ending says."""
    try:
        with open(path, "rb") as file:
            head = file.read(132)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    if not head:
        raise DataError(f"{path}: the file is empty")
    suffix = path.suffix.lower()
    kind, endings = next(
        ((kind, endings) for start, magic, kind, endings in _SIGNATURES if head[start:].startswith(magic)),
        ("file of another kind", _DICOM if suffix in _DICOM else ()),  # old ones begin without a signature
    )
    if not endings:
        cure = _CURES.get(kind, "convert it to PNG")
        raise DataError(f"{path}: a {kind}; {_ALLOWED}; {cure}")
    if suffix not in endings:
        raise DataError(f"{path}: a {kind} by its content; rename it to {path.stem}{endings[0]}")
    return suffix
