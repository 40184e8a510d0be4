"""Channel RF: what every element records of every transmission, as Field II and SIMUS simulate it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from usim.elements import Elements, Firings, elements_of, firings_of
from usim.engines import channels
from usim.engines.response import Response
from usim.engines.sir import Face, Physics, definition, face_of
from usim.engines.threads import each
from usim.errors import ConfigError, DataError, ResourceError
from usim.events import Event
from usim.medium import Medium
from usim.probe import Probe
from usim.scatterers import Scatterers

Array = NDArray[np.float64]
Backend = Literal["numba", "numpy"]
MOST_BYTES = 16e9  # of channel data, while it is made
MOST_SAMPLES = 2**22  # of one channel: some 100 m of water at 30 MHz
MANY_TRANSMISSIONS = 16  # from here on the echoes of all pairs of elements cost less than those of each transmission
CHANNELS_AT_ONCE = 32  # that one thread transforms
MOST_AMPLITUDE = 1e15
MOST_PAIRED = 256  # elements up to which all pairs are kept


@dataclass(frozen=True, eq=False)
class RF:
    """Channel data and what it was made with.

    data: (T, S, E) float32, T transmissions, S samples, E elements; the continuous inverse Fourier transform
    of RF_e(f) as simulate_rf defines it.  t0: (T,) seconds, time of the first sample; transmit time zero
    is when the first active element fires, with the excitation centred on it.  sampling_frequency: Hz.
    elements, firings, events, medium: the array, its delays and weights (T, E), what they came from, and the medium.
    center_frequency: Hz.  band: (low, high) Hz, outside which nothing was computed: -70 dB of the spectrum's peak.
    """

    data: NDArray[np.float32]
    t0: Array
    sampling_frequency: float
    elements: Elements
    firings: Firings
    events: tuple[Event, ...]
    medium: Medium
    center_frequency: float
    band: tuple[float, float]

    @property
    def sound_speed(self) -> float:
        """Metres per second."""
        return self.medium.sound_speed

    @property
    def time(self) -> Array:
        """Time of every sample (T, S), seconds."""
        return self.t0[:, None] + np.arange(self.data.shape[1]) / self.sampling_frequency


def simulate_rf(
    probe: Probe | str,
    transmit: Event | Sequence[Event],
    medium: Medium,
    scatterers: Scatterers,
    *,
    sampling_frequency: float | None = None,
    dimensions: Literal["2d", "3d"] = "3d",
    baffle: Literal["soft", "rigid"] | float = "soft",
    directivity: Literal["full", "center"] = "full",
    sub_elements: Literal["auto"] | tuple[int, int] = "auto",
    backend: Backend = "numba",
) -> RF:
    """Simulate the channel RF of a cloud of point scatterers: linear acoustics, single scattering.

        RF_e(f) = P(f) R(f)^2 sum_s a_s T_s(f) G_e,s(f)

    with T the field that the transmission makes at a scatterer and G the response of an element to it, both summed over
    sub-elements (usim/engines/sir.py has the formulas; SIMUS, Garcia 2022, the model).

    probe: a Probe or a preset's name.  transmit: an event or several (PlaneWave, Focused, Diverging, FullMatrix,
    Delays); a list is a sequence.  sampling_frequency: Hz; None: four times the centre frequency, or what a wider band
    needs.  dimensions: "3d", with elements of finite height and their lens, or "2d".  baffle: "soft", "rigid" or the
    ratio of the medium's impedance to the baffle's.  directivity: of sub-elements, at every frequency ("full") or as at
    the centre frequency ("center", as SIMUS does unless told otherwise).  sub_elements: (along x, along y) per element,
    or "auto": none wider than a wavelength at the upper edge of the probe's band.  backend: "numba", or "numpy", the
    definition in double precision, for small clouds.
    Returns an RF.  Raises ConfigError, DataError (scatterers behind the array) or ResourceError before any work.

    >>> import usim
    >>> cloud = usim.Scatterers(position=[[0.0, 0.0, 0.02]], amplitude=[1.0])
    >>> rf = usim.simulate_rf("L11-5v", usim.PlaneWave(), usim.Medium(), cloud, dimensions="2d", directivity="center")
    >>> rf.data.shape[::2]
    (1, 128)
    """
    probe = Probe.preset(probe) if isinstance(probe, str) else probe
    for name, given, kind in (("probe", probe, Probe), ("medium", medium, Medium)):
        if not isinstance(given, kind):
            raise ConfigError(f"{name}: expected usim.{kind.__name__}, got {type(given).__name__}")
    events = tuple(transmit) if isinstance(transmit, list | tuple) else (transmit,)
    physics = _physics(dimensions, baffle, directivity, sub_elements)
    if backend not in get_args(Backend):
        raise ConfigError(f"backend: '{backend}' is none of {', '.join(get_args(Backend))}")
    elements = elements_of(probe)
    firings = firings_of(events, elements, medium.sound_speed)
    _refuse_scatterers(scatterers, elements, dimensions)
    face = face_of(elements, medium, physics, probe.center_frequency, probe.fractional_bandwidth)
    longest = 2.0 * float(channels.travel_times(face, *channels.box(scatterers))[1].max()) * medium.sound_speed
    groups: dict[tuple, list[int]] = {}
    for number, event in enumerate(events):
        groups.setdefault((event.cycles, event.excitation), []).append(number)
    responses = [Response.of(probe, events[first], medium, longest) for first, *_ in groups.values()]
    rate = _sampling_frequency(sampling_frequency, probe, responses)
    times = [channels.echo_times(face, firings, response, scatterers) for response in responses]
    first, last = min(t[0] for t in times), max(t[1] for t in times)
    _refuse_too_large(len(firings), len(elements), (last - first) * rate)
    parts = []
    for response, numbers in zip(responses, groups.values(), strict=True):
        rows = np.flatnonzero(np.isin(firings.event, numbers))
        some = Firings(firings.delays[rows], firings.weights[rows], firings.event[rows])
        clock = channels.make_clock(response, rate, first, last)
        parts.append((rows, record_of(face, some, response, scatterers, clock, backend)))
    length = math.ceil((last - parts[0][1].clock.start) * rate) + 1
    data = np.empty((len(firings), length, len(elements)), np.float32)
    for rows, record in parts:
        _to_samples(record, rate, rows, data)
    return RF(
        data, np.full(len(firings), parts[0][1].clock.start), rate, elements, firings, events, medium,
        probe.center_frequency, (min(r.low for r in responses), max(r.high for r in responses)),
    )  # fmt: skip


def record_of(
    face: Face, firings: Firings, response: Response, scatterers: Scatterers, clock: channels.Clock, backend: Backend
) -> channels.Record:
    """The record (T E, M) of transmissions that share an excitation, by the way that costs least."""
    if backend == "numpy":
        spectrum = definition(face, firings, response, scatterers, clock.frequency)
        spectrum *= np.exp(2j * np.pi * clock.frequency * clock.start) * clock.rate
        samples = fft.ifft(spectrum.reshape(-1, clock.count), axis=1)
        return channels.Record(clock, samples.astype(np.complex64))
    if len(firings) < MANY_TRANSMISSIONS or len(face.elements) > MOST_PAIRED:
        return channels.fire(face, firings, response, scatterers, clock)
    return channels.synthesise(channels.capture(face, response, scatterers, clock), firings)


def _to_samples(record: channels.Record, rate: float, rows: NDArray[np.int64], data: NDArray[np.float32]) -> None:
    """Real samples into data[rows] (T, S, E) from the record: twice the real part of the one-sided transform."""
    clock, elements = record.clock, data.shape[2]
    samples = round(rate / clock.step)
    kept = min(clock.count, samples // 2 + 1 - clock.lowest)

    def back(first: int) -> None:
        event, start = divmod(first, elements)
        part = slice(start, min(start + CHANNELS_AT_ONCE, elements))
        heard = slice(event * elements + part.start, event * elements + part.stop)
        spectrum = fft.fft(record.samples[heard], axis=1)
        padded = np.zeros((len(spectrum), samples // 2 + 1), np.complex64)
        padded[:, clock.lowest : clock.lowest + kept] = spectrum[:, :kept] * np.float32(rate / clock.rate)
        data[rows[event], :, part] = fft.irfft(padded, samples, axis=1)[:, : data.shape[1]].T

    # blocks that do not depend on the number of threads: a transform's last digits depend on how many are done at once
    each(back, (t * elements + e for t in range(len(rows)) for e in range(0, elements, CHANNELS_AT_ONCE)))


def _physics(dimensions: str, baffle: str | float, directivity: str, sub_elements: object) -> Physics:
    for name, given, allowed in (
        ("dimensions", dimensions, ("2d", "3d")),
        ("directivity", directivity, ("full", "center")),
    ):
        if given not in allowed:
            raise ConfigError(f"{name}: '{given}' is none of {', '.join(allowed)}")
    if isinstance(baffle, str) and baffle not in ("soft", "rigid"):
        raise ConfigError(f"baffle: '{baffle}' is none of soft, rigid, nor a ratio of impedances")
    if not isinstance(baffle, str) and not 0.0 <= baffle <= 1e6:
        raise ConfigError(f"baffle: the ratio of impedances is {baffle}, expected 0 to 1e6")
    if sub_elements != "auto":
        numbers = sub_elements if isinstance(sub_elements, tuple | list) else (0,)
        if len(numbers) != 2 or any(not isinstance(n, int) or n < 1 for n in numbers):
            raise ConfigError(f"sub_elements: {sub_elements!r} is neither 'auto' nor two whole numbers (x, y) above 0")
        sub_elements = tuple(numbers)
    return Physics(dimensions, baffle, directivity, sub_elements)  # type: ignore[arg-type]


def _refuse_scatterers(scatterers: Scatterers, elements: Elements, dimensions: str) -> None:
    if not isinstance(scatterers, Scatterers):
        raise DataError(f"scatterers: expected usim.Scatterers(position, amplitude), got {type(scatterers).__name__}")
    if not len(scatterers):
        raise DataError("scatterers: there are none; give at least one (its amplitude may be 0)")
    strongest = int(np.argmax(np.abs(scatterers.amplitude)))
    if abs(scatterers.amplitude[strongest]) > MOST_AMPLITUDE:
        raise DataError(
            f"scatterers.amplitude: row {strongest} is {scatterers.amplitude[strongest]:g}, at most {MOST_AMPLITUDE:g} "
            "is allowed; channel data are single precision: scale the cloud down, and the data up"
        )
    used = np.array([1.0, 1.0 if dimensions == "3d" else 0.0, 1.0])
    # in blocks: scatterers times elements may be more than fits into memory
    for start in range(0, len(scatterers), 65536):
        position = scatterers.position[start : start + 65536] * used
        ahead = np.full(len(position), -np.inf)
        for centre, normal in zip(elements.centre * used, elements.normal, strict=True):
            np.maximum(ahead, (position - centre) @ normal, out=ahead)
        if (ahead <= 0.0).any():
            row = start + int(np.argmax(ahead <= 0.0))
            place = ", ".join(f"{1e3 * v:g}" for v in scatterers.position[row])
            raise DataError(
                f"scatterers.position: row {row} at ({place}) mm lies behind the array or on an element; only what is "
                "in front of an element (z > 0 for a flat array) is heard: move or remove it"
            )


def _sampling_frequency(given: float | None, probe: Probe, responses: list[Response]) -> float:
    highest = max(response.high for response in responses)
    if given is None:
        return max(channels.SAMPLES_PER_PERIOD * probe.center_frequency, 2.2 * highest)
    if isinstance(given, bool) or not isinstance(given, int | float | np.number):
        raise ConfigError(f"sampling_frequency: expected a number in Hz or None, got {given!r}")
    if not (math.isfinite(given) and 2.0 * highest <= given <= 1e10):
        raise ConfigError(
            f"sampling_frequency: {given / 1e6:g} MHz; the band reaches to {highest / 1e6:.4g} MHz, so that at least "
            f"{2e-6 * highest:.4g} MHz (and at most 10 GHz) is needed; None takes a fitting one"
        )
    return float(given)


def _refuse_too_large(transmissions: int, elements: int, samples: float) -> None:
    if not samples <= MOST_SAMPLES:
        raise ResourceError(
            f"simulate_rf: echoes last for {samples:.3g} samples, at most {MOST_SAMPLES} are allowed; "
            "bring the scatterers nearer, or lower the sampling frequency or the delays"
        )
    paired = transmissions >= MANY_TRANSMISSIONS and elements <= MOST_PAIRED
    needed = 12.0 * transmissions * elements * samples + (8.0 * elements**2 * samples if paired else 0.0)
    if needed > MOST_BYTES:
        raise ResourceError(
            f"simulate_rf: {transmissions} transmissions x {samples:.0f} samples x {elements} elements take "
            f"{needed / 1e9:.1f} GB, at most {MOST_BYTES / 1e9:g} GB are allowed; simulate fewer events at a time"
        )
