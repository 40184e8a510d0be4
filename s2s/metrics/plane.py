"""The plane through an image: a slope of brightness that is no structure."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Powers of z and x in 1, z and x.
_TERMS = ((0, 0), (1, 0), (0, 1))


def without_plane(values: ArrayLike, mask: NDArray[np.bool_]) -> Array:
    """The values (H, W) less the plane a + b z + c x that is nearest to them, in the mean square, where `mask` holds.

    >>> bool(abs(without_plane(np.add.outer(np.arange(4.0), np.arange(5.0)), np.ones((4, 5), bool))).max() < 1e-12)
    True
    """
    image, weight = np.asarray(values, dtype=np.float64), mask.astype(np.float64)
    axes = [np.linspace(-1.0, 1.0, side) for side in image.shape]
    down, right = (np.stack([np.ones(axis.size), axis]) for axis in axes)
    # The sums of products of 1, z and x over the mask, from those of the rows and columns.
    moments = [[down[i] * down[k] @ weight @ (right[j] * right[m]) for k, m in _TERMS] for i, j in _TERMS]
    held = np.where(mask, image, 0.0)
    factors = np.linalg.lstsq(np.array(moments), [down[i] @ held @ right[j] for i, j in _TERMS], rcond=None)[0]
    plane: Array = (factors[0] + factors[1] * axes[0])[:, None] + factors[2] * axes[1]
    return image - plane
