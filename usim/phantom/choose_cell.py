"""From the wanted size of a speckle cell to the pulse and the apertures that make it.

The pulse is stretched, `cycles` times s and `fractional_bandwidth` over s, until the axial size is met; then apertures
are narrowed, both f-numbers times s. Shapes and the ratio of the apertures stay as they are, as far as limits let them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

from usim.engines.cell import axial_cell, lateral_cell
from usim.engines.sector import beam_of
from usim.medium import Medium
from usim.phantom.cell import Speckle
from usim.probe import Probe
from usim.scan import Image, Receive, Sector
from usim.transmit import FocusedScan, PlaneScan
from usim.units import in_metres

BANDWIDTHS: Final = 0.05, 1.8
CYCLES: Final = 0.5, 16.0
F_NUMBERS: Final = 0.3, 20.0
TOLERANCE: Final = 2e-3  # of the size
SECANTS: Final = 6  # two or three do, but near the limits
LONGEST, STEP = 4.0, 0.15  # of the logarithm of s: the farthest from 0, and steps of a search

Scan = tuple[Probe, FocusedScan | PlaneScan, Receive]


@functools.lru_cache(maxsize=64)
def chosen(
    speckle: Speckle,
    probe: Probe,
    transmit: FocusedScan | PlaneScan,
    receive: Receive,
    medium: Medium,
    image: Image | Sector,
) -> Scan:
    """Probe, transmit and receive whose speckle cell at the transmit focus (mid-depth for plane waves) is `speckle`.

    Raises ValueError, which starts with the field, where the size can't be had.
    """
    if isinstance(image, Sector):
        box, depth = image.box(probe.radius or 0.0), sum(image.depth) / 2.0
    else:
        box, depth = (image.x, image.z), sum(image.z) / 2.0
    if isinstance(transmit, FocusedScan):
        depth = transmit.depth
    pixel = [(last - first) / (count - 1) for (first, last), count in zip(box, image.pixels, strict=True)]
    scan: Scan = probe, transmit, receive
    wide = max(part.f_number for part in (transmit, receive) if not isinstance(part, PlaneScan))
    widest = math.sqrt(depth * probe.center_frequency / medium.sound_speed) / wide
    for name, wanted, step, change, measure, most in (
        ("axial", speckle.axial, pixel[1], _stretched, axial_cell, math.inf),
        ("lateral", speckle.lateral, pixel[0], _narrowed, lateral_cell, widest),
    ):
        if wanted is not None:
            size = functools.partial(_size, scan, change, measure, medium, image, depth)
            scan = change(scan, _solved(f"speckle.{name}", size, most, in_metres(wanted, step), step))
    return scan


def _size(
    scan: Scan, change: Any, measure: Any, medium: Medium, image: Image | Sector, depth: float, s: float
) -> float:
    probe, transmit, receive = change(scan, s)
    return measure(beam_of(probe, transmit, receive, medium, image), depth)


def _stretched(scan: Scan, s: float) -> Scan:
    """The pulse s times as long."""
    probe, transmit, receive = scan
    bandwidth = _within(probe.fractional_bandwidth / s, BANDWIDTHS)
    name = probe.name if probe.name.endswith("(changed)") else f"{probe.name} (changed)"
    changed = probe.model_copy(update={"fractional_bandwidth": bandwidth, "name": name})
    return changed, transmit.model_copy(update={"cycles": _within(transmit.cycles * s, CYCLES)}), receive


def _narrowed(scan: Scan, s: float) -> Scan:
    """Apertures s times as narrow."""
    probe, transmit, receive = scan
    if isinstance(transmit, FocusedScan):
        transmit = transmit.model_copy(update={"f_number": _within(transmit.f_number * s, F_NUMBERS)})
    return probe, transmit, receive.model_copy(update={"f_number": _within(receive.f_number * s, F_NUMBERS)})


def _within(value: float, limits: tuple[float, float]) -> float:
    return float(f"{min(max(value, limits[0]), limits[1]):.6g}")


def _solved(name: str, size: Callable[[float], float], most: float, wanted: float, pixel: float) -> float:
    """The s, at most `most`, at which size(s) is `wanted` metres; ValueError, beginning with `name`, without one.

    Sizes grow with s up to the limits of what is changed. Across the beam they shrink again where apertures become
    narrower than their own diffraction, sqrt(lambda z): speckle changes when an aperture moves by its width.
    """

    def error(place: float) -> float:
        return math.log(size(math.exp(place)) / wanted)

    last = min(math.log(most), LONGEST)
    place, slope = min(0.0, last), 1.0
    found = error(place)
    for _ in range(SECANTS):
        if abs(found) < TOLERANCE:
            return math.exp(place)
        step = min(max(-found / slope, -1.0), 1.0, last - place)
        if step == 0.0:
            break
        before, found = found, error(place + step)
        place += step
        slope = max((found - before) / step, 0.3)
    return math.exp(_searched(name, error, last, wanted, pixel))


def _searched(name: str, error: Callable[[float], float], last: float, wanted: float, pixel: float) -> float:
    """The same in the logarithm of s, over all that limits allow: for what is near to them."""
    place = [last - k * STEP for k in range(math.ceil((last + LONGEST) / STEP), -1, -1)]
    found = [error(s) for s in place]
    most = max(range(len(found)), key=found.__getitem__)
    if not found[0] <= 0.0 <= found[most]:
        least, largest = (wanted * math.exp(end) for end in (found[0], found[most]))
        raise ValueError(
            f"{name}: a cell of {wanted * 1e3:.3g} mm ({wanted / pixel:.3g} px) can't be had with this probe and "
            f"medium at this depth; possible are {least * 1e3:.3g} mm to {largest * 1e3:.3g} mm "
            f"({least / pixel:.3g} px to {largest / pixel:.3g} px)"
        )
    first = next(k for k in range(most + 1) if found[k] >= 0.0)
    low, high = place[max(first - 1, 0)], place[first]
    while high - low > TOLERANCE:
        middle = (low + high) / 2.0
        low, high = (middle, high) if error(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0
