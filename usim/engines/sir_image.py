"""From scatterers to an image by the exact engine: channel data of the scan's transmissions, delay and sum.

A focused scan fires one beam per image column, its aperture centred on the column and cut at the array's ends; each
transmission makes its own column. An element that lies across the aperture's edge fires with the part of its pitch
that is inside. A plane wave makes the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from usim.beamforming import arrival_times, das, demodulate
from usim.elements import Elements, Firings, elements_of, firings_of, window
from usim.engines import channels
from usim.engines.aperture import half_aperture
from usim.engines.response import Response
from usim.engines.sir import Face, Physics, face_of
from usim.engines.threads import each
from usim.events import Event, Focused, PlaneWave
from usim.medium import Medium
from usim.probe import Probe
from usim.scan import Image, Receive
from usim.scatterers import Scatterers
from usim.transmit import FocusedScan, PlaneScan

Array = NDArray[np.float64]
LINES_AT_ONCE = 64  # transmissions whose channel data are kept
CHANNELS_AT_ONCE = 128  # that are transformed together, by one thread
OVERSAMPLING = 1.6  # of the record, for delay and sum: a third of a cycle per sample at the band's edge
WITHIN_PITCH = 16  # points over an element's pitch at which its weight is averaged


@dataclass(frozen=True, eq=False)
class SirPlan:
    """Everything that does not depend on the scatterers.

    Transmission t images `points[t]`, (T, P, 3) metres: a column of a focused scan, or the whole image.
    """

    probe: Probe
    transmit: FocusedScan | PlaneScan
    receive: Receive
    medium: Medium
    image: Image

    @property
    def descriptions(self) -> list[dict[str, Any]]:
        """All that the plan follows from, as plain data."""
        return [d.model_dump(mode="json") for d in (self.probe, self.transmit, self.receive, self.medium, self.image)]

    @cached_property
    def elements(self) -> Elements:
        """The array."""
        return elements_of(self.probe)

    @cached_property
    def face(self) -> Face:
        """The array in the medium: soft baffle, lens, and twice as many sub-elements along x as `auto`.

        Their directivity is that at the centre frequency; that of whole elements follows the frequency by their number.
        """
        medium = (self.elements, self.medium)
        frequency = (self.probe.center_frequency, self.probe.fractional_bandwidth)
        nx, ny = face_of(*medium, Physics(), *frequency).split
        return face_of(*medium, Physics(directivity="center", sub_elements=(2 * nx, ny)), *frequency)

    @cached_property
    def column(self) -> Array:
        """Lateral positions (T,) of the transmissions' beams, metres; 0 for a plane wave."""
        return self.image.x_axis() if isinstance(self.transmit, FocusedScan) else np.zeros(1)

    def events_at(self, column: Array) -> tuple[list[Event], Firings]:
        """The transmissions (T,) of beams at lateral positions `column` (T,), metres."""
        x, transmit, cycles = self.elements.centre[:, 0], self.transmit, self.transmit.cycles
        if isinstance(transmit, PlaneScan):
            events: list[Event] = [PlaneWave(angle=transmit.angle, cycles=cycles)]
            return events, firings_of(events, self.elements, self.medium.sound_speed)
        half = float(half_aperture(transmit.depth, transmit.f_number, self.probe))
        assert self.probe.pitch is not None
        inside = ((np.arange(WITHIN_PITCH) + 0.5) / WITHIN_PITCH - 0.5) * self.probe.pitch
        place = x[None, :, None] + inside - column[:, None, None]
        weights = window(transmit.apodization, place / half).mean(axis=2)
        travel = np.hypot(x[None, :] - column[:, None], transmit.depth) / self.medium.sound_speed
        # beyond the array's ends a column may have no aperture at all
        last = np.where(weights > 0.0, travel, 0.0).max(axis=1, keepdims=True)
        delays = np.where(weights > 0.0, last - travel, 0.0)
        events = [Focused(point=(float(c), 0.0, transmit.depth), cycles=cycles) for c in column]
        return events, Firings(delays, weights, np.arange(len(column)))

    @cached_property
    def scan(self) -> tuple[list[Event], Firings]:
        """The transmissions of the whole image."""
        return self.events_at(self.column)

    @property
    def axes(self) -> tuple[Array, Array]:
        """Lateral positions (X,) and depths (Z,) of the pixels, metres."""
        return self.image.x_axis(), self.image.z_axis()

    def below(self, scatterers: Scatterers) -> Array:
        """How deep (N,) scatterers lie below the array's face, metres."""
        return scatterers.z

    def sight(self, points: Array) -> Array:
        """The places (T, P, 3) whose receive apertures the points (T, P, 3) of all transmissions take, metres."""
        return points

    def points_of(self, number: int) -> Array:
        """Points (P, 3) that transmission `number` images, depth running fastest, metres."""
        x, z = self.axes
        x = x[number : number + 1] if isinstance(self.transmit, FocusedScan) else x
        grid = np.zeros((len(x), len(z), 3))
        grid[:, :, 0], grid[:, :, 2] = x[:, None], z
        return grid.reshape(-1, 3)

    def arrival(self, number: int, points: Array) -> Array:
        """When (P,) s transmission `number` of the scan arrives at points (P, 3); 0 if no element fires."""
        events, firings = self.scan
        if not firings.weights[number].any():
            return np.zeros(len(points))
        e, c = self.elements.centre, self.medium.sound_speed
        return arrival_times(events[number], firings.delays[number], firings.weights[number], e, c, points)

    def response(self, deepest: float) -> Response:
        """P R^2 and its band for paths as long as those to `deepest` metres."""
        events, _ = self.scan
        longest = 2.0 * float(np.hypot(deepest, self.probe.aperture))
        return Response.of(self.probe, events[0], self.medium, longest)


