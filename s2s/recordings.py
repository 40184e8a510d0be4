"""Images in files as training data: pictures, clips, data of usim, in an order that is shuffled anew every epoch."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s2s.data import BELOW_BLACK_DB, Sample
from s2s.images import READERS, Stated, open_image
from s2s.images.image import shown_db
from usim.errors import ConfigError, DataError
from usim.io.dataset import open_frames, rows_of
from usim.phantom.draw import addressed

#: Endings of files that usim wrote, and of pictures.
DATASETS = (".h5", ".hdf5")
PICTURES = tuple(ending for ending in READERS if ending not in DATASETS)
#: The part of a split dataset that is learned from.
TRAIN = "train"
#: Files that a process keeps open; more of them are read again when their turn comes.
_KEPT = 64


@dataclass(frozen=True)
class Recordings:
    """The images of files and folders as a source of samples, one image a scene.

    items: (path, frame in it).  needs: keys of a sample; `x` exists in data of usim only.  stated: what is known of
    the pictures' numbers.  seed: of the order.  note: what was assumed about the pictures, in words; "" for nothing.
    """

    items: tuple[tuple[str, int], ...]
    needs: tuple[str, ...]
    stated: Stated
    seed: int
    note: str = ""

    @classmethod
    def of(
        cls, paths: Iterable[str | os.PathLike[str]], needs: tuple[str, ...], stated: Stated, seed: int
    ) -> Recordings:
        """Find and check the images.

        Raises ConfigError when they can't give what is needed, DataError for one that can't be read.
        """
        if "y2" in needs:
            raise ConfigError(
                "--data: no independent looks at one scene (y2) are read from files; use --sim, or another method"
            )
        notes: list[str] = []
        items = [item for path in paths for item in _items(Path(path), stated, notes)]
        pictures = [path for path, _ in items if Path(path).suffix.lower() in PICTURES]
        if "x" in needs and pictures:
            raise ConfigError(
                f"--data: {pictures[0]} has no truth to learn from (x); use data of usim or --sim, or another method"
            )
        more = f"; {len(notes) - 1} more by the same rules" if len(notes) > 1 else ""
        return cls(tuple(items), needs, stated, seed, notes[0] + more if notes else "")

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that reads the samples of a scene; scenes go on for ever, epoch after epoch."""
        opened = functools.lru_cache(_KEPT)(self._reader)

        def samples(index: int) -> list[Sample]:
            epoch, place = divmod(index, len(self.items))
            path, frame = self.items[addressed(self.seed, epoch).permutation(len(self.items))[place]]
            return [opened(path)(frame)]

        return samples

    def _reader(self, path: str) -> Callable[[int], Sample]:
        if "x" not in self.needs:
            image = open_image(path, self.stated)
            return lambda index: {"y": shown_db(image.inside(image.frames[index]), image.domain).astype(np.float32)}
        frames = open_frames(path)

        def sample(index: int) -> Sample:
            frame = frames[index]
            black = -float(self.stated.dynamic_range or frame.params["scene"]["image"]["dynamic_range"])
            return {
                "y": np.maximum(frame.bmode, np.float32(black)),
                "x": np.clip(frame.truth.bmode, black - BELOW_BLACK_DB, 0.0),
            }

        return sample


def _items(path: Path, stated: Stated, notes: list[str]) -> Sequence[tuple[str, int]]:
    if path.is_dir() and not any(path.glob("*.h5")):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)
        if not files:
            raise DataError(f"{path}: no images in this folder; {', '.join(DATASETS + PICTURES)} can be read")
        return [item for file in files for item in _items(file, stated, notes)]
    image = open_image(path, stated)
    notes += [image.note] if image.note else []
    rows = rows_of(path) if path.is_dir() else {"": range(len(image.frames))}
    if list(rows) == [""]:
        return [(str(path), row) for row in rows[""]]
    if TRAIN not in rows:
        raise ConfigError(f"--data: {path}: its parts are {', '.join(rows)}; none is called {TRAIN}")
    notes.append(f"{path}: its part {TRAIN} alone, {len(rows[TRAIN])} of {len(image.frames)} images")
    return [(str(path), row) for row in rows[TRAIN]]
