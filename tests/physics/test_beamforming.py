"""Delay and sum on echoes written here: point targets at their place and of their width, sums in the frequency domain,
and another program's matrix."""

from types import SimpleNamespace

import numpy as np
import pytest
from element_sum import PROBES, SPEED, ElementSum
from scenes import full_width, nrmse_db

from usim.beamforming import arrival_times, beamform, das, demodulate
from usim.elements import elements_of, firings_of
from usim.events import Delays, Diverging, Focused, FullMatrix, PlaneWave
from usim.probe import Probe
from usim.process import rf_to_iq

CENTRE, RATE = 7.6e6, 30.4e6
LAMBDA = SPEED / CENTRE
LINEAR = Probe(
    elements=64, pitch=0.3e-3, element_width=0.27e-3, element_height=5e-3, elevation_focus=18e-3,
    center_frequency=CENTRE, fractional_bandwidth=0.77,
)  # fmt: skip
CONVEX = LINEAR.model_copy(update={"radius": 40e-3})
SIGMA = 0.15e-6  # s, of the Gaussian pulse
PULSE_WIDTH = 2.0 * np.sqrt(2.0 * np.log(2.0)) * SIGMA * SPEED / 2.0  # full -6 dB width of the echo, metres
TARGET = np.array([1.2e-3, 0.0, 14.1e-3])
EVENTS = {
    "plane": PlaneWave(),
    "steered": PlaneWave(angle=np.radians(12.0)),
    "before the focus": Focused(point=(0.5e-3, 0.0, 20e-3)),
    "behind the focus": Focused(point=(1e-3, 0.0, 8e-3), apodization=tuple(np.r_[np.zeros(20), np.ones(34), [0] * 10])),
    "diverging": Diverging(source=(0.0, 0.0, -12e-3)),
    "matrix": FullMatrix(),
    "delays": Delays(delays=tuple(np.linspace(0.0, 2e-6, 64))),
}


def record(events, elements, data, t0, band=(1e6, 14.2e6)):
    firings = firings_of(events, elements, SPEED)
    return SimpleNamespace(
        data=data, t0=t0, sampling_frequency=RATE, elements=elements, firings=firings, events=tuple(events),
        sound_speed=SPEED, center_frequency=CENTRE, band=band,
    )  # fmt: skip


def echoes(events, target=TARGET, probe=LINEAR, samples=500):
    """Channel data of one point: every element radiates alike, every path adds one Gaussian pulse at its arrival."""
    elements = elements_of(probe)
    firings = firings_of(events, elements, SPEED)
    away = np.linalg.norm(elements.centre - target, axis=1) / SPEED
    t0 = np.full(len(firings), 2.0 * target[2] / SPEED - 3e-6) + np.linspace(0.0, 1e-6, len(firings))
    data = np.zeros((len(firings), samples, len(elements)))
    for t, (delays, weights) in enumerate(zip(firings.delays, firings.weights, strict=True)):
        time = t0[t] + np.arange(samples) / RATE
        for j in np.flatnonzero(weights):
            late = time[:, None] - (delays[j] + away[j] + away)
            near = np.abs(late) < 6.0 * SIGMA
            pulse = np.exp(-0.5 * (late[near] / SIGMA) ** 2) * np.cos(2.0 * np.pi * CENTRE * late[near])
            data[t][near] += weights[j] * pulse
    return record(events, elements, data.astype(np.float32), t0)


