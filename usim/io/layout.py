"""The table of datasets in a shard: the one place where names, types, units and meanings are written down."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

FORMAT = "usim-1"

#: Bytes of text that fit an attribute: HDF5's object headers end at 64 kB in the format that old readers know.
ATTRIBUTE_BYTES = 60_000

#: What `--store` may add to a shard.
STORABLE = ("iq", "scatterers")

#: How `--dtype` may store images of real numbers; they are read back as float32.
DTYPES = ("float32", "float16", "uint8")

#: What shares the frame axis, slowest first: the datasets `index/...`.
AXES = ("scene", "look", "slice", "angle", "time")

#: Where zea looks for the data of a recording.
ZEA_DATA = "tracks/track_0/data"

#: The version of zea's format that the links follow; zea takes a file without it for an ancient one.
ZEA_VERSION = "0.1.8"


@dataclass(frozen=True)
class Dataset:
    """One dataset of a shard.

    path: name in the file. dtype: NumPy type, the largest first where there are two; "json" and "text" are UTF-8
    strings of fixed length. dims: names of the axes. unit: SI unit, dB, or 1. zea: name of the zea map that links here.
    store: the `--store` word that adds it. key: the key of a phantom that adds it; "sector" is an image of that kind.
    """

    path: str
    dtype: str
    dims: tuple[str, ...]
    unit: str
    description: str
    zea: str | None = None
    store: str | None = None
    key: str | None = None

    @property
    def is_image(self) -> bool:
        """True for data with one image per frame."""
        return self.dims[:3] in (_IMAGE, _LINES)

    @property
    def is_polar(self) -> bool:
        """True for data along a sector's lines."""
        return self.dims[:3] == _LINES


_IMAGE = ("frame", "z", "x")
_LINES = ("frame", "range", "line")

_POLAR = tuple(
    Dataset(f"polar/{path}", dtype, (*_LINES, *more), unit, f"of a sector's lines: as /{path}", None, store, "sector")
    for path, dtype, unit, store, *more in (
        ("bmode", "f4", "dB", None),
        ("envelope", "f4", "1", None),
        ("iq", "f4", "1", "iq", "iq"),
        ("truth/bmode", "f4", "dB", None),
        ("truth/resolved_db", "f4", "dB", None),
        ("truth/echogenicity_db", "f4", "dB", None),
        ("truth/labels", "u2", "1", None),
        ("truth/few_scatterers", "u1", "1", None),
        ("truth/looks", "f4", "1", None),
        ("truth/displacement", "f4", "m", None, "xz"),
    )
)

