"""Adaptation: trained weights go on learning from images without truth, and are judged without it.

    s2s train --adapt WEIGHTS --data my_scans/ -o runs/mine

Some of the images are never trained on. Blocks of a speckle cell are hidden in them, and what the method says of their
centres is compared with what was there (s2s/evaluation/calibrate.py): the noise at a centre can't be foretold from
outside its block, so that the error falls only when the estimate of the truth gets better. The weights of the start
are scored first, and adapted ones are kept only if they foretell significantly better, image against image.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from s2s.denoise import Denoiser, load
from s2s.domain import Domain
from s2s.evaluation.calibrate import Hidden, hidden_views, self_error
from s2s.held_out import Scores
from s2s.images import open_image
from s2s.images.image import shown_db
from s2s.methods import METHODS, method_class
from s2s.methods.base import Method, Training, in_words
from s2s.published import published
from s2s.recordings import Recordings
from usim.errors import ConfigError, DataError

#: Steps of an adaptation, and its peak learning rate relative to that of a training, unless the user says otherwise.
STEPS, RATE = 300, 0.1
#: Images that judge, one in FROM of what is there; views of each with hidden blocks. Views of one image are no
#: independent witnesses: with two images and a standard error over six views the rule took weights that were 0.4 dB
#: worse (benchmarks/adapt.py).
FEWEST, IMAGES, FROM, VIEWS = 2, 8, 3, 3


@dataclass(frozen=True, eq=False)
class Unseen:
    """Images that an adaptation never trains on, by name: views with hidden blocks, and the dynamic range in dB."""

    views: Mapping[str, tuple[Hidden, ...]]
    ranges: Mapping[str, float]
    alike: tuple[str, ...] = ()
    knows_truth = False

    @classmethod
    def of(cls, recordings: Recordings, seed: int) -> Unseen:
        """Read the images and hide blocks; raises DataError for one without speckle, or too small for its blocks."""
        views, ranges = {}, {}
        for number, (path, frame) in enumerate(recordings.items):
            image = open_image(path, recordings.stated)
            name = f"{path}, image {frame}"
            noisy = np.minimum(shown_db(image.inside(image.frames[frame]), image.domain), 0.0).astype(np.float32)
            try:
                views[name] = tuple(hidden_views(noisy, VIEWS, np.random.default_rng((seed, number))))
            except DataError as error:
                raise DataError(f"{name}: {error}") from error
            ranges[name] = image.domain.dynamic_range
        return cls(views, ranges)

    def scores(self, method: Method | None) -> Scores:
        """`foretold` of every image, -20 log10(rms error at hidden centres / dynamic range); of the fill for no method.

        It is in decibels as PSNR is, but the noise at the centres is in it, which nobody can foretell.
        """
        denoiser = None
        if method is not None:
            device = next((str(weights.device) for weights in method.parameters()), "cpu")
            denoiser = Denoiser(method, device=device)
        rows = []
        for name, views in self.views.items():
            depth = self.ranges[name]
            domain = Domain("db", depth)
            error = self_error(
                lambda image, domain=domain: denoiser.denoise_frame(image, domain) if denoiser else image, views, depth
            )
            rows.append({"foretold": -10.0 * math.log10(max(error, 1e-12))})
        return Scores({"images": rows}, "foretold")

    def words(self, scores: Scores, filled: Scores) -> str:
        """For a line on a screen."""
        own, fill = (float(one.chosen()[0].mean()) for one in (scores, filled))
        return f"hidden blocks foretold to {own:.3f} dB (their surroundings alone: {fill:.2f})"


def split(recordings: Recordings) -> tuple[Recordings, Recordings]:
    """What is trained on, and what judges: a third of the files, or images of the last third of a single clip.

    Two images judge at least, eight at most. Raises DataError for fewer than three images.
    """
    files = list(dict.fromkeys(path for path, _ in recordings.items))
    if len(files) > 1:
        count = min(IMAGES, max(FEWEST, len(files) // FROM))
        judging = {files[round((number + 1) * len(files) / (count + 1))] for number in range(count)}
        own = [item for item in recordings.items if item[0] not in judging]
        frames = [[item for item in recordings.items if item[0] == path] for path in sorted(judging)]
        held = [found[len(found) // 2] for found in frames]
    else:
        first = max(0, len(recordings.items) - max(FEWEST, len(recordings.items) // FROM))
        own, rest = list(recordings.items[:first]), recordings.items[first:]
        held = list(rest[:: max(1, -(-len(rest) // IMAGES))])
    if not own or len(held) < FEWEST:
        raise DataError(
            f"--data: {len(recordings.items)} images in {len(files)} files; adaptation keeps {FEWEST} files, or "
            "images of one clip, to judge by; give three or more"
        )
    return dataclasses.replace(recordings, items=tuple(own)), dataclasses.replace(recordings, items=tuple(held))


def weights_to_adapt(spec: str) -> Denoiser:
    """The weights of a name or path, which must learn from noisy images alone; raises ConfigError, DataError."""
    start = load(spec)
    needs = start.method.needs
    if start.fits:
        raise ConfigError(f"--adapt: {spec} is fitted to each image from fresh weights; name weights that are trained")
    if needs != ("y",):
        kinds = {name: method_class(name) for name in METHODS}
        able = [name for name, kind in kinds.items() if kind.needs == ("y",) and not kind.holds_image]
        lacking = " and ".join(in_words(key) for key in needs if key != "y")
        why = f"holds weights of {start.name}, which learns from what images alone lack, {lacking}"
        come = "".join(f"; --adapt {name} comes with the package" for name in able if name in published())
        raise ConfigError(
            f"--adapt: {spec} {why if needs else 'is a filter, which has nothing to learn'}; "
            f"what can be adapted are weights of {', '.join(able)}{come}"
        )
    return start


def begin(method: Method, average: Method, spec: str) -> str:
    """Give a fresh method, and its average, the weights that are adapted; returns the sha256 of their file.

    Raises ConfigError for weights of another method, or with other settings.
    """
    start = weights_to_adapt(spec)
    own, other = ((one.name, dict(one.settings)) for one in (method, start.method))
    if own != other:
        raise ConfigError(f"--adapt: {spec} holds {other[0]} with {other[1]}, not {own[0]} with {own[1]}")
    start.method.fill_training_only()
    for one in (method, average):
        one.load_state_dict(start.method.state_dict())
    return start.checkpoint


def gentle(training: Training) -> Training:
    """A preset's training as an adaptation has it: fewer steps, and smaller ones."""
    return dataclasses.replace(training, steps=STEPS, rate=RATE * training.rate)
