"""Probes: rows, arcs and any geometry; the gap as a shorthand; impulse responses; what phantom files refuse."""

import math

import numpy as np
import pytest

from usim.engines.elevation import Elevation
from usim.engines.pulse import Pulse
from usim.errors import ConfigError
from usim.medium import Medium
from usim.phantom.load import phantom_from_dict
from usim.phantom.schema import Scene
from usim.pipeline import simulate
from usim.probe import PRESETS, Probe, Waveform

ELEMENT = {
    "element_width": "0.2 mm",
    "element_height": "5 mm",
    "center_frequency": "5 MHz",
    "fractional_bandwidth": 0.6,
}
ROW = {**ELEMENT, "elements": 64, "pitch": "0.3 mm"}
SCENE = {
    "image": {"x": ["-3 mm", "3 mm"], "z": ["10 mm", "14 mm"], "pixels": [16, 16]},
    "background": {"echogenicity": 0},
}
PLACES = [[-1e-3, 0, 0], [0, 0, 0], [1e-3, 0, 0]]


@pytest.mark.parametrize(
    ("name", "numbers"),
    [  # MHz, mm pitch, mm kerf, elements, %, mm height, mm radius, mm lens
        ("L11-5v", (7.6, 0.3, 0.03, 128, 77, 5, None, 18)),
        ("L12-3v", (7.54, 0.2, 0.03, 192, 93, 5, None, 20)),
        ("C5-2v", (3.57, 0.508, 0.048, 128, 79, 13.5, 49.57, 60)),
        ("P4-2v", (2.72, 0.3, 0.05, 64, 74, 14, None, 60)),
        ("P6-3", (4.5, 0.218, 0.025, 64, 200 / 3, PRESETS["P6-3"]["element_height"] * 1e3, None, None)),
    ],
)
def test_presets_have_their_published_numbers(name, numbers):
    p = Probe.preset(name)
    found = [p.center_frequency / 1e6, p.pitch * 1e3, p.kerf * 1e3, p.elements, p.fractional_bandwidth * 100]
    found += [length and length * 1e3 for length in (p.element_height, p.radius, p.elevation_focus)]
    for value, expected in zip(found, numbers, strict=True):
        assert value == (expected if expected is None else pytest.approx(expected))
    assert p.is_linear == (p.radius is None)


def test_the_aperture_of_an_arc_is_the_chord_between_the_outer_edges():
    probe = Probe.preset("C5-2v")
    assert probe.radius * math.sin(probe.arc_step / 2) == pytest.approx(probe.pitch / 2)
    last = 63.5 * probe.arc_step
    edge = probe.radius * np.array([math.sin(last), math.cos(last)])
    edge += probe.element_width / 2 * np.array([math.cos(last), -math.sin(last)])
    assert probe.aperture == pytest.approx(2 * edge[0])
    wide = Probe(**ROW, radius=1.0)
    assert wide.aperture == pytest.approx(Probe(**ROW).aperture, rel=1e-4)


@pytest.mark.parametrize(
    "given",
    [
        {"pitch": "0.3 mm", "kerf": "0.05 mm"},
        {"element_width": "0.25 mm", "kerf": "50 um"},
        {"element_width": 0.25e-3, "kerf": 50e-6, "pitch": 0.3e-3},
        {"element_width": 0.25e-3, "pitch": 0.3e-3, "kerf": None},
    ],
)
def test_two_of_pitch_width_and_kerf_are_enough(given):
    shared = {key: value for key, value in ROW.items() if key not in ("pitch", "element_width")}
    probe = Probe(**shared, **given)
    assert (probe.pitch, probe.element_width) == (0.3e-3, 0.25e-3)
    assert probe.kerf == pytest.approx(50e-6)


