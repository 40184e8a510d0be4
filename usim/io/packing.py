"""How `--dtype` stores the images of real numbers, and how they are read back as float32.

    float16   every image, rounded to 11 bits: relative error at most 2^-11, absolute at most 3e-8 below 6e-5
    uint8     images in dB in steps of half a decibel, dB = scale_factor code + add_offset, attributes that netCDF's
              conventions know; the envelope is left out, since 10^(dB/20) gives it back; the rest is float16

What is whole numbers stays as it is: labels, masks, displays of 8 bits.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError
from usim.io.layout import Dataset, stored_images

#: Step in dB of uint8: the largest error is half of it, a twentieth of speckle's own 5.6 dB.
STEP_DB = 0.5
#: Code 0 of images, whose codes end at 0 dB: the dynamic range of a screen lies in it.
LOWEST_DB = -127.5
#: Code 0 of levels relative to tissue: anechoic, which is -100 dB; codes end at 27.5 dB.
LOWEST_LEVEL_DB = -100.0
#: The largest number of float16.
_LARGEST = 65504.0

_SCALE, _OFFSET = "scale_factor", "add_offset"


@dataclass(frozen=True)
class Packing:
    """How one dataset is stored: its NumPy type, and dB of code 0 where it is packed in steps."""

    dtype: str
    offset: float | None = None

    @property
    def attributes(self) -> dict[str, float]:
        """What a reader needs to know, by name."""
        return {} if self.offset is None else {_SCALE: STEP_DB, _OFFSET: self.offset}

    def pack(self, image: NDArray[Any], name: str) -> NDArray[Any]:
        """Return `image` in this type.

        Raises ConfigError, with the `name` of the dataset, when a number is too large for it.
        """
        if self.offset is not None:
            codes: NDArray[Any] = np.clip(np.rint((image - np.float32(self.offset)) / STEP_DB), 0, 255)
            return codes.astype(np.uint8)
        if self.dtype == "f2" and np.abs(image).max(initial=0.0) > _LARGEST:
            largest = f"{np.abs(image).max():.3g}"
            raise ConfigError(f"dtype: {name} reaches {largest}, float16 ends at {_LARGEST:g}; choose --dtype float32")
        return image.astype(self.dtype, copy=False)


def packing_of(spec: Dataset, dtype: str, image: np.dtype[np.generic] | None = None) -> Packing | None:
    """Return how a dataset of images is stored under `--dtype`; None when it is left out.

    image: type of what is there to be stored; the largest of the dataset's types unless given.

    >>> from usim.io.layout import BY_PATH
    >>> packing_of(BY_PATH["bmode"], "uint8"), packing_of(BY_PATH["truth/labels"], "uint8")
    (Packing(dtype='u1', offset=-127.5), Packing(dtype='u2', offset=None))
    """
    types = spec.dtype.split(" or ")
    found = image.str[1:] if image is not None and image.str[1:] in types else types[0]
    if dtype == "float32" or found != "f4":
        return Packing(found)
    name = spec.path.removeprefix("polar/")
    if dtype == "uint8" and name == "envelope":
        return None
    if dtype == "uint8" and spec.unit == "dB":
        return Packing("u1", LOWEST_DB if name in ("bmode", "truth/bmode") else LOWEST_LEVEL_DB)
    return Packing("f2")


def unpack(dataset: h5py.Dataset, row: int) -> NDArray[Any]:
    """Return one frame of a dataset, packed real numbers as float32."""
    values: NDArray[Any] = dataset[row]
    if _SCALE in dataset.attrs:
        return values.astype(np.float32) * np.float32(dataset.attrs[_SCALE]) + np.float32(dataset.attrs[_OFFSET])
    return values.astype(np.float32) if values.dtype == np.float16 else values


def envelope_of(bmode: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the envelope of an image in dB, 1 at 0 dB."""
    envelope: NDArray[np.float32] = np.exp(bmode * np.float32(np.log(10.0) / 20.0))
    return envelope


def bytes_per_frame(
    pixels: tuple[int, int], words: Collection[str] = (), lines: tuple[int, int] | None = None, dtype: str = "float32"
) -> int:
    """Return the bytes one frame of `pixels` (x, z) adds to a shard without compression, scatterers not counted.

    words: see `layout.stored_images`.  lines: lines and samples along each, of a sector.

    >>> bytes_per_frame((100, 100))
    246384
    """
    per_pixel, per_sample = 0, 0
    for d in stored_images((*words, "sector") if lines else words):
        packing = packing_of(d, dtype)
        size = 0 if packing is None else int(packing.dtype[1]) * (2 if len(d.dims) > 3 else 1)
        per_sample += size if d.is_polar else 0
        per_pixel += 0 if d.is_polar or (lines and d.path == "iq") else size
    samples = lines[0] * lines[1] if lines else 0
    # 16 kB: parameters, label names and the chunk index (measured on the shipped phantoms).
    return per_pixel * pixels[0] * pixels[1] + per_sample * samples + 16_384
