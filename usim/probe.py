"""The probe: equal elements in a row, on an arc or anywhere, behind one elevation lens."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, field_validator, model_validator

from usim.description import Description
from usim.errors import ConfigError
from usim.units import Count, Quantity, did_you_mean, show

MOST_ELEMENTS: Final = 16384
MOST_SAMPLES: Final = 65536
WIDEST_KERF: Final = 5e-3
AGREEMENT: Final = 1e-9  # metres; pitch, element_width and kerf agree when they do to a nanometre

PRESETS: Final[dict[str, dict[str, Any]]] = {
    "L11-5v": {
        "elements": 128, "pitch": 0.3e-3, "element_width": 0.27e-3, "element_height": 5e-3,
        "elevation_focus": 18e-3, "center_frequency": 7.6e6, "fractional_bandwidth": 0.77,
    },
    "L12-3v": {
        "elements": 192, "pitch": 0.2e-3, "element_width": 0.17e-3, "element_height": 5e-3,
        "elevation_focus": 20e-3, "center_frequency": 7.54e6, "fractional_bandwidth": 0.93,
    },
    "L7-4": {
        "elements": 128, "pitch": 0.298e-3, "element_width": 0.25e-3, "element_height": 7.5e-3,
        "elevation_focus": 25e-3, "center_frequency": 5.208e6, "fractional_bandwidth": 0.6,
    },
    "C5-2v": {
        "elements": 128, "pitch": 0.508e-3, "element_width": 0.46e-3, "element_height": 13.5e-3, "radius": 49.57e-3,
        "elevation_focus": 60e-3, "center_frequency": 3.57e6, "fractional_bandwidth": 0.79,
    },
    "P4-2v": {
        "elements": 64, "pitch": 0.3e-3, "element_width": 0.25e-3, "element_height": 14e-3,
        "elevation_focus": 60e-3, "center_frequency": 2.72e6, "fractional_bandwidth": 0.74,
    },
    # No source gives the height and the lens of the P6-3: a height of this class of probe, and no lens.
    "P6-3": {
        "elements": 64, "pitch": 0.218e-3, "element_width": 0.193e-3, "element_height": 12e-3,
        "elevation_focus": None, "center_frequency": 4.5e6, "fractional_bandwidth": 2 / 3,
    },
}  # fmt: skip


def _listed(given: Any) -> Any:
    """Take an array as the list of its numbers."""
    return given.tolist() if hasattr(given, "tolist") else given


Listed: Final = BeforeValidator(_listed)
"""Mark of a field that also takes a NumPy array."""
Coordinate = Annotated[float, Quantity("length", least=-0.5, most=0.5)]
Place = tuple[Coordinate, Coordinate, Coordinate]
Component = Annotated[float, Quantity("number", least=-1e6, most=1e6)]
Vector = tuple[Component, Component, Component]
# Of thousands of numbers the first that is wrong is told. (A `min_length` would then complain as well.)
Places = Annotated[tuple[Place, ...], Field(max_length=MOST_ELEMENTS, fail_fast=True), Listed]
Vectors = Annotated[tuple[Vector, ...], Field(max_length=MOST_ELEMENTS, fail_fast=True), Listed]
Sample = Annotated[float, Quantity("number", least=-1e12, most=1e12)]


class Waveform(Description):
    """A signal as samples, in any unit of amplitude; its time zero is its own t = 0, wherever `start` puts it.

    The impulse response of a symmetric element, say, starts at minus half its duration, so that it delays nothing.
    Raises ConfigError when a field is outside its limits or every sample is zero.

    >>> Waveform(samples=(0.5, 1.0, 0.5), sampling_frequency="40 MHz", start=-25e-9).duration
    5e-08
    """

    samples: Annotated[tuple[Sample, ...], Field(max_length=MOST_SAMPLES, fail_fast=True), Listed]
    """The values, zero before the first and after the last."""
    sampling_frequency: Annotated[float, Quantity("frequency", least=1e3, most=5e9)]
    """Hertz."""
    start: Annotated[float, Quantity("time", least=-1.0, most=1.0)] = 0.0
    """Seconds; the time of the first sample."""

    @property
    def duration(self) -> float:
        """Seconds; from the first sample to the last."""
        return (len(self.samples) - 1) / self.sampling_frequency

    @field_validator("samples")
    @classmethod
    def _not_silent(cls, samples: tuple[float, ...]) -> tuple[float, ...]:
        if len(samples) < 2:
            raise ValueError(f"expected at least 2 values, got {len(samples)}")
        if not any(samples):
            raise ValueError("every sample is zero; at least one must not be")
        return samples


class Probe(Description):
    """Equal rectangular elements: in a row along x, on an arc (`radius`), or anywhere (`positions`, `normals`).

    The origin is the centre of the face of a row or an arc. Instead of `pitch` or of `element_width` the gap `kerf`
    may be given, and `preset` names a probe whose other fields may then be overridden.
    Raises ConfigError when a field is outside its limits or the elements would overlap.

    >>> round(Probe.preset("L11-5v").aperture, 5)
    0.03837
    """

    shorthands: ClassVar[tuple[str, ...]] = ("preset", "kerf")

    name: Annotated[str, Field(max_length=100)] = "custom"
    """The name that is written to files."""
    elements: Annotated[int, Count(1, MOST_ELEMENTS)]
    """Number of elements; at least 2, but for `positions`."""
    pitch: Annotated[float, Quantity("length", above=0, most=5e-3)] | None
    """Metres; distance of neighbouring element centres, straight. `positions` do without."""
    element_width: Annotated[float, Quantity("length", above=0, most=5e-3)]
    """Metres; active width of an element along x, at most the pitch."""
    element_height: Annotated[float, Quantity("length", above=0, most=50e-3)]
    """Metres; active height of an element along y (elevation)."""
    elevation_focus: Annotated[float, Quantity("length", above=0, most=0.5)] | None = None
    """Metres; depth at which the elevation lens focuses. None: no lens."""
    center_frequency: Annotated[float, Quantity("frequency", least=0.2e6, most=60e6)]
    """Hertz; centre of the pulse-echo band."""
    fractional_bandwidth: Annotated[float, Quantity("fraction", least=0.05, most=1.8)]
    """Fraction of the centre frequency; pulse-echo, at -6 dB."""
    radius: Annotated[float, Quantity("length", above=0, most=1.0)] | None = None
    """Metres; radius of curvature of a convex array. None: flat."""
    positions: Places | None = None
    """Metres; centre (x, y, z) of each element, for any geometry. None: a row or an arc."""
    normals: Vectors | None = None
    """The direction that each of `positions` faces, scaled to length 1. None: all face +z."""
    impulse_response: Waveform | None = None
    """One-way response of an element. None: that of the bandwidth."""

    @classmethod
    def preset(cls, name: str) -> Probe:
        """Return a probe by name: one of PRESETS; ConfigError otherwise."""
        given: dict[str, Any] = {"preset": name}
        return cls(**given)

    @classmethod
    def from_elements(cls, positions: Any, normals: Any = None, **fields: Any) -> Probe:
        """Return a probe of elements anywhere.

        positions: (E, 3) metres. normals: (E, 3), any length but 0; None: all face +z. fields: the other fields.
        Raises ConfigError as the constructor does.

        >>> ring = [(0.0, 0.0, 0.0), (0.01, 0.0, 0.0)]
        >>> shared = {"element_width": 2e-4, "element_height": 5e-3, "center_frequency": 5e6}
        >>> Probe.from_elements(ring, fractional_bandwidth=0.6, **shared).elements
        2
        """
        return cls(positions=positions, normals=normals, **fields)

    @classmethod
    def matrix(cls, *, elements: tuple[int, int], pitch: tuple[float | str, float | str], **fields: Any) -> Probe:
        """Return a flat matrix array, its centre on the origin; x runs fastest: element iy nx + ix.

        elements: (nx, ny). pitch: (px, py), metres or text. fields: the other fields, element_width along x.
        Raises ConfigError when a field is outside its limits or the elements would overlap.

        >>> shared = {"element_width": "0.25 mm", "element_height": "0.25 mm", "fractional_bandwidth": 0.6}
        >>> probe = Probe.matrix(elements=(8, 4), pitch=("0.3 mm", "0.3 mm"), center_frequency="3 MHz", **shared)
        >>> probe.elements, probe.positions[1][0] - probe.positions[0][0] > 0
        (32, True)
        """
        (nx, ny), (px, py) = _pair("elements", elements, Count(1, MOST_ELEMENTS)), _pair("pitch", pitch, _PITCH)
        if nx * ny > MOST_ELEMENTS:
            raise ConfigError(f"Probe.elements: {nx} x {ny} is beyond {MOST_ELEMENTS} elements; use fewer")
        x, y = ([(i - (n - 1) / 2) * p for i in range(n)] for n, p in ((nx, px), (ny, py)))
        probe = cls(positions=[(u, v, 0.0) for v in y for u in x], pitch=px, **fields)
        if ny > 1 and probe.element_height > py:
            raise ConfigError(
                f"Probe: element_height {probe.element_height * 1e3:g} mm exceeds pitch {py * 1e3:g} mm along y: "
                "elements would overlap"
            )
        return probe

    @property
    def is_linear(self) -> bool:
        """Whether the elements stand in a straight row."""
        return self.radius is None and self.positions is None

    @property
    def kerf(self) -> float | None:
        """Metres; gap between neighbouring elements, None where there is no pitch."""
        return None if self.pitch is None else self.pitch - self.element_width

    @property
    def arc_step(self) -> float:
        """Radians; angle between neighbouring elements of a convex array, 0 for others."""
        return 0.0 if self.radius is None or self.pitch is None else 2.0 * math.asin(self.pitch / (2.0 * self.radius))

    @property
    def aperture(self) -> float:
        """Metres; from the outer edge of the first element to that of the last, straight; along x for `positions`."""
        if self.positions is not None or self.pitch is None:
            x = [place[0] for place in self.positions or ()]
            return max(x) - min(x) + self.element_width
        if self.radius is None:
            return (self.elements - 1) * self.pitch + self.element_width
        last = (self.elements - 1) / 2 * self.arc_step
        return 2.0 * self.radius * math.sin(last) + self.element_width * math.cos(last)

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        """Accept a preset's name, a mapping with `preset` whose other keys override it, and `kerf`."""
        fields = {"preset": given} if isinstance(given, str) else given
        if not isinstance(fields, dict):
            return given
        preset: dict[str, Any] = {}
        if "preset" in fields:
            name = fields["preset"]
            if not isinstance(name, str) or name not in PRESETS:
                hint = did_you_mean(name, PRESETS) if isinstance(name, str) else ""
                raise ValueError(f"'{show(name)}' is no preset{hint} (presets: {', '.join(PRESETS)})")
            fields = {key: value for key, value in fields.items() if key != "preset"}
            preset = {"name": f"{name} (changed)" if fields else name, **PRESETS[name]}
        if "kerf" in fields:
            fields = _without_kerf(fields, preset)
        positions = fields.get("positions")
        if positions is not None:  # they replace a preset's row or arc
            count = {"elements": len(positions)} if hasattr(positions, "__len__") else {}
            preset = {**preset, **count, "pitch": None, "radius": None}
        return {**preset, **fields}

    @field_validator("normals")
    @classmethod
    def _unit_length(cls, normals: tuple[Vector, ...] | None) -> tuple[Vector, ...] | None:
        return None if normals is None else tuple(_unit(i, normal) for i, normal in enumerate(normals))

    @model_validator(mode="after")
    def _elements_fit(self) -> Probe:
        if self.positions is None:
            self._check_row()
        else:
            self._check_positions(len(self.positions))
        if self.pitch is not None and self.element_width > self.pitch:
            raise ValueError(
                f"element_width {self.element_width * 1e3:g} mm exceeds pitch {self.pitch * 1e3:g} mm: "
                "elements would overlap"
            )
        return self

    def _check_row(self) -> None:
        if self.pitch is None:
            raise ValueError("pitch: an array in a row needs one; only `positions` do without")
        if self.elements < 2:
            raise ValueError("elements: 1 is below 2; a single element is given by `positions`")
        if self.normals is not None:
            raise ValueError("normals: they belong to `positions`, which are missing; give both or neither")
        if self.radius is None:
            return
        half = self.pitch / (2.0 * self.radius)
        if half >= 1.0 or (self.elements - 1) * 2.0 * math.asin(half) >= math.pi:
            raise ValueError(
                f"radius {self.radius * 1e3:g} mm is too small: {self.elements} elements of pitch "
                f"{self.pitch * 1e3:g} mm would span half a circle or more; use a larger radius or fewer elements"
            )

    def _check_positions(self, count: int) -> None:
        if self.elements != count:
            raise ValueError(f"elements: {self.elements}, but there are {count} positions; leave `elements` out")
        if self.normals is not None and len(self.normals) != count:
            raise ValueError(f"normals: {len(self.normals)} for {count} positions; give one for each")
        if self.radius is not None:
            raise ValueError("radius: `positions` say where the elements are; leave the radius out")


