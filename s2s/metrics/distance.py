"""Signed distance to the border of a region."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]


def signed_distance(mask: NDArray[np.bool_], pixel: tuple[float, float]) -> tuple[Array, NDArray[np.integer[Any]]]:
    """Distance (H, W) of pixel centres to the mask's border, positive inside; unit as `pixel`, the pixel's (z, x) size.

    The border runs half a pixel from the last centres on either side: good to about a third of a pixel on slanted
    borders. Second, the index (2, H, W) of the nearest pixel on the other side. The mask has pixels of both kinds.
    """
    inward, to_outside = _half(mask, pixel)
    outward, to_inside = _half(~mask, pixel)
    return np.where(mask, inward, -outward), np.where(mask, to_outside, to_inside)


def _half(mask: NDArray[np.bool_], pixel: tuple[float, float]) -> tuple[Array, NDArray[np.integer[Any]]]:
    """Distance of the mask's pixels to its border, 0 elsewhere, and the nearest pixel outside."""
    centre, nearest = ndimage.distance_transform_edt(mask, sampling=pixel, return_indices=True)
    down, right = ((n - own) * size for n, own, size in zip(nearest, np.indices(mask.shape), pixel, strict=True))
    # Half of the pixel's size in the direction of the nearest one.
    half = np.zeros_like(centre)
    np.divide(down**2 * pixel[0] + right**2 * pixel[1], 2.0 * centre**2, out=half, where=mask)
    return centre - half, nearest
