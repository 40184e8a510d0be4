"""Windows, directivity, pupil integral, pulse: the parts of the PSF against formulas of the textbooks."""

import numpy as np
import pytest
from scipy.integrate import quad

from usim.elements import window
from usim.engines.aperture import element_factor, half_aperture, pupil_integral
from usim.engines.beam import Beam
from usim.engines.pulse import Pulse, excitation_spectrum, probe_response
from usim.medium import Medium
from usim.probe import Probe
from usim.scan import Receive
from usim.transmit import PlaneScan

PROBE = Probe.preset("L11-5v")
WAVELENGTH = 1540.0 / 7.6e6
NARROW_BAND = PROBE.model_copy(update={"fractional_bandwidth": 0.05})  # the beams' frequency is the centre, to 1e-3


@pytest.mark.parametrize(("name", "edge", "half"), [("boxcar", 1.0, 1.0), ("hann", 0.0, 0.5), ("hamming", 0.08, 0.54)])
def test_windows(name, edge, half):
    """1 in the middle, their textbook values half way and at the edge, 0 beyond."""
    assert window(name, np.array([0.0, -0.5, 1.0, 1.0001, -3.0])) == pytest.approx([1.0, half, edge, 0.0, 0.0])


def test_element_factor_is_a_strip_in_a_soft_baffle():
    """sinc(w sin / lambda) cos: against the integral over the strip at 30 degrees."""
    sine, width = 0.5, 0.27e-3
    strip = quad(lambda v: np.cos(2 * np.pi / WAVELENGTH * sine * v), -width / 2, width / 2)[0] / width
    found = element_factor(np.array([0.0, np.tan(np.pi / 6)]), width, WAVELENGTH)
    assert found == pytest.approx([1.0, strip * np.cos(np.pi / 6)])


def test_half_aperture_follows_the_f_number_within_its_limits():
    """z / 2F, but at least one pitch and at most half the array."""
    found = half_aperture(np.array([0.1e-3, 12e-3, 100e-3]), 1.5, PROBE)
    assert found == pytest.approx([0.3e-3, 4e-3, PROBE.aperture / 2])


@pytest.mark.parametrize("depth", [4e-3, 20e-3, 35e-3])
def test_pupil_integral_by_brute_force(depth):
    """Against a midpoint sum of 40 000 points, with curvature, off axis, asymmetric edges: 1e-6."""
    offset = np.array([0.0, 0.3e-3, -1.1e-3])
    lower, upper = np.array([-4e-3, -3e-3, -4e-3]), np.array([4e-3, 4e-3, 1e-3])
    found = pupil_integral(offset, depth, 20e-3, (lower, upper), lambda v: np.cos(v * 300), WAVELENGTH)
    k = 2 * np.pi / WAVELENGTH
    for xi, low, high, one in zip(offset, lower, upper, found, strict=True):
        v = low + (high - low) * (np.arange(40_000) + 0.5) / 40_000
        phase = -k / 2 * (1 / depth - 1 / 20e-3) * v**2 + k * xi * v / depth - k * xi**2 / (2 * depth)
        wanted = (np.cos(v * 300) * np.exp(1j * phase)).mean() * (high - low) / np.sqrt(depth)
        assert abs(one - wanted) < 1e-6 * 8e-3 / np.sqrt(depth)


def test_empty_aperture_is_silent():
    """Edges that have passed each other: 0, not a negative aperture."""
    assert pupil_integral(np.zeros(1), 0.02, 0.02, (np.array([1e-3]), np.array([-1e-3])), np.ones_like, WAVELENGTH) == 0


def test_probe_response_has_its_bandwidth():
    """1 at the centre, 1/2 in amplitude (-6 dB) at the band's edges, 2^-126 at zero frequency."""
    frequency = 7.6e6 * np.array([1.0, 1 - 0.385, 1 + 0.385, 0.0])
    assert probe_response(frequency, PROBE) == pytest.approx([1.0, 0.5, 0.5, 2.0**-126], rel=1e-6, abs=0.0)


def test_excitation_is_the_transform_of_a_sine_burst():
    """Spectrum of two periods of a sine by quadrature, relative to the centre."""

    def transform(f):
        return quad(lambda t: np.sin(2 * np.pi * t) * np.sin(2 * np.pi * f * t), -1.0, 1.0)[0]

    frequency = np.array([0.3, 0.8, 1.0, 1.4])
    wanted = [transform(f) / transform(1.0) for f in frequency]
    assert excitation_spectrum(frequency, 1.0, 2.0) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("power", [2, 4])
def test_pulse_energy_by_quadrature(power):
    """Integrals of |p|^2 and |p|^4 against a fine sum of the pulse, attenuated and not: 1e-6."""
    pulse = Pulse.of(PROBE, 1.0, Medium(attenuation=0.7))
    offset = np.linspace(-3e-3, 3e-3, 6001)
    for depth in (0.0, 25e-3):
        wanted = (np.abs(pulse(offset, depth)) ** power).sum() * 1e-6
        assert pulse.energy(np.array([depth]), power)[0] == pytest.approx(wanted, rel=1e-5)


def test_pulse_holds_its_energy_within_its_half_length():
    """Beyond `half_length(t)` lies at most the fraction t of the energy."""
    pulse = Pulse.of(PROBE, 1.0, Medium(attenuation=0.0))
    offset = np.linspace(-4e-3, 4e-3, 8001)
    power = np.abs(pulse(offset, 0.0)) ** 2
    for tolerance in (1e-3, 3e-7):
        assert power[np.abs(offset) > pulse.half_length(tolerance)].sum() / power.sum() <= tolerance


def test_receive_beam_has_unit_noise():
    """R is divided by the root of its aperture's energy: a boxcar's on-axis value is sqrt(aperture / z)."""
    probe = NARROW_BAND.model_copy(update={"element_width": 1e-9})
    beam = Beam(probe, PlaneScan(cycles=16.0), Receive(f_number=8.0, apodization="boxcar"), Medium(attenuation=0.0))
    depth = 24e-3
    found = np.abs(beam.receive_beam(np.zeros(1), np.zeros(1), depth))[0]
    assert found == pytest.approx(np.sqrt(3e-3 / depth), rel=3e-3)


def test_plane_wave_phase_and_shadow():
    """Unit amplitude and phase -k xi sin inside, half the amplitude at the shadow's edge, nothing far outside."""
    beam = Beam(NARROW_BAND, PlaneScan(angle=0.1, cycles=16.0), Receive(), Medium(attenuation=0.0))
    inside = beam.transmit_beam(np.array([0.5e-3]), np.array([0.0]), 20e-3)[0]
    assert inside == pytest.approx(np.exp(-2j * np.pi / WAVELENGTH * np.sin(0.1) * 0.5e-3), abs=1e-2)
    edge = PROBE.aperture / 2 + 20e-3 * np.tan(0.1)
    values = np.abs(beam.transmit_beam(np.zeros(2), np.array([edge, edge + 8e-3]), 20e-3))
    assert values == pytest.approx([0.5, 0.0], abs=1e-6)
