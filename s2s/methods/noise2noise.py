"""Noise2Noise: a U-Net taught with a second image of the same scene, whose speckle is another.

Lehtinen et al., "Noise2Noise: Learning Image Restoration without Clean Data" (ICML 2018). Squared error against a
target with independent noise has the same minimiser as against the target's mean, which in dB is `truth/bmode`.

**Assumes** that the two images share nothing but the scene. The simulator redraws the scatterers; a patient can't. What
a scanner can give are neighbouring slices of a volume, and images steered to other angles: their speckle differs in
part, and so does what they show. An estimate keeps about the share r of the speckle by which the two correlate in dB,
r = Li2(rho^2) / (pi^2 / 6) for fields that correlate by rho (`params/rho` of our files): 0.06 at rho = 0.3, 0.48 at
0.8.

**Needs** pairs, `pair=look`: `y2`, an independent draw of scatterers and noise, from simulation or our files with
`looks`; `pair=slice`: `next`, from phantoms with a `sweep`, our files, or neighbouring frames of clips; `pair=angle`:
`steered`, from phantoms with `angles`, or our files.

**Loss** mean((f(y) - y2)^2) over the speckle's variance, on 1 + dB / 60; either image may be the input.

    s2s train --sim --method noise2noise --minutes 20 -o runs/noise2noise
    s2s train --sim training-sweep --method noise2noise --set pair=slice -o runs/n2n-slices
    s2s train --sim training-angles --method noise2noise --set pair=angle -o runs/n2n-angles

**Reached** in `make demo`, three minutes on two cores, on eight unseen frames: 36.71 dB PSNR, where non-local means
reach 35.92 and the noisy frames have 21.05. The picture was made with those weights.

**Fails** on real pairs whose speckle is correlated, such as neighbouring frames of a still probe: it keeps what they
share. Between slices anatomy moves on, and edges that are oblique to them are blurred.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from s2s.methods.limits import one_of
from s2s.methods.regression import Regression

#: Batch keys of the second image by what makes the pair.
SECOND = {"look": "y2", "slice": "next", "angle": "steered"}


class Noise2Noise(Regression):
    """Regression on a second image of the scene.

    pair: what makes the second image: "look", an independent draw; "slice", the neighbouring slice; "angle", another
    steering angle.
    """

    needs = ("y", "y2")

    def __init__(self, pair: str = "look", **settings: Any) -> None:
        super().__init__(**settings)
        self.second = SECOND[one_of("pair", pair, SECOND)]
        self.needs = ("y", self.second)

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error against the other image."""
        return self.error(batch, self.second)
