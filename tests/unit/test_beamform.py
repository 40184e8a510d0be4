"""Delay and sum: the kernel against its definition, the aperture rule, the sign of the phase, and every refusal."""

from types import SimpleNamespace

import numba
import numpy as np
import pytest

import usim
from usim import beamforming
from usim._das_numba import PHASES, TAPS
from usim.beamforming import Aperture, arrival_times, beamform, das, demodulate, interpolation_taps
from usim.elements import elements_of, firings_of
from usim.errors import ConfigError, ResourceError
from usim.events import Delays, Diverging, Focused, FullMatrix, PlaneWave
from usim.probe import Probe
from usim.process import rf_to_iq

C, FS, FD = 1540.0, 20e6, 5e6
LINEAR = Probe(
    elements=24, pitch=0.3e-3, element_width=0.25e-3, element_height=5e-3, elevation_focus=2e-2,
    center_frequency=FD, fractional_bandwidth=0.7,
)  # fmt: skip
CONVEX = LINEAR.model_copy(update={"radius": 20e-3, "pitch": 0.8e-3, "element_width": 0.7e-3})
EVENTS = (
    PlaneWave(angle=0.1),
    Focused(point=(0.5e-3, 0.0, 6e-3)),
    Diverging(source=(0.0, 0.0, -6e-3)),
    Delays(delays=tuple(np.linspace(0.0, 4e-7, 24)), apodization="hann"),
)


