"""Ranges and choices: any value of a phantom may be drawn anew for each frame.

    {uniform: [a, b]}      between a and b
    {log_uniform: [a, b]}  between a and b, uniform in the logarithm; a > 0
    {normal: [mean, std]}  Gaussian, truncated (drawn again) beyond 4 std, so that its ends can be checked
    {integer: [a, b]}      a whole number, both ends included
    {choice: [...]}        one of the options, each equally likely; an option may be a value, a mapping or a range

An item of `regions`, `points`, `wires` or `interfaces` may also carry `repeat: n`, n a whole number or a range: so many
copies of the item, each drawn by itself. Groups of items, and the distance that items keep: usim/phantom/placement.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from usim.description import Refusal
from usim.phantom.placement import (
    APART,
    GROUPED,
    LISTS,
    MOST_TRIES,
    Circle,
    circle_of,
    group_of,
    group_refusals,
    is_group,
    placed,
    why_endless,
)
from usim.phantom.schema import MOST_INTERFACES, MOST_POINTS, MOST_REGIONS, MOST_WIRES
from usim.units import Count, Quantity, show, split_quantity

if TYPE_CHECKING:
    import numpy as np

Path = tuple[str | int, ...]

RANGES: Final = ("uniform", "log_uniform", "normal", "integer", "choice")
MOST_OPTIONS: Final = 64
MOST_VARIANTS: Final = 256
MOST_COPIES: Final = 4096
MOST_ITEMS: Final = dict(zip(LISTS, (MOST_REGIONS, MOST_POINTS, MOST_WIRES, MOST_INTERFACES), strict=True))
TRUNCATION: Final = 4.0
REPEATED: Final = LISTS
FIXED: Final[dict[Path, str]] = {
    (): "a phantom is one document; use choices inside it",
    ("frames",): "the number of frames is one number",
    ("seed",): "the seed is where randomness starts",
    ("engine",): "one phantom has one engine",
    ("image",): "all frames have the same pixels; use ranges inside image",
    ("image", "pixels"): "all frames have the same pixels",
    ("image", "lines"): "all frames have the same lines",
    ("image", "samples"): "all frames have the same samples",
    ("display",): "all frames are displayed or none is; use ranges inside display",
    ("display", "bits"): "all frames have the same bits",
    ("looks",): "all scenes have as many images",
    ("angles",): "all scenes have as many images; use ranges inside angles",
    ("sweep",): "all scenes have as many images; use ranges inside sweep",
    ("sweep", "slices"): "all scenes have as many images",
    ("sequence",): "all scenes have as many images; use ranges inside sequence",
    ("sequence", "times"): "all scenes have as many images",
}


class Drawn(NamedTuple):
    """A range or choice in a document: its kind and arguments, the field it stands for, and where it is written."""

    kind: str
    args: Any
    path: Path
    origin: Path


def kind_of(node: Any) -> str | None:
    """Return which range a node of the document is, or None for a plain value."""
    if isinstance(node, dict) and len(node) == 1:
        key = next(iter(node))
        return key if key in RANGES else None
    return None


def find(node: Any, path: Path = (), origin: Path = ()) -> Iterator[Drawn]:
    """Yield every range of a document, in document order."""
    kind = kind_of(node)
    if kind:
        yield Drawn(kind, node[kind], path, origin)
        if kind == "choice" and isinstance(node[kind], list):
            for i, option in enumerate(node[kind]):
                yield from find(option, path, (*origin, kind, i))
        return
    for key, child in _children(node):
        yield from find(child, (*path, key), (*origin, key))


def malformed(node: Any) -> Iterator[Refusal]:
    """Yield what is wrong with the ranges themselves, each at the place where it is written."""
    for drawn in find(node):
        fixed = next((reason for path, reason in FIXED.items() if _within(drawn.path, path)), None)
        problem = f"can't be drawn: {fixed}" if fixed else _problem(drawn.kind, drawn.args)
        if problem:
            yield Refusal(drawn.origin, False, problem)
    for origin, mapping in _mappings(node):
        mixed = [key for key in mapping if key in RANGES] if len(mapping) > 1 else []
        if mixed:
            yield Refusal((*origin, mixed[0]), True, f"a range stands alone, as in {{{mixed[0]}: [...]}}")


def _within(path: Path, fixed: Path) -> bool:
    """True when a range at `path` would make the field `fixed` random."""
    return path[: len(fixed)] == fixed if fixed in (("image", "pixels"),) else path == fixed


def _problem(kind: str, args: Any) -> str:
    if kind == "choice":
        if not isinstance(args, list) or not 1 <= len(args) <= MOST_OPTIONS:
            return f"choice: expected a list of 1 to {MOST_OPTIONS} options, got {show(args)}"
        return ""
    names = ("mean", "std") if kind == "normal" else ("low", "high")
    if not isinstance(args, list) or len(args) != 2:
        return f"{kind}: expected a list of two, [{', '.join(names)}], got {show(args)}"
    if kind == "integer":
        numbers = [a for a in args if isinstance(a, int | float) and not isinstance(a, bool) and abs(a) < 2**53]
        if len(numbers) < 2 or any(number != int(number) for number in numbers):
            return f"integer: expected two whole numbers, got [{show(args[0])}, {show(args[1])}]"
    try:
        (low, unit_low), (high, unit_high) = (split_quantity(a) for a in args)
    except ValueError as error:
        return f"{kind}: {error}"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{kind}: both numbers must be finite, got [{show(args[0])}, {show(args[1])}]"
    if unit_low != unit_high:
        return f"{kind}: both numbers need the same kind of unit, got [{show(args[0])}, {show(args[1])}]"
    if kind == "normal":
        return f"normal: the std must not be negative, got {show(args[1])}" if high < 0 else ""
    if low > high:
        return f"{kind}: the low end {show(args[0])} is above the high end {show(args[1])}"
    if kind == "log_uniform" and low <= 0:
        return f"log_uniform: the low end must be greater than 0, got {show(args[0])}"
    return ""


def _children(node: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list):
        yield from enumerate(node)


def _mappings(node: Any, origin: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    if isinstance(node, dict):
        yield origin, node
    for key, child in _children(node):
        yield from _mappings(child, (*origin, key))


def variants(node: Any) -> int:
    """Return how many variants it takes until every option of every choice was used at least once."""
    kind = kind_of(node)
    if kind:
        nested = kind == "choice" and not _problem(kind, node[kind])
        return sum(variants(option) for option in node[kind]) if nested else 1
    return max((variants(child) for _, child in _children(node)), default=1)


class Corner:
    """One concrete document for validation: every range at one end, every choice at its option for variant k.

    Each item stands for all of its copies; those of a group stand where the group puts them, in the document's lists.
    data: the plain document. origins: where each of its values is written. counts: regions and points with all copies.
    problems: what is wrong with repeats and groups, by the place where it is written.
    """

    def __init__(self, document: Any, end: int, k: int, broken: set[Path]) -> None:
        self.end, self.broken = end, broken
        self.origins: dict[Path, Path] = {}
        self.problems: list[Refusal] = []
        self.counts = dict.fromkeys(REPEATED, 0)
        self._written: dict[Path, Path] = {}
        self.data = self._resolve(document, k, (), ())
        self._flatten()

    def _resolve(self, node: Any, k: int, path: Path, origin: Path) -> Any:
        self._written[path] = origin
        kind = kind_of(node)
        if kind and origin in self.broken:
            return None
        if kind == "choice":
            k %= variants(node)
            for i, option in enumerate(node["choice"]):
                if k < variants(option):
                    return self._resolve(option, k, path, (*origin, "choice", i))
                k -= variants(option)
        if kind:
            self._written[path] = origin if kind == "normal" else (*origin, kind, self.end)
            return _end(kind, node[kind], self.end)
        if isinstance(node, list):
            return [self._resolve(child, k, (*path, i), (*origin, i)) for i, child in enumerate(node)]
        if isinstance(node, dict):
            return {key: self._resolve(child, k, (*path, key), (*origin, key)) for key, child in node.items()}
        return node

    def _flatten(self) -> None:
        """Put the items of groups into the document's lists, and take `repeat` and `apart` off every item."""
        lists = {key: self.data[key] for key in REPEATED if isinstance(self.data.get(key), list)}
        self.origins = {path: origin for path, origin in self._written.items() if path[:1] not in {(k,) for k in lists}}
        flat: dict[str, list[Any]] = {key: [] for key in lists}
        for key, items in lists.items():
            self.origins[(key,)] = self._written[(key,)]
            for i, item in enumerate(items):
                for name, one, path, copies in self._items(item, (key, i), key):
                    found = flat.setdefault(name, [])
                    self._trace(one, (name, len(found)), path)
                    found.append(one)
                    self.counts[name] += copies
        self.data |= flat

    def _items(self, item: Any, path: Path, name: str) -> Iterator[tuple[str, Any, Path, int]]:
        """Yield the list, the value, the path and the number of each plain item that an item of a list stands for."""
        if not isinstance(item, dict):
            yield name, item, path, 1
            return
        own = {key: value for key, value in item.items() if key not in ("repeat", "apart")}
        copies = self._checked(item, path, "repeat", Count(0, MOST_COPIES), 1)
        self._checked(item, path, "apart", APART, 0.0)
        for where, one, origin, times in self._plain(own, path, name):
            endless = why_endless(one) if "apart" in item else ""
            if endless:
                self.problems.append(Refusal(self._origin((*path, "apart")), False, endless))
            yield where, one, origin, copies * times

    def _plain(self, own: dict[str, Any], path: Path, name: str) -> Iterator[tuple[str, Any, Path, int]]:
        """Yield an item without its `repeat`, or what a group holds."""
        if name != "regions" or not is_group(own):
            yield name, own, path, 1
            return
        wrong = group_refusals(own)
        self.problems += [refusal._replace(path=self._origin((*path, *refusal.path))) for refusal in wrong]
        group = None if wrong else group_of(own)
        for key, inner in GROUPED.items() if group else ():
            for i, child in enumerate(own.get(key, ())):
                for where, one, origin, times in self._items(child, (*path, key, i), inner):
                    try:
                        yield where, placed(one, group), origin, times
                    except ValueError as error:
                        self.problems.append(Refusal(self._origin(origin), False, str(error)))

    def _checked(self, item: dict[str, Any], path: Path, key: str, mark: Count | Quantity, default: Any) -> Any:
        try:
            return mark.check(item[key]) if key in item else default
        except ValueError as error:
            self.problems.append(Refusal(self._origin((*path, key)), False, str(error)))
            return default

    def _trace(self, node: Any, path: Path, written: Path) -> None:
        """Note where an item, and all that it holds, is written."""
        self.origins[path] = self._origin(written)
        for key, child in _children(node):
            self._trace(child, (*path, key), (*written, key))

    def _origin(self, path: Path) -> Path:
        """Where the value at a path of the nested document is written; what a group added, where its item is."""
        cut = next(cut for cut in range(len(path), -1, -1) if path[:cut] in self._written)
        return (*self._written[path[:cut]], *path[cut:])


