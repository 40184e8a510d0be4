"""The beams of a sector scan: a phased array that steers from its centre, or a convex one whose elements face outwards.

The pupil integral of aperture.py with exact paths in place of Fresnel's. A beam leaves the array at angle a; the
element at u, metres along the array from the beam's origin, is d(u) from the point at range r on the beam, and
g(u) = dd/dxi says how d changes when the point moves by xi across the beam:

    exp(-i k xi^2/2 (1/r - 1/(R + r)))  integral A(u) D(u) d^(-1/2) exp(-i k (d(u) - r - d_f(u) + r_f + g xi)) du

d_f is d at the focus r_f; reception is focused everywhere. The exponential before the integral is the curvature of the
wavefront across circles around the array's centre of curvature: none for a phased array, R = 0. D is the element factor
at the angle to the element's own normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from usim.elements import window
from usim.engines.aperture import flat_factor
from usim.engines.beam import Beam
from usim.engines.compiled import kernels
from usim.engines.geometry import Fan
from usim.medium import Medium
from usim.probe import Probe
from usim.scan import Image, Receive, Sector
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]
Index = NDArray[np.int64]
WINDOWS = {"boxcar": 0, "hann": 1, "hamming": 2}
BAND_RANGES = 24  # ranges at which the lateral band is looked at
BAND_POINTS = 201


def beam_of(
    probe: Probe, transmit: FocusedScan | PlaneScan, receive: Receive, medium: Medium, image: Image | Sector
) -> Beam:
    """The beam of a setting; a sector's v is in metres at the transmit focus."""
    if isinstance(image, Sector):
        assert isinstance(transmit, FocusedScan)
        return SectorBeam(probe, transmit, receive, medium, transmit.depth)
    return Beam(probe, transmit, receive, medium)


