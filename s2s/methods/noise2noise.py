"""Noise2Noise: a U-Net taught with a second, independent look at the same scene.

Lehtinen et al., "Noise2Noise: Learning Image Restoration without Clean Data" (ICML 2018). Squared error against a
target with independent noise has the same minimiser as against the target's mean, which in dB is `truth/bmode`.

**Assumes** that the two looks share nothing but the scene. The simulator redraws the scatterers; a patient can't.

**Needs** simulation: `y2`, an independent draw of scatterers and noise of the same scene.

**Loss** mean((f(y) - y2)^2) over the speckle's variance, on 1 + dB / 60; either look may be the input.

    s2s train --sim --method noise2noise --minutes 20 -o runs/noise2noise

**Reached** in `make demo`, three minutes on two cores, on eight unseen frames: 36.71 dB PSNR, where non-local means
reach 35.92 and the noisy frames have 21.05. The picture was made with those weights.

**Fails** on real pairs whose speckle is correlated, such as neighbouring frames of a still probe: it keeps what they
share.
"""

from __future__ import annotations

from torch import Tensor

from s2s.methods.regression import Regression


class Noise2Noise(Regression):
    """Regression on an independent look."""

    needs = ("y", "y2")

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error against the other look."""
        return self.error(batch, "y2")
