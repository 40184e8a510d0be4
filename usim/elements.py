"""The array as arrays: where each element is and faces, and when and how strongly each fires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError
from usim.events import Delays, Diverging, Event, Focused, FullMatrix, PlaneWave
from usim.probe import Probe

Array = NDArray[np.float64]
MOST_FIRINGS = 2**25  # delays of all transmissions together: 256 MB


def window(name: str, position: Array) -> Array:
    """Apodization at normalised aperture positions (any shape; -1 and 1 are the edges, 0 outside)."""
    inside = np.abs(position) <= 1.0
    if name == "boxcar":
        return inside.astype(np.float64)
    base = {"hann": 0.5, "hamming": 0.54}[name]
    return inside * (base + (1.0 - base) * np.cos(np.pi * position))


@dataclass(frozen=True, eq=False)
class Elements:
    """Equal rectangles in space; of a flat array in a row, lateral, elevation and normal are x, y and z.

    centre: (E, 3) metres.  lateral, elevation, normal: (E, 3) unit vectors, right-handed: lateral x elevation = normal.
    width, height: metres, along lateral and elevation.  lens_focus: metres, None without a lens.
    """

    centre: Array
    lateral: Array
    elevation: Array
    normal: Array
    width: float
    height: float
    lens_focus: float | None

    def __len__(self) -> int:
        return len(self.centre)


@dataclass(frozen=True, eq=False)
class Firings:
    """What the elements do in each transmission.

    delays: (T, E) seconds, at least 0; the first active element fires at 0 unless the delays were given.
    weights: (T, E), 0 switches an element off.  event: (T,) the number of the event that each transmission is of.
    """

    delays: Array
    weights: Array
    event: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.delays)


def elements_of(probe: Probe) -> Elements:
    """Return the elements of a probe; the origin is the centre of the face of a row or an arc.

    >>> elements_of(Probe.preset("L7-4")).centre.shape
    (128, 3)
    """
    if probe.positions is not None:
        centre = np.array(probe.positions, dtype=np.float64)
        normal = np.tile([0.0, 0.0, 1.0], (len(centre), 1))
        normal = normal if probe.normals is None else np.array(probe.normals, dtype=np.float64)
    else:
        assert probe.pitch is not None
        index = np.arange(probe.elements) - (probe.elements - 1) / 2.0
        zero = np.zeros(probe.elements)
        angle = index * probe.arc_step
        normal = np.stack([np.sin(angle), zero, np.cos(angle)], axis=1)
        if probe.radius is None:
            centre = np.stack([index * probe.pitch, zero, zero], axis=1)
        else:
            centre = probe.radius * (normal - [0.0, 0.0, 1.0])
    lateral = _lateral(normal)
    return Elements(
        centre=centre,
        lateral=lateral,
        elevation=np.cross(normal, lateral),
        normal=normal,
        width=probe.element_width,
        height=probe.element_height,
        lens_focus=probe.elevation_focus,
    )


def _lateral(normal: Array) -> Array:
    """Unit vectors (E, 3) across the normals and y; across the normals, nearest to x, where an element faces +-y."""
    lateral = np.cross([0.0, 1.0, 0.0], normal)
    upward = np.linalg.norm(lateral, axis=1) < 1e-6
    lateral[upward] = np.array([1.0, 0.0, 0.0]) - normal[upward] * normal[upward, :1]
    return lateral / np.linalg.norm(lateral, axis=1, keepdims=True)


def firings_of(events: Event | Sequence[Event], elements: Elements, sound_speed: float) -> Firings:
    """Return the delays and weights of one event or several, in their order; FullMatrix has a row per element.

    sound_speed: metres per second.
    Raises ConfigError when an event does not fit the elements, or all of them are off.

    >>> from usim.events import PlaneWave
    >>> firings_of(PlaneWave(), elements_of(Probe.preset("L7-4")), 1540.0).delays.shape
    (1, 128)
    """
    several: list[Event] = list(events) if isinstance(events, Sequence) else [events]
    if not several:
        raise ConfigError("events: there are none; give at least one, such as PlaneWave()")
    if not (np.isfinite(sound_speed) and sound_speed > 0):
        raise ConfigError(f"sound_speed: expected metres per second above 0, got {sound_speed}")
    count = len(elements)
    rows = [count if isinstance(event, FullMatrix) else 1 for event in several]
    if sum(rows) * count > MOST_FIRINGS:
        raise ConfigError(
            f"events: {sum(rows)} transmissions of {count} elements are beyond {MOST_FIRINGS} delays; "
            "simulate fewer events at a time"
        )
    delays, weights = zip(*(_fire(i, e, elements, sound_speed) for i, e in enumerate(several)), strict=True)
    return Firings(np.concatenate(delays), np.concatenate(weights), np.repeat(np.arange(len(several)), rows))


def _fire(number: int, event: Event, elements: Elements, sound_speed: float) -> tuple[Array, Array]:
    """Delays and weights (rows, E) of one event."""
    count, name = len(elements), f"events[{number}] ({type(event).__name__})"
    if isinstance(event, FullMatrix):
        return np.zeros((count, count)), np.eye(count)
    if not isinstance(event, PlaneWave | Focused | Diverging | Delays):
        raise ConfigError(f"{name}: expected PlaneWave, Focused, Diverging, FullMatrix or Delays")
    weights = _weights(event.apodization, count, name)
    active = weights != 0.0
    if isinstance(event, Delays):
        if len(event.delays) != count:
            raise ConfigError(f"{name}.delays: {len(event.delays)} delays for {count} elements; give one for each")
        return np.array(event.delays)[None], weights[None]
    travel = _travel(event, elements, active, name) / sound_speed
    return np.maximum(travel - travel[active].min(), 0.0)[None], weights[None]


def _travel(event: PlaneWave | Focused | Diverging, elements: Elements, active: NDArray[np.bool_], name: str) -> Array:
    """How far (E,) metres the wave has come when it passes each element, up to a constant."""
    if isinstance(event, PlaneWave):
        return elements.centre @ [np.sin(event.angle), 0.0, np.cos(event.angle)]
    point = event.point if isinstance(event, Focused) else event.source
    away = np.asarray(point) - elements.centre
    ahead = (away * elements.normal).sum(axis=1)[active]
    where = f"({', '.join(f'{c * 1e3:g}' for c in point)}) mm"
    distance = np.linalg.norm(away, axis=1)
    if isinstance(event, Focused):
        if (ahead <= 0).all():
            raise ConfigError(f"{name}.point: {where} is in front of no active element; a focus lies before the array")
        return -distance
    if (ahead > 1e-9).any():
        raise ConfigError(f"{name}.source: {where} is in front of active elements; a source lies behind all of them")
    return distance


def _weights(apodization: str | tuple[float, ...], count: int, name: str) -> Array:
    if isinstance(apodization, str):
        return window(apodization, (np.arange(count) + 0.5) / count * 2.0 - 1.0)
    if len(apodization) != count:
        raise ConfigError(f"{name}.apodization: {len(apodization)} weights for {count} elements; give one for each")
    weights = np.array(apodization, dtype=np.float64)
    if not weights.any():
        raise ConfigError(f"{name}.apodization: all elements are off; at least one weight must differ from 0")
    return weights
