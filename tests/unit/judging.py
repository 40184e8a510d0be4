"""Views of made-up scenes, for tests of metrics."""

from typing import Any

import numpy as np
from scipy import ndimage

from s2s.metrics.frame_view import FrameView


def view_of(truth: Any, labels: Any, names: Any, x: Any, z: Any, **others: Any) -> FrameView:
    """The view of a truth (H, W) in dB with labels; the other fields as given, or as a scene without more has them."""
    truth = np.asarray(truth, dtype=float)
    plain = {
        "dynamic_range": 60.0,
        "points": np.zeros((0, 2)),
        "noisy_db": truth,
        "resolved_db": truth,
        "echogenicity_db": truth,
        "insonified": np.ones(truth.shape, bool),
        "scene": {},
    }
    return FrameView(truth, np.asarray(labels), tuple(names), np.asarray(x), np.asarray(z), **{**plain, **others})


def smooth(seed: int = 0, size: int = 64) -> Any:
    """A smooth image (size, size) between -50 and -10 dB."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 6)
    return -50 + 40 * (values - values.min()) / np.ptp(values)


def speckle(seed: int, shape: tuple[int, ...], looks: float = 1) -> Any:
    """Fully developed speckle of mean intensity 1 in dB, white, averaged over looks in intensity."""
    return 10 * np.log10(np.random.default_rng(seed).gamma(looks, 1 / looks, shape))
