"""Channel data by the exact engine's kernels: short stretches of time for scatterers that lie close together.

Scatterers of one tile of the medium are heard by a channel within a few microseconds of each other, so that their
spectrum is known by as few frequencies: exactly, as long as the whole echo fits into the stretch. The stretches are
transformed and added into one record per channel, complex, at the rate of the band's width.

Two ways lead to the record of a transmission: from the field that it makes at every scatterer (`fire`), or from the
echoes of every pair of elements (`capture`), of which any transmission is a sum. The second costs the same for any
number of transmissions.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from usim.elements import Firings
from usim.engines.compiled import kernels
from usim.engines.response import Response
from usim.engines.sir import LANES, Face
from usim.engines.threads import each, in_order
from usim.scatterers import Scatterers

Array = NDArray[np.float64]
Index = NDArray[np.int64]
SIZES = (1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 12e-3, 16e-3)  # metres; edges that tiles may have
TILE_COST = {"fire": 50.0, "capture": 150.0}  # of transforming and adding one tile, in scatterers (measured, 2 cores)
FIELDS_AT_ONCE = 32  # scatterers whose fields are kept, at all frequencies, until they are multiplied
AHEAD = 8  # tiles whose stretches may wait to be added
CHANNELS = 256  # that are transformed at once
SAMPLES_PER_PERIOD = 4.0  # of the centre frequency, unless something else is asked for
MARGIN = 50e-9  # seconds on either side of what the corners of a tile say: the edges of sub-elements


@dataclass(frozen=True)
class Clock:
    """How time and frequency are sampled.

    start: seconds, of the first sample.  step: Hz, of the spectrum.  lowest: the first frequency, in steps.
    count: frequencies, and samples of a record, which are 1 / (count step) apart.
    """

    start: float
    step: float
    lowest: int
    count: int

    @property
    def low(self) -> float:
        """Hz, the first frequency."""
        return self.lowest * self.step

    @property
    def rate(self) -> float:
        """Hz, of the record's samples and of the band's width."""
        return self.count * self.step

    @property
    def frequency(self) -> Array:
        """All frequencies (count,), Hz."""
        return (self.lowest + np.arange(self.count)) * self.step


@dataclass(frozen=True, eq=False)
class Record:
    """What channels hear: samples (C, M) complex64 of exp(-i 2 pi low (t - start)) times the analytic signal / 2."""

    clock: Clock
    samples: NDArray[np.complex64]

    def spectrum(self) -> NDArray[np.complex64]:
        """Fourier transform (C, M) at the clock's frequencies, relative to its start, in units per Hz."""
        return fft.fft(self.samples, axis=1) / np.float32(self.clock.rate)

    @cached_property
    def transform(self) -> NDArray[np.complex64]:
        """Discrete Fourier transform (C, M) of the samples, kept for all that is made of them."""
        transform = np.empty_like(self.samples)

        def forward(first: int) -> None:
            transform[first : first + CHANNELS] = fft.fft(self.samples[first : first + CHANNELS], axis=1)

        # in parts that do not depend on the number of threads: the last rows of a part are rounded otherwise
        each(forward, range(0, len(transform), CHANNELS))
        return transform


def make_clock(response: Response, sampling_frequency: float, first: float, last: float) -> Clock:
    """The clock of a record from `first` to `last` seconds; its samples coincide with those at sampling_frequency."""
    start = math.floor(first * sampling_frequency) / sampling_frequency
    samples = fft.next_fast_len(math.ceil((last - start) * sampling_frequency) + 1, real=True)
    step = sampling_frequency / samples
    lowest = max(1, math.floor(response.low / step))
    return Clock(start, step, lowest, fft.next_fast_len(math.ceil(response.high / step) - lowest + 1))


@dataclass(frozen=True, eq=False)
class Tiles:
    """Scatterers in the order of their tiles.

    position (N, 3), amplitude (N,).  first (n + 1,): of each tile.  low, high (n, 3): metres, corners of each tile.
    """

    position: Array
    amplitude: NDArray[np.float32]
    first: Index
    low: Array
    high: Array


