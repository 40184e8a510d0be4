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
import re
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
    "bm3d": "s2s.methods.bm3d:Bm3d",
    "obnlm": "s2s.methods.obnlm:Obnlm",
    "noise2true": "s2s.methods.noise2true:Noise2True",
    "awgn": "s2s.methods.awgn:Awgn",
    "r2d2+": "s2s.methods.r2d2:R2D2",
    "vdn": "s2s.methods.vdn:Vdn",
    "dna-net": "s2s.methods.dna_net:DnaNet",
    "danet": "s2s.methods.danet:Danet",
    "pngan": "s2s.methods.pngan:Pngan",
    "noise2noise": "s2s.methods.noise2noise:Noise2Noise",
    "ns-n2n": "s2s.methods.ns_n2n:NsN2N",
    "speckle2speckle": "s2s.methods.speckle2speckle:Speckle2Speckle",
    "noise2void": "s2s.methods.noise2void:Noise2Void",
    "cosdd": "s2s.methods.cosdd:Cosdd",
    "structn2v": "s2s.methods.structn2v:StructN2V",
    "noise2self": "s2s.methods.noise2self:Noise2Self",
    "neighbor2neighbor": "s2s.methods.neighbor2neighbor:Neighbor2Neighbor",
    "zs-n2n": "s2s.methods.zs_n2n:ZsN2N",
    "poisson2sparse": "s2s.methods.poisson2sparse:Poisson2Sparse",
    "noise2vst": "s2s.methods.noise2vst:Noise2Vst",
    "dip": "s2s.methods.dip:Dip",
    "inpaint": "s2s.methods.inpaint:Inpaint",
    "speckle2self": "s2s.methods.speckle2self:Speckle2Self",
}


#: "polyphase(4):" or "polyphase(2,4):" before the name of a method.
_POLYPHASE = re.compile(r"polyphase\(\s*(\d{1,3})\s*(?:,\s*(\d{1,3})\s*)?\):")


def split_spec(text: str) -> tuple[str, str]:
    """Return the name of a method and the text of its settings.

    >>> split_spec("polyphase(4):nlm:patch=7")
    ('polyphase(4):nlm', 'patch=7')
    """
    wrapper = _POLYPHASE.match(text)
    start = wrapper.end() if wrapper else 0
    name, _, settings = text[start:].partition(":")
    return text[:start] + name, settings


def is_method(name: str) -> bool:
    """Whether there is a method of a name, with "polyphase(...):" before it or not."""
    wrapper = _POLYPHASE.match(name)
    return (name[wrapper.end() :] if wrapper else name) in METHODS


def method_class(name: str) -> type[Method]:
    """Return the class of a method; raises ConfigError for an unknown name.

    >>> method_class("polyphase(2,4):gaussian").phases
    (2, 4)
    """
    if wrapper := _POLYPHASE.match(name):
        from s2s.methods.polyphase import polyphase

        rows, columns = (int(number) for number in (wrapper[1], wrapper[2] or wrapper[1]))
        return polyphase(method_class(name[wrapper.end() :]), rows, columns)
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
    kind = getattr(kind, "wrapped", kind)
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
