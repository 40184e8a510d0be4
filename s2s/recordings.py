"""Images in files as training data: pictures, clips, data of usim, in an order that is shuffled anew every epoch."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from s2s.alike import frames_alike
from s2s.data import BELOW_BLACK_DB, Sample
from s2s.data import partners as pairs_of
from s2s.images import READERS, Stated, open_image
from s2s.images.hdf5 import Shown
from s2s.images.image import shown_db
from s2s.methods.bands import Bands
from s2s.methods.base import KEYS, PAIRS, pair_in
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
    partners: frames of the same file that an item makes pairs with, where pairs are needed.  beside: those that are
    seen with it, where several bands are.
    """

    items: tuple[tuple[str, int], ...]
    needs: tuple[str, ...]
    stated: Stated
    seed: int
    note: str = ""
    partners: Mapping[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    beside: Mapping[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, paths: Iterable[str | os.PathLike[str]], needs: tuple[str, ...], stated: Stated, seed: int
    ) -> Recordings:
        """Find and check the images.

        Raises ConfigError when they can't give what is needed, DataError for one that can't be read.
        """
        if "others" in needs:
            raise ConfigError(f"--data: {KEYS['others']} is not read from files; use --sim, or another method")
        notes: list[str] = []
        items = [item for path in paths for item in _items(Path(path), stated, notes)]
        pictures = [path for path, _ in items if Path(path).suffix.lower() in PICTURES]
        if "x" in needs and pictures:
            raise ConfigError(
                f"--data: {pictures[0]} has no truth to learn from (x); use data of usim or --sim, or another method"
            )
        more = f"; {len(notes) - 1} more by the same rules" if len(notes) > 1 else ""
        found = cls(tuple(items), needs, stated, seed, notes[0] + more if notes else "")
        pair, bands = pair_in(needs), Bands.among(needs)
        if bands.count > 1:
            found = found._with_bands(bands, pair == "y2")
        return found._paired(pair) if pair else found

    def _with_bands(self, bands: Bands, one_more: bool) -> Recordings:
        """The same with those images alone that others can be seen with; one_more: a further look is learned from.

        Raises ConfigError where there are none.
        """
        beside: dict[tuple[str, int], tuple[int, ...]] = {}
        for path in dict.fromkeys(path for path, _ in self.items):
            shown = isinstance(open_image(path, self.stated).frames, Shown)
            for group in frames_alike(path, bands.part) if shown else []:
                if len(group) >= bands.count + one_more:
                    beside |= {
                        (path, number): tuple(group[k] for k in bands.after(place, len(group)))
                        for place, number in enumerate(group)
                    }
        items = tuple(item for item in self.items if item in beside)
        if not items:
            more = f", and a further {bands.part} to learn from," if one_more else ""
            raise ConfigError(
                f"--data: {self.items[0][0]}: no {bands} of a scene{more} that are seen at once; data of usim with as "
                "many holds them, or use --sim, or fewer bands"
            )
        return replace(self, items=items, beside=beside, note=self._noted(len(items), f"are not of {bands}"))

    def _noted(self, left: int, why: str) -> str:
        """The note, and what is left out."""
        alone = len(self.items) - left
        told = f"{alone} of {len(self.items)} images {why} and are left out" if alone else ""
        return "; ".join(filter(None, (self.note, told)))

    def _paired(self, pair: str) -> Recordings:
        """The same with those images alone that have a partner; raises ConfigError where there are none."""
        partners: dict[tuple[str, int], tuple[int, ...]] = {}
        for path in dict.fromkeys(path for path, _ in self.items):
            frames = open_image(path, self.stated).frames
            groups = [list(range(len(frames)))] if pair == "next" else []
            if isinstance(frames, Shown):
                groups = frames_alike(path, PAIRS[pair])
            for group in groups:
                for here, there in pairs_of(pair, len(group)):
                    if here != there:
                        partners[path, group[here]] = (*partners.get((path, group[here]), ()), group[there])
        items = tuple(item for item in self.items if item in partners)
        if not items:
            raise ConfigError(
                f"--data: {self.items[0][0]}: no frame comes with {KEYS[pair]} ({pair}); {_HELD[pair]}, or use --sim, "
                "or another method"
            )
        return replace(self, items=items, partners=partners, note=self._noted(len(items), "have no partner"))

    def open(self) -> Callable[[int], list[Sample]]:
        """Return the function that reads the samples of a scene; scenes go on for ever, epoch after epoch."""
        opened = functools.lru_cache(_KEPT)(self._reader)

        def samples(index: int) -> list[Sample]:
            epoch, place = divmod(index, len(self.items))
            path, frame = self.items[addressed(self.seed, epoch).permutation(len(self.items))[place]]
            read = opened(path)
            return [read(frame, other) for other in self.partners.get((path, frame), (frame,))]

        return samples

    def _reader(self, path: str) -> Callable[[int, int], Sample]:
        """The function that reads the sample of a frame and of its partner, which is the frame itself without pairs."""
        pair, bands = pair_in(self.needs), Bands.among(self.needs)
        image = open_image(path, self.stated)

        def shown(index: int, other: int) -> Sample:
            seen = {"y": index} | ({pair: other} if pair else {})
            frames = {key: image.inside(image.frames[number]) for key, number in seen.items()}
            return {key: shown_db(frame, image.domain).astype(np.float32) for key, frame in frames.items()}

        if not isinstance(image.frames, Shown) or self.needs == ("y",):
            return shown
        frames = open_frames(path)

        def known(index: int, other: int) -> Sample:
            frame = frames[index]
            black = np.float32(-float(self.stated.dynamic_range or frame.params["scene"]["image"]["dynamic_range"]))
            sample = {"y": np.maximum(frame.bmode, black)}
            for key, number in zip(bands.keys, self.beside.get((path, index), ()), strict=True):
                sample[key] = np.maximum(frames[number].bmode, black)
            aims = {"x": frame.truth.bmode} if "x" in self.needs else {}
            aims |= {pair: frames[other].bmode} if pair else {}
            return sample | {key: np.clip(aim, black - BELOW_BLACK_DB, 0.0) for key, aim in aims.items()}

        return known


#: Where frames come with a partner.
_HELD = {
    "y2": "data of usim with looks: 2 or more holds such pairs",
    "next": "clips and data of usim with a sweep hold such pairs",
    "steered": "data of usim with angles holds such pairs",
}


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
