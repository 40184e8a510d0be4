"""Reading a picture of a scan: one grey image, whatever the file's type."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError, DataError, first_line

Array = NDArray[np.float64]
FORMATS: Final = ("PNG", "GIF", "TIFF", "JPEG", "BMP")
FEWEST_PIXELS: Final = 64
"""Along each side: below it there are not enough speckle cells to measure."""
MOST_PIXELS: Final = 1 << 24
WHITE: Final = 255.0
_COLOURED: Final = 24.0  # of 255, between channels: JPEG's rounding stays below
_FEW_COLOURED: Final = 0.01  # of the pixels: more than a logo or a coloured ruler is an overlay


@dataclass(frozen=True, eq=False)
class Scan:
    """A grey picture: values (Z, X) from 0 to 255; ignored (Z, X), true where coloured marks lie."""

    values: Array
    ignored: NDArray[np.bool_]
    path: Path


def read_scan(path: str | Path, crop: tuple[int, int, int, int] | None = None) -> Scan:
    """Read a PNG, GIF, TIFF, JPEG or BMP; of several frames or pages the first.

    crop: x0, y0, x1, y1 in pixels, the last two exclusive. Colour files are taken where their channels agree; some
    coloured marks are ignored. 16 bits are scaled to 255.

    Raises DataError, naming the file and the cure, for a file that is missing, no picture, coloured, too small or
    without contrast, ConfigError for a crop that does not lie in the picture.
    """
    path = Path(path)
    channels = _cropped(_channels(path), crop)
    grey = channels.mean(axis=-1)
    coloured = np.ptp(channels, axis=-1) > _COLOURED
    if coloured.mean() > _FEW_COLOURED:
        raise DataError(
            f"{path}: {100 * coloured.mean():.0f} % of the pixels are coloured, at most {100 * _FEW_COLOURED:g} % are "
            "allowed: save the scan without colour (Doppler) overlays, or cut them off with --crop"
        )
    if min(grey.shape) < FEWEST_PIXELS:
        raise DataError(
            f"{path}: {grey.shape[1]} x {grey.shape[0]} pixels, at least {FEWEST_PIXELS} a side are needed to measure "
            "speckle; take the image in its full size"
        )
    if np.ptp(grey) < 8.0:
        raise DataError(
            f"{path}: all grey values lie between {grey.min():.0f} and {grey.max():.0f} of 255; there is no speckle to "
            "measure"
        )
    return Scan(grey, coloured, path)


def _channels(path: Path) -> Array:
    """The picture as (Z, X, channels), 0 to 255."""
    import PIL.Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # our limit is lower, and refused below
        try:
            with PIL.Image.open(path, formats=FORMATS) as file:
                if file.size[0] * file.size[1] > MOST_PIXELS:
                    raise DataError(
                        f"{path}: {file.size[0]} x {file.size[1]} pixels, at most {MOST_PIXELS} are allowed; cut it"
                    )
                return _decoded(file)
        except DataError:
            raise
        except PIL.UnidentifiedImageError:
            raise DataError(f"{path}: no picture; allowed are {', '.join(FORMATS)}: convert it to PNG") from None
        except PIL.Image.DecompressionBombError:
            raise DataError(f"{path}: more than {MOST_PIXELS} pixels; cut it") from None
        except FileNotFoundError:
            raise DataError(f"{path}: no such file") from None
        except OSError as error:
            raise DataError(f"{path}: cannot read: {error.strerror or first_line(error)}") from None
        except (ValueError, SyntaxError, EOFError) as error:
            raise DataError(f"{path}: damaged: {first_line(error)}; restore a copy") from None


def _decoded(file: Any) -> Array:
    if file.mode in ("1", "L"):
        return np.asarray(file.convert("L"), dtype=np.float64)[..., None]
    if file.mode.startswith("I") or file.mode == "F":
        values = np.asarray(file, dtype=np.float64)
        top = values.max() if file.mode == "F" else 65535.0
        return np.clip(values / max(top, 1e-30) * WHITE, 0.0, WHITE)[..., None]
    return np.asarray(file.convert("RGB"), dtype=np.float64)


def _cropped(channels: Array, crop: tuple[int, int, int, int] | None) -> Array:
    if crop is None:
        return channels
    height, width = channels.shape[:2]
    x0, y0, x1, y1 = crop
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ConfigError(
            f"--crop: {x0},{y0},{x1},{y1} does not lie in the picture of {width} x {height} pixels; give "
            "x0,y0,x1,y1 with x0 < x1 and y0 < y1"
        )
    return channels[y0:y1, x0:x1]
