"""What was insonified: the rectangle or fan of the picture that shows echoes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from usim.errors import DataError
from usim.match.scan import WHITE

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
DARK: Final = 2.5  # grey above the border's, of 255: what JPEG leaves on black
CLOSED, OPENED = 0.02, 0.015  # of the picture's larger side: gaps that are closed, strokes of text that are taken off
LEAST_SHARE: Final = 0.05  # of the picture
RECTANGULAR: Final = 0.93  # share of the smallest rectangle that a fan at least leaves free is 1 - this
UNEVEN: Final = 0.2  # of the opening angle, that the middle of a fan may be off the vertical, twice
LIT_OUTSIDE: Final = 0.06  # of the pixels around a fan, for text and rulers
STRAY: Final = 0.003  # of the outline's pixels that may lie outside the fan


@dataclass(frozen=True)
class Fan:
    """A sector of a ring: apex (x, z), radii of its inner and outer arc, pixels; angles from +z towards +x, radians."""

    apex: tuple[float, float]
    radii: tuple[float, float]
    angles: tuple[float, float]

    @property
    def box(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """((x0, x1), (z0, z1)) of the smallest rectangle around it, pixels."""
        (first, last), (near, far) = self.angles, self.radii
        x = [r * math.sin(a) for r in (near, far) for a in (first, last)]
        steepest = max(abs(first), abs(last))
        shallowest = 0.0 if first <= 0.0 <= last else min(abs(first), abs(last))
        depths = near * math.cos(steepest), far * math.cos(shallowest)
        return (self.apex[0] + min(x), self.apex[0] + max(x)), (self.apex[1] + depths[0], self.apex[1] + depths[1])

    def polar(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Radius and angle of points, pixels and radians."""
        dx, dz = x - self.apex[0], z - self.apex[1]
        return np.hypot(dx, dz), np.arctan2(dx, dz)


@dataclass(frozen=True, eq=False)
class Area:
    """The insonified part of a picture (Z, X): its mask, the box around it, and the fan, if it is one.

    box: x0, z0, x1, z1, pixels, the last two exclusive."""

    mask: Mask
    box: tuple[int, int, int, int]
    fan: Fan | None

    @cached_property
    def kind(self) -> str:
        """linear, phased (the lines meet in a point) or convex (they leave an arc)."""
        if self.fan is None:
            return "linear"
        return "phased" if self.fan.radii[0] < 0.12 * self.fan.radii[1] else "convex"

    def cut(self, image: Array) -> Array:
        """The box of an image."""
        x0, z0, x1, z1 = self.box
        return image[z0:z1, x0:x1]

    def along_beams(self, image: Array) -> tuple[Array, Mask]:
        """The box, or the fan resampled to depth along the beam by angle, and where it shows echoes.

        Rows are 1 pixel apart; columns of a fan are 1 pixel apart halfway down.
        """
        if self.fan is None:
            return self.cut(image), self.cut(self.mask)
        (near, far), (first, last) = self.fan.radii, self.fan.angles
        r = np.arange(near, far)
        a = np.arange(first, last, 2.0 / (near + far))
        z = self.fan.apex[1] + r[:, None] * np.cos(a)
        x = self.fan.apex[0] + r[:, None] * np.sin(a)
        seen = ndimage.map_coordinates(self.mask.astype(np.float64), [z, x], order=1, cval=0.0) > 0.99
        return ndimage.map_coordinates(image, [z, x], order=3, mode="nearest"), seen


def find_area(image: Array, ignored: Mask | None = None) -> Area:
    """Find the insonified area of a picture (Z, X) of greys 0 to 255.

    Whatever is brighter than the border is joined over dark gaps; thin strokes (text, rulers, outlines) and smaller
    parts are taken off. The shape is the smallest rectangle or ring sector around the rest, whichever is smaller by
    7 % or more: a sector that holds all of the area can't be smaller than the area, and is as small for the true apex.
    ignored: (Z, X), coloured marks.

    Raises DataError where nothing large is left.
    """
    bright = image > _border(image) + DARK
    if ignored is not None:
        bright &= ~ignored
    found = _largest(bright)
    if found.mean() < LEAST_SHARE:
        raise DataError(
            f"no scan area: what is connected and bright covers {100 * found.mean():.1f} % of the picture, at least "
            f"{100 * LEAST_SHARE:g} % are needed; name it with --crop x0,y0,x1,y1"
        )
    rows, columns = np.nonzero(found.any(axis=1))[0], np.nonzero(found.any(axis=0))[0]
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    size = (box[2] - box[0]) * (box[3] - box[1])
    fan = _smallest_fan(found)
    if fan is None or _area(fan) > RECTANGULAR * size or not _is_fan(fan, bright, box):
        mask = np.zeros_like(found)
        mask[box[1] : box[3], box[0] : box[2]] = True
        return Area(mask, box, None)
    z, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float64)
    r, a = fan.polar(x, z)
    mask = (fan.radii[0] <= r) & (r <= fan.radii[1]) & (fan.angles[0] <= a) & (a <= fan.angles[1])
    (x0, x1), (z0, z1) = fan.box
    around = (max(round(x0), 0), max(round(z0), 0), min(round(x1) + 1, image.shape[1]), min(round(z1) + 1, len(image)))
    return Area(mask, around, fan)