def _end(kind: str, args: list[Any], end: int) -> Any:
    if kind == "normal":
        (mean, unit), (std, _) = split_quantity(args[0]), split_quantity(args[1])
        return _written(mean + (TRUNCATION if end else -TRUNCATION) * std, unit)
    return args[end]


def resolve(node: Any, generator: np.random.Generator, path: Path = ()) -> Any:
    """Return a document as plain data, every range drawn, depth first in the order in which they are written.

    A `repeat` is drawn before the copies, and each copy is drawn by itself, one after the other; a copy that has no
    room is drawn again. Regions of groups come where their group stands; their points, wires and interfaces follow the
    document's own.
    Raises ValueError where there is no room, or where there are too many items.
    """
    kind = kind_of(node)
    if kind == "choice":
        return resolve(node[kind][int(generator.integers(len(node[kind])))], generator, path)
    if kind:
        return _draw(kind, node[kind], generator)
    if isinstance(node, list):
        return [resolve(child, generator, (*path, 0)) for child in node]
    if isinstance(node, dict):
        if path:
            return {key: resolve(child, generator, (*path, key)) for key, child in node.items()}
        return _document(node, generator)
    return node


def _document(node: dict[str, Any], generator: np.random.Generator) -> dict[str, Any]:
    drawn, added = dict[str, Any](), list[tuple[str, list[Any]]]()
    for key, child in node.items():
        if key in REPEATED:
            found = _listed(child, generator, (key,), key)
            drawn[key] = found.pop(key)
            added += found.items()
        else:
            drawn[key] = resolve(child, generator, (key,))
    for key, items in added:
        if items:
            drawn[key] = [*drawn.get(key, ()), *items]
    return drawn


