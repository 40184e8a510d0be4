"""Random documents of the whole phantom language, read off its models: a new key or shape is met without a word here.

`documents()` yields nested plain data that is often, not always, a phantom: values come from inside their limits, but
need not fit together. PLAUSIBLE narrows what would seldom do; whoever adds a key that needs more than its limits adds
a line there.
"""

import types
from typing import Annotated, Literal, Union, get_args, get_origin

from annotated_types import MinLen
from hypothesis import strategies as st
from pydantic import BaseModel

from usim.phantom.placement import Group
from usim.phantom.regions import AnyRegion
from usim.phantom.schema import Scene
from usim.phantom.structure import Interface, Point, Wire
from usim.probe import PRESETS
from usim.units import UNITS, Count, Quantity

MM = 1e-3
#: Where values usually lie that may be anything physical: low and high end by dimension, in the unit inside.
USUAL = {
    "length": (-15 * MM, 30 * MM), "time": (0.0, 2.0), "frequency": (0.5, 50.0), "speed": (-0.5, 0.5),
    "attenuation": (0.0, 2.0), "angle": (-3.0, 3.0), "level": (-40.0, 20.0), "level slope": (0.0, 3.0),
    "fraction": (-0.3, 0.3), "number": (0.1, 20.0), "number per area": (1e5, 1e7),
}  # fmt: skip
LIKELY = 0.25  # of an optional key to be written
RARE = 0.04  # of one that few others go with
TEXT = st.text("abc äß½ 日本 _-'\"{}[]:#,&*!|>%@", max_size=9)


def between(low, high, integer=False):
    return st.integers(low, high) if integer else st.floats(low, high, allow_subnormal=False)


PLAUSIBLE = {
    ("Scene", "probe"): st.sampled_from([name for name in PRESETS if name.startswith("L")]),
    ("Scene", "frames"): between(1, 9, True),
    ("Scene", "seed"): between(0, 99, True),
    ("Scene", "looks"): between(1, 3, True),
    ("Display", "bits"): st.just(8),
    ("Reverberation", "x"): st.just(["-5 mm", {"uniform": ["0 mm", "8 mm"]}]),
    ("Sweep", "slices"): between(2, 4, True),
    ("Scene", "image"): st.sampled_from([
        {"x": ["-12 mm", "12 mm"], "z": ["4 mm", "28 mm"], "pixels": [12, 16]},
        {"x": ["-12 mm", "12 mm"], "z": ["4 mm", "28 mm"], "pixels": [12, 16]},
        {"angle": ["-20 deg", "25 deg"], "depth": ["4 mm", "28 mm"], "lines": 12, "samples": 24, "pixels": [12, 16]},
    ]),
    ("Scene", "engine"): st.just("psf"),
    ("Scene", "psf"): st.just("separable"),
    ("CloudFile", "file"): st.just("cloud.npz"),
    ("Medium", "sound_speed"): between(1400, 1600),
    ("Sequence", "times"): between(2, 4, True),
    ("Sequence", "rate"): between(10.0, 1000.0),
    **{(shape, "file"): st.sampled_from(["map.png", "map.npy"]) for shape in ("ImageMap", "LabelMap")},
    **{(shape, "sha256"): st.just("") for shape in ("ImageMap", "LabelMap", "CloudFile")},
    **{(shape, "slice"): between(0, 2, True) for shape in ("ImageMap", "LabelMap")},
    **{(shape, "x"): st.just(["-8 mm", {"uniform": ["-6 mm", "7 mm"]}]) for shape in ("ImageMap", "LabelMap")},
    **{(shape, "z"): st.just(["5 mm", "16 mm"]) for shape in ("ImageMap", "LabelMap")},
    ("Layer", "z"): st.sampled_from([["5 mm", "9 mm"], [{"uniform": [0.0, 2e-3]}, "6 mm"]]),
    ("ImageMap", "grey"): st.just([0, 200]),
    ("ImageMap", "curve"): st.just({"0": -30, "100": "-6 dB", "255": 3}),
    ("ImageMap", "anechoic_below"): between(0, 60),
    ("LabelMap", "others"): st.just("none"),
}  # fmt: skip

ALONE = {("Scene", name) for name in ("looks", "sweep", "angles", "compound", "sequence", "speckle")}
ALONE |= {("LabelMap", "axes"), ("ImageMap", "axes"), ("Medium", "sound_speed")}
#: Optional keys of which one set is taken, as most shapes have more than one way of sizing.
WAYS = {
    "Circle": (("radius",), ("size",)),
    "Ellipse": (("radii",), ("size",), ("size", "aspect")),
    "Annulus": (("inner", "outer"), ("size",)),
    "Rectangle": (("width", "height"), ("size",), ("size", "aspect")),
    "Triangle": (("center", "size"), ("vertices",)),
    "Polygon": (("center", "size"), ("center", "size", "sides"), ("vertices",)),
    "ImageMap": (("x", "z", "levels"), ("center", "pixel", "levels", "grey"), ("x", "z", "curve")),
    "Compound": (("angles",), ("frequencies",)),
    "Speckle": (("axial",), ("lateral",), ("axial", "lateral")),
    "LabelMap": (("x", "z", "others"), ("center", "pixel", "others"), ("x", "z")),
}


