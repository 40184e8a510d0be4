"""Every numeric field of every description refuses what can't be: found by walking the models, so none is forgotten."""

import math
import tracemalloc
from typing import Annotated, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from usim.description import refusals
from usim.events import Delays, Diverging, Event, Focused, FullMatrix, PlaneWave
from usim.medium import Medium
from usim.phantom.cell import Speckle
from usim.phantom.map_regions import ImageMap, LabelMap
from usim.phantom.motion import Breathing, Flow, Pulsation, Rotation, Sequence, Shear, StrainMotion, Translation
from usim.phantom.regions import (
    Annulus,
    Circle,
    Ellipse,
    Layer,
    Polygon,
    Rectangle,
    Roughness,
    Spline,
    Triangle,
    Tube,
    Wave,
)
from usim.phantom.schema import Background, CloudFile, CloudSpec, Scene
from usim.phantom.screen import Display, DriftingGain, LogCurve, PowerCurve, Sliders
from usim.phantom.structure import Bounces, Haze, Interface, Point, Reverberation, Wire
from usim.phantom.tissue import Clusters, Fibres, Region, Smooth, Wall
from usim.phantom.views import Compound, Sweep
from usim.probe import PRESETS, Probe, Waveform
from usim.scan import Image, Noise, Receive, Sector
from usim.transmit import FocusedScan, PlaneScan
from usim.units import Count, Quantity

MM = 1e-3
TISSUE = {"echogenicity": -6.0, "attenuation": 1.0, "per_cell": 2.0, "edge": MM}
PLACE = {"center": [0.0, 20 * MM], "angle": 0.1, **TISSUE}
CORNERS = [[-3 * MM, 10 * MM], [3 * MM, 10 * MM], [-3 * MM, 15 * MM]]
IMAGE = {"x": [-19 * MM, 19 * MM], "z": [2 * MM, 42 * MM], "pixels": [8, 8], "dynamic_range": 60, "headroom": 25}

ELEMENT = {"element_width": MM, "element_height": MM, "center_frequency": 5e6, "fractional_bandwidth": 0.6}
SHOWN = {"pixels": [8, 8], "dynamic_range": 60, "headroom": 25}
SWING = {"frequency": 2, "phase": 0.1}
MAP = {"file": "map.png"}
SHOT = {"cycles": 1, "apodization": [1, 0.5]}

