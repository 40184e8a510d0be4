"""What stands behind the inputs of `s2s denoise`: files, data of usim, and folders of pictures with what is in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from s2s.images import READERS
from usim.errors import DataError
from usim.io.provenance import MANIFEST

#: What our own outputs end with; they are no inputs when a folder is denoised once more.
DENOISED, RESIDUAL = ".denoised", ".residual"


@dataclass(frozen=True)
class Found:
    """One image to denoise.

    source: a file, or a folder that usim wrote.  within: where it lies in the folder that was named.  named: the user
    named it; what was only found in a folder may fail without stopping the others.
    """

    source: Path
    within: Path = Path()
    named: bool = True

    @property
    def stem(self) -> str:
        """Name without ending."""
        return self.source.resolve().name if self.source.is_dir() else self.source.stem

    @property
    def suffix(self) -> str:
        """Ending of the output."""
        return ".h5" if self.source.is_dir() else self.source.suffix


def find(inputs: Sequence[Path], tell: Callable[[str], None]) -> list[Found]:
    """Return the images behind the inputs; folders are walked to the bottom, in the order of names.

    tell: gets a line for each file of a folder that is no image. Raises DataError for a folder without images.
    """
    return [one for path in inputs for one in _behind(path, tell)]


def is_dataset(folder: Path) -> bool:
    """True for a folder that usim wrote: its shards are one input."""
    return (folder / MANIFEST).is_file() or any(folder.glob("shard-*.h5"))


def _behind(path: Path, tell: Callable[[str], None]) -> list[Found]:
    if not path.is_dir() or is_dataset(path):
        return [Found(path)]
    found = [Found(one, one.relative_to(path).parent, named=False) for one in _walk(path, tell)]
    if not found:
        raise DataError(f"{path}: no images in this folder; {', '.join(READERS)} can be read")
    return found


def _walk(root: Path, tell: Callable[[str], None]) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        datasets = sorted(name for name in folders if is_dataset(Path(folder, name)))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in datasets)
        yield from (Path(folder, name) for name in datasets)
        for path in (Path(folder, name) for name in sorted(files)):
            if path.name.startswith(".") or path.stem.endswith((DENOISED, RESIDUAL)):
                continue
            if path.suffix.lower() in READERS:
                yield path
            else:
                tell(f"{path}: skipped, no image that can be read")
