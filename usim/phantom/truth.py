"""The scene evaluated at points: labels and scattering strength, ideal and unblurred."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from usim.phantom.regions import ANECHOIC_DB, AnyRegion, Circle, Ellipse, Layer, Region
from usim.phantom.schema import Background, Scene
from usim.phantom.texture import texture_at

Array = NDArray[np.float64]


def labelled(scene: Scene) -> tuple[Background | Region, ...]:
    """Return what each label stands for: the background, then each region's parts."""
    return (scene.background, *(part for region in scene.regions for part in region.parts))


def label_names(scene: Scene) -> tuple[str, ...]:
    """Return the names by label."""
    return tuple(part.name for part in labelled(scene))


def label_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> NDArray[np.uint16]:
    """Return what lies at points (x, z), metres, broadcast: 0 is the background, k the k-th part of the regions.

    Later regions lie over earlier ones; a region's edge belongs to it.

    >>> from usim.phantom.load import load_phantom
    >>> from usim.phantom.draw import draw
    >>> label_at(draw(load_phantom("cyst")), [-10e-3, 0.0], [15e-3, 25e-3]).tolist()
    [1, 0]
    """
    shape = np.broadcast_shapes(np.shape(x), np.shape(z))
    x, z = np.atleast_1d(np.asarray(x, dtype=np.float64)), np.atleast_1d(np.asarray(z, dtype=np.float64))
    labels = np.zeros(np.broadcast_shapes(x.shape, z.shape), dtype=np.uint16)
    first = 1
    for region in scene.regions:
        label, first = first, first + len(region.parts)
        left, right, top, bottom = _box(region)
        near = ((x >= left) & (x <= right)) & ((z >= top) & (z <= bottom))
        if isinstance(region, Layer):
            labels[near] = label
            continue
        # Only the points in the bounding box are looked at closely.
        index = np.nonzero(near)
        part = _part_at(region, _pick(x, index, labels.shape), _pick(z, index, labels.shape))
        inside = part >= 0
        labels[tuple(axis[inside] for axis in index)] = label + part[inside]
    return labels.reshape(shape)


def echogenicity_db_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Array:
    """Return the scattering strength at points (x, z), metres, in dB of the reference tissue; -100 where anechoic."""
    labels = label_at(scene, x, z)
    level = np.array([_decibels(part.echogenicity) for part in labelled(scene)])[labels]
    if _has_texture(scene):
        level += texture_at(scene, x, z) * (labels == 0)
    return level


def echogenicity_at(scene: Scene, x: ArrayLike, z: ArrayLike, labels: NDArray[np.uint16] | None = None) -> Array:
    """Return the scattering strength at points (x, z), metres, as a power relative to the reference tissue.

    It is exactly 0 where the scene is anechoic. labels: what label_at says there, where it is known already.
    """
    labels = label_at(scene, x, z) if labels is None else labels
    power = np.array([_power(part.echogenicity) for part in labelled(scene)])[labels]
    if _has_texture(scene):
        power *= np.exp(texture_at(scene, x, z) * (math.log(10) / 10 * (labels == 0)))
    return power


def attenuation_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Array:
    """Return the attenuation at points (x, z), metres, in dB/cm/MHz one way; the medium's where no region gives one."""
    own = (scene.medium.attenuation, *(part.attenuation for region in scene.regions for part in region.parts))
    return np.array([own[0] if value is None else value for value in own])[label_at(scene, x, z)]


def _has_texture(scene: Scene) -> bool:
    return scene.background.texture is not None and scene.background.echogenicity != "anechoic"


def _decibels(echogenicity: float | str) -> float:
    return ANECHOIC_DB if isinstance(echogenicity, str) else echogenicity


def _power(echogenicity: float | str) -> float:
    return 0.0 if isinstance(echogenicity, str) else float(10 ** (echogenicity / 10))


def _pick(values: Array, index: tuple[NDArray[np.intp], ...], shape: tuple[int, ...]) -> Array:
    """Return broadcast values at indices."""
    return np.asarray(np.broadcast_to(values, shape)[index])


def _box(region: AnyRegion) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of what a region can cover, metres."""
    if isinstance(region, Layer):
        return -math.inf, math.inf, *region.z
    if isinstance(region, Circle | Ellipse):
        (a, b), (x, z) = region.semi_axes, region.center
        reach_x = math.hypot(a * math.cos(region.angle), b * math.sin(region.angle))
        reach_z = math.hypot(a * math.sin(region.angle), b * math.cos(region.angle))
        return x - reach_x, x + reach_x, z - reach_z, z + reach_z
    xs, zs = zip(*region.corners, strict=True)
    return min(xs), max(xs), min(zs), max(zs)


def _part_at(region: AnyRegion, x: Array, z: Array) -> NDArray[np.intp]:
    """Which of the region's parts lies at points, -1 where it does not reach."""
    return np.where(_inside(region, x, z), 0, -1)


def _inside(region: AnyRegion, x: Array, z: Array) -> NDArray[np.bool_]:
    if isinstance(region, Circle | Ellipse):
        (a, b), (cx, cz) = region.semi_axes, region.center
        cos, sin = math.cos(region.angle), math.sin(region.angle)
        dx, dz = x - cx, z - cz
        return np.asarray(((cos * dx + sin * dz) / a) ** 2 + ((cos * dz - sin * dx) / b) ** 2 <= 1.0)
    return _inside_polygon(region.corners, x, z)


def _inside_polygon(corners: tuple[tuple[float, float], ...], x: Array, z: Array) -> NDArray[np.bool_]:
    """Even-odd rule: a ray from each point towards +x crosses the outline an odd number of times."""
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, az), (bx, bz) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if az == bz:
            continue
        crosses = (z < az) != (z < bz)
        inside ^= crosses & (x <= ax + (z - az) * ((bx - ax) / (bz - az)))
    return inside
