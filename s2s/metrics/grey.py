"""Images as a screen shows them: clipped to the dynamic range, and as grey levels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def shown(image_db: ArrayLike, dynamic_range: float) -> Array:
    """The image, any shape, as a screen shows it: clipped to [-dynamic_range, 0] dB."""
    return np.clip(np.asarray(image_db, dtype=np.float64), -dynamic_range, 0.0)


def grey(image_db: ArrayLike, dynamic_range: float) -> Array:
    """The image, any shape, in grey levels that are linear in dB: 0 is black, 1 is white.

    >>> grey([-90.0, -15.0, 3.0], 60.0).tolist()
    [0.0, 0.75, 1.0]
    """
    return shown(image_db, dynamic_range) / dynamic_range + 1.0
