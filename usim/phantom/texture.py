"""Textures: random variations of the echogenicity, fixed in space.

    smooth     t = g * w,   g(r) ~ exp(-2 r^2 / L^2),   autocorrelation exp(-r^2 / L^2),   w white; t in dB
    fibres     the same of (u / aspect, v), u along the fibres and v across them
    clusters   P = g * n / <n>,   g a Gaussian of width `size` at half height,   n Poisson;   P a power, of mean 1

so that the autocorrelation of the first falls to 1/e at the correlation length L, and the variance of the last is that
of shot noise, 1 / (4 pi s^2 density) with s the Gaussian's standard deviation (Campbell's theorem). The noise is drawn
in tiles of a lattice anchored at the origin: a field is a pure function of its texture, the same for every image that
looks at it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from usim.engines.compiled import kernels
from usim.phantom.tissue import ANECHOIC_DB, Clusters, Fibres, Texture

if TYPE_CHECKING:
    from usim.phantom.schema import Scene

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]
Window = tuple[tuple[float, float], tuple[float, float]]

# With 8 nodes per correlation length linear interpolation keeps the variance within 1.6 % between nodes (1 % on
# average), that is within 0.03 dB of a 3 dB texture.
NODES: Final = 8
# The lattice reaches this far beyond the image, because scatterers outside of it still reach its pixels.
MARGIN: Final = 25e-3
SIGMA: Final = NODES / math.sqrt(8.0 * math.log(2.0))
"""Standard deviation of a clump in nodes: its width at half height is NODES."""
_TILE: Final = 128
_REACH: Final = 4 * NODES // 2
_STREAM: Final = 3


def texture_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Array:
    """Return the background's texture in dB at points (x, z), metres, broadcast.

    Farther than MARGIN from the image the field goes on as its last value.
    """
    x, z = np.broadcast_arrays(np.asarray(x, dtype=np.float64), np.asarray(z, dtype=np.float64))
    if scene.background.texture is None:
        return np.zeros(x.shape)
    return Field(scene.background.texture, window_of(scene.box)).decibels(x, z)


def window_of(picture: Window, box: Box | None = None) -> Window:
    """Return where a texture is needed, ((x0, x1), (z0, z1)), metres: within MARGIN of the picture, and inside the box
    (left, right, top, bottom)."""
    (x0, x1), (z0, z1) = ((first - MARGIN, last + MARGIN) for first, last in picture)
    if box is not None:
        x0, x1, z0, z1 = (
            min(max(at, first), last)
            for at, first, last in zip(box, (x0, x0, z0, z0), (x1, x1, z1, z1), strict=True)
        )
    return (x0, x1), (z0, z1)


@dataclass(frozen=True, eq=False)
class Field:
    """One texture over a window; outside of it the field goes on as on the window's border."""

    texture: Texture
    window: Window

    @property
    def cells(self) -> float:
        """How many cells of one correlation length, or of one clump, the lattice has."""
        (u0, u1), (v0, v1) = self._own_window
        return (u1 - u0) * (v1 - v0) / self._length**2

    def decibels(self, x: Array, z: Array) -> Array:
        """The texture in dB at points x, z of one shape, metres."""
        if isinstance(self.texture, Clusters):
            return np.asarray(10.0 * np.log10(np.maximum(self._read(x, z), 10.0 ** (ANECHOIC_DB / 10.0))))
        return self.texture.std * self._read(x, z) if self.texture.std else np.zeros(x.shape)

    def power(self, x: Array, z: Array) -> Array:
        """The texture as a factor of the power at points x, z of one shape, metres."""
        if isinstance(self.texture, Clusters):
            return self._read(x, z)
        return np.asarray(np.exp(self.decibels(x, z) * (math.log(10) / 10)))

    @property
    def _length(self) -> float:
        return self.texture.size if isinstance(self.texture, Clusters) else self.texture.correlation

    def _own(self, x: Array, z: Array) -> tuple[Array, Array]:
        """The lattice's coordinates: along the fibres, shrunk, and across them."""
        if not isinstance(self.texture, Fibres):
            return x, z
        cos, sin = math.cos(self.texture.direction), math.sin(self.texture.direction)
        return (cos * x + sin * z) / self.texture.aspect, cos * z - sin * x

    @property
    def _own_window(self) -> Window:
        (x0, x1), (z0, z1) = self.window
        u, v = self._own(np.array([x0, x1, x0, x1]), np.array([z0, z0, z1, z1]))
        return (float(u.min()), float(u.max())), (float(v.min()), float(v.max()))

    @cached_property
    def _nodes(self) -> tuple[Array, int, int]:
        """The field of unit variance, or of unit mean, on its lattice, and the first node along x and z."""
        spacing = self._length / NODES
        (x0, x1), (z0, z1) = (
            (math.floor(first / spacing), math.ceil(last / spacing) + 1) for first, last in self._own_window
        )
        mean = self.texture.density * spacing**2 if isinstance(self.texture, Clusters) else None
        return _lattice(self.texture.seed, mean, x0, x1, z0, z1), x0, z0

    def _read(self, x: Array, z: Array) -> Array:
        field, x0, z0 = self._nodes
        (u, v), spacing = self._own(x, z), self._length / NODES
        value = np.empty(x.size)
        kernels("texture").read_lattice(field, u.ravel(), v.ravel(), 1.0 / spacing, x0, z0, value)
        return value.reshape(x.shape)


