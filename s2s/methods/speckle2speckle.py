"""Speckle2Speckle: a U-Net taught with many independent draws of simulated speckle over the same anatomy.

Göbl, Hennersperger and Navab, "Speckle2Speckle: Unsupervised Learning of Ultrasound Speckle Filtering Without Clean
Data" (2022, arXiv 2208.00402): Noise2Noise where simulation draws the scatterers of one tissue anew. A further draw of
a scene costs a fraction of the scene, so that each is taught here with the mean of all others: in dB it has the
expectation of one draw and, of n others, an nth of its variance; as n grows it becomes `truth/bmode`.

**Assumes** that real images come from the distribution of the simulated ones.

**Needs** simulation: `others`, the mean of the other draws of the scene.

**Loss** mean((f(y) - mean of the other draws)^2) over the speckle's variance, on 1 + dB / 60. With `draws=2` it is
Noise2Noise.

    s2s train --sim --method speckle2speckle --minutes 20 -o runs/speckle2speckle

`preset="paper"` has two draws, as published pairs have. The paper's network, loss and training could not be read;
they are those of our `noise2noise`.

**Reached** on toy scenes in 400 steps of `preset="toy"`, 44 s on one core: 31.7 dB PSNR with four
draws, 31.4 with two, which is `noise2noise`, and 32.3 with the truth (`benchmarks/toy_denoise.py --steps 400 --method
speckle2speckle`). On images: [results](../results.md).

**Fails** like Noise2True where a scene looks like nothing in the training phantom. It differs from it in what it must
be told: draws of the speckle, and no formula for what is left without.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from s2s.methods.limits import whole
from s2s.methods.regression import Regression


class Speckle2Speckle(Regression):
    """Regression on the mean of independent draws.

    draws: of each scene, one of which is the input.
    """

    needs = ("y", "others")
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "default": {},
        "toy": {"width": 24},
        "paper": {"residual": False, "draws": 2},
    }

    def __init__(self, draws: int = 4, **settings: Any) -> None:
        super().__init__(**settings)
        self.looks = whole("draws", draws, 2, 64)

    def loss(self, batch: dict[str, Tensor], progress: float) -> Tensor:
        """Squared error against the mean of the other draws."""
        return self.error(batch, "others")
