"""Electronic noise: its power, and that it is coloured as the receive chain colours it (PHYSICS, section 3)."""

import numpy as np
import pytest
from element_sum import apodization, centroid, pulse_echo
from scenes import decibel, scene

ANECHOIC = {"background": "{echogenicity: anechoic}", "tgc": "none"}


def noise_looks(renderer, count=40):
    """Noise IQ of some looks, (K, Z, X), in units of mean tissue at the focus."""
    headroom = renderer.stage(0).scene.image.headroom
    iq = np.stack([renderer.render(0, look=k).iq for k in range(count)])
    return iq.astype(np.complex128) * 10.0 ** (headroom / 20.0)


@pytest.mark.parametrize("snr", [-10, 45])
@pytest.mark.parametrize("transmit", ["{type: focused, depth: 20 mm, f_number: 2.5}", "{type: plane}"])
def test_noise_power(snr, transmit):
    """Mean power is `snr` dB below 0 dB tissue at the focus, before TGC, in every band of depth: 0.1 dB."""
    renderer = scene(
        noise=f"{{snr: {snr} dB}}",
        transmit=transmit,
        image="{x: [-8 mm, 8 mm], z: [2 mm, 38 mm], pixels: [96, 128]}",
        **ANECHOIC,
    )
    power = (np.abs(noise_looks(renderer)) ** 2).mean(axis=(0, 2)).reshape(4, 32).mean(axis=1)
    found = decibel(power) + snr
    print(np.round(found, 3))
    assert np.abs(found).max() < 0.1


def test_noise_has_equal_power_behind_cut_apertures():
    """Every column with an aperture has the same noise power, also at the array's end: 0.2 dB."""
    renderer = scene(
        noise="{snr: 20 dB}", image="{x: [10 mm, 18.5 mm], z: [14 mm, 26 mm], pixels: [96, 128]}", **ANECHOIC
    )
    power = (np.abs(noise_looks(renderer)) ** 2).mean(axis=(0, 1)).reshape(6, 16).mean(axis=1)
    print(np.round(decibel(power) + 20.0, 3))
    assert np.abs(decibel(power) + 20.0).max() < 0.2


def test_noise_counts_in_the_truth():
    """In an anechoic scene the truth is the noise floor: -headroom - snr - 2.507 dB at the focus, 0.02 dB."""
    image = "{x: [-4 mm, 4 mm], z: [14 mm, 26 mm], pixels: [96, 121]}"
    frame = scene(noise="{snr: 35 dB}", background="{echogenicity: anechoic}", image=image).render(0)
    np.testing.assert_allclose(frame.truth.bmode[60], -25.0 - 35.0 - 2.507, atol=0.02)


def channel_correlation(shift, depth, f_number, window, pitch=0.3e-3):
    """Correlation of the beamformed noise of two columns `shift` apart: a sum over the elements they share.

    Each element's white noise is delayed for each column's own focus and weighted with each column's own window.
    """
    wavelength = 1540.0 / centroid(7.6e6, 0.77)  # of the noise, which no medium attenuates
    element = (np.arange(-400, 400) + 0.5) * pitch / 4.0  # fine: averages over how elements lie under the columns
    half = depth / (2.0 * f_number)
    first, second = apodization(window, element / half), apodization(window, (element - shift) / half)
    path = np.hypot(depth, element) - np.hypot(depth, element - shift)
    total = (first * second * np.exp(2j * np.pi / wavelength * path)).sum()
    return total / (apodization(window, element / half) ** 2).sum()


@pytest.mark.parametrize(("f_number", "window", "most"), [(1.5, "hann", 0.06), (2.0, "boxcar", 0.08)])
@pytest.mark.parametrize("depth", [8.0, 20.0, 32.0])
def test_lateral_correlation_is_the_receive_apertures(f_number, window, most, depth):
    """Magnitude of the correlation between columns against delayed and summed channels, at every lag.

    The engine's noise sees the elements' directivity, which narrows a boxcar by up to 0.065 of correlation.
    """
    renderer = scene(
        noise="{snr: 20 dB}",
        receive=f"{{f_number: {f_number:g}, apodization: {window}}}",
        image=f"{{x: [-6 mm, 6 mm], z: [{depth - 0.4:g} mm, {depth + 0.4:g} mm], pixels: [161, 16]}}",
        **ANECHOIC,
    )
    iq, step = noise_looks(renderer, 80), 12e-3 / 160
    found = np.array([(iq[:, :, : 161 - s].conj() * iq[:, :, s:]).mean() for s in range(12)])
    found = np.abs(found / found[0])
    wanted = np.abs([channel_correlation(s * step, depth * 1e-3, f_number, window) for s in range(12)])
    print(np.round(found, 3), np.round(wanted, 3), sep="\n")
    assert np.abs(found - wanted).max() < most


@pytest.mark.parametrize("attenuation", [0.0, 0.8])
def test_axial_spectrum_is_the_pulses(attenuation):
    """Noise has the power spectrum of the pulse without attenuation: centroid within 30 kHz, deviation within 3 %."""
    renderer = scene(
        noise="{snr: 20 dB}",
        medium=f"{{attenuation: {attenuation:g} dB/cm/MHz}}",
        image="{x: [-8 mm, 8 mm], z: [10 mm, 26 mm], pixels: [64, 400]}",
        **ANECHOIC,
    )
    iq = noise_looks(renderer, 30)
    taper = np.hanning(400)[None, :, None]
    power = (np.abs(np.fft.fft(iq * taper, 512, axis=1)) ** 2).mean(axis=(0, 2))
    frequency = 7.6e6 + np.fft.fftfreq(512, 16e-3 / 399) * 1540.0 / 2.0
    wanted = pulse_echo(frequency, 7.6e6, 0.77) ** 2 * (frequency > 0.0)
    moments = []
    for spectrum in (power, wanted):
        mean = (frequency * spectrum).sum() / spectrum.sum()
        moments.append((mean, np.sqrt(((frequency - mean) ** 2 * spectrum).sum() / spectrum.sum())))
    print([f"{m / 1e6:.3f} +- {s / 1e6:.3f} MHz" for m, s in moments])
    assert moments[0][0] == pytest.approx(moments[1][0], abs=30e3)
    assert moments[0][1] == pytest.approx(moments[1][1], rel=0.03)


def test_noise_is_not_the_scatterers():
    """Noise comes from a substream of its own: the tissue of a look is the same with and without it."""
    quiet, noisy = (scene(noise=noise).render(0, look=3).iq for noise in (None, "{snr: 120 dB}"))
    assert np.abs(quiet - noisy).max() < 1e-4 * np.abs(quiet).max()
    assert not np.array_equal(quiet, noisy)
