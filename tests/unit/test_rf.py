"""What simulate_rf takes, returns and refuses."""

import numpy as np
import pytest

import usim
from usim import Delays, Focused, FullMatrix, Medium, PlaneWave, Probe, Scatterers, simulate_rf
from usim.errors import ConfigError, DataError, ResourceError, UsimError
from usim.probe import Waveform

PROBE = Probe(
    elements=8, pitch=0.3e-3, element_width=0.27e-3, element_height=3e-3, center_frequency=3e6, fractional_bandwidth=0.7
)
CLOUD = Scatterers([[0.0, 0.0, 8e-3], [1e-3, 0.5e-3, 12e-3]], [1.0, -0.5])


def simulate(transmit=PlaneWave(), cloud=CLOUD, probe=PROBE, medium=Medium(), **options):  # noqa: B008 - all are frozen
    return simulate_rf(probe, transmit, medium, cloud, **options)


def test_what_comes_back():
    events = [PlaneWave(angle=0.1), FullMatrix(cycles=2)]
    rf = simulate(events)
    assert isinstance(rf, usim.RF)
    assert rf.data.dtype == np.float32
    assert rf.data.shape == (9, rf.time.shape[1], 8)
    assert rf.t0.shape == (9,)
    assert rf.sampling_frequency == 12e6
    assert rf.center_frequency == 3e6
    assert (rf.sound_speed, rf.medium) == (1540.0, Medium())
    assert rf.events == tuple(events)
    assert rf.firings.event.tolist() == [0] + [1] * 8
    assert 0.0 < rf.band[0] < 3e6 < rf.band[1] < 6e6
    np.testing.assert_allclose(np.diff(rf.time, axis=1), 1.0 / 12e6)
    np.testing.assert_allclose(rf.time[:, 0], rf.t0)


def test_echoes_arrive_when_they_should():
    """One element alone, in 2-D: the pulse is centred on the way there and back."""
    only = Scatterers([[0.0, 0.0, 10e-3]], [1.0])
    rf = simulate(PlaneWave(apodization=(0, 0, 0, 1, 0, 0, 0, 0)), only, sampling_frequency=60e6, dimensions="2d")
    x = (np.arange(8) - 3.5) * 0.3e-3
    way = np.hypot(x[3], 10e-3) + np.hypot(x, 10e-3)
    power = rf.data[0].astype(float) ** 2
    centre = (power * rf.time[0][:, None]).sum(axis=0) / power.sum(axis=0)
    np.testing.assert_allclose(centre, way / 1540.0, atol=2e-9)


def test_every_echo_is_held_whole():
    """The record begins and ends below -45 dB of its peak."""
    data = np.abs(simulate(PlaneWave(angle=0.4)).data[0])
    assert max(data[0].max(), data[-1].max()) < 10.0 ** (-45.0 / 20.0) * data.max()


def test_a_probe_by_name_and_one_event_or_several():
    one = simulate_rf("P4-2v", PlaneWave(), Medium(), CLOUD)
    several = simulate_rf(Probe.preset("P4-2v"), (PlaneWave(),), Medium(), CLOUD)
    assert np.array_equal(one.data, several.data)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_events_of_different_excitations_share_the_clock(backend):
    waveform = Waveform(samples=(0.0, 1.0, -1.0, 0.0), sampling_frequency=12e6)
    events = [PlaneWave(), PlaneWave(cycles=4), Focused(point=(0, 0, 9e-3)), PlaneWave(excitation=waveform)]
    together = simulate(events, backend=backend)
    assert len(set(together.t0)) == 1
    for number, event in enumerate(events):
        alone = simulate(event, backend=backend)
        late = round((alone.t0[0] - together.t0[0]) * 12e6)
        part = together.data[number, late : late + alone.data.shape[1]]
        np.testing.assert_allclose(part, alone.data[0][: len(part)], atol=2e-3 * np.abs(alone.data).max())


def test_faster_sampling_holds_the_same_signal():
    slow, fast = simulate(), simulate(sampling_frequency=24e6)
    late = round((slow.t0[0] - fast.t0[0]) * 24e6)
    found = fast.data[0, late::2][: slow.data.shape[1]]
    assert np.abs(found - slow.data[0][: len(found)]).max() < 2e-3 * np.abs(slow.data).max()


def test_in_2d_elevation_does_not_count():
    high = Scatterers(CLOUD.position + np.array([0.0, 3e-3, 0.0]), CLOUD.amplitude)
    for dimensions, equal in (("2d", True), ("3d", False)):
        a, b = (simulate(cloud=cloud, dimensions=dimensions) for cloud in (CLOUD, high))
        assert np.array_equal(a.data, b.data) == equal


