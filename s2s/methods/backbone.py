"""Methods that work with weights of another one, which were trained before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from usim.errors import DataError

if TYPE_CHECKING:
    from s2s.methods.base import Method

Kind = TypeVar("Kind", bound="Method")


def load_backbone(name: str, kind: type[Kind], example: str) -> Kind:
    """A method of a kind with its weights: published ones by their name, a training's folder, or a file of weights.

    example: a method of that kind, by its name.
    Raises ValueError, with what to do, where there are none, or where they are of another kind.
    """
    # Both read methods, and so this module.
    from s2s.checkpoint import BEST, load_checkpoint
    from s2s.published import published, weights_of

    if not isinstance(name, str) or not name:
        raise ValueError(f"backbone {name!r}: name published weights, the folder of a training, or a file of weights")
    path = weights_of(name) if name in published() else Path(name)
    if path.is_dir():
        path /= BEST
    if not path.is_file():
        raise ValueError(
            f"backbone {name!r}: no such weights; train some, s2s train --sim --method {example} -o runs/mine, and "
            "give backbone=runs/mine, or leave it out"
        )
    try:
        found = load_checkpoint(path).method
    except DataError as error:
        raise ValueError(f"backbone {error}") from error
    if not isinstance(found, kind):
        raise ValueError(f"backbone {name!r}: weights of {found.name}; those of a method such as {example} are needed")
    return found