@functools.lru_cache(maxsize=4)
def _lattice(seed: int, mean: float | None, x0: int, x1: int, z0: int, z1: int) -> Array:
    """The field at nodes z0..z1-1 by x0..x1-1 of the lattice through the origin.

    mean: of the number of clumps per node; None for normal noise of unit variance.
    """
    if mean is None:
        kernel = np.exp(-2 * (np.arange(-_REACH, _REACH + 1) / NODES) ** 2)
        kernel /= np.sqrt(np.sum(kernel**2))
    else:
        kernel = np.exp(-((np.arange(-_REACH, _REACH + 1) / SIGMA) ** 2) / 2)
        kernel /= np.sum(kernel)
    noise = _noise(seed, mean, x0 - _REACH, x1 + _REACH, z0 - _REACH, z1 + _REACH)
    rows = ndimage.correlate1d(noise, kernel, axis=0, mode="constant")[_REACH:-_REACH]
    field = ndimage.correlate1d(rows, kernel, axis=1, mode="constant")[:, _REACH:-_REACH]
    field = np.ascontiguousarray(field)
    field.setflags(write=False)
    return field


def _noise(seed: int, mean: float | None, x0: int, x1: int, z0: int, z1: int) -> Array:
    """White noise at the nodes of a rectangle; each tile has its own stream, addressed by its place."""
    columns, rows = range(x0 // _TILE, (x1 - 1) // _TILE + 1), range(z0 // _TILE, (z1 - 1) // _TILE + 1)
    noise = np.empty((len(rows) * _TILE, len(columns) * _TILE))
    for a, row in enumerate(rows):
        for b, column in enumerate(columns):
            # SeedSequence takes no negative numbers; a tile's place is folded to one (0, -1, 1, -2 -> 0, 1, 2, 3).
            place = tuple(2 * n if n >= 0 else -2 * n - 1 for n in (row, column))
            generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(*place, _STREAM))))
            size = (_TILE, _TILE)
            tile = generator.standard_normal(size) if mean is None else generator.poisson(mean, size) / mean
            noise[a * _TILE : (a + 1) * _TILE, b * _TILE : (b + 1) * _TILE] = tile
    top, left = z0 - rows[0] * _TILE, x0 - columns[0] * _TILE
    return noise[top : top + z1 - z0, left : left + x1 - x0]
