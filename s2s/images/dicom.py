"""DICOM, one frame or many: grey, palette, or colour that shows grey; its like is a derived image of a new series.

No value of a header that may tell who was scanned gets into a message, nor do the messages of the library.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.domain import Domain
from s2s.images.dicom_header import GREYS, PALETTE, Header, number, quiet, read_header, text
from s2s.images.find import Overview
from s2s.images.image import Image, LazyFrames, Stated, describe, find_domain
from s2s.images.overlay import coloured
from usim.errors import DataError, first_line

#: Frames of a clip that are looked at to find what is ultrasound.
_LOOKS = 8
#: RegionSpatialFormat of an image, RegionDataType of tissue and of what is shown in colours above it.
_IMAGE, _TISSUE, _FLOW = 1, 1, 2
#: Stored numbers have 16 bits; windows may reach somewhat farther.
_FAR = 1 << 24
_DECODERS = "decompress it (gdcmconv --raw, dcmdjpeg), or install a decoder: python -m pip install python-gdcm"


@dataclass(frozen=True)
class Levels:
    """Stored numbers of a grey DICOM as grey levels, in the same steps upwards from black, which is 0.

    black, white: stored numbers between which they are shown, None for values: slope stored + intercept.  inverted: as
    in MONOCHROME1.
    """

    black: int | None = None
    white: int | None = None
    inverted: bool = False
    slope: float = 1.0
    intercept: float = 0.0

    def of(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return grey levels (H, W); what lies beyond black and white has their level."""
        if self.black is None or self.white is None:
            return self.slope * stored.astype(np.float64) + self.intercept
        levels = np.clip(stored.astype(np.int32), self.black, self.white)
        return (self.white - levels if self.inverted else levels - self.black).astype(np.int32)

    def stored(self, levels: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `of`, without rounding."""
        if self.black is None or self.white is None:
            return (levels - self.intercept) / self.slope
        return self.white - levels if self.inverted else levels + self.black


class Stored(LazyFrames):
    """Frames as a DICOM stores them, (H, W), or (H, W, 3) RGB, decoded one at a time; the last one is kept."""

    def __init__(self, header: Header) -> None:
        super().__init__(header.frames)
        self._last: tuple[int, NDArray[Any]] | None = None
        self.header, self.nbytes = header, header.path.stat().st_size

    def read(self, index: int) -> NDArray[Any]:
        """The frame as it is stored."""
        if self._last is None or self._last[0] != index:
            from pydicom.pixels.utils import pixel_array

            with quiet():
                found = pixel_array(self.header.path, index=index, transfer_syntax_uid=self.header.syntax)
            self._last = index, self._checked(found, index)
        return self._last[1]

    def all(self) -> Iterator[NDArray[Any]]:
        """Yield every frame; raises DataError for one that can't be decoded, and for more or fewer than promised."""
        from pydicom.pixels.utils import iter_pixels

        path, count = self.header.path, 0
        _refuse_syntax(self.header)
        frames = iter_pixels(path, transfer_syntax_uid=self.header.syntax)
        while True:
            try:
                with quiet():
                    found = next(frames, None)
            except Exception as error:  # pydicom and its decoders raise errors of many kinds on damaged frames
                raise DataError(
                    f"{path}: frame {count} of {len(self)} can't be decoded: {first_line(error)}; restore a copy, or "
                    f"{_DECODERS}"
                ) from error
            if found is None:
                break
            if count < len(self):
                yield self._checked(found, count)
            count += 1
        if count != len(self):
            raise DataError(
                f"{path}: {count} frames, but its Number of Frames is {len(self)}; restore a copy, or mend its header"
            )

    def _checked(self, found: NDArray[Any], index: int) -> NDArray[Any]:
        header = self.header
        if found.shape != header.shape:
            raise DataError(
                f"{header.path}: frame {index} has {found.shape} values, by the header {header.shape}; restore a copy"
            )
        if header.photometric != PALETTE:
            return found
        from pydicom.pixels.processing import apply_color_lut

        with quiet():
            colours: NDArray[Any] = apply_color_lut(found, header.dataset)
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


class Shown(LazyFrames):
    """The grey levels (H, W) of a DICOM's frames; 0 is black."""

    def __init__(self, stored: Stored, levels: Levels) -> None:
        super().__init__(len(stored))
        self.stored, self.levels, self.nbytes = stored, levels, stored.nbytes

    def read(self, index: int) -> NDArray[Any]:
        """The frame as grey levels."""
        return self.levels.of(grey(self.stored[index]))


def read_dicom(path: Path, stated: Stated) -> Image:
    """Open a DICOM; raises DataError when it is damaged, can't be decoded here, or shows no B-mode image."""
    header = read_header(path)
    levels = _levels(header, stated)
    stored = Stored(header)
    ranges = [(float(values.min()), float(values.max())) for values in map(grey, stored.all())]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    domain, note = _domain(header, levels, (low, high), stated)
    shown = Shown(stored, levels)
    mask, more = _mask(header, shown, domain)

    def write(target: Path, clean: Iterable[NDArray[Any]], about: dict[str, str]) -> None:
        from s2s.images.dicom_derived import write_derived

        changed = np.ones((header.rows, header.columns), bool) if mask is None else mask
        write_derived(target, _replaced(shown, clean, changed), header, {**about, "numbers": describe(domain)})

    return Image(shown, domain, "\n".join(filter(None, (note, more))), path.suffix, write, mask)


def grey(stored: NDArray[Any]) -> NDArray[Any]:
    """Return the grey (H, W) of a stored frame; of RGB its luma, which is the grey of pixels that show grey."""
    if stored.ndim == 2:
        return stored
    weights = np.array([299, 587, 114], np.uint32)
    luma: NDArray[Any] = ((stored.astype(np.uint32) @ weights + 500) // 1000).astype(stored.dtype)
    return luma


def _replaced(shown: Shown, clean: Iterable[NDArray[Any]], changed: NDArray[np.bool_]) -> Iterator[NDArray[Any]]:
    """Yield the stored frames with clean grey levels where they are changed; every other pixel is what it was.

    Of colours, all channels move by what the grey did: a tint stays.
    """
    header = shown.stored.header
    lowest = -(2 ** (header.bits - 1)) if header.signed else 0
    limits = lowest, lowest + 2**header.bits - 1
    for index, levels in enumerate(clean):
        frame = shown.stored[index].copy()
        values = np.rint(shown.levels.stored(levels[changed]))
        if frame.ndim == 3:
            values = frame[changed] + (values - grey(frame)[changed])[:, None]
        frame[changed] = np.clip(values, *limits).astype(frame.dtype)
        yield frame


def _levels(header: Header, stated: Stated) -> Levels:
    """Return the way from stored numbers to grey levels; of decibels and envelopes, to the values themselves."""
    path, data, most = header.path, header.dataset, 2**header.bits - 1
    if header.photometric not in GREYS:
        return Levels(0, most)
    if "ModalityLUTSequence" in data:
        raise DataError(f"{path}: its numbers go through a table (ModalityLUTSequence); save it as 8 bits, or as NPY")
    slope, intercept = number(data, "RescaleSlope", path, 1.0), number(data, "RescaleIntercept", path, 0.0)
    if slope <= 0:
        raise DataError(f"{path}: RescaleSlope is {slope:g}; it must be positive; mend its header")
    if stated.domain in ("db", "envelope"):
        return Levels(slope=slope, intercept=intercept)
    edges = _window(header) if stated.white is None else (0.0, stated.white)
    if edges is None and header.signed:
        raise DataError(
            f"{path}: signed numbers without a window: it is not known which is black; give the value that is white "
            "(0 is black), --white 255, or --domain db for decibels"
        )
    black, white = (0, most) if edges is None else (round((edge - intercept) / slope) for edge in edges)
    if not -_FAR < black < white < _FAR:
        raise DataError(f"{path}: black is {black}, white {white} in stored numbers; mend its header, or give --white")
    return Levels(black, white, header.photometric == "MONOCHROME1")


def _window(header: Header) -> tuple[float, float] | None:
    """Return the values that the first window shows as black and white (DICOM PS3.3 C.11.2.1.2), or None without."""
    path, data = header.path, header.dataset
    if "WindowCenter" not in data or "WindowWidth" not in data:
        return None
    center, width = number(data, "WindowCenter", path), number(data, "WindowWidth", path)
    function = text(data, "VOILUTFunction", path) or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT") or width <= 1:
        raise DataError(
            f"{path}: a window of width {width:g}, {function}; allowed are LINEAR and LINEAR_EXACT, wider than 1; "
            "mend its header, or save it as 8 bits"
        )
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    return center - width / 2, center + width / 2


def _domain(header: Header, levels: Levels, found: tuple[float, float], stated: Stated) -> tuple[Domain, str]:
    """Return what the grey levels mean, and in words what of it was assumed; found: least and largest stored number."""
    where, (low, high) = str(header.path), found
    if low == high:
        raise DataError(f"{where}: constant, every value is {low:g}: there is nothing to denoise; leave it out")
    if levels.black is None or levels.white is None:
        low, high = (levels.slope * value + levels.intercept for value in found)
        return find_domain(np.dtype(np.float64), low, high, stated, where)
    if stated.white is not None and not levels.black <= low <= high <= levels.white:
        raise DataError(f"{where}: stored numbers from {low:g} to {high:g} go beyond black, 0, and white; give --white")
    span = levels.white - levels.black
    deep = header.bits == 16 and span == 2**16 - 1  # may hold fewer bits than it says
    given = replace(stated, domain="log", white=None if deep and stated.white is None else float(span))
    least, most = (0.0, float(span)) if not deep or levels.inverted else (low, high)
    domain, _ = find_domain(np.dtype(np.uint16), least, most, given, where)
    if stated.domain is not None and stated.dynamic_range is not None:
        return domain, ""
    return domain, f"{where}: taken as {describe(domain)}; state it with --domain, --dynamic-range, --white"


def _mask(header: Header, shown: Shown, domain: Domain) -> tuple[NDArray[np.bool_] | None, str]:
    """Return where there is B-mode to denoise, by the header's regions and by what is found; and a note."""
    boxes, note = _boxes(header)
    overview = Overview(domain, lossy=header.lossy)
    for index in range(0, len(shown), max(len(shown) // _LOOKS, 1)):
        stored = shown.stored[index]
        overview.add(
            shown[index], coloured(stored >> (header.bits - 8), lossy=header.lossy) if stored.ndim == 3 else None
        )
    try:
        found = overview.region()
    except DataError as error:
        raise DataError(f"{header.path}: {error}") from error
    if boxes is None:
        return found, note
    return (boxes if found is None else boxes & found), note


def _boxes(header: Header) -> tuple[NDArray[np.bool_] | None, str]:
    """Return the boxes of tissue (H, W) without those of flow, as the header has them (PS3.3 C.8.5.5), None without."""
    path, shape = header.path, (header.rows, header.columns)
    regions = header.dataset.get("SequenceOfUltrasoundRegions") or ()
    boxes = np.zeros(shape, bool)
    for wanted in (_TISSUE, _FLOW):
        for region in regions:
            kind = [int(number(region, f"Region{what}", path, 0.0)) for what in ("SpatialFormat", "DataType")]
            if kind != [_IMAGE, wanted]:
                continue
            left, top, right, bottom = (
                int(number(region, f"RegionLocation{edge}", path)) for edge in ("MinX0", "MinY0", "MaxX1", "MaxY1")
            )
            if not (0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]):
                return None, f"{path}: its header's regions lie outside of its pixels and are not used"
            boxes[top : bottom + 1, left : right + 1] = wanted == _TISSUE
    if not len(regions):
        return None, ""
    if not boxes.any():
        raise DataError(f"{path}: by its header it shows no tissue (flow, M-mode or spectra only); leave it out")
    return boxes, ""


def _refuse_syntax(header: Header) -> None:
    """Raise DataError, naming the transfer syntax, when nothing that is installed decodes it."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    try:
        if get_decoder(UID(header.syntax)).is_available:
            return
    except NotImplementedError:
        pass
    raise DataError(f"{header.path}: compressed as {UID(header.syntax).name}, which can't be decoded here; {_DECODERS}")
