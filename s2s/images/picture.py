"""What all picture formats share: grey out of their pixels, where the ultrasound is, and the new grey put back."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import ndimage

from s2s import __version__
from s2s.domain import Domain
from s2s.images.find import Overview
from s2s.images.image import Image, Stated, find_domain, quantise, refuse_lone_white, survey
from s2s.images.overlay import coloured
from usim.errors import DataError, first_line

Pixels = NDArray[Any]

#: A square of 9459 pixels: beyond it Pillow takes a file for an attack, and methods take more than 4 GB.
MOST_PIXELS = 89_478_485
#: Ways to store pixels that hold a grey image; Pillow's names.
_MODES = ("L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "F")


@dataclass(frozen=True)
class Kind:
    """A format. name: as told to the user.  suffix: of its files.  loses: what writing changes, in words; "" for none.

    Formats that change values have soft glyphs and colours that run; the search for them knows.
    """

    name: str
    suffix: str
    loses: str = ""


class Greys(Sequence[NDArray[Any]]):
    """The frames of a picture as grey levels (H, W), decoded when they are asked for."""

    def __init__(self, frames: Sequence[Pixels]) -> None:
        self._frames = frames
        self.nbytes = sum(frame.nbytes for frame in frames) if isinstance(frames, list) else 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: Any) -> Any:
        return grey_of(self._frames[index])


def open_picture(
    path: Path,
    frames: Sequence[Pixels],
    stated: Stated,
    kind: Kind,
    save: Callable[[Path, Iterable[Pixels], str], None],
) -> Image:
    """Return the image of a file's frames, each (H, W), or (H, W, C) of 8 bits with 2 to 4 channels; every one is read.

    frames: those of a clip are decoded one by one.  save: writes frames like them, with the text that says how they
    were made.

    Raises DataError for what can't be denoised.
    """
    lossy = bool(kind.loses)
    low, high = np.inf, -np.inf
    overview: Overview | None = None
    opaque = np.ones((1, 1), bool)
    for index, pixels in enumerate(frames):
        where = f"{path}: frame {index}" if index or not isinstance(frames, list) else str(path)
        levels = grey_of(pixels)
        least, most = survey(levels, where)
        refuse_lone_white(levels, most, stated, where)
        low, high = min(low, least), max(high, most)
        if overview is None:
            overview = Overview(_domain_for_search(frames, levels.dtype, low, high, stated, path), lossy=lossy)
            shape = levels.shape
        if levels.shape != shape:
            raise DataError(f"{where}: {levels.shape} pixels, those before it {shape}; save the frames one by one")
        overview.add(levels, _coloured(pixels, lossy))
        opaque = opaque & _opaque(pixels)
    if overview is None:
        raise DataError(f"{path}: no frames in it; save it again")
    domain, note = find_domain(levels.dtype, low, high, stated, str(path))
    try:
        mask = overview.region()
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if not opaque.all():
        mask = opaque if mask is None else mask & opaque

    def write(target: Path, clean: Iterable[NDArray[Any]], about: dict[str, str]) -> None:
        made = (repaint(frames[index], frame, lossy=lossy) for index, frame in enumerate(clean))
        save(target, made, json.dumps({"software": software(), **about}, sort_keys=True))

    told = [note] if note else []
    told += [f"{path}: {_seen(mask, overview.boxes)}"] if mask is not None else []
    told += [f"{path}: {kind.loses}"] if lossy else []
    return Image(Greys(frames), domain, "\n".join(told), kind.suffix, write, mask)


def grey_of(pixels: Pixels) -> NDArray[Any]:
    """Return the grey levels (H, W) of pixels: luma of colours (ITU-R BT.601), black where any are transparent.

    >>> grey_of(np.array([[[7, 7, 7], [255, 0, 0]]], np.uint8))
    array([[ 7, 76]], dtype=uint8)
    """
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[-1] < 3:
        levels = pixels[..., 0]
    else:
        red, green, blue = (pixels[..., k].astype(np.uint32) for k in range(3))
        levels = ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)
    return np.where(_opaque(pixels), levels, np.uint8(0))


def repaint(pixels: Pixels, levels: NDArray[Any], *, lossy: bool) -> Pixels:
    """Return pixels whose grey became `levels` (H, W), in their own type: where nothing changed, they are the same.

    All channels move by what the grey did; coloured pixels and transparency stay.
    """
    before = grey_of(pixels)
    after = quantise(levels, before.dtype)
    if pixels.ndim == 2:
        return after
    colours = pixels.shape[-1] - (pixels.shape[-1] in (2, 4))
    moved = pixels[..., :colours].astype(np.int16) + (after.astype(np.int16) - before)[..., None]
    still = after == before
    if (hue := _coloured(pixels, lossy)) is not None:
        still |= hue
    painted = pixels.copy()
    painted[..., :colours] = np.where(still[..., None], pixels[..., :colours], np.clip(moved, 0, 255))
    return painted


def pixels_of(picture: PIL.Image.Image, path: Path) -> Pixels:
    """Return the pixels of one decoded picture (H, W) or (H, W, C); raises DataError for kinds that hold no grey."""
    mode, clear = picture.mode, "transparency" in picture.info
    if mode not in _MODES:
        cure = "save it as grey or RGB"
        what = "1 bit per pixel shows no speckle" if mode == "1" else f"pixels of kind {mode} are not read"
        raise DataError(f"{path}: {what}; {cure}")
    if mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16)
    if mode in ("P", "PA"):
        picture = picture.convert("RGBA" if clear or mode == "PA" else "RGB")
    elif clear:
        picture = picture.convert("RGBA" if mode == "RGB" else "LA")
    return np.array(picture)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever Pillow raises or warns of on a damaged file into a DataError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # refuse_size decides
            yield
    except (DataError, MemoryError):
        raise
    except PIL.Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than {2 * MOST_PIXELS} pixels; cut it, or give it as NPY") from error
    except Exception as error:  # Pillow raises errors of many kinds on damaged files
        raise DataError(f"{path}: damaged: {first_line(error)}; restore a copy") from error


def read_bytes(path: Path) -> bytes:
    """Return a file's content; raises DataError when it can't be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error


