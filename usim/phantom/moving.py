"""Clouds of a sequence: drawn once in the scene at time 0, then moved to where they are later.

Scatterers keep their places in the tissue, so that every image of a look shows the same ones. Their amplitudes follow
the depth that they have come to, and the area about them that has grown or shrunk: the mean intensity is always that
of the scene as it stands then.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from usim.engines.geometry import FLAT, Fan, Flat
from usim.phantom import deform
from usim.phantom.fill import draw_amplitude, draw_cloud
from usim.phantom.flow import Stream, streams
from usim.phantom.schema import Scene
from usim.phantom.truth import cover_at, densities
from usim.phantom.world import World
from usim.scatterers import Scatterers

Array = NDArray[np.float64]
LEVELS: Final = 512
EDGE_POINTS: Final = 65  # along the arcs of a sector whose box is looked for
# Amplitudes are followed back over this many decorrelation times: e^-37 is what a float cannot tell from 0.
MEMORY: Final = 37.0


def draw_moving(
    world: World,
    depth: Array,
    lateral: tuple[Array, Array],
    density: Array,
    strength: Array,
    half_slab: Array | None,
    generator: np.random.Generator,
    geometry: Flat = FLAT,
) -> Scatterers:
    """The cloud of a scene with a sequence, as it is at the world's time; arguments as for `draw_cloud`.

    What is drawn depends on the scene and the generator's seed alone, not on the time.
    """
    scene = world.scene
    (left, right), (top, bottom) = _origins(scene, depth, lateral, geometry)
    level = np.linspace(top, bottom, LEVELS)
    slab = None if half_slab is None else _thickest(level, depth, half_slab, max(depth[0] - top, bottom - depth[-1]))
    packed = np.interp(level, depth, density)
    edges = np.full(LEVELS, left), np.full(LEVELS, right)
    tissue = draw_cloud(scene, level, edges, packed, packed, slab, generator, geometry)
    flowing = streams(scene)
    kept = np.ones(len(tissue), bool)
    for stream in flowing:
        kept &= ~stream.inside(scene, tissue.x, tissue.z)
    below = geometry.to_beam(tissue.x, tissue.z)[1][kept]
    parts = [(tissue.position[kept], tissue.amplitude[kept] / np.sqrt(np.interp(below, level, packed)))]
    for number, stream in enumerate(flowing):
        middle = float(np.clip(geometry.to_beam(*map(np.array, stream.middle))[1], depth[0], depth[-1]))
        thick = None if half_slab is None else float(np.max(half_slab))
        seeds = _child(generator, number)
        parts.append(_stream_cloud(world, stream, float(np.interp(middle, depth, density)), thick, seeds))
    position, amplitude = (np.concatenate(values) for values in zip(*parts, strict=True))
    growth = deform.area_growth(scene, world.time, position[:, 0], position[:, 2])
    position = world.move(position)
    (x, z), y = geometry.to_beam(position[:, 0], position[:, 2]), position[:, 1]
    amplitude = amplitude * np.sqrt(growth * np.interp(z, depth, strength))
    seen = (z >= depth[0]) & (z <= depth[-1]) & (x >= np.interp(z, depth, lateral[0]))
    seen &= x <= np.interp(z, depth, lateral[1])
    if half_slab is not None:
        seen &= np.abs(y) <= np.interp(z, depth, half_slab)
    return Scatterers(position[seen], amplitude[seen])


def _origins(
    scene: Scene, depth: Array, lateral: tuple[Array, Array], geometry: Flat
) -> tuple[deform.Interval, deform.Interval]:
    """((x0, x1), (z0, z1)) in beam space that holds at time 0 all tissue that is seen; the arguments are draw_moving's.

    A sector grows on all sides by as much as the rectangle around it.
    """
    sides, span = (float(lateral[0].min()), float(lateral[1].max())), (float(depth[0]), float(depth[-1]))
    if not isinstance(geometry, Fan):
        return deform.origins(scene, sides, span)
    x, z = geometry.to_space(np.linspace(*sides, EDGE_POINTS)[None, :], np.array(span)[:, None])
    box = (float(x.min()), float(x.max())), (float(z.min()), float(z.max()))
    grown = deform.origins(scene, *box)
    reach = float(max(abs(a - b) for old, new in zip(box, grown, strict=True) for a, b in zip(old, new, strict=True)))
    nearest = max(span[0] - reach, -geometry.radius)
    away = span[0] + geometry.radius
    wide = geometry.length * (math.asin(reach / away) if reach < away else math.pi)
    return (sides[0] - wide, sides[1] + wide), (nearest, span[1] + reach)


def _thickest(level: Array, depth: Array, half_slab: Array, reach: float) -> Array:
    """The thickest slab (L,) within `reach` of each level: tissue that comes from there fills it."""
    span = depth[None, :] - level[:, None]
    near = np.abs(span) <= np.maximum(reach, np.abs(span).min(axis=1))[:, None]
    return np.asarray(np.where(near, half_slab[None, :], 0.0).max(axis=1))


def _child(generator: np.random.Generator, *place: int) -> np.random.SeedSequence:
    """The seed of a stream below that of a generator, addressed by its place."""
    seed = generator.bit_generator.seed_seq
    if not isinstance(seed, np.random.SeedSequence):
        raise TypeError("a sequence needs a generator that was made from a SeedSequence")
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, *place))


def _stream_cloud(
    world: World, stream: Stream, density: float, half_slab: float | None, seeds: np.random.SeedSequence
) -> tuple[Array, Array]:
    """Positions (N, 3), on the scene at time 0, and amplitudes over sqrt(density) (N,) of what streams in a region."""
    scene, generator = world.scene, _generator(seeds)
    most = max(densities(scene))
    density = most * density
    count = int(generator.poisson(density * stream.area * (1.0 if half_slab is None else 2.0 * half_slab)))
    along, side = generator.uniform(0.0, stream.longest, count), generator.uniform(*stream.across, count)
    y = np.zeros(count) if half_slab is None else half_slab * (2.0 * generator.random(count) - 1.0)
    amplitude = _renewed(world, stream, count, seeds)
    x, z = stream.carried(along, side, world.time)
    inside = (along < stream.course.length(side)) & stream.inside(scene, x, z)
    cover = cover_at(scene, x[inside], z[inside])
    power, local = cover.echogenicity(), cover.density() / most
    kept = power > 0.0
    if local.min(initial=1.0) < 1.0:
        kept &= generator.random(count)[inside] < local
    position = np.stack((x, y, z), axis=1)[inside]
    return position[kept], (amplitude[inside] * np.sqrt(power / (density * local)))[kept]


def _renewed(world: World, stream: Stream, count: int, seeds: np.random.SeedSequence) -> Array:
    """Amplitudes (N,) of unit variance whose correlation falls as exp(-time / decorrelation).

    Normal ones are an Ornstein-Uhlenbeck process; of those of unit size, some are drawn anew at every step.
    """
    sequence, memory = world.scene.sequence, stream.flow.decorrelation
    law = world.scene.scatterers.amplitude
    step = 0 if sequence is None else round(world.time * sequence.rate)
    if sequence is None or memory is None:
        return draw_amplitude(law, count, _generator(seeds, 0))
    first = max(0, step - math.ceil(MEMORY * memory * sequence.rate))
    left = math.exp(-1.0 / (memory * sequence.rate))
    amplitude = draw_amplitude(law, count, _generator(seeds, first))
    for later in range(first + 1, step + 1):
        generator = _generator(seeds, later)
        fresh = draw_amplitude(law, count, generator)
        if law == "gaussian":
            amplitude = left * amplitude + math.sqrt(1.0 - left * left) * fresh
        else:
            amplitude = np.where(generator.random(count) < left, amplitude, fresh)
    return amplitude


def _generator(seeds: np.random.SeedSequence, *place: int) -> np.random.Generator:
    below = np.random.SeedSequence(seeds.entropy, spawn_key=(*seeds.spawn_key, *place))
    return np.random.Generator(np.random.Philox(below))
