"""Maps evaluated at points: where one lies, which of its labels is there, and how strongly it scatters."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from usim.description import Refusal
from usim.errors import ConfigError, DataError
from usim.phantom.files import is_known, recall
from usim.phantom.map_regions import AnyMap, ImageMap, LabelMap, blamed, show_values
from usim.phantom.maps import Raster, read_map
from usim.phantom.schema import Scene

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]
Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Rectangle:
    """Where a map lies: centre (x, z), width, height in metres and angle in radians."""

    x: float
    z: float
    width: float
    height: float
    angle: float

    @property
    def box(self) -> Box:
        """Left, right, top and bottom of what the rectangle covers, metres."""
        cos, sin = abs(math.cos(self.angle)), abs(math.sin(self.angle))
        reach_x = (cos * self.width + sin * self.height) / 2
        reach_z = (sin * self.width + cos * self.height) / 2
        return self.x - reach_x, self.x + reach_x, self.z - reach_z, self.z + reach_z

    def within(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Places (N,) across and down the rectangle: from 0 at its upper left corner to 1."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        dx, dz = x - self.x, z - self.z
        return (cos * dx + sin * dz) / self.width + 0.5, (cos * dz - sin * dx) / self.height + 0.5


def raster_of(region: AnyMap) -> Raster:
    """Return the map of a region; its file is found by its content, and decoded once in a process."""
    return read_map(recall(region.file, region.sha256), region.sha256, region.slice, region.axes)


@functools.lru_cache(maxsize=64)
def placed(region: AnyMap) -> Rectangle:
    """Return where a map lies; ConfigError when neither the region nor its file tells the size of a pixel."""
    if region.x is not None and region.z is not None:
        (left, right), (top, bottom) = region.x, region.z
        return Rectangle((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, region.angle)
    raster = raster_of(region)
    pixel = raster.pixel if region.pixel is None else (region.pixel, region.pixel)
    if pixel is None:
        raise ConfigError("pixel: the file does not say how large its pixels are; give pixel, or the edges x and z")
    (rows, columns), (x, z) = raster.values.shape, region.center or (0.0, 0.0)
    return Rectangle(x, z, columns * pixel[0], rows * pixel[1], region.angle)


def refused_maps(scene: Scene) -> Iterator[Refusal]:
    """Yield what is wrong with the maps of a scene; raises DataError for a file that can't be used."""
    for i, region in enumerate(scene.regions):
        if isinstance(region, AnyMap):
            try:
                check_map(region, scene.box)
            except ConfigError as error:
                key, message = blamed(error, region)
                yield Refusal(("regions", i, *([key] if key else ())), False, message)


def check_map(region: AnyMap, picture: Window) -> None:
    """Refuse a map whose file does not fit it: a value without meaning, greys without range, a place beside the image.

    picture: what the image shows, ((x0, x1), (z0, z1)), metres.
    Raises ConfigError, its text starting with the key that is to blame; DataError for the file itself.
    """
    (left, right, top, bottom), ((x0, x1), (z0, z1)) = placed(region).box, picture
    if right < x0 or left > x1 or bottom < z0 or top > z1:
        place = f"x {left * 1e3:.4g} to {right * 1e3:.4g} mm, z {top * 1e3:.4g} to {bottom * 1e3:.4g} mm"
        seen = f"x {x0 * 1e3:.4g} to {x1 * 1e3:.4g}, z {z0 * 1e3:.4g} to {z1 * 1e3:.4g} mm"
        key = "x" if region.center is None else "center"
        raise ConfigError(f"{key}: the map lies wholly outside the image: {place}; the image shows {seen}")
    if isinstance(region, LabelMap):
        _label_parts(region)
    else:
        _powers(region)


@dataclass(frozen=True)
class Pixels:
    """Where the pixels of one label of a map lie; `number` is its part's."""

    region: LabelMap
    number: int

    @property
    def box(self) -> Box:
        """Left, right, top and bottom of what its pixels cover, metres; of the whole map before its file was read."""
        if not is_known(self.region.sha256):
            return _box(self.region)
        home, parts = placed(self.region), _label_parts(self.region)
        down, across = _extents(self.region)[self.number]
        (rows, columns), width, height = parts.shape, home.width, home.height
        own = (across.stop - across.start) / columns * width, (down.stop - down.start) / rows * height
        dx = ((across.start + across.stop) / (2 * columns) - 0.5) * width
        dz = ((down.start + down.stop) / (2 * rows) - 0.5) * height
        cos, sin = math.cos(home.angle), math.sin(home.angle)
        return Rectangle(home.x + cos * dx - sin * dz, home.z + sin * dx + cos * dz, *own, home.angle).box

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points x, z (P,), metres, lie on its pixels."""
        across, down = placed(self.region).within(x, z)
        covered = (across >= 0) & (across <= 1) & (down >= 0) & (down <= 1)
        return covered & (_nearest(_label_parts(self.region), across, down) == self.number)

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Only the sign: labels have no soft edges."""
        return np.where(self.inside(x, z), -within, within)