def test_only_silence_is_silent():
    quiet = simulate(cloud=Scatterers(CLOUD.position, np.zeros(2)))
    assert not quiet.data.any()
    assert quiet.data.shape == simulate().data.shape


def cloud_of(*positions):
    return Scatterers(np.array(positions, dtype=float), np.ones(len(positions)))


HALF = Probe.from_elements(
    [(0, 0, 0), (5e-3, 0, 0)], normals=[(0, 0, 1), (1, 0, 0)], element_width=2e-4, element_height=2e-4,
    center_frequency=3e6, fractional_bandwidth=0.7,
)  # fmt: skip


def test_in_front_of_any_element_is_enough():
    """Beside the first element of two, before the second."""
    assert np.isfinite(simulate(cloud=cloud_of((9e-3, 0.0, -1e-3)), probe=HALF).data).all()
    with pytest.raises(DataError, match=r"row 0 at \(-9, 0, -1\) mm lies behind"):
        simulate(cloud=cloud_of((-9e-3, 0.0, -1e-3)), probe=HALF)


def test_close_to_an_element_stays_finite():
    rf = simulate(cloud=cloud_of((0.15e-3, 0.0, 1e-9), (0.15e-3, 0.0, 5e-3)))
    assert np.isfinite(rf.data).all()
    assert rf.data.any()


WRONG_CLOUDS = {
    "behind the array": (lambda: cloud_of((0, 0, 1e-2), (1e-3, 2e-3, -3e-3)), r"row 1 at \(1, 2, -3\) mm lies behind"),
    "on an element": (lambda: cloud_of((0.15e-3, 0.0, 0.0)), "row 0 .* on an element"),
    "none": (lambda: Scatterers(np.empty((0, 3)), np.empty(0)), "there are none"),
    "an array": (lambda: np.zeros((3, 3)), r"expected usim.Scatterers.*, got ndarray"),
    "not a number": (lambda: cloud_of((0, 0, 1e-2), (0, np.nan, 1e-2)), "position: row 1 is not finite"),
    "infinite": (lambda: cloud_of((0, 0, np.inf)), "position: row 0 is not finite"),
    "amplitude not a number": (lambda: Scatterers([[0, 0, 1e-2]], [np.nan]), "amplitude: row 0 is not finite"),
    "two columns": (lambda: Scatterers([[0, 1e-2]], [1.0]), r"shape \(1, 2\), expected \(N, 3\)"),
    "an amplitude too few": (lambda: Scatterers([[0, 0, 1e-2], [0, 0, 2e-2]], [1.0]), r"expected \(2,\)"),
}


@pytest.mark.parametrize("name", WRONG_CLOUDS)
def test_clouds_that_are_refused(name):
    cloud, message = WRONG_CLOUDS[name]
    with pytest.raises(DataError, match=message):
        simulate(cloud=cloud())


WRONG_EVENTS = {
    "no event": ([], "there are none"),
    "a weight too few": (PlaneWave(apodization=(1.0,) * 7), "7 weights for 8 elements"),
    "a delay too many": (Delays(delays=(0.0,) * 9), "9 delays for 8 elements"),
    "the second of two": ([PlaneWave(), Delays(delays=(0.0,))], r"events\[1\] \(Delays\).*1 delays for 8"),
    "a focus behind": (Focused(point=(0.0, 0.0, -5e-3)), "in front of no active element"),
    "a text": ("plane", "expected PlaneWave"),
}


@pytest.mark.parametrize("name", WRONG_EVENTS)
def test_events_that_are_refused(name):
    event, message = WRONG_EVENTS[name]
    with pytest.raises(ConfigError, match=message):
        simulate(event)


def test_all_elements_off_is_refused():
    with pytest.raises(ConfigError, match="all elements are off"):
        PlaneWave(apodization=(0.0,) * 8)


