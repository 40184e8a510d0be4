"""What a training is asked to do, and how a preset is trained under it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from s2s.adapt import gentle
from s2s.methods.base import Method, Training
from usim.errors import ConfigError
from usim.units import did_you_mean

PRECISIONS = ("fp32", "bf16")
#: What makes the images of scenes: processes of the CPU, or the device that trains.
PLACES = ("cpu", "device")
#: Validations in a training, and in one that ends when it has converged.
VALIDATIONS, VALIDATIONS_WATCHED = 12, 48


@dataclass(frozen=True)
class Request:
    """What a training is asked to do; equal requests give equal weights (on one machine, with steps given).

    phantom: path or name of what is simulated.  data: files or folders to learn from instead; the phantom then only
    judges.  stated: domain, dynamic_range and white of the data, where known.  steps or minutes: when to end; the
    preset's steps when neither is given.  changes: fields of Training to replace.  reuse: how often a pixel is shown
    on average.  looks: independent draws per simulated scene; the method's own number for None.  judge: phantoms that
    judge; `phantom` itself when none is named.  held_out: frames of each that judge.  patience: validations without a
    gain after which the training is brought to its end; 0 for never.  adapt: weights to begin with, adapted to `data`
    and judged without truth.  recipe: its name, where the request is that of one.  simulate_on: what makes the images,
    cpu or the device that trains.
    """

    method: str = "speckle2self"
    preset: str = "default"
    settings: dict[str, Any] = field(default_factory=dict)
    phantom: str = "training"
    data: tuple[str, ...] = ()
    stated: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None
    minutes: float | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    reuse: float = 4.0
    looks: int | None = None
    judge: tuple[str, ...] = ()
    held_out: int = 4
    patience: int = 0
    adapt: str = ""
    recipe: str = ""
    simulate_on: str = "cpu"


def training_of(kind: type[Method], request: Request) -> Training:
    """The preset's training with the request's changes; raises ConfigError for values that make no sense."""
    if request.preset not in kind.TRAINING:
        raise ConfigError(
            f"{request.method}: preset {request.preset!r} is unknown; allowed are {', '.join(kind.TRAINING)}"
        )
    known = [field.name for field in dataclasses.fields(Training)]
    for name in request.changes:
        if name not in known:
            raise ConfigError(
                f"changes: {name!r} is unknown{did_you_mean(name, known)}; allowed are {', '.join(known)}"
            )
    own = kind.TRAINING[request.preset]
    training = dataclasses.replace(gentle(own) if request.adapt else own, **request.changes)
    if training.precision not in PRECISIONS:
        raise ConfigError(f"precision: {training.precision!r} is unknown; allowed are {', '.join(PRECISIONS)}")
    if request.simulate_on not in PLACES:
        raise ConfigError(f"simulate_on: {request.simulate_on!r} is unknown; allowed are {', '.join(PLACES)}")
    if request.data and request.simulate_on == "device":
        raise ConfigError("simulate_on: images from files are not simulated; leave it out")
    limits = {"batch": (1, 4096), "accumulate": (1, 4096), "crop": (0, 8192), "rate": (0.0, 1.0), "steps": (1, 10**9)}
    asked = {"seed": (0, 2**63 - 1), "reuse": (0.01, 1e6), "held_out": (1, 10**6)}
    asked |= {"looks": (1, 1000)} if request.looks is not None else {}
    asked["patience"] = (0, VALIDATIONS_WATCHED)
    values = [(name, getattr(training, name), *limit) for name, limit in limits.items()]
    values += [(name, getattr(request, name), *limit) for name, limit in asked.items()]
    for name, value, low, high in values:
        if not low <= value <= high:
            raise ConfigError(f"{name}: {value:g} is not allowed; choose from {low:g} to {high:g}")
    if len(set(request.judge)) < len(request.judge):
        raise ConfigError(f"judge: {', '.join(request.judge)}: a phantom is named twice; name each once")
    if request.patience and kind.has_stages:
        raise ConfigError(
            f"until-converged: {request.method} learns in stages, in some of which its scores stand still; leave it out"
        )
    if request.patience and request.held_out < 2:
        raise ConfigError("held-out: one frame of a suite has no standard error to stop by; choose 2 or more")
    if request.minutes is not None and not 0.0 < request.minutes < 1e6:
        raise ConfigError(f"minutes: {request.minutes:g} is not allowed; choose a positive number")
    return training


def request_from_plain(stored: dict[str, Any]) -> Request:
    """The request that `dataclasses.asdict` made plain."""
    return Request(**{key: tuple(value) if key in ("data", "judge") else value for key, value in stored.items()})
