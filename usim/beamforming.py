"""Delay and sum: from channel data to complex images, on a grid or at any points.

    das(p) = sum_e w_e(p) a_e(t_tx(p) + |p - r_e| / c),      a_e(t) = iq_e(t) exp(i 2 pi f_d t)

a_e is the analytic signal of channel e, t_tx(p) the time at which the transmitted wave arrives at p, and w_e the window
over a receive aperture that grows with depth. The value is analytic, its carrier included: a scatterer at depth z_s
gives exp(+i 2 k0 (z - z_s)) around it. `demodulate` takes exp(i 2 k0 z) away, and what remains turns as
exp(-i 2 k0 z_s): the house's convention, that of the image engine (engines/psf.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usim.elements import Elements, window
from usim.engines.compiled import cache_folder
from usim.errors import ConfigError, ResourceError
from usim.events import Diverging, Event, Focused, FullMatrix, PlaneWave
from usim.process import rf_to_iq
from usim.units import did_you_mean

if TYPE_CHECKING:
    from usim.rf import RF

Array = NDArray[np.float64]

Normalise = Literal["energy", "none"]
Backend = Literal["numba", "numpy"]

WINDOWS = ("boxcar", "hann", "hamming")
TABLE_BAND = 0.33  # cycles per sample up to which the interpolator is optimal
MOST_BAND = 0.32  # cycles per sample up to which it is used: error below -63 dB (tested)
MOST_BYTES = 16e9
CHUNK_BYTES = 2.5e8  # transmits beamformed together


@dataclass(frozen=True, eq=False)
class Aperture:
    """The receive aperture of an array: which elements look at a point, and with what weight.

    An element sees the point p at the height h = (p - r_e) . n_e above its own plane and at the lateral offset
    s = (p - r_e) . l_e. Its weight is the window at

        q = s / clip(h / 2F, least, most),      that is 2F tan(angle to the normal) between the limits

    so a flat array has the aperture h / F centred on the point's foot, never below two pitches and never wider than the
    array, and on a curved array every element applies the same acceptance angle. Elevation does not count. f_number 0
    is the whole array for every point, with the window over the elements' numbers, as transmit events have it.

    centre, lateral, normal: (E, 3), metres and unit vectors.  limits: least and most half aperture in metres.
    """

    centre: Array
    lateral: Array
    normal: Array
    f_number: float
    apodization: str
    limits: tuple[float, float]

    @classmethod
    def of(
        cls,
        centre: ArrayLike,
        normal: ArrayLike,
        f_number: float = 1.5,
        apodization: str = "hann",
        lateral: ArrayLike | None = None,
    ) -> Aperture:
        """Aperture of elements at `centre` with outward normals (E, 3), in the order along the array.

        lateral: (E, 3), y x n when not given.  The limits are one pitch and half the array; a curved one has
        no upper limit, else its aperture would shrink again with depth.
        ConfigError when f_number is negative or not finite, or the window is unknown.
        """
        if apodization not in WINDOWS:
            hint = did_you_mean(str(apodization), WINDOWS)
            raise ConfigError(f"apodization: {apodization!r} is unknown{hint} (allowed: {', '.join(WINDOWS)})")
        if not (np.isfinite(f_number) and f_number >= 0.0):
            raise ConfigError(f"f_number: {f_number} is not a number of at least 0; 0 uses the whole array")
        centre, normal = _vectors("centre", centre), _vectors("normal", normal)
        if centre.shape != normal.shape or centre.ndim != 2 or len(centre) == 0:
            raise ConfigError(f"centre, normal: shapes {centre.shape} and {normal.shape}, expected (E, 3) twice")
        lateral = np.cross([0.0, 1.0, 0.0], normal) if lateral is None else _vectors("lateral", lateral)
        lateral = lateral / np.linalg.norm(lateral, axis=1, keepdims=True)
        step = np.linalg.norm(np.diff(centre, axis=0), axis=1)
        pitch = max(float(step.min()), 1e-9) if len(step) else np.inf
        curved = bool((normal != normal[0]).any())
        limits = (pitch, np.inf if curved else float(step.sum() + pitch) / 2.0)
        return cls(centre, lateral, normal, float(f_number), apodization, limits)

    def fixed(self) -> Array:
        """Weights (E,) of f_number 0: the window over the whole array."""
        count = len(self.centre)
        return window(self.apodization, (np.arange(count) + 0.5) / count * 2.0 - 1.0)

    def weights(self, points: Array, elements: slice | ArrayLike = slice(None)) -> Array:
        """Weights (P, E) of the elements (all, or those indexed) for points (P, 3), metres: the definition."""
        if self.f_number == 0.0:
            return np.broadcast_to(self.fixed()[elements], (len(points), len(self.centre[elements]))).copy()
        out = np.empty((len(points), len(self.centre[elements])))
        frames = zip(self.centre[elements], self.lateral[elements], self.normal[elements], strict=True)
        for e, (centre, lateral, normal) in enumerate(frames):
            height = (points - centre) @ normal
            half = np.clip(height / (2.0 * self.f_number), *self.limits)
            out[:, e] = window(self.apodization, (points - centre) @ lateral / half) * (height > -self.limits[0])
        return out


def _vectors(name: str, value: ArrayLike) -> Array:
    """Float64 (..., 3), finite."""
    vectors = np.ascontiguousarray(value, np.float64)
    if vectors.ndim < 1 or vectors.shape[-1] != 3 or vectors.size == 0:
        raise ConfigError(f"{name}: shape {vectors.shape}, expected (..., 3) in metres (x, y, z), not empty")
    if not np.isfinite(vectors).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(vectors))[0])
        raise ConfigError(f"{name}: the value at {place} is not finite; remove or repair it")
    return vectors


@lru_cache(maxsize=4)
def interpolation_taps(taps: int, phases: int) -> Array:
    """Interpolation weights (phases + 1, taps) for the fractions 0, 1/phases, .., 1 of a sample; see the formula.

    Tap k reads sample floor(u) + k - taps/2 + 1. Least squares over the frequencies |f| <= B = 0.33 cycles per sample:
    h = R^-1 r with R_kl = sinc(2B(k - l)), r_k = sinc(2B(k - u)) (Laakso et al., IEEE SP Magazine 13(1), 1996, the
    general least-squares fractional-delay filter).
    """
    place = np.arange(taps) - (taps // 2 - 1)
    fraction = np.arange(phases + 1) / phases
    overlap = np.sinc(2.0 * TABLE_BAND * (place[:, None] - place))
    return np.linalg.solve(overlap, np.sinc(2.0 * TABLE_BAND * (place[:, None] - fraction))).T


def _record(iq, t0, points, transmit_time, elements: int) -> tuple[NDArray[np.complex64], Array, Array, Array]:
    """The four arrays, checked: shapes that fit, finite where they choose samples."""
    iq, t0, points = np.asarray(iq), np.asarray(t0, np.float64), _vectors("points", points)
    transmit_time = np.asarray(transmit_time, np.float64)
    if iq.ndim != 3 or iq.shape[2] != elements or 0 in iq.shape:
        raise ConfigError(f"iq: shape {iq.shape}, expected (transmits, samples, {elements}) for {elements} elements")
    points = points[None] if points.ndim == 2 else points
    if points.ndim != 3 or points.shape[0] not in (1, len(iq)):
        raise ConfigError(
            f"points: shape {points.shape}, expected (P, 3), or ({len(iq)}, P, 3) for {len(iq)} transmits"
        )
    for name, value, shape in (("t0", t0, (len(iq),)), ("transmit_time", transmit_time, (len(iq), points.shape[1]))):
        if value.shape != shape:
            raise ConfigError(f"{name}: shape {value.shape}, expected {shape}")
        if not np.isfinite(value).all():
            raise ConfigError(f"{name}: holds values that are not finite; times are in seconds")
    return iq, t0, points, transmit_time


def das(
    iq: NDArray[np.complex64],
    t0: Array,
    sampling_frequency: float,
    demodulation: float,
    points: Array,
    transmit_time: Array,
    centre: Array,
    normal: Array,
    sound_speed: float,
    *,
    f_number: float = 1.5,
    apodization: str = "hann",
    lateral: Array | None = None,
    normalise: Normalise = "energy",
    backend: Backend = "numba",
    sight: Array | None = None,
) -> NDArray[np.complex64]:
    """Delay-and-sum values (T, P) of every transmit, analytic (carrier included); the formula stands above.

    iq: (T, S, E) analytic channel signals times exp(-i 2 pi demodulation t), t absolute; outside the record zero.
    t0: (T,) s, time of the first sample after transmit time zero.  sampling_frequency, demodulation: Hz.
    points: (P, 3) for all transmits, or (T, P, 3), metres; neighbours along depth are fastest.
    transmit_time: (T, P) s, when the wave arrives.  centre, normal: (E, 3), metres and unit vectors.
    sound_speed: m/s.  f_number, apodization, lateral (E, 3): see Aperture.
    normalise: "energy" divides by the root of the sum of w^2, so that electronic noise has the same power behind every
    aperture; "none" does not.
    backend: "numba" interpolates with 12 taps (-63 dB up to 0.32 cycles per sample) and gives complex64 with the same
    bits for any number of threads; "numpy" is `das_definition`, complex128.
    sight: of the shape of points; the places whose apertures are taken, where those are not the points' own: a phased
    array looks along a steered line with the aperture that it has ahead.
    Raises ConfigError when shapes do not fit, a place or time is not finite, or an option is unknown.
    """
    aperture = Aperture.of(centre, normal, f_number, apodization, lateral)
    if normalise not in ("energy", "none"):
        raise ConfigError(f"normalise: {normalise!r} is unknown (allowed: energy, none)")
    if backend not in ("numba", "numpy"):
        raise ConfigError(f"backend: {backend!r} is unknown (allowed: numba, numpy)")
    iq, t0, points, transmit_time = _record(iq, t0, points, transmit_time, len(aperture.centre))
    seen = points if sight is None else np.broadcast_to(_vectors("sight", sight), points.shape)
    by_energy = normalise == "energy"
    if backend == "numpy":
        return das_definition(
            iq, t0, sampling_frequency, demodulation, points, transmit_time, aperture, sound_speed,
            by_energy=by_energy, sight=seen,
        )  # fmt: skip
    cache_folder()
    from usim import _das_numba as kernel

    transmits, samples, elements = iq.shape
    planes = np.zeros((2, transmits, elements, samples + 2 * kernel.PAD), np.float32)
    planes[0, :, :, kernel.PAD : kernel.PAD + samples] = iq.real.swapaxes(1, 2)
    planes[1, :, :, kernel.PAD : kernel.PAD + samples] = iq.imag.swapaxes(1, 2)
    taps = interpolation_taps(kernel.TAPS, kernel.PHASES)
    table, slope = taps[:-1].astype(np.float32).ravel(), np.diff(taps, axis=0).astype(np.float32).ravel()
    base = (1.0 + float(window(apodization, np.ones(1))[0])) / 2.0  # of base + (1 - base) cos(pi q)
    out = np.empty(transmit_time.shape, np.complex64)
    kernel.delay_and_sum(
        planes[0], planes[1], t0, float(sampling_frequency), float(demodulation),
        np.ascontiguousarray(points.swapaxes(1, 2)), np.ascontiguousarray(seen.swapaxes(1, 2)),
        np.ascontiguousarray(transmit_time), aperture.centre,
        aperture.lateral, aperture.normal, 1.0 / sound_speed, 2.0 * aperture.f_number, aperture.limits, base,
        aperture.fixed(), by_energy, table, slope, out,
    )  # fmt: skip
    return out


def das_definition(
    iq: NDArray[np.complex64],
    t0: Array,
    sampling_frequency: float,
    demodulation: float,
    points: Array,
    transmit_time: Array,
    aperture: Aperture,
    sound_speed: float,
    *,
    by_energy: bool = True,
    sight: Array | None = None,
) -> NDArray[np.complex128]:
    """What `das` computes, in double precision: Whittaker's sum over all samples, iq(u) = sum_s iq_s sinc(u - s).

    Arguments as checked by `das`: iq (T, S, E), points (1 or T, P, 3), transmit_time (T, P).  Time and memory go with
    P S E: for small sizes.
    """
    transmits, samples, elements = iq.shape
    out = np.zeros(transmit_time.shape, np.complex128)
    for t in range(transmits):
        place = points[min(t, len(points) - 1)]
        weight = aperture.weights(place if sight is None else sight[min(t, len(sight) - 1)])
        for e in range(elements):
            used = np.nonzero(weight[:, e])[0]
            time = transmit_time[t, used] + np.linalg.norm(place[used] - aperture.centre[e], axis=1) / sound_speed
            carrier = np.exp(2j * np.pi * demodulation * time) * weight[used, e]
            channel = iq[t, :, e].astype(np.complex128)
            for some in np.array_split(np.arange(len(used)), len(used) * samples // 2**22 + 1):
                u = (time[some] - t0[t]) * sampling_frequency
                out[t, used[some]] += carrier[some] * (np.sinc(u[:, None] - np.arange(samples)) @ channel)
        if by_energy:
            energy = (weight**2).sum(axis=1)
            out[t] = np.divide(out[t], np.sqrt(energy), out=np.zeros_like(out[t]), where=energy > 0.0)
    return out


def demodulate(values: NDArray, depth: ArrayLike, center_frequency: float, sound_speed: float) -> NDArray:
    """Analytic delay-and-sum values times exp(-i 2 k0 z), k0 = 2 pi f0 / c: IQ in the house's convention.

    values: any shape.  depth: z in metres, broadcast against it.  Returns the dtype of `values`.
    """
    turns = 2.0 * center_frequency / sound_speed * np.asarray(depth, np.float64)
    return values * np.exp(-2j * np.pi * np.remainder(turns, 1.0)).astype(values.dtype)


def arrival_times(
    event: Event, delays: Array, weights: Array, centre: Array, sound_speed: float, points: Array
) -> Array:
    """When (P,) s the wave of one transmission arrives at points (P, 3), after transmit time zero.

    delays, weights, centre: (E,) s, (E,), (E, 3) m; elements of weight 0 are off. With d the direction of a plane wave,
    F a focus and s a source, each equal to the active elements' own delays where the wave passes them:

        PlaneWave   d . p / c + tau0                 tau0 = mean_j (delay_j - d . r_j / c)
        Focused     tau_F +- |p - F| / c             tau_F = mean_j (delay_j + |F - r_j| / c); - before the focus
        Diverging   |p - s| / c + tau0               tau0 = mean_j (delay_j - |s - r_j| / c)
        otherwise   min_j (delay_j + |p - r_j| / c)

    A point lies before the focus where (p - F) . (F - centre of the active aperture) < 0.
    """
    active = weights != 0.0
    delay, place = delays[active], centre[active]
    if isinstance(event, PlaneWave):
        direction = np.array([np.sin(event.angle), 0.0, np.cos(event.angle)])
        return points @ direction / sound_speed + float((delay - place @ direction / sound_speed).mean())
    if isinstance(event, Focused):
        focus = np.array(event.point)
        arrival = float((delay + np.linalg.norm(focus - place, axis=1) / sound_speed).mean())
        side = np.where((points - focus) @ (focus - place.mean(axis=0)) < 0.0, -1.0, 1.0)
        return arrival + side * np.linalg.norm(points - focus, axis=1) / sound_speed
    if isinstance(event, Diverging):
        source = np.array(event.source)
        start = float((delay - np.linalg.norm(source - place, axis=1) / sound_speed).mean())
        return start + np.linalg.norm(points - source, axis=1) / sound_speed
    first = np.full(len(points), np.inf)
    for tau, r in zip(delay, place, strict=True):
        np.minimum(first, tau + np.linalg.norm(points - r, axis=1) / sound_speed, out=first)
    return first


def _grid_or_points(points: object, lines: bool, transmits: int) -> tuple[Array, tuple[int, ...], bool]:
    """Places (1 or T, P, 3), depth running fastest; the shape of an image; whether that is to be transposed."""
    grid = isinstance(points, tuple) and len(points) == 2
    if grid:
        x, z = (np.asarray(axis, np.float64) for axis in points)  # type: ignore[attr-defined]
        if x.ndim != 1 or z.ndim != 1 or 0 in (x.size, z.size):
            raise ConfigError(f"points: a grid is two axes (x, z) in metres, not empty; got {x.shape}, {z.shape}")
        points = np.stack(np.broadcast_arrays(x[:, None], 0.0, z[None, :]), axis=-1)
    place = _vectors("points", points)
    if lines and (place.ndim < 2 or len(place) != transmits):
        what = f"{len(place)} columns" if grid else f"shape {place.shape}"
        raise ConfigError(f"points: {what} for {transmits} transmits; with lines=True every transmit has its own")
    return place.reshape(transmits if lines else 1, -1, 3), place.shape[:-1], grid


def _refuse_behind(places: Array, elements: Elements) -> None:
    """ConfigError when a point lies behind the plane of every element."""
    planes = np.column_stack([elements.normal, (elements.normal * elements.centre).sum(axis=1)])
    hidden = places.reshape(-1, 3)
    for plane in np.unique(planes.round(9), axis=0):
        hidden = hidden[hidden @ plane[:3] < plane[3] - 1e-8]
    if len(hidden):
        where = ", ".join(f"{v * 1e3:g}" for v in hidden[0])
        raise ConfigError(f"points: ({where}) mm lies behind the array ({len(hidden)} do); choose points before it")


def _refuse_too_large(images: int, points: object, lines: bool, channel_bytes: int) -> None:
    """ResourceError before anything large is made: 8 bytes per value, some 80 per point, one transmit's channels."""
    grid = isinstance(points, tuple) and len(points) == 2
    count = np.size(points[0]) * np.size(points[1]) if grid else np.size(points) // 3  # type: ignore[index]
    images = 1 if lines else images
    need = count * (8.0 * images + 80.0) + channel_bytes
    if need > MOST_BYTES:
        raise ResourceError(
            f"beamform: {images} image(s) of {count} points need {need / 1e9:.0f} GB of memory, more than "
            f"{MOST_BYTES / 1e9:.0f}; beamform fewer points or transmits at a time, or with compound=True"
        )