@pytest.mark.parametrize("kind", EVENTS)
def test_a_point_lies_at_its_place_and_has_its_width(kind):
    """Depth and side within lambda/8; pulse width 5 %; 1.207 lambda F seen by one way, 0.886 lambda F by two, 5 %."""
    rf, f_number = echoes((EVENTS[kind],)), 1.5
    x, z = TARGET[0] + np.linspace(-1e-3, 1e-3, 81), TARGET[2] + np.linspace(-0.5e-3, 0.5e-3, 101)
    image = np.abs(beamform(rf, (x, z), f_number=f_number, apodization="boxcar"))
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert abs(z[row] - TARGET[2]) < LAMBDA / 8
    assert abs(x[column] - TARGET[0]) < LAMBDA / 8
    assert full_width(z, image[:, column], image.max() / 2.0) == pytest.approx(PULSE_WIDTH, rel=0.05)
    expected = {"matrix": 0.886, "before the focus": None, "behind the focus": None}.get(kind, 1.207)
    if expected is not None:  # a focused wave is no wide plane one: it narrows the point by its own beam
        assert full_width(x, image[row], image.max() / 2.0) == pytest.approx(expected * LAMBDA * f_number, rel=0.05)


@pytest.mark.parametrize("event", [PlaneWave(), Diverging(source=(0.0, 0.0, -40e-3)), FullMatrix()], ids=str)
def test_a_convex_array_sees_a_point_at_its_place(event):
    target = np.array([5e-3, 0.0, 15e-3])
    x, z = target[0] + np.linspace(-0.5e-3, 0.5e-3, 41), target[2] + np.linspace(-0.3e-3, 0.3e-3, 61)
    image = np.abs(beamform(echoes((event,), target, CONVEX), (x, z)))
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert abs(z[row] - target[2]) < LAMBDA / 8
    assert abs(x[column] - target[0]) < LAMBDA / 8


def test_compounded_angles_narrow_the_point():
    """Eleven plane waves within the receive aperture's angles approach the synthetic aperture."""
    x = TARGET[0] + np.linspace(-1e-3, 1e-3, 81)
    events = [PlaneWave(angle=float(a)) for a in np.arctan(np.linspace(-1 / 3, 1 / 3, 11))]
    image = np.abs(beamform(echoes(events), (x, TARGET[2:]), f_number=1.5, apodization="boxcar"))[0]
    assert abs(x[image.argmax()] - TARGET[0]) < LAMBDA / 8
    assert full_width(x, image, image.max() / 2.0) == pytest.approx(0.886 * LAMBDA * 1.5, rel=0.08)


def channels(model, x_s, z_s, column, t0, samples):
    """Channel data (1, S, E) of the element sum for the transmit event of one column, one period of its spectrum."""
    green = model.green(x_s, z_s)
    spectrum = model.spectrum * model.incident(green, column)
    time = t0 + np.arange(samples) / RATE
    signal = np.exp(2j * np.pi * np.outer(time, model.frequency)) @ (spectrum[:, None] * green)
    period = 1.0 / (model.frequency[1] - model.frequency[0])
    slant = model.transmit[1] if model.transmit[0] == "plane" else 0.0
    arrival = (z_s * np.cos(slant) + x_s * np.sin(slant) + np.hypot(x_s - model.element, z_s)) / SPEED
    return (signal.real * (np.abs(time[:, None] - arrival) < period / 2.0))[None].astype(np.float32)


@pytest.mark.parametrize("angle", [0.0, 10.0])
def test_plane_waves_equal_a_sum_in_the_frequency_domain(angle):
    """In the house's convention, the carrier of the true depth included: -65 dB against sums that know no samples.

    (-76 dB straight ahead and -69 dB steered, where edge waves leave the period that the records hold.)
    """
    angle = np.radians(angle)
    model = ElementSum("L11-5v", ("plane", angle), (1.5, "hann"))
    x_s, z_s = 1.1e-3, 12.3e-3
    x, z = x_s + np.linspace(-0.5e-3, 0.5e-3, 5), z_s + np.linspace(-0.3e-3, 0.3e-3, 25)
    start = (z_s * np.cos(angle) + x_s * np.sin(angle) + z_s) / SPEED - 3.5e-6
    data = channels(model, x_s, z_s, 0.0, start, 240)
    rf = record((PlaneWave(angle=angle),), elements_of(Probe.preset("L11-5v")), data, np.array([start]))
    shift = rf.firings.delays[0, -1] - np.sin(angle) * model.element[-1] / SPEED  # the sum's time zero: at the column
    rf.t0 = rf.t0 + shift
    found = demodulate(beamform(rf, (x, z)), z[:, None], CENTRE, SPEED)
    expected = model.image(x_s, z_s, x, z)
    assert nrmse_db(found, expected) < -65.0


