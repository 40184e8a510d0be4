"""Channel data against what is known of it: fields in closed form, symmetries, and the engine's definition."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scenes import nrmse_db
from simus import on_grid, scattered

from usim.elements import elements_of
from usim.engines.response import Response
from usim.engines.sir import Physics, face_of, propagation
from usim.events import Delays, Diverging, Focused, FullMatrix, PlaneWave
from usim.medium import Medium
from usim.probe import Probe, Waveform
from usim.rf import simulate_rf
from usim.scatterers import Scatterers

SPEED, CENTRE = 1540.0, 3e6
LAMBDA = SPEED / CENTRE
WAVENUMBER = 2.0 * np.pi / LAMBDA
LOSSLESS = Medium(attenuation=0.0)
BAND = {"center_frequency": CENTRE, "fractional_bandwidth": 0.7}
RIGID = Physics("3d", "rigid", "full", "auto")
LINEAR = Probe(elements=12, pitch=0.3e-3, element_width=0.27e-3, element_height=3e-3, elevation_focus=15e-3, **BAND)
FLAT = LINEAR.model_copy(update={"elevation_focus": None})
CONVEX = LINEAR.model_copy(update={"radius": 15e-3, "elements": 20})
MATRIX = Probe.matrix(
    elements=(5, 4), pitch=(0.3e-3, 0.4e-3), element_width=0.28e-3, element_height=0.35e-3, center_frequency=CENTRE,
    fractional_bandwidth=0.7,
)  # fmt: skip
SEVERAL = (0.5 * LAMBDA, 2e-3, 5e-3, 12e-3, 40e-3)


def field(probe, points, frequency=CENTRE, physics=RIGID):
    """G (S, E) of every element at points (S, 3) and one frequency."""
    face = face_of(elements_of(probe), LOSSLESS, physics, probe.center_frequency, probe.fractional_bandwidth)
    return propagation(face, np.atleast_2d(points), np.array([frequency]))[..., 0]


def on_axis(depths):
    depths = np.asarray(depths)
    return np.stack([np.zeros(len(depths)), np.zeros(len(depths)), depths], axis=1)


def piston(radius=4.0 * LAMBDA, rings=40):
    """A disc of equal squares: ring m has 4 (2 m + 1) of them, so that all have the same area."""
    width = radius / rings
    positions = []
    for m in range(rings):
        angle = 2.0 * np.pi * (np.arange(4 * (2 * m + 1)) + 0.5 * (m % 2)) / (4 * (2 * m + 1))
        positions += [(width * (m + 0.5) * np.cos(a), width * (m + 0.5) * np.sin(a), 0.0) for a in angle]
    side = np.sqrt(np.pi * radius**2 / len(positions))
    return Probe.from_elements(positions, element_width=side, element_height=side, **BAND)


def piston_field(depth, radius=4.0 * LAMBDA):
    """Pressure over rho c U on the axis of a piston in a rigid baffle; its size is 2 |sin(k/2 (hypot(z, a) - z))|."""
    return np.exp(-1j * WAVENUMBER * depth) - np.exp(-1j * WAVENUMBER * np.hypot(depth, radius))


def test_piston_on_axis():
    """The field of many elements, in size and phase, from half a wavelength on: within 4.7e-3 of rho c U with 60 rings.

    With 30 rings it is four times that: what is left is the size of the squares.
    """
    depth = np.linspace(0.5 * LAMBDA, 40.0 * LAMBDA, 80)
    worst = []
    for rings in (30, 60):
        probe = piston(rings=rings)
        area = np.pi * (4.0 * LAMBDA) ** 2 / probe.elements
        found = 1j * WAVENUMBER / (2.0 * np.pi) * area * field(probe, on_axis(depth)).sum(axis=1)
        worst.append(np.abs(found - piston_field(depth)).max())
        print(f"{rings} rings: {worst[-1]:.1e}")
    size = 2.0 * np.abs(np.sin(0.5 * WAVENUMBER * (np.hypot(depth, 4.0 * LAMBDA) - depth)))
    np.testing.assert_allclose(np.abs(found), size, atol=6e-3)
    assert worst[1] < 6e-3
    assert worst[0] / worst[1] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("depth", [4 * LAMBDA, 6.3 * LAMBDA, 16 * LAMBDA, 40 * LAMBDA])
def test_piston_in_channel_data(depth):
    """A point on the axis, all channels added: the square of the piston's field at the centre frequency, to 0.5 %."""
    probe = piston()
    rf = simulate_rf(probe, PlaneWave(), LOSSLESS, Scatterers(on_axis([depth]), np.ones(1)), baffle="rigid")
    heard = at_frequency(rf, CENTRE)[0].sum() / response_of(probe)(np.array([CENTRE]))[0]
    area = np.pi * (4.0 * LAMBDA) ** 2 / probe.elements
    found = (1j * WAVENUMBER / (2.0 * np.pi) * area) ** 2 * heard
    print(f"{abs(found / piston_field(depth) ** 2 - 1.0):.1e}")
    assert found == pytest.approx(piston_field(depth) ** 2, rel=7e-3)