WRONG_OPTIONS = {
    "dimensions": ({"dimensions": "4d"}, "dimensions: '4d' is none of 2d, 3d"),
    "directivity": ({"directivity": "none"}, "directivity: 'none' is none of full, center"),
    "baffle": ({"baffle": "hard"}, "baffle: 'hard' is none of soft, rigid"),
    "baffle below 0": ({"baffle": -0.1}, "ratio of impedances is -0.1, expected 0 to"),
    "baffle not a number": ({"baffle": float("nan")}, "ratio of impedances is nan"),
    "backend": ({"backend": "torch"}, "backend: 'torch' is none of numba, numpy"),
    "sub-elements of one": ({"sub_elements": (2,)}, "neither 'auto' nor two whole numbers"),
    "sub-elements of none": ({"sub_elements": (0, 1)}, "neither 'auto' nor two whole numbers"),
    "sub-elements of a half": ({"sub_elements": (1.5, 1)}, "neither 'auto' nor two whole numbers"),
    "sub-elements as text": ({"sub_elements": "many"}, "neither 'auto' nor two whole numbers"),
    "too many sub-elements": ({"sub_elements": (100, 100)}, "100 x 100, at most 4096"),
    "sampled too slowly": ({"sampling_frequency": 6e6}, r"sampling_frequency: 6 MHz; the band reaches to .* MHz"),
    "sampled far too fast": ({"sampling_frequency": 2e10}, "at most 10 GHz"),
    "sampling not a number": ({"sampling_frequency": float("nan")}, "sampling_frequency: nan MHz"),
    "sampling below 0": ({"sampling_frequency": -40e6}, "sampling_frequency: -40 MHz"),
}


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_options_that_are_refused(name):
    options, message = WRONG_OPTIONS[name]
    with pytest.raises(ConfigError, match=message):
        simulate(**options)


def test_a_name_that_is_no_preset():
    with pytest.raises(ConfigError, match="L11-5v"):
        simulate_rf("L11-5", PlaneWave(), Medium(), CLOUD)


def test_an_excitation_outside_the_band_is_refused():
    silent = Waveform(samples=(1.0, -1.0), sampling_frequency=20e3)
    with pytest.raises(ConfigError, match="no energy in the probe's band"):
        simulate(PlaneWave(excitation=silent))


TOO_LARGE = {
    "the record": (PlaneWave(), cloud_of((0, 0, 1e-2), (0, 0, 900.0)), "echoes last for"),
    "all together": ([FullMatrix()] * 400, cloud_of((0, 0, 1e-2), (0, 0, 30.0)), "GB, at most 16 GB"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_before_any_work(name):
    events, cloud, message = TOO_LARGE[name]
    with pytest.raises(ResourceError, match=message):
        simulate(events, cloud, medium=Medium(attenuation=0))


def test_the_input_is_left_as_it_was():
    position, amplitude = CLOUD.position.copy(), CLOUD.amplitude.copy()
    simulate([FullMatrix(), FullMatrix()])
    assert np.array_equal(CLOUD.position, position)
    assert np.array_equal(CLOUD.amplitude, amplitude)


FEW = Probe(preset="L11-5v", elements=8)


def wave_at(start):
    samples = np.hanning(33) * np.sin(2 * np.pi * 7.6e6 * np.arange(33) / 40e6)
    return PlaneWave(excitation=Waveform(samples=samples, sampling_frequency=40e6, start=start))


@pytest.mark.parametrize("start", [0.0, 60e-6, 95e-6])
def test_late_excitations_do_not_come_round_again(start):
    """The band's frequencies were once so far apart that anything later than 90 us came back before t = 0."""
    one = Scatterers([[0.0, 0.0, 0.02]], [1.0])
    rf = simulate_rf(FEW, wave_at(start), Medium(), one)
    found = rf.time[0, np.argmax(np.abs(rf.data[0, :, 4]))]
    assert found == pytest.approx(start + 16 / 40e6 + 2 * 0.02 / 1540, abs=0.15e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transmit": wave_at(150e-6)}, "together they reach to 150.8 us from t = 0, at most 100 us"),
        ({"scatterers": Scatterers([[0, 0, 20.0]], [1.0])}, "lose 15200 dB at the centre frequency, at most 250 dB"),
        ({"scatterers": Scatterers([[0, 0, 0.02]], [1e24])}, "row 0 is 1e.24, at most 1e.15 is allowed"),
        ({"medium": None}, "medium: expected usim.Medium, got NoneType"),
        ({"sampling_frequency": "40 MHz"}, "expected a number in Hz or None"),
    ],
)
def test_what_would_overflow_or_vanish_is_refused(changes, message):
    arguments = {"transmit": PlaneWave(), "medium": Medium(), "scatterers": Scatterers([[0, 0, 0.02]], [1.0])}
    with pytest.raises(UsimError, match=message):
        simulate_rf(FEW, **arguments | changes)


def test_a_response_that_reaches_0_hz_gives_finite_data():
    probe = Probe(preset="L11-5v", elements=8, impulse_response=Waveform(samples=[1, 0], sampling_frequency=40e6))
    assert np.isfinite(simulate_rf(probe, PlaneWave(), Medium(), Scatterers([[0, 0, 0.02]], [1.0])).data).all()
