"""The background's texture: a smooth stationary Gaussian random field, fixed in space.

    t = g * w,   g(r) ~ exp(-2 r^2 / L^2),   autocorrelation exp(-r^2 / L^2),   w white

so that the autocorrelation falls to 1/e at the correlation length L. The white noise is drawn in tiles of a lattice
anchored at the origin: the field is a pure function of (L, seed), the same for every image that looks at it.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from usim.phantom.schema import Scene

# With 8 nodes per correlation length linear interpolation keeps the variance within 1.6 % between nodes (1 % on
# average), that is within 0.03 dB of a 3 dB texture.
NODES: Final = 8
# The lattice reaches this far beyond the image, because scatterers outside of it still reach its pixels.
MARGIN: Final = 25e-3
_TILE: Final = 128
_REACH: Final = 4 * NODES // 2
_STREAM: Final = 3


def texture_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> NDArray[np.float64]:
    """Return the texture of a scene in dB at points (x, z), metres, broadcast; it has zero mean.

    Farther than MARGIN from the image the field goes on as its last value.
    """
    texture = scene.background.texture
    x, z = np.asarray(x, dtype=np.float64), np.asarray(z, dtype=np.float64)
    shape = np.broadcast_shapes(x.shape, z.shape)
    if texture is None or texture.std == 0:
        return np.zeros(shape)
    spacing = texture.correlation / NODES
    (x0, x1), (z0, z1) = (_nodes(interval, spacing) for interval in scene.box)
    field = _lattice(texture.seed, x0, x1, z0, z1)
    nodes = np.stack([part.ravel() for part in np.broadcast_arrays(z / spacing - z0, x / spacing - x0)])
    value = ndimage.map_coordinates(field, nodes, order=1, mode="nearest", prefilter=False)
    return np.asarray(texture.std * value.reshape(shape))


def _nodes(interval: tuple[float, float], spacing: float) -> tuple[int, int]:
    return math.floor((interval[0] - MARGIN) / spacing), math.ceil((interval[1] + MARGIN) / spacing) + 1


@functools.lru_cache(maxsize=4)
def _lattice(seed: int, x0: int, x1: int, z0: int, z1: int) -> NDArray[np.float64]:
    """The field of unit variance at nodes z0..z1-1 by x0..x1-1 of the lattice through the origin."""
    distance = np.arange(-_REACH, _REACH + 1) / NODES
    kernel = np.exp(-2 * distance**2)
    kernel /= np.sqrt(np.sum(kernel**2))
    white = _white(seed, x0 - _REACH, x1 + _REACH, z0 - _REACH, z1 + _REACH)
    rows = ndimage.correlate1d(white, kernel, axis=0, mode="constant")[_REACH:-_REACH]
    field = ndimage.correlate1d(rows, kernel, axis=1, mode="constant")[:, _REACH:-_REACH]
    field = np.ascontiguousarray(field)
    field.setflags(write=False)
    return field


def _white(seed: int, x0: int, x1: int, z0: int, z1: int) -> NDArray[np.float64]:
    """White noise at the nodes of a rectangle; each tile has its own stream, addressed by its place."""
    columns, rows = range(x0 // _TILE, (x1 - 1) // _TILE + 1), range(z0 // _TILE, (z1 - 1) // _TILE + 1)
    noise = np.empty((len(rows) * _TILE, len(columns) * _TILE))
    for a, row in enumerate(rows):
        for b, column in enumerate(columns):
            # SeedSequence takes no negative numbers; a tile's place is folded to one (0, -1, 1, -2 -> 0, 1, 2, 3).
            place = tuple(2 * n if n >= 0 else -2 * n - 1 for n in (row, column))
            stream = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(*place, _STREAM)))
            tile = np.random.Generator(stream).standard_normal((_TILE, _TILE))
            noise[a * _TILE : (a + 1) * _TILE, b * _TILE : (b + 1) * _TILE] = tile
    top, left = z0 - rows[0] * _TILE, x0 - columns[0] * _TILE
    return noise[top : top + z1 - z0, left : left + x1 - x0]
