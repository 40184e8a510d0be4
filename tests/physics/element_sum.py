"""A direct sum over discrete elements: exact spherical distances and delays, nothing of the engine's own formulas.

The model of PHYSICS, section 1, in two dimensions (1/sqrt(r), soft baffle), followed by delay-and-sum with dynamic
receive focus: every element is a strip of its width, seen in the far field of the strip.
"""

import numpy as np

PROBES = {  # elements, pitch, element width, centre frequency, pulse-echo -6 dB fractional bandwidth
    "L11-5v": (128, 0.3e-3, 0.27e-3, 7.6e6, 0.77),
    "L12-3v": (192, 0.2e-3, 0.17e-3, 7.54e6, 0.93),
}
SPEED = 1540.0


def apodization(name, u):
    """Window at normalised positions, 0 beyond +-1."""
    shape = {"boxcar": np.ones_like(u), "hann": np.cos(np.pi * u / 2.0) ** 2}[name]
    return np.where(np.abs(u) <= 1.0, shape, 0.0)


def pulse_echo(frequency, centre, fractional_bandwidth, cycles=1.0):
    """Real pulse-echo spectrum: MUST's probe response (pfield's documentation) times a windowed sine's."""
    width = fractional_bandwidth * centre
    p = np.log(126.0) / np.log(2.0 * centre / width)
    response = np.exp(-((np.abs(frequency - centre) / (width / 2.0 / np.log(2.0) ** (1.0 / p))) ** p))
    duration = cycles / centre
    return response * (np.sinc(duration * (frequency - centre)) - np.sinc(duration * (frequency + centre)))


def centroid(centre, fractional_bandwidth, attenuation=0.0, depth=0.0):
    """Centroid in Hz of the power spectrum of echoes from `depth` metres, attenuation in dB/cm/MHz, one-cycle pulse."""
    frequency = np.linspace(0.01, 2.5, 5000) * centre
    loss = 10.0 ** (-attenuation * frequency * 1e-6 * 2.0 * depth * 100.0 / 10.0)
    power = pulse_echo(frequency, centre, fractional_bandwidth) ** 2 * loss
    return float((frequency * power).sum() / power.sum())


class ElementSum:
    """Two-way images of point scatterers by a linear array.

    transmit: ("focused", depth, f_number) per column with a boxcar, or ("plane", angle).  receive: (f_number, window).
    attenuation: dB/cm/MHz.  narrow: a single frequency in Hz, in place of the pulse's band.
    """

    def __init__(self, probe, transmit, receive, attenuation=0.0, narrow=None):
        count, self.pitch, self.width, self.centre, bandwidth = PROBES[probe]
        self.element = (np.arange(count) - (count - 1) / 2.0) * self.pitch
        self.transmit, self.receive, self.attenuation = transmit, receive, attenuation
        self.frequency = np.array([narrow]) if narrow else np.linspace(0.05, 2.1, 96) * self.centre
        self.spectrum = np.ones(1) if narrow else pulse_echo(self.frequency, self.centre, bandwidth)
        self.k = 2.0 * np.pi * self.frequency / SPEED

    def green(self, x, z):
        """(F, E): from every element to a point."""
        distance = np.hypot(x - self.element, z)
        sine, cosine = (x - self.element) / distance, z / distance
        strip = np.sinc(self.k[:, None] * self.width / (2.0 * np.pi) * sine)
        loss = 10.0 ** (-self.attenuation * self.frequency[:, None] * 1e-6 * distance * 100.0 / 20.0)
        return strip * cosine * loss * np.exp(-1j * self.k[:, None] * distance) / np.sqrt(distance)

    def incident(self, green, column):
        """(F,): the transmitted wave at the point of `green`, time zero when it leaves the column's surface."""
        kind, where, *rest = self.transmit
        if kind == "plane":
            delay = (self.element - column) * np.sin(where) / SPEED
            return (green * np.exp(-1j * self.k[:, None] * SPEED * delay)).sum(axis=1)
        half = where / (2.0 * rest[0])
        delay = (where - np.hypot(where, self.element - column)) / SPEED
        weight = np.abs(self.element - column) <= half
        return (green * weight * np.exp(-1j * self.k[:, None] * SPEED * delay)).sum(axis=1)

    def image(self, x_s, z_s, columns, rows):
        """IQ (Z, X) of a unit scatterer, demodulated at the centre frequency, by delay-and-sum."""
        green = self.green(x_s, z_s)
        out = np.zeros((len(rows), len(columns)), np.complex128)
        slant = np.cos(self.transmit[1]) if self.transmit[0] == "plane" else 1.0
        f_number, window = self.receive
        for c, column in enumerate(columns):
            echo = self.spectrum * self.incident(green, column)
            for r, row in enumerate(rows):
                half = min(row / (2.0 * f_number), (self.element[-1] - self.element[0] + self.width) / 2.0)
                weight = apodization(window, (self.element - column) / half)
                used = weight > 0.0
                path = slant * row + np.hypot(row, self.element[used] - column)
                focused = green[:, used] * np.exp(1j * self.k[:, None] * path)
                # the root of the aperture's energy: equal electronic noise behind every aperture
                total = (focused @ weight[used]) / np.sqrt((weight**2).sum() + 1e-30)
                out[r, c] = (echo * total).sum() * np.exp(-4j * np.pi * self.centre / SPEED * row)
        return out
