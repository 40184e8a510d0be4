"""UFF of the USTB: beamformed data on a linear or sector scan, with the probe; one file for each shard and scan.

`b_data` is IQ where it was stored, and else the envelope; of a sector, those of its lines. The image without speckle,
as an amplitude, is `truth` in a file of its own. Written as MATLAB's USTB does: pixels x channels x waves x frames,
depth fastest, which is (frame, wave, channel, pixel) in HDF5. (pyuff_ustb 3.0.0 gives it as it lies in HDF5.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from usim import __version__
from usim.elements import elements_of
from usim.export import Job
from usim.export.rows import Row, stored
from usim.io.growing import Growing, growing
from usim.io.shard import canonical_json
from usim.probe import Probe

VERSION = "v1.2.0"


def write_uff(job: Job) -> Generator[None, None, None]:
    """Write SHARD.uff and SHARD-truth.uff, new ones (SHARD-1.uff) where scan or probe change; yields after a frame."""
    there = stored(job.frames)
    home = "polar/" if "polar/bmode" in there else ""
    image = f"{home}iq" if f"{home}iq" in there else f"{home}envelope"
    axes = ("polar/axes/range", "polar/axes/angle") if home else ("axes/z", "axes/x")
    before: Row | None = None
    files = 0
    with contextlib.ExitStack() as stack:
        for row in job.rows((image, f"{home}truth/bmode", *axes)):
            if before is None or not _alike(before, row, axes):
                stack.close()
                files = files + 1 if before is not None and before.shard == row.shard else 0
                stem = f"{row.shard}-{files}" if files else row.shard
                clean = stack.enter_context(_scan_file(job, f"{stem}-truth.uff", "truth", row, axes))
                noisy = stack.enter_context(_scan_file(job, f"{stem}.uff", "b_data", row, axes))
            noisy.add(row.number, row.arrays[image])
            clean.add(row.number, 10.0 ** (row.arrays[f"{home}truth/bmode"] / np.float32(20.0)))
            before = row
            yield


def _alike(before: Row, row: Row, axes: tuple[str, str]) -> bool:
    """True when two frames may share a file: one shard, one scan, one probe."""
    same = all(np.array_equal(before.arrays[name], row.arrays[name]) for name in axes)
    return same and before.shard == row.shard and before.params["scene"]["probe"] == row.params["scene"]["probe"]


class _Beamformed:
    """The data of a file, to which frames are appended."""

    def __init__(self, file: Growing, group: h5py.Group) -> None:
        self._file, self._group = file, group
        self.numbers: list[int] = []
        self._parts: list[h5py.Dataset] = []

    def add(self, number: int, image: NDArray[Any]) -> None:
        """Append an image (Z, X), complex or real; raises OSError when it could not be written."""
        pixels = image.T.reshape(-1)
        parts = [pixels.real, pixels.imag] if np.iscomplexobj(pixels) else [pixels]
        if not self.numbers:
            self._parts = self._create(len(pixels), len(parts) > 1)
        for dataset, values in zip(self._parts, parts, strict=True):
            dataset.resize(len(self.numbers) + 1, axis=0)
            dataset[-1] = values
        self.numbers.append(number)
        self._file.check()

    def _create(self, pixels: int, is_complex: bool) -> list[h5py.Dataset]:
        shape = (0, 1, 1, pixels)
        options = {"maxshape": (None, *shape[1:]), "chunks": (1, *shape[1:]), "fletcher32": True, "track_times": False}
        names = ("data/real", "data/imag") if is_complex else ("data",)
        made = [self._group.create_dataset(name, shape, "f4", **options) for name in names]
        for number, dataset in enumerate(made):
            _mark(dataset, "single", "data", imaginary=float(number), complex=0.0)
        if is_complex:
            _mark(self._group["data"], "single", "data", imaginary=0.0, complex=1.0)
        return made


@contextlib.contextmanager
def _scan_file(job: Job, name: str, title: str, row: Row, axes: tuple[str, str]) -> Iterator[_Beamformed]:
    size = 8 * row.arrays[axes[0]].size * row.arrays[axes[1]].size * len(job.chosen)
    with growing(job.folder / name, size) as file, h5py.File(file, "w", libver=("earliest", "v114")) as output:
        # USTB takes the version for a cell of text and every class and name for text.
        output.attrs["version"] = np.array([VERSION.encode()])
        group = _object(output, title, "uff.beamformed_data")
        depth, across = (row.arrays[axis] for axis in axes)
        scene = row.params["scene"]
        probe = Probe(**scene["probe"])
        if axes[0] == "axes/z":
            scan = _object(group, "scan", "uff.linear_scan")
            _numbers(scan, x_axis=across, z_axis=depth)
        else:
            _sector(_object(group, "scan", "uff.sector_scan"), depth, across, probe.radius or 0.0)
        _probe(group, probe)
        pulse = _object(group, "pulse", "uff.pulse")
        _numbers(pulse, center_frequency=probe.center_frequency, fractional_bandwidth=probe.fractional_bandwidth)
        _numbers(group, modulation_frequency=probe.center_frequency)
        if scene.get("sequence"):
            _numbers(group, frame_rate=scene["sequence"]["rate"])
        data = _Beamformed(file, group)
        yield data
        about = {"software": f"usim {__version__}", "dataset": Path(job.source).name, "frames": data.numbers}
        _text(group, "info", canonical_json(about))
        file.check()


def _sector(scan: h5py.Group, along: NDArray[np.float64], angle: NDArray[np.float64], radius: float) -> None:
    """Write a fan, whose origin is where its lines meet: the centre of the face, or of the arc behind it.

    along: (R,) metres from the face.  angle: (A,) radians.  radius: of curvature in metres, 0 for none.
    """
    depth = radius + along
    _numbers(scan, azimuth_axis=angle, depth_axis=depth)
    _point(scan, "origin", radius, np.pi if radius else 0.0)
    # pyuff_ustb would list the pixels with the angle fastest; those that are written it takes.
    x, z = np.sin(angle)[:, None] * depth, np.cos(angle)[:, None] * depth - radius
    _numbers(scan, x=x.reshape(-1), y=np.zeros(x.size), z=z.reshape(-1))


def _probe(group: h5py.Group, probe: Probe) -> None:
    """Write where the elements are and face, 7 x elements in HDF5: x, y, z, azimuth, elevation, width, height."""
    elements = elements_of(probe)
    (x, y, z), size = elements.normal.T, np.ones(len(elements))
    kind = (
        "uff.probe" if probe.positions is not None else "uff.curvilinear_array" if probe.radius else "uff.linear_array"
    )
    made = _object(group, "probe", kind)
    facing = [np.arctan2(x, z), np.arcsin(y), elements.width * size, elements.height * size]
    _numbers(made, geometry=np.array([*elements.centre.T, *facing]))
    _point(made, "origin", 0.0, 0.0)
    if probe.positions is None:
        row = {"N": probe.elements, "pitch": probe.pitch, "radius": probe.radius}
        row |= {"element_width": elements.width, "element_height": elements.height}
        _numbers(made, **{name: value for name, value in row.items() if value is not None})


def _point(group: h5py.Group, name: str, distance: float, azimuth: float) -> None:
    _numbers(_object(group, name, "uff.point"), distance=distance, azimuth=azimuth, elevation=0.0)


def _object(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    _mark(group, kind, name, array=0.0, size=np.ones(2))
    return group


def _numbers(group: h5py.Group, **values: Any) -> None:
    for name, value in values.items():
        dataset = group.create_dataset(name, data=np.atleast_1d(np.asarray(value, np.float64)), track_times=False)
        _mark(dataset, "double", name, imaginary=0.0, complex=0.0)


def _text(group: h5py.Group, name: str, text: str) -> None:
    letters = np.array([[ord(letter)] for letter in text], np.uint16)
    _mark(group.create_dataset(name, data=letters, track_times=False), "char", name)


def _mark(item: h5py.Group | h5py.Dataset, kind: str, name: str, **values: Any) -> None:
    for key, value in {"class": np.bytes_(kind), "name": np.bytes_(name), **values}.items():
        item.attrs[key] = value