_PITCH: Final = Quantity("length", above=0, most=5e-3)
_LENGTHS: Final = {"pitch": _PITCH, "element_width": _PITCH, "kerf": Quantity("length", least=0, most=WIDEST_KERF)}


def _without_kerf(given: dict[str, Any], preset: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with pitch and element_width in place of the kerf and one of them; all three must agree."""
    known = {name: _check(name, given[name], mark) for name, mark in _LENGTHS.items() if given.get(name) is not None}
    fields = {key: value for key, value in given.items() if key != "kerf"}
    if "kerf" not in known:
        return fields
    if "element_width" not in known and "pitch" not in known and "pitch" in preset:
        known["pitch"] = preset["pitch"]
    if "element_width" in known and "pitch" in known:
        gap = known["pitch"] - known["element_width"]
        if abs(gap - known["kerf"]) > AGREEMENT:
            raise ValueError(
                f"kerf {known['kerf'] * 1e3:g} mm, but pitch {known['pitch'] * 1e3:g} mm and element_width "
                f"{known['element_width'] * 1e3:g} mm leave {gap * 1e3:g} mm; leave one of the three out"
            )
    elif "element_width" in known:  # rounded to a femtometre: 0.25 mm and 0.05 mm must be the float 0.0003
        fields["pitch"] = round(known["element_width"] + known["kerf"], 15)
    elif "pitch" in known:
        width = round(known["pitch"] - known["kerf"], 15)
        if width <= 0:
            raise ValueError(
                f"kerf {known['kerf'] * 1e3:g} mm leaves no element in a pitch of {known['pitch'] * 1e3:g} mm; "
                "it must be smaller than the pitch"
            )
        fields["element_width"] = width
    return fields


def _check(name: str, value: Any, mark: Quantity) -> float:
    try:
        return float(mark.check(value))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _pair(name: str, pair: Any, mark: Any) -> tuple[Any, Any]:
    """Return two checked values of a matrix array, along x and along y; ConfigError otherwise."""
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ConfigError(f"Probe.{name}: expected two values, along x and along y, got {show(pair)}")
    try:
        return mark.check(pair[0]), mark.check(pair[1])
    except ValueError as error:
        raise ConfigError(f"Probe.{name}: {error}") from None


def _unit(index: int, vector: Vector) -> Vector:
    length = math.hypot(*vector)
    if length < 1e-9:
        raise ValueError(f"number {index} has no direction: its length is 0")
    if abs(length - 1.0) < 1e-14:  # as it stands: what was written to a file must read back the same
        return vector
    return (vector[0] / length, vector[1] / length, vector[2] / length)
