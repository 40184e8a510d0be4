"""Every method at several strengths, and what is kept of each: see s2s.evaluation.same_width for why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from scipy import ndimage

from s2s.denoise import Denoiser
from s2s.evaluation.controls import Denoise, Image
from s2s.evaluation.files import functions
from s2s.evaluation.same_width import EDGE, SCORES, TRUE_EDGE
from s2s.methods import make
from s2s.metrics import detection, edges
from s2s.metrics.fidelity import psnr, tone_fit
from s2s.metrics.judged import Judged

#: The control that is swept beside the methods.
CONTROL = "control gaussian"
#: A method without a knob is mixed with its input by these shares of its own image, and then blurred by these pixels.
SHARES, BLURS = (0.25, 0.5, 0.75, 1.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Strength:
    """A method at one strength: what is said of it, such as "h=1.2", and the function."""

    label: str
    denoise: Denoise


def strengths(denoisers: Mapping[str, Denoiser]) -> dict[str, tuple[Strength, ...]]:
    """Every method's strengths, in the order of more smoothing, and those of the Gaussian control.

    A filter's are the values of its first setting in TUNING, its other settings staying as they are. A trained method
    has no such knob: its image is mixed with its input for less strength, and blurred for more, which makes
    wider edges and is all that a user could do.
    """
    found = {CONTROL: _knob(Denoiser(make("gaussian")))}
    return found | {name: _knob(one) if one.method.TUNING else _mixed(one) for name, one in denoisers.items()}


def _knob(denoiser: Denoiser) -> tuple[Strength, ...]:
    method = denoiser.method
    setting, values = next(iter(method.TUNING.items()))
    made = {
        f"{setting}={value}": Denoiser(
            make(method.name, method.preset, **{**method.settings, setting: value}), device=str(denoiser.device)
        )
        for value in values
    }
    return tuple(Strength(label, denoise) for label, denoise in functions(made).items())


def _mixed(denoiser: Denoiser) -> tuple[Strength, ...]:
    (denoise,) = functions({denoiser.name: denoiser}).values()

    @lru_cache(maxsize=2)
    def kept(data: bytes, shape: tuple[int, int]) -> Image:
        """What the method makes of the image and of that without lesions: once for all strengths."""
        return np.asarray(denoise(np.frombuffer(data, np.float32).reshape(shape)))

    def mix(share: float, sigma: float, image: Image) -> Image:
        clean = kept(np.ascontiguousarray(image, np.float32).tobytes(), image.shape)
        mixed = share * clean + (1.0 - share) * image
        return ndimage.gaussian_filter(mixed, sigma) if sigma else mixed

    shares = (Strength(f"{share:.0%} of it", partial(mix, share, 0.0)) for share in SHARES)
    blurs = (Strength(f"blurred by {sigma:g} pixels", partial(mix, 1.0, sigma)) for sigma in BLURS)
    return (*shares, *blurs)


def measure(scene: Judged) -> dict[str, float]:
    """What is kept of one strength in one scene, by name of the metric."""
    view = scene.view
    fitted = tone_fit(scene.image, view.truth_db, view.dynamic_range, view.insonified)
    found = {**edges.measure(scene), **detection.measure(scene)}
    found["psnr_fit"] = psnr(fitted, view.truth_db, view.dynamic_range, view.insonified)
    return {name: found.get(name, math.nan) for name in (EDGE, TRUE_EDGE, *SCORES)}