def _chunks(rf: RF, bytes_each: int, synthetic: bool) -> Iterator[tuple[slice, bool]]:
    """Transmits that are beamformed together, and whether they are a full matrix for synthetic focusing."""
    together, event = max(1, int(CHUNK_BYTES / bytes_each)), rf.firings.event
    matrix = [synthetic and isinstance(rf.events[e], FullMatrix) for e in event]
    start = 0
    while start < len(event):
        stop = start + 1
        if matrix[start]:
            stop += int(np.argmin(np.append(event[stop:] == event[start], False)))
        while not matrix[start] and stop < min(len(event), start + together) and not matrix[stop]:
            stop += 1
        yield slice(start, stop), matrix[start]
        start = stop


def _images(rf: RF, some: slice, places: Array, **options) -> NDArray:
    """Images (t, P) of some transmits at places (1 or t, P, 3)."""
    demodulation = (rf.band[0] + rf.band[1]) / 2.0
    upsample, rate = _upsampling(rf), rf.sampling_frequency
    time = np.stack(
        [
            arrival_times(
                rf.events[rf.firings.event[t]], rf.firings.delays[t], rf.firings.weights[t], rf.elements.centre,
                rf.sound_speed, places[min(i, len(places) - 1)],
            )
            for i, t in enumerate(range(some.start, some.stop))
        ]
    )  # fmt: skip
    iq = rf_to_iq(rf.data[some], rf.t0[some], rate, demodulation, rf.band, upsample)
    return das(
        iq, rf.t0[some], rate * upsample, demodulation, places, time, rf.elements.centre, rf.elements.normal,
        rf.sound_speed, lateral=rf.elements.lateral, **options,
    )  # fmt: skip


