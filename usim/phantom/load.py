"""Loading a phantom file: strict reading, validation at the ends of every range, errors with line and caret."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from usim.description import Refusal, refusals
from usim.errors import ConfigError, ResourceError, UsimError
from usim.phantom import ranges
from usim.phantom.cloud import read_cloud
from usim.phantom.files import locate, read_file, remember
from usim.phantom.map_regions import AnyMap, blamed
from usim.phantom.maps import MOST_BYTES as MAP_BYTES
from usim.phantom.schema import CloudFile, Scene
from usim.phantom.strict_yaml import MOST_BYTES, Mark, Marked, decode, pointed, read_yaml
from usim.phantom.views import View, shape_of
from usim.units import did_you_mean, show

MOST_ERRORS: Final = 20
Window = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Phantom:
    """A validated phantom document: a distribution of scenes, or one scene when it holds no range.

    text: the YAML as it was read. source: the name used in messages. document: plain nested data, ranges included.
    base: the folder that holds the files it names. files: (file, sha256) of each scatterer file and map.
    """

    text: str
    source: str
    document: dict[str, Any] = field(hash=False, repr=False)
    base: str
    files: tuple[tuple[str, str], ...] = ()

    @property
    def is_random(self) -> bool:
        """Whether any value is a range or a choice."""
        return next(ranges.find(self.document), None) is not None

    @cached_property
    def views(self) -> View:
        """How many looks, slices, angles and times every scene has."""
        return shape_of(self._corner)

    @property
    def draws_looks(self) -> bool:
        """Whether another look is another draw of the scatterers, which those of a file never are."""
        return not isinstance(self._corner.scatterers, CloudFile)

    @cached_property
    def _corner(self) -> Scene:
        """One of its scenes, at the ends of all ranges."""
        return Scene.model_validate(ranges.Corner(self.document, 0, 0, set()).data)

    @property
    def frames(self) -> int:
        """Number of images asked for; those of one scene unless the document says it."""
        return int(self.document.get("frames") or math.prod(self.views))

    @property
    def seed(self) -> int:
        """Start of every random stream."""
        return int(self.document.get("seed", 0))

    @property
    def config_yaml(self) -> str:
        """The text, as it is written to data files."""
        return self.text


def shipped_phantoms() -> dict[str, Path]:
    """Return the phantoms that come with usim, by name; those of a folder carry its name, as in evaluation/edges.

    A wheel carries them inside the package; a checkout (also when installed as editable) in its top-level folder.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "phantoms", package.parent / "phantoms"):
        if folder.is_dir():
            found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.yaml")}
            return dict(sorted(found.items(), key=lambda item: ("/" in item[0], item[0])))
    return {}


def load_phantom(path_or_name: str | Path) -> Phantom:
    """Load a phantom file, or a shipped phantom by its name.

    Raises ConfigError listing everything that is wrong, each with line, column, source line and caret; DataError for a
    scatterer file or map that can't be used; ResourceError for a file that can't be read.

    >>> load_phantom("cyst").frames
    1
    """
    path = _find(str(path_or_name))
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ResourceError(f"{path}: can't be read ({error.strerror}); check its permissions") from None
    return phantom_from_text(decode(raw, path.name), source=path.name, base=path.resolve().parent)