def _listed(items: Any, generator: np.random.Generator, path: Path, name: str) -> dict[str, list[Any]]:
    """Return the plain items of the list `name`, and those that its groups add to others, by list."""
    while kind_of(items) == "choice":
        items = items["choice"][int(generator.integers(len(items["choice"])))]
    found: dict[str, list[Any]] = {key: [] for key in REPEATED}
    taken: list[Circle] = []
    for i, item in enumerate(items):
        while kind_of(item) == "choice":
            item = item["choice"][int(generator.integers(len(item["choice"])))]
        where = (*path, i)
        if not isinstance(item, dict):
            found[name].append(resolve(item, generator, where))
            continue
        count = int(resolve(item["repeat"], generator, where)) if "repeat" in item else 1
        apart = APART.check(resolve(item["apart"], generator, where)) if "apart" in item else None
        rest = {key: value for key, value in item.items() if key not in ("repeat", "apart")}
        for copy in range(count):
            drawn = _with_room(rest, generator, where, name, None if apart is None else float(apart), taken)
            if drawn is None:
                raise ValueError(
                    f"{'.'.join(map(str, where))}: no room for copy {copy + 1} of {count} after {MOST_TRIES} tries, "
                    f"{float(apart or 0) * 1e3:g} mm apart; lower repeat, the sizes or apart"
                )
            for key, more in drawn.items():
                found[key] += more
                if len(found[key]) > MOST_ITEMS[key]:
                    raise ValueError(f"{key}: more than {MOST_ITEMS[key]} with all repeats")
    return found


