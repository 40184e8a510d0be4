"""Echoes that reach a pixel from far away: side lobes, grating lobes and late arcs, which no compact kernel holds.

The exact engine makes them, and inside an anechoic region they are all there is. Their mean intensity varies over
millimetres, so that it is measured on a coarse grid: the exact image of one scatterer per depth, without what lies
within the reach of the calibrated kernel,

    m_far(x, z) = integral e(x_s, z_s) Iy(z_s) |PSF(x_s - x, z; z_s)|^2 dx_s dz_s       outside that reach

taken from a scatterer on the array's axis, as if the array had no ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.engines import sir_image
from usim.engines.sir_image import SirPlan
from usim.engines.threads import each
from usim.scan import Image
from usim.scatterers import Scatterers

Array = NDArray[np.float64]
LATERAL_STEP = 0.4e-3  # metres between columns, and between cells of scatterers
AXIAL_STEP = 0.3e-3  # metres between scatterers; arcs are as thick as a pulse, some 0.3 mm
WIDEST = 25e-3  # metres to either side
PIXELS_PER_STEP = 3  # along depth, in every AXIAL_STEP


@dataclass(frozen=True, eq=False)
class Clutter:
    """Mean intensity per unit scatterer outside the kernel's reach.

    source (N,): depths of the scatterers, metres.  depth (D,): of the pixels.  offset (K,): x_s - x, symmetric.
    power (N, D, K): |PSF|^2, averaged over PIXELS_PER_STEP pixels.
    """

    source: Array
    depth: Array
    offset: Array
    power: NDArray[np.float32]

    def mean(self, strength: Array, x: Array, z: Array) -> Array:
        """Mean intensity (Z, X) at pixels x (X,), z (Z,).

        strength: (N, J), mean intensity of scatterers summed over cells LATERAL_STEP wide and AXIAL_STEP high, centred
        on `lateral_cells` and `source`.
        """
        cells = self.lateral_cells(x)
        columns = cells[(cells >= x[0] - LATERAL_STEP) & (cells <= x[-1] + LATERAL_STEP)]
        first, reach = int(np.searchsorted(cells, columns[0])), len(self.offset) // 2
        padded = np.pad(strength, ((0, 0), (reach, reach)))
        total = np.zeros((len(self.depth), len(columns)))
        for n in np.flatnonzero(strength.any(axis=1)):
            windows = np.lib.stride_tricks.sliding_window_view(padded[n], len(self.offset))
            total += self.power[n] @ windows[first : first + len(columns)].T
        rows = np.array([np.interp(z, self.depth, line) for line in total.T])
        return np.array([np.interp(x, columns, line) for line in rows.T])

    def lateral_cells(self, x: Array) -> Array:
        """Centres (J,) of the cells that can be seen from pixels x (X,), metres."""
        reach = len(self.offset) // 2
        count = int(np.ceil((x[-1] - x[0]) / (2.0 * LATERAL_STEP))) + 1
        return (x[0] + x[-1]) / 2.0 + LATERAL_STEP * np.arange(-count - reach, count + reach + 1)

    def cells(self, x: Array, scatterer_x: Array, scatterer_z: Array, strength: Array) -> Array:
        """Sums (N, J) of strengths (any shape) of scatterers at places of the same shape, over the cells."""
        lateral = self.lateral_cells(x)
        row = np.rint((scatterer_z - self.source[0]) / AXIAL_STEP).astype(int)
        column = np.rint((scatterer_x - lateral[0]) / LATERAL_STEP).astype(int)
        shape = (len(self.source), len(lateral))
        inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
        place = row[inside] * shape[1] + column[inside]
        return np.bincount(place, strength[inside], shape[0] * shape[1]).reshape(shape)


def measure(
    sir: SirPlan, scale: float, extent: tuple[float, float], rows: Array, reach: Array, pulse: float
) -> Clutter:
    """The clutter of a setting whose scatterers lie at depths within `extent`, metres.

    rows, reach (R,): how far the calibrated kernel reaches to either side at these depths.  pulse: and along depth.
    scale: of the exact engine's IQ.
    """
    z = sir.image.z_axis()
    width = min(WIDEST, float(np.ptp(sir.image.x_axis())) + 2.0 * float(reach.max()))
    half = max(1, int(np.ceil(width / LATERAL_STEP)))
    offset = LATERAL_STEP * np.arange(-half, half + 1)
    source = extent[0] + AXIAL_STEP * (0.5 + np.arange(max(1, int(np.ceil((extent[1] - extent[0]) / AXIAL_STEP)))))
    pixels = PIXELS_PER_STEP * max(2, int(np.ceil((z[-1] - z[0]) / AXIAL_STEP)))
    image = Image(x=(float(offset[0]), float(offset[-1])), z=(float(z[0]), float(z[-1])), pixels=(len(offset), pixels))
    coarse = sir_image.plan(sir.probe, sir.transmit, sir.receive, sir.medium, image)
    depth = image.z_axis()
    coarse.scan  # noqa: B018 - made once, before the threads ask for it
    power = np.empty((len(source), pixels // PIXELS_PER_STEP, len(offset)), np.float32)

    def one(n: int) -> None:
        echo = np.abs(scale * sir_image.run(coarse, Scatterers([[0.0, 0.0, source[n]]], [1.0]))) ** 2
        near = np.abs(depth[:, None] - source[n]) <= pulse
        near = near & (np.abs(offset) <= np.interp(source[n], rows, reach))
        far = np.where(near, 0.0, echo)[:, ::-1]  # column x of the image sees the scatterer at x_s - x = -x
        power[n] = far.reshape(-1, PIXELS_PER_STEP, len(offset)).mean(axis=1)

    each(one, range(len(source)))
    return Clutter(source, depth.reshape(-1, PIXELS_PER_STEP).mean(axis=1), offset, power)
