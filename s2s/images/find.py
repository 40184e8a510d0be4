"""Where in a picture the ultrasound is: the rectangle or fan that shows echoes, without what is written over it.

>>> mask = find_region([frame], Domain("log", 60.0, 255.0))  # doctest: +SKIP
>>> mask.shape, mask.mean()  # doctest: +SKIP
((480, 640), 0.52)
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.domain import Domain
from s2s.images.image import shown_db
from s2s.images.overlay import colour_boxes, written, written_in_clip
from usim.errors import DataError
from usim.match.area import DARK, LEAST_SHARE, find_area

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

_AROUND = np.ones((3, 3), bool)

#: Longer sides are reduced to this many pixels before the shape is looked for: it takes 0.3 s there.
_SIDE = 640
#: Scans on one screen, such as the two of a dual image.
_MOST_SCANS = 4
#: A scan that comes this close to all four borders, as a share of the side, is the whole picture.
_MARGIN = 0.01
#: Dark tissue beside what was found counts from a third of the grey that `find_area` wants.
_LIFT = 3.0
#: Share of a strip along a border that is lit and not flat where a scan reaches it.
_TEXTURED = 0.6
#: Share of a scan that may be coloured.
_MOST_COLOURED = 0.5
#: Share of a scan that may be flat: more is a panel of the user interface.
_FLAT = 0.5


class Overview:
    """What `region` needs of all frames of a file, gathered one by one, so that memory stays that of a few frames.

    domain: what the numbers mean.  lossy: the file's format changes values (JPEG, MP4).
    """

    def __init__(self, domain: Domain, *, lossy: bool = False) -> None:
        self._domain, self._lossy = domain, lossy
        self._count = 0
        self._low: Grey
        self._high: Grey
        self._first: Grey
        self._coloured: Mask

    def add(self, frame: NDArray[Any], coloured: Mask | None = None) -> None:
        """Take in a frame (H, W) on the file's own scale; coloured: (H, W), its coloured pixels.

        Raises DataError for a frame of another size than those before.
        """
        shown = shown_db(frame, self._domain)
        grey = (255.0 * (1.0 + shown / self._domain.dynamic_range)).astype(np.float32)
        if not self._count:
            self._first, self._low, self._high = grey, grey.copy(), grey.copy()
            self._coloured = np.zeros(grey.shape, bool)
        elif grey.shape != self._first.shape:
            raise DataError(f"frame {self._count} has {grey.shape} pixels, those before it {self._first.shape}")
        np.minimum(self._low, grey, out=self._low)
        np.maximum(self._high, grey, out=self._high)
        if coloured is not None:
            self._coloured |= coloured
        self._count += 1

    @cached_property
    def boxes(self) -> Mask:
        """Large coloured areas (H, W) in any frame, such as the box of colour Doppler, after the last `add`."""
        return colour_boxes(self._coloured)

    def region(self) -> Mask | None:
        """Return where there is ultrasound to denoise (H, W), or None for everywhere.

        A clip is looked at by what changes in it, since overlays do not; a single or still image by what is lit and
        connected. Rather too much is taken than too little: dim tissue that touches what was found belongs to it, and
        where no scan is found, all does. Text, strokes and colours over the scan are taken out, and large coloured
        areas with all that lies between them.

        Raises DataError where most of the scan is coloured.
        """
        change = self._high - self._low
        moves = float((change > DARK).mean()) > LEAST_SHARE
        area = _area(change if moves else self._first, self._first, self._coloured)
        self._refuse_colour(area)
        over = self._coloured | self.boxes | written(self._first, lossy=self._lossy)
        if moves:
            over |= written_in_clip(self._low, self._high)
        if area is None:
            return ~over if over.any() else None
        return area & ~over

    def _refuse_colour(self, area: Mask | None) -> None:
        seen = area if area is not None else self._high > DARK
        share = float(self._coloured[seen].mean()) if seen.any() else 0.0
        if share > _MOST_COLOURED:
            raise DataError(
                f"{100 * share:.0f} % of what it shows is coloured: a colour map, or colour Doppler; save it as grey, "
                "without them"
            )


def find_region(
    frames: Iterable[NDArray[Any]], domain: Domain, *, coloured: Mask | None = None, lossy: bool = False
) -> Mask | None:
    """Return where frames (H, W) show ultrasound to denoise: a mask (H, W), or None for everywhere; see `Overview`.

    domain: what the numbers mean.  coloured: (H, W), pixels with colour.  lossy: the format changes values.
    """
    overview = Overview(domain, lossy=lossy)
    for frame in frames:
        overview.add(frame, coloured)
    return overview.region()


def _area(shape: Grey, first: Grey, coloured: Mask) -> Mask | None:
    """Return the scans found by one image of greys (H, W), or None where all of it is scan, or nothing."""
    step = max(1, -(-max(shape.shape) // _SIDE))
    small, dim, hue = _reduced(shape, step), _reduced(first, step), _reduced(coloured.astype(np.float32), step) > 0
    if _lit_to_the_border(small):
        return None
    found = np.zeros(small.shape, bool)
    for _ in range(_MOST_SCANS):
        if ((small > DARK) & ~(hue | found)).mean() < LEAST_SHARE:
            break
        try:
            scan = find_area(small.astype(np.float64), hue | found).mask
        except DataError:
            break
        if (scan & found).sum() > 0.5 * scan.sum():
            break
        lit = scan & (small > DARK)
        if _flat(small)[lit].mean() < _FLAT:
            found |= scan
        else:
            hue |= scan
    if not found.any():
        return None
    found = _grown(found, dim, hue)
    if _fills(found):
        return None
    if step > 1:
        found = ndimage.binary_dilation(found, _AROUND)
        found = np.repeat(np.repeat(found, step, axis=0), step, axis=1)[: shape.shape[0], : shape.shape[1]]
    return np.asarray(found, bool)


def _lit_to_the_border(grey: Grey) -> bool:
    """True where speckle, not a panel, reaches all four borders: nothing is written around such a scan.

    It saves the search, ten times as long, for pictures that were cut out.
    """
    margin = max(2, round(_MARGIN * max(grey.shape)))
    textured = (grey > DARK) & ~_flat(grey)
    strips = textured[:margin], textured[-margin:], textured[:, :margin], textured[:, -margin:]
    return all(strip.mean() > _TEXTURED for strip in strips)


def _reduced(image: Grey, step: int) -> Grey:
    """Return means of blocks of step x step pixels; those at the lower and right border may be of fewer."""
    if step == 1:
        return image
    height, width = image.shape
    full = np.pad(image, ((0, -height % step), (0, -width % step)), mode="edge")
    blocks = full.reshape(full.shape[0] // step, step, full.shape[1] // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _flat(grey: Grey) -> Mask:
    """Return the pixels whose neighbours have their own value: no speckle has many, a drawn panel has few others."""
    flat: Mask = ndimage.maximum_filter(grey, 3) - ndimage.minimum_filter(grey, 3) < 1.0
    return flat


def _grown(found: Mask, grey: Grey, coloured: Mask) -> Mask:
    """Return the scan with the dim tissue and the border pixels that touch it; text is thin and stays away."""
    lit = (grey * _LIFT > DARK) & ~coloured & ~_flat(grey)
    side = max(grey.shape)
    width = max(3, round(0.015 * side) | 1)
    solid = lit & (ndimage.uniform_filter(lit.astype(np.float32), width) > 0.5)
    solid = ndimage.binary_opening(solid, _AROUND, iterations=max(1, width // 4))
    grown = ndimage.binary_propagation(found, mask=found | solid)
    edge = ndimage.binary_dilation(grown, _AROUND, iterations=2) & (grey > DARK) & ~coloured
    return np.asarray(ndimage.binary_fill_holes(grown | edge), bool)


def _fills(found: Mask) -> bool:
    """True where a scan leaves no more than a thin margin of the picture, and no corner."""
    margin = max(1, round(_MARGIN * max(found.shape)))
    inner = found[margin:-margin, margin:-margin]
    return bool(inner.all())
