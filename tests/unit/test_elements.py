"""Where elements are and when they fire, against the properties that define the events."""

import math

import numpy as np
import pytest

from usim.elements import Elements, Firings, elements_of, firings_of, window
from usim.errors import ConfigError
from usim.events import Delays, Diverging, Focused, FullMatrix, PlaneWave
from usim.probe import Probe

C = 1540.0
LINEAR, CONVEX = Probe.preset("L11-5v"), Probe.preset("C5-2v")
ELEMENT = {"element_width": 0.2e-3, "element_height": 0.2e-3, "center_frequency": 3e6, "fractional_bandwidth": 0.6}
MATRIX = Probe.matrix(elements=(8, 6), pitch=(0.3e-3, 0.25e-3), **ELEMENT)
BOWL = np.array([(0.03 * math.sin(a), 0.03 * math.cos(a), -0.01) for a in np.linspace(0, 6, 20)])
FREE = Probe.from_elements(BOWL, normals=np.array([0, 0, 0.05]) - BOWL, **ELEMENT)
PROBES = pytest.mark.parametrize("probe", [LINEAR, CONVEX, MATRIX, FREE], ids=["linear", "convex", "matrix", "free"])


def fired(event, probe):
    elements = elements_of(probe)
    return firings_of(event, elements, C), elements


@PROBES
def test_axes_are_right_handed_unit_vectors(probe):
    e = elements_of(probe)
    assert isinstance(e, Elements)
    assert len(e) == probe.elements
    for axis in (e.lateral, e.elevation, e.normal):
        assert np.allclose(np.linalg.norm(axis, axis=1), 1)
    assert np.allclose(np.cross(e.lateral, e.elevation), e.normal)
    assert np.allclose((e.lateral * e.normal).sum(axis=1), 0)
    assert (e.width, e.height, e.lens_focus) == (probe.element_width, probe.element_height, probe.elevation_focus)


def test_a_row_lies_on_x_and_faces_z():
    e = elements_of(LINEAR)
    assert np.allclose(np.diff(e.centre[:, 0]), LINEAR.pitch)
    assert np.allclose(e.centre.mean(axis=0), 0)
    for axis, along in ((e.lateral, [1, 0, 0]), (e.elevation, [0, 1, 0]), (e.normal, [0, 0, 1])):
        assert np.array_equal(axis, np.tile(along, (128, 1)))


def test_an_arc_has_its_pitch_as_the_chord_and_its_apex_behind_the_origin():
    e = elements_of(CONVEX)
    apex = np.array([0, 0, -CONVEX.radius])
    assert np.allclose(np.linalg.norm(np.diff(e.centre, axis=0), axis=1), CONVEX.pitch)
    assert np.allclose(np.linalg.norm(e.centre - apex, axis=1), CONVEX.radius)
    assert np.allclose(e.centre - apex, CONVEX.radius * e.normal)
    assert np.allclose(e.centre[:, 2].max(), 0, atol=1e-6)
    edges = e.centre[:, None] + 0.5 * e.width * np.array([-1, 1])[None, :, None] * e.lateral[:, None]
    assert np.linalg.norm(edges[-1, 1] - edges[0, 0]) == pytest.approx(CONVEX.aperture)
    assert np.allclose(e.elevation, [0, 1, 0], atol=1e-15)


def test_an_element_may_face_along_y():
    e = elements_of(Probe.from_elements([(0, 0, 0), (0, 0, 0)], normals=[(0, 1, 0), (0, -1, 0)], **ELEMENT))
    assert np.allclose(e.lateral, [1, 0, 0])
    assert np.allclose(np.cross(e.lateral, e.elevation), e.normal)


@PROBES
@pytest.mark.parametrize("apodization", ["boxcar", "hamming"])
@pytest.mark.parametrize("point", [(0, 0, 20e-3), (4e-3, 1e-3, 30e-3)])
def test_focused_wavefronts_arrive_together(probe, point, apodization):
    f, e = fired(Focused(point=point, apodization=apodization), probe)
    arrival = f.delays[0] + np.linalg.norm(e.centre - point, axis=1) / C
    assert np.ptp(arrival) < 1e-15
    assert f.delays.min() == 0


@pytest.mark.parametrize("probe", [LINEAR, CONVEX, MATRIX, FREE], ids=["linear", "convex", "matrix", "free"])
@pytest.mark.parametrize("degrees", [-20, 0, 15])
def test_plane_waves_pass_every_element_as_one_plane(probe, degrees):
    f, e = fired(PlaneWave(angle=f"{degrees} deg"), probe)
    along = np.array([math.sin(math.radians(degrees)), 0, math.cos(math.radians(degrees))])
    assert np.ptp(f.delays[0] - e.centre @ along / C) < 1e-15
    assert f.delays.min() == 0


