"""Scenes as a device takes them: what is drawn and sampled on cells by the CPU, before anything is an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.display import Screen
from usim.engines.expect import strength_on_cells
from usim.errors import ConfigError
from usim.phantom.draw import draw
from usim.phantom.fill import KURTOSIS, expected_above
from usim.phantom.load import Phantom
from usim.phantom.schema import CloudFile, Scene
from usim.phantom.truth import densities
from usim.pipeline import Recent, setting_key
from usim.scan import Sector
from usim.scatterers import Scatterers
from usim.stage import Setting, Stage

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a device needs of a scene.

    key, setting: what decides the plan, and the setting, None where it is that of scene 0.  cells: (R, J) echogenicity
    as it is heard, on the fine cells.  rarity: (R, J) one over the density of scatterers; None for 1.  cloud: (5, D),
    see _cloud_torch; None for `field`.  densest: density of scatterers where they are most.  amplitudes, fourth: law
    of the scatterers' amplitudes, and kurtosis over density.  gain: (Z, 1).  noise: power.  noise_mean: (Z, X) of noise
    and haze.  haze: (R, 1) echogenicity that looks as bright.  fixed, rough: echoes that the scene fixes, and the
    diffuse ones of interfaces.  beside: (R2, J) strength of the latter on the cells of the power.
    """

    index: int
    key: tuple[Any, ...]
    setting: Setting | None
    cells: NDArray[np.float32]
    rarity: NDArray[np.float32] | None
    cloud: Array | None
    densest: float
    amplitudes: str
    fourth: float
    gain: Array
    noise: float
    noise_mean: Array
    haze: NDArray[np.float32] | None
    fixed: Scatterers
    rough: Scatterers
    beside: NDArray[np.float32] | None
    screen: Screen | None
    dynamic_range: float

    @classmethod
    def of(cls, index: int, stage: Stage, setting: Setting | None, *, truth: bool) -> Prepared:
        """The scene of a stage."""
        scene = stage.scene
        rough = stage.shaded(stage.targets.rough) if stage.is_rough else Scatterers(np.zeros((0, 3)), np.zeros(0))
        return cls(
            index=index,
            key=setting_key(scene),
            setting=setting,
            cells=stage.field_cells,
            rarity=stage.rarity,
            cloud=None if scene.scatterers.model == "field" else _cloud_of(stage),
            densest=max(densities(scene)),
            amplitudes=scene.scatterers.amplitude,
            fourth=KURTOSIS[scene.scatterers.amplitude] / stage.density,
            gain=stage.amplification,
            noise=stage.noise_power,
            noise_mean=np.array(stage.noise_mean),
            haze=stage.haze_cells if scene.haze else None,
            fixed=stage.fixed,
            rough=rough,
            beside=strength_on_cells(stage.setting.power, rough) if truth and len(rough) else None,
            screen=stage.screen,
            dynamic_range=scene.image.dynamic_range,
        )


def _cloud_of(stage: Stage) -> Array:
    depth, lateral, density, strength, _ = stage.cloud_law
    spread = max(densities(stage.scene)) * density * stage.setting.plan.geometry.spread(depth)
    return np.stack((depth, expected_above(depth, lateral, spread, None), *lateral, strength / density))


def refuse_scene(scene: Scene, source: str) -> None:
    """Raise ConfigError, with the field and the cure, for a scene of which a device makes no batches."""
    spec = scene.scatterers
    refused = {
        "image": (isinstance(scene.image, Sector), "sectors are not", "give image.x and image.z"),
        "engine": (scene.engine != "psf", f"{scene.engine} is not", "choose engine: psf"),
        "psf": (scene.psf != "separable", f"{scene.psf} is not", "choose psf: separable"),
        "compound": (scene.compound is not None, "compounded images are not", "leave it out"),
        "angles": (scene.angles is not None, "steered series are not", "leave it out"),
        "sweep": (scene.sweep is not None, "volumes are not", "leave it out"),
        "sequence": (scene.sequence is not None, "sequences are not", "leave it out"),
        "scatterers.file": (isinstance(spec, CloudFile), "given clouds are not", "choose model: field or plane"),
        "scatterers.model": (
            not isinstance(spec, CloudFile) and spec.model == "volume",
            "volume is not",
            "choose model: field or plane",
        ),
    }
    for field, (found, what, cure) in refused.items():
        if found:
            raise ConfigError(
                f"{source}: {field}: {what} made in batches on a device; {cure}, or simulate on the CPU "
                "(usim.stream, s2s train --simulate-on cpu)"
            )


@dataclass(frozen=True)
class Scenes:
    """The prepared scenes of a phantom without end: a source for usim.feed.

    What equals scene 0 is left out, None for the whole scene: a fixed plan is sent to the device once.
    """

    phantom: Phantom
    seed: int
    truth: bool

    def open(self) -> Callable[[int], Prepared | None]:
        """Return the function that prepares scene 0, 1, 2, ..."""
        first = self.scene(0)
        settings = Recent[Setting](1)

        def prepared(index: int) -> Prepared | None:
            scene = self.scene(index)
            if index and scene == first:
                return None
            setting = settings.get(setting_key(scene), lambda: Setting.of(scene))
            sent = not index or setting_key(scene) != setting_key(first)
            if sent:
                self._complete(setting)
            stage = Stage(scene, setting, None, company=(setting,))
            return Prepared.of(index, stage, setting if sent else None, truth=self.truth)

        return prepared

    def scene(self, index: int) -> Scene:
        """Scene `index`; raises ConfigError for one that no device makes."""
        scene = draw(self.phantom, self.seed, index)
        refuse_scene(scene, self.phantom.source)
        return scene

    def _complete(self, setting: Setting) -> None:
        """Make everything of a setting that the device asks for, so that it need not be made there."""
        _ = setting.plan.banks, setting.plan.pulse_rows, setting.power.field_strength
        _ = setting.noise.pulse_rows, setting.noise.deviation
        if self.truth:
            _ = setting.power.bank, setting.power.pulse_powers
