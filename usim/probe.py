"""The probe: a linear array of equal elements behind one elevation lens."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, model_validator

from usim.description import Description
from usim.units import Count, Quantity, did_you_mean, show

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
}  # fmt: skip


class Probe(Description):
    """A linear array, centred on the origin, its elements along x.

    Raises ConfigError when a field is outside its limits or the elements would overlap.

    >>> round(Probe.preset("L11-5v").aperture, 5)
    0.03837
    """

    shorthands: ClassVar[tuple[str, ...]] = ("preset",)

    name: Annotated[str, Field(max_length=100)] = "custom"
    """The name that is written to files."""
    elements: Annotated[int, Count(2, 1024)]
    """Number of elements."""
    pitch: Annotated[float, Quantity("length", above=0, most=5e-3)]
    """Metres; distance of neighbouring element centres."""
    element_width: Annotated[float, Quantity("length", above=0, most=5e-3)]
    """Metres; active width of an element along x, at most the pitch."""
    element_height: Annotated[float, Quantity("length", above=0, most=50e-3)]
    """Metres; active height of an element along y (elevation)."""
    elevation_focus: Annotated[float, Quantity("length", above=0, most=0.5)]
    """Metres; depth at which the elevation lens focuses."""
    center_frequency: Annotated[float, Quantity("frequency", least=0.2e6, most=60e6)]
    """Hertz; centre of the pulse-echo band."""
    fractional_bandwidth: Annotated[float, Quantity("fraction", least=0.05, most=1.8)]
    """Fraction of the centre frequency; pulse-echo, at -6 dB."""

    @classmethod
    def preset(cls, name: str) -> Probe:
        """Return a probe by name: one of PRESETS; ConfigError otherwise."""
        given: dict[str, Any] = {"preset": name}
        return cls(**given)

    @property
    def kerf(self) -> float:
        """Metres; gap between neighbouring elements."""
        return self.pitch - self.element_width

    @property
    def aperture(self) -> float:
        """Metres; from the outer edge of the first element to that of the last."""
        return (self.elements - 1) * self.pitch + self.element_width

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, given: Any) -> Any:
        """Accept a preset's name, or a mapping with `preset` whose other keys override it."""
        fields = {"preset": given} if isinstance(given, str) else given
        if not isinstance(fields, dict) or "preset" not in fields:
            return given
        name = fields["preset"]
        if not isinstance(name, str) or name not in PRESETS:
            hint = did_you_mean(name, PRESETS) if isinstance(name, str) else ""
            raise ValueError(f"'{show(name)}' is no preset{hint} (presets: {', '.join(PRESETS)})")
        changed = {key: value for key, value in fields.items() if key != "preset"}
        return {"name": f"{name} (changed)" if changed else name, **PRESETS[name], **changed}

    @model_validator(mode="after")
    def _elements_fit(self) -> Probe:
        if self.element_width > self.pitch:
            raise ValueError(
                f"element_width {self.element_width * 1e3:g} mm exceeds pitch {self.pitch * 1e3:g} mm: "
                "elements would overlap"
            )
        return self