def decibel(found, expected):
    return 20.0 * np.log10(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def noise_in_band(shape, band, seed=0):
    """Complex noise (T, S, E) whose spectrum ends at +- band cycles per sample; it fades in and out over 40 samples."""
    rng = np.random.default_rng(seed)
    spectrum = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    spectrum[:, np.abs(np.fft.fftfreq(shape[1])) > band] = 0.0
    fade = np.clip(np.minimum(np.arange(shape[1]), np.arange(shape[1])[::-1]) / 40.0, 0.0, 1.0)
    return (np.fft.ifft(spectrum, axis=1) * (np.sin(np.pi / 2 * fade) ** 2)[:, None]).astype(np.complex64)


def places(x=(-4e-3, 4e-3), z=(1e-3, 14e-3), count=(9, 31)):
    x, z = np.meshgrid(np.linspace(*x, count[0]), np.linspace(*z, count[1]), indexing="ij")
    return np.stack([x, 0.0 * x, z], axis=-1).reshape(-1, 3)


def record(events=EVENTS, probe=LINEAR, samples=500, band=(1e6, 9e6), seed=0):
    """Channel data of band-limited noise: every pixel of it is an equation."""
    elements = elements_of(probe)
    firings = firings_of(events, elements, C)
    t0 = 1e-6 + 1e-7 * np.arange(len(firings))
    shape = (len(firings), samples, len(elements))
    iq = noise_in_band(shape, (band[1] - band[0]) / 2.0 / FS, seed)
    time = t0[:, None] + np.arange(samples) / FS
    data = (iq * np.exp(2j * np.pi * sum(band) / 2.0 * time)[..., None]).real.astype(np.float32)
    return SimpleNamespace(
        data=data, t0=t0, sampling_frequency=FS, elements=elements, firings=firings, events=tuple(events),
        sound_speed=C, center_frequency=FD, band=band,
    )  # fmt: skip


def both(iq, points, time, elements, **options):
    t0 = np.full(len(iq), 0.7e-6)
    arguments = (iq, t0, FS, FD, points, time, elements.centre, elements.normal, C)
    return das(*arguments, **options), das(*arguments, backend="numpy", **options)


def test_the_interpolator_is_within_its_error():
    """-63 dB up to 0.32 cycles per sample, halfway between two phases of the table too."""
    taps = interpolation_taps(TAPS, PHASES)
    frequency = np.linspace(-0.32, 0.32, 129)
    between = (taps[:-1] + taps[1:]) / 2.0
    for weights, shift in ((taps[:-1], 0.0), (between, 0.5)):
        fraction = (np.arange(PHASES) + shift) / PHASES
        response = weights @ np.exp(2j * np.pi * np.outer(np.arange(TAPS) - TAPS // 2 + 1, frequency))
        error = np.abs(response - np.exp(2j * np.pi * np.outer(fraction, frequency)))
        assert 20.0 * np.log10(error.max()) < -63.0


@pytest.mark.parametrize("probe", [LINEAR, CONVEX], ids=["linear", "convex"])
@pytest.mark.parametrize(("f_number", "apodization"), [(1.5, "hann"), (0.8, "hamming"), (1.0, "boxcar"), (0.0, "hann")])
@pytest.mark.parametrize("normalise", ["energy", "none"])
def test_the_kernel_answers_to_the_definition(probe, f_number, apodization, normalise):
    """-60 dB for data up to 0.32 cycles per sample, two transmits, points shared or their own."""
    iq = noise_in_band((2, 600, 24), 0.32)
    shared = places()
    own = np.stack([shared, shared + np.array([0.2e-3, 0.1e-3, 0.3e-3])])
    time = np.stack([own[0, :, 2] / C, own[1, :, 2] / C + 1e-6])
    options = {"f_number": f_number, "apodization": apodization, "normalise": normalise}
    for points in (shared, own):
        found, expected = both(iq, points, time, elements_of(probe), **options)
        assert found.shape == expected.shape == (2, 279)
        assert found.dtype == np.complex64
        assert expected.dtype == np.complex128
        assert decibel(found, expected) < -60.0


def test_apertures_may_look_from_elsewhere():
    """`sight` chooses the weights and no delays: with the points themselves nothing changes."""
    iq, points, elements = noise_in_band((2, 600, 24), 0.32), places(), elements_of(LINEAR)
    time = np.stack([points[:, 2] / C] * 2)
    plain, _ = both(iq, points, time, elements, f_number=1.5)
    same, _ = both(iq, points, time, elements, f_number=1.5, sight=points)
    np.testing.assert_array_equal(same, plain)
    ahead = np.zeros_like(points)
    ahead[:, 2] = np.linalg.norm(points, axis=1)
    found, expected = both(iq, points, time, elements, f_number=1.5, sight=ahead)
    assert decibel(found, expected) < -60.0
    assert decibel(found, plain) > -20.0


def test_what_lies_outside_the_record_is_zero():
    """Far before and far behind, without reading beyond the arrays; one sample of it reaches a few samples far."""
    elements = elements_of(LINEAR)
    points = places(z=(5e-3, 6e-3))
    for time in (-1.0, -2e-5, 5e-5, 1e9):
        found, _ = both(noise_in_band((1, 300, 24), 0.3), points, np.full((1, 279), time), elements)
        np.testing.assert_array_equal(found, 0)


def test_a_scatterer_turns_as_the_conventions_say():
    """Analytic: exp(+i 2 k0 (z - z_s)) times the envelope; demodulated: exp(-i 2 k0 z_s), in every row around it."""
    z_s, sigma = 10.03e-3, 0.2e-6
    elements = elements_of(LINEAR.model_copy(update={"elements": 3}))
    time = np.arange(400) / FS
    arrival = z_s / C + np.linalg.norm(elements.centre - [0.0, 0.0, z_s], axis=1) / C
    late = time[:, None] - arrival
    rf = (np.exp(-0.5 * (late / sigma) ** 2) * np.cos(2.0 * np.pi * FD * late))[None]
    t0 = np.zeros(1)
    iq = rf_to_iq(rf, t0, FS, 4.7e6)  # any demodulation: the carrier is put back
    z = z_s + np.linspace(-0.1e-3, 0.1e-3, 11)
    points = np.stack([0 * z, 0 * z, z], axis=-1)
    found = das(
        iq, t0, FS, 4.7e6, points, (z / C)[None], elements.centre, elements.normal, C, f_number=0.0,
        apodization="boxcar", normalise="none",
    )[0]  # fmt: skip
    k0 = 2.0 * np.pi * FD / C
    envelope = 3.0 * np.exp(-0.5 * (2.0 * (z - z_s) / C / sigma) ** 2)
    np.testing.assert_allclose(found, envelope * np.exp(2j * k0 * (z - z_s)), atol=6e-3)
    house = demodulate(found, z, FD, C)
    assert house.dtype == np.complex64
    np.testing.assert_allclose(house, envelope * np.exp(-2j * k0 * z_s), atol=6e-3)


def test_threads_do_not_change_a_bit():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one core")
    rf, found = record(), []
    before = numba.get_num_threads()
    for threads in (1, 2, 1):
        numba.set_num_threads(threads)
        found.append(beamform(rf, (np.linspace(-4e-3, 4e-3, 40), np.linspace(1e-3, 12e-3, 50))))
    numba.set_num_threads(before)
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_chunks_do_not_change_a_bit(monkeypatch):
    rf, grid = record(), (np.linspace(-4e-3, 4e-3, 40), np.linspace(1e-3, 12e-3, 50))
    whole = beamform(rf, grid)
    monkeypatch.setattr(beamforming, "CHUNK_BYTES", 1.0)
    assert beamform(rf, grid).tobytes() == whole.tobytes()


def test_a_flat_aperture_is_depth_over_f_number():
    """|x_e - x| <= z / 2F, at least one pitch and at most half the array to either side, the window at their ratio."""
    elements = elements_of(LINEAR)
    rule = Aperture.of(elements.centre, elements.normal, 1.2, "hann")
    points = np.array([[0.1e-3, 0.0, 6e-3], [-3e-3, 1e-3, 4e-3], [0.1e-3, 0.0, 0.0], [0.0, 0.0, 90e-3]])
    half = np.array([6e-3 / 2.4, 4e-3 / 2.4, 0.3e-3, 24 * 0.3e-3 / 2])[:, None]
    q = (elements.centre[:, 0] - points[:, :1]) / half
    np.testing.assert_allclose(
        rule.weights(points), np.where(np.abs(q) <= 1, np.cos(np.pi * q / 2) ** 2, 0), atol=1e-12
    )
    np.testing.assert_array_equal(rule.weights(points, [3, 7]), rule.weights(points)[:, [3, 7]])


def test_a_convex_aperture_is_an_acceptance_angle():
    """tan(angle between an element's normal and the direction to the point) <= 1 / 2F, the window at their ratio."""
    elements = elements_of(CONVEX)
    rule = Aperture.of(elements.centre, elements.normal, 1.5, "boxcar", elements.lateral)
    point = np.array([[3e-3, 0.0, 15e-3]])
    away = point - elements.centre
    angle = np.arctan2(away[:, 0], away[:, 2]) - np.arctan2(elements.normal[:, 0], elements.normal[:, 2])
    found = rule.weights(point)[0]
    np.testing.assert_array_equal(found, np.abs(np.tan(angle)) <= 1.0 / 3.0)
    assert 4 < found.sum() < 24
    hann = Aperture.of(elements.centre, elements.normal, 1.5, "hann").weights(point)[0]
    np.testing.assert_allclose(hann, found * np.cos(1.5 * np.pi * np.tan(angle)) ** 2, atol=1e-12)


def test_the_whole_array_listens_without_an_f_number():
    elements = elements_of(LINEAR)
    for name, expected in (("boxcar", np.ones(24)), ("hann", np.cos(np.pi * (np.arange(24) - 11.5) / 24) ** 2)):
        found = Aperture.of(elements.centre, elements.normal, 0.0, name).weights(places())
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-12)
    assert Aperture.of(np.zeros((1, 3)), [[0, 0, 1.0]], 1.0).weights(places()).min() == 1.0


def test_noise_has_the_same_power_behind_every_aperture():
    """White noise in the band: within 5 % from 2 to 30 elements, and not so without the normalisation."""
    rng = np.random.default_rng(3)
    elements = elements_of(LINEAR.model_copy(update={"elements": 64}))
    spectrum = rng.normal(size=(40, 1024, 64)) + 1j * rng.normal(size=(40, 1024, 64))
    spectrum[:, np.abs(np.fft.fftfreq(1024)) > 0.2] = 0.0
    iq = np.fft.ifft(spectrum, axis=1).astype(np.complex64)
    power = []
    for depth in (1e-3, 4e-3, 13e-3):
        points = places(x=(-5e-3, 5e-3), z=(depth, depth + 1e-3), count=(21, 8))
        found, _ = das_pair(iq, points, elements)
        power.append(np.mean(np.abs(found) ** 2))
    np.testing.assert_allclose(power, np.mean(np.abs(iq) ** 2), rtol=0.05)


def das_pair(iq, points, elements):
    time = np.broadcast_to(points[:, 2] / C + 1e-5, (len(iq), len(points)))
    arguments = (iq, np.zeros(len(iq)), FS, FD, points, time, elements.centre, elements.normal, C)
    return das(*arguments), das(*arguments, normalise="none")


@pytest.mark.parametrize("event", EVENTS[:3], ids=lambda event: type(event).__name__)
def test_the_wave_arrives_with_its_first_element_where_rays_are_geometric(event):
    """In front of the array, before the focus the last and else the first element's wavelet lies on the wavefront."""
    elements = elements_of(LINEAR.model_copy(update={"elements": 240, "pitch": 0.03e-3, "element_width": 0.03e-3}))
    firing = firings_of(event, elements, C)
    points = places(x=(-0.2e-3, 0.6e-3), z=(1e-3, 12e-3))
    found = arrival_times(event, firing.delays[0], firing.weights[0], elements.centre, C, points)
    each = firing.delays[0] + np.linalg.norm(points[:, None] - elements.centre, axis=-1) / C
    expected = each.min(axis=1)
    if isinstance(event, Focused):
        beyond = points[:, 2] > 6e-3 - 1e-12
        inside = np.abs(points[:, 0] - 0.5e-3) < 0.5 * np.abs(points[:, 2] - 6e-3) + 1e-12
        expected = np.where(beyond, each.max(axis=1), expected)[inside]
        found = found[inside]
    np.testing.assert_allclose(found, expected, atol=3e-10)


def test_arrivals_follow_the_delays_that_were_applied():
    """All delays later by 1 us: the wave, too."""
    elements = elements_of(LINEAR)
    for event in (*EVENTS, FullMatrix()):
        firing = firings_of(event, elements, C)
        arguments = (firing.weights[-1], elements.centre, C, places())
        early = arrival_times(event, firing.delays[-1], *arguments)
        np.testing.assert_allclose(arrival_times(event, firing.delays[-1] + 1e-6, *arguments), early + 1e-6, atol=1e-15)


@pytest.mark.parametrize("events", [EVENTS, (FullMatrix(),)], ids=["several", "matrix"])
def test_images_answer_to_the_definition(events):
    """Through rf_to_iq, arrival times, compounding and normalisation, for a wide band that needs upsampling too."""
    for band in ((1e6, 9e6), (0.5e6, 9.9e6)):
        rf, grid = record(events, band=band), (np.linspace(-3e-3, 3e-3, 4), np.linspace(2e-3, 12e-3, 9))
        found, expected = (beamform(rf, grid, backend=backend) for backend in ("numba", "numpy"))
        assert found.shape == (9, 4)
        assert (found.dtype, expected.dtype) == (np.complex64, np.complex128)
        assert decibel(found, expected) < -60.0


def test_compounding_is_the_sum_of_the_images():
    rf, grid = record(), (np.linspace(-3e-3, 3e-3, 5), np.linspace(2e-3, 12e-3, 20))
    each = beamform(rf, grid, compound=False)
    assert each.shape == (4, 20, 5)
    np.testing.assert_allclose(beamform(rf, grid), each.sum(axis=0), atol=1e-5)


def test_a_full_matrix_weighs_its_transmits_as_it_does_its_receivers():
    """Images per transmit, weighted by the aperture and divided by the root of their energy; after other events too."""
    rf, points = record((EVENTS[0], FullMatrix())), places(x=(-3e-3, 3e-3), count=(4, 5))
    each = beamform(rf, points, compound=False, f_number=1.1)
    assert each.shape == (25, 20)
    weight = Aperture.of(rf.elements.centre, rf.elements.normal, 1.1).weights(points).T
    matrix = (weight * each[1:]).sum(axis=0)
    expected = each[0] + matrix / np.sqrt((weight**2).sum(axis=0))
    np.testing.assert_allclose(beamform(rf, points, f_number=1.1), expected, atol=1e-5)


def test_grids_points_and_lines_are_the_same_values():
    rf, x, z = record(), np.linspace(-3e-3, 3e-3, 4), np.linspace(2e-3, 12e-3, 20)
    each = beamform(rf, (x, z), compound=False)
    points = np.stack(np.broadcast_arrays(x, 0.0, z[:, None]), axis=-1)
    np.testing.assert_array_equal(beamform(rf, points, compound=False), each)
    assert beamform(rf, points[3, 2]).shape == ()
    lines = beamform(rf, (x, z), lines=True)
    np.testing.assert_array_equal(lines, np.stack([each[i, :, i] for i in range(4)], axis=1))
    np.testing.assert_array_equal(beamform(rf, points.swapaxes(0, 1), lines=True), lines.T)


def test_the_public_name_is_the_function():
    assert usim.beamform is beamform


def test_iq_is_the_analytic_signal_at_baseband():
    """A tone becomes its phasor, whatever t0; with the carrier put back its real part is the data."""
    rng = np.random.default_rng(5)
    data, t0 = rng.normal(size=(2, 301, 3)), np.array([1.3e-6, -0.4e-6])
    time = t0[:, None] + np.arange(301) / FS
    back = rf_to_iq(data, t0, FS, 4.4e6) * np.exp(2j * np.pi * 4.4e6 * time)[..., None]
    np.testing.assert_allclose(back.real, data, atol=1e-12)
    tone = np.cos(2.0 * np.pi * 5e6 * time + 0.3)[..., None] * np.hanning(301)[:, None]
    iq = rf_to_iq(tone, t0, FS, 5e6, band=(3e6, 7e6), upsample=2)
    assert iq.shape == (2, 602, 1)
    np.testing.assert_allclose(iq[:, ::2, 0], np.hanning(301) * np.exp(0.3j) * np.ones((2, 1)), atol=2e-3)
    finer = np.interp(np.arange(601) / 2.0, np.arange(301), np.hanning(301))
    np.testing.assert_allclose(iq[:, :601, 0], finer * np.exp(0.3j) * np.ones((2, 1)), atol=2e-3)
    assert rf_to_iq(data.astype(np.float32), t0, FS, 5e6).dtype == np.complex64
    assert np.abs(rf_to_iq(tone, t0, FS, 5e6, band=(7e6, 9e6))).max() < 1e-3


def test_iq_does_not_wrap():
    """An echo cut off by the end of the record stays at the end."""
    data = np.zeros((1, 256, 1))
    data[0, -8:, 0] = np.cos(np.pi / 2 * np.arange(8))
    iq = np.abs(rf_to_iq(data, np.zeros(1), FS, FD)[0, :, 0])
    assert iq[:16].max() < 2e-3 * iq.max()


def test_iq_is_the_same_in_torch(one_thread):
    torch = pytest.importorskip("torch")
    data, t0 = np.random.default_rng(1).normal(size=(2, 100, 3)).astype(np.float32), np.array([0.0, 1e-6])
    found = rf_to_iq(torch.asarray(data), torch.asarray(t0), FS, FD, (2e6, 8e6), 2)
    np.testing.assert_allclose(found.numpy(), rf_to_iq(data, t0, FS, FD, (2e6, 8e6), 2), atol=2e-6)


GRID = (np.linspace(-1e-3, 1e-3, 3), np.linspace(2e-3, 4e-3, 4))


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (GRID, {"f_number": -1.0}, "f_number: -1.0 is not a number of at least 0; 0 uses the whole array"),
        (GRID, {"f_number": float("nan")}, "f_number: nan"),
        (GRID, {"apodization": "han"}, r"apodization: 'han' is unknown; did you mean 'hann'\? \(allowed: boxcar"),
        (GRID, {"normalise": "power"}, r"normalise: 'power' is unknown \(allowed: energy, none\)"),
        (GRID, {"backend": "cuda"}, r"backend: 'cuda' is unknown \(allowed: numba, numpy\)"),
        (([], [1e-3]), {}, r"points: a grid is two axes \(x, z\) in metres, not empty; got \(0,\), \(1,\)"),
        ((0.0, 1e-3), {}, "points: a grid is two axes"),
        (np.zeros((0, 3)), {}, r"points: shape \(0, 3\), expected \(..., 3\)"),
        (np.zeros((4, 2)), {}, r"points: shape \(4, 2\), expected \(..., 3\)"),
        ([[0.0, 0.0, float("inf")]], {}, r"points: the value at \(0, 2\) is not finite"),
        ((GRID[0], [2e-3, float("nan")]), {}, "points: the value at .* is not finite"),
        ((GRID[0], [-1e-3, 2e-3]), {}, r"points: \(-1, 0, -1\) mm lies behind the array \(3 do\)"),
        (GRID, {"lines": True}, "points: 3 columns for 4 transmits; with lines=True every transmit has its own"),
        (places(), {"lines": True}, r"points: shape \(279, 3\) for 4 transmits"),
    ],
)
def test_refusals_name_the_cure(points, options, message):
    with pytest.raises(ConfigError, match=message):
        beamform(record(samples=50), points, **options)


