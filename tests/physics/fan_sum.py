"""A direct sum over the elements of a phased or convex array: exact spherical distances, nothing of the engine's own.

The model of element_sum.py (1/sqrt(r), soft baffle, strips in their far field), with elements that face outwards, one
focused beam per line and delay-and-sum along it, from the formulas for the probes' geometry and the receive aperture.
"""

import numpy as np
from element_sum import SPEED, apodization, pulse_echo

PROBES = {  # elements, pitch, element width, radius, centre frequency, fractional bandwidth
    "P4-2v": (64, 0.3e-3, 0.25e-3, None, 2.72e6, 0.74),
    "C5-2v": (128, 0.508e-3, 0.46e-3, 49.57e-3, 3.57e6, 0.79),
}


class FanSum:
    """Two-way IQ along lines of a fan.

    transmit: (range of the focus, f-number), a boxcar.  receive: (f-number, window).
    """

    def __init__(self, probe, transmit, receive, narrow=False):
        count, self.pitch, self.width, radius, self.centre, bandwidth = PROBES[probe]
        self.radius, index = radius, np.arange(count) - (count - 1) / 2.0
        step = 0.0 if radius is None else 2.0 * np.arcsin(self.pitch / (2.0 * radius))
        self.turn = index * step
        self.normal = np.stack([np.sin(self.turn), np.cos(self.turn)])
        if radius is None:
            self.along, self.place = index * self.pitch, np.stack([index * self.pitch, 0.0 * index])
        else:
            self.along, self.place = radius * self.turn, radius * (self.normal - [[0.0], [1.0]])
        self.transmit, self.receive = transmit, receive
        self.frequency = np.array([self.centre]) if narrow else np.linspace(0.05, 2.1, 96) * self.centre
        self.spectrum = np.ones(1) if narrow else pulse_echo(self.frequency, self.centre, bandwidth)
        self.k = 2.0 * np.pi * self.frequency[:, None] / SPEED

    def point(self, angle, depth):
        """(x, z) of a place on a line, metres."""
        away = depth + (self.radius or 0.0)
        return np.array([away * np.sin(angle), away * np.cos(angle) - (self.radius or 0.0)])

    def _towards(self, point):
        ray = point[:, None] - self.place
        distance = np.hypot(*ray)
        ahead = (ray * self.normal).sum(axis=0) / distance
        return distance, ahead, (ray[0] * self.normal[1] - ray[1] * self.normal[0]) / distance

    def green(self, point):
        """(F, E): from every element to a point."""
        distance, ahead, slant = self._towards(point)
        strip = np.sinc(self.k * self.width / (2.0 * np.pi) * slant)
        return strip * np.maximum(ahead, 0.0) * np.exp(-1j * self.k * distance) / np.sqrt(distance)

    def weights(self, angle, depth):
        """(E,): the receive window of a point on a line."""
        if self.radius is None:
            offset, height = self.along, np.full(len(self.along), depth)
        else:
            distance, ahead, slant = self._towards(self.point(angle, depth))
            offset, height = slant * distance, ahead * distance
        most = np.inf if self.radius else len(self.along) * self.pitch / 2.0
        half = np.clip(height / (2.0 * self.receive[0]), self.pitch, most)
        return apodization(self.receive[1], offset / half)

    def line(self, scatterer, angle, depths):
        """IQ (D,) along the line at `angle` of a unit scatterer at (angle, range), demodulated at the centre."""
        green = self.green(self.point(*scatterer))
        focus, f_number = self.transmit
        fired = np.abs(self.along - (self.radius or 0.0) * angle) <= focus / (2.0 * f_number)
        delay = focus - self._towards(self.point(angle, focus))[0]
        incident = (green * fired * np.exp(-1j * self.k * delay)).sum(axis=1)
        out = np.zeros(len(depths), np.complex128)
        for n, depth in enumerate(depths):
            weight = self.weights(angle, depth)
            path = depth + self._towards(self.point(angle, depth))[0]
            total = (green * np.exp(1j * self.k * path)) @ weight / np.sqrt((weight**2).sum())
            out[n] = (self.spectrum * incident * total).sum() * np.exp(-4j * np.pi * self.centre / SPEED * depth)
        return out
