"""What every table holds beside the methods: images that were blurred or darkened, and can't be called denoised.

A metric that ranks one of these first says nothing about denoising, and never chooses a winner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.domain import RANGE_DB, from_scale, to_scale
from s2s.methods import make
from s2s.methods.base import Filter

Image = NDArray[np.float32]
Denoise = Callable[[Image], NDArray[Any]]

#: The row of the untouched images.
NOISY = "noisy"
#: Standard deviations in pixels of the Gaussian blurs, and the exponent of the display curve.
SIGMAS, GAMMA = (1, 2, 3, 4, 5, 6), 2.0


def controls() -> Mapping[str, Denoise]:
    """The controls by name: the image itself, Gaussian blurs, the median; and each of them with a gamma of 2.

    Each takes an image (H, W) in dB, clipped to its dynamic range, and returns one.

    >>> list(controls())[:2]
    ['noisy', 'control gaussian:sigma=1']
    """
    specs = {f"gaussian:sigma={sigma}": make("gaussian", sigma=sigma) for sigma in SIGMAS} | {"median": make("median")}
    plain: dict[str, Denoise] = {NOISY: np.copy}
    plain |= {f"control {name}": _filtered(method) for name, method in specs.items() if isinstance(method, Filter)}
    dark = {f"{'control ' if name == NOISY else ''}{name} gamma=2": _darkened(method) for name, method in plain.items()}
    return plain | dark


def _filtered(method: Filter) -> Denoise:
    return lambda image: from_scale(method.filter(np.asarray(to_scale(image, "db"), dtype=np.float64)), "db")


def _darkened(denoise: Denoise) -> Denoise:
    """The image on a screen with a gamma of 2: grey levels of 0 to 1 over 60 dB are squared."""
    return lambda image: RANGE_DB * (np.clip(to_scale(denoise(image), "db"), 0.0, 1.0) ** GAMMA - 1.0)