def test_a_kerf_changes_the_elements_of_a_preset_not_their_pitch():
    probe = Probe(preset="L11-5v", kerf="0.1 mm")
    assert (probe.pitch, probe.element_width, probe.name) == (0.3e-3, 0.2e-3, "L11-5v (changed)")
    assert Probe(preset="L11-5v", kerf="0.1 mm", element_width="0.3 mm").pitch == 0.4e-3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kerf": "0.2 mm"}, r"kerf 0\.2 mm, but pitch 0\.3 mm and element_width 0\.2 mm leave 0\.1 mm; leave one"),
        ({"kerf": "x"}, "kerf: expected a number"),
        ({"kerf": 0.1}, "kerf: 0.1 m is beyond 5 mm; did you mean 0.1 mm"),
        ({"kerf": "0.3 mm", "element_width": None}, "leaves no element in a pitch of 0.3 mm"),
        ({"element_width": "0.31 mm"}, "exceeds pitch"),
        ({"pitch": None}, "pitch: an array in a row needs one"),
        ({"elements": 1}, "1 is below 2"),
        ({"elements": 20_000}, "beyond 16384"),
        ({"radius": "5 mm"}, "radius 5 mm is too small: 64 elements of pitch 0.3 mm would span half a circle"),
        ({"radius": "0.1 mm"}, "radius 0.1 mm is too small"),
        ({"normals": [[0, 0, 1]] * 64}, "belong to `positions`, which are missing"),
        ({"positions": PLACES}, "elements: 64, but there are 3 positions; leave `elements` out"),
        ({"positions": PLACES, "elements": 3, "radius": 0.05}, "radius: `positions` say where"),
        ({"positions": PLACES, "elements": 3, "normals": [[0, 0, 1]]}, "normals: 1 for 3 positions"),
        ({"positions": PLACES, "elements": 3, "normals": [[0, 0, 1]] * 2 + [[0, 0, 0]]}, "number 2 has no direction"),
        ({"positions": [[0, 0]], "elements": 1}, "value 3 of the list is missing"),
        ({"positions": 3}, "expected a list"),
        ({"positions": [[0, 0, 20]], "elements": 1}, r"positions\.0\.2: 20 m is beyond 0.5 m; did you mean 20 mm"),
        ({"impulse_response": {"samples": [0, 0], "sampling_frequency": 1e8}}, "every sample is zero"),
    ],
)
def test_impossible_probes_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Probe(**{**ROW, **given})


def test_of_thousands_of_numbers_the_first_wrong_one_is_told():
    with pytest.raises(ConfigError) as caught:
        Probe.from_elements(np.full((5000, 3), 3.0), **ELEMENT)
    assert str(caught.value).startswith("Probe.positions.0.0: 3 m is beyond 0.5 m")
    assert str(caught.value).count("Probe.positions") <= 3
    with pytest.raises(ConfigError, match="at most 16384 values"):
        Probe.from_elements(np.zeros((16385, 3)), **ELEMENT)


def test_elements_anywhere():
    probe = Probe.from_elements(np.array(PLACES), normals=[(0, 0, 2), (0, 3, 4), (0.6, 0, 0.8)], **ELEMENT)
    assert (probe.elements, probe.pitch, probe.kerf, probe.is_linear) == (3, None, None, False)
    assert probe.aperture == pytest.approx(2.2e-3)
    assert np.allclose(probe.normals, [(0, 0, 1), (0, 0.6, 0.8), (0.6, 0, 0.8)])
    assert Probe(**probe.model_dump()) == probe
    assert hash(probe) == hash(Probe.model_validate_json(probe.model_dump_json()))
    assert Probe.from_elements([(0, 0, 0)], **ELEMENT).elements == 1


def test_positions_replace_the_arc_of_a_preset():
    probe = Probe(preset="C5-2v", positions=PLACES)
    assert (probe.elements, probe.radius, probe.pitch) == (3, None, None)
    assert probe.element_width == 0.46e-3


def test_a_matrix_runs_along_x_first():
    element = {**ELEMENT, "element_height": "0.35 mm"}
    probe = Probe.matrix(elements=(4, 3), pitch=("0.3 mm", 0.4e-3), elevation_focus="30 mm", **element)
    x, y, z = np.array(probe.positions).reshape(3, 4, 3).transpose(2, 0, 1)
    assert np.allclose(x, [[-0.45e-3, -0.15e-3, 0.15e-3, 0.45e-3]] * 3)
    assert np.allclose(y.T, [[-0.4e-3, 0, 0.4e-3]] * 4)
    assert not z.any()
    assert probe.elevation_focus == 30e-3
    assert not probe.is_linear


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"elements": (4, 0)}, "elements: 0 is below 1"),
        ({"elements": 4}, "elements: expected two values, along x and along y, got 4"),
        ({"elements": (200, 200)}, "200 x 200 is beyond 16384"),
        ({"pitch": ("0.3 mm", "x")}, "pitch: expected a number"),
        ({"pitch": ("0.1 mm", "0.4 mm")}, "element_width 0.2 mm exceeds pitch 0.1 mm"),
        ({"pitch": ("0.3 mm", "0.3 mm")}, "element_height 0.35 mm exceeds pitch 0.3 mm along y"),
        ({"center_frequency": "5 mm"}, "is a length, not a frequency"),
    ],
)
def test_impossible_matrices_are_refused(given, message):
    element = {**ELEMENT, "element_height": "0.35 mm", "elements": (4, 3), "pitch": ("0.3 mm", "0.4 mm")}
    with pytest.raises(ConfigError, match=message):
        Probe.matrix(**{**element, **given})


