"""One shard: frames to the bytes of an HDF5 file, and a row of such a file back to a Frame.

A shard is a pure function of its frames and header: no times, no names of machines, so equal runs give equal bytes.
It is built in memory because h5py on a full disk can crash the process, and a file that grows is unreadable when the
process dies; whole bytes can be hashed and renamed into place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from usim.elements import elements_of
from usim.errors import ConfigError, DataError
from usim.frame import Axes, Frame, Polar, PolarAxes, Truth
from usim.io.growing import Held
from usim.io.layout import ATTRIBUTE_BYTES, BY_PATH, FORMAT, KEYS, ZEA_DATA, ZEA_VERSION, Dataset, stored_images
from usim.io.packing import envelope_of, packing_of, unpack
from usim.probe import Probe
from usim.scatterers import Scatterers

#: HDF5's own compression without loss, which every reader knows. Coordinates, which repeat two axes over the grid, pack
#: to a hundredth; images, which are packed when it is asked for, to about nine tenths as float32, half as uint8.
_PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
#: Rows per chunk of the ragged scatterer lists.
_SCATTERER_CHUNK = 1 << 16


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says about itself: frame count, index of its first frame, seed, phantom text, and versions.

    versions: of the packages that decide the bits, by name. store: extras, see `layout.STORABLE`. dtype, compress: of
    the images, see `layout.DTYPES`. config_sha256: of the phantom and the files that it names.
    """

    frames: int
    first_frame: int
    seed: int
    config_yaml: str
    description: str
    versions: dict[str, str]
    store: tuple[str, ...] = ()
    dtype: str = "float32"
    compress: bool = False
    config_sha256: str = ""


@dataclass
class _Gathered:
    """The small parts of the frames, kept until it is known what is constant over the shard."""

    x: list[NDArray[np.float64]] = field(default_factory=list)
    z: list[NDArray[np.float64]] = field(default_factory=list)
    range: list[NDArray[np.float64]] = field(default_factory=list)
    angle: list[NDArray[np.float64]] = field(default_factory=list)
    label_names: list[tuple[str, ...]] = field(default_factory=list)
    params: list[dict[str, Any]] = field(default_factory=list)
    clouds: list[Scatterers] = field(default_factory=list)


def encode_shard(frames: Iterable[Frame], header: ShardHeader) -> bytearray:
    """Return the bytes of the HDF5 file that holds `frames`, which are taken one at a time.

    Raises ConfigError when a frame lacks something that was asked to be stored, DataError when the frames do not fit
    the header or each other, MemoryError when there is no room.

    >>> data = encode_shard(frames, ShardHeader(frames=3, first_frame=0, seed=7, ...))  # doctest: +SKIP
    """
    libver = ("earliest", "v114")  # newer objects cannot be read by MATLAB and older h5py
    held = Held()  # not HDF5's own files in memory: taking their bytes out needs the memory twice
    try:
        # Without a cache chunks are placed as they are written. With one that is when their dataset is closed, and so
        # when Python lets go of the last reference to it: a profiler's thread decided the bytes of a file (seen).
        with h5py.File(held, "w", libver=libver, rdcc_nbytes=0) as file:
            _fill(file, frames, header)
    finally:
        held.check()
    return held.data


def _fill(file: h5py.File, frames: Iterable[Frame], header: ShardHeader) -> None:
    where = f"shard from frame {header.first_frame}"
    gathered = _Gathered()
    for row, frame in enumerate(frames):
        if row >= header.frames:
            raise DataError(f"{where}: more than the {header.frames} frames announced")
        _write_images(file, row, frame, header)
        _gather(gathered, frame, header)
    if len(gathered.params) != header.frames:
        raise DataError(f"{where}: {len(gathered.params)} frames, {header.frames} announced")
    _write_axes(file, gathered)
    _write_rows(file, gathered)
    if "scatterers" in header.store:
        _write_scatterers(file, gathered.clouds)
    _write_attributes(file, header)
    _write_probe(file, gathered.params)
    _link_for_zea(file)


