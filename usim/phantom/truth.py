"""The scene evaluated at points: labels and scattering strength, ideal and unblurred."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from usim.phantom.map_regions import AnyMap, ImageMap, LabelMap
from usim.phantom.map_sampling import map_outline, power_at
from usim.phantom.outlines import Box, Grown, Outline, outline_of
from usim.phantom.regions import AnyRegion
from usim.phantom.schema import Background, CloudSpec, Scene
from usim.phantom.texture import Field, Window, window_of
from usim.phantom.tissue import ANECHOIC_DB, Region, Wall

Array = NDArray[np.float64]

EDGE_SIGMAS: Final = 2.5631031310892007
"""From 10 to 90 % of a normal distribution, in standard deviations."""
SOFT_REACH: Final = 6.5
"""Standard deviations from its outline at which a soft region ends: 1e-10 of its power, -40 dB under the brightest."""


class Ply(NamedTuple):
    """One material of the scene, to be laid over what came before: its label, outline and texture.

    outline: None for the background, which lies everywhere. image: whose grey values its echogenicity follows.
    """

    label: int
    part: Background | Region
    outline: Outline | None
    field: Field | None
    image: ImageMap | None = None


class Patch(NamedTuple):
    """Where one ply lies among places: their flat indices, x and z, and its share there, None where it is 1."""

    ply: Ply
    index: Any
    x: Array
    z: Array
    share: Array | None


@dataclass(frozen=True, eq=False)
class Cover:
    """What lies at places of one shape: every ply of the scene that reaches them, the lowest first."""

    scene: Scene
    shape: tuple[int, ...]
    patches: tuple[Patch, ...]

    def labels(self, softest: float = math.inf) -> NDArray[np.uint16]:
        """0 is the background, k the k-th part of the regions; a soft region lies where its share is 1/2 and more.

        softest: leave out what has a wider edge, metres.
        """
        labels = np.zeros(math.prod(self.shape), dtype=np.uint16)
        for ply, index, _, _, share in self.patches:
            if share is not None and isinstance(ply.part, Region) and ply.part.edge > softest:
                continue
            labels[index if share is None else index[share >= 0.5]] = ply.label
        return labels.reshape(self.shape)

    def echogenicity(self) -> Array:
        """Scattering strength as a power relative to the reference tissue; exactly 0 where the scene is anechoic."""
        return self._laid(self._power_of)

    def echogenicity_db(self) -> Array:
        """Scattering strength in dB of the reference tissue; -100 where anechoic."""
        level = np.empty(math.prod(self.shape))
        for patch in self.patches:
            own = self._level_of(patch)
            if patch.share is not None:
                below, share = 10.0 ** (level[patch.index] / 10.0), patch.share
                own = 10.0 * np.log10((1.0 - share) * below + share * 10.0 ** (own / 10.0))
            level[patch.index] = own
        return level.reshape(self.shape)

    def attenuation(self) -> Array:
        """dB/cm/MHz, one way; the medium's where no region gives one."""

        def own(patch: Patch) -> float:
            part = patch.ply.part
            given = part.attenuation if isinstance(part, Region) else None
            return self.scene.medium.attenuation if given is None else given

        return self._laid(own)

    def density(self) -> Array:
        """Scatterers here over those that `scatterers.per_cell` asks for."""
        return self._laid(lambda patch: _density(self.scene, patch.ply.part))

    def _laid(self, own: Callable[[Patch], Array | float]) -> Array:
        """Values of each ply over those below; where it is soft the two mix by its share."""
        values = np.empty(math.prod(self.shape))
        for patch in self.patches:
            index, share = patch.index, patch.share
            values[index] = own(patch) if share is None else (1.0 - share) * values[index] + share * own(patch)
        return values.reshape(self.shape)

    def _power_of(self, patch: Patch) -> Array | float:
        power, (field, image), places = _power(patch.ply.part.echogenicity), patch.ply[3:], (patch.x, patch.z)
        power = power if field is None else power * field.power(*places)
        return power if image is None else power * power_at(image, *places)

    def _level_of(self, patch: Patch) -> Array | float:
        level, (field, image), places = _decibels(patch.ply.part.echogenicity), patch.ply[3:], (patch.x, patch.z)
        level = level if field is None else level + field.decibels(*places)
        if image is None:
            return level
        return np.maximum(level + 10.0 * np.log10(np.maximum(power_at(image, *places), 1e-30)), ANECHOIC_DB)


