"""Every denoising method by name, and how to make one.

>>> import s2s
>>> sorted(s2s.methods.METHODS)[:3]
['frost', 'gaussian', 'kuan']
>>> s2s.methods.make("gaussian", sigma=3.0).settings["sigma"]
3.0
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from usim.errors import ConfigError
from usim.units import did_you_mean

if TYPE_CHECKING:
    from s2s.methods.base import Method

METHODS = {
    "gaussian": "s2s.methods.gaussian:Gaussian",
    "median": "s2s.methods.median:Median",
    "lee": "s2s.methods.lee:Lee",
    "kuan": "s2s.methods.kuan:Kuan",
    "frost": "s2s.methods.frost:Frost",
    "srad": "s2s.methods.srad:Srad",
    "nlm": "s2s.methods.nlm:Nlm",
    "obnlm": "s2s.methods.obnlm:Obnlm",
    "noise2true": "s2s.methods.noise2true:Noise2True",
    "noise2noise": "s2s.methods.noise2noise:Noise2Noise",
    "noise2void": "s2s.methods.noise2void:Noise2Void",
    "structn2v": "s2s.methods.structn2v:StructN2V",
    "noise2self": "s2s.methods.noise2self:Noise2Self",
    "neighbor2neighbor": "s2s.methods.neighbor2neighbor:Neighbor2Neighbor",
    "speckle2self": "s2s.methods.speckle2self:Speckle2Self",
}


def method_class(name: str) -> type[Method]:
    """Return the class of a method; raises ConfigError for an unknown name."""
    if name not in METHODS:
        raise ConfigError(f"method: {name!r} is unknown{did_you_mean(name, METHODS)}; allowed are {', '.join(METHODS)}")
    module, _, attribute = METHODS[name].partition(":")
    kind: type[Method] = getattr(importlib.import_module(module), attribute)
    return kind


def make(name: str, preset: str = "default", **settings: Any) -> Method:
    """Build a method from a preset, with any of its settings replaced; weights are fresh.

    Raises ConfigError for an unknown name, preset or setting, and for a setting's value that the method refuses.
    """
    kind = method_class(name)
    if preset not in kind.PRESETS:
        raise ConfigError(f"{name}: preset {preset!r} is unknown; allowed are {', '.join(kind.PRESETS)}")
    known = settings_of(kind)
    for key in settings:
        if key not in known:
            raise ConfigError(f"{name}: setting {key!r} is unknown{did_you_mean(key, known)}; it has {_listed(known)}")
    chosen = {**known, **kind.PRESETS[preset], **settings}
    try:
        method = kind(**chosen)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: {error}") from error
    method.name, method.preset, method.settings = name, preset, chosen
    return method


def settings_of(kind: type[Method]) -> dict[str, Any]:
    """Return the settings of a method class with their defaults: the keyword arguments of its constructor.

    A constructor that takes further ones (**settings) has those of its base too.
    """
    found: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" in base.__dict__:
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            found |= {p.name: p.default for p in parameters if p.default is not p.empty and p.name not in found}
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
    return found


def _listed(known: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in known.items()) or "none"