def test_a_plane_wave_from_a_row_has_linear_delays_that_steer_to_positive_x():
    f, _ = fired(PlaneWave(angle=0.2), LINEAR)
    assert np.allclose(np.diff(f.delays[0]), LINEAR.pitch * math.sin(0.2) / C)
    assert not fired(PlaneWave(), LINEAR)[0].delays.any()


@PROBES
def test_diverging_waves_come_from_their_source(probe):
    source = np.array([1e-3, 0, -60e-3])
    f, e = fired(Diverging(source=tuple(source)), probe)
    assert np.ptp(f.delays[0] - np.linalg.norm(e.centre - source, axis=1) / C) < 1e-15
    assert f.delays.min() == 0


def test_a_source_on_a_flat_array_is_allowed():
    f, _ = fired(Diverging(source=(0, 0, 0)), LINEAR)
    assert f.delays[0, 0] == pytest.approx(63 * LINEAR.pitch / C)


def test_delays_count_from_the_first_active_element():
    weights = (0.0,) * 32 + (1.0,) * 64 + (0.0,) * 32
    for event in (PlaneWave(angle=0.3, apodization=weights), Focused(point=(0, 0, 0.02), apodization=weights)):
        f, _ = fired(event, LINEAR)
        assert f.delays[0, 32:96].min() == 0
        assert (f.delays >= 0).all()
        assert np.array_equal(f.weights[0], weights)
    f, e = fired(Focused(point=(0, 0, 0.02), apodization=weights), LINEAR)
    arrival = f.delays[0] + np.linalg.norm(e.centre - [0, 0, 0.02], axis=1) / C
    assert np.ptp(arrival[32:96]) < 1e-15


def test_the_full_matrix_fires_each_element_alone():
    f, _ = fired(FullMatrix(), CONVEX)
    assert np.array_equal(f.weights, np.eye(128))
    assert f.delays.shape == (128, 128)
    assert not f.delays.any()


def test_given_delays_are_not_shifted():
    delays = tuple(np.linspace(1e-6, 2e-6, 128))
    f, _ = fired(Delays(delays=delays, apodization="hann"), LINEAR)
    assert np.array_equal(f.delays[0], delays)
    assert f.weights[0].max() == pytest.approx(1, abs=1e-3)


def test_several_events_stand_one_below_the_other():
    f, _ = fired([PlaneWave(), FullMatrix(), Focused(point=(0, 0, 0.02))], MATRIX)
    assert isinstance(f, Firings)
    assert len(f) == 50
    assert f.event.tolist() == [0] + [1] * 48 + [2]
    assert f.delays.shape == f.weights.shape == (50, 48)
    assert (f.delays.dtype, f.weights.dtype) == (np.float64, np.float64)


@pytest.mark.parametrize("name", ["boxcar", "hann", "hamming"])
def test_windows_are_symmetric_and_switch_no_element_off(name):
    weights = fired(PlaneWave(apodization=name), LINEAR)[0].weights[0]
    assert np.allclose(weights, weights[::-1])
    assert (weights > 0).all()
    assert weights.max() <= 1
    assert np.allclose(weights, window(name, (np.arange(128) + 0.5) / 64 - 1))


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Delays(delays=(0, 1e-6)), r"events\[0\] \(Delays\)\.delays: 2 delays for 128 elements; give one for each"),
        (Delays(delays=()), "0 delays for 128 elements"),
        (PlaneWave(apodization=(1, 1)), r"\(PlaneWave\)\.apodization: 2 weights for 128 elements"),
        (Focused(point=(0, 0, -0.02)), r"point: \(0, 0, -20\) mm is in front of no active element"),
        (Focused(point=(0, 0, 0)), "in front of no active element"),
        ([], "there are none; give at least one"),
        ([PlaneWave(), 3], r"events\[1\] \(int\): expected PlaneWave, Focused"),
        ("plane", r"events\[0\] \(str\): expected PlaneWave"),
    ],
)
def test_events_that_do_not_fit_are_refused(event, message):
    with pytest.raises(ConfigError, match=message):
        fired(event, LINEAR)


def test_a_source_in_front_of_elements_is_refused():
    with pytest.raises(ConfigError, match=r"source: \(60, 0, -5\) mm is in front of active elements"):
        fired(Diverging(source=(60e-3, 0, -5e-3)), CONVEX)


def test_all_weights_zero_is_refused_even_past_validation():
    event = PlaneWave().model_copy(update={"apodization": (0.0,) * 128})
    with pytest.raises(ConfigError, match="all elements are off"):
        fired(event, LINEAR)


def test_huge_requests_are_refused_before_anything_is_allocated():
    elements = elements_of(Probe.from_elements(np.zeros((16384, 3)), **ELEMENT))
    with pytest.raises(ConfigError, match="16384 transmissions of 16384 elements are beyond 33554432 delays"):
        firings_of(FullMatrix(), elements, C)


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_sound_speed_is_refused(speed):
    with pytest.raises(ConfigError, match="sound_speed: expected metres per second above 0"):
        firings_of(PlaneWave(), elements_of(LINEAR), speed)