def test_points_inside_a_convex_array_lie_behind_it():
    """The arc's apex is the origin: beside it, negative depths are in front of the outer elements."""
    rf = record(EVENTS[:1], CONVEX, samples=50)
    assert np.isfinite(beamform(rf, [[-9e-3, 0.0, -1e-3]])).all()
    with pytest.raises(ConfigError, match="lies behind the array"):
        beamform(rf, [[0.0, 0.0, -1e-3]])


def test_images_beyond_the_memory_are_refused_before_anything_is_computed():
    with pytest.raises(ResourceError, match=r"need \d+ GB of memory, more than 16; beamform fewer points"):
        beamform(record(samples=50), (np.zeros(20_000), np.full(20_000, 1e-3)))


def test_arrays_that_do_not_fit_are_refused():
    elements, points = elements_of(LINEAR), places()
    good = {"iq": np.zeros((1, 50, 24), np.complex64), "t0": np.zeros(1), "points": points, "time": points[None, :, 2]}
    for name, value, message in (
        ("iq", np.zeros((1, 50, 23)), r"iq: shape \(1, 50, 23\), expected \(transmits, samples, 24\)"),
        ("iq", np.zeros((1, 0, 24)), "iq: shape"),
        ("t0", np.zeros(2), r"t0: shape \(2,\), expected \(1,\)"),
        ("points", np.stack([points] * 2), r"points: shape \(2, 279, 3\)"),
        ("time", np.zeros((1, 5)), r"transmit_time: shape \(1, 5\), expected \(1, 279\)"),
        ("time", np.full((1, 279), np.nan), "transmit_time: holds values that are not finite"),
    ):
        iq, t0, place, time = (good | {name: value}).values()
        with pytest.raises(ConfigError, match=message):
            das(iq, t0, FS, FD, place, time, elements.centre, elements.normal, C)
    with pytest.raises(ConfigError, match=r"centre, normal: shapes \(24, 3\) and \(23, 3\)"):
        Aperture.of(elements.centre, elements.normal[1:])


@pytest.mark.parametrize("distance", [1e-6, 1e-8, 1e-9])
def test_a_time_next_to_a_sample_reads_that_sample(distance):
    """A fraction of 1 - 1e-8 of a sample is 1 in single precision: it once read beyond the table of weights."""
    place, centre, normal = np.array([[0.0, 0.0, 1e-2]]), np.zeros((1, 3)), np.array([[0.0, 0.0, 1.0]])
    time = np.array([[32.0 - distance]]) - 1e-2 / 1540.0
    iq = np.ones((1, 64, 1), np.complex64)
    value = das(iq, np.zeros(1), 1.0, 0.0, place, time, centre, normal, 1540.0, f_number=0.0, apodization="boxcar")
    assert abs(value[0, 0] - 1.0) < 2e-3
