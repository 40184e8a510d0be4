"""Frames that a training never sees, and how close a method comes to their truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s2s.denoise import Denoiser
from s2s.domain import Domain
from s2s.images.image import shown_db
from s2s.methods.base import Method
from s2s.metrics.fidelity import fidelity
from s2s.seeds import held_out_seed
from usim.frame import Frame
from usim.phantom.load import Phantom
from usim.pipeline import Renderer


@dataclass(frozen=True)
class HeldOut:
    """Frames that training never sees, and how close a method comes to their truth."""

    frames: tuple[Frame, ...]

    @classmethod
    def simulate(cls, phantom: Phantom, seed: int, count: int) -> HeldOut:
        """`count` frames of a seed that no training uses."""
        renderer = Renderer(phantom, seed=held_out_seed(seed))
        return cls(tuple(renderer.render(index) for index in range(count)))

    @property
    def alike(self) -> bool:
        """Whether all show one scene, which is then the scene of the training too."""
        first, *others = (frame.truth.bmode for frame in self.frames)
        return bool(others) and all(np.array_equal(first, other) for other in others)

    def scores(self, method: Method | None) -> dict[str, float]:
        """Mean PSNR and SSIM against truth/bmode, raw and after a tone fit; of the noisy frames for no method."""
        denoiser = None if method is None else Denoiser(method, device=str(next(method.parameters()).device))
        rows = []
        for frame in self.frames:
            depth = float(frame.params["scene"]["image"]["dynamic_range"])
            domain = Domain("db", depth)
            clean = denoiser.denoise_frame(frame.bmode, domain) if denoiser else shown_db(frame.bmode, domain)
            inside = None if frame.truth.mask is None else frame.truth.mask.astype(bool)
            rows.append(fidelity(clean, frame.truth.bmode, depth, inside))
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
