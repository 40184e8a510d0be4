"""What a metric may know of a frame besides the image: truth, labels, axes, and where to measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.domain import LOG_BIAS_DB
from s2s.metrics.distance import signed_distance
from usim.display import Screen
from usim.errors import DataError
from usim.frame import Frame

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Metres: the profile across an edge reaches this far to either side, and its plateaus begin here.
REACH, PLATEAU = 4e-3, 1.25e-3
#: Metres around a point target that belong to nobody: a bright point's main lobe and its first side lobes.
POINT_MARGIN = 1.5e-3
#: Metres that a region's inside and its ring keep from borders, and how far the ring reaches.
INNER_MARGIN, RING_MARGIN, RING_REACH = 0.3e-3, 0.5e-3, 3e-3
#: The inside keeps no more than this share of its largest distance to the border: a disc of 1 mm keeps 0.125 mm.
INNER_SHARE = 0.25
#: Metres that the background keeps from regions and from the image's borders.
BACKGROUND_MARGIN = 1e-3
#: dB above the lower end of the grey scale from which on speckle is whole: clipping its nulls there would feign looks.
FLOOR_MARGIN_DB = 10.0
#: Square metres below which an area holds too few speckle cells to be measured (a cell is some 0.1 mm^2).
LEAST_AREA = 2e-6
#: The same of a region's inside: what chance gives in so few cells is measured where there is an image without lesions.
LEAST_INSIDE = 0.3e-6


@dataclass(frozen=True, eq=False)
class Region:
    """One labelled region and its surroundings, cut out of the frame.

    name.  window: rows and columns of the cut.  distance: signed distance to the border in metres (h, w), positive
    inside.  inside, ring: pixels well inside, and in the ring of background around it.  edge: pixels whose nearest
    border is one between this region and background.  pixel_area: square metres.
    """

    name: str
    window: tuple[slice, slice]
    distance: Array
    inside: Mask
    ring: Mask
    edge: Mask
    pixel_area: float

    @property
    def has_areas(self) -> bool:
        """Whether the inside and the ring are large enough to be compared."""
        inside, ring = (float(mask.sum()) * self.pixel_area for mask in (self.inside, self.ring))
        return inside >= LEAST_INSIDE and ring >= LEAST_AREA

    @property
    def has_plateaus(self) -> bool:
        """Whether there is enough on both sides of the edge to say between which levels it runs."""
        far = self.edge & (np.abs(self.distance) >= PLATEAU) & (np.abs(self.distance) < REACH)
        sides = min((far & (self.distance > 0)).sum(), (far & (self.distance < 0)).sum())
        return bool(sides * self.pixel_area >= LEAST_AREA)


@dataclass(frozen=True, eq=False)
class FrameView:
    """The truth of a frame, and the places where metrics look.

    truth_db: the image without speckle in dB (H, W).  labels: 0 is background, k the k-th of `label_names` (H, W).
    x, z: pixel centres in metres, (W,) and (H,).  dynamic_range: dB from black to white.  points: (x, z) of the point
    targets, wires among them, in metres (P, 2).
    noisy_db: the image before a method saw it, clipped to the dynamic range (H, W).
    resolved_db, echogenicity_db: these truths (H, W), 0 dB tissue being at the level that it has in an image without
    attenuation and shading.  insonified: where there is an image at all (H, W).
    scene: plain data, the scene as it was drawn.
    screen: the display through which the frame is shown; None for linear in dB over the dynamic range.
    """

    truth_db: Array
    labels: NDArray[np.integer[Any]]
    label_names: tuple[str, ...]
    x: Array
    z: Array
    dynamic_range: float
    points: Array
    noisy_db: Array
    resolved_db: Array
    echogenicity_db: Array
    insonified: Mask
    scene: Mapping[str, Any]
    screen: Screen | None = None

    @classmethod
    def of(cls, frame: Frame) -> FrameView:
        """The view of a frame; raises DataError when the frame does not tell its dynamic range."""
        try:
            scene = frame.params["scene"]
            dynamic_range, headroom = (float(scene["image"][key]) for key in ("dynamic_range", "headroom"))
            found = [point["position"] for kind in ("points", "wires") for point in frame.params.get(kind, ())]
            points = np.array(found, dtype=np.float64).reshape(-1, 2)
            screen = None if frame.display is None else Screen.of_frame(frame)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "frame: its parameters lack scene.image.dynamic_range or headroom, or the display of what is shown, or "
                f"hold broken points ({error!r}); use frames that usim made"
            ) from error
        truth = frame.truth
        tissue = -headroom - LOG_BIAS_DB
        return cls(
            truth_db=truth.bmode.astype(np.float64),
            labels=truth.labels,
            label_names=truth.label_names,
            x=frame.axes.x,
            z=frame.axes.z,
            dynamic_range=dynamic_range,
            points=points,
            noisy_db=np.clip(frame.bmode.astype(np.float64), -dynamic_range, 0.0),
            resolved_db=truth.resolved_db.astype(np.float64) + tissue,
            echogenicity_db=truth.echogenicity_db.astype(np.float64) + tissue,
            insonified=np.ones(truth.labels.shape, bool) if truth.mask is None else truth.mask.astype(bool),
            scene=scene,
            screen=screen,
        )

    @property
    def pixel(self) -> tuple[float, float]:
        """Size of a pixel in metres, (z, x)."""
        dz, dx = (abs(float(axis[-1] - axis[0])) / max(len(axis) - 1, 1) for axis in (self.z, self.x))
        return dz, dx

    @cached_property
    def clear(self) -> Mask:
        """Pixels far enough from every point target (H, W)."""
        at_point = np.zeros(self.labels.shape, dtype=bool)
        for x, z in self.points:
            at_point[np.argmin(np.abs(self.z - z)), np.argmin(np.abs(self.x - x))] = True
        if not at_point.any():
            return ~at_point
        distance = ndimage.distance_transform_edt(~at_point, sampling=self.pixel)
        return np.asarray(distance > POINT_MARGIN)

    @cached_property
    def _from_regions(self) -> Array:
        """Metres from every background pixel to the nearest region (H, W); negative inside regions."""
        background = self.labels == 0
        if background.all() or not background.any():
            return np.where(background, np.inf, -np.inf)
        return signed_distance(background, self.pixel)[0]

    @cached_property
    def background(self) -> Mask:
        """Where speckle is judged (H, W): background, away from regions, points, image borders and the black end."""
        down, right = (np.minimum(np.abs(axis - axis[0]), np.abs(axis - axis[-1])) for axis in (self.z, self.x))
        from_border = np.minimum(down[:, None], right[None, :])
        deep = (self._from_regions >= BACKGROUND_MARGIN) & (from_border >= BACKGROUND_MARGIN)
        found = deep & self.clear & (self.truth_db >= FLOOR_MARGIN_DB - self.dynamic_range)
        dz, dx = self.pixel
        return found if found.sum() * dz * dx >= LEAST_AREA else np.zeros_like(found)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Every labelled region that has a pixel in the image and a border."""
        boxes = ndimage.find_objects(self.labels.astype(np.int32))
        found = (self._region(label, box[0], box[1]) for label, box in enumerate(boxes, start=1) if box is not None)
        return tuple(region for region in found if region is not None)

    def _region(self, label: int, rows: slice, columns: slice) -> Region | None:
        dz, dx = self.pixel
        window = (_wider(rows, dz, self.labels.shape[0]), _wider(columns, dx, self.labels.shape[1]))
        labels, clear, from_regions = self.labels[window], self.clear[window], self._from_regions[window]
        mask = labels == label
        if mask.all():
            return None
        distance, nearest = signed_distance(mask, self.pixel)
        own = np.where(mask, labels[tuple(nearest)] == 0, (labels == 0) & (-distance <= from_regions * (1 + 1e-9)))
        return Region(
            name=self.label_names[label],
            window=window,
            distance=distance,
            inside=mask & (distance >= min(INNER_MARGIN, INNER_SHARE * float(distance.max()))) & clear,
            ring=(from_regions >= RING_MARGIN) & (distance >= -RING_REACH) & clear,
            edge=own & clear,
            pixel_area=dz * dx,
        )


def _wider(part: slice, pixel: float, size: int) -> slice:
    margin = int(np.ceil(max(REACH, RING_REACH) / pixel)) + 1
    return slice(max(part.start - margin, 0), min(part.stop + margin, size))
