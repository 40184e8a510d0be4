"""Sectors by the exact engine: focused beams that steer or leave an arc, beamformed along their lines.

Their truth is that of the image engine's PSF (sector.py), scaled once to the exact engine's images: nothing is
calibrated, and what the exact engine adds far from a target, such as grating lobes, is not in it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from usim.elements import Firings, window
from usim.engines import psf, sir_image
from usim.engines.expect import PowerPlan
from usim.engines.sector import SectorBeam
from usim.engines.sir_image import WITHIN_PITCH, SirPlan
from usim.events import Event, Focused
from usim.medium import Medium
from usim.probe import Probe
from usim.scan import Receive, Sector
from usim.scatterers import Scatterers
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
PROBING_LINES, PROBING_SAMPLES = 65, 96  # of the image of one point that ties the engines' units
WIDEST = math.radians(30.0)  # that it reaches to either side
BANDS = 6  # samples of the pulse's spectrum between the frequencies whose elevation profiles are summed
LEVELS = 24  # ranges at which such points are imaged
NEAREST = 8.0  # wavelengths: where the first one lies


@dataclass(frozen=True, eq=False)
class SectorSirPlan(SirPlan):
    """The exact engine's plan of a sector; transmission t images the line at angle `column[t]`.

    beam: the image engine's, which has the same apertures.
    """

    beam: SectorBeam

    @cached_property
    def column(self) -> Array:
        """Directions (T,) of the lines, radians."""
        return self.image.angle_axis()

    @property
    def axes(self) -> tuple[Array, Array]:
        """Directions (X,) of the lines in radians, and ranges (Z,) along them in metres."""
        return self.column, self.image.range_axis()

    def _at(self, angle: Array, r: Array | float) -> Array:
        """Places (..., 3) at ranges r along lines, broadcast, metres."""
        x, z = self.beam.geometry.to_space(angle * self.beam.geometry.length, r)
        return np.stack(np.broadcast_arrays(x, 0.0, z), axis=-1)

    def events_at(self, column: Array) -> tuple[list[Event], Firings]:
        """The transmissions (T,) of the lines at angles `column` (T,), radians."""
        e, transmit, radius = self.elements, self.transmit, self.beam.radius
        pitch = radius * self.probe.arc_step if radius else self.probe.pitch
        along = radius * np.arctan2(e.normal[:, 0], e.normal[:, 2]) if radius else e.centre[:, 0]
        inside = ((np.arange(WITHIN_PITCH) + 0.5) / WITHIN_PITCH - 0.5) * pitch
        place = along[None, :, None] + inside - radius * column[:, None, None]
        weights = window(transmit.apodization, place / self.beam.transmit_half_aperture()).mean(axis=2)
        focus = self._at(column, transmit.depth)
        travel = np.linalg.norm(e.centre[None] - focus[:, None], axis=2) / self.medium.sound_speed
        last = np.where(weights > 0.0, travel, 0.0).max(axis=1, keepdims=True)
        delays = np.where(weights > 0.0, last - travel, 0.0)
        events: list[Event] = [Focused(point=tuple(map(float, point)), cycles=transmit.cycles) for point in focus]
        return events, Firings(delays, weights, np.arange(len(column)))

    def points_of(self, number: int) -> Array:
        """Points (P, 3) of line `number`, metres."""
        return self._at(self.column[number], self.image.range_axis())

    def below(self, scatterers: Scatterers) -> Array:
        """How far (N,) scatterers lie from the array's face, metres: along the lines, of a phased array ahead."""
        return self.beam.geometry.to_beam(scatterers.x, scatterers.z)[1] if self.beam.radius else scatterers.z

    def sight(self, points: Array) -> Array:
        """The places (T, P, 3) whose receive apertures the points take: a phased array's lie straight ahead."""
        if self.beam.radius:
            return points
        ahead = np.zeros(points.shape)
        ahead[..., 2] = np.linalg.norm(points, axis=-1)
        return ahead

    def response(self, deepest: float):
        """P R^2 and its band for paths as long as those to the end of the lines beside the farthest scatterer."""
        return super().response(max(deepest, self.image.depth[1]))