@dataclass(frozen=True)
class SectorBeam(Beam):
    """The PSF of a sector scan in beam space: offsets, columns and depths are v and r of geometry.py.

    reference: metres, the range at which v is in metres.
    """

    reference: float = 0.0

    @property
    def radius(self) -> float:
        """Metres; 0 for a phased array."""
        return self.probe.radius or 0.0

    @cached_property
    def geometry(self) -> Fan:
        """From beam space to space."""
        return Fan(self.radius, self.radius + self.reference)

    def axes(self, image: Sector) -> tuple[Array, Array]:
        """v (X,) and r (Z,) of the samples along the image's lines, metres."""
        return image.angle_axis() * self.geometry.length, image.range_axis()

    @property
    def end(self) -> float:
        """Half the array along its face, metres."""
        if self.probe.radius is None:
            return self.probe.aperture / 2.0
        return (self.probe.elements - 1) / 2.0 * self.probe.arc_step * self.radius + self.probe.element_width / 2.0

    @property
    def half_width(self) -> float:
        """v of the outermost beam that leaves the array's face, metres; inf for a phased array."""
        return self.end / self.radius * self.geometry.length if self.radius else math.inf

    @property
    def limits(self) -> tuple[float, float]:
        """Least and most half receive aperture, metres; a convex array's follows the angle alone."""
        assert self.probe.pitch is not None
        return self.probe.pitch, math.inf if self.radius else self.end

    def transmit_half_aperture(self) -> float:
        """Half the transmit aperture along the array, metres."""
        return min(max(self.transmit.depth / (2.0 * self.transmit.f_number), self.limits[0]), self.end)

    def receive_half_aperture(self, depth: Array) -> Array:
        """Half the receive aperture along the array (D,), metres, where the array does not end: by bisection."""
        depth = np.asarray(depth, np.float64)
        low, high = np.zeros(depth.shape), np.full(depth.shape, 2.0 * self.end)
        for _ in range(48):
            middle = (low + high) / 2.0
            inside = self._seen(middle, 0.0, depth) <= 1.0
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return high

    def _ray(self, u: Array, angle: Array | float, depth: Array | float) -> tuple[Array, Array, Array, Array]:
        """Distance, its change across the beam, and sine and cosine to the element's normal, broadcast."""
        if not self.radius:
            dx, dz = depth * np.sin(angle) - u, depth * np.cos(angle)
            away = np.hypot(dx, dz)
            return away, -u * np.cos(angle) / away, dx / away, dz / away
        side, front = np.sin(u / self.radius), np.cos(u / self.radius)
        dx, dz = -self.radius * side, depth + self.radius * (1.0 - front)
        away = np.hypot(dx, dz)
        return away, dx / away, (dx * front - dz * side) / away, (dx * side + dz * front) / away

    def _seen(self, u: Array, angle: Array | float, depth: Array | float) -> Array:
        """Where the element at u lies in the receive aperture of the point at `depth`: 1 at its edge."""
        away, _, slant, ahead = self._ray(u, angle, depth)
        offset, height = (np.abs(slant) * away, ahead * away) if self.radius else (np.abs(u), depth + 0.0 * u)
        return offset / np.clip(height / (2.0 * self.receive.f_number), *self.limits)

    def _pupil(
        self, offset: Array, column: Array, depth: float, half: float, focus: float, apodization: str
    ) -> NDArray[np.complex128]:
        """The integral above (C,) by quadrature; focus nan: reception, per root of the aperture's energy."""
        angle, k = column / self.geometry.length, 2.0 * math.pi / float(self.wavelength_at(depth))
        xi, origin = offset * float(self.geometry.spread(depth)), self.radius * angle
        lower, upper = np.maximum(-half, -self.end - origin), np.minimum(half, self.end - origin)
        turns = k * half * (2.0 + 2.0 * float(np.abs(xi).max()) / depth)
        abscissa, quadrature = np.polynomial.legendre.leggauss(-(-math.ceil(60 + 0.6 * turns) // 32) * 32)
        width = np.maximum(upper - lower, 0.0)[:, None] / 2.0
        u, angle = (upper + lower)[:, None] / 2.0 + width * abscissa, angle[:, None]
        away, change, slant, ahead = self._ray(u, angle, depth)
        received = math.isnan(focus)
        weight = window(apodization, self._seen(u, angle, depth) if received else u / half)
        path = 0.0 if received else away - depth - self._ray(u, angle, focus)[0] + focus
        factor = flat_factor(slant, ahead, self.probe.element_width * k / (2.0 * math.pi)) / np.sqrt(away)
        field = (weight * factor * np.exp(-1j * k * (path + change * xi[:, None])) * quadrature * width).sum(axis=1)
        field *= np.exp(-1j * k * self._curvature(depth) * xi * xi)
        if not received:
            return field
        energy = (weight**2 * quadrature * width).sum(axis=1)
        return np.divide(field, np.sqrt(energy), out=np.zeros_like(field), where=energy > 0.0)

    def _curvature(self, depth: Array | float) -> Array:
        """Half the curvature of the wavefront across circles around the centre of curvature, 1/m, one way."""
        return 0.5 * (1.0 / np.asarray(depth) - 1.0 / (self.radius + np.asarray(depth)))

    def receive_beam(self, offset: Array, column: Array, depth: float) -> NDArray[np.complex128]:
        """R (C,): dynamic focus, per root of the aperture's energy."""
        half = float(min(self.receive_half_aperture(np.array(depth)), 2.0 * self.end))
        return self._pupil(offset, column, depth, half, math.nan, self.receive.apodization)

    def transmit_beam(self, offset: Array, column: Array, depth: float) -> NDArray[np.complex128]:
        """T (C,): the field of each column's transmission, at offsets in v."""
        half = self.transmit_half_aperture()
        return self._pupil(offset, column, depth, half, self.transmit.depth, self.transmit.apodization)

    def kernels(
        self, column: Array, depth: Array, tap: float, reach: Index, shared: tuple[Index, Index], start: Index, re, im,
        *, receive_only: bool,
    ) -> None:  # fmt: skip
        """Fill bank.lateral_kernels' planes."""
        angle = column / self.geometry.length
        ways = 1.0 if receive_only else 2.0
        transmit = (-1.0, 1.0, 0)
        if not receive_only:
            transmit = (self.transmit_half_aperture(), self.transmit.depth, WINDOWS[self.transmit.apodization])
        kernels("sector").build_fan_bank(
            angle, bool(np.allclose(angle, -angle[::-1], atol=1e-12)), self.end, self.radius, depth,
            2.0 * np.pi / self.wavelength_at(depth), transmit,
            (2.0 * self.receive.f_number, *self.limits, WINDOWS[self.receive.apodization]),
            self.receive_half_aperture(depth), -1.0 if receive_only else self.probe.element_width,
            ways * self._curvature(depth), tap * self.geometry.spread(depth), reach, *shared, start, re, im,
        )  # fmt: skip

    def shared(self, column: Array, depth: Array, *, receive_only: bool) -> tuple[Index, Index]:
        """bank.shared_columns: those of a convex array whose apertures its ends do not cut; of a phased one none."""
        none = np.full(len(depth), np.searchsorted(column, 0.0))
        if not self.radius:
            return none, none
        half = self.receive_half_aperture(depth)
        if not receive_only:
            half = np.maximum(half, self.transmit_half_aperture())
        free = (self.end - np.append(half[1:], half[-1])) / self.radius * self.geometry.length
        low, high = np.searchsorted(column, -free), np.searchsorted(column, free, side="right")
        return np.where(low < high, low, none), np.where(low < high, high, none)

    def lateral_band(self, r: Array) -> tuple[Array, Array]:
        """grid.lateral_band: wavenumbers of v in 1/m and the most power at any range of the axis r (Z,)."""
        depth = np.geomspace(max(r[0], self.wavelength), r[-1], BAND_RANGES)
        apertures = (
            (self.receive_half_aperture(depth), None),
            (np.full(depth.shape, self.transmit_half_aperture()), self.transmit.apodization),
        )
        widest = float(self.geometry.spread(depth).max()) / self.wavelength
        frequency = np.linspace(-widest, widest, BAND_POINTS)
        most = np.zeros(2 * BAND_POINTS - 1)
        for n, at in enumerate(depth):
            both = []
            for half, apodization in apertures:
                u = min(half[n], self.end) * np.linspace(-1.0, 1.0, BAND_POINTS)
                _, change, slant, ahead = self._ray(u, 0.0, at)
                position = self._seen(u, 0.0, at) if apodization is None else u / half[n]
                weight = window(apodization or self.receive.apodization, position)
                weight *= flat_factor(slant, ahead, self.probe.element_width / self.wavelength)
                place = -change * float(self.geometry.spread(at)) / self.wavelength
                weight *= np.gradient(u, place, edge_order=1)
                both.append(np.interp(frequency, place, weight, left=0.0, right=0.0))
            pupil = np.convolve(*both)
            most = np.maximum(most, (pupil / max(pupil.max(), 1e-300)) ** 2)
        used = most > 1e-12
        return np.linspace(-2.0 * widest, 2.0 * widest, most.size)[used], most[used]

    def kernel_rate(self, row: Array) -> Array:
        """grid.kernel_rate: how fast kernels over v turn with range."""
        depth = np.maximum(row, self.wavelength)
        half = np.minimum(self.receive_half_aperture(depth), self.end)
        width = 1.5 * self.wavelength * np.maximum(depth / (2.0 * half), 0.5)
        aperture = self.transmit_half_aperture()
        bent = np.minimum(aperture, depth)
        curvature = np.abs(np.gradient(self._curvature(depth), row)) * 2.0
        window_change = np.where(half >= self.end, 0.3, 1.0) / depth
        return window_change + self.wavenumber * (0.3 * bent**2 / depth**2 + curvature * width**2)
