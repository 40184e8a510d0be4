"""From a phantom to a frame, top to bottom: draw, plan, scatter, image, noise, gain, envelope, dB, truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.engines import calibrated, psf, sir_image
from usim.engines.calibrated import CalibratedPlan, CalibratedPower, ExactPower
from usim.engines.expect import Expectation, PowerPlan, Reference, expect, expect_cloud
from usim.engines.noise import NoisePlan
from usim.engines.pulse import MOST_LOSS_DB
from usim.errors import ConfigError, ResourceError
from usim.frame import Axes, Frame, Truth
from usim.phantom.cloud import load_cloud, mean_strength
from usim.phantom.draw import NOISE, SCATTERERS, draw, substream
from usim.phantom.fill import KURTOSIS, cell_echogenicity, draw_cloud, expected_per_depth
from usim.phantom.load import Phantom, load_phantom
from usim.phantom.schema import CloudFile, Scene
from usim.phantom.truth import echogenicity_db_at, label_at, label_names
from usim.process import envelope, log_compress, tgc_gain
from usim.scatterers import Scatterers
from usim.speckle import FLOOR_DB, mean_bmode
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
FEW_SCATTERERS = 5.0  # below this nu the truth is good to 0.3 dB, above to 0.05 dB
MOST_SCATTERERS = 30_000_000  # some 8 GB while they are drawn and imaged, 270 bytes each


@dataclass(frozen=True, eq=False)
class Setting:
    """What frames share that have the same engine, probe, medium, transmit, receive and image.

    exact: whether images are made by the exact engine; `plan` then makes their truth.
    """

    plan: psf.Plan
    exact: bool = False

    @cached_property
    def power(self) -> PowerPlan:
        """The incoherent twin of the plan."""
        if isinstance(self.plan, CalibratedPlan):
            return ExactPower(self.plan) if self.exact else CalibratedPower(self.plan)
        return PowerPlan(self.plan)

    @cached_property
    def noise(self) -> NoisePlan:
        """How the receive chain colours noise."""
        return NoisePlan(self.plan)

    @cached_property
    def reference(self) -> Reference:
        """Where dB and scatterer numbers are tied."""
        return self.power.reference

    @cached_property
    def axis_tissue(self) -> Array:
        """Mean intensity of tissue with depth (Z,), in the column nearest to the array's axis."""
        return self.power.tissue[:, np.argmin(np.abs(self.plan.grid.x))]

    @classmethod
    def of(cls, scene: Scene) -> Setting:
        """The setting of a scene; raises ConfigError where no echo comes back from the reference depth."""
        focused = isinstance(scene.transmit, FocusedScan)
        focus = scene.transmit.depth if focused else sum(scene.image.z) / 2.0
        loss = scene.medium.alpha(scene.probe.center_frequency) * 2.0 * focus * 1e2
        if loss > MOST_LOSS_DB:
            raise ConfigError(
                f"medium.attenuation: echoes from {focus * 1e3:g} mm lose {loss:.0f} dB at the centre frequency, "
                f"at most {MOST_LOSS_DB:g} dB are allowed; lower the attenuation or the depth"
            )
        exact = scene.engine == "sir"
        make = calibrated.plan if exact or scene.psf == "calibrated" else psf.plan
        return cls(make(scene.probe, scene.transmit, scene.receive, scene.medium, scene.image), exact)

    def echo(self, scatterers: Scatterers, *, elevation: bool = True) -> NDArray[np.complex64]:
        """IQ (Z, X) of scatterers by the scene's engine, before noise and TGC; elevation: see psf.run."""
        if not (self.exact and isinstance(self.plan, CalibratedPlan)):
            return psf.run(self.plan, scatterers, elevation=elevation)
        return np.complex64(self.plan.scale) * sir_image.run(self.plan.sir, scatterers)