DATASETS = (
    Dataset("bmode", "f4", _IMAGE, "dB", "B-mode image, 20 log10(envelope), clipped to [-150, 0]", "image"),
    Dataset("envelope", "f4", _IMAGE, "1", "envelope after TGC, 1 at 0 dB", "envelope_data"),
    Dataset(
        "iq", "f4", (*_IMAGE, "iq"), "1", "IQ after TGC, envelope's scale: real, imaginary", "beamformed_data", "iq"
    ),
    Dataset(
        "truth/bmode", "f4", _IMAGE, "dB", "the image without speckle, E[10 log10 |env|^2], unclipped", "truth_bmode"
    ),
    Dataset(
        "truth/resolved_db",
        "f4",
        _IMAGE,
        "dB",
        "echogenicity blurred by |PSF|^2 only, relative to reference tissue",
        "truth_resolved_db",
    ),
    Dataset(
        "truth/echogenicity_db",
        "f4",
        _IMAGE,
        "dB",
        "scattering strength, unblurred, relative to reference tissue; anechoic = -100",
        "truth_echogenicity_db",
    ),
    Dataset("truth/labels", "u2", _IMAGE, "1", "region per pixel: an index into truth/label_names"),
    Dataset(
        "truth/few_scatterers",
        "u1",
        _IMAGE,
        "1",
        "1 where the effective scatterer number is below 5 and truth/bmode is good to about 0.3 dB",
        "truth_few_scatterers",
    ),
    Dataset(
        "truth/looks",
        "f4",
        _IMAGE,
        "1",
        "equivalent number of looks: squared mean over variance of the diffuse intensity of a compounded image",
        "truth_looks",
        key="compound",
    ),
    Dataset(
        "truth/displacement",
        "f4",
        (*_IMAGE, "xz"),
        "m",
        "how far what is at a pixel has come since time 0 of its sequence: image(p) ~ first image(p - displacement)",
        key="sequence",
    ),
    Dataset(
        "truth/mask",
        "u1",
        _IMAGE,
        "1",
        "1 where a pixel lies in the sector that was scanned; elsewhere dB is -150 and the rest 0",
        "truth_mask",
        key="sector",
    ),
    Dataset(
        "display",
        "f4 or u1",
        _IMAGE,
        "1",
        "what the scanner shows, as `params` says under scene.display: u1 from 0 to 255, or f4 from 0 to 1",
        key="display",
    ),
    Dataset(
        "truth/display",
        "f4",
        _IMAGE,
        "1",
        "the display without speckle, its expectation over all draws, in its own units: 0 to 255, or 0 to 1",
        key="display",
    ),
    Dataset("truth/label_names", "json", ("frame",), "1", "JSON list of region names by label; 0 is the background"),
    Dataset("axes/z", "f8", ("z",), "m", "depth of the pixel centres; (frame, z) when it differs between frames"),
    Dataset("axes/x", "f8", ("x",), "m", "lateral position of the pixel centres; (frame, x) when it differs"),
    Dataset("coordinates", "f4", ("z", "x", "xyz"), "m", "x, y, z of every pixel; a leading frame axis as in axes"),
    *_POLAR,
    Dataset("polar/axes/range", "f8", ("range",), "m", "distance from the array's face along a line", key="sector"),
    Dataset("polar/axes/angle", "f8", ("line",), "rad", "direction of the lines; positive towards +x", key="sector"),
    Dataset("index/scene", "i8", ("frame",), "1", "index of the drawn scene"),
    Dataset("index/look", "i8", ("frame",), "1", "index of the speckle draw of that scene"),
    Dataset("index/slice", "i8", ("frame",), "1", "index of the elevation slice"),
    Dataset("index/angle", "i8", ("frame",), "1", "index of the steering angle"),
    Dataset("index/time", "i8", ("frame",), "1", "index of the time step"),
    Dataset("params", "json", ("frame",), "1", "JSON object: what was drawn, seed, index, look, dB reference, noise"),
    Dataset(
        "scatterers/position",
        "f8",
        ("scatterer", "xyz"),
        "m",
        "x, y, z of the scatterers, frame by frame",
        None,
        "scatterers",
    ),
    Dataset("scatterers/amplitude", "f8", ("scatterer",), "1", "scattering amplitude", None, "scatterers"),
    Dataset(
        "scatterers/offsets",
        "i8",
        ("frame+1",),
        "1",
        "frame f owns the scatterers offsets[f] to offsets[f+1]",
        None,
        "scatterers",
    ),
    Dataset("config_yaml", "text", (), "1", "the phantom file, when it is too long for the attribute of that name"),
    Dataset("probe/name", "text", (), "1", "probe model (this group is there when all frames share one probe)"),
    Dataset("probe/type", "text", (), "1", "geometry of the array"),
    Dataset("probe/probe_center_frequency", "f4", (), "Hz", "centre frequency"),
    Dataset("probe/probe_bandwidth_percent", "f4", (), "%", "pulse-echo -6 dB bandwidth over the centre frequency"),
    Dataset("probe/probe_geometry", "f4", ("element", "xyz"), "m", "x, y, z of the elements"),
    Dataset("probe/element_width", "f4", (), "m", "width of one element"),
    Dataset("probe/element_height", "f4", (), "m", "height of one element"),
)

#: Keys of a phantom that bring datasets.
KEYS = tuple(dict.fromkeys(dataset.key for dataset in DATASETS if dataset.key))

BY_PATH = {dataset.path: dataset for dataset in DATASETS}


def stored_images(words: Collection[str]) -> tuple[Dataset, ...]:
    """Return the per-frame image datasets of a shard; words: what `--store` asks for, and the phantom's keys."""
    return tuple(d for d in DATASETS if d.is_image and (d.store or d.key or None) in (None, *words))
