"""Frames that a training never sees, in suites, and how close a method comes to their truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from s2s.denoise import Denoiser
from s2s.domain import Domain
from s2s.images.image import shown_db
from s2s.methods.bands import ONE_BAND, Bands
from s2s.methods.base import Method
from s2s.metrics.fidelity import fidelity
from s2s.seeds import held_out_seed
from usim.frame import Frame
from usim.phantom.load import Phantom
from usim.phantom.views import View
from usim.pipeline import Renderer


@dataclass(frozen=True, eq=False)
class Scores:
    """What a method got: metrics of every frame by suite; `choice` is the metric that chooses, larger is better."""

    suites: Mapping[str, Sequence[Mapping[str, float]]]
    choice: str = "psnr"

    def by_suite(self) -> dict[str, dict[str, float]]:
        """Means over the frames of each suite."""
        return {name: _means_of(frames) for name, frames in self.suites.items()}

    def means(self) -> dict[str, float]:
        """Means over suites."""
        return _means_of(list(self.by_suite().values()))

    def plain(self) -> dict[str, object]:
        """The mean over suites of every metric, and under `suites` the means of each, where there are several."""
        found: dict[str, object] = {**self.means()}
        return {**found, "suites": self.by_suite()} if len(self.suites) > 1 else found

    def chosen(self) -> list[NDArray[np.float64]]:
        """The metric that chooses, of each suite's frames."""
        return [np.array([frame[self.choice] for frame in frames]) for frames in self.suites.values()]


@dataclass(frozen=True)
class HeldOut:
    """Frames that training never sees, by suite, and how close a method comes to their truth.

    beside: of each frame the further bands (H, W) in dB, for a method that sees several.
    """

    suites: Mapping[str, tuple[Frame, ...]]
    beside: Mapping[str, tuple[Sequence[NDArray[np.float32]], ...]] = field(default_factory=dict)
    knows_truth = True

    @classmethod
    def simulate(cls, phantoms: Mapping[str, Phantom], seed: int, count: int, bands: Bands = ONE_BAND) -> HeldOut:
        """`count` frames of each phantom, of a seed that no training, tuning or evaluation uses.

        bands: that a method sees, as `s2s.data.refuse_bands` lets pass.
        """
        suites, beside = {}, {}
        for name, phantom in phantoms.items():
            renderer = Renderer(phantom, seed=held_out_seed(seed))
            suites[name] = tuple(renderer.render(index) for index in range(count))
            further = [View(**{bands.part: k})._asdict() for k in range(1, bands.count)]
            beside[name] = tuple([renderer.image(index, **view) for view in further] for index in range(count))
        return cls(suites, beside)

    @property
    def alike(self) -> list[str]:
        """Suites that show one scene only, which is then the scene of a training on the same phantom too."""
        found = []
        for name, frames in self.suites.items():
            first, *others = (frame.truth.bmode for frame in frames)
            if others and all(np.array_equal(first, other) for other in others):
                found.append(name)
        return found

    def scores(self, method: Method | None) -> Scores:
        """PSNR and SSIM against truth/bmode, raw and after a tone fit; of the noisy frames for no method."""
        denoiser = None if method is None else Denoiser(method, device=str(next(method.parameters()).device))
        return Scores({name: [_score(denoiser, *seen) for seen in self._seen(name)] for name in self.suites})

    def _seen(self, name: str) -> list[tuple[Frame, Sequence[NDArray[np.float32]]]]:
        """The frames of a suite, each with its further bands."""
        frames = self.suites[name]
        return list(zip(frames, self.beside.get(name, [()] * len(frames)), strict=True))

    def pictures(self, method: Method) -> dict[str, NDArray[np.float32]]:
        """The first two frames of each suite, noisy, denoised and true side by side, from 0 (black) to 1."""
        denoiser, found = Denoiser(method, device=str(next(method.parameters()).device)), {}
        for name in self.suites:
            for number, (frame, beside) in enumerate(self._seen(name)[:2]):
                domain = Domain("db", float(frame.params["scene"]["image"]["dynamic_range"]))
                clean = denoiser.denoise_frame(frame.bmode, domain, beside=beside)
                row = np.concatenate([frame.bmode, clean, frame.truth.bmode], axis=1)
                grey = np.clip(1.0 + row / domain.dynamic_range, 0.0, 1.0)
                found[f"{name}/{number}"] = grey.astype(np.float32)
        return found

    def words(self, scores: Scores, noisy: Scores) -> str:
        """For a line on a screen."""
        own, other, each = scores.means(), noisy.means(), scores.by_suite()
        text = f"psnr {own['psnr']:.2f} dB, {own['psnr_fit']:.2f} after a tone fit"
        if len(each) > 1:
            suites = ", ".join(f"{name} {means['psnr']:.2f}" for name, means in each.items())
            text += f" ({suites})"
        return f"{text} (noisy {other['psnr']:.2f}, {other['psnr_fit']:.2f})"


def _score(denoiser: Denoiser | None, frame: Frame, beside: Sequence[NDArray[np.float32]]) -> dict[str, float]:
    depth = float(frame.params["scene"]["image"]["dynamic_range"])
    domain = Domain("db", depth)
    noisy = shown_db(frame.bmode, domain)
    clean = denoiser.denoise_frame(frame.bmode, domain, beside=beside) if denoiser else noisy
    inside = None if frame.truth.mask is None else frame.truth.mask.astype(bool)
    return fidelity(clean, frame.truth.bmode, depth, inside)


def _means_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric over the rows where it is defined."""
    found = {}
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        known = values[~np.isnan(values)]
        found[key] = float(known.mean()) if known.size else float("nan")
    return found