@dataclass(frozen=True, eq=False)
class Stage:
    """Everything about one scene that its looks share: gains, points, densities and the whole truth."""

    scene: Scene
    setting: Setting
    given: Scatterers | None

    @cached_property
    def cloud(self) -> Scatterers | None:
        """The cloud that was given, its amplitudes scaled so that its mean strength is that of 0 dB tissue."""
        if self.given is None:
            return None
        strength, flat = mean_strength(self.given)
        if flat:
            at_focus = np.array([self.setting.reference.depth])
            plan, y = self.setting.plan, self.given.y[:1]
            strength *= float(np.abs(plan.elevation(y, at_focus)[0]) ** 2)
            strength /= float(self.setting.power.elevation_energies(at_focus)[0][0])
        return Scatterers(self.given.position, self.given.amplitude / math.sqrt(strength))

    @cached_property
    def field_cells(self) -> NDArray[np.float32]:
        """Echogenicity on the fine cells (R, J)."""
        grid = self.setting.plan.grid
        return cell_echogenicity(self.scene, grid.fine_x, grid.fine_z)

    @cached_property
    def field_amplitude(self) -> NDArray[np.float32]:
        """Standard deviation of the `field` model's noise on the fine cells (R, J)."""
        return psf.field_amplitude(self.setting.plan, self.field_cells, self.setting.power.field_strength)

    @cached_property
    def expectation(self) -> Expectation:
        """Diffuse mean intensity and fourth cumulant."""
        if self.cloud is not None:
            return expect_cloud(self.setting.power, self.cloud)
        plan, power = self.setting.plan, self.setting.power
        margin = (len(plan.grid.fine_x) - len(power.cell_x)) // 2
        cells = self.field_cells[margin : margin + len(power.row_z), margin : margin + len(power.cell_x)]
        return expect(power, cells, self.density, KURTOSIS[self.scene.scatterers.amplitude])

    @cached_property
    def density(self) -> float:
        """3-D scatterers per m^3; per_cell = nu / 2 on axis at the focus. inf for the `field` model."""
        spec = self.scene.scatterers
        if isinstance(spec, CloudFile) or spec.model == "field":
            return math.inf
        place = self.setting.reference
        thickness = self._thickness(np.array([place.depth]))[0]
        return spec.per_cell * KURTOSIS[spec.amplitude] / (place.cell * thickness)

    def _thickness(self, depth: Array) -> Array:
        """Effective elevation thickness (integral |E|^2)^2 / integral |E|^4 (D,), metres."""
        second, fourth = self.setting.power.elevation_energies(depth)
        return second**2 / fourth

    def scatterers(self, generator: np.random.Generator) -> Scatterers:
        """A draw of the scene's cloud, or the cloud that was given."""
        if self.cloud is not None:
            return self.cloud
        plan = self.setting.plan
        depth = np.geomspace(*plan.extent[1], 256)
        lateral = plan.lateral_extent(depth)
        if self.scene.scatterers.model == "volume":
            density, strength, slab = np.full(256, self.density), np.ones(256), plan.beam.elevation.half_slab(depth)
        else:
            strength, slab = self.setting.power.elevation_energies(depth)[0], None
            density = self.density * self._thickness(depth)
        expected = np.trapezoid(expected_per_depth(lateral, density, slab), depth)
        if expected > MOST_SCATTERERS:
            raise ResourceError(
                f"scatterers: per_cell {self.scene.scatterers.per_cell:g} asks for {expected:.3g} scatterers, "
                f"at most {MOST_SCATTERERS:g} are allowed; lower per_cell or choose model: field"
            )
        return draw_cloud(self.scene, depth, lateral, density, strength, slab, generator)

    @cached_property
    def gain(self) -> Array:
        """TGC as a power gain (Z,)."""
        setting = self.setting
        return tgc_gain(self.scene.tgc, setting.plan.grid.z, setting.axis_tissue, setting.reference.tissue)

    @cached_property
    def scale(self) -> float:
        """Power after TGC that is 0 dB in the image: tissue at the reference place plus the headroom."""
        place = self.setting.reference
        at_focus = np.array([place.depth])
        gain = tgc_gain(self.scene.tgc, at_focus, np.array([place.tissue]), place.tissue)[0]
        return place.tissue * gain * 10.0 ** (self.scene.image.headroom / 10.0)

    @cached_property
    def noise_power(self) -> float:
        """Mean noise power before TGC; 0 without noise."""
        noise = self.scene.noise
        return 0.0 if noise is None else self.setting.reference.tissue * 10.0 ** (-noise.snr / 10.0)

    @cached_property
    def points(self) -> Scatterers:
        """The point targets as scatterers: peak intensity over the mean of 0 dB tissue at their place."""
        points = self.scene.points
        position = np.array([(p.position[0], 0.0, p.position[1]) for p in points]).reshape(-1, 3)
        level = np.array([p.amplitude for p in points])
        tissue, peak = self.setting.power.at(position[:, 0], position[:, 2])
        amplitude = np.sqrt(10.0 ** (level / 10.0) * tissue / np.where(peak > 0.0, peak, np.inf))
        return Scatterers(position, amplitude)

    @cached_property
    def coherent(self) -> NDArray[np.complex64] | None:
        """Deterministic IQ (Z, X) of the points, before TGC; None without points."""
        return self.setting.echo(self.points) if self.scene.points else None

    @cached_property
    def truth(self) -> Truth:
        """The four truths."""
        expected, grid = self.expectation, self.setting.plan.grid
        gain = (self.gain / self.scale)[:, None]
        noise = np.where(self.setting.noise.heard, self.noise_power, 0.0) if self.noise_power else 0.0
        diffuse = (expected.mean + noise) * gain
        fourth = expected.fourth * gain**2
        fixed = (
            np.zeros_like(diffuse) if self.coherent is None else np.abs(self.coherent.astype(np.complex128)) ** 2 * gain
        )
        few = (np.abs(fourth) > (2.0 / FEW_SCATTERERS) * diffuse**2) & (diffuse > 10.0 ** (FLOOR_DB / 10.0))
        ratio = expected.mean / np.where(expected.tissue > 0.0, expected.tissue, np.inf)
        resolved = 10.0 * np.log10(np.maximum(ratio, 10.0 ** (FLOOR_DB / 10.0)))
        x, z = grid.x[None, :], grid.z[:, None]
        return Truth(
            bmode=mean_bmode(diffuse, fixed, fourth).astype(np.float32),
            resolved_db=resolved.astype(np.float32),
            echogenicity_db=echogenicity_db_at(self.scene, x, z).astype(np.float32),
            labels=label_at(self.scene, x, z),
            few_scatterers=few.astype(np.uint8),
            label_names=label_names(self.scene),
        )


