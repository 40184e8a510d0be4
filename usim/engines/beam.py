"""The continuous PSF of one setting: lateral two-way beam, elevation profile and pulse, without any grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from usim.elements import window
from usim.engines.aperture import element_factor, half_aperture, pupil_integral
from usim.engines.elevation import Elevation
from usim.engines.geometry import Flat
from usim.engines.pulse import Pulse
from usim.medium import Medium
from usim.probe import Probe
from usim.scan import Image, Receive
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]


@cache
def _energy_nodes() -> tuple[Array, Array]:
    return np.polynomial.legendre.leggauss(96)


@dataclass(frozen=True)
class Beam:
    """The PSF of a probe, transmit, receive and medium, at the exact place of each scatterer.

        PSF(x - x_s, z - z_s; x_s, y_s, z_s) = T(xi; z_s) R(xi; z_s) E(y_s; z_s) p(z - z_s; z_s),   xi = x_s - x

    T and R are the pupil integrals of aperture.py with apertures centred on the image column x and cut at the array's
    ends; E is elevation.py's profile, p pulse.py's envelope. Beams are those of the centroid of the echo's spectrum at
    the scatterer's depth, which excitation, probe and attenuation shift; the carrier stays at k0. R is divided by the
    root of its aperture's energy, so that electronic noise has the same power behind every aperture.
    """

    probe: Probe
    transmit: FocusedScan | PlaneScan
    receive: Receive
    medium: Medium

    @property
    def wavelength(self) -> float:
        """Metres, at the centre frequency."""
        return self.medium.sound_speed / self.probe.center_frequency

    @property
    def wavenumber(self) -> float:
        """k0 in rad/m, fixed."""
        return 2.0 * math.pi / self.wavelength

    def wavelength_at(self, depth: Array | float) -> Array:
        """Wavelength in metres at the centroid of echoes from `depth` metres (any shape): that of the beams."""
        return self.medium.sound_speed / self.pulse.centroid(depth)

    @property
    def geometry(self) -> Flat:
        """From beam space, in which offsets, columns and depths are, to space."""
        return Flat()

    def axes(self, image: Image) -> tuple[Array, Array]:
        """Lateral positions (X,) and depths (Z,) of the image's samples in beam space, metres."""
        return image.x_axis(), image.z_axis()

    @property
    def half_width(self) -> float:
        """Lateral position at which the array ends, metres."""
        return self.probe.aperture / 2.0

    @property
    def steering(self) -> float:
        """Transmit steering angle in radians; 0 for focused scans."""
        return self.transmit.angle if isinstance(self.transmit, PlaneScan) else 0.0

    @property
    def axial_stretch(self) -> float:
        """(1 + cos steering) / 2: how much slower the two-way path grows with depth."""
        return (1.0 + math.cos(self.steering)) / 2.0

    @cached_property
    def pulse(self) -> Pulse:
        """The pulse-echo spectrum."""
        return Pulse.of(self.probe, self.transmit.cycles, self.medium)

    @cached_property
    def elevation(self) -> Elevation:
        """The two-way elevation profile."""
        focus = math.inf if self.probe.elevation_focus is None else self.probe.elevation_focus
        return Elevation(self.probe.element_height, focus, self.wavelength_at)

    def transmit_half_aperture(self) -> float:
        """Half the transmit aperture in metres (focused scans)."""
        assert isinstance(self.transmit, FocusedScan)
        return float(half_aperture(self.transmit.depth, self.transmit.f_number, self.probe))

    def receive_half_aperture(self, depth: Array) -> Array:
        """Half the receive aperture in metres (D,), where the array does not end."""
        return half_aperture(depth, self.receive.f_number, self.probe)

    def shadow(self, x: Array, depth: Array | float) -> Array:
        """Amplitude of a steered plane wave at (x, depth), metres, broadcast: 1 in front of the array, 0 beside it; 1
        for focused scans.

        The edge is softened over one Fresnel length sqrt(lambda z), half the amplitude at the edge as behind a knife
        edge; edge waves are left to the exact engine.
        """
        if not isinstance(self.transmit, PlaneScan):
            return np.ones(np.broadcast_shapes(np.shape(x), np.shape(depth)))
        origin = x - depth * math.tan(self.steering)
        inside = (self.probe.aperture / 2.0 - np.abs(origin)) / np.sqrt(self.wavelength_at(depth) * np.asarray(depth))
        return 0.5 * (1.0 + erf(2.0 * inside))

    def _aperture(self, column: Array, half: float) -> tuple[Array, Array]:
        end = self.probe.aperture / 2.0
        return np.maximum(-half, -end - column), np.minimum(half, end - column)

    def _pupil(self, offset: Array, column: Array, depth: float, half: float, focus: float, apodization: str) -> Array:
        edges, wavelength = self._aperture(column, half), float(self.wavelength_at(depth))

        def weight(v: Array) -> Array:
            return window(apodization, v / half) * element_factor(v / depth, self.probe.element_width, wavelength)

        return pupil_integral(offset, depth, focus, edges, weight, wavelength)

    def receive_beam(self, offset: Array, column: Array, depth: float) -> NDArray[np.complex128]:
        """R (C,): dynamic focus, aperture centred on each column, per root of the aperture's energy."""
        half = float(self.receive_half_aperture(np.array(depth)))
        lower, upper = self._aperture(column, half)
        abscissa, quadrature = _energy_nodes()
        width = np.maximum(upper - lower, 0.0)[:, None] / 2.0
        v = (upper + lower)[:, None] / 2.0 + width * abscissa
        energy = (window(self.receive.apodization, v / half) ** 2 * quadrature * width).sum(axis=1)
        field = self._pupil(offset, column, depth, half, depth, self.receive.apodization)
        return np.divide(field, np.sqrt(energy), out=np.zeros_like(field), where=energy > 0.0)

    def transmit_beam(self, offset: Array, column: Array, depth: float) -> NDArray[np.complex128]:
        """T (C,): the field that the transmit event of each column makes at x + xi."""
        if isinstance(self.transmit, PlaneScan):
            phase = -2.0 * math.pi / float(self.wavelength_at(depth)) * math.sin(self.steering) * offset
            return self.shadow(column + offset, depth) * np.exp(1j * phase)
        half = self.transmit_half_aperture()
        return self._pupil(offset, column, depth, half, self.transmit.depth, self.transmit.apodization)

    def lateral(self, offset: Array, column: Array, depth: float) -> NDArray[np.complex128]:
        """Two-way lateral beam T R (C,) for offsets xi = x_s - x (C,) and image columns x (C,), metres."""
        return self.transmit_beam(offset, column, depth) * self.receive_beam(offset, column, depth)