def at_frequency(rf, frequency):
    """Fourier transform (T, E) of channel data at one frequency."""
    turns = np.exp(-2j * np.pi * frequency * rf.time)
    return np.einsum("tse,ts->te", rf.data.astype(np.float64), turns) / rf.sampling_frequency


def response_of(probe, event=None, medium=LOSSLESS):
    return Response.of(probe, event or PlaneWave(), medium, 1.0)


def test_rectangle_on_axis():
    """One element of 6 x 10 wavelengths against the exact integral around its edge: to 2e-3 of rho c U from 3 mm on.

    Over the face, exp(-i k r) / r is i / k times the difference of exp(-i k r) at the edge and at the centre, averaged
    over the angle.
    """
    width, height = 6.0 * LAMBDA, 10.0 * LAMBDA
    probe = Probe.from_elements([(0, 0, 0)], element_width=width, element_height=height, **BAND)
    depth = np.linspace(3e-3, 60e-3, 200)
    angle = 2.0 * np.pi * (np.arange(20000) + 0.5) / 20000
    edge = np.minimum(width / 2.0 / np.abs(np.cos(angle)), height / 2.0 / np.abs(np.sin(angle)))
    exact = np.exp(-1j * WAVENUMBER * depth) - [np.exp(-1j * WAVENUMBER * np.hypot(z, edge)).mean() for z in depth]
    physics = Physics("3d", "rigid", "full", (36, 60))
    found = 1j * WAVENUMBER / (2.0 * np.pi) * width * height * field(probe, on_axis(depth), physics=physics)[:, 0]
    print(f"{np.abs(found - exact).max():.1e}")
    np.testing.assert_allclose(found, exact, atol=4e-3)


@pytest.mark.parametrize("split", [(1, 1), (6, 4)])
def test_far_field_of_an_element(split):
    """10 m away: sinc(w u_x / lambda) sinc(h u_y / lambda) cos theta / r, however the element is split; to 2e-4."""
    probe = Probe.from_elements([(0, 0, 0)], element_width=1.5e-3, element_height=0.8e-3, **BAND)
    ux, uy = np.meshgrid(np.linspace(-0.8, 0.8, 41), np.linspace(-0.5, 0.5, 11))
    cos = np.sqrt(1.0 - ux**2 - uy**2)
    away = 10.0 * np.stack([ux, uy, cos], axis=-1).reshape(-1, 3)
    found = field(probe, away, physics=Physics("3d", "soft", "full", split))[:, 0]
    expected = np.sinc(1.5e-3 * ux / LAMBDA) * np.sinc(0.8e-3 * uy / LAMBDA) * cos / 10.0
    found *= np.exp(1j * WAVENUMBER * 10.0)
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-4)


