"""The part of an image that is ultrasound: cut out and filled up for a method, and put back in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from usim.errors import DataError


class Region:
    """The box around a mask (H, W), True where ultrasound is, and what stands in for the pixels outside the mask.

    A pixel outside gets the value of its mirror image at the nearest edge of the mask: a method sees speckle of the
    same statistics there, and no edge. Where the mirror image is outside as well, the mask's pixel next to it is taken.

    Raises DataError when the mask is empty or has a side of less than `least` pixels.

    >>> fan = np.array([[False, False, False, True, True, True]])
    >>> Region(fan, least=1).cut(np.array([[0, 0, 0, 7, 8, 9]]))
    array([[7, 8, 9]])
    """

    def __init__(self, mask: NDArray[np.bool_], *, least: int) -> None:
        found = find_objects(mask.astype(np.int8))
        if not found:
            raise DataError("no ultrasound was found in it; save the part of it that is the image")
        self.shape, self.box = mask.shape, found[0]
        self.mask: NDArray[np.bool_] = mask[self.box]
        sides = self.mask.shape
        if min(sides) < least:
            raise DataError(f"its ultrasound has {sides[0]} x {sides[1]} pixels; {least} x {least} are needed")
        self._outside = np.nonzero(~self.mask)
        nearest: Any = distance_transform_edt(~self.mask, return_distances=False, return_indices=True)
        edge = nearest[:, *self._outside]
        limits = np.array(sides)[:, None] - 1
        mirrored = np.clip(2 * edge - np.array(self._outside), 0, limits)
        self._source = tuple(nearest[:, *mirrored])

    def cut(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Return the box of a frame (H, W), filled up outside the mask."""
        if frame.shape != self.shape:
            raise DataError(f"a frame has {frame.shape} pixels, its mask {self.shape}; save the frames one by one")
        filled: NDArray[Any] = frame[self.box].copy()
        filled[self._outside] = filled[self._source]
        return filled

    def paste(self, frame: NDArray[Any], clean: NDArray[Any]) -> NDArray[np.float64]:
        """Return a frame (H, W) with its pixels inside the mask from `clean`, which has the size of the box."""
        whole = frame.astype(np.float64)
        whole[self.box][self.mask] = clean[self.mask]
        return whole
