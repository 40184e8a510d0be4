"""Write a DICOM that is derived from another: new pixels, and a header that says so and names its source."""

from __future__ import annotations

import copy
import io
import json
import struct
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s import __version__
from s2s.images.dicom_header import COLOURS, EXPLICIT, PALETTE, Header, quiet, text
from usim.errors import DataError
from usim.io.growing import growing

#: What is true of the source's pixels only, or of how they were stored.
_GONE = (
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "IconImageSequence",
    "InstanceCreationDate",
    "InstanceCreationTime",
)
_TABLES = ("Red", "Green", "Blue", "Alpha")
_MOST_BYTES = 0xFFFFFFFE
_LONGEST = {"SeriesDescription": 64, "DerivationDescription": 1024}


def write_derived(path: Path, frames: Iterable[NDArray[Any]], header: Header, about: dict[str, str]) -> None:
    """Write frames (H, W) or (H, W, 3) as a DICOM in Explicit VR Little Endian, derived from that of `header`.

    about: how the frames were made. Equal inputs give equal bytes. Memory does not grow with the number of frames.
    Raises DataError when they don't fit a DICOM, ResourceError when the system refuses.
    """
    colour = header.photometric in COLOURS or header.photometric == PALETTE
    dtype = np.dtype(np.uint8) if header.photometric == PALETTE else header.dtype
    length = header.frames * header.rows * header.columns * (3 if colour else 1) * dtype.itemsize
    if length > _MOST_BYTES:
        raise DataError(f"{path}: {length} bytes of pixels; a DICOM may have {_MOST_BYTES}; cut the clip")
    head = _encoded(_derived(header, colour, about))
    with growing(path, len(head) + length + 12) as file:
        file.write(head)
        file.write(
            struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB" if dtype.itemsize == 1 else b"OW", 0, length + length % 2)
        )
        for frame in frames:
            file.write(np.ascontiguousarray(frame, dtype.newbyteorder("<")).data)
            file.check()
        file.write(b"\0" * (length % 2))


def _encoded(dataset: Any) -> bytes:
    import pydicom

    buffer = io.BytesIO()
    with quiet():
        pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


def _derived(header: Header, colour: bool, about: dict[str, str]) -> Any:
    """Return the header of the derived image: the source's, but for its pixels, its identity and its history."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    path = header.path
    made = {key: value for key, value in about.items() if key != "input"}
    with quiet():
        dataset = copy.deepcopy(header.dataset)
        for keyword in _GONE:
            dataset.pop(keyword, None)
        source = text(dataset, "SOPClassUID", path), text(dataset, "SOPInstanceUID", path)
        series = text(dataset, "SeriesInstanceUID", path)
        dataset.SOPInstanceUID = _uid(source[1], made)
        if series:
            dataset.SeriesInstanceUID = _uid(series, made)
        kind = [*dataset.get("ImageType", ())][2:]
        dataset.ImageType = ["DERIVED", "SECONDARY", *kind]
        words = f"speckle reduced by s2s {__version__}: {json.dumps(made, sort_keys=True)}"
        shows = "residual" if made.get("content", "").startswith("residual") else "denoised"
        _append(dataset, "SeriesDescription", f"{shows} ({made.get('method', 's2s')})", header)
        _append(dataset, "DerivationDescription", words, header)
        dataset.SourceImageSequence = [_source(*source)]
        if header.lossy and not text(dataset, "LossyImageCompression", path):
            dataset.LossyImageCompression = "01"
        if colour:
            _describe_colour(dataset, header)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(source[0]), dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(EXPLICIT)
    dataset.file_meta = meta
    return dataset


def _describe_colour(dataset: Any, header: Header) -> None:
    """Make the header say RGB, pixel by pixel."""
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel, dataset.PlanarConfiguration = "RGB", 3, 0
    if header.photometric != PALETTE:
        return
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    for name in _TABLES:
        for what in ("Descriptor", "Data"):
            dataset.pop(f"{name}PaletteColorLookupTable{what}", None)
        dataset.pop(f"Segmented{name}PaletteColorLookupTableData", None)
    dataset.pop("PaletteColorLookupTableUID", None)


def _append(dataset: Any, keyword: str, words: str, header: Header) -> None:
    """Put words behind what a description says already; what is too long for DICOM loses its beginning's end."""
    longest = _LONGEST[keyword]
    words = words[:longest]
    before = text(dataset, keyword, header.path)[: max(longest - len(words) - 2, 0)]
    setattr(dataset, keyword, f"{before}; {words}" if before else words)


def _source(class_uid: str, instance_uid: str) -> Any:
    """Return the item that names the source image, by PS3.16 CID 7202."""
    from pydicom.dataset import Dataset

    purpose, item = Dataset(), Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = class_uid, instance_uid
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _uid(source: str, made: dict[str, str]) -> str:
    """Return a UID of the source's and of how the image was made: equal runs give equal files (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([source, made], sort_keys=True)).int}"
