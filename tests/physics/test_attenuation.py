"""Attenuation: the loss with depth and the downshift of the band, against integrals over the pulse's spectrum."""

from functools import lru_cache

import numpy as np
import pytest
from element_sum import PROBES, pulse_echo
from scenes import decibel, scene

FREQUENCY = np.linspace(0.02e6, 25e6, 20001)
# On this probe the response is a Gaussian (2 fc / B = sqrt(126) makes its exponent 2) and half a cycle is nearly flat.
GAUSSIAN = (
    "{elements: 128, pitch: 0.3 mm, element_width: 0.27 mm, element_height: 5 mm, elevation_focus: 18 mm, "
    "center_frequency: 7.6 MHz, fractional_bandwidth: 0.17817}"
)


def power_spectrum(alpha, depth, centre=7.6e6, bandwidth=0.77, cycles=1.0):
    """Power spectrum (F,) of echoes from a depth (m), alpha in dB/cm/MHz."""
    amplitude = pulse_echo(FREQUENCY, centre, bandwidth, cycles)
    return amplitude**2 * 10.0 ** (-2.0 * alpha * (FREQUENCY * 1e-6) * (2.0 * depth * 100.0) / 20.0)


def slope(depth, values):
    """dB/cm by least squares."""
    return np.polyfit(depth * 100.0, values, 1)[0]


def tissue(alpha):
    """Uniform `field` tissue without any gain."""
    return scene(
        medium=f"{{attenuation: {alpha:g} dB/cm/MHz}}",
        tgc="none",
        image="{x: [-4 mm, 4 mm], z: [4 mm, 34 mm], pixels: [48, 256]}",
    )


@lru_cache(maxsize=4)
def mean_intensity(alpha, count=60):
    """(depths, simulated mean intensity, closed form), over the beam's own energy in x and y: the pulse's is left."""
    renderer = tissue(alpha)
    stage = renderer.stage(0)
    beam, z = stage.setting.plan.beam, stage.setting.plan.grid.z
    power = sum(renderer.render(0, look=k).envelope.astype(np.float64) ** 2 for k in range(count)) / count
    node, offset = np.linspace(z[0], z[-1], 121), np.linspace(-8e-3, 8e-3, 801)
    lateral = [(np.abs(beam.lateral(offset, np.zeros(801), depth)) ** 2).sum() for depth in node]
    spread = np.interp(z, node, np.array(lateral) * beam.elevation.energies(node)[0])
    return z, power.mean(axis=1) * stage.scale / spread, stage.expectation.mean.mean(axis=1) / spread


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize("source", ["simulated", "truth"])
def test_loss_of_mean_intensity(alpha, source):
    """Slope of log mean intensity over depth, relative to a lossless medium: the pulse spectrum's loss within 3 %.

    Diffraction is taken out: the energy of the beam, which follows the centroid, by quadrature.
    """
    column = 1 if source == "simulated" else 2
    depth, lossy, lossless = mean_intensity(alpha)[0], mean_intensity(alpha)[column], mean_intensity(0.0)[column]
    wanted = np.array([decibel(power_spectrum(alpha, z).sum() / power_spectrum(0.0, z).sum()) for z in depth])
    found = decibel(lossy / lossless)
    for part in (depth < 14e-3, (depth >= 14e-3) & (depth < 24e-3), depth >= 24e-3):
        ours, theirs = slope(depth[part], found[part]), slope(depth[part], wanted[part])
        print(f"{source}, alpha {alpha}: {ours:.3f} dB/cm, spectrum {theirs:.3f} dB/cm")
        assert ours == pytest.approx(theirs, rel=0.03)


@pytest.mark.parametrize("depth", [5e-3, 15e-3, 30e-3])
def test_slope_is_twice_alpha_at_the_centroid(depth):
    """The truth's local slope is 2 alpha f_c(z), f_c the centroid of the local power spectrum: 3 %."""
    z, _, lossy = mean_intensity(1.0)
    lossless = mean_intensity(0.0)[2]
    near = np.abs(z - depth) < 1e-3
    spectrum = power_spectrum(1.0, depth)
    centroid = (FREQUENCY * spectrum).sum() / spectrum.sum()
    found = -slope(z[near], decibel(lossy / lossless)[near])
    print(f"{found:.3f} dB/cm, 2 alpha f_c = {2.0 * centroid * 1e-6:.3f} dB/cm")
    assert found == pytest.approx(2.0 * centroid * 1e-6, rel=0.03)


def centroid_of_looks(renderer, depths, count, window=4e-3):
    """Centroid frequency in Hz of the IQ's mean axial power spectrum in windows about depths (m)."""
    z = renderer.stage(0).setting.plan.grid.z
    step, sums = z[1] - z[0], 0.0
    shift = np.fft.fftfreq(1024, step) * 1540.0 / 2.0
    tapers = [np.where(np.abs(z - d) < window / 2, np.cos(np.pi * (z - d) / window) ** 2, 0.0) for d in depths]
    for k in range(count):
        iq = renderer.render(0, look=k).iq
        sums = sums + np.stack([(np.abs(np.fft.fft(iq * t[:, None], 1024, axis=0)) ** 2).sum(axis=1) for t in tapers])
    return np.array([(shift * s).sum() / s.sum() for s in sums])


def test_downshift_of_a_gaussian_pulse():
    """Centroid shift -4 alpha z sigma_f^2 / 8.686 of a Gaussian power spectrum, alpha in dB/cm/MHz, z in cm: 3 %."""
    renderer = scene(
        probe=GAUSSIAN,
        transmit="{type: focused, depth: 20 mm, f_number: 2.5, cycles: 0.5}",
        medium="{attenuation: 2 dB/cm/MHz}",
        image="{x: [-14 mm, 14 mm], z: [6 mm, 34 mm], pixels: [96, 400]}",
    )
    depths = np.array([10e-3, 30e-3])
    found = np.diff(centroid_of_looks(renderer, depths, 80))[0]
    amplitude = pulse_echo(FREQUENCY, 7.6e6, 0.17817, 0.5)
    mean = (FREQUENCY * amplitude**2).sum() / (amplitude**2).sum()
    variance = ((FREQUENCY - mean) ** 2 * amplitude**2).sum() / (amplitude**2).sum() * 1e-12
    wanted = -4.0 * 2.0 * 2.0 * variance / 8.686 * 1e6
    print(f"shift over 2 cm: {found / 1e3:.1f} kHz, formula {wanted / 1e3:.1f} kHz")
    assert found == pytest.approx(wanted, rel=0.03)


def test_downshift_of_a_wideband_pulse():
    """The preset's pulse is not Gaussian: the centroid's shift over 2 cm against the spectrum's, 3 %."""
    renderer = scene(image="{x: [-14 mm, 14 mm], z: [6 mm, 34 mm], pixels: [96, 600]}")
    assert PROBES["L11-5v"][3:] == (7.6e6, 0.77)
    depths = np.array([10e-3, 30e-3])
    found = np.diff(centroid_of_looks(renderer, depths, 60))[0]
    spectra = [power_spectrum(0.5, z) for z in depths]
    wanted = np.diff([(FREQUENCY * s).sum() / s.sum() for s in spectra])[0]
    print(f"shift over 2 cm: {found / 1e3:.1f} kHz, integral {wanted / 1e3:.1f} kHz")
    assert found == pytest.approx(wanted, rel=0.03)