def test_focused_lines_equal_a_sum_in_the_frequency_domain():
    """Every column by its own transmit event, before, at and behind the focus: -70 dB."""
    focus, x_s = 14e-3, 0.4e-3
    model = ElementSum("L11-5v", ("focused", focus, 2.5), (1.5, "hann"))
    columns, elements = x_s + np.linspace(-0.4e-3, 0.4e-3, 4), elements_of(Probe.preset("L11-5v"))
    events = [
        Focused(point=(x, 0.0, focus), apodization=tuple((np.abs(model.element - x) <= focus / 5.0) * 1.0))
        for x in columns
    ]
    for z_s in (9e-3, 13.9e-3, 19e-3):
        z, start = z_s + np.linspace(-0.3e-3, 0.3e-3, 25), 2.0 * z_s / SPEED - 3.5e-6
        data = np.concatenate([channels(model, x_s, z_s, x, start, 240) for x in columns])
        rf = record(events, elements, data, np.full(4, start))
        used = rf.firings.weights != 0.0
        depth = np.hypot(focus, model.element - columns[:, None])
        rf.t0 = rf.t0 + np.where(used, depth, 0.0).max(axis=1) / SPEED - focus / SPEED  # its time zero: at the column
        found = demodulate(beamform(rf, (columns, z), lines=True), z[:, None], CENTRE, SPEED)
        assert nrmse_db(found, model.image(x_s, z_s, columns, z)) < -70.0


def test_agreement_with_pymust():
    """dasmtx of PyMUST on the same baseband data, four times denser for its linear interpolation: -60 dB."""
    pymust = pytest.importorskip("pymust")
    event, rf = EVENTS["steered"], echoes((EVENTS["steered"],))
    iq = rf_to_iq(rf.data.astype(np.float64), rf.t0, RATE, CENTRE, upsample=4)
    x, z = np.meshgrid(TARGET[0] + np.linspace(-2e-3, 2e-3, 21), TARGET[2] + np.linspace(-1e-3, 1e-3, 41))
    points = np.stack([x, 0.0 * x, z], axis=-1).reshape(-1, 3)
    time = arrival_times(event, rf.firings.delays[0], rf.firings.weights[0], rf.elements.centre, SPEED, points)
    found = das(
        iq.astype(np.complex64), rf.t0, 4 * RATE, CENTRE, points, time[None], rf.elements.centre, rf.elements.normal,
        SPEED, f_number=1.5, apodization="boxcar", normalise="none",
    )  # fmt: skip
    param = pymust.utils.Param()
    param.fs, param.pitch, param.width, param.fc, param.c = 4 * RATE, LINEAR.pitch, LINEAR.element_width, CENTRE, SPEED
    param.t0, param.fnumber, param.Nelements = rf.t0, 1.5, 64
    matrix = pymust.dasmtx(1j * np.array(iq.shape[1:]), x, z, rf.firings.delays.copy(), param)
    expected = (matrix @ iq[0].flatten(order="F")).reshape(x.shape, order="F")
    assert nrmse_db(found.reshape(x.shape), expected) < -60.0


def test_the_probe_of_the_sum_is_the_preset():
    count, pitch, width, centre, _ = PROBES["L11-5v"]
    elements = elements_of(Probe.preset("L11-5v"))
    assert (len(elements), elements.width, CENTRE) == (count, width, centre)
    np.testing.assert_allclose(np.diff(elements.centre[:, 0]), pitch)