def plan(probe: Probe, transmit: FocusedScan | PlaneScan, receive: Receive, medium: Medium, image: Image) -> SirPlan:
    """The exact engine's plan of one setting."""
    return SirPlan(probe, transmit, receive, medium, image)


def run(plan: SirPlan, scatterers: Scatterers) -> NDArray[np.complex64]:
    """IQ (Z, X) of a cloud of scatterers, before noise and TGC, in the convention of engine `psf`.

    Scatterers at depths up to half a wavelength are left out: they lie on the elements.
    """
    x, z = plan.axes
    below = plan.below(scatterers)
    heard = below > plan.face.shortest_path
    if not (heard & (scatterers.amplitude != 0.0)).any():
        return np.zeros((len(z), len(x)), np.complex64)
    cloud = Scatterers(scatterers.position[heard], scatterers.amplitude[heard])
    _, firings = plan.scan
    response = plan.response(float(below[heard].max()))
    first, last = channels.echo_times(plan.face, firings, response, cloud)
    clock = channels.make_clock(response, channels.SAMPLES_PER_PERIOD * plan.probe.center_frequency, first, last)
    if len(firings) == 1:
        values = [_lines(plan, channels.fire(plan.face, firings, response, cloud, clock), np.arange(1))]
    else:
        pairs = channels.capture(plan.face, response, cloud, clock)
        values = []
        for start in range(0, len(firings), LINES_AT_ONCE):
            part = np.arange(start, min(start + LINES_AT_ONCE, len(firings)))
            some = Firings(firings.delays[part], firings.weights[part], firings.event[part])
            values.append(_lines(plan, channels.synthesise(pairs, some), part))
    image = np.concatenate(values).reshape(len(x), len(z)).T
    return demodulate(image, z[:, None], plan.probe.center_frequency, plan.medium.sound_speed)


def _lines(plan: SirPlan, record: channels.Record, numbers: NDArray[np.int64]) -> NDArray[np.complex64]:
    """Analytic delay-and-sum values (T, P) of the transmissions `numbers`, whose record (T E, M) this is."""
    elements, c = plan.elements, plan.medium.sound_speed
    iq, rate, centre = oversample(record)
    iq = iq.reshape(len(numbers), len(elements), -1).swapaxes(1, 2)
    points = np.stack([plan.points_of(n) for n in numbers])
    arrival = np.stack([plan.arrival(n, p) for n, p in zip(numbers, points, strict=True)])
    return das(
        iq, np.full(len(numbers), record.clock.start), rate, centre, points, arrival, elements.centre,
        elements.normal, c, f_number=plan.receive.f_number, apodization=plan.receive.apodization,
        lateral=elements.lateral, sight=plan.sight(points),
    )  # fmt: skip


def oversample(record: channels.Record) -> tuple[NDArray[np.complex64], float, float]:
    """(analytic signals (C, M') times exp(-i 2 pi f t), rate in Hz, f in Hz), f in the middle of the band."""
    clock, samples = record.clock, record.samples
    longer, middle = fft.next_fast_len(int(OVERSAMPLING * clock.count)), clock.count // 2
    frequency = clock.low + middle * clock.step
    factor = np.complex64(2.0 * longer / clock.count * np.exp(-2j * np.pi * (frequency * clock.start % 1.0)))
    out = np.zeros((len(samples), longer), np.complex64)

    def widen(start: int) -> None:
        part = slice(start, start + CHANNELS_AT_ONCE)
        spectrum = fft.fft(samples[part], axis=1)
        spectrum *= factor
        out[part, : clock.count - middle] = spectrum[:, middle:]
        out[part, longer - middle :] = spectrum[:, :middle]
        out[part] = fft.ifft(out[part], axis=1)

    each(widen, range(0, len(samples), CHANNELS_AT_ONCE))
    return out, longer * clock.step, frequency