@dataclass(frozen=True)
class Frame:
    """The rectangle that an image fills."""

    region: ImageMap

    @property
    def box(self) -> Box:
        """Left, right, top and bottom, metres; everywhere before the file was read."""
        return _box(self.region)

    def inside(self, x: Array, z: Array) -> NDArray[np.bool_]:
        """Whether points x, z (P,), metres, lie on the image."""
        return self.distance(x, z) <= 0.0

    def distance(self, x: Array, z: Array, within: float = math.inf) -> Array:
        """Signed distance (P,), metres."""
        home = placed(self.region)
        across, down = home.within(x, z)
        beside, beyond = np.abs(across - 0.5) * home.width, np.abs(down - 0.5) * home.height
        beside, beyond = beside - home.width / 2, beyond - home.height / 2
        outside = np.hypot(np.maximum(beside, 0.0), np.maximum(beyond, 0.0))
        return np.asarray(outside + np.minimum(np.maximum(beside, beyond), 0.0))


def map_outline(region: AnyMap, number: int) -> Pixels | Frame:
    """Return where the part `number` of a map lies."""
    return Pixels(region, number) if isinstance(region, LabelMap) else Frame(region)


def _box(region: AnyMap) -> Box:
    # Scenes are checked before their files are read: then only a map that is placed by its edges has known ones.
    known = region.x is not None or is_known(region.sha256)
    return placed(region).box if known else (-math.inf, math.inf, -math.inf, math.inf)


def power_at(region: ImageMap, x: Array, z: Array) -> Array:
    """Return what the greys of an image make of its echogenicity, a power factor, at points (N,), metres.

    Beyond the centres of the outermost pixels it goes on as there.
    """
    across, down = placed(region).within(x, z)
    powers = _powers(region)
    if region.interpolation == "nearest":
        return np.asarray(_nearest(powers, across, down), dtype=np.float64)
    nodes = np.stack((down * powers.shape[0] - 0.5, across * powers.shape[1] - 0.5))
    return np.asarray(ndimage.map_coordinates(powers, nodes, np.float64, order=1, mode="nearest", prefilter=False))


def _nearest(values: NDArray[Any], across: Array, down: Array) -> NDArray[Any]:
    rows, columns = values.shape
    row = np.clip((down * rows).astype(np.intp), 0, rows - 1)
    return np.asarray(values[row, np.clip((across * columns).astype(np.intp), 0, columns - 1)])


@functools.lru_cache(maxsize=8)
def _label_parts(region: LabelMap) -> NDArray[np.int16]:
    """The part of each pixel (Z, X), -1 for none; ConfigError listing the values that have no meaning."""
    raster = raster_of(region)
    try:
        found = raster.labels
    except DataError as error:
        raise DataError(f"file: {region.file}: {error}") from None
    unknown = [value for value in found.tolist() if value not in region.values]
    if unknown and region.others is None:
        raise ConfigError(
            f"values: the file holds {show_values(unknown)} besides those that are listed; say what they are, "
            "`none` for nothing, or give `others: none`"
        )
    number = {value: k for k, value in enumerate(v for v, tissue in region.values.items() if tissue is not None)}
    table = np.array([number.get(value, -1) for value in found.tolist()], dtype=np.int16)
    return table[np.searchsorted(found, raster.values)]


@functools.lru_cache(maxsize=8)
def _extents(region: LabelMap) -> list[tuple[slice, slice]]:
    """The rows and columns that each part spans; of a part without pixels, none."""
    found = ndimage.find_objects(_label_parts(region).astype(np.int32) + 1, len(region.parts))
    return [(slice(0, 0), slice(0, 0)) if span is None else span for span in found]


@functools.lru_cache(maxsize=4)
def _powers(region: ImageMap) -> NDArray[np.float32]:
    """The power of each pixel (Z, X) over that of the region's echogenicity."""
    values = raster_of(region).values
    if region.curve is not None:
        greys, levels = zip(*sorted(region.curve.items()), strict=True)
    else:
        greys, levels = _range(region, values), region.levels or (0.0, 0.0)
    if values.dtype.itemsize <= 2 and values.dtype.kind in "iu":
        # Few greys: the law is computed once for each of them.
        low, high = int(values.min()), int(values.max())
        return _law(region, np.arange(low, high + 1.0), greys, levels)[values.astype(np.int64) - low]
    return _law(region, values, greys, levels)


def _law(region: ImageMap, grey: NDArray[Any], greys: Any, levels: Any) -> NDArray[np.float32]:
    power = np.power(10.0, np.interp(grey, greys, levels) / 10).astype(np.float32)
    return power if region.anechoic_below is None else np.where(grey < region.anechoic_below, np.float32(0), power)


def _range(region: ImageMap, values: NDArray[Any]) -> tuple[float, float]:
    if region.grey is not None:
        return region.grey
    if values.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(values.dtype).max)
    low, high = float(values.min()), float(values.max())
    raise ConfigError(
        f"grey: the file holds {values.dtype}, {low:g} to {high:g}; say which greys the levels belong to, "
        f"as in grey: [{low:g}, {high:g}]"
    )