def make_tiles(scatterers: Scatterers, size: float) -> Tiles:
    """Sort scatterers into cubes of `size` metres; neighbours in the list lie far apart, so that threads share them."""
    cell = np.floor(scatterers.position / size).astype(np.int64)
    cell -= cell.min(axis=0)
    extent = cell.max(axis=0) + 1
    key = (cell[:, 1] * extent[2] + cell[:, 2]) * extent[0] + cell[:, 0]
    _, tile, counts = np.unique(key, return_inverse=True, return_counts=True)
    # every 16th tile follows: the cost of tiles changes slowly from one to the next
    spread = np.concatenate([np.arange(i, len(counts), 16) for i in range(16)])
    rank = np.empty(len(counts), np.int64)
    rank[spread] = np.arange(len(counts))
    order = np.argsort(rank[tile], kind="stable")
    position = np.ascontiguousarray(scatterers.position[order])
    first = np.concatenate(([0], np.cumsum(counts[spread]))).astype(np.int64)
    low = np.minimum.reduceat(position, first[:-1], axis=0)
    high = np.maximum.reduceat(position, first[:-1], axis=0)
    return Tiles(position, scatterers.amplitude[order].astype(np.float32), first, low, high)


def travel_times(face: Face, low: Array, high: Array) -> tuple[Array, Array]:
    """Shortest and longest travel time (n, E) in seconds from each element to boxes low, high (n, 3)."""
    e, subs = face.elements, face.subs
    outer = subs[np.isin(subs[:, 0], subs[[0, -1], 0])]
    outer = outer[np.unique(np.linspace(0, len(outer) - 1, 18).astype(int))]
    middle, half = (low + high)[:, None, :] / 2.0, (high - low)[:, None, :] / 2.0
    used = [1.0, 1.0, 1.0] if face.physics.dimensions == "3d" else [1.0, 0.0, 1.0]
    shortest, longest = np.full((len(low), len(e)), np.inf), np.zeros((len(low), len(e)))
    for x, y, lens, _ in outer:
        away = np.abs(middle - (e.centre + x * e.lateral + y * e.elevation))
        near = np.linalg.norm(np.maximum(away - half, 0.0) * used, axis=-1)
        far = np.linalg.norm((away + half) * used, axis=-1)
        for bound, distance, take in ((shortest, near, np.minimum), (longest, far, np.maximum)):
            take(bound, np.maximum(distance, face.shortest_path) / face.medium.sound_speed + lens, out=bound)
    return shortest - MARGIN, longest + MARGIN


def box(scatterers: Scatterers) -> tuple[Array, Array]:
    """Corners (1, 3) each, metres, of the box around all scatterers."""
    return scatterers.position.min(axis=0)[None], scatterers.position.max(axis=0)[None]


def echo_times(face: Face, firings: Firings, response: Response, scatterers: Scatterers) -> tuple[float, float]:
    """(first, last) in seconds between which echoes of the scatterers' bounding box reach any channel."""
    shortest, longest = (bound[0] for bound in travel_times(face, *box(scatterers)))
    active = firings.weights != 0.0
    first = np.where(active, firings.delays + shortest, np.inf).min() + shortest.min()
    last = np.where(active, firings.delays + longest, -np.inf).max() + longest.max()
    return float(first + response.start), float(last + response.end)


