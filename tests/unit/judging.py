"""Views of made-up scenes, for tests of metrics."""

from typing import Any

import numpy as np

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
