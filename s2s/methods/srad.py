"""SRAD, speckle reducing anisotropic diffusion: intensity flows between neighbours, except across edges.

**Assumes** that pure speckle varies from pixel to pixel by a known amount q₀ relative to its mean, and that
whatever varies more is an edge.

**Formula** ∂I/∂t = div(c ∇I), where c is 1 in speckle and 0 at edges (Yu and Acton, IEEE TIP 11, 2002):

    c = 1 / (1 + (q² - q₀²) / (q₀² (1 + q₀²)))
    q² = (½ |∇I|² / I² - 1/16 (ΔI / I)²) / (1 + ¼ ΔI / I)²

|∇I|² is the sum of the squared differences to the four neighbours and ΔI the sum of these differences; c is limited
to 0...1, no intensity crosses the border, and each step is explicit. What leaves a pixel enters its neighbour, so that
the mean intensity stays exactly what it was. q₀ has to fall as the speckle fades: `q0=auto` is, at each step, the
median over the image of the coefficient of variation in windows of 7 × 7; `q0=decay` is the paper's exp(-t / 6); a
number stays what it is. The preset `paper` is the paper's law and step, with a number of iterations of ours.

    s2s denoise scan.png -m srad:iterations=150

**Toy scene** 30.0 dB, 29.1 dB with `q0=decay`, 28.9 dB with the preset `paper`; noisy 20.6 dB.

**Fails** in deep shadows and at single bright grains, which look like edges and stay as islands. The brake of a flux is
the c of the lower or right one of its two pixels, as in the paper, so that points come out lopsided. An image that is
mostly texture teaches `auto` that texture is speckle.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from s2s.methods.intensity import IntensityFilter, local_statistics
from s2s.methods.limits import number, whole

#: Side of the windows that tell q0, in pixels.
WINDOW = 7
#: q0² of an image that does not vary: no edges anywhere.
SMALLEST = 1e-6


class Srad(IntensityFilter):
    """Speckle reducing anisotropic diffusion: intensity flows, except across edges.

    iterations: number of steps.
    step: time per step; below 1 the scheme is stable.
    q0: the coefficient of variation of pure speckle: auto, decay, or a number.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {},
        "paper": {"iterations": 300, "step": 0.05, "q0": "decay"},
    }
    TUNING: ClassVar[dict[str, tuple[Any, ...]]] = {
        "iterations": (10, 20, 40, 70, 100, 150, 220, 320, 450),
        "step": (0.2, 0.4, 0.8),
        "q0": ("auto", "decay"),
    }

    def __init__(self, *, iterations: int = 100, step: float = 0.4, q0: float | str = "auto") -> None:
        super().__init__()
        self.iterations = whole("iterations", iterations, 1, 10_000)
        self.step_size = number("step", step, 0.001, 1.0)
        self.q0 = q0 if q0 in ("auto", "decay") else number("q0", q0, 0.001, 10.0, "or auto or decay")

    def mean_intensity(self, intensity: NDArray[np.float64]) -> NDArray[np.float64]:
        """Let the intensity diffuse."""
        for iteration in range(self.iterations):
            speckle = self._speckle_variation(intensity, iteration * self.step_size)
            intensity = diffuse(intensity, speckle, self.step_size)
        return intensity

    def _speckle_variation(self, intensity: NDArray[np.float64], time: float) -> float:
        """q0² at a time."""
        if self.q0 == "decay":
            return math.exp(-time / 3.0)
        if self.q0 != "auto":
            return float(self.q0) ** 2
        _, variation = local_statistics(intensity, WINDOW)
        return max(float(np.median(variation)), SMALLEST)


def diffuse(intensity: NDArray[np.float64], speckle: float, step: float) -> NDArray[np.float64]:
    """One explicit step of a positive image (H, W), with speckle = q0²; the new image is positive too."""
    down = np.diff(intensity, axis=0, append=intensity[-1:])
    up = np.diff(intensity, axis=0, prepend=intensity[:1])
    right = np.diff(intensity, axis=1, append=intensity[:, -1:])
    left = np.diff(intensity, axis=1, prepend=intensity[:, :1])
    gradient = (down**2 + up**2 + right**2 + left**2) / intensity**2
    laplacian = (down - up + right - left) / intensity
    variation = (gradient / 2.0 - laplacian**2 / 16.0) / (1.0 + laplacian / 4.0) ** 2
    flow = np.clip(1.0 / (1.0 + (variation - speckle) / (speckle * (1.0 + speckle))), 0.0, 1.0)
    from_below = np.concatenate([flow[1:], flow[-1:]]) * down
    from_right = np.concatenate([flow[:, 1:], flow[:, -1:]], axis=1) * right
    divergence = np.diff(from_below, axis=0, prepend=0.0) + np.diff(from_right, axis=1, prepend=0.0)
    return intensity + step / 4.0 * divergence