def refuse_size(path: Path, width: int, height: int) -> None:
    """Raise DataError for a picture of too many pixels, before any memory is taken."""
    if width * height > MOST_PIXELS:
        raise DataError(
            f"{path}: {width} x {height} pixels; a picture may have {MOST_PIXELS}; cut it, or give it as NPY"
        )


def software() -> str:
    """Return what writes the files, with its version."""
    return f"s2s {__version__}"


def _domain_for_search(
    frames: Sequence[Pixels], dtype: np.dtype[Any], low: float, high: float, stated: Stated, path: Path
) -> Domain:
    """Return the domain by the first frame where that is enough, by all of them where white is the largest value."""
    if dtype != np.uint8 or stated.domain == "envelope":
        ranges = [survey(grey_of(frame), f"{path}: frame {index}") for index, frame in enumerate(frames)]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    return find_domain(dtype, low, high, stated, str(path))[0]


def _coloured(pixels: Pixels, lossy: bool) -> NDArray[np.bool_] | None:
    return coloured(pixels[..., :3], lossy=lossy) if pixels.ndim == 3 and pixels.shape[-1] > 2 else None


def _opaque(pixels: Pixels) -> NDArray[np.bool_]:
    if pixels.ndim == 2 or pixels.shape[-1] == 3:
        return np.ones((1, 1), bool)
    opaque: NDArray[np.bool_] = pixels[..., -1] == 255
    return opaque


def _seen(mask: NDArray[np.bool_], boxes: NDArray[np.bool_]) -> str:
    # coloured bars of the user interface are large too, and away from the scan
    within = bool((ndimage.binary_dilation(boxes, iterations=3) & mask).any())
    box = ", and so is a coloured area, which may be Doppler" if within else ""
    return (
        f"{100 * mask.mean():.0f} % of it is taken for ultrasound; the rest, with text and marks, is kept as it is{box}"
    )
