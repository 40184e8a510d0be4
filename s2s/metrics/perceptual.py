"""A learned distance between pictures: LPIPS, where its package and weights are on the machine."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.metrics.grey import grey
from s2s.metrics.judged import Judged
from s2s.metrics.metric import Metric

#: What torchvision calls the weights of AlexNet, in the folder `checkpoints` of torch's hub.
WEIGHTS = "alexnet-owt-7be5be79.pth"
#: Pixels a side that AlexNet's five layers need.
LEAST_SIDE = 32

METRICS = (
    Metric(
        "lpips", "LPIPS", "perceptual", "distance from truth/bmode to a network that was trained on photographs", "",
        "lower", digits=3, fooled_by="a display curve or a level nearer to the truth's",
        needs="the package lpips (pip install 'usim-s2s[lpips]') and AlexNet's weights, which s2s never downloads: "
        "run lpips.LPIPS(net='alex') once",
    ),
)  # fmt: skip


def weights_file() -> Path | None:
    """The weights of AlexNet on this machine; None where they, or the package lpips, are missing."""
    if find_spec("lpips") is None:
        return None
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    return file if file.is_file() else None


@lru_cache(maxsize=1)
def _network() -> Any:
    import lpips

    with warnings.catch_warnings():
        # The package asks torchvision for its weights by names of the past.
        warnings.simplefilter("ignore")
        return lpips.LPIPS(net="alex", verbose=False)


def lpips(image: NDArray[np.floating[Any]], truth: NDArray[np.floating[Any]]) -> float:
    """Learned perceptual image patch similarity of grey levels of 0 to 1 (H, W): 0 for equal images, else more.

        sum over layers l of mean over pixels |w_l (f_l(image) - f_l(truth))|^2

    f are the features of AlexNet, of unit length in each pixel, w the weights of version 0.1. Zhang, Isola, Efros,
    Shechtman and Wang, Proc. IEEE CVPR (2018) 586-595. The grey levels are given to all three colours.

    Needs what `weights_file` looks for.
    """
    import torch

    both = torch.as_tensor(2.0 * np.stack([image, truth]) - 1.0, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
    with torch.inference_mode():
        return float(_network()(both[:1], both[1:]))


def measure(scene: Judged) -> dict[str, float]:
    """The group's metric of a scene; what is not insonified is black."""
    view = scene.view
    if min(view.truth_db.shape) < LEAST_SIDE or weights_file() is None:
        return {"lpips": math.nan}
    seen, truth = (
        np.where(view.insonified, grey(values, view.dynamic_range), 0.0) for values in (scene.image, view.truth_db)
    )
    return {"lpips": lpips(seen, truth)}