def phantom_from_dict(document: dict[str, Any], base: str | Path = ".", source: str = "phantom") -> Phantom:
    """Make a phantom from nested plain data with the keys of a phantom file; errors as for `load_phantom`.

    base: the folder that holds the files it names, or folders below it do.  source: the name used in messages.

    >>> phantom = phantom_from_dict({
    ...     "probe": "L7-4",
    ...     "image": {"x": ["-10 mm", "10 mm"], "z": ["5 mm", "40 mm"], "pixels": [64, 64]},
    ...     "background": {"echogenicity": 0},
    ... })
    >>> phantom.is_random
    False
    """
    try:
        # JSON is YAML, and unlike a YAML dump it leaves no doubt whether '1e5' is text or a number.
        text = json.dumps(document, indent=1, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: expected plain mappings, lists, text and numbers ({error})") from None
    return phantom_from_text(text, source=source, base=base)


def phantom_from_text(text: str, source: str = "phantom", base: str | Path = ".") -> Phantom:
    """Make a phantom from YAML text; `source` names it in messages, files that it names lie in `base` or below."""
    marked = read_yaml(text, source)
    if marked.data is None:
        raise ConfigError(f"{source}:1:1: is empty; a phantom needs probe, image and background")
    if not isinstance(marked.data, dict):
        message = f"expected a mapping with probe, image and background, got {show(marked.data)}"
        raise ConfigError(pointed(source, text, marked.values[()], message))
    found = sorted(
        ((_mark(refusal, marked), refusal) for refusal in set(_check(marked.data))),
        key=lambda pair: (pair[0], str(pair[1].path), pair[1].message),
    )
    if found:
        lines = [_line(mark, refusal, text, source) for mark, refusal in found[:MOST_ERRORS]]
        more = [f"{source}: and {len(found) - MOST_ERRORS} more"] if len(found) > MOST_ERRORS else []
        raise ConfigError("\n".join([*lines, *more]))
    files = _read_files(marked, text, source, Path(base))
    return Phantom(text=text, source=source, document=marked.data, base=str(base), files=files)


def _find(path_or_name: str) -> Path:
    path, shipped = Path(path_or_name), shipped_phantoms()
    try:
        if path.is_file():
            return path
        is_folder = path.is_dir()
    except (OSError, ValueError):
        raise ConfigError(f"'{show(path_or_name)}' is not a file name") from None
    if path_or_name in shipped:
        return shipped[path_or_name]
    name = path.stem if path.suffix in (".yaml", ".yml") else path_or_name
    hint = did_you_mean(name, shipped)
    what = "is a folder, not a phantom file" if is_folder else "no such file, and no shipped phantom of that name"
    raise ConfigError(f"{path_or_name}: {what}{hint} (shipped: {', '.join(shipped)})")


def _corners(document: dict[str, Any], broken: set[tuple[str | int, ...]]) -> Iterator[ranges.Corner]:
    """Yield concrete documents: every range at its low and at its high end, with each option of a choice in turn."""
    for k in range(ranges.variants(document)):
        for end in (0, 1):
            yield ranges.Corner(document, end, k, broken)


def _check(document: dict[str, Any]) -> Iterator[Refusal]:
    """Yield everything that is wrong with a document, by the path at which it is written."""
    bad = list(ranges.malformed(document))
    yield from bad
    # A range beside other keys spoils the whole mapping that it stands in.
    broken = {refusal.path[:-1] if refusal.at_key else refusal.path for refusal in bad}
    if () in broken:
        return
    if ranges.variants(document) > ranges.MOST_VARIANTS:
        yield Refusal((), False, f"more than {ranges.MOST_VARIANTS} alternatives in one choice; split the phantom")
        return
    random = next(ranges.find(document), None) is not None
    for corner in _corners(document, broken):
        for refusal in _check_corner(corner):
            if not any(refusal.path[: len(path)] == path[: len(refusal.path)] for path in broken):
                yield refusal
        if not random:
            return


def _check_corner(corner: ranges.Corner) -> Iterator[Refusal]:
    """Yield what is wrong with a concrete document, by the path at which it is written."""
    yield from corner.problems
    for key, most in ranges.MOST_ITEMS.items():
        if corner.counts[key] > most:
            message = f"{corner.counts[key]} {key} with all repeats, at most {most} are allowed"
            yield Refusal(_origin((key,), corner.origins), False, message)
    try:
        Scene.model_validate(corner.data)
    except ValidationError as error:
        for refusal in refusals(error, Scene):
            yield refusal._replace(path=_origin(refusal.path, corner.origins))


def _origin(path: tuple[str | int, ...], origins: dict[Any, tuple[str | int, ...]]) -> tuple[str | int, ...]:
    """Return where the value at a path of a concrete document is written in the phantom file."""
    for cut in range(len(path), -1, -1):
        if path[:cut] in origins:
            return (*origins[path[:cut]], *path[cut:])
    return path


def _mark(refusal: Refusal, marked: Marked) -> Mark:
    """Return where a refusal points: the key or the value, or what encloses it when it is not there."""
    path = refusal.path
    places = marked.keys if refusal.at_key and path in marked.keys else marked.values
    return next((places[path[:cut]] for cut in range(len(path), -1, -1) if path[:cut] in places), Mark(0, 0))


def _line(mark: Mark, refusal: Refusal, text: str, source: str) -> str:
    name = ".".join(map(str, refusal.path))
    return pointed(source, text, mark, f"{show(name, 200)}: {refusal.message}" if name else refusal.message)


def _read_files(marked: Marked, text: str, source: str, base: Path) -> tuple[tuple[str, str], ...]:
    """Read every file once, so that one that can't be used is refused at loading, and return (file, sha256) of each."""
    hashes, done = dict[str, str](), set[Any]()
    for corner in _corners(marked.data, set()) if _names_a_file(marked.data) else ():
        scene = Scene.model_validate(corner.data)
        holders = ((("scatterers",), scene.scatterers), *((("regions", i), r) for i, r in enumerate(scene.regions)))
        for path, holder in holders:
            if not isinstance(holder, CloudFile | AnyMap) or (holder, scene.box) in done:
                continue
            done.add((holder, scene.box))
            try:
                hashes[holder.file] = _read_file(holder, scene.box, base)
            except UsimError as error:
                key, message = blamed(error, holder)
                refusal = Refusal(_origin((*path, key or "file"), corner.origins), False, message)
                raise type(error)(_line(_mark(refusal, marked), refusal, text, source)) from None
    return tuple(hashes.items())


def _names_a_file(node: Any) -> bool:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return (isinstance(node, dict) and "file" in node) or any(map(_names_a_file, children))


def _read_file(holder: CloudFile | AnyMap, picture: Window, base: Path) -> str:
    """Return the sha256 of a file that proved to hold what it should."""
    path = locate(base, holder.file)
    if isinstance(holder, CloudFile):
        return read_cloud(path, holder.sha256)[1]
    from usim.phantom.map_sampling import check_map  # it loads scipy, for phantoms with maps alone

    digest = read_file(path, "map", MAP_BYTES, holder.sha256)[1]
    remember(path, digest)
    check_map(holder.model_copy(update={"sha256": digest}), picture)
    return digest
