"""Where the compiled kernels are kept, and whether they are there yet."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path:
    """Folder of the compiled kernels: NUMBA_CACHE_DIR, else USIM_CACHE_DIR, else the user's cache folder."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        from platformdirs import user_cache_dir

        os.environ["NUMBA_CACHE_DIR"] = os.environ.get("USIM_CACHE_DIR") or user_cache_dir("usim")
    return Path(os.environ["NUMBA_CACHE_DIR"])


def kernels(name: str = "psf") -> ModuleType:
    """The Numba kernels `_psf_numba`, `_bank_numba` or `_sir_numba`, compiled at their first call on a machine."""
    cache_folder()
    return import_module(f"usim.engines._{name}_numba")


def are_compiled() -> bool:
    """Whether a run will find its kernels compiled; if not, the first frame takes up to a minute longer."""
    names = ("build_bank", "lateral_pass", "lateral_power")
    return all(any(cache_folder().rglob(f"_*_numba.{name}-*.nbi")) for name in names)