def _border(image: Array) -> float:
    """Grey of the picture's dark ground: 0 unless its outermost pixels are mostly of one dark grey."""
    ring = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    value = float(np.median(ring))
    even = np.mean(np.abs(ring - value) <= DARK) > 0.6
    return value if even and value < WHITE / 3.0 else 0.0


def _largest(bright: Mask) -> Mask:
    """The largest part after joining over dark speckle and taking off thin strokes, with its holes filled."""
    side = max(bright.shape)
    density = ndimage.uniform_filter(bright.astype(np.float64), max(3, round(OPENED * side) | 1))
    # strokes of text fill less than half of a window wider than they are; speckle fills most of it
    solid = bright & (density > 0.5)
    width = max(1, round(CLOSED * side))
    pad = np.pad(solid, 2 * width)
    joined = ndimage.binary_closing(pad, _disc(width))
    opened = ndimage.binary_opening(joined, _disc(max(1, round(OPENED * side / 2))))[
        2 * width : -2 * width, 2 * width : -2 * width
    ]
    parts, count = ndimage.label(opened)
    if not count:
        return np.zeros_like(bright)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    kept = ndimage.binary_fill_holes(parts == int(sizes.argmax()))
    # closing and opening round the corners: whatever bright pixels touch the part belong to it
    near = ndimage.binary_dilation(kept, _disc(max(1, round(OPENED * side / 2))))
    return kept | (near & solid)


def _disc(radius: int) -> Mask:
    z, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return z * z + x * x <= radius * radius


def _area(fan: Fan) -> float:
    return 0.5 * (fan.radii[1] ** 2 - fan.radii[0] ** 2) * (fan.angles[1] - fan.angles[0])


def _is_fan(fan: Fan, bright: Mask, box: tuple[int, int, int, int]) -> bool:
    """True where the fan opens evenly and its corners are dark: a shadowed corner of a rectangle still has echoes."""
    x0, z0, x1, z1 = box
    z, x = np.mgrid[z0:z1, x0:x1].astype(np.float64)
    r, a = fan.polar(x, z)
    outside = (r < fan.radii[0]) | (r > fan.radii[1]) | (a < fan.angles[0]) | (a > fan.angles[1])
    first, last = fan.angles
    even = abs(first + last) < UNEVEN * (last - first)
    return even and bool(outside.any()) and float(bright[z0:z1, x0:x1][outside].mean()) < LIT_OUTSIDE


def _smallest_fan(found: Mask) -> Fan | None:
    """The ring sector of least area around a mask; None where none has its apex above or in it."""
    inner = ndimage.binary_erosion(found, border_value=0)
    z, x = (side.astype(np.float64) for side in np.nonzero(found & ~inner))
    height, width = float(np.ptp(z)), float(np.ptp(x))

    def around(apex: Array) -> Fan:
        r, a = np.hypot(x - apex[0], z - apex[1]), np.arctan2(x - apex[0], z - apex[1])
        near, far = np.quantile(r, [STRAY, 1.0 - STRAY])
        first, last = np.quantile(a, [STRAY, 1.0 - STRAY])
        return Fan((float(apex[0]), float(apex[1])), (float(near), float(far)), (float(first), float(last)))

    def cost(apex: Array) -> float:
        return _area(around(apex)) if apex[1] < z.max() - 0.3 * height else math.inf

    middle = 0.5 * (x.min() + x.max())
    best = None
    for above in (-0.02, 0.15, 0.5, 1.2):
        start = np.array([middle, z.min() - above * height])
        corners = start + np.array([[0.0, 0.0], [0.05 * width, 0.0], [0.0, -0.1 * height]])
        options = {"initial_simplex": corners, "xatol": 0.01}
        run = optimize.minimize(cost, start, method="Nelder-Mead", options=options)
        if best is None or run.fun < best.fun:
            best = run
    if best is None or not math.isfinite(best.fun):
        return None
    return around(best.x)
