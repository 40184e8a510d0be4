"""What a scanner draws over its image: coloured marks, and text, calipers and rulers burned in as grey."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray
from scipy import ndimage, spatial

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

_AROUND = np.ones((3, 3), bool)

#: Difference of a pixel's channels, of 255, from which it is coloured, and down to which its soft edge goes; in files
#: that lose colour (JPEG, MP4) grey pixels come back with up to 8, and colours run over 16 x 16 pixels.
COLOURED, COLOURED_EDGE = 24.0, 8.0
LOSSY_COLOURED, LOSSY_EDGE = 40.0, 14.0
#: Coloured areas are more than half full in windows of so many pixels, and take more than this share of the picture.
_BOX_WINDOW, _BOX_SHARE = 7, 0.002
#: Grey levels of 255 by which a glyph stands out from what lies two to three pixels away: one of a drawn level or
#: beside others, and one that is only near white, which clipped speckle is too.
_STANDS_OUT, _STANDS_FAR = 45.0, 65.0
#: Greys from which a glyph is near white, and from which one beside others is seen.
_WHITISH, _BESIDE = 230.0, 190.0
#: Pixels of a glyph or stroke: speckle of 8 bits rarely has 6 equal neighbours, nothing written is larger than this
#: share of the picture, and strokes are thinner than this radius.
_LEAST, _MOST_SHARE, _THICK = 6, 0.005, 4
#: Rows and columns between the middles of letters of one line; more parts than this are no letters.
_LINE, _MOST_GLYPHS = (8.0, 30.0), 1000
#: Levels that hold this many times the equal neighbours of the levels beside them are drawn, not measured.
_POPULAR = 4.0
#: Grey levels that a still pixel may change over a clip, and that those around it must.
_STILL, _LIVELY = 3.0, 10.0


def coloured(pixels: NDArray[Any], *, lossy: bool = False) -> Mask:
    """Return which pixels (H, W) of a colour picture (H, W, 3) of 8 bits are coloured, with their soft edges."""
    spread = pixels.max(axis=-1).astype(np.int16) - pixels.min(axis=-1)
    seed, edge = (LOSSY_COLOURED, LOSSY_EDGE) if lossy else (COLOURED, COLOURED_EDGE)
    sure: Mask = spread > seed
    if not sure.any():
        return sure
    near = ndimage.binary_dilation(sure, _AROUND, iterations=4 if lossy else 1)
    found: Mask = near & (spread > edge)
    return found


def colour_boxes(found: Mask) -> Mask:
    """Return the convex hulls (H, W) of large coloured areas, such as the flow of colour Doppler: all of it is kept."""
    boxes = np.zeros(found.shape, bool)
    if not found.any():
        return boxes
    solid = ndimage.uniform_filter(found.astype(np.float32), _BOX_WINDOW) > 0.5
    parts, _ = ndimage.label(ndimage.binary_closing(np.pad(solid, _BOX_WINDOW), iterations=_BOX_WINDOW))
    parts = parts[_BOX_WINDOW:-_BOX_WINDOW, _BOX_WINDOW:-_BOX_WINDOW]
    for number in np.flatnonzero(np.bincount(parts.ravel()) >= _BOX_SHARE * found.size):
        if number:
            rows, columns = np.nonzero(parts == number)
            corners = spatial.ConvexHull(np.stack([columns, rows], axis=1))
            inside = PIL.Image.new("1", found.shape[::-1])
            PIL.ImageDraw.Draw(inside).polygon([*map(tuple, corners.points[corners.vertices].tolist())], fill=1)
            boxes |= np.asarray(inside) | (parts == number)
    return boxes


def written(grey: Grey, *, lossy: bool = False) -> Mask:
    """Return the pixels (H, W) of text and strokes in one image of greys 0 to 255.

    Glyphs are thin, stand out sharply, and are of one value, or near white and side by side. A lone reflector is
    neither unless it is clipped at white. lossy: no two values of a glyph are equal.
    """
    found = _in_lines(_glyphs(grey, grey >= _WHITISH, _STANDS_FAR))
    if not lossy:
        rounded = np.rint(grey)
        for level in _drawn_levels(rounded):
            found |= _glyphs(grey, rounded == level, _STANDS_OUT)
    if not found.any():
        return found
    beside = ndimage.binary_dilation(found, np.ones((9, 25), bool))
    found |= _glyphs(grey, (grey >= _BESIDE) & beside, _STANDS_OUT)
    return _with_soft_edges(found, 2 if lossy else 1)


def written_in_clip(low: Grey, high: Grey) -> Mask:
    """Return the pixels (H, W) of text and strokes by the least and largest value, 0 to 255, each had in a clip.

    They are bright and still where all around moves.
    """
    change = high - low
    lively = ndimage.uniform_filter(change, 15) > _LIVELY
    still = (change <= _STILL) & lively
    return _with_soft_edges(_glyphs(low, still & (low > _STANDS_OUT), _STANDS_OUT), 1)


def _drawn_levels(rounded: Grey) -> list[int]:
    """Return the whole levels that many neighbours share."""
    levels = np.clip(rounded, 0, 255).astype(np.int16)
    pairs = np.zeros(256)
    for one, other in ((levels[1:], levels[:-1]), (levels[:, 1:], levels[:, :-1])):
        pairs += np.bincount(one[one == other], minlength=256)
    beside = ndimage.median_filter(pairs, 17, mode="mirror")
    popular = (pairs >= 2 * _LEAST) & (pairs > _POPULAR * (beside + 1.0))
    popular[: int(_STANDS_OUT)] = False
    return [int(level) for level in np.flatnonzero(popular)]


def _glyphs(grey: Grey, drawn: Mask, stands_out: float) -> Mask:
    """Return the parts of `drawn` that are of a glyph's size, thin, and stand out by so many levels from around."""
    found = np.zeros(drawn.shape, bool)
    parts, _ = ndimage.label(drawn, _AROUND)
    sizes = np.bincount(parts.ravel())
    most = max(_MOST_SHARE * drawn.size, 20.0 * _LEAST)
    for number, place in enumerate(ndimage.find_objects(parts), start=1):
        if not _LEAST <= sizes[number] <= most:
            continue
        rows, columns = (slice(max(side.start - 4, 0), side.stop + 4) for side in place)
        part = parts[rows, columns] == number
        if ndimage.binary_erosion(part, iterations=_THICK).any():
            continue
        around = ndimage.binary_dilation(part, iterations=3) & ~ndimage.binary_dilation(part, _AROUND)
        around &= ~drawn[rows, columns]
        values = grey[rows, columns]
        if around.any() and np.median(values[part]) - np.quantile(values[around], 0.6) >= stands_out:
            found[rows, columns] |= part
    return found


def _in_lines(found: Mask) -> Mask:
    """Return the parts that have at least two others beside them, as letters have."""
    parts, count = ndimage.label(found, _AROUND)
    if count > _MOST_GLYPHS or count < 3:
        return np.zeros_like(found)
    middle = np.array(ndimage.center_of_mass(found, parts, np.arange(1, count + 1)))
    apart = np.abs(middle[:, None] - middle[None])
    beside = ((apart[..., 0] <= _LINE[0]) & (apart[..., 1] <= _LINE[1])).sum(axis=1) > 2
    return np.asarray(np.concatenate([[False], beside])[parts], bool)


def _with_soft_edges(found: Mask, reach: int) -> Mask:
    """Return glyphs and the pixels of their smoothed edges, so many around them."""
    near: Mask = ndimage.binary_dilation(found, _AROUND, iterations=reach)
    return near