def test_far_field_of_an_array():
    """A steered array: the array's factor times the element's, to 1e-3 of its peak."""
    sine = np.linspace(-0.9, 0.9, 181)
    away = 50.0 * np.stack([sine, np.zeros(181), np.sqrt(1.0 - sine**2)], axis=1)
    steer = np.sin(np.radians(20.0))
    fired = np.exp(-1j * WAVENUMBER * elements_of(FLAT).centre[:, 0] * steer)
    found = np.abs(field(FLAT, away) @ fired) * 50.0
    phase = WAVENUMBER * FLAT.pitch * (sine - steer) / 2.0
    expected = np.abs(np.sin(12 * phase) / np.sin(phase) * np.sinc(FLAT.element_width * sine / LAMBDA))
    np.testing.assert_allclose(found, expected, atol=0.012)


POINTS = Probe.from_elements(
    [(-4e-3, 0, 0), (0, 0, 0), (6e-3, 0, 0)], element_width=4e-6, element_height=4e-6, **BAND
)  # fmt: skip


@pytest.mark.parametrize(("dimensions", "power"), [("3d", 1.0), ("2d", 0.5)])
def test_two_way_spreading(dimensions, power):
    """Echoes go with 1 / (r_tx r_rx), square roots in 2-D, to 0.1 %; 1 / (r_tx + r_rx) is off by 25 % and more."""
    place = np.array([-3e-3, 0.0, 5e-3])
    rf = simulate_rf(
        POINTS, FullMatrix(), LOSSLESS, Scatterers([place], [1.0]), dimensions=dimensions, baffle="rigid",
        directivity="center",
    )  # fmt: skip
    size = np.abs(at_frequency(rf, CENTRE))
    r = np.linalg.norm(elements_of(POINTS).centre - place, axis=1)
    product, total = (r[:, None] * r) ** -power, (r[:, None] + r) ** -power
    np.testing.assert_allclose(size / size[0, 0], product / product[0, 0], rtol=1e-3)
    assert np.abs(size / size[0, 0] / (total / total[0, 0]) - 1.0).max() > 0.25
    peak = abs(response_of(POINTS)(np.array([CENTRE]))[0])
    np.testing.assert_allclose(size, peak * product, rtol=1e-3)


CLOUD = scattered(60, (-6, 6), (2, 25), (-3, 3), seed=5)
STEERED = PlaneWave(angle=0.15)


def rf_of(cloud, event=STEERED, probe=LINEAR, medium=LOSSLESS, **options):
    return simulate_rf(probe, event, medium, cloud, **options)


def on_clock(rf, count=700):
    """Data (T, count, E) from t = 0 on: records start and end with the echoes that they hold."""
    first = np.round(rf.t0 * rf.sampling_frequency).astype(int)
    return np.stack([on_grid(data, n, count) for data, n in zip(rf.data, first, strict=True)])


def reached(what, found, expected):
    decibel = nrmse_db(found, expected)
    print(f"{what}: {decibel:.1f} dB")
    return decibel


def alone(probe, count):
    """The first elements, each alone, as events: fewer than make the engine take the way of all pairs."""
    return [PlaneWave(apodization=tuple(np.eye(probe.elements)[i])) for i in range(count)]


@pytest.mark.parametrize("probe", [LINEAR, MATRIX, CONVEX], ids=["linear", "matrix", "convex"])
def test_reciprocity(probe):
    """Element i hears j as j hears i: single transmissions -95 dB and better, all pairs of elements to the last bit."""
    single = rf_of(CLOUD, alone(probe, 12), probe).data[:, :, :12]
    assert reached("single", single, single.transpose(2, 1, 0)) < -90.0
    pairs = rf_of(CLOUD, [FullMatrix(), FullMatrix()], probe).data[: probe.elements]
    assert np.array_equal(pairs, pairs.transpose(2, 1, 0))


def test_linear_in_the_amplitudes():
    """Three times the amplitudes, three times the data: float32, -131 dB."""
    tripled = Scatterers(CLOUD.position, 3.0 * CLOUD.amplitude)
    assert reached("tripled", rf_of(tripled).data, 3.0 * rf_of(CLOUD).data) < -120.0


