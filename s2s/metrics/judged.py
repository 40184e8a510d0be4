"""What a method made of one scene: the images that metrics look at, and what they may know beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2s.metrics.frame_view import FrameView

Array = NDArray[np.floating[Any]]

#: Roles of a scene's images. The first is judged by every metric; the others are there where a suite has them:
#: the same places without their regions, the same anatomy through another probe, and independent looks 1, 2, ...
IMAGE, SHAM, PROBE, LOOK = "image", "sham", "probe", "look "
#: Roles of the image that was changed before the method saw it; what came out was changed back.
CHANGED = "changed: "


@dataclass(frozen=True, eq=False)
class Judged:
    """Images of one scene after a method, by role.

    images: (H, W) in dB, 0 dB being full scale.  views: what may be known of each, and the noisy image it was made of;
    there is one for an image that the method failed to make, too.
    """

    images: Mapping[str, Array]
    views: Mapping[str, FrameView]

    @property
    def image(self) -> Array:
        """The image that every metric judges."""
        return self.images[IMAGE]

    @property
    def view(self) -> FrameView:
        """What may be known of that image."""
        return self.views[IMAGE]

    def having(self, first: str) -> dict[str, tuple[Array, FrameView]]:
        """Images with their views by role, of all roles that begin with `first`."""
        return {role: (image, self.views[role]) for role, image in self.images.items() if role.startswith(first)}