def tile_size(face: Face, firings: Firings | None, response: Response, scatterers: Scatterers) -> float:
    """Edge in metres: large tiles need long stretches for every scatterer, small ones are many."""
    sample = scatterers.position[:: max(1, len(scatterers) // 64)]
    spread = response.end - response.start
    if firings is not None:
        shortest, longest = travel_times(face, sample, sample)
        active = (firings.weights != 0.0)[:, None]
        arrival = firings.delays[:, None] + (shortest + longest) / 2.0
        span = np.where(active, arrival, -np.inf).max(-1) - np.where(active, arrival, np.inf).min(-1)
        spread += float(span.max(axis=0).mean())
    extent = np.maximum(np.ptp(scatterers.position, axis=0), 1e-6)
    weight = TILE_COST["capture" if firings is None else "fire"]

    def cost(size: float) -> float:
        tiles = min(float(np.prod(np.ceil(extent / size))), len(scatterers))
        return (len(scatterers) + weight * tiles) * (spread + 2.4 * size / face.medium.sound_speed)

    return min(SIZES, key=cost)


@dataclass(frozen=True, eq=False)
class Stretches:
    """When each tile is heard, in samples of the record and frequencies of its stretch.

    begin (n,): sample at which a tile's stretches start, apart from the channels' own `own` (n, E).
    size (n,): frequencies and samples of a stretch, multiples of four.
    """

    begin: Index
    own: Index
    size: Index


def make_stretches(face: Face, firings: Firings | None, response: Response, tiles: Tiles, clock: Clock) -> Stretches:
    """Stretches that hold the whole echoes of each tile, of `firings`, or of all pairs of elements without them."""
    shortest, longest = travel_times(face, tiles.low, tiles.high)
    own = np.floor(shortest * clock.rate).astype(np.int64)
    heard = (longest - own / clock.rate).max(axis=1)
    if firings is None:
        earliest, latest = np.zeros(len(own)), heard
    else:
        active = (firings.weights != 0.0)[:, None]
        earliest = np.where(active, firings.delays[:, None] + shortest, np.inf).min(axis=(0, 2))
        latest = np.where(active, firings.delays[:, None] + longest, -np.inf).max(axis=(0, 2))
    begin = np.floor((earliest + response.start - clock.start) * clock.rate).astype(np.int64)
    until = latest + heard + response.end - clock.start
    needed = np.ceil((until - begin / clock.rate) * clock.rate).astype(np.int64) + 1
    sizes = np.array([n for n in (fft.next_fast_len(4 * m) for m in range(1, 4 + needed.max() // 2)) if n % 4 == 0])
    return Stretches(begin, own, sizes[np.searchsorted(sizes, needed)])


@dataclass(frozen=True, eq=False)
class Run:
    """One cloud of scatterers on its way into a record."""

    face: Face
    response: Response
    clock: Clock
    tiles: Tiles
    stretches: Stretches
    phasors: Array

    @classmethod
    def of(cls, face: Face, firings: Firings | None, response: Response, scatterers: Scatterers, clock: Clock) -> Run:
        """A run of `firings`, or of all pairs of elements without them."""
        tiles = make_tiles(scatterers, tile_size(face, firings, response, scatterers))
        stretches = make_stretches(face, firings, response, tiles, clock)
        return cls(face, response, clock, tiles, stretches, face.phasors(scatterers))

    def offset(self, n: int) -> Array:
        """Seconds (B LANES,) that are taken off each element's travel times to tile n."""
        own = self.stretches.own[n] / self.clock.rate
        return np.concatenate([own, np.repeat(own[-1:], -len(own) % (2 * LANES))])

    def arguments(self, n: int) -> tuple[tuple, tuple]:
        """What the kernels need to know of tile n: the arguments up to `offset`, and those from `band` to `excess`."""
        cloud, size = slice(*self.tiles.first[n : n + 2]), int(self.stretches.size[n])
        place = (
            self.tiles.position[cloud],
            self.tiles.amplitude[cloud],
            self.face.blocks,
            self.phasors,
            self.offset(n),
        )
        return place, self.face.kernel_arguments(self.clock.low, self.clock.rate / size, size)

    @cached_property
    def filters(self) -> dict[int, NDArray[np.complex64]]:
        """What the kernels leave out, for every size (F,) of stretch: P R^2, the edges' 1/(ik), and the rate."""
        filters = {}
        for size in np.unique(self.stretches.size):
            frequency = self.clock.low + self.clock.rate / size * np.arange(size)
            factor = self.response(frequency) * self.face.edge_filter(frequency) ** 2 * self.clock.rate
            filters[int(size)] = factor.astype(np.complex64)
        return filters

    def turn(self, begin: Index) -> NDArray[np.complex64]:
        """Factors (C,) of stretches that begin at samples (C,) of the record."""
        turns = (self.clock.lowest * begin) % self.clock.count / self.clock.count
        return np.exp(-2j * np.pi * turns).astype(np.complex64)

    def record(self, work: Callable[[int], tuple[NDArray[np.complex64], Index]], channels: int) -> Record:
        """Sum over all tiles of work(n) = (stretches (C, F), first samples (C,)); threads share the tiles."""
        samples = np.zeros((channels, self.clock.count), np.complex64)
        self.filters  # noqa: B018 - made once, before the threads ask for it
        for stretches, first in in_order(work, len(self.tiles.low), AHEAD):
            kernels("sir").overlap_add(stretches, first, samples)
        return Record(self.clock, samples)


def fire(face: Face, firings: Firings, response: Response, scatterers: Scatterers, clock: Clock) -> Record:
    """The record (T E, M) of every transmission, from the field that it makes at every scatterer."""
    run = Run.of(face, firings, response, scatterers, clock)
    events, count = firings.weights.shape
    wide = face.padded
    weight, delays = np.zeros((events, wide)), np.zeros((events, wide))
    weight[:, :count], delays[:, :count] = firings.weights, firings.delays

    def work(n: int) -> tuple[NDArray[np.complex64], Index]:
        place, medium = run.arguments(n)
        begin = run.stretches.begin[n]
        delay = delays + (run.offset(n) - clock.start - begin / clock.rate)
        out = np.zeros((events, run.stretches.size[n] // 4, 8 * wide), np.float32)
        kernels("sir").fire_tile(*place, delay, weight, *medium, out)
        spectra = face.unblocked(out).transpose(0, 2, 1).reshape(events * count, -1)
        first = np.tile(begin + run.stretches.own[n], events)
        spectra *= run.filters[spectra.shape[1]]
        spectra *= run.turn(first)[:, None]
        return fft.ifft(spectra, axis=1, overwrite_x=True), first

    return run.record(work, events * count)


def capture(face: Face, response: Response, scatterers: Scatterers, clock: Clock) -> Record:
    """The record (E (E + 1) / 2, M) of every pair of elements i, j <= i, in the order (0,0), (1,0), (1,1), (2,0) ..."""
    run = Run.of(face, None, response, scatterers, clock)
    wide, most = face.padded, int(run.stretches.size.max())
    i, j = np.tril_indices(len(face.elements))
    local = threading.local()  # memory of a thread, for all its tiles: new pages take as long as the sums

    def work(n: int) -> tuple[NDArray[np.complex64], Index]:
        if not hasattr(local, "fields"):
            local.fields = np.zeros((most // 4, FIELDS_AT_ONCE, 8 * wide + LANES), np.float32)
            local.sums = np.empty((most, 3, 8 * wide * (wide // LANES + 1)), np.float32)
        (position, amplitude, *place), medium = run.arguments(n)
        size, begin, own = int(run.stretches.size[n]), run.stretches.begin[n], run.stretches.own[n]
        fields, sums = local.fields[: size // 4], local.sums[:size]
        for start in range(0, len(position), FIELDS_AT_ONCE):
            some = slice(start, start + FIELDS_AT_ONCE)
            kernels("sir").rooted_fields(position[some], amplitude[some], *place, *medium, fields)
            kernels("pairs").add_products(fields, len(position[some]), start == 0, sums)
        # the pair's spectrum starts at its own begin, the kernel's at the sum of the elements' own
        frequency = clock.low + clock.rate / size * np.arange(size)
        shift = np.exp(2j * np.pi * frequency * (clock.start + begin / clock.rate)).astype(np.complex64)
        first = begin + own[i] + own[j]
        spectra = np.empty((len(first), size), np.complex64)
        kernels("pairs").to_spectra(sums, run.filters[size] * shift, run.turn(first), spectra)
        return fft.ifft(spectra, axis=1, overwrite_x=True), first

    return run.record(work, len(i))


def synthesise(pairs: Record, firings: Firings) -> Record:
    """The record (T E, M) of transmissions, from that of all pairs of elements: a sum of delayed echoes."""
    events, count = firings.weights.shape
    clock, transform = pairs.clock, pairs.transform
    spectra = np.empty((events, count, clock.count), np.complex64)
    fired = firings.delays, firings.weights, clock.low, clock.step

    def forward(first: int) -> None:
        kernels("pairs").synthesise(transform, *fired, first, spectra)

    def back(event: int) -> None:
        spectra[event] = fft.ifft(spectra[event], axis=1)

    each(forward, range(0, clock.count, kernels("pairs").FREQUENCIES))
    each(back, range(events))
    return Record(clock, spectra.reshape(events * count, -1))
