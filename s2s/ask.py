"""From the words of a command line to the request of a training."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch

from s2s.denoise import refuse_device, value_of
from s2s.run import Request
from usim.errors import ConfigError


def refuse_changes(given: set[str]) -> None:
    """Raise ConfigError when options were typed that a resumed training can't follow."""
    if given:
        typed = ("set" if name == "settings" else name.replace("_", "-") for name in given)
        names = ", ".join(f"--{name}" for name in sorted(typed))
        raise ConfigError(f"--resume goes on with what was asked before; leave out {names}")


def request_from(asked: Mapping[str, Any], given: set[str]) -> Request:
    """The request of `s2s train`.

    asked: the options' values by name.  given: those that were typed.
    Raises ConfigError for options that contradict each other.
    """
    if bool(asked["sim"]) == bool(asked["data"]):
        raise ConfigError("say what to learn from: --sim [PHANTOM] or --data PATH, one of them")
    if asked["steps"] and asked["minutes"]:
        raise ConfigError("--steps and --minutes: one of them says how long")
    only_data = {"judge", "domain", "dynamic_range", "white"} & given
    if only_data and not asked["data"]:
        raise ConfigError(f"--{sorted(only_data)[0].replace('_', '-')} belongs to --data; leave it out")
    return Request(
        method=asked["method"],
        preset=asked["preset"],
        settings=dict(setting(text) for text in asked["settings"]),
        phantom=asked["sim"] or asked["judge"],
        data=tuple(os.path.abspath(path) for path in asked["data"]),
        stated={key: asked[key] for key in ("domain", "dynamic_range", "white") if asked[key] is not None},
        steps=asked["steps"],
        minutes=asked["minutes"],
        changes={key: asked[key] for key in ("batch", "crop", "rate") if asked[key] is not None},
        seed=asked["seed"],
        reuse=asked["reuse"],
    )


def setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE as a pair; raises ConfigError for anything else."""
    key, sign, value = text.partition("=")
    if not key or not sign or not value:
        raise ConfigError(f"--set {text}: expected KEY=VALUE such as width=48")
    return key, value_of(value)


def workers_from(asked: int | None) -> int:
    """How many processes make data: one core is left to the training."""
    return max((os.cpu_count() or 2) - 1, 1) if asked is None else asked


def find_device(asked: str, say: Callable[[str], None]) -> str:
    """The device to train on; raises ConfigError for one that is not there."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
        say(f"training on {asked}")
    refuse_device(asked)
    return asked