# Documents of ordinary size that together set every numeric field of every model.
EXAMPLES = {
    Probe: [PRESETS["C5-2v"], {**ELEMENT, "positions": [[MM, 2 * MM, 3 * MM]], "normals": [[0.1, 0.2, 0.5]]}],
    Waveform: [{"samples": [0.5, 1.0], "sampling_frequency": 40e6, "start": -25e-9}],
    Medium: [{"sound_speed": 1540, "attenuation": 0.5, "attenuation_power": 1.1}],
    FocusedScan: [{"depth": 20 * MM, "f_number": 2.5, "cycles": 1}],
    PlaneScan: [{"angle": 0.1, "cycles": 1}],
    Sector: [{"angle": [-0.5, 0.5], "depth": [20 * MM, 80 * MM], "lines": 8, "samples": 8, **SHOWN}],
    Translation: [{"velocity": [MM, MM]}, {"amplitude": [MM, MM], **SWING}],
    Rotation: [{"center": PLACE["center"], "rate": 0.1}, {"center": PLACE["center"], "amplitude": 0.1, **SWING}],
    Shear: [
        {"center": PLACE["center"], "angle": 0.1, "rate": 0.1},
        {"center": PLACE["center"], "amplitude": 0.1, **SWING},
    ],
    StrainMotion: [
        {"center": PLACE["center"], "angle": 0.1, "rate": 0.1},
        {"center": PLACE["center"], "amplitude": 0.1, **SWING},
    ],
    Breathing: [{"amplitude": 3 * MM, "angle": 1.5, "period": 4, "phase": 0.1}],
    Pulsation: [
        {"center": PLACE["center"], "radius": 3 * MM, "amplitude": 0.1, "heart_rate": 1, "phase": 0.1, "reach": 9 * MM},
        {"axis": [[MM, 20 * MM], [9 * MM, 20 * MM]], "radius": 3 * MM, "amplitude": 0.1},
        {"path": [[MM, 20 * MM], [9 * MM, 20 * MM]], "radius": 3 * MM, "amplitude": 0.1, "reach": 9 * MM},
    ],
    Flow: [
        {
            "region": "vessel",
            "velocity": 0.2,
            "angle": 0.1,
            "pulsatility": 0.5,
            "heart_rate": 1,
            "phase": 0.1,
            "decorrelation": 0.1,
        }
    ],
    Sequence: [{"times": 3, "rate": 20}],
    Sweep: [{"slices": 3, "step": MM}],
    Compound: [{"angles": [-0.1, 0.1]}, {"frequencies": [5e6, 7e6], "bandwidth": 0.3}],
    Receive: [{"f_number": 1.5}],
    Image: [IMAGE],
    Noise: [{"snr": 50}],
    CloudSpec: [{"per_cell": 12}],
    CloudFile: [{"file": "cloud.npz"}],
    Background: [{"echogenicity": 0.0}],
    Smooth: [{"std": 2, "correlation": 3 * MM, "seed": 1}],
    Fibres: [{"std": 2, "correlation": 3 * MM, "seed": 1, "direction": 0.5, "aspect": 3}],
    Clusters: [{"density": 1e6, "size": MM, "seed": 1}],
    Point: [{"position": [5 * MM, 20 * MM], "amplitude": 30}],
    Wire: [{"position": [5 * MM, 20 * MM], "amplitude": 30}],
    Interface: [{"path": [[5 * MM, 20 * MM], [7 * MM, 20 * MM]], "amplitude": 30, "roughness": 1e-5}],
    Bounces: [{"count": 3, "decay": 10}],
    Reverberation: [{"spacing": 3 * MM, "level": 5, "decay": 6, "count": 5, "x": [-5 * MM, 5 * MM]}],
    Haze: [{"level": -10, "depth": 10 * MM}],
    Circle: [{**PLACE, "radius": 3 * MM}, {**PLACE, "size": 6 * MM}],
    Ellipse: [{**PLACE, "radii": [4 * MM, 2 * MM]}, {**PLACE, "size": 6 * MM, "aspect": 2}],
    Rectangle: [{**PLACE, "width": 4 * MM, "height": 2 * MM}, {**PLACE, "size": 6 * MM, "aspect": 2}],
    Triangle: [{**PLACE, "size": 6 * MM}, {"vertices": CORNERS, "echogenicity": 1}],
    Polygon: [{**PLACE, "size": 6 * MM, "sides": 6}, {"vertices": CORNERS, "echogenicity": 1}],
    Annulus: [{**PLACE, "inner": 2 * MM, "outer": 3 * MM}, {**PLACE, "size": 6 * MM}],
    Spline: [{"vertices": CORNERS, "angle": 0.1, **TISSUE}],
    Tube: [{"path": CORNERS, "radius": MM, **TISSUE}],
    Wave: [{"amplitude": MM, "wavelength": 8 * MM, "phase": 0.5}],
    Roughness: [{"std": MM, "correlation": 8 * MM, "seed": 1}],
    Wall: [{"thickness": MM, **TISSUE}],
    Layer: [{"z": [2 * MM, 5 * MM], **TISSUE}],
    Display: [{"gain": 3, "gamma": 1.2, "persistence": 3}],
    LogCurve: [{"dynamic_range": 60, "white": -3}],
    PowerCurve: [{"exponent": 0.4, "black": -50, "white": -3}],
    Sliders: [{"sliders": [1, -2]}],
    DriftingGain: [{"std": 3, "correlation": 10 * MM, "seed": 1}],
    Speckle: [{"axial": MM, "lateral": MM}],
    Region: [TISSUE],
    ImageMap: [
        {**MAP, **TISSUE, "x": [-MM, MM], "z": [2 * MM, 9 * MM], "levels": [-20, 3], "grey": [10, 200], "slice": 2},
        {**MAP, "center": [2 * MM, 9 * MM], "pixel": MM, "curve": {0: 1, 5: 2}, "anechoic_below": 1, "angle": 1.0},
    ],
    LabelMap: [
        {**MAP, "x": [-5 * MM, 5 * MM], "z": [2 * MM, 9 * MM], "values": {0: "none"}, "slice": 2},
        {**MAP, "center": [2 * MM, 9 * MM], "pixel": MM, "values": {0: "none"}, "angle": 1.0},
    ],
    PlaneWave: [{"angle": 0.1, **SHOT}],
    Focused: [{"point": [MM, 2 * MM, 20 * MM], **SHOT}],
    Diverging: [{"source": [MM, 2 * MM, -20 * MM], **SHOT}],
    FullMatrix: [{"cycles": 1}],
    Delays: [{"delays": [1e-6, 2e-6], **SHOT}],
    Scene: [
        {"probe": "L11-5v", "image": IMAGE, "background": {"echogenicity": 0}, "tgc": 1.0, "frames": 2, "seed": 3},
        {"probe": "L11-5v", "image": IMAGE, "background": {"echogenicity": 0}, "looks": 2, "angles": [-0.1, 0.1]},
    ],
}


