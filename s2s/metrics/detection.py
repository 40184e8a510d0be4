"""How well a region can be told from what surrounds it: the generalised contrast-to-noise ratio."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def gcnr(image_db: ArrayLike, inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> float:
    """Generalised contrast-to-noise ratio between the pixels of two masks (H, W): 0 alike, 1 fully told apart.

        gCNR = 1 - integral min(p, q) = max over A |P(A) - Q(A)|

    p and q being the densities of the values inside and outside. Rodriguez-Molares, Rindal, D'hooge et al., IEEE
    Trans. Ultrason. Ferroelectr. Freq. Control 67 (2020) 745-759. Here A runs over all intervals and their
    complements, that is, over one or two thresholds anywhere between the values (Kuiper's statistic): exact when the
    densities cross at most twice, too small when they cross more often. There are no histogram bins to choose; only the
    order of the values matters, so that no rising curve changes the result.

    n and m independent values of one distribution give about 1.25 sqrt(1 / n + 1 / m) rather than 0.
    nan when a mask is empty.

    >>> gcnr(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[1, 1, 0, 0]], bool), np.array([[0, 0, 1, 1]], bool))
    1.0
    """
    image = np.asarray(image_db)
    first, second = np.sort(image[inside]), np.sort(image[outside])
    if not first.size or not second.size:
        return math.nan
    values = np.concatenate([first, second])
    below = np.searchsorted(first, values, side="right") / first.size
    difference = below - np.searchsorted(second, values, side="right") / second.size
    return float(max(difference.max(), 0.0) - min(difference.min(), 0.0))