def cover_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Cover:
    """Return what lies at points (x, z), metres, broadcast. Later regions lie over earlier ones."""
    x, z = np.atleast_1d(np.asarray(x, dtype=np.float64)), np.atleast_1d(np.asarray(z, dtype=np.float64))
    shape = np.broadcast_shapes(x.shape, z.shape)
    patches = []
    for ply in _plies(scene.background, scene.regions, scene.box):
        if ply.outline is None:
            patches.append(Patch(ply, np.s_[:], *(np.broadcast_to(values, shape).ravel() for values in (x, z)), None))
            continue
        sigma = _sigma(ply.part)
        # Only the points in the bounding box are looked at closely.
        index, near_x, near_z = _within(_widened(ply.outline.box, SOFT_REACH * sigma), x, z)
        if sigma:
            share = ndtr(ply.outline.distance(near_x, near_z, SOFT_REACH * sigma) / -sigma)
            patches.append(Patch(ply, index, near_x, near_z, share))
        else:
            inside = np.flatnonzero(ply.outline.inside(near_x, near_z))
            patches.append(Patch(ply, index[inside], near_x[inside], near_z[inside], None))
    return Cover(scene, shape, tuple(patches))


def _within(box: Box, x: Array, z: Array) -> tuple[NDArray[np.intp], Array, Array]:
    """Flat indices of the places in a box, and their x and z; x and z broadcast."""
    left, right, top, bottom = box
    beside, level = (x >= left) & (x <= right), (z >= top) & (z <= bottom)
    if x.ndim == z.ndim == 2 and x.shape[0] == z.shape[1] == 1:
        rows, columns = np.flatnonzero(level), np.flatnonzero(beside)
        index = (rows[:, None] * x.shape[1] + columns).ravel()
        return index, np.tile(x[0, columns], len(rows)), np.repeat(z[rows, 0], len(columns))
    found = np.flatnonzero(beside & level)
    x, z = np.broadcast_arrays(x, z)
    return found, x.ravel()[found], z.ravel()[found]


@functools.lru_cache(maxsize=2)
def _plies(background: Background, regions: tuple[AnyRegion, ...], picture: Window) -> tuple[Ply, ...]:
    """The materials of a scene, the lowest first: a wall lies under what it surrounds."""
    found = [Ply(0, background, None, _field(background, picture, None))]
    for region in regions:
        first = len(found)
        found += [_ply(first + k, region, k, picture) for k in reversed(range(len(region.parts)))]
    return tuple(found)


def textures(background: Background, regions: tuple[AnyRegion, ...], picture: Window) -> dict[str, Field]:
    """Return the textures of a scene by the path of the part that has them."""
    paths = ["background"]
    for k, region in enumerate(regions):
        paths += [f"regions.{k}{_place_of(part, region)}" for part in region.parts]
    fields = {f"{paths[ply.label]}.texture": ply.field for ply in _plies(background, regions, picture)}
    return {path: field for path, field in fields.items() if field is not None}


def _place_of(part: Region, region: AnyRegion) -> str:
    """Where in its region a part is written."""
    if isinstance(region, LabelMap):
        return next(f".values.{value}" for value, tissue in region.values.items() if tissue is part)
    return ".wall" if isinstance(part, Wall) else ""