class Renderer:
    """Makes the frames of one phantom; plans and truths are kept as long as scenes stay the same.

    phantom: what load_phantom returns.  seed: replaces the phantom's own.
    """

    def __init__(self, phantom: Phantom, *, seed: int | None = None) -> None:
        self.phantom = phantom
        self.seed = phantom.seed if seed is None else seed
        self._stage: Stage | None = None

    def stage(self, index: int) -> Stage:
        """The stage of frame `index`: the last one again, or its setting, where they are equal."""
        scene = draw(self.phantom, self.seed, index)
        last = self._stage
        if last is not None and last.scene == scene:
            return last
        setting = (
            last.setting if last is not None and _setting_key(last.scene) == _setting_key(scene) else Setting.of(scene)
        )
        self._stage = Stage(scene, setting, load_cloud(self.phantom, scene))
        return self._stage

    def image(self, index: int, look: int = 0) -> NDArray[np.float32]:
        """B-mode (Z, X) of frame `index` in dB, without its truth, which costs as much again."""
        return log_compress(envelope(self._iq(self.stage(index), index, look)[0]))

    def render(self, index: int, look: int = 0) -> Frame:
        """Frame `index`; another look redraws scatterers and noise of the same scene."""
        stage = self.stage(index)
        iq, cloud = self._iq(stage, index, look)
        amplitude = envelope(iq)
        grid = stage.setting.plan.grid
        return Frame(
            bmode=log_compress(amplitude),
            envelope=amplitude,
            iq=iq,
            truth=_copy(stage.truth),
            axes=Axes(grid.x.copy(), grid.z.copy()),
            params=_params(stage, self.seed, index, look),
            scatterers=cloud,
        )

    def _iq(self, stage: Stage, index: int, look: int) -> tuple[NDArray[np.complex64], Scatterers | None]:
        """IQ (Z, X) after noise and TGC, 1 at 0 dB, and the cloud that was drawn."""
        scene, setting = stage.scene, stage.setting
        generator = substream(self.seed, index, SCATTERERS, look)
        cloud = None
        if stage.given is None and scene.scatterers.model == "field":
            iq = psf.run_field(setting.plan, stage.field_amplitude, generator)
        else:
            cloud = stage.scatterers(generator)
            whole = stage.given is not None or scene.scatterers.model == "volume"
            iq = setting.echo(cloud, elevation=whole)
        if stage.coherent is not None:
            iq = iq + stage.coherent
        if stage.noise_power:
            noise = setting.noise.draw(substream(self.seed, index, NOISE, look))
            iq = iq + np.float32(math.sqrt(stage.noise_power)) * noise
        return iq * np.sqrt(stage.gain / stage.scale).astype(np.float32)[:, None], cloud


def simulate(phantom: Phantom | str | Path, *, seed: int | None = None, index: int = 0, look: int = 0) -> Frame:
    """Simulate one frame of a phantom.

    phantom: what load_phantom returns, or a path or name for it.  seed: replaces the phantom's own.  index: which
    scene. look: which independent draw of scatterers and noise of that scene.
    Returns a Frame with arrays (Z, X); raises ConfigError, DataError or ResourceError.

    >>> frame = simulate("uniform")  # doctest: +SKIP
    """
    if isinstance(phantom, (str, Path)):
        phantom = load_phantom(phantom)
    return Renderer(phantom, seed=seed).render(index, look)


def _copy(truth: Truth) -> Truth:
    """Arrays of the frame's own: frames of one scene share a stage, and users normalise in place."""
    return replace(truth, **{f.name: getattr(truth, f.name).copy() for f in fields(Truth) if f.name != "label_names"})


def _setting_key(scene: Scene) -> tuple[Any, ...]:
    return scene.probe, scene.transmit, scene.receive, scene.medium, scene.image, scene.engine, scene.psf


def _params(stage: Stage, seed: int, index: int, look: int) -> dict[str, Any]:
    """Everything that was drawn and derived, as plain JSON data."""
    scene, place = stage.scene, stage.setting.reference
    points = [
        {
            "name": point.name,
            "position": list(point.position),
            "amplitude_db": point.amplitude,
            "scattering_amplitude": float(a),
        }
        for point, a in zip(scene.points, stage.points.amplitude if scene.points else (), strict=True)
    ]
    return {
        "scene": scene.model_dump(mode="json"),
        "seed": seed,
        "index": index,
        "look": look,
        "points": points,
        "reference": {
            "depth": place.depth,
            "headroom_db": scene.image.headroom,
            "cell_area": place.cell,
            "zero_db_power": stage.scale,
        },
        "noise_power": stage.noise_power,
        "truth_is": "E[20 log10(envelope)]: the target of squared error on dB images",
    }