def read_frame(file: h5py.File, row: int) -> Frame:
    """Return the frame in `row` of an open shard; `iq` and `scatterers` are None when they were not stored.

    Raises whatever h5py raises on a damaged file; `usim.open` turns that into a DataError with the file's name.
    """
    truth = _read_truth(file, row, "")
    axes = Axes(*_read_axes(file, row, ("axes/x", "axes/z")))
    params = json.loads(file["params"][row])
    shown = unpack(file["display"], row) if "display" in file else None
    return Frame(
        *_read_images(file, row, ""), truth, axes, params, read_scatterers(file, row), _read_polar(file, row), shown
    )


def read_arrays(file: h5py.File, row: int, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return the named datasets of the frame in `row`; those that are the same for all frames come whole.

    Raises whatever h5py raises on a damaged file, as read_frame does.
    """
    return {name: _read_array(file, row, name) for name in names}


def has_array(file: h5py.File, name: str) -> bool:
    """True when read_arrays finds a dataset; images in steps of dB give the envelope as well."""
    return name in file or (name.endswith("envelope") and _is_in_steps(file, name.removesuffix("envelope")))


def _is_in_steps(file: h5py.File, prefix: str) -> bool:
    return f"{prefix}bmode" in file and file[f"{prefix}bmode"].dtype == np.uint8


def _read_array(file: h5py.File, row: int, name: str) -> NDArray[Any]:
    prefix, _, last = name.rpartition("/")
    prefix += "/" if prefix else ""
    if last == "envelope" and _is_in_steps(file, prefix):
        return envelope_of(unpack(file[f"{prefix}bmode"], row))
    dims = BY_PATH[name].dims
    if dims[0] != "frame" and file[name].ndim == len(dims):
        return np.asarray(file[name][()])
    values = np.asarray(unpack(file[name], row))
    return values.view(np.complex64)[..., 0] if last == "iq" else values


def _read_polar(file: h5py.File, row: int) -> Polar | None:
    if "polar" not in file:
        return None
    axes = PolarAxes(*_read_axes(file, row, ("polar/axes/range", "polar/axes/angle")))
    return Polar(*_read_images(file, row, "polar/"), _read_truth(file, row, "polar/"), axes)


def _read_images(file: h5py.File, row: int, prefix: str) -> tuple[Any, Any, Any]:
    """B-mode, envelope, and IQ or None."""
    iq = _read_array(file, row, f"{prefix}iq") if f"{prefix}iq" in file else None
    return _read_array(file, row, f"{prefix}bmode"), _read_array(file, row, f"{prefix}envelope"), iq


def _read_truth(file: h5py.File, row: int, prefix: str) -> Truth:
    """Every truth that the file has under a prefix; the names of the labels are those of the picture."""
    names = [f.name for f in fields(Truth) if f"{prefix}truth/{f.name}" in file and f.name != "label_names"]
    labels = json.loads(file["truth/label_names"][row])
    arrays = {name: unpack(file[f"{prefix}truth/{name}"], row) for name in names}
    return Truth(**arrays, label_names=tuple(labels))


def _read_axes(file: h5py.File, row: int, paths: tuple[str, ...]) -> Iterator[NDArray[np.float64]]:
    for path in paths:
        yield file[path][row] if file[path].ndim == 2 else file[path][()]


def read_config(file: h5py.File) -> str:
    """Return the text of the phantom file from which an open shard was made."""
    if "config_yaml" in file:
        return bytes(file["config_yaml"][()]).decode()
    return str(file.attrs["config_yaml"])


def _image_of(frame: Frame, path: str) -> NDArray[Any] | None:
    owner: Any = frame
    for name in path.split("/"):
        owner = None if owner is None else getattr(owner, name)
    values: NDArray[Any] | None = owner
    if values is None or values.dtype != np.complex64:
        return values
    # complex64 is stored as pairs of float32: compound types are read by few programs.
    return np.ascontiguousarray(values).view(np.float32).reshape(*values.shape, 2)


def _create(file: h5py.File, path: str, data: Any, **options: Any) -> h5py.Dataset:
    spec = BY_PATH[path]
    # A damaged byte is only noticed by HDF5 with fletcher32, and that needs chunks; scalars and nothing have none.
    if "shape" in options or (np.ndim(data) and np.size(data)):
        options = {"fletcher32": True, "chunks": options.pop("chunks", None) or np.shape(data), **options}
    else:
        options = {}
    dataset = file.create_dataset(path, data=data, track_times=False, **options)
    _describe(dataset, spec)
    return dataset


def _describe(dataset: h5py.Dataset, spec: Dataset) -> None:
    dataset.attrs["unit"] = spec.unit
    dataset.attrs["description"] = spec.description


def _write_images(file: h5py.File, row: int, frame: Frame, header: ShardHeader) -> None:
    for spec in stored_images((*header.store, *KEYS)):
        image = _image_of(frame, spec.path)
        packing = packing_of(spec, header.dtype, None if image is None else image.dtype)
        if packing is None or (image is None and spec.key and spec.path not in file):
            continue
        if spec.path == "iq" and frame.polar is not None:
            continue  # a sector's is that of its lines
        if image is None:
            here = header.first_frame + row
            raise ConfigError(f"store: {spec.path} was asked for, or other frames have it, but frame {here} has none")
        if spec.path not in file and row:
            raise DataError(f"{spec.path}: frame {header.first_frame + row} has it, the frames before it have not")
        if spec.path not in file:
            shape, chunks = (header.frames, *image.shape), (1, *image.shape)
            options = _PACKED if header.compress else {}
            made = _create(file, spec.path, None, shape=shape, dtype=packing.dtype, chunks=chunks, **options)
            made.attrs.update(packing.attributes)
        if file[spec.path].shape[1:] != image.shape:
            raise DataError(
                f"{spec.path}: frame {header.first_frame + row} has shape {image.shape}, "
                f"the frames before it {file[spec.path].shape[1:]}"
            )
        file[spec.path][row] = packing.pack(image, spec.path)


def _gather(gathered: _Gathered, frame: Frame, header: ShardHeader) -> None:
    gathered.x.append(np.asarray(frame.axes.x, np.float64))
    gathered.z.append(np.asarray(frame.axes.z, np.float64))
    if frame.polar is not None:
        gathered.range.append(frame.polar.axes.range)
        gathered.angle.append(frame.polar.axes.angle)
    gathered.label_names.append(tuple(frame.truth.label_names))
    gathered.params.append(frame.params)
    if "scatterers" in header.store:
        empty = Scatterers(np.zeros((0, 3)), np.zeros(0))
        gathered.clouds.append(empty if frame.scatterers is None else frame.scatterers)


def _write_axes(file: h5py.File, gathered: _Gathered) -> None:
    constant = _write_pair(file, ("axes/x", gathered.x), ("axes/z", gathered.z))
    if gathered.range:
        _write_pair(file, ("polar/axes/range", gathered.range), ("polar/axes/angle", gathered.angle))
    kept = slice(1 if constant else None)
    grids = [_coordinates(x, z) for x, z in zip(gathered.x[kept], gathered.z[kept], strict=True)]
    if constant:
        _create(file, "coordinates", grids[0], **_PACKED)
    else:
        _create(file, "coordinates", np.stack(grids), chunks=(1, *grids[0].shape), **_PACKED)


def _write_pair(file: h5py.File, *axes: tuple[str, list[NDArray[np.float64]]]) -> bool:
    """Write two axes, once when they are the same for all frames; return whether they are."""
    constant = all(np.array_equal(value, values[0]) for _, values in axes for value in values)
    for path, values in axes:
        if constant:
            _create(file, path, values[0])
        else:
            _create(file, path, np.stack(values), chunks=(1, len(values[0])))
    return constant


def _coordinates(x: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float32]:
    grid = np.zeros((len(z), len(x), 3), np.float32)
    grid[..., 0], grid[..., 2] = x[None, :], z[:, None]
    return grid


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _write_rows(file: h5py.File, gathered: _Gathered) -> None:
    for path, values in (("params", gathered.params), ("truth/label_names", gathered.label_names)):
        # Fixed length: the text of variable-length strings lies outside the chunks, unprotected by fletcher32.
        _create(file, path, np.array([canonical_json(value).encode() for value in values]), chunks=(1,))
    names = gathered.label_names[0]
    if all(n == names for n in gathered.label_names) and len(canonical_json(names)) < ATTRIBUTE_BYTES // 4:
        file["truth/labels"].attrs["names"] = list(names)
    columns = {
        "scene": [p.get("index", 0) for p in gathered.params],
        **{name: [p.get(name, 0) for p in gathered.params] for name in ("look", "slice", "angle", "time")},
    }
    for name, values in columns.items():
        _create(file, f"index/{name}", np.array(values, np.int64))


def _write_scatterers(file: h5py.File, clouds: list[Scatterers]) -> None:
    offsets = np.cumsum([0, *(len(cloud) for cloud in clouds)], dtype=np.int64)
    rows = min(int(offsets[-1]), _SCATTERER_CHUNK)
    position, amplitude = [c.position for c in clouds], [c.amplitude for c in clouds]
    _create(file, "scatterers/position", np.concatenate(position), chunks=(rows, 3))
    _create(file, "scatterers/amplitude", np.concatenate(amplitude), chunks=(rows,))
    _create(file, "scatterers/offsets", offsets)


def read_scatterers(file: h5py.File, row: int) -> Scatterers | None:
    """Return the scatterers of the frame in `row`; None when they were not stored, or there are none."""
    if "scatterers" not in file:
        return None
    start, stop = (int(v) for v in file["scatterers/offsets"][row : row + 2])
    if start == stop:
        return None
    return Scatterers(file["scatterers/position"][start:stop], file["scatterers/amplitude"][start:stop])


def _write_attributes(file: h5py.File, header: ShardHeader) -> None:
    text = header.config_yaml
    if len(text.encode()) > ATTRIBUTE_BYTES:
        _create(file, "config_yaml", np.bytes_(text.encode()))
        text = "too long for an attribute: see the dataset /config_yaml"
    file.attrs["format"] = FORMAT
    file.attrs["description"] = header.description
    file.attrs["config_yaml"] = text
    file.attrs["config_sha256"] = header.config_sha256
    file.attrs["seed"] = header.seed
    file.attrs["first_frame"] = header.first_frame
    file.attrs["zea_version"] = ZEA_VERSION
    for name, version in sorted(header.versions.items()):
        file.attrs[f"{name}_version"] = version


def _write_probe(file: h5py.File, params: list[dict[str, Any]]) -> None:
    probes = [p.get("scene", {}).get("probe") for p in params]
    if probes[0] is None or any(probe != probes[0] for probe in probes):
        return
    probe = probes[0]
    geometry = elements_of(Probe(**probe)).centre.astype(np.float32)
    kind = "curved" if probe.get("radius") else "phased" if "polar" in file else "linear"
    for name, value in (
        ("name", str(probe.get("name") or "custom")),
        ("type", kind),
        ("probe_center_frequency", np.float32(probe["center_frequency"])),
        ("probe_bandwidth_percent", np.float32(100 * probe["fractional_bandwidth"])),
        ("probe_geometry", geometry),
        ("element_width", np.float32(probe["element_width"])),
        ("element_height", np.float32(probe["element_height"])),
    ):
        _create(file, f"probe/{name}", value)


def _link_for_zea(file: h5py.File) -> None:
    # Hard links: zea finds its own tree, and nothing is stored twice.
    for spec in BY_PATH.values():
        if spec.zea is not None and spec.path in file:
            file[f"{ZEA_DATA}/{spec.zea}/values"] = file[spec.path]
            file[f"{ZEA_DATA}/{spec.zea}/coordinates"] = file["coordinates"]
