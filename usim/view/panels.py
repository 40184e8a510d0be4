"""What pictures and movies share: images in millimetres, what is shown of a frame, and what a frame is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from usim.frame import Axes, Frame
from usim.phantom.views import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Panel

_DEFAULT_RANGE, _DEFAULT_HEADROOM = 60.0, 25.0


class Shown(NamedTuple):
    """One picture of a frame: title, values (Z, X), and the values that are black and white."""

    title: str
    values: NDArray[Any]
    black: float
    white: float


def dynamic_range(frame: Frame) -> float:
    """Decibels from black to white."""
    return float(_image(frame).get("dynamic_range", _DEFAULT_RANGE))


def image_and_truth(frame: Frame, depth: float) -> list[Shown]:
    """The image and the same without speckle, `depth` dB from black to white."""
    return [
        _shown(frame, "image", frame.bmode, -depth, 0.0),
        _shown(frame, "truth: bmode", frame.truth.bmode, -depth, 0.0),
    ]


def ideal_truths(frame: Frame, depth: float) -> list[Shown]:
    """Resolved and ideal echogenicity; relative to tissue, which lies the headroom below 0 dB: shifted by it."""
    headroom = float(_image(frame).get("headroom", _DEFAULT_HEADROOM))
    return [
        _shown(frame, "truth: resolved", frame.truth.resolved_db - headroom, -depth, 0.0),
        _shown(frame, "truth: echogenicity", frame.truth.echogenicity_db - headroom, -depth, 0.0),
    ]


def displays(frame: Frame) -> list[Shown]:
    """What the scanner shows, and what it shows on average, from its black to its white; empty without a display."""
    if frame.display is None or frame.truth.display is None:
        return []
    white = 255.0 if frame.display.dtype == np.uint8 else 1.0
    return [
        _shown(frame, f"display, 0 to {white:g}", frame.display, 0.0, white),
        _shown(frame, "truth: display", frame.truth.display, 0.0, white),
    ]


def _shown(frame: Frame, title: str, values: NDArray[Any], black: float, white: float) -> Shown:
    """A picture that is black outside the sector that was scanned."""
    return Shown(title, np.where(scanned(frame), values, black), black, white)


def scanned(frame: Frame) -> NDArray[np.bool_]:
    """Where (Z, X) the frame has echoes: everywhere, but for the corners that a sector leaves."""
    mask = frame.truth.mask
    return np.ones(frame.bmode.shape, bool) if mask is None else mask > 0


def _image(frame: Frame) -> dict[str, Any]:
    settings: dict[str, Any] = frame.params.get("scene", {}).get("image", {})
    return settings


def name_of(frame: Frame) -> str:
    """What a person calls a frame: its scene, and its look, slice, angle and time where the scene has several.

    >>> name_of(usim.simulate("cyst", index=3, look=1))  # doctest: +SKIP
    'scene 3, look 1'
    """
    params, scene = frame.params, frame.params.get("scene", {})
    words = [f"scene {params.get('index', 0)}"]
    if params.get("look", 0) or scene.get("looks", 1) > 1:
        words.append(f"look {params.get('look', 0)}")
    if scene.get("sweep"):
        words.append(f"y = {elevation_of(frame) * 1e3:.4g} mm")
    if scene.get("angles"):
        words.append(f"angle {np.degrees(scene['angles'][params['angle']]):.4g}°")
    if scene.get("sequence"):
        words.append(f"t = {params['time'] / scene['sequence']['rate'] * 1e3:.4g} ms")
    return ", ".join(words)


def elevation_of(frame: Frame) -> float:
    """Elevation y of a frame's slice, metres."""
    return Sweep.model_validate(frame.params["scene"]["sweep"]).elevations[frame.params["slice"]]


def rate_of(frame: Frame) -> float | None:
    """Images per second of the sequence that a frame is of; None where it is of none."""
    sequence = frame.params.get("scene", {}).get("sequence")
    return float(sequence["rate"]) if sequence else None


def extent_of(across: NDArray[Any], down: NDArray[Any]) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of an image whose pixel centres lie at `across` and `down`, metres, in mm."""
    x, z = across * 1e3, down * 1e3
    dx, dz = (x[-1] - x[0]) / max(len(x) - 1, 1) / 2, (z[-1] - z[0]) / max(len(z) - 1, 1) / 2
    return x[0] - dx, x[-1] + dx, z[-1] + dz, z[0] - dz


def show_image(panel: Panel, axes: Axes, title: str, values: NDArray[Any], **options: Any) -> Any:
    """Show values (Z, X) or colours (Z, X, 4) over axes in millimetres; returns matplotlib's image."""
    panel.set_title(title, fontsize=10)
    extent = extent_of(axes.x, axes.z)
    return panel.imshow(values, extent=extent, **{"aspect": "equal", "interpolation": "antialiased", **options})


def show_grey(panel: Panel, axes: Axes, shown: Shown, **options: Any) -> Any:
    """Show one picture of a frame in grey; returns matplotlib's image."""
    scale = {"cmap": "gray", "vmin": shown.black, "vmax": shown.white}
    return show_image(panel, axes, shown.title, shown.values, **scale, **options)