@dataclass(frozen=True, eq=False)
class SectorTwin(psf.Plan):
    """The image engine's plan of a sector that the exact engine images; `sir` is that engine's own plan."""

    sir: SectorSirPlan

    @cached_property
    def scale(self) -> float:
        """What the exact engine's IQ is multiplied with: a point at the focus ahead then has this plan's energy."""
        depth = self.beam.transmit.depth
        return float(np.abs(self.beam.elevation(np.zeros(1), np.array([depth])))[0]) / self._gain(depth)

    def _gain(self, depth: float) -> float:
        """Root of the energy of a point's image on the middle line by the exact engine, over that of this plan without
        its elevation profile."""
        b, length = self.beam, self.beam.geometry.length
        wide = min(float(np.interp(depth, self.grid.row, self.reach)) / length, WIDEST)
        part = {"angle": (-wide, wide), "lines": PROBING_LINES, "samples": PROBING_SAMPLES}
        part["depth"] = (max(depth - self.grid.half_pulse, 0.5 * depth), depth + self.grid.half_pulse)
        image = self.sir.image.model_copy(update=part)
        point = Scatterers(np.array([[0.0, 0.0, depth]]), np.ones(1))
        exact = sir_image.run(replace(self.sir, image=image), point)
        fast = psf.run(psf.plan(b.probe, b.transmit, b.receive, b.medium, image), point, elevation=False)
        return float(np.linalg.norm(exact) / np.linalg.norm(fast))

    @cached_property
    def _levels(self) -> tuple[Array, Array, Array]:
        _, (near, far) = self.extent
        depth = np.geomspace(max(near, NEAREST * self.beam.wavelength), far, LEVELS)
        gains, slab = [self.scale * self._gain(d) for d in depth], [self._slab(d) for d in depth]
        return np.log(depth), np.log(gains), np.log(slab)

    def _slab(self, depth: float) -> float:
        """Thickness in metres of the slice that is as loud in the middle everywhere as all of it together: of all
        frequencies of the echo, each weighed with its power and with the width of its lateral beam."""
        at, pulse, middle = np.array([depth]), self.beam.pulse, np.zeros(1)
        frequency = pulse.frequency[::BANDS]
        whole, ahead = 0.0, 0.0
        for f, power in zip(frequency, pulse.spectrum(at)[0, ::BANDS] ** 2 / frequency, strict=True):
            wavelength = functools.partial(np.full_like, fill_value=self.beam.medium.sound_speed / f)
            profile = replace(self.beam.elevation, wavelength=wavelength)
            whole += power * float(profile.energies(at)[0][0])
            ahead += power * float(np.abs(profile(middle, at))[0] ** 2)
        return whole / ahead

    def level(self, r: Array) -> Array:
        """Amplitude of the exact engine's images of points in the image plane at ranges r, over those of this plan
        without its elevation profile."""
        return np.exp(np.interp(np.log(np.maximum(r, 1e-6)), *self._levels[:2]))

    def energy(self, r: Array) -> Array:
        """Integral over elevation of what `level` is squared, at ranges r, metres."""
        depth, gain, slab = self._levels
        return np.exp(np.interp(np.log(np.maximum(r, 1e-6)), depth, 2.0 * gain + slab))

    def echo(self, scatterers: Scatterers, *, elevation: bool) -> NDArray[np.complex64]:
        """IQ (Z, X) by the exact engine in this plan's units; elevation: see psf.run."""
        amplitude = scatterers.amplitude
        if not elevation:  # in-plane amplitudes hold the profile already
            amplitude = amplitude / self.level(self.geometry.to_beam(scatterers.x, scatterers.z)[1])
        return np.complex64(self.scale) * sir_image.run(self.sir, Scatterers(scatterers.position, amplitude))


@dataclass(frozen=True, eq=False)
class SectorTwinPower(PowerPlan):
    """The incoherent twin of the exact engine's sectors."""

    plan: SectorTwin

    def elevation_energies(self, row: Array) -> tuple[Array, Array]:
        """Integrals of |E|^2 and |E|^4 over elevation at ranges (R,), the first as the exact engine has it."""
        second, fourth = super().elevation_energies(row)
        more = np.divide(self.plan.energy(row), second, out=np.zeros_like(second), where=second > 0.0)
        return second * more, fourth * more**2

    def peak(self, x: Array, z: Array) -> Array:
        """Peak |PSF|^2 of a unit scatterer at elevation 0, at places (P,) of beam space."""
        return super().peak(x, z) * (self.plan.level(z) / np.abs(self.plan.elevation(np.zeros(len(z)), z))) ** 2


def plan(probe: Probe, transmit: FocusedScan, receive: Receive, medium: Medium, image: Sector) -> SectorTwin:
    """The plan of a sector that the exact engine images."""
    twin = psf.plan(probe, transmit, receive, medium, image)
    sir = SectorSirPlan(probe, transmit, receive, medium, image, twin.beam)
    return SectorTwin(twin.beam, twin.grid, twin.reach, sir)
