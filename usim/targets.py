"""What a scene fixes, as scatterers: points, wires, and specular surfaces laid out along their curves.

A wire is a line of scatterers along elevation. At one depth the integral of the elevation profile along it is one
complex factor, which the definition of its amplitude (the peak) takes out: it is made as its scatterer in the image
plane, in every elevation slice alike.

A surface is a line of equal scatterers in its curve, all in phase, LINE_STEP of a wavelength apart. Their echoes add up
where the surface faces the beam and cancel elsewhere, which is the mirror's law and needs no other. Heights of Gaussian
roughness sigma take from the mirror what they give to speckle (Beckmann and Spizzichino 1963; two-way phase
g = 2 k sigma cos(angle), and a correlation of the heights over half a wavelength, too short for the beam to see):

    amplitude exp(-g^2 / 2)  coherent,      q^2 (1 - exp(-g^2)) wavelength / 2  mean strength per metre, diffuse

with q the amplitude per metre of the smooth surface.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from usim.engines.expect import PowerPlan
from usim.errors import ResourceError
from usim.phantom.structure import Interface, Point, Wire
from usim.phantom.world import World
from usim.scatterers import Scatterers, joined

Array = NDArray[np.float64]
LINE_STEP = 1.0 / 8.0  # of the wavelength at the centre frequency, between a surface's scatterers
TAPER = 1e-3  # metres over which a surface begins and ends, a quarter of it at most
MOST_SCATTERERS = 3_000_000  # of all interfaces; some 200 MB
MARGIN = 2.0 * TAPER  # by which reverberation goes beyond the image
NOTHING = Scatterers(np.zeros((0, 3)), np.zeros(0))
PER_SEGMENT = 64  # points of a curve between two given ones, for its length


@dataclass(frozen=True, eq=False)
class Targets:
    """The fixed echoes of a scene as it stands, as a setting with this power plan hears them."""

    world: World
    power: PowerPlan

    @cached_property
    def points(self) -> Scatterers:
        """Point targets."""
        return self._at_peak(self.world.scene.points)

    @cached_property
    def wires(self) -> Scatterers:
        """Wires, in the image plane."""
        return self._at_peak(self.world.scene.wires)

    @cached_property
    def mirrors(self) -> Scatterers:
        """The coherent part of interfaces."""
        return self._interfaces[0]

    @cached_property
    def rough(self) -> Scatterers:
        """The diffuse part of interfaces: rms amplitudes along their curves."""
        return self._interfaces[1]

    @cached_property
    def repeats(self) -> Scatterers:
        """Echoes that come more than once, from ranges where nothing is: no shadow reaches them."""
        scene, plan, lines = self.world.scene, self.power.plan, []
        geometry, spec = plan.geometry, scene.reverberation
        for k in range(spec.count) if spec else ():
            r = (k + 1) * spec.spacing
            ends = plan.grid.x[[0, -1]] + np.array([-MARGIN, MARGIN])
            if spec.x:
                ends = geometry.to_beam(np.array(spec.x), r)[0]
            v = np.linspace(*ends, max(4, math.ceil(np.ptp(ends) * geometry.spread(r) / self._step)))
            place = np.stack(geometry.to_space(v, np.full(len(v), r)), axis=1)
            lines.append(self._surface(place, spec.level - k * spec.decay, 0.0, arc=True)[0])
        for interface in scene.interfaces:
            bounces = interface.reverberation
            for k in range(1, bounces.count + 1) if bounces else ():
                v, r = geometry.to_beam(*self._line(interface, k + 1).T)
                place = np.stack(geometry.to_space(v, (k + 1.0) * r), axis=1)
                lines.append(self._surface(place, interface.amplitude - k * bounces.decay, interface.roughness)[0])
        return joined(NOTHING, *lines)

    @property
    def _step(self) -> float:
        return LINE_STEP * self.power.plan.beam.wavelength

    def _at_peak(self, targets: Sequence[Point | Wire]) -> Scatterers:
        """Scatterers whose peak intensity is that asked for, over the mean of 0 dB tissue at their place."""
        if not targets:
            return NOTHING
        position = self.world.move(np.array([(t.position[0], 0.0, t.position[1]) for t in targets]))
        level = np.array([t.amplitude for t in targets])
        tissue, peak = self.power.at(position[:, 0], position[:, 2])
        amplitude = np.sqrt(10.0 ** (level / 10.0) * tissue / np.where(peak > 0.0, peak, np.inf))
        return Scatterers(position, amplitude)

    @cached_property
    def _interfaces(self) -> tuple[Scatterers, Scatterers]:
        interfaces = self.world.scene.interfaces
        length = sum(np.hypot(*np.diff(np.array(i.path), axis=0).T).sum() * _echoes(i) for i in interfaces)
        if length > MOST_SCATTERERS * self._step:
            raise ResourceError(
                f"interfaces: {length:.3g} m of them, with their reverberation, ask for {length / self._step:.3g} "
                f"scatterers, at most {MOST_SCATTERERS:g} are allowed; draw fewer or shorter ones"
            )
        parts = [self._surface(self._line(i), i.amplitude, i.roughness) for i in interfaces]
        return joined(NOTHING, *(mirror for mirror, _ in parts)), joined(NOTHING, *(rough for _, rough in parts))

    def _line(self, interface: Interface, finer: int = 1) -> Array:
        """Points (N, 2) along an interface as it lies now, so many times as close as they need to be."""
        return self.world.move(_in_plane(curve(interface.path, self._step / finer)))[:, [0, 2]]

    def _surface(
        self, place: Array, level: float, roughness: float, *, arc: bool = False
    ) -> tuple[Scatterers, Scatterers]:
        """Coherent scatterers, and the rms amplitudes of the diffuse ones, of a surface through places (N, 2).

        What does not reach the image is left out.
        arc: it follows the wavefronts of a sector, and `level` is that of such a mirror.
        """
        beam, along = self.power.plan.beam, np.gradient(place, axis=0)
        v, r = beam.geometry.to_beam(*place.T)
        step = np.hypot(*along.T)
        way = np.cumsum(step) - step / 2.0
        ramp = min(TAPER, way[-1] / 4.0)
        taper = 0.5 - 0.5 * np.cos(np.pi * np.clip(np.minimum(way, way[-1] - way) / ramp, 0.0, 1.0))
        (left, right), (top, bottom) = self.power.plan.extent
        seen = (v >= left) & (v <= right) & (r >= top) & (r <= bottom)
        place, along, v, r, step, taper = (part[seen] for part in (place, along, v, r, step, taper))
        asked = np.sqrt(10.0 ** (level / 10.0) * self.power.tissue_at(v, r))
        amplitude = asked * self.power.per_metre(v, r, arc=arc) * taper
        # a steered plane wave is mirrored back to the aperture by what halves its angle
        tilt = beam.geometry.angle(v) + beam.steering / 2.0
        facing = np.abs(along[:, 0] * np.cos(tilt) - along[:, 1] * np.sin(tilt)) / step
        wavelength = beam.wavelength_at(r)
        phase = 4.0 * math.pi / wavelength * roughness * facing
        mirror = Scatterers(_in_plane(place), amplitude * step * np.exp(-0.5 * phase**2))
        diffuse = np.sqrt(-np.expm1(-(phase**2)) * wavelength / 2.0 * step)
        return mirror, Scatterers(mirror.position, amplitude * diffuse)


def _echoes(interface: Interface) -> int:
    """How many times the scatterers of an interface are needed: copy k is k times as steep, and as fine."""
    count = interface.reverberation.count if interface.reverberation else 0
    return (count + 1) * (count + 2) // 2


def _in_plane(place: Array) -> Array:
    """Positions (N, 3) of places (N, 2) in the image plane."""
    return np.insert(place, 1, 0.0, axis=1)


def curve(path: Sequence[tuple[float, float]], step: float) -> Array:
    """Points (N, 2) in the middle of equal pieces, at most `step` long and at least 4, of a smooth curve.

    The curve is the natural cubic spline through the path's points over their distances: a straight line for two.
    """
    corner = np.array(path)
    chord = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(corner, axis=0).T))))
    spline = CubicSpline(chord, corner, bc_type="natural")
    fine = np.interp(np.linspace(0.0, len(path) - 1.0, PER_SEGMENT * (len(path) - 1) + 1), np.arange(len(path)), chord)
    arc = np.concatenate(([0.0], np.cumsum(np.hypot(*np.diff(spline(fine), axis=0).T))))
    count = max(4, math.ceil(arc[-1] / step))
    places: Array = spline(np.interp((np.arange(count) + 0.5) / count * arc[-1], arc, fine))
    return places
