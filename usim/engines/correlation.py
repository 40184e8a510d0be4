"""How alike the speckle of two images of the same scatterers is: the field correlation

    rho = integral PSF_a conj(PSF_b) / sqrt(integral |PSF_a|^2 integral |PSF_b|^2)

over all places of a scatterer. It is complex; its modulus squared is the correlation of intensities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from usim.engines.beam import Beam

Array = NDArray[np.float64]
OFFSETS = 4001  # of a scatterer to the side; axially as many as the two bands need
WIDEST = 40.0  # cells of wavelength times f-number to either side
ELEVATIONS = 2049


def rho_between(a: Beam, b: Beam, depth: float) -> complex:
    """Field correlation of two images of one cloud, on axis at `depth` metres.

    Lateral beams, and pulses with their carriers: rho is the product of both correlations, the PSFs being products.
    """
    reach = WIDEST * a.wavelength * max(a.receive.f_number, b.receive.f_number)
    offset = np.linspace(-reach, reach, OFFSETS)
    lateral = [beam.lateral(offset, 0.0 * offset, depth) for beam in (a, b)]
    # the spectra over the axial wavenumber 2 f s / c; by Parseval's theorem their overlap is that of the pulses
    spectra, wavenumbers = [], []
    for beam in (a, b):
        wavenumbers.append(2.0 * beam.pulse.frequency * beam.axial_stretch / beam.pulse.sound_speed)
        spectra.append(beam.pulse.spectrum(np.array([depth]))[0])
    common = np.linspace(min(w[0] for w in wavenumbers), max(w[-1] for w in wavenumbers), OFFSETS)
    axial = [np.interp(common, w, s, left=0.0, right=0.0) for w, s in zip(wavenumbers, spectra, strict=True)]
    return complex(_correlation(*lateral) * _correlation(*axial))


def rho_elevation(beam: Beam, step: float, count: int, depth: float) -> NDArray[np.complex128]:
    """Field correlation (count,) of elevation slices 0, 1, 2, ... steps of `step` metres apart, at `depth` metres."""
    half = float(beam.elevation.half_slab(np.array([depth]))[0])
    fine = min(half / ELEVATIONS * 4.0, step)
    y = fine * np.arange(-np.ceil(1.5 * half / fine), np.ceil(1.5 * half / fine) + 1)
    here = beam.elevation(y, np.array([depth]))
    return np.array([_correlation(here, beam.elevation(y - lag * step, np.array([depth]))) for lag in range(count)])


def _correlation(a: NDArray, b: NDArray) -> complex:
    energy = np.sqrt((np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum())
    return complex((a * b.conj()).sum() / energy) if energy > 0.0 else 0.0j
