"""Small scenes for the physics tests, and how they are averaged over looks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from usim.phantom.load import load_phantom, phantom_from_text
from usim.pipeline import Renderer

DEFAULTS = {
    "probe": "L11-5v",
    "medium": "{sound_speed: 1540 m/s, attenuation: 0.5 dB/cm/MHz}",
    "transmit": "{type: focused, depth: 20 mm, f_number: 2.5}",
    "receive": "{f_number: 1.5, apodization: hann}",
    "image": "{x: [-4 mm, 4 mm], z: [14 mm, 26 mm], pixels: [96, 128]}",
    "scatterers": "{model: field}",
    "background": "{echogenicity: 0 dB}",
}
# A probe on which Fraunhofer's formulas hold: fine, isotropic elements and an aperture of 700 wavelengths
# (the whole wavefront of a focused beam is then flat over the beam's width).
FINE_PROBE = (
    "{elements: 1024, pitch: 0.1 mm, element_width: 0.02 mm, element_height: 5 mm, elevation_focus: 18 mm, "
    "center_frequency: 10 MHz, fractional_bandwidth: 0.6}"
)


@lru_cache(maxsize=32)
def _renderer(text):
    return Renderer(phantom_from_text(text))


def scene(**changes):
    """Renderer of the default scene with some lines of its YAML changed; a value of None drops the line."""
    lines = {**DEFAULTS, **changes}
    return _renderer("\n".join(f"{key}: {value}" for key, value in lines.items() if value is not None))


@lru_cache(maxsize=4)
def shipped(name):
    """Renderer of a shipped phantom; one per name, so that plans are shared by the tests of a module."""
    return Renderer(load_phantom(name))


def decibel(power):
    """10 log10, with -inf where there is no power."""
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(power)


def nrmse_db(found, wanted):
    """Energy of the error over the energy of what is wanted, in dB."""
    return float(decibel((np.abs(found - wanted) ** 2).sum() / (np.abs(wanted) ** 2).sum()))


def level(frame):
    """20 log10 of the envelope, not clipped at 0 dB as `bmode` is; at least -150 dB."""
    return 20.0 * np.log10(np.maximum(frame.envelope.astype(np.float64), 10.0 ** (-150.0 / 20.0)))


@dataclass
class Looks:
    """Sums over independent looks of one scene, (Z, X) each."""

    truth: object
    count: int
    mean_db: np.ndarray
    var_db: np.ndarray
    intensity: np.ndarray
    square: np.ndarray
    amplitude: np.ndarray

    @property
    def z_score(self):
        """(mean of the looks - truth) over its own standard error."""
        return (self.mean_db - self.truth.bmode) / np.sqrt(self.var_db / self.count)

    @property
    def bias_db(self):
        """Mean of the looks minus truth."""
        return self.mean_db - self.truth.bmode


def looks(renderer, count, first=0):
    """Average `count` looks of frame 0."""
    sums = 0.0
    for k in range(first, first + count):
        frame = renderer.render(0, look=k)
        db, power = level(frame), frame.envelope.astype(np.float64) ** 2
        sums = sums + np.stack((db, db**2, power, power**2, np.sqrt(power)))
    mean, square_db, intensity, square, amplitude = sums / count
    variance = (square_db - mean**2) * count / (count - 1)
    return Looks(frame.truth, count, mean, variance, intensity, square, amplitude)


def full_width(axis, values, height):
    """Width between the outermost crossings of `height` around the maximum, linearly interpolated."""
    peak = int(np.argmax(values))

    def crossing(step):
        i = peak
        while values[i] >= height:
            i += step
        return axis[i] + (axis[i - step] - axis[i]) * (height - values[i]) / (values[i - step] - values[i])

    return float(crossing(1) - crossing(-1))