def models_of(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_of(field.annotation)
    for argument in get_args(annotation):
        yield from models_of(argument)


def marks_of(annotation, metadata=(), path=()):
    """Yield (path inside the field, mark) of each number in an annotation; a number without a mark yields None."""
    found = [mark for mark in metadata if isinstance(mark, Quantity | Count)]
    if found:
        yield path, found[0]
    elif get_origin(annotation) is Annotated:
        yield from marks_of(get_args(annotation)[0], get_args(annotation)[1:], path)
    elif get_origin(annotation) is dict:
        return  # mappings by grey value and label: tests/unit/test_maps.py
    elif annotation in (int, float):
        yield path, None
    elif get_origin(annotation) is tuple:
        items = [item for item in get_args(annotation) if item is not Ellipsis]
        for i, item in enumerate(items):
            yield from marks_of(item, (), (*path, i))
    elif not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        for argument in get_args(annotation):
            yield from marks_of(argument, (), path)


def numeric_fields():
    for model in EXAMPLES:
        for name, field in model.model_fields.items():
            for path, mark in marks_of(field.annotation, field.metadata):
                yield model, (name, *path), mark


FIELDS = list(numeric_fields())
IDS = [f"{model.__name__}.{'.'.join(map(str, path))}" for model, path, _ in FIELDS]


def value_at(document, path):
    for key in path:
        missing = key not in document if isinstance(document, dict) else document is None
        if missing:
            return None
        document = document[key]
    return document


def replaced(document, path, value):
    if not path:
        return value
    if isinstance(document, list):
        return [replaced(item, path[1:], value) if i == path[0] else item for i, item in enumerate(document)]
    return {**document, path[0]: replaced(document[path[0]], path[1:], value)}


def example_of(model, path):
    return next(document for document in EXAMPLES[model] if value_at(document, path) is not None)


def bad_values(mark, ordinary):
    yield from (math.nan, math.inf, -math.inf, "nan", ".inf", 1e30, -1e30, "1e30", True, [1], {})
    lowest = mark.least if isinstance(mark, Count) or mark.above is None else mark.above
    if lowest is not None and lowest >= 0:
        yield from (-1, -1e-9, "-3")
        if lowest > 0 or (isinstance(mark, Quantity) and mark.above == 0):
            yield from (0, 0.0, "0")
    if isinstance(mark, Quantity) and mark.dimension == "length" and ordinary:
        # Millimetres written as metres: 40 for 40 mm.
        yield from (ordinary * 1000, f"{ordinary * 1000:g}", f"{ordinary * 1000:g} m")
    if isinstance(mark, Quantity) and mark.dimension == "frequency":
        yield from ("7.6 mm", "7600 MHz")
        if ordinary >= 1e3:  # megahertz written as hertz; images per second and heart rates may be that low
            yield ordinary / 1e6


def test_every_model_has_an_example():
    assert {*models_of(Scene), *models_of(Event)} == set(EXAMPLES)


@pytest.mark.parametrize("model", EXAMPLES)
def test_the_examples_are_valid(model):
    for document in EXAMPLES[model]:
        model.model_validate(document)


@pytest.mark.parametrize(("model", "path", "mark"), FIELDS, ids=IDS)
def test_what_cannot_be_is_refused_with_the_limit(model, path, mark):
    assert mark is not None, "a number without limits: mark it with Quantity or Count"
    if isinstance(mark, Quantity):
        assert math.isfinite(mark.most)
        assert mark.least is not None or mark.above is not None
    document = example_of(model, path)
    ordinary = value_at(document, path)
    for value in bad_values(mark, ordinary):
        with pytest.raises(ValidationError) as caught:
            model.model_validate(replaced(document, path, value))
        found = [refusal for refusal in refusals(caught.value, model) if refusal.path == path]
        assert found, f"{value!r} was not refused at {path}"
        words = ("beyond", "at least", "greater than", "finite", "expected", "is below", "is a ", "unknown unit")
        assert any(word in found[0].message for word in words), found[0].message


@pytest.mark.parametrize("pixels", [[10**9, 10**9], [8192, 10**12], [1e30, 8]])
def test_huge_images_are_refused_before_anything_is_allocated(pixels):
    tracemalloc.start()
    try:
        with pytest.raises(ValidationError, match="8192"):
            Image.model_validate({**IMAGE, "pixels": pixels})
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