def test_linear_in_the_weights():
    """What two halves of the array transmit adds up to what the whole does: -79 dB (pulses end at -60 dB elsewhere)."""
    delays, half = tuple(np.linspace(0.0, 1e-6, 12)), np.r_[np.ones(6), np.zeros(6)]
    a, b, both = (
        on_clock(rf_of(CLOUD, Delays(delays=delays, apodization=tuple(w)))) for w in (half, 1.0 - half, np.ones(12))
    )
    assert reached("halves", a + b, both) < -75.0


def test_superposition():
    """Two clouds together are the sum of their data: -80 dB (pulses end at -60 dB elsewhere)."""
    a, b = CLOUD, scattered(40, (-8, 8), (3, 30), (-2, 2), seed=6)
    both = Scatterers(np.concatenate((a.position, b.position)), np.concatenate((a.amplitude, b.amplitude)))
    assert reached("sum", *(on_clock(rf_of(a)) + on_clock(rf_of(b)), on_clock(rf_of(both)))) < -75.0


@pytest.mark.parametrize("place", [(1.3e-3, 0.2e-3, 11e-3), (0.0, 0.0, 60e-3), (-30e-3, 8e-3, 1e-3)], ids=str)
def test_a_silent_scatterer_changes_nothing(place):
    """An amplitude of 0: within the cloud not a bit, outside (where the record gets longer) at most -82 dB."""
    silent = Scatterers(np.concatenate((CLOUD.position, [place])), np.append(CLOUD.amplitude, 0.0))
    before, after = rf_of(CLOUD), rf_of(silent)
    assert reached("silent", on_clock(after), on_clock(before)) < -75.0
    inside = ((CLOUD.position.min(axis=0) < place) & (CLOUD.position.max(axis=0) > place)).all()
    assert np.array_equal(before.data, after.data) == inside


def test_order_does_not_matter():
    """Shuffled scatterers change the order of summation only: float32, -133 dB."""
    shuffle = np.random.default_rng(1).permutation(len(CLOUD))
    shuffled = Scatterers(CLOUD.position[shuffle], CLOUD.amplitude[shuffle])
    assert reached("shuffled", rf_of(shuffled).data, rf_of(CLOUD).data) < -120.0


def test_translation_by_a_pitch():
    """The cloud and the active elements one pitch on: every element hears what its neighbour heard, -102 dB."""
    first, second = (tuple(np.r_[np.zeros(n), np.ones(6), np.zeros(6 - n)]) for n in (2, 3))
    moved = Scatterers(CLOUD.position + np.array([LINEAR.pitch, 0.0, 0.0]), CLOUD.amplitude)
    a = on_clock(rf_of(CLOUD, PlaneWave(angle=0.2, apodization=first)))
    b = on_clock(rf_of(moved, PlaneWave(angle=0.2, apodization=second)))
    assert reached("pitch", b[:, :, 1:], a[:, :, :-1]) < -75.0


def test_translation_of_everything():
    """Array and cloud 7 mm, -2 mm and 4 mm on: the same data, -67 dB (tiles are cut elsewhere)."""
    shift, fields = np.array([7e-3, -2e-3, 4e-3]), {"element_width": 0.28e-3, "element_height": 0.35e-3, **BAND}
    here, there = (Probe.from_elements(elements_of(MATRIX).centre + v, **fields) for v in (0.0, shift))
    moved = Scatterers(CLOUD.position + shift, CLOUD.amplitude)
    assert reached("moved", rf_of(moved, PlaneWave(), there).data, rf_of(CLOUD, PlaneWave(), here).data) < -62.0


def test_mirror_symmetry():
    """A mirrored cloud and a wave steered the other way: the elements in reverse order, -132 dB."""
    mirrored = Scatterers(CLOUD.position * [-1.0, 1.0, 1.0], CLOUD.amplitude)
    a, b = rf_of(CLOUD, PlaneWave(angle=0.2)), rf_of(mirrored, PlaneWave(angle=-0.2))
    assert reached("mirror", b.data[:, :, ::-1], a.data) < -100.0


