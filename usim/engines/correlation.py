"""How alike the speckle of two images of the same scatterers is: the field correlation

    rho = integral PSF_a conj(PSF_b) / sqrt(integral |PSF_a|^2 integral |PSF_b|^2)

over all places of a scatterer. It is complex; its modulus squared is the correlation of intensities.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from usim.engines.beam import Beam

Array = NDArray[np.float64]
OFFSETS = 1001  # of a scatterer to the side, and samples of the spectra
WIDEST = 20.0  # cells of wavelength times f-number to either side
ELEVATIONS = 100  # over half the slab of the beam
BANDS = 6  # samples of the pulse's spectrum between the frequencies at which elevation profiles are compared


@functools.lru_cache(maxsize=64)
def rho_between(beams: tuple[Beam, ...], depth: float) -> NDArray[np.complex128]:
    """Field correlation (K, K) of images of one cloud by these beams, on axis at `depth` metres.

    That of lateral beams times that of pulses with their carriers, the PSFs being products.
    """
    reach = WIDEST * max(beam.wavelength * beam.receive.f_number for beam in beams)
    offset = np.linspace(-reach, reach, OFFSETS)
    lateral = np.stack([beam.lateral(offset, 0.0 * offset, depth) for beam in beams])
    # the spectra over the axial wavenumber 2 f s / c; by Parseval's theorem their overlap is that of the pulses
    wavenumbers = [2.0 * beam.pulse.frequency * beam.axial_stretch / beam.pulse.sound_speed for beam in beams]
    spectra = [beam.pulse.spectrum(np.array([depth]))[0] for beam in beams]
    common = np.linspace(min(w[0] for w in wavenumbers), max(w[-1] for w in wavenumbers), OFFSETS)
    axial = np.stack([np.interp(common, w, s, left=0.0, right=0.0) for w, s in zip(wavenumbers, spectra, strict=True)])
    rho = _correlations(lateral) * _correlations(axial)
    rho.setflags(write=False)
    return rho


def rho_elevation(beam: Beam, step: float, count: int, depth: float, *, exact: bool) -> NDArray[np.complex128]:
    """Field correlation (count,) of elevation slices 0, 1, 2, ... steps of `step` metres apart, at `depth` metres.

    exact: as the exact engine has it, by the overlaps of the elevation profiles of all frequencies of the echo
    (Parseval), each weighed with its power and with the width of its lateral beam, which goes as the wavelength. The
    image engine has one profile, at the centroid: its slices are less alike, by 0.06 where rho is 0.3 (L11-5v, 20 mm).
    """
    at, pulse = np.array([depth]), beam.pulse
    half = float(beam.elevation.half_slab(at)[0])
    fine = min(half / ELEVATIONS, step)
    y = fine * np.arange(-np.ceil(2.0 * half / fine), np.ceil(2.0 * half / fine) + 1)
    frequency = pulse.frequency[::BANDS] if exact else pulse.centroid(at)
    weight = pulse.spectrum(at)[0, ::BANDS] ** 2 / frequency if exact else np.ones(1)
    overlap = np.zeros(count, complex)
    for wavelength, power in zip(beam.medium.sound_speed / frequency, weight, strict=True):
        profile = replace(beam.elevation, wavelength=functools.partial(np.full_like, fill_value=wavelength))
        here = profile(y, at)
        overlap += power * np.array([(here * profile(y - lag * step, at).conj()).sum() for lag in range(count)])
    return overlap / overlap[0]


def _correlations(fields: NDArray) -> NDArray[np.complex128]:
    """Field correlation (K, K) of fields (K, N)."""
    products = np.einsum("in,jn->ij", fields, fields.conj())
    power = np.sqrt(np.diag(products).real)
    return np.asarray(products / np.maximum(power[:, None] * power, 1e-300), np.complex128)
