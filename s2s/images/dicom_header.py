"""What the header of a DICOM says about its pixels, checked before any of them is read."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s2s.images.image import LEAST_SIDE
from usim.errors import ConfigError, DataError

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
GREYS = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
#: Modalities whose images may be ultrasound: OT is what captured screens are given.
_MODALITIES = ("US", "IVUS", "OT")
#: As for PNG, a square of 9459 pixels: what is larger is no frame of a scanner.
_MOST_PIXELS = 89_478_485
_IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_REFUSED = {"1.2.840.10008.1.2.1.99": "deflated", "1.2.840.10008.1.2.2": "big-endian"}
_LOSSY = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203))
_UNDEFINED = 0xFFFFFFFF
_MEND = "mend its header (dcmodify), or save it again"


@dataclass(frozen=True)
class Header:
    """What stands in a DICOM before its pixels, and how they are stored.

    dataset: pydicom's, without pixels.  syntax: UID of the transfer syntax.  bits: of a sample that are used.
    dtype: of a decoded sample.
    """

    path: Path
    dataset: Any
    syntax: str
    photometric: str
    frames: int
    rows: int
    columns: int
    samples: int
    bits: int
    signed: bool
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a decoded frame, before a palette gives it colours."""
        return (self.rows, self.columns, 3) if self.samples == 3 else (self.rows, self.columns)

    @property
    def lossy(self) -> bool:
        """True when the pixels were compressed with loss, now or before."""
        return self.syntax in _LOSSY or text(self.dataset, "LossyImageCompression", self.path) == "01"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings to itself: they quote the header, and the header says who was scanned."""
    logger = logging.getLogger("pydicom")
    before, logger.propagate = logger.propagate, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.propagate = before


def read_header(path: Path) -> Header:
    """Return the header of a DICOM; raises DataError when it is damaged or can't be that of an ultrasound image."""
    try:
        import pydicom
    except ImportError as error:
        raise ConfigError(f'{path}: DICOM needs pydicom: python -m pip install "usim-s2s[dicom]"') from error
    try:
        with quiet(), open(path, "rb") as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            begin = file.tell()
            head, size = file.read(12), file.seek(0, os.SEEK_END)
            syntax = _syntax(dataset)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}") from error
    except Exception as error:  # pydicom raises errors of many kinds on damaged headers, and quotes them
        raise DataError(f"{path}: damaged: its header can't be read as DICOM; restore a copy") from error
    if syntax in _REFUSED:
        raise DataError(f"{path}: a {_REFUSED[syntax]} DICOM; save it as Explicit VR Little Endian: dcmconv +te")
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not text(dataset, keyword, path):
            raise DataError(f"{path}: no DICOM, or damaged: it has no {keyword}; {_MEND}")
    modality = text(dataset, "Modality", path)
    if modality and modality not in _MODALITIES:
        raise DataError(f"{path}: its modality is {modality}; allowed are {', '.join(_MODALITIES)}: ultrasound only")
    header = _pixels(dataset, syntax, path)
    _refuse_length(header, begin, head, size)
    return header


def text(dataset: Any, keyword: str, path: Path) -> str:
    """Return a value of a header as text, "" when it is missing; of several the first."""
    value = _value(dataset, keyword, path)
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        value = value[0] if len(value) else None
    return "" if value is None else str(value).strip()


def number(dataset: Any, keyword: str, path: Path, default: float | None = None) -> float:
    """Return a number of a header, of several the first; raises DataError when it is none, or missing."""
    found = text(dataset, keyword, path)
    if not found and default is not None:
        return default
    try:
        value = float(found)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        problem = "is no finite number" if found else "is missing"
        raise DataError(f"{path}: {keyword} {problem}; {_MEND}")
    return value


def _value(dataset: Any, keyword: str, path: Path) -> Any:
    try:
        with quiet():
            return dataset.get(keyword)
    except Exception as error:  # a raw value is read when it is asked for
        raise DataError(f"{path}: damaged: {keyword} can't be read; {_MEND}") from error