def _upsampling(rf: RF) -> int:
    """How many times denser the baseband must be sampled for the interpolator."""
    return max(1, math.ceil((rf.band[1] - rf.band[0]) / 2.0 / rf.sampling_frequency / MOST_BAND - 1e-9))


def _synthetic(rf: RF, some: slice, places: Array, aperture: Aperture, **options) -> NDArray:
    """Image (P,) of a full matrix: transmits weighted by the aperture rule, as the receiving elements are."""
    total, energy = np.zeros(places.shape[1], np.complex128), np.zeros(places.shape[1])
    for t in range(some.start, some.stop):
        weight = aperture.weights(places[0], np.flatnonzero(rf.firings.weights[t]))[:, 0]
        used = np.flatnonzero(weight)
        energy += weight**2
        if len(used):
            total[used] += weight[used] * _images(rf, slice(t, t + 1), places[:, used], **options)[0]
    if options["normalise"] == "none":
        return total
    return np.divide(total, np.sqrt(energy), out=np.zeros_like(total), where=energy > 0.0)


def beamform(
    rf: RF,
    points: ArrayLike | tuple[ArrayLike, ArrayLike],
    *,
    f_number: float = 1.5,
    apodization: str = "hann",
    compound: bool = True,
    lines: bool = False,
    normalise: Normalise = "energy",
    backend: Backend = "numba",
) -> NDArray[np.complex64]:
    """Complex images of channel data by delay and sum; envelope and dB are usim.process's.

        value(p) = sum_e w_e(p) s_e(t(p) + |p - r_e| / c) / sqrt(sum_e w_e(p)^2)

    with s the analytic channel signals, t the arrival of the transmission and w the window over the receive aperture,
    centred on the point and depth / f_number wide (class Aperture has the rule for curved arrays).

    points: a grid (x (X,), z (Z,)) in metres, which gives (Z, X), or places (..., 3), which give (...).
    f_number, apodization: the receive aperture: depth over width, 0 is the whole array; boxcar, hann or hamming.
    compound: the coherent sum over transmits (a full matrix is focused on transmit too, by the same aperture rule:
    synthetic aperture focusing); False returns one image per transmit, (T, ...).
    lines: transmit i makes column x_i of the grid alone (or points[i]), as a focused scan does.
    normalise: "none" leaves out the root.  backend: "numpy" is the definition, with exact interpolation; complex128.
    The value is analytic; `demodulate(image, z[:, None], rf.center_frequency, rf.sound_speed)` is the engines' IQ.
    Raises ConfigError for places that are not finite, missing or behind the array and for unknown options,
    ResourceError when more than 16 GB would be needed.
    """
    elements, (transmits, samples, channels) = rf.elements, rf.data.shape
    aperture = Aperture.of(elements.centre, elements.normal, f_number, apodization, elements.lateral)
    options = {"f_number": f_number, "apodization": apodization, "normalise": normalise, "backend": backend}
    single, channel_bytes = compound and not lines, 64 * samples * channels * _upsampling(rf)
    _refuse_too_large(1 if single else transmits, points, lines, channel_bytes)
    places, shape, transposed = _grid_or_points(points, lines, transmits)
    count = places.shape[1]
    _refuse_behind(places, elements)
    out = np.zeros((1 if single else transmits, count), np.complex64 if backend == "numba" else np.complex128)
    for some, matrix in _chunks(rf, channel_bytes + 48 * count, single):
        if matrix:
            out[0] += _synthetic(rf, some, places, aperture, **options)
            continue
        values = _images(rf, some, places[some] if lines else places, **options)
        if single:
            for image in values:  # in their order: the bits do not depend on the chunks
                out[0] += image
        else:
            out[some] = values
    out = out.reshape(shape if single or lines else (transmits, *shape))
    return np.ascontiguousarray(out.swapaxes(-1, -2)) if transposed else out
