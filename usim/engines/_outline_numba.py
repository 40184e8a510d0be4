"""Numba kernels of outlines made of straight pieces: which points they enclose, and how far points are from them."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

GROUP = 8  # pieces that share a bounding box


@njit(cache=True)
def enclosed(x, z, ax, az, bz, slope, out):
    """Whether rays from points x, z (P,) towards +x cross the edges an odd number of times, into out (P,).

    Edge k runs from (ax, az) to depth bz; slope: dx/dz, of any value where az = bz: such an edge is never crossed.
    Points of one depth in a row share the edges that they may cross.
    """
    crossed = np.empty(ax.size, np.int64)
    count, depth = 0, np.nan
    for p in range(x.size):
        if z[p] != depth:
            count, depth = 0, z[p]
            for k in range(ax.size):
                if (depth < az[k]) != (depth < bz[k]):
                    crossed[count] = k
                    count += 1
        odd = False
        for k in crossed[:count]:
            if x[p] <= ax[k] + (z[p] - az[k]) * slope[k]:
                odd = not odd
        out[p] = odd


@njit(cache=True, inline="always")
def square_of(u, v, dx, dz, per_square):
    """Squared distance of (u, v) from the piece [0, 1] (dx, dz); per_square: 1 over its length squared."""
    along = min(max((u * dx + v * dz) * per_square, 0.0), 1.0)
    u -= along * dx
    v -= along * dz
    return u * u + v * v


@njit(cache=True)
def boxes_of(ax, az, dx, dz):
    """Left, right, top and bottom (4, G) of every GROUP pieces."""
    boxes = np.empty((4, (ax.size + GROUP - 1) // GROUP))
    for g in range(boxes.shape[1]):
        part = slice(g * GROUP, min((g + 1) * GROUP, ax.size))
        boxes[0, g] = min(ax[part].min(), (ax[part] + dx[part]).min())
        boxes[1, g] = max(ax[part].max(), (ax[part] + dx[part]).max())
        boxes[2, g] = min(az[part].min(), (az[part] + dz[part]).min())
        boxes[3, g] = max(az[part].max(), (az[part] + dz[part]).max())
    return boxes


@njit(cache=True)
def nearest(x, z, ax, az, dx, dz, within, out):
    """Distances of points x, z (P,) from the closest of the pieces (ax, az) + [0, 1] (dx, dz), into out (P,).

    Exact up to `within`, and `within` where nothing is that close. The piece closest to the last point is tried first:
    next to it most of the others are too far by their boxes.
    """
    boxes, per_square = boxes_of(ax, az, dx, dz), 1.0 / (dx * dx + dz * dz)
    last = 0
    for p in range(x.size):
        best = min(within * within, square_of(x[p] - ax[last], z[p] - az[last], dx[last], dz[last], per_square[last]))
        for g in range(boxes.shape[1]):
            u = max(boxes[0, g] - x[p], x[p] - boxes[1, g], 0.0)
            v = max(boxes[2, g] - z[p], z[p] - boxes[3, g], 0.0)
            if u * u + v * v > best:
                continue
            for k in range(g * GROUP, min((g + 1) * GROUP, ax.size)):
                square = square_of(x[p] - ax[k], z[p] - az[k], dx[k], dz[k], per_square[k])
                if square < best:
                    best, last = square, k
        out[p] = math.sqrt(best)