def _syntax(dataset: Any) -> str:
    """Return the transfer syntax; of a file without it, what pydicom found by looking."""
    stated = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    return str(stated) if stated else _IMPLICIT if dataset.original_encoding[0] else EXPLICIT


def _pixels(dataset: Any, syntax: str, path: Path) -> Header:
    def whole(keyword: str, default: float | None = None) -> int:
        return int(number(dataset, keyword, path, default))

    if "Rows" not in dataset:
        raise DataError(f"{path}: a DICOM without an image (a report, a waveform, a plan); name one with pixels")
    photometric = text(dataset, "PhotometricInterpretation", path)
    samples = 3 if photometric in COLOURS else 1
    if photometric not in (*COLOURS, *GREYS, PALETTE):
        allowed = ", ".join((*GREYS, PALETTE, *COLOURS))
        raise DataError(f"{path}: photometric interpretation {photometric!r}; allowed are {allowed}; save it as one")
    rows, columns, frames = whole("Rows"), whole("Columns"), whole("NumberOfFrames", 1.0)
    allocated, bits = whole("BitsAllocated"), whole("BitsStored")
    if whole("SamplesPerPixel") != samples or allocated not in (8, 16) or not 1 < bits <= allocated:
        raise DataError(
            f"{path}: {whole('SamplesPerPixel')} samples of {bits} bits, {allocated} allocated, as {photometric}; "
            f"allowed are {samples} of 8 or 16 bits; save it with 8"
        )
    if whole("HighBit", bits - 1.0) != bits - 1:
        raise DataError(f"{path}: HighBit is not BitsStored - 1; {_MEND}")
    if frames < 1:
        raise DataError(f"{path}: its Number of Frames is {frames}: nothing to denoise; {_MEND}")
    if min(rows, columns) < LEAST_SIDE or rows * columns > _MOST_PIXELS:
        raise DataError(
            f"{path}: {rows} x {columns} pixels; allowed are {LEAST_SIDE} x {LEAST_SIDE} up to {_MOST_PIXELS} pixels"
        )
    signed = whole("PixelRepresentation", 0.0) == 1
    dtype = np.dtype(f"{'i' if signed else 'u'}{allocated // 8}")
    if signed and samples == 3:
        raise DataError(f"{path}: signed colours; {_MEND}")
    return Header(path, dataset, syntax, photometric, frames, rows, columns, samples, bits, signed, dtype)


def _refuse_length(header: Header, begin: int, head: bytes, size: int) -> None:
    """Refuse a file that holds no pixels, or not as many as its header says."""
    path, implicit = header.path, header.syntax == _IMPLICIT
    tag = struct.unpack("<HH", head[:4]) if len(head) >= 8 else None
    if tag is None:
        raise DataError(f"{path}: no pixel data in it, or it ends early; restore a copy")
    if tag != (0x7FE0, 0x0010):
        raise DataError(f"{path}: its pixels are floats; allowed are whole numbers; give them as NPY")
    start = begin + (8 if implicit else 12)
    length = struct.unpack("<L", head[4:8] if implicit else head[8:12].ljust(4, b"\0"))[0]
    if header.syntax not in (_IMPLICIT, EXPLICIT):
        if length != _UNDEFINED:
            raise DataError(f"{path}: damaged: compressed pixels of a stated length; restore a copy")
        return
    halved = 2 if header.photometric == "YBR_FULL_422" else header.samples
    expected = header.frames * header.rows * header.columns * halved * header.dtype.itemsize
    found = min(length, max(size - start, 0))
    if found not in (expected, expected + expected % 2):
        raise DataError(
            f"{path}: {found} bytes of pixels, {expected} expected for {header.frames} frames of {header.rows} x "
            f"{header.columns}; restore a copy, or mend its header"
        )
