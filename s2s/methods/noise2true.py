"""Noise2True: a U-Net taught with the truth.

Supervised regression of `truth/bmode` on the noisy image with squared error. Because that truth is the expectation of
the image in dB, it is what squared error converges to, and no method that sees less can do better with the same
network: this is the ceiling of every table.

**Assumes** that real images come from the distribution of the simulated ones.

**Needs** simulation, or our HDF5 files: `x`, the image without speckle.

**Loss** mean((f(y) - x)^2) over the speckle's variance, on 1 + dB / 60.

    s2s train --sim --method noise2true --minutes 20 -o runs/noise2true

**Reached** on the toy scene, 20.65 dB before, with 1.1 M parameters on one core: 33.08 dB after 43 s of training, 34.99
after 213 s, 35.57 after 370 s, 36.11 after 668 s (`benchmarks/toy_denoise.py --method noise2true --seconds 43 213 370
668`).

**Fails** where a scene looks like nothing in the training phantom: it has learnt what to expect.
"""

from __future__ import annotations

from torch import Tensor

from s2s.methods.regression import Regression


class Noise2True(Regression):
    """Supervised regression on the truth."""

    needs = ("y", "x")

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error against the truth."""
        return self.error(batch, "x")
