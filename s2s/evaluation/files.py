"""What goes in and out of an evaluation beside scenes: methods by name, where all came from, and files."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from s2s.denoise import Denoiser, load
from s2s.domain import LOWEST_DB, Domain
from s2s.evaluation.controls import Denoise
from s2s.evaluation.tuned import read_specs
from s2s.methods import METHODS, method_class
from s2s.methods.base import Filter
from s2s.published import published
from usim.errors import ConfigError, ResourceError


def filters() -> tuple[str, ...]:
    """Names of all methods that need no training, and nothing that is not installed."""
    found = {name: method_class(name) for name in METHODS}
    return tuple(name for name, kind in found.items() if issubclass(kind, Filter) and not kind.lacking())


def left_out() -> tuple[str, ...]:
    """Lines about methods that need no training and are not among `filters`."""
    lacking = {name: method_class(name).lacking() for name in METHODS}
    return tuple(f"{name} is left out: {why}" for name, why in lacking.items() if why)


def expanded(specs: Sequence[str]) -> list[tuple[str, str]]:
    """(label, spec) of all that is asked for: the methods of files that `s2s tune -o` wrote, or "" and a spec."""
    return [one for spec in specs for one in (read_specs(Path(spec)) if spec.endswith(".json") else [("", spec)])]


def load_denoisers(specs: Sequence[str], device: str = "cpu") -> dict[str, Denoiser]:
    """Denoisers by label: filters and published weights as they were asked for, a checkpoint by its method, with its
    path where there are two of that name.

    A file that `s2s tune -o` wrote stands for all that was tuned, such as "nlm:h=1.4 (tuned)".
    Raises ConfigError for one that is asked for twice, and what `s2s.load` and `read_specs` raise.
    """
    loaded = [(tuned, spec, load(spec, device=device)) for tuned, spec in expanded(specs)]
    names = [one.name if one.checkpoint and spec not in published() else spec for _, spec, one in loaded]
    for name, (_, spec, denoiser) in zip(names, loaded, strict=True):
        if (bands := denoiser.method.bands).count > 1:
            raise ConfigError(
                f"--method: {spec}: {name} sees {bands} at once, but images are judged one by one; its training's "
                "metrics.jsonl holds scores against the truth, or train it with one band"
            )
    often = Counter(names)
    found: dict[str, Denoiser] = {}
    for name, (tuned, spec, denoiser) in zip(names, loaded, strict=True):
        shared = name != spec and often[name] > 1
        label = tuned or (f"{name} ({spec.rstrip('/')})" if shared else name)
        if label in found:
            raise ConfigError(f"--method: {spec!r} is given twice; name each method once")
        found[label] = denoiser
    return found


def specs_of(denoisers: Mapping[str, Denoiser], specs: Sequence[str]) -> dict[str, str]:
    """What `s2s.load` takes, by label, of what `load_denoisers` made of these specs."""
    return dict(zip(denoisers, (spec for _, spec in expanded(specs)), strict=True))


def functions(denoisers: Mapping[str, Denoiser]) -> dict[str, Denoise]:
    """What `evaluate` takes. Images are clipped to their frame's dynamic range already: nothing more is cut off."""
    return {label: partial(denoiser.denoise, domain=Domain("db", -LOWEST_DB)) for label, denoiser in denoisers.items()}


def origin(source: str, denoisers: Mapping[str, Denoiser], command: str = "") -> dict[str, Any]:
    """What reports tell about an evaluation: where frames came from, what each method is, versions, date, command."""
    made = {label: denoiser.describe() for label, denoiser in denoisers.items()}
    return {"frames": source, "method": made, **surroundings(command)}


def surroundings(command: str = "") -> dict[str, Any]:
    """What was at work, and when: versions, date, and the command if there was one."""
    libraries = ("torch", "numpy", "scipy", "scikit-image")
    from s2s import __version__ as s2s_version
    from usim import __version__ as usim_version

    about: dict[str, Any] = {
        "versions": {"s2s": s2s_version, "usim": usim_version, **{name: version(name) for name in libraries}},
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    return {**about, "command": command} if command else about


def refuse_target(path: Path | None, ending: str) -> None:
    """Find out before the long work whether an output can be written; nothing is made.

    Raises ConfigError for another ending or a folder, ResourceError where no file can be made.
    """
    if path is None:
        return
    if path.suffix.lower() != ending:
        raise ConfigError(f"{path}: it will be written as {ending[1:].upper()}; end its name with {ending}")
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ConfigError(f"{path}: {folder} is no folder; choose another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(f"{path}: cannot write: no permission; choose a folder that you may write to")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, and the folders on the way to it; raises ResourceError when that fails."""
    from usim.io.atomic import no_room, write_atomic

    data = text.encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise no_room(path.parent, error, len(data)) from error
    write_atomic(path, data)
