"""Channel RF against another program, PyMUST's SIMUS, and against integrals over the elements' faces written here.

The kernels are the ones that benchmarks/rf_vs_pymust.py times, at the same settings. In 2-D both programs mean the same
physics; so they do in 3-D for matrix arrays. For arrays with an elevation (3-D, linear) SIMUS approximates, and the
integral decides who is off.
"""

from dataclasses import replace

import numpy as np
import pytest
from element_sum import pulse_echo
from simus import PROBES, Case, agreement, cases_2d, judged, pymust, scattered, study, theirs

from usim.elements import elements_of, firings_of
from usim.events import Diverging, Focused, PlaneWave
from usim.probe import Probe

CASES = cases_2d()
ROUNDED = 8.69 / 8.685889638  # SIMUS's decibels per neper, over ours
LINEAR, CONVEX = Probe.preset("L11-5v"), Probe.preset("C5-2v")
SPEED = 1540.0


def shown(what, *found):
    print(what, *(f"{a.nrmse_db:.1f} dB, gain 1{a.gain - 1.0:+.0e};" for a in found))


@pytest.mark.parametrize("name", CASES)
def test_2d_in_every_band_of_depth(name):
    """Measured without attenuation: gain within 3e-5, -80 dB overall and -75 dB in the worst band of depth.

    With attenuation SIMUS rounds 8.686 dB per neper to 8.69: gain within 1.2e-3, -70 dB overall, -58 dB in the deepest
    band (the next test undoes it). What is asked for is 0.005 and -45 dB.
    """
    case = CASES[name]
    edges, x = PROBES[case.probe.name]
    overall, bands = study(case, edges, x, count=13)
    shown(name, overall, *bands)
    gain, limit, band_limit = (2e-3, -65.0, -55.0) if case.attenuation else (1e-4, -75.0, -70.0)
    assert overall.nrmse_db < limit
    assert max(band.nrmse_db for band in bands) < band_limit
    assert max(abs(a.gain - 1.0) for a in (overall, *bands)) < gain


def test_2d_with_their_decibels_per_neper():
    """Attenuation raised by what SIMUS's rounding takes off: as without attenuation, -80 dB in the deepest band."""
    case = Case(LINEAR, PlaneWave(), attenuation=0.5)
    cloud = scattered(40, (-20, 20), (35, 40))
    wanted = theirs(replace(case, attenuation=0.5 * ROUNDED), cloud)
    found = judged(case, cloud, wanted)
    shown("8.69", found)
    assert found.nrmse_db < -72.0
    assert abs(found.gain - 1.0) < 1e-4


def test_2d_in_one_call_through_their_pool():
    """400 scatterers from 1 to 40 mm in one call of each, PyMUST on two threads as in the benchmark: -81 dB."""
    case = Case(LINEAR, PlaneWave())
    cloud = scattered(400, (-20, 20), (1, 40))
    wanted = theirs(case, cloud, workers=2)
    found = judged(case, cloud, wanted)
    shown("one call", found)
    assert found.nrmse_db < -75.0
    assert abs(found.gain - 1.0) < 1e-4


