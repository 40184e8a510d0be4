"""Images without truth in files and folders: which there are, what their numbers mean, and which can't be read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2s.evaluation.cases import PICTURE_FILES
from s2s.images import READERS, Image, Stated, open_image
from s2s.images.hdf5 import Shown
from s2s.images.image import describe, shown_db
from usim.errors import DataError

#: Files that a process keeps open.
_KEPT = 4


@dataclass(frozen=True)
class Given:
    """One image: its file, the number in the file, and what its numbers are taken for, in words."""

    file: str
    frame: int
    taken_as: str


@dataclass(frozen=True)
class RealImages:
    """Images of a file or folder.

    name: what was asked for.  given: every image.  unreadable: one line for each file that could not be opened.
    assumed: what was assumed about the numbers, the first of such notes; "" when all was stated.
    """

    name: str
    given: tuple[Given, ...]
    stated: Stated
    unreadable: tuple[str, ...] = ()
    assumed: str = ""

    @classmethod
    def of(cls, path: str | Path, stated: Stated, most: int | None = None) -> RealImages:
        """Find and open the images; the first `most` of them are taken.

        Files that can't be read are told, and the others are taken. Raises ConfigError for what is stated wrongly,
        DataError where no image is left.
        """
        source = Path(path)
        given: list[Given] = []
        unreadable: list[str] = []
        notes: list[str] = []
        for file in _files(source):
            try:
                image = open_image(file, stated)
            except DataError as error:
                unreadable.append(str(error))
                continue
            notes += [image.note] if image.note else []
            given += [Given(str(file), k, describe(image.domain)) for k in range(len(image.frames))]
        if not given:
            raise DataError("\n".join([*unreadable, f"{source}: none of its {len(unreadable)} images can be read"]))
        more = f"; {len(notes) - 1} more by the same rules" if len(notes) > 1 else ""
        return cls(source.name, tuple(given[:most]), stated, tuple(unreadable), notes[0] + more if notes else "")

    @property
    def items(self) -> list[tuple[str, int]]:
        """(name, number) of every image."""
        return [(self.name, number) for number in range(len(self.given))]

    def open(self) -> Callable[[int], tuple[NDArray[np.float32], float]]:
        """Return the function that reads an image by its number.

        It returns the image (H, W) in dB, clipped to [-dynamic range, 0], and the dynamic range; it raises DataError
        for one that can't be denoised.
        """

        @functools.lru_cache(_KEPT)
        def opened(file: str) -> Image:
            return open_image(file, self.stated)

        def read(number: int) -> tuple[NDArray[np.float32], float]:
            one = self.given[number]
            image = opened(one.file)
            values = shown_db(image.inside(image.frames[one.frame]), image.domain)
            # Data of usim says for each frame where black is.
            inside = image.frames
            depth = inside.dynamic_range(one.frame) if isinstance(inside, Shown) else image.domain.dynamic_range
            return np.clip(values, -depth, 0.0).astype(np.float32), depth

        return read


def _files(source: Path) -> list[Path]:
    """The files to open: pictures of a folder one by one, a folder of usim's data as a whole."""
    if not source.is_dir():
        return [source]
    pictures = sorted(file for file in source.iterdir() if file.suffix.lower() in PICTURE_FILES | set(READERS))
    if not pictures:
        raise DataError(f"{source}: no images in this folder; {', '.join(READERS)} can be read")
    return [source] if {file.suffix.lower() for file in pictures} <= {".h5", ".hdf5"} else pictures
