"""s2s: ultrasound denoisers that are trained and judged on simulation that knows the truth.

>>> import s2s
>>> denoiser = s2s.load("nlm")  # a filter's name, or the path of a checkpoint
>>> denoiser.denoise(image, domain="envelope").shape == image.shape  # doctest: +SKIP
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2s import methods
    from s2s.denoise import load
    from s2s.domain import Domain

__version__ = "0.1.0"

__all__ = ["Domain", "load", "methods"]

# Names are imported when they are first used (PEP 562): torch alone takes seconds.
_HOMES = {"Domain": "s2s.domain:Domain", "load": "s2s.denoise:load"}


def __getattr__(name: str) -> Any:
    if name == "methods":
        return importlib.import_module("s2s.methods")
    if name not in _HOMES:
        raise AttributeError(f"module 's2s' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    try:
        value = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        error.add_note("s2s needs more than usim alone: pip install 'usim-s2s[s2s]'")
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
