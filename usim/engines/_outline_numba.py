"""Numba kernels of outlines made of straight pieces: which points they enclose, and how far points are from them."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def enclosed(x, z, ax, az, bz, slope, out):
    """Whether rays from points x, z (P,) towards +x cross the edges an odd number of times, into out (P,).

    Edge k runs from (ax, az) to depth bz; slope: dx/dz, of any value where az = bz: such an edge is never crossed.
    """
    for p in range(x.size):
        odd = False
        for k in range(ax.size):
            if (z[p] < az[k]) != (z[p] < bz[k]) and x[p] <= ax[k] + (z[p] - az[k]) * slope[k]:
                odd = not odd
        out[p] = odd


@njit(cache=True)
def nearest(x, z, ax, az, dx, dz, within, out):
    """Distances of points x, z (P,) from the closest of the pieces (ax, az) + [0, 1] (dx, dz), into out (P,).

    Exact up to `within`, and `within` where nothing is that close.
    """
    per_square = np.empty(ax.size)
    for k in range(ax.size):
        per_square[k] = 1.0 / (dx[k] * dx[k] + dz[k] * dz[k])
    for p in range(x.size):
        best, reach = within * within, within
        for k in range(ax.size):
            v = z[p] - az[k]
            if v < min(dz[k], 0.0) - reach or v > max(dz[k], 0.0) + reach:
                continue
            u = x[p] - ax[k]
            along = min(max((u * dx[k] + v * dz[k]) * per_square[k], 0.0), 1.0)
            u -= along * dx[k]
            v -= along * dz[k]
            square = u * u + v * v
            if square < best:
                best = square
                reach = math.sqrt(best)
        out[p] = reach