BURST = Waveform(
    samples=np.sin(2.0 * np.pi * 0.15 * np.arange(40)) * np.hanning(40), sampling_frequency=20e6, start=-0.5e-6
)  # fmt: skip
IMPULSE = Waveform(samples=np.diff(np.hanning(24), 2), sampling_frequency=40e6, start=-0.3e-6)
WAVES = {
    "plane": STEERED,
    "focused": Focused(point=(2e-3, 0.5e-3, 12e-3)),
    "diverging": Diverging(source=(0.0, 0.0, -8e-3), apodization="hann"),
    "delays": Delays(delays=tuple(np.linspace(0.0, 2e-6, 12))),
    "matrix": FullMatrix(),
    "a sequence": [PlaneWave(cycles=2), PlaneWave(angle=0.3, cycles=3), Focused(point=(0, 0, 9e-3), cycles=2)],
    "half a cycle": PlaneWave(cycles=0.5),
    "four cycles": PlaneWave(cycles=4),
    "samples": PlaneWave(excitation=BURST),
}
OPTIONS = {
    **{name: {"event": event} for name, event in WAVES.items()},
    **{f"2-D, {name}": {"event": event, "dimensions": "2d"} for name, event in WAVES.items()},
    **{
        f"{dimensions}, {baffle}, {directivity}": {
            "dimensions": dimensions,
            "baffle": baffle,
            "directivity": directivity,
        }
        for dimensions in ("2d", "3d")
        for baffle in ("soft", "rigid", 0.0, 0.6)
        for directivity in ("full", "center")
    },
    **{
        f"attenuation {power}, {dimensions}": {
            "medium": Medium(attenuation=0.8, attenuation_power=power),
            "dimensions": dimensions,
        }
        for power in (0.0, 0.5, 1.0, 1.5, 2.0)
        for dimensions in ("2d", "3d")
    },
    **{
        f"attenuation {power}, all pairs": {
            "medium": Medium(attenuation=0.8, attenuation_power=power),
            "event": FullMatrix(),
            "probe": MATRIX,
        }
        for power in (0.5, 1.5, 2.0)
    },
    "another speed": {"medium": Medium(sound_speed=1450.0, attenuation=0.0)},
    "without a lens": {"probe": FLAT},
    "without a lens, in the plane": {"probe": FLAT, "cloud": "plane"},
    "with a lens, in the plane": {"cloud": "plane"},
    "convex": {"probe": CONVEX},
    "convex, rigid, 2-D": {"probe": CONVEX, "baffle": "rigid", "dimensions": "2d"},
    "matrix array": {"probe": MATRIX},
    "matrix array, all pairs": {"probe": MATRIX, "event": FullMatrix(), "medium": Medium()},
    "matrix array, center": {"probe": MATRIX, "directivity": "center"},
    "impulse response": {"probe": LINEAR.model_copy(update={"impulse_response": IMPULSE})},
    "both sampled": {"probe": LINEAR.model_copy(update={"impulse_response": IMPULSE}), "event": WAVES["samples"]},
    "wide band": {"probe": LINEAR.model_copy(update={"fractional_bandwidth": 1.3})},
    "narrow band": {"probe": LINEAR.model_copy(update={"fractional_bandwidth": 0.2})},
    "three by four sub-elements": {"sub_elements": (3, 4)},
    "one sub-element": {"sub_elements": (1, 1)},
    "sampled faster": {"sampling_frequency": 31e6},
    "one scatterer": {"cloud": "one"},
}

