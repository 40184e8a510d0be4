"""HDF5: files of zea and the USTB, and data of usim, as the scanner shows it: clipped to the range of its scene."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from s2s.domain import LOWEST_DB, RANGE_DB, Domain
from s2s.images.image import Image, Stated, survey
from s2s.images.uff import beamformed, read_uff
from s2s.images.zea import is_zea, read_zea
from usim.errors import ConfigError, DataError, first_line
from usim.frame import Frame
from usim.io.dataset import Frames, open_frames, open_shard
from usim.io.growing import growing
from usim.io.layout import BY_PATH
from usim.io.reading import BROKEN, open_hdf5

FORMAT = "s2s-denoised-1"
#: Names of an unknown file that are told.
_NAMED = 8


class Shown(Sequence[NDArray[np.float32]]):
    """The images (z, x) of a dataset in dB, one at a time; black is where each scene, or the user, puts it."""

    def __init__(self, frames: Frames, path: Path, dynamic_range: float | None) -> None:
        self._frames, self._path, self._range = frames, path, dynamic_range

    def __len__(self) -> int:
        return len(self._frames)

    def dynamic_range(self, index: int) -> float:
        """Decibels between black and white of a frame."""
        return self._depth(self._frames[index])

    def _depth(self, frame: Frame) -> float:
        return self._range or float(frame.params.get("scene", {}).get("image", {}).get("dynamic_range", RANGE_DB))

    def __getitem__(self, index: Any) -> Any:
        frame = self._frames[index]
        depth = self._depth(frame)
        shown = np.clip(frame.bmode, -depth, 0.0)
        survey(shown, f"{self._path}: frame {index}")
        return shown


def read_hdf5(path: Path, stated: Stated) -> Image:
    """Open a dataset folder or shard of usim, or a file of zea or the USTB.

    Raises DataError when it is damaged, or of none of them.
    """
    if not path.is_dir():
        try:
            with open_hdf5(path) as file:
                other = _of_others(path, file, stated)
        except BROKEN as error:
            raise DataError(f"{path}: damaged: {first_line(error)}; restore a copy") from error
        if other is not None:
            return other
    if stated.domain not in (None, "db") or stated.white is not None:
        raise ConfigError(f"{path}: data of usim says itself that its images are dB; leave out --domain and --white")
    if stated.dynamic_range is not None:
        Domain("db", stated.dynamic_range)  # within limits
    frames = open_frames(path)
    if not len(frames):
        raise DataError(f"{path}: no frames in it; generate it again")

    def write(target: Path, clean: Iterable[NDArray[Any]], about: dict[str, str]) -> None:
        write_hdf5(target, clean, frames, about)

    shown = Shown(frames, path, stated.dynamic_range)
    return Image(shown, Domain("db", -LOWEST_DB), "", ".h5", write, clip=False)


def _of_others(path: Path, file: h5py.File, stated: Stated) -> Image | None:
    """Return the image of an open file of zea or the USTB, None for one of usim; DataError names what else it holds."""
    if "format" in file.attrs or "bmode" in file:
        return None
    if beamformed(file):
        return read_uff(path, file, stated)
    if is_zea(file):
        return read_zea(path, file, stated)
    held = ", ".join(list(file)[:_NAMED]) or "nothing"
    raise DataError(
        f"{path}: HDF5 with {held} in it; allowed are data of usim, images of zea, and beamformed data of the USTB; "
        "give other images as NPY"
    )


def write_hdf5(path: Path, clean: Iterable[NDArray[Any]], frames: Frames, about: dict[str, str]) -> None:
    """Write one file with /denoised (frame, z, x) float32 in dB, the axes and indices of `frames`, and what made it.

    What was removed, as `about` says in its `content`, is called /residual.

    Memory does not grow with the number of frames. Raises ResourceError when the system refuses.
    """
    size = 4 * len(frames) * frames[0].bmode.size
    residual = about.get("content", "").startswith("residual")
    name, title = ("residual", "what was removed") if residual else ("denoised", "images in dB without their speckle")
    with growing(path, size) as file, h5py.File(file, "w", libver=("earliest", "v114")) as output:
        output.attrs["format"] = FORMAT
        output.attrs["description"] = f"{title}; 0 dB is {'no change' if residual else 'full scale'}"
        for key, text in about.items():
            output.attrs[key] = text
        for place, values in _placing(frames).items():
            dataset = output.create_dataset(place, data=values, track_times=False, fletcher32=True, chunks=values.shape)
            dataset.attrs["unit"], dataset.attrs["description"] = BY_PATH[place].unit, BY_PATH[place].description
        for row, frame in enumerate(clean):
            if not row:
                shape = (len(frames), *frame.shape)
                images = output.create_dataset(
                    name, shape, "f4", chunks=(1, *frame.shape), fletcher32=True, track_times=False
                )
                images.attrs["unit"], images.attrs["description"] = "dB", f"{name} image"
            if frame.shape != shape[1:]:
                raise DataError(f"{path}: frame {row} has {frame.shape} pixels, those before it {shape[1:]}")
            images[row] = frame
            file.check()


def _placing(frames: Frames) -> dict[str, NDArray[Any]]:
    """Return the axes and indices of all frames; an axis that never changes is kept once."""
    found: dict[str, list[NDArray[Any]]] = {}
    for part in frames.parts:
        with open_shard(part.path, part.bytes) as shard:
            try:
                for name in ("axes/x", "axes/z", *(f"index/{name}" for name in shard["index"])):
                    values = shard[name][()]
                    if name.startswith("axes/"):
                        values = np.broadcast_to(values, (part.frames, values.shape[-1]))
                    found.setdefault(name, []).append(values)
            except (OSError, KeyError, ValueError, RuntimeError) as error:
                raise DataError(f"{part.path}: damaged: {error}; generate it again") from error
    placing = {name: np.concatenate(values) for name, values in found.items()}
    for name in ("axes/x", "axes/z"):
        if (placing[name] == placing[name][0]).all():
            placing[name] = placing[name][0].copy()
    return placing
