"""Scan conversion: from the lines of a sector to pixels, and the mask of what was scanned.

Values in dB are interpolated bilinearly in range and angle. Interpolation is linear in dB, so it commutes with the
expectation: the converted truth is the truth of the converted image.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.frame import Truth
from usim.process import log_compress
from usim.scan import Sector
from usim.speckle import FLOOR_DB

Array = NDArray[np.float64]
IN_DB = ("bmode", "resolved_db", "echogenicity_db")
EDGE = 1e-9  # of a sample: pixels on the sector's border lie in it


@dataclass(frozen=True, eq=False)
class Conversion:
    """Where every pixel of a picture lies among the samples of a sector.

    x (X,), z (Z,): pixel centres, metres.  mask (Z, X): pixels in the sector.  first (P,): the sample at or before each
    of those in range and angle, of (R, A) samples in a row.  along, across (P,): how far towards the next ones.
    """

    x: Array
    z: Array
    mask: NDArray[np.bool_]
    first: NDArray[np.int64]
    along: NDArray[np.float32]
    across: NDArray[np.float32]
    lines: int

    def linear(self, values: NDArray[Any], outside: float) -> NDArray[np.float32]:
        """Samples (R, A) read at the pixels (Z, X), bilinearly; `outside` where nothing was scanned."""
        flat, at = np.asarray(values, np.float32).reshape(-1), self.first
        near = flat[at] + self.across * (flat[at + 1] - flat[at])
        far = flat[at + self.lines] + self.across * (flat[at + self.lines + 1] - flat[at + self.lines])
        return self._placed(near + self.along * (far - near), outside)

    def nearest(self, values: NDArray[Any]) -> NDArray[Any]:
        """The nearest samples of (R, A) at the pixels (Z, X); 0 where nothing was scanned."""
        at = self.first + np.where(self.along > 0.5, self.lines, 0) + (self.across > 0.5)
        return self._placed(values.reshape(-1)[at], 0)

    def _placed(self, values: NDArray[Any], outside: float) -> NDArray[Any]:
        out = np.full(self.mask.shape, outside, values.dtype)
        out[self.mask] = values
        return out


@functools.lru_cache(maxsize=2)
def conversion_of(image: Sector, radius: float) -> Conversion:
    """The conversion of a sector; radius: of the array's curvature, metres, 0 for none."""
    (x0, x1), (z0, z1) = image.box(radius)
    x, z = np.linspace(x0, x1, image.pixels[0]), np.linspace(z0, z1, image.pixels[1])
    away = np.hypot(x[None, :], z[:, None] + radius) - radius
    angle = np.arctan2(x[None, :], z[:, None] + radius)
    most = image.samples - 1, image.lines - 1
    u = (away - image.depth[0]) / (image.depth[1] - image.depth[0]) * most[0]
    v = (angle - image.angle[0]) / (image.angle[1] - image.angle[0]) * most[1]
    mask = (u >= -EDGE) & (u <= most[0] + EDGE) & (v >= -EDGE) & (v <= most[1] + EDGE)
    u, v = np.clip(u[mask], 0.0, most[0]), np.clip(v[mask], 0.0, most[1])
    row, line = np.minimum(u.astype(np.int64), most[0] - 1), np.minimum(v.astype(np.int64), most[1] - 1)
    along, across = (u - row).astype(np.float32), (v - line).astype(np.float32)
    return Conversion(x, z, mask, row * image.lines + line, along, across, image.lines)


def picture_of(envelope: NDArray[np.float32], conversion: Conversion) -> tuple[NDArray, NDArray]:
    """B-mode in dB and envelope (Z, X) of the envelope (R, A) of lines; both from the converted dB."""
    floor = 10.0 ** (FLOOR_DB / 20.0)
    level = conversion.linear(20.0 * np.log10(np.maximum(envelope, floor)), FLOOR_DB)
    shown = (10.0 ** (level / 20.0)).astype(np.float32) * conversion.mask
    return log_compress(shown), shown


def truth_of(truth: Truth, conversion: Conversion, **exact: NDArray[Any]) -> Truth:
    """The truth (Z, X) of a sector's picture from that of its lines; exact: what is known at the pixels themselves."""
    arrays: dict[str, NDArray[Any]] = {}
    for field in fields(Truth):
        values = getattr(truth, field.name)
        outside = FLOOR_DB if field.name in IN_DB else 0.0
        if field.name in exact:
            values = exact[field.name].copy()
            values[~conversion.mask] = outside
            arrays[field.name] = values
        elif isinstance(values, np.ndarray) and values.dtype.kind == "f":
            arrays[field.name] = conversion.linear(values, outside)
        elif isinstance(values, np.ndarray):
            arrays[field.name] = conversion.nearest(values)
    return replace(truth, **{**arrays, "mask": conversion.mask.astype(np.uint8)})
