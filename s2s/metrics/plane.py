"""The plane through an image: a slope of brightness that is no structure."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def without_plane(values: ArrayLike, mask: NDArray[np.bool_]) -> Array:
    """The values (H, W) less the plane a + b z + c x that is nearest to them, in the mean square, where `mask` holds.

    >>> bool(abs(without_plane(np.add.outer(np.arange(4.0), np.arange(5.0)), np.ones((4, 5), bool))).max() < 1e-12)
    True
    """
    image = np.asarray(values, dtype=np.float64)
    axes = [np.linspace(-1.0, 1.0, side) for side in image.shape]
    terms = [np.ones(image.shape), *np.meshgrid(*axes, indexing="ij")]
    inside = np.stack([term[mask] for term in terms])
    factors = np.linalg.lstsq(inside @ inside.T, inside @ image[mask], rcond=None)[0]
    return image - factors[0] - factors[1] * axes[0][:, None] - factors[2] * axes[1][None, :]
