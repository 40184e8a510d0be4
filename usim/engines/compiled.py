"""Where compiled kernels and calibrations are kept, and whether they are there yet."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Folder of the compiled kernels: NUMBA_CACHE_DIR, else USIM_CACHE_DIR, else the user's cache folder."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        from platformdirs import user_cache_dir

        os.environ["NUMBA_CACHE_DIR"] = os.environ.get("USIM_CACHE_DIR") or user_cache_dir("usim")
    return Path(os.environ["NUMBA_CACHE_DIR"])


def kernels(name: str = "psf") -> ModuleType:
    """The Numba kernels `_psf_numba`, `_bank_numba` and so on, compiled at their first call on a machine."""
    cache_folder()
    return import_module(f"usim.engines._{name}_numba")


def are_compiled() -> bool:
    """Whether a run will find its kernels compiled; if not, the first frame takes up to a minute longer."""
    names = ("build_bank", "lateral_pass", "lateral_power")
    return all(any(cache_folder().rglob(f"_*_numba.{name}-*.nbi")) for name in names)


def cached_arrays(name: str, make: Callable[[], dict[str, NDArray]], keys: set[str]) -> dict[str, NDArray]:
    """Arrays kept in the cache folder as `name`.npz, made by `make` where they are not there or can't be read.

    keys: the arrays' names; a file that holds others, or values that are not finite, is damaged.

    A file is published whole (zip's own checksums tell a damaged one) or not at all: where the folder can't be
    written, arrays are made every time.
    """
    import numpy as np

    path = cache_folder() / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
        if set(found) != keys or not all(np.isfinite(values).all() for values in found.values()):
            raise ValueError("other arrays, or values that are not finite")
        return found
    except FileNotFoundError:
        pass
    except Exception as error:  # a flipped bit in a zip's headers raises almost anything
        log.warning("%s is damaged and made again (%s)", path, error)
    arrays = make()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(buffer.getvalue())
        scratch.replace(path)
    except OSError as error:
        log.warning("%s can't be kept (%s)", path, error)
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
    return arrays
