"""Methods that work with weights of another one, which were trained before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from usim.errors import ConfigError, DataError

if TYPE_CHECKING:
    from s2s.methods.base import Method

Kind = TypeVar("Kind", bound="Method")


def load_backbone(name: str, kind: type[Kind]) -> Kind:
    """A method of a kind with its weights: published ones by their name, a training's folder, or a file of weights.

    Raises ConfigError, with what to do, where there are none, or where they are of another kind.
    """
    # Both read methods, and so this module.
    from s2s.checkpoint import BEST, load_checkpoint
    from s2s.published import published, weights_of

    path = weights_of(name) if name in published() else Path(name)
    if path.is_dir():
        path /= BEST
    if not path.is_file():
        raise ConfigError(
            f"backbone {name!r}: no such weights; train some, s2s train --sim --method {_name_of(kind)} -o runs/mine, "
            f"and give backbone=runs/mine, or name one of {', '.join(published())}"
        )
    try:
        found = load_checkpoint(path).method
    except DataError as error:
        raise ConfigError(f"backbone {error}") from error
    if not isinstance(found, kind):
        raise ConfigError(f"backbone {name!r}: weights of {found.name}; those of {_name_of(kind)} are needed")
    return found


def _name_of(kind: type[Method]) -> str:
    from s2s.methods import METHODS

    return next(name for name, place in METHODS.items() if place.endswith(f":{kind.__name__}"))