def test_waveforms_know_their_time():
    wave = Waveform(samples=np.array([1, 2, 1]), sampling_frequency="40 MHz", start="-25 ns")
    assert (wave.samples, wave.start, wave.duration) == ((1.0, 2.0, 1.0), -25e-9, 50e-9)
    assert Probe(preset="L11-5v", impulse_response=wave).impulse_response == wave


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([1], "at least 2 values, got 1"),
        ([0, 0.0], "every sample is zero"),
        ([0, math.nan, math.nan], r"^Waveform\.samples\.1: must be finite, got nan \(a plain number\)$"),
        ([1.0] * 65537, "at most 65536 values"),
        (3, "expected a list"),
    ],
)
def test_impossible_waveforms_are_refused(samples, message):
    with pytest.raises(ConfigError, match=message):
        Waveform(samples=samples, sampling_frequency=40e6)


@pytest.mark.parametrize(
    ("probe", "field"),
    [
        ({**ELEMENT, "positions": PLACES}, "positions"),
        ({"preset": "L11-5v", "impulse_response": {"samples": [1, 1], "sampling_frequency": 1e8}}, "impulse_response"),
    ],
)
def test_phantoms_need_a_row_or_an_arc(probe, field):
    with pytest.raises(ConfigError, match=rf"probe\.{field}: phantom files need a row or an arc of elements"):
        Scene(**SCENE, probe=probe)


def test_a_convex_array_needs_a_sector():
    with pytest.raises(ConfigError, match=r"image: 'C5-2v' is convex and scans a sector; give `angle` and `depth`"):
        Scene(**SCENE, probe="C5-2v")


@pytest.mark.parametrize("probe", ["P4-2v", "P6-3", {**ROW, "kerf": {"uniform": ["0.08 mm", "0.1 mm"]}}])
def test_phased_arrays_lensless_probes_and_drawn_gaps_make_images(probe):
    if isinstance(probe, dict):
        probe = {key: value for key, value in probe.items() if key != "element_width"}
    frame = simulate(phantom_from_dict({**SCENE, "probe": probe}))
    assert np.isfinite(frame.bmode).all()
    assert np.isfinite(frame.truth.bmode).all()


def test_no_lens_is_a_lens_focused_infinitely_far():
    y, depth = np.linspace(0, 5e-3, 20), np.full(20, 0.05)
    none, far = (Elevation(12e-3, focus, lambda z: np.full(np.shape(z), 0.3e-3)) for focus in (math.inf, 1e8))
    assert np.allclose(none(y, depth), far(y, depth), atol=1e-5 * np.abs(far(y, depth)).max())
    assert np.allclose(none(y, depth), none.definition(y, 0.05), atol=1e-4 * np.abs(none(y, depth)).max())
    assert np.isfinite(none.half_slab(depth)).all()


def test_attenuation_follows_a_power_of_the_frequency():
    probe, depth = Probe.preset("L11-5v"), np.array([0.0, 0.03])
    for power in (0.0, 1.0, 1.4, 2.0):
        medium = Medium(attenuation=0.3, attenuation_power=power)
        pulse = Pulse.of(probe, 1.0, medium)
        none, echo = pulse.spectrum(depth)
        loss = 20 * np.log10(np.abs(none / echo))
        assert np.allclose(loss, 0.3 * (pulse.frequency / 1e6) ** power * 2 * 3.0)
        assert medium.alpha(2e6) == pytest.approx(0.3 * 2**power)
        mean = (echo**2 * pulse.frequency).sum() / (echo**2).sum()
        assert pulse.centroid(0.03) == pytest.approx(mean, rel=1e-4)
    assert Pulse.of(probe, 1.0, Medium(attenuation_power=0)).centroid(0.05) == pytest.approx(pulse.centroid(0.0))


def test_too_much_attenuation_is_told_by_its_power():
    document = {**SCENE, "probe": "L11-5v", "medium": {"attenuation": 5, "attenuation_power": 2.5}}
    with pytest.raises(ConfigError, match=r"medium\.attenuation: echoes from 12 mm lose 1911 dB"):
        simulate(phantom_from_dict(document))