CLOUDS = {
    "few": scattered(8, (-5, 5), (1, 14), (-2, 2), seed=7),
    "plane": scattered(8, (-5, 5), (1, 14), seed=8),
    "one": Scatterers([[1e-3, 0.5e-3, 7e-3]], [-2.0]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_kernels_reach_the_definition(name):
    """Every option against the definition in double precision: -75 dB, asked for is -60 dB."""
    options = {"cloud": "few", **OPTIONS[name]}
    cloud = CLOUDS[options.pop("cloud")]
    fast, exact = (rf_of(cloud, backend=backend, **options) for backend in ("numba", "numpy"))
    assert fast.t0.tolist() == exact.t0.tolist()
    assert reached(name, fast.data.astype(float), exact.data.astype(float)) < -60.0


def test_many_transmissions_equal_single_ones():
    """From 16 transmissions on the engine goes by all pairs of elements: -84 dB of single events."""
    events = [PlaneWave(angle=a) for a in np.linspace(-0.3, 0.3, 14)]
    events += [Focused(point=(1e-3, 0.0, 9e-3), apodization="hann"), Diverging(source=(0.0, 0.0, -5e-3))]
    together = on_clock(rf_of(CLOUD, events, medium=Medium()))
    single = np.concatenate([on_clock(rf_of(CLOUD, event, medium=Medium())) for event in events])
    assert reached("pairs", together, single) < -75.0


def test_the_full_matrix_holds_every_transmission():
    """Channel data of single elements, delayed and added by their spectra, are those of a steered wave: -86 dB."""
    matrix, wave = rf_of(CLOUD, FullMatrix()), rf_of(CLOUD)
    count = 2048
    frequency = np.fft.rfftfreq(count, 1.0 / matrix.sampling_frequency)
    spectra = np.fft.rfft(on_clock(matrix, count), axis=1)
    delayed = np.exp(-2j * np.pi * frequency * wave.firings.delays[0][:, None])[..., None]
    found = np.fft.irfft((spectra * delayed).sum(axis=0), count, axis=0)
    assert reached("synthesis", found, on_clock(wave, count)[0]) < -75.0


@pytest.mark.parametrize("power", [power for power in (0.5, 1.0, 1.5, 2.0)])
def test_attenuation_of_every_frequency(power):
    """The spectra of an echo with and without attenuation differ by a f^p dB/cm along both ways: to 0.05 dB."""
    medium, place = Medium(attenuation=0.3, attenuation_power=power), np.array([2e-3, 0.0, 20e-3])
    cloud = Scatterers([place], [1.0])
    with_loss, without = (
        rf_of(cloud, alone(POINTS, 1), POINTS, medium, sampling_frequency=24e6) for medium in (medium, LOSSLESS)
    )
    r = np.linalg.norm(elements_of(POINTS).centre - place, axis=1)
    for frequency in np.array([2.2, 3.0, 3.8]) * 1e6:
        ratio = at_frequency(with_loss, frequency)[0] / at_frequency(without, frequency)[0]
        expected = -0.3 * (frequency * 1e-6) ** power * 100.0 * (r[0] + r)
        np.testing.assert_allclose(20.0 * np.log10(np.abs(ratio)), expected, atol=0.05)
        assert np.abs(np.angle(ratio)).max() < 0.01


THREADS = """
import hashlib, numba
import numpy as np
from usim import FullMatrix, Focused, Medium, PlaneWave, Scatterers, simulate_rf
rng = np.random.default_rng(0)
position = rng.uniform([-15e-3, -2e-3, 1e-3], [15e-3, 2e-3, 30e-3], (3000, 3))
cloud = Scatterers(position, rng.standard_normal(3000))
for threads in (1, 2, 4):
    numba.set_num_threads(threads)
    digest = hashlib.sha256()
    several = [PlaneWave(angle=a / 50) for a in range(16)]
    for event in (PlaneWave(), [PlaneWave(), Focused(point=(0, 0, 0.02))], several):
        for dimensions in ("2d", "3d"):
            options = {"dimensions": dimensions, "directivity": "center", "sub_elements": (1, 2)}
            digest.update(simulate_rf("P4-2v", event, Medium(), cloud, **options).data.tobytes())
    print(threads, digest.hexdigest())
"""


def test_threads_do_not_change_a_bit():
    """1, 2 and 4 kernel threads: bit-identical channel data, of one transmission, of two, and by all pairs."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [threads for threads, _ in lines] == ["1", "2", "4"]
    assert len({digest for _, digest in lines}) == 1