def _ply(label: int, region: AnyRegion, number: int, picture: Window) -> Ply:
    part = region.parts[number]
    outline = map_outline(region, number) if isinstance(region, AnyMap) else outline_of(region)
    if isinstance(part, Wall):
        outline = Grown(outline, part.thickness)
    box = _widened(outline.box, SOFT_REACH * _sigma(part))
    grey = region if isinstance(region, ImageMap) else None
    return Ply(label, part, outline, _field(part, picture, box), grey)


def _field(part: Background | Region, picture: Window, box: Box | None) -> Field | None:
    silent = part.texture is None or part.echogenicity == "anechoic"
    return None if silent else Field(part.texture, window_of(picture, box))


def _sigma(part: Background | Region) -> float:
    """Standard deviation of the error function across a part's outline, metres."""
    return part.edge / EDGE_SIGMAS if isinstance(part, Region) else 0.0


def _widened(box: Box, by: float) -> Box:
    left, right, top, bottom = box
    return left - by, right + by, top - by, bottom + by


def _density(scene: Scene, part: Background | Region) -> float:
    given = part.per_cell if isinstance(part, Region) else None
    return 1.0 if given is None or not isinstance(scene.scatterers, CloudSpec) else given / scene.scatterers.per_cell


def labelled(scene: Scene) -> tuple[Background | Region, ...]:
    """Return what each label stands for: the background, then each region's parts."""
    return (scene.background, *(part for region in scene.regions for part in region.parts))


def label_names(scene: Scene) -> tuple[str, ...]:
    """Return the names by label."""
    return tuple(part.name for part in labelled(scene))


def densities(scene: Scene) -> set[float]:
    """Return the densities of scatterers in a scene over that of `scatterers.per_cell`: 1, that of the background, too.

    >>> from usim.phantom.load import load_phantom
    >>> from usim.phantom.draw import draw
    >>> densities(draw(load_phantom("cyst")))
    {1.0}
    """
    return {_density(scene, part) for part in labelled(scene)}


def label_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> NDArray[np.uint16]:
    """Return what lies at points (x, z), metres, broadcast: 0 is the background, k the k-th part of the regions.

    Later regions lie over earlier ones; a region's edge belongs to it.

    >>> from usim.phantom.load import load_phantom
    >>> from usim.phantom.draw import draw
    >>> label_at(draw(load_phantom("cyst")), [-10e-3, 0.0], [15e-3, 25e-3]).tolist()
    [1, 0]
    """
    return cover_at(scene, x, z).labels().reshape(np.broadcast_shapes(np.shape(x), np.shape(z)))


def echogenicity_db_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Array:
    """Return the scattering strength at points (x, z), metres, in dB of the reference tissue; -100 where anechoic."""
    return cover_at(scene, x, z).echogenicity_db().reshape(np.broadcast_shapes(np.shape(x), np.shape(z)))


def echogenicity_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Array:
    """Return the scattering strength at points (x, z), metres, as a power relative to the reference tissue.

    It is exactly 0 where the scene is anechoic.
    """
    return cover_at(scene, x, z).echogenicity().reshape(np.broadcast_shapes(np.shape(x), np.shape(z)))


def attenuation_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Array:
    """Return the attenuation at points (x, z), metres, in dB/cm/MHz one way; the medium's where no region gives one."""
    return cover_at(scene, x, z).attenuation().reshape(np.broadcast_shapes(np.shape(x), np.shape(z)))


def sparsity_at(scene: Scene, x: ArrayLike, z: ArrayLike) -> Array:
    """Return how many times fewer scatterers lie at points (x, z), metres, than `scatterers.per_cell` asks for."""
    return 1.0 / cover_at(scene, x, z).density().reshape(np.broadcast_shapes(np.shape(x), np.shape(z)))


def _decibels(echogenicity: float | str) -> float:
    return ANECHOIC_DB if isinstance(echogenicity, str) else echogenicity


def _power(echogenicity: float | str) -> float:
    return 0.0 if isinstance(echogenicity, str) else float(10 ** (echogenicity / 10))
