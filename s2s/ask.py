"""From the words of a command line to the request of a training."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from s2s.adapt import weights_to_adapt
from s2s.denoise import find_device, setting
from s2s.methods import make
from s2s.methods.bands import Bands
from s2s.methods.base import PAIRS, pair_in
from s2s.recipes import read_recipe
from s2s.request import Request
from usim.errors import ConfigError

#: What is simulated where no phantom is named, and for methods that learn from views that it does not have.
PHANTOM, PHANTOMS = "training", {"slice": "training-sweep", "angle": "training-angles"}
#: The word for a phantom that has what the method learns from.
FITTING = "fitting"
#: Options of `s2s train` that replace what a preset says of its training.
CHANGES = ("batch", "accumulate", "crop", "rate", "precision", "compile")


def refuse_changes(given: set[str]) -> None:
    """Raise ConfigError when options were typed that a resumed training can't follow."""
    if given:
        names = ", ".join(sorted(map(_option, given)))
        raise ConfigError(f"--resume goes on with what was asked before; leave out {names}")


def request_from(asked: Mapping[str, Any], given: set[str]) -> Request:
    """The request of `s2s train`.

    asked: the options' values by name.  given: those that were typed.
    Raises ConfigError for options that contradict each other.
    """
    if asked["recipe"]:
        others = given - {"recipe"}
        if others:
            typed = ", ".join(_option(name) for name in sorted(others))
            raise ConfigError(f"--recipe says all that is asked; leave out {typed}, or copy the recipe and change it")
        return read_recipe(asked["recipe"]).request
    if asked["adapt"]:
        others = sorted(given & {"sim", "method", "preset", "settings", "judge", "held_out"})
        if others or not asked["data"]:
            more = f"; leave out {', '.join(map(_option, others))}" if others else ""
            images = "" if asked["data"] else "; name them, --data PATH"
            raise ConfigError(f"--adapt goes on with its weights, on images alone{images}{more}")
        start = weights_to_adapt(asked["adapt"]).method
        asked = {**asked, "method": start.name, "preset": start.preset, "settings": dict(start.settings)}
    elif bool(asked["sim"]) == bool(asked["data"]):
        raise ConfigError("say what to learn from: --sim [PHANTOM] or --data PATH, one of them")
    if asked["steps"] and asked["minutes"]:
        raise ConfigError("--steps and --minutes: one of them says how long")
    only_data = {"domain", "dynamic_range", "white"} & given
    if only_data and not asked["data"]:
        raise ConfigError(f"{_option(sorted(only_data)[0])} belongs to --data; leave it out")
    settings = asked["settings"] if asked["adapt"] else dict(map(_setting, asked["settings"]))
    phantom = asked["sim"] or PHANTOM
    if phantom == FITTING:
        phantom = phantom_for(make(asked["method"], asked["preset"], **settings).needs)
    return Request(
        method=asked["method"],
        preset=asked["preset"],
        settings=settings,
        phantom=phantom,
        data=tuple(os.path.abspath(path) for path in asked["data"]),
        stated={key: asked[key] for key in ("domain", "dynamic_range", "white") if asked[key] is not None},
        steps=asked["steps"],
        minutes=asked["minutes"],
        changes={key: asked[key] for key in CHANGES if asked[key] is not None},
        seed=asked["seed"],
        reuse=asked["reuse"],
        judge=asked["judge"],
        held_out=asked["held_out"],
        patience=asked["until_converged"] or 0,
        adapt=_absolute(asked["adapt"] or ""),
        simulate_on=asked["simulate_on"],
    )


def phantom_for(needs: tuple[str, ...]) -> str:
    """The shipped phantom that has what a method learns from.

    >>> phantom_for(("y", "next"))
    'training-sweep'
    """
    part = PAIRS.get(pair_in(needs)) or Bands.among(needs).part
    return PHANTOMS.get(part, PHANTOM)


def _option(name: str) -> str:
    """An option as it is typed."""
    return "--set" if name == "settings" else f"--{name.replace('_', '-')}"


def _setting(text: str) -> tuple[str, Any]:
    return setting(text, "--set", "KEY=VALUE such as width=48")


def _absolute(weights: str) -> str:
    """The path of weights in files, from the root; the name of published ones as it is."""
    return os.path.abspath(weights) if os.path.exists(weights) else weights


def workers_from(asked: int | None) -> int:
    """How many processes make data: one core is left to the training."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # trainings of one torchrun on this machine
    return max((os.cpu_count() or 2) // beside - 1, 1) if asked is None else asked


def training_device(asked: str, say: Callable[[str], None]) -> str:
    """The device to train on; raises ConfigError for one that is not there."""
    device = find_device(asked)
    if asked == "auto":
        say(f"training on {device}")
    return device


def find_precision(asked: str, device: str, say: Callable[[str], None]) -> str:
    """The precision to train in: "fp32" or "bf16"; auto takes bf16 where it was seen to gain, and says why."""
    if asked != "auto":
        return asked
    chosen, reason = _precision_of(torch.device(device).type)
    say(f"precision {chosen}: {reason}")
    return chosen


def _precision_of(kind: str) -> tuple[str, str]:
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU computes in it"
        return "fp32", "the GPU has no bfloat16"
    flags: set[str] = set()
    with contextlib.suppress(OSError):  # Linux alone has this file
        flags = set(Path("/proc/cpuinfo").read_text().split())
    if kind == "cpu" and flags & {"avx512_bf16", "amx_bf16"}:
        return "bf16", "the processor computes in it"
    return "fp32", f"bfloat16 is not known to gain on this {kind}"
