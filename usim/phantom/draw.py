"""Drawing: from a phantom to the concrete scene of one frame.

Every random number comes from a substream that is addressed, not consumed: a frame depends on (seed, index, look)
alone, whatever was drawn before it, in whichever process. The parameters of a scene are drawn depth first in the
order in which the document writes them, an item's `repeat` before its copies; then the seeds of the background's
texture, of the display's drifting gain, and of the regions' textures and courses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from usim.description import Refusal, refusals
from usim.errors import ConfigError
from usim.phantom import ranges
from usim.phantom.files import locate, remember
from usim.phantom.load import Phantom
from usim.phantom.map_regions import AnyMap
from usim.phantom.schema import Scene

PARAMETERS: Final = 0
SCATTERERS: Final = 1
NOISE: Final = 2
HAZE: Final = 5
ROUGHNESS: Final = 6


def substream(seed: int, index: int, purpose: int, look: int = 0) -> np.random.Generator:
    """Return the random generator of one purpose in one look at one scene.

    seed: start of everything. index: number of the scene. purpose: PARAMETERS, SCATTERERS, NOISE, HAZE or ROUGHNESS.
    look: number of the draw of the same scene.

    >>> float(substream(7, 0, NOISE).random()) == float(substream(7, 0, NOISE).random())
    True
    """
    return addressed(seed, index, purpose, look)


def addressed(seed: int, *place: int) -> np.random.Generator:
    """Return the random generator of a place; places never share numbers.

    >>> float(addressed(7, 1, 2).random()) == float(addressed(7, 1, 2).random())
    True
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=place)))


def draw(phantom: Phantom, seed: int | None = None, index: int = 0) -> Scene:
    """Return the scene of frame `index`: plain values, no ranges.

    seed: replaces the phantom's own. A phantom without any range yields the same scene for every index.
    Raises ConfigError when values that were drawn independently do not fit together.

    >>> from usim.phantom.load import load_phantom
    >>> draw(load_phantom("cyst")) == draw(load_phantom("cyst"), index=5)
    True
    """
    seed = phantom.seed if seed is None else seed
    generator = substream(seed, index, PARAMETERS)
    try:
        document = ranges.resolve(phantom.document, generator)
    except ValueError as error:
        raise ConfigError(f"{phantom.source}: frame {index} of seed {seed}: {error}") from None
    background, cloud = document.get("background"), document.get("scatterers")
    if phantom.is_random and background.get("texture") and "seed" not in background["texture"]:
        background["texture"] = {**background["texture"], "seed": int(generator.integers(2**32))}
    error = (document.get("display") or {}).get("tgc_error")
    if phantom.is_random and error and "std" in error and "seed" not in error:
        error["seed"] = int(generator.integers(2**32))
    for part in _parts(document) if phantom.is_random else ():
        for key in ("texture", "roughness"):
            if part.get(key) and "seed" not in part[key]:
                part[key] = {**part[key], "seed": int(generator.integers(2**32))}
    for holder in (cloud, *document.get("regions", ())):
        if holder and "file" in holder:
            holder["sha256"] = dict(phantom.files)[holder["file"]]
            remember(locate(phantom.base, holder["file"]), holder["sha256"])
    try:
        scene = Scene.model_validate(document).with_cell()
        found = [*_refused_maps(scene)] if phantom.is_random else []
    except ValidationError as error:
        found = refusals(error, Scene)
    if found:
        reasons = "\n".join(f"    {'.'.join(map(str, r.path))}: {r.message}" for r in found)
        raise ConfigError(
            f"{phantom.source}: frame {index} of seed {seed} draws values that do not fit together; "
            f"narrow the ranges:\n{reasons}"
        )
    return scene


def _refused_maps(scene: Scene) -> Iterator[Refusal]:
    if any(isinstance(region, AnyMap) for region in scene.regions):
        from usim.phantom.map_sampling import refused_maps  # it loads scipy, for phantoms with maps alone

        yield from refused_maps(scene)


def _parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the regions of a drawn document, each before its wall or the tissues of its map."""
    for region in document.get("regions", ()):
        yield region
        if region.get("wall"):
            yield region["wall"]
        yield from (tissue for tissue in region.get("values", {}).values() if isinstance(tissue, dict))