OTHERS = {
    "convex, plane": (Case(CONVEX, PlaneWave()), (-30, 30)),
    "convex, steered": (Case(CONVEX, PlaneWave(angle=np.radians(-10.0)), directivity="full"), (-30, 30)),
    "convex, focused": (Case(CONVEX, Focused(point=(10e-3, 0.0, 50e-3)), baffle="rigid"), (-30, 30)),
    "diverging": (Case(Probe.preset("P4-2v"), Diverging(source=(2e-3, 0.0, -10e-3))), (-30, 30)),
    "L12-3v": (Case(Probe.preset("L12-3v"), PlaneWave(angle=0.1), directivity="full"), (-20, 20)),
    "epoxy baffle": (Case(LINEAR, PlaneWave(), baffle=1.75), (-20, 20)),
    "three cycles, hann": (Case(LINEAR, PlaneWave(cycles=3, apodization="hann")), (-20, 20)),
    "elements switched off": (Case(LINEAR, PlaneWave(apodization=(1.0,) * 40 + (0.0,) * 88)), (-20, 20)),
    "one sub-element": (Case(LINEAR, PlaneWave(), sub_elements=(1, 1)), (-20, 20)),
    "five sub-elements": (Case(LINEAR, PlaneWave(), directivity="full", sub_elements=(5, 1)), (-20, 20)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_2d_other_probes_and_options(name):
    """Convex arrays, other waves, windows, baffles and numbers of sub-elements: -73 dB in the worst band."""
    case, x = OTHERS[name]
    overall, bands = study(case, (1, 10, 20, 30, 40), x, count=10)
    shown(name, overall, *bands)
    assert max(a.nrmse_db for a in (overall, *bands)) < -69.0
    assert max(abs(a.gain - 1.0) for a in (overall, *bands)) < 1e-4


@pytest.mark.parametrize(
    ("change", "above", "below"),
    [
        ({"directivity": "full"}, -40.0, -15.0),
        ({"baffle": "rigid"}, -30.0, -10.0),
        ({"sub_elements": (1, 1)}, -30.0, -10.0),
        ({"attenuation": 0.01}, -40.0, -15.0),
    ],
    ids=str,
)
def test_a_wrong_option_is_seen(change, above, below):
    """What -45 dB means: another directivity, baffle, split or 0.01 dB/cm/MHz lie 20 dB and more above it."""
    case, cloud = Case(LINEAR, PlaneWave()), scattered(60, (-15, 15), (1, 40))
    wanted = theirs(case, cloud)
    found = judged(replace(case, **change), cloud, wanted)
    shown(str(change), found)
    assert above < found.nrmse_db < below


@pytest.mark.parametrize("probe", [LINEAR, CONVEX], ids=["linear", "convex"])
def test_delays_are_theirs(probe):
    """Steered and focused waves of txdelay: the same to 1e-15 s."""
    param = pymust.utils.Param()
    param.pitch, param.Nelements, param.c = probe.pitch, probe.elements, SPEED
    param.radius = probe.radius or np.inf
    chord = 0.0 if probe.radius is None else probe.radius * (1.0 - np.cos(probe.arc_step * (probe.elements - 1) / 2.0))
    for event, wanted in (
        (PlaneWave(angle=0.2), pymust.txdelay(param, 0.2)),
        (PlaneWave(angle=-0.1), pymust.txdelay(param, -0.1)),
        (Focused(point=(5e-3, 0.0, 30e-3)), pymust.txdelay(5e-3, 30e-3 + chord, param)),
    ):
        np.testing.assert_allclose(firings_of(event, elements_of(probe), SPEED).delays, wanted, atol=1e-15)


SHARED = {"center_frequency": 3e6, "fractional_bandwidth": 0.7}
MATRICES = {
    "elements of half a wavelength": Probe.matrix(
        elements=(12, 10), pitch=(0.3e-3, 0.35e-3), element_width=0.27e-3, element_height=0.3e-3, **SHARED
    ),
    "elements of two by three sub-elements": Probe.matrix(
        elements=(8, 4), pitch=(0.8e-3, 1.2e-3), element_width=0.75e-3, element_height=1.1e-3, **SHARED
    ),
}


@pytest.mark.parametrize("baffle", ["soft", "rigid", 0.5])
@pytest.mark.parametrize("directivity", ["center", "full"])
@pytest.mark.parametrize("event", [PlaneWave(angle=0.1), Focused(point=(2e-3, 3e-3, 15e-3))], ids=["plane", "focused"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_3d_matrix_arrays(matrix, event, directivity, baffle):
    """simus3, scatterers off the plane: -73.1 dB in the worst band, gain within 2e-4 (it rounds angles)."""
    case = Case(MATRICES[matrix], event, baffle=baffle, directivity=directivity, dimensions="3d")
    overall, bands = study(case, (1, 5, 10, 15, 20, 30), (-10, 10), (-8, 8), count=20)
    shown(f"{matrix}, {directivity}, {baffle}", overall, *bands)
    assert max(a.nrmse_db for a in (overall, *bands)) < -70.0
    assert max(abs(a.gain - 1.0) for a in (overall, *bands)) < 5e-4


def test_3d_matrix_array_with_attenuation():
    """-71 dB overall, -67 dB in the deepest band, their decibels per neper and all."""
    case = Case(MATRICES["elements of half a wavelength"], PlaneWave(), attenuation=0.5, dimensions="3d")
    overall, bands = study(case, (1, 5, 10, 15, 20, 30), (-10, 10), (-8, 8), count=20)
    shown("attenuation", overall, *bands)
    assert max(a.nrmse_db for a in (overall, *bands)) < -62.0
    assert abs(overall.gain - 1.0) < 1e-3


def integral(case, scatterers, samples, nodes, twice=False):
    """Channel RF (samples, E) of a linear array without attenuation, by Gauss-Legendre quadrature over the faces.

    No sub-elements and no directivity: every node is a point source, with the lens's delay there and the obliquity of a
    soft baffle.  nodes: along (x, y).  twice: with the wavefront's curvature in elevation, exp(-i k y^2 / (2 r)),
    counted once more than it should be.
    """
    probe, solid = case.probe, case.dimensions == "3d"
    (x, along), (y, across) = (np.polynomial.legendre.leggauss(n) for n in nodes)
    x, y = np.repeat(x * probe.element_width / 2.0, nodes[1]), np.tile(y * probe.element_height / 2.0, nodes[0])
    weight, focus = np.outer(along, across).ravel() / 4.0, probe.elevation_focus
    lens = np.zeros_like(y) if focus is None or not solid else (focus - np.hypot(focus, y)) / SPEED
    element = (np.arange(probe.elements) - (probe.elements - 1) / 2.0) * probe.pitch
    frequency = np.arange(1, samples) * case.rate / (2 * samples)
    frequency = frequency[frequency < 2.0 * probe.center_frequency]
    delays = firings_of(case.event, elements_of(probe), SPEED).delays[0]
    spectrum = np.zeros((samples + 1, probe.elements), np.complex128)
    for (px, py, pz), amplitude in zip(scatterers.position, scatterers.amplitude, strict=True):
        r = np.sqrt((px - element[:, None] - x) ** 2 + (solid * (py - y)) ** 2 + pz**2)
        time, gain = r / SPEED + lens, weight * pz / r / (r if solid else np.sqrt(r))
        wave = gain * np.exp(-2j * np.pi * frequency[0] * time)
        step = np.exp(-2j * np.pi * frequency[0] * time)
        curvature = py**2 / (2.0 * SPEED * np.sqrt((px - element) ** 2 + py**2 + pz**2))
        for i, f in enumerate(frequency):
            heard = wave.sum(axis=1) * (np.exp(-2j * np.pi * f * curvature) if twice else 1.0)
            spectrum[i + 1] += amplitude * (np.exp(-2j * np.pi * f * delays) @ heard) * heard
            wave *= step
    pulse = -1j * pulse_echo(frequency, probe.center_frequency, probe.fractional_bandwidth, case.event.cycles)
    spectrum[1 : len(frequency) + 1] *= pulse[:, None]
    return np.fft.irfft(spectrum, axis=0)[:samples] * case.rate


def small(name, **changes):
    """A probe of 16 elements."""
    return Probe.preset(name).model_copy(update={"elements": 16, **changes})


@pytest.mark.parametrize("name", PROBES)
def test_2d_against_the_integral(name):
    """Sub-elements are an approximation: -33 dB at 1 to 5 mm, -55 dB at 20 to 40 mm, and SIMUS's own are the same.

    With eight times as many as `auto` both come to -68 dB and better of the integral: it is what both mean.
    """
    for depth, limit, finer_limit in (((1, 5), -30.0, -65.0), ((5, 10), -40.0, -72.0), ((20, 40), -50.0, -72.0)):
        case = Case(small(name), PlaneWave(), directivity="full")
        fine = replace(case, sub_elements=({"L11-5v": 16, "P4-2v": 8}[name], 1))
        cloud = scattered(20, (-4, 4), depth)
        wanted = theirs(case, cloud)
        exact = integral(case, cloud, len(wanted), (24, 1))
        found, finer = (judged(c, cloud, exact) for c in (case, fine))
        other, other_finer = (agreement(data, exact) for data in (wanted, theirs(fine, cloud)))
        shown(f"{name} {depth} mm: auto, eight times, SIMUS's", found, finer, other, other_finer)
        assert found.nrmse_db < limit
        assert other.nrmse_db == pytest.approx(found.nrmse_db, abs=0.2)
        assert max(finer.nrmse_db, other_finer.nrmse_db) < finer_limit


#: measured in dB, scatterers within 0.05 and 2 mm of the plane y = 0: ours with `auto` and SIMUS against the integral,
#: and SIMUS against the integral that counts the curvature twice
ELEVATION = {
    ("L11-5v", (2, 5)): ((-30.9, -9.4, -9.4), (-31.5, 0.7, -13.3)),
    ("L11-5v", (5, 10)): ((-32.3, -16.3, -16.3), (-35.0, 0.7, -18.1)),
    ("L11-5v", (10, 20)): ((-39.0, -37.4, -37.0), (-41.1, -20.1, -36.8)),
    ("L11-5v", (20, 40)): ((-51.4, -32.4, -32.5), (-46.5, -7.1, -30.0)),
    ("P4-2v", (5, 10)): ((-29.3, -10.9, -10.9), (-31.0, -0.5, -11.7)),
    ("P4-2v", (10, 20)): ((-33.7, -12.1, -12.1), (-35.0, -4.6, -12.7)),
    ("P4-2v", (20, 40)): ((-35.0, -22.1, -22.1), (-36.5, -11.7, -22.4)),
    ("P4-2v", (40, 80)): ((-42.7, -33.8, -33.8), (-45.8, -17.0, -31.2)),
}


@pytest.mark.parametrize(("name", "depth"), ELEVATION, ids=str)
def test_3d_elevation_against_the_integral(name, depth):
    """A linear array with an elevation lens: SIMUS is off, and why.

    Ours tends to the integral as sub-elements get smaller. SIMUS counts the curvature of the wave in elevation twice,
    once in the distance and once as exp(-i k y^2 / (2 r)): beside the plane it agrees with the integral that does so
    too, as well as it does in the plane, where its Gaussian beams are within -30 dB at the lens's focus and beyond.
    """
    case = Case(small(name), PlaneWave(), directivity="full", dimensions="3d")
    fine = replace(case, sub_elements=(12, 200))
    for off, measured in zip((0.05, 2.0), ELEVATION[name, depth], strict=True):
        cloud = scattered(8, (-5, 5), depth, (-off, off))
        wanted = theirs(case, cloud)
        exact, twice = (integral(case, cloud, len(wanted), (8, 100), twice) for twice in (False, True))
        found = [judged(c, cloud, exact) for c in (case, fine)] + [agreement(wanted, exact), agreement(wanted, twice)]
        shown(f"{name} {depth} mm, y within {off} mm:", *found)
        auto, many, other, own = (a.nrmse_db for a in found)
        np.testing.assert_allclose((auto, other, own), measured, atol=1.0)
        assert auto < other - 1.0
        assert many < auto - 20.0


def test_the_definition_against_the_integral():
    """In double precision, with lens, off the plane: -35 dB with 2 x 40 sub-elements, -59 dB with 8 x 160."""
    case = Case(small("L11-5v", elements=4), PlaneWave(angle=0.1), directivity="full", dimensions="3d")
    cloud = scattered(2, (-3, 3), (6, 9), (-2, 2))
    exact = integral(case, cloud, 800, (8, 100))
    for split, limit in (((2, 40), -30.0), ((8, 160), -55.0)):
        found = judged(replace(case, sub_elements=split), cloud, exact, "numpy")
        shown(str(split), found)
        assert found.nrmse_db < limit