def _with_room(
    item: dict[str, Any],
    generator: np.random.Generator,
    path: Path,
    name: str,
    apart: float | None,
    taken: list[Circle],
) -> dict[str, list[Any]] | None:
    """Return the plain items of one copy, by list; None when it finds no room among the circles `taken`."""
    for _ in range(1 if apart is None else MOST_TRIES):
        drawn = _copy(item, generator, path, name)
        if apart is None:
            return drawn
        circle = circle_of([one for items in drawn.values() for one in items], apart)
        if circle is None:
            return drawn
        if all(circle.clear_of(other) for other in taken):
            taken.append(circle)
            return drawn
    return None


def _copy(item: dict[str, Any], generator: np.random.Generator, path: Path, name: str) -> dict[str, list[Any]]:
    if name != "regions" or not is_group(item):
        return {name: [resolve(item, generator, path)]}
    lists, own = {key: list[Any]() for key in REPEATED}, dict[str, Any]()
    for key, value in item.items():
        if key in GROUPED:
            for inner, more in _listed(value, generator, (*path, key), GROUPED[key]).items():
                lists[inner] += more
        else:
            own[key] = resolve(value, generator, (*path, key))
    group = group_of(own)
    return {key: [placed(one, group) for one in items] for key, items in lists.items()}


def _draw(kind: str, args: list[Any], generator: np.random.Generator) -> float | int | str:
    if kind == "integer":
        return int(generator.integers(int(args[0]), int(args[1]), endpoint=True))
    (first, unit), (second, _) = split_quantity(args[0]), split_quantity(args[1])
    if kind == "uniform":
        return _written(float(generator.uniform(first, second)), unit)
    if kind == "log_uniform":
        # The exponential may round to just outside the ends, which the limits of a field may refuse.
        drawn = math.exp(generator.uniform(math.log(first), math.log(second)))
        return _written(min(max(drawn, first), second), unit)
    deviate = TRUNCATION + 1
    while abs(deviate) > TRUNCATION:
        deviate = float(generator.standard_normal())
    return _written(first + second * deviate, unit)


def _written(number: float, unit: str) -> float | str:
    """A number in SI as it is, one of pixels with their unit, which a bare number has not."""
    return f"{number!r} px" if unit == "pixel count" else number
