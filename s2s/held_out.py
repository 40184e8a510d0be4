"""Frames that a training never sees, and how close a method comes to their truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from s2s.data import held_out_seed
from s2s.domain import from_scale, to_scale
from s2s.methods.base import Method
from s2s.metrics.fidelity import psnr, ssim, tone_fit
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
        rows = []
        for frame in self.frames:
            depth = float(frame.params["scene"]["image"]["dynamic_range"])
            clean = np.maximum(frame.bmode, -depth)
            if method is not None:
                device = next(method.parameters()).device
                y = torch.from_numpy(to_scale(clean, method.domain).astype(np.float32))[None, None]
                clean = from_scale(method.denoise(y.to(device)).cpu().numpy()[0, 0], method.domain)
            truth, fitted = frame.truth.bmode, tone_fit(clean, frame.truth.bmode, depth)
            rows.append({
                "psnr": psnr(clean, truth, depth),
                "ssim": ssim(clean, truth, depth),
                "psnr_fit": psnr(fitted, truth, depth),
                "ssim_fit": ssim(fitted, truth, depth),
            })  # fmt: skip
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