@st.composite
def ranged(draw, values):
    """A value, now and then a range or a choice of such values."""
    value = draw(values)
    kind = draw(st.sampled_from(["value"] * 8 + ["uniform", "choice", "normal", "log_uniform"]))
    if kind == "choice":
        return {"choice": [value, *draw(st.lists(values, max_size=2))]}
    if kind == "value" or isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int):
        return {"integer": sorted((value, draw(values)))}
    other = draw(values)
    if isinstance(other, str) or kind == "normal":
        return {"normal": [value, abs(value) / 50]}
    low, high = sorted((value, other))
    return {"log_uniform" if kind == "log_uniform" and low > 0 else "uniform": [low, high]}


@st.composite
def written(draw, mark):
    """A quantity inside its limits, as a number or with a unit."""
    usual_low, usual_high = USUAL.get(mark.dimension, (0.0, 10.0))
    least = mark.least if mark.least is not None else mark.above
    low = usual_low if least is None else max(least, min(usual_low, mark.most))
    low = low if mark.above is None or low > mark.above else mark.above + min(1e-4, (mark.most - mark.above) / 9)
    high = max(low, min(usual_high, mark.most)) if usual_high > low else min(mark.most, low * 2 + 1)
    number = draw(between(low, high))
    if mark.words and draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(mark.words))
    unit = draw(st.sampled_from(["", *(unit for unit in UNITS[mark.dimension] if unit)]))
    return f"{number / float(UNITS[mark.dimension][unit]):.9g} {unit}" if unit else number


def values_of(annotation, metadata=()):
    """Return a strategy for the values of an annotation."""
    metadata = [inner for mark in metadata for inner in getattr(mark, "metadata", [mark])]
    marks = [mark for mark in metadata if isinstance(mark, Quantity | Count)]
    if marks:
        mark = marks[0]
        own = between(mark.least, min(mark.most, mark.least + 20), True) if isinstance(mark, Count) else written(mark)
        return ranged(own)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_of(arguments[0], (*metadata, *arguments[1:]))
    if origin in (Union, types.UnionType):
        return st.one_of([values_of(one) for one in arguments if one is not type(None)])
    if origin is Literal:
        return ranged(st.sampled_from(arguments))
    if origin is tuple:
        if Ellipsis in arguments:
            least = max((mark.min_length for mark in metadata if isinstance(mark, MinLen)), default=0)
            return st.lists(values_of(arguments[0]), min_size=least, max_size=max(least, 4))
        return st.tuples(*map(values_of, arguments)).map(list)
    if origin is dict:
        keys = st.integers(0, 5).map(str)
        return st.dictionaries(keys, st.one_of(st.just("none"), values_of(arguments[1])), min_size=1, max_size=4)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return st.deferred(lambda: mapping_of(annotation))
    if annotation is str:
        return TEXT
    return st.booleans() if annotation is bool else st.integers(-3, 30)


@st.composite
def mapping_of(draw, model, leave_out=()):
    """The keys of a model: all that it requires, some of the others."""
    found, ways = {}, WAYS.get(model.__name__, ())
    way = draw(st.sampled_from(ways)) if ways and draw(st.integers(0, 9)) else None
    either = {name for one in ways for name in one} if way else set()
    for name, field in model.model_fields.items():
        likely = RARE if (model.__name__, name) in ALONE else LIKELY
        if name in ("shape", "type") or name in (way or ()):
            likely = 1.0
        elif name in either:
            likely = 0.0
        # Of a range of floats the ends come often; of a list each member comes alike.
        if name in leave_out or not (field.is_required() or draw(st.sampled_from(range(50))) >= 50 * (1 - likely)):
            continue
        plausible = PLAUSIBLE.get((model.__name__, name))
        found[name] = draw(values_of(field.annotation, field.metadata) if plausible is None else plausible)
    return found


@st.composite
def item(draw, plain):
    """An item of a list: plain, repeated, kept apart."""
    found = dict(draw(plain))
    if draw(st.integers(0, 3)) == 0:
        found["repeat"] = draw(st.sampled_from([0, 1, 2, 5, {"integer": [0, 3]}]))
    if draw(st.integers(0, 5)) == 0:
        found["apart"] = draw(st.sampled_from([0, "0.3 mm", {"uniform": ["0.1 mm", "1 mm"]}]))
    return found


REGIONS = item(values_of(AnyRegion))
LISTS = {"points": item(mapping_of(Point)), "wires": item(mapping_of(Wire)), "interfaces": item(mapping_of(Interface))}


@st.composite
def group(draw, members):
    found = draw(mapping_of(Group))
    found["group"] = draw(st.lists(members, max_size=3))
    for name, items in LISTS.items():
        if draw(st.integers(0, 3)) == 0:
            found[name] = draw(st.lists(items, max_size=2))
    return found


ITEMS = st.recursive(REGIONS, lambda inner: st.one_of(inner, item(group(inner))), max_leaves=5)


@st.composite
def documents(draw):
    """Nested plain data with the keys of a phantom file."""
    found = draw(mapping_of(Scene, leave_out=("regions", *LISTS)))
    found["regions"] = draw(st.lists(ITEMS, max_size=3))
    return found | {name: draw(st.lists(items, max_size=2)) for name, items in LISTS.items() if draw(st.booleans())}
