"""The frames of a dataset as dictionaries of arrays: what a training loop reads, and nothing else."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, overload

from numpy.typing import NDArray

from usim.errors import ConfigError, DataError
from usim.io.layout import BY_PATH, DATASETS
from usim.io.shard import has_array, read_arrays
from usim.units import did_you_mean

if TYPE_CHECKING:
    from usim.io.dataset import Frames

#: Names that can be asked for: everything that is an array of fixed shape for every frame.
READABLE = tuple(
    d.path
    for d in DATASETS
    if d.dtype not in ("json", "text") and (d.dims[:1] == ("frame",) or "axes" in d.path or d.path == "coordinates")
)

Item = dict[str, NDArray[Any]]
Transform = Callable[[Item], Any]


class Arrays(Sequence[Any]):
    """Dictionaries of NumPy arrays by dataset name, one per frame: `len`, indices from either end, slices, iteration.

    A PyTorch DataLoader takes it as it is: with any number of workers, forked or spawned, shuffled, under Subset and
    random_split. Only the named datasets are read. Types are those of Frame, `iq` is complex64 (Z, X), and what
    is the same for all frames comes with each.

    >>> data = usim.open("training").arrays("bmode", "truth/bmode")  # doctest: +SKIP
    >>> loader = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True, num_workers=4)  # doctest: +SKIP
    """

    def __init__(self, frames: Frames, names: Sequence[str], transform: Transform | None = None) -> None:
        self._frames, self._names, self._transform = frames, tuple(names), transform

    @property
    def names(self) -> tuple[str, ...]:
        """The datasets that are read."""
        return self._names

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Arrays: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Arrays(self._frames[index], self._names, self._transform)
        found = self._frames.read(index, functools.partial(read_arrays, names=self._names))
        return found if self._transform is None else self._transform(found)

    def __repr__(self) -> str:
        return f"<usim.Arrays: {', '.join(self._names)} of {len(self)} frames>"


def check_names(names: Sequence[str], stored: Sequence[str], where: str | os.PathLike[str]) -> None:
    """Raise ConfigError for what is no array of a frame, DataError for what the dataset at `where` does not store."""
    if not names:
        raise ConfigError(f"arrays: name at least one dataset, such as bmode; {where} has {', '.join(stored)}")
    for name in names:
        if name not in READABLE:
            hint = did_you_mean(name, READABLE)
            raise ConfigError(f"arrays: {name!r} is no array of every frame{hint}; {where} has {', '.join(stored)}")
        if name not in stored:
            spec = BY_PATH[name]
            cure = f"generate it with --store {spec.store}" if spec.store else f"it comes with the key {spec.key}"
            raise DataError(f"{where}: no {name} is stored; it has {', '.join(stored)}; {cure}")
    if len(set(names)) < len(names):
        raise ConfigError(f"arrays: {', '.join(names)}: each name once")


def stored_names(file: Any) -> tuple[str, ...]:
    """Return the names in an open shard that can be asked for."""
    return tuple(name for name in READABLE if has_array(file, name))
