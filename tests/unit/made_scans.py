"""Scans whose every property is known: speckle of a given cell behind a given display, straight or in a fan."""

import math

import numpy as np
from scipy import ndimage

from usim.display import Screen
from usim.match.area import Fan

#: dB of patches that are laid over tissue of 0 dB, as (z, x, height, width) in shares of the image.
PATCHES = ((0.1, 0.08, 0.35, 0.35, -10.0), (0.1, 0.55, 0.35, 0.35, 8.0), (0.55, 0.55, 0.35, 0.35, -18.0))


def speckle(shape, cell, seed=0):
    """Intensity of mean 1 of fully developed speckle whose autocovariance is a Gaussian of FWHM `cell`, pixels.

    The field through a Gaussian of standard deviation s has |rho|^2 = exp(-d^2 / (2 s^2)), 2.355 s wide at a half.
    """
    return (field(shape, cell, seed) ** 2).sum(axis=0)


def field(shape, cell, seed=0):
    """Real and imaginary part (2, Z, X) of such speckle."""
    noise = np.random.default_rng(seed).standard_normal((2, *shape))
    s = [c / 2.355 for c in cell]
    found = np.stack([ndimage.gaussian_filter(part, s, mode="wrap", truncate=6.0) for part in noise])
    return found / np.sqrt((found**2).sum(axis=0).mean())


def levels(shape, *, patches=PATCHES, slope=0.0):
    """Level of the tissue in dB: patches and a slope in dB per row."""
    found = np.zeros(shape)
    for z, x, height, width, level in patches:
        rows = slice(round(z * shape[0]), round((z + height) * shape[0]))
        found[rows, round(x * shape[1]) : round((x + width) * shape[1])] = level
    return found + slope * (np.arange(shape[0])[:, None] - shape[0] / 2)


def shown(power, display, *, below_white=25.0):
    """Grey 0 to 255 of intensities; 1 lies `below_white` dB below white."""
    screen = Screen.of({"bits": 8, **display}, np.linspace(1e-3, 40e-3, power.shape[0]))
    return screen.show(power * 10.0 ** (-below_white / 10.0)).astype(np.float64)


def scan(display, *, shape=(320, 300), cell=(2.5, 4.0), seed=0, noise=None, **tissue):
    """A straight scan; noise: dB of another field that is added."""
    echo = field(shape, cell, seed) * 10.0 ** (levels(shape, **tissue) / 20.0)
    if noise is not None:
        echo = echo + field(shape, cell, seed + 1000) * 10.0 ** (noise / 20.0)
    return shown((echo**2).sum(axis=0), display)


def fan_scan(fan, size, cell, display, seed=0):
    """A fan (Z, X) of speckle with an even cell in depth by angle, `size` (width, height) pixels on black."""
    (near, far), (first, last) = fan.radii, fan.angles
    rows, columns = math.ceil(far - near) + 1, math.ceil((last - first) * (near + far) / 2.0) + 1
    beams = field((rows, columns), cell, seed)
    z, x = np.mgrid[: size[1], : size[0]].astype(np.float64)
    r, a = fan.polar(x, z)
    at = [r - near, (a - first) * (near + far) / 2.0]
    power = sum(ndimage.map_coordinates(part, at, order=3, mode="nearest") ** 2 for part in beams)
    inside = (near <= r) & (r <= far) & (first <= a) & (a <= last)
    return np.where(inside, shown(power, display), 0.0)


PHASED = Fan((200.0, 20.0), (12.0, 330.0), (-math.radians(38), math.radians(38)))
CONVEX = Fan((220.0, -90.0), (110.0, 400.0), (-math.radians(30), math.radians(30)))
