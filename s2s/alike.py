"""Which frames of a file show one scene: of data of usim those that differ in one part of their view, or all."""

from __future__ import annotations

import os
from collections import Counter

from s2s.images.hdf5 import Shown
from s2s.images.image import Image
from s2s.methods.bands import Bands
from usim.errors import DataError
from usim.io.dataset import open_frames


def frames_alike(path: str | os.PathLike[str], part: str) -> list[list[int]]:
    """Numbers of the frames of a dataset that differ in one part of their place alone, in the order of that part."""
    frames = open_frames(path)
    places = {"run": frames.runs(), **frames.places()}
    own = places.pop(part)
    groups: dict[tuple[int, ...], list[int]] = {}
    met: Counter[tuple[int, ...]] = Counter()
    for number, (value, *rest) in enumerate(zip(own.tolist(), *(p.tolist() for p in places.values()), strict=True)):
        place = (value, *rest)
        # A run may be there twice: what was met before belongs to another scene.
        groups.setdefault((met[place], *rest), []).append(number)
        met[place] += 1
    return [sorted(group, key=lambda number: own[number]) for group in groups.values()]


def frames_beside(path: str | os.PathLike[str], image: Image, bands: Bands) -> list[tuple[int, ...]]:
    """For each frame of an opened image the numbers of its further bands.

    Raises DataError where a scene has fewer images than there are bands.
    """
    found: list[tuple[int, ...]] = [()] * len(image.frames)
    if bands.count == 1:
        return found
    stored = isinstance(image.frames, Shown)
    for group in frames_alike(path, bands.part) if stored else [list(range(len(found)))]:
        if len(group) < bands.count and stored:
            raise DataError(
                f"{path}: frame {group[0]}: its scene has {len(group)} of the {bands} that are seen at once; generate "
                "it with all of them, or take a method of one band"
            )
        if len(group) < bands.count:
            raise DataError(
                f"{path}: {len(group)} of the {bands.count} images of a scene that are seen at once; give them as the "
                "frames of one file, such as NPY, TIFF or GIF, or take a method of one band"
            )
        for place, number in enumerate(group):
            found[number] = tuple(group[k] for k in bands.after(place, len(group)))
    return found
