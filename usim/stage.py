"""One setting and one scene: everything that its looks share, from the engine's plan to the whole truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from usim.display import Screen
from usim.engines import calibrated, psf, sir_image, sir_sector
from usim.engines.calibrated import CalibratedPlan, CalibratedPower, ExactPower
from usim.engines.expect import Expectation, PowerPlan, Reference, expect, expect_cloud
from usim.engines.noise import NoisePlan
from usim.engines.pulse import MOST_LOSS_DB
from usim.engines.shading import Shading, shading
from usim.engines.sir_sector import SectorTwin, SectorTwinPower
from usim.errors import ConfigError, ResourceError
from usim.frame import Truth
from usim.phantom.cloud import mean_strength
from usim.phantom.fill import KURTOSIS, cell_echogenicity, cell_moments, draw_cloud, expected_per_depth
from usim.phantom.moving import draw_moving
from usim.phantom.schema import CloudFile, Scene
from usim.phantom.truth import densities, label_names
from usim.phantom.world import World
from usim.process import tgc_gain
from usim.scan import Sector
from usim.scatterers import Scatterers, joined
from usim.speckle import FLOOR_DB, Law
from usim.targets import Targets
from usim.transmit import FocusedScan

Array = NDArray[np.float64]
Image = NDArray[np.complex64]
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
        return SectorTwinPower(self.plan) if isinstance(self.plan, SectorTwin) else PowerPlan(self.plan)

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
        focus = scene.transmit.depth if focused else sum(scene.box[1]) / 2.0
        loss = scene.medium.alpha(scene.probe.center_frequency) * 2.0 * focus * 1e2
        if loss > MOST_LOSS_DB:
            raise ConfigError(
                f"medium.attenuation: echoes from {focus * 1e3:g} mm lose {loss:.0f} dB at the centre frequency, "
                f"at most {MOST_LOSS_DB:g} dB are allowed; lower the attenuation or the depth"
            )
        exact = scene.engine == "sir"
        make = calibrated.plan if exact or scene.psf == "calibrated" else psf.plan
        if exact and isinstance(scene.image, Sector):
            make = sir_sector.plan
        return cls(make(scene.probe, scene.transmit, scene.receive, scene.medium, scene.image), exact)

    def echo(self, scatterers: Scatterers, *, elevation: bool = True) -> Image:
        """IQ (Z, X) of scatterers by the scene's engine, before noise and TGC; elevation: see psf.run."""
        if isinstance(self.plan, SectorTwin):
            return self.plan.echo(scatterers, elevation=elevation)
        if not (self.exact and isinstance(self.plan, CalibratedPlan)):
            return psf.run(self.plan, scatterers, elevation=elevation)
        return np.complex64(self.plan.scale) * sir_image.run(self.plan.sir, scatterers)


class Streams(NamedTuple):
    """Random streams of one image: all images of a look share those of what scatters, and none the others."""

    scatterers: np.random.Generator
    roughness: np.random.Generator
    noise: np.random.Generator
    haze: np.random.Generator


@dataclass(frozen=True, eq=False)
class Stage:
    """Everything about one scene that its looks share: gains, points, densities and the whole truth.

    scene: its transmit aimed as this image's.  given: its cloud, where that is a file.  time: seconds, of the image.
    elevation: metres, of the image plane.  company: settings that image the same scatterers, its own among them; the
    first one's resolution cell counts the scatterers.
    """

    scene: Scene
    setting: Setting
    given: Scatterers | None
    time: float = 0.0
    elevation: float = 0.0
    company: tuple[Setting, ...] = ()

    @property
    def world(self) -> World:
        """The scene as it stands at this time."""
        return World(self.scene, self.time)

    def seen(self, scatterers: Scatterers) -> Scatterers:
        """Scatterers as they lie about this image plane."""
        if not self.elevation:
            return scatterers
        return Scatterers(scatterers.position - np.array([0.0, self.elevation, 0.0]), scatterers.amplitude)

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
        return Scatterers(self.world.move(self.given.position), self.given.amplitude / math.sqrt(strength))

    @cached_property
    def shading(self) -> Shading | None:
        """Shadow and enhancement by regions with an attenuation of their own; None without such regions."""
        if all(part.attenuation is None for region in self.scene.regions for part in region.parts):
            return None
        return shading(self.setting.plan.beam, self.world.attenuation, self.setting.plan.extent)

    def shaded(self, scatterers: Scatterers) -> Scatterers:
        """Scatterers as they are heard through the regions above them."""
        if self.shading is None:
            return scatterers
        return scatterers.weighted(self.shading(*self.setting.plan.geometry.to_beam(scatterers.x, scatterers.z)))

    @property
    def bare_cells(self) -> NDArray[np.float32]:
        """Echogenicity on the fine cells (R, J)."""
        return self._cells[0]

    @property
    def rarity(self) -> NDArray[np.float32] | None:
        """How many times fewer the scatterers of each fine cell (R, J) are than `scatterers` says; None if nowhere."""
        return self._cells[1]

    @cached_property
    def _cells(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        grid, geometry = self.setting.plan.grid, self.setting.plan.geometry
        if len(densities(self.scene)) == 1:
            return cell_echogenicity(self.world, grid.fine_x, grid.fine_z, geometry), None
        cells, fourth = cell_moments(self.world, grid.fine_x, grid.fine_z, geometry)
        return cells, np.divide(fourth, cells**2, out=np.ones_like(cells), where=cells > 0.0)

    @cached_property
    def field_cells(self) -> NDArray[np.float32]:
        """Echogenicity on the fine cells (R, J), as it is heard through the regions above it."""
        if self.shading is None:
            return self.bare_cells
        grid = self.setting.plan.grid
        return self.bare_cells * (self.shading.on_grid(grid.fine_x, grid.fine_z) ** 2).astype(np.float32)

    @cached_property
    def field_amplitude(self) -> NDArray[np.float32]:
        """Standard deviation of the `field` model's noise on the fine cells (R, J)."""
        return psf.field_amplitude(self.setting.plan, self.field_cells, self.setting.power.field_strength)

    @cached_property
    def expectation(self) -> Expectation:
        """Diffuse mean intensity and fourth cumulant of tissue and rough interfaces."""
        tissue = self.field_cells if self.cloud is None else self.shaded(self.seen(self.cloud))
        return self._expect(tissue, self.shaded(self.targets.rough) if self.is_rough else None)

    @cached_property
    def resolved(self) -> Array:
        """Mean intensity (Z, X) of the tissue alone as if nothing above it attenuated, over that of 0 dB tissue."""
        bare = self.expectation
        if self.shading is not None or self.is_rough:
            bare = self._expect(self.bare_cells if self.cloud is None else self.seen(self.cloud), fourth=False)
        return bare.mean / np.where(bare.tissue > 0.0, bare.tissue, np.inf)

    @property
    def is_rough(self) -> bool:
        """Whether interfaces have a diffuse part."""
        return bool(self.targets.rough.amplitude.any())

    def _expect(
        self, diffuse: NDArray[np.float32] | Scatterers, beside: Scatterers | None = None, *, fourth: bool = True
    ) -> Expectation:
        """What echogenicity on the fine cells (R, J), or a cloud, scatters on average, and scatterers beside it.

        fourth: whether anybody asks for the fourth cumulant.
        """
        plan, power = self.setting.plan, self.setting.power
        if isinstance(diffuse, Scatterers):
            return expect_cloud(power, joined(diffuse, beside) if beside else diffuse, fourth=fourth)
        margin = (len(plan.grid.fine_x) - len(power.cell_x)) // 2
        part = np.s_[margin : margin + len(power.row_z), margin : margin + len(power.cell_x)]
        cells = diffuse[part]
        square = None
        if fourth:
            square = cells**2 if self.rarity is None else cells**2 * self.rarity[part]
        return expect(power, cells, square, self.density, KURTOSIS[self.scene.scatterers.amplitude], beside)

    @cached_property
    def density(self) -> float:
        """3-D scatterers per m^3; per_cell = nu / 2 on axis at the focus. inf for the `field` model."""
        spec = self.scene.scatterers
        if isinstance(spec, CloudFile) or spec.model == "field":
            return math.inf
        setting = self._served[0]
        place = setting.reference
        thickness = _thickness(setting, np.array([place.depth]))[0]
        return spec.per_cell * KURTOSIS[spec.amplitude] / (place.cell * thickness)

    @property
    def _served(self) -> tuple[Setting, ...]:
        """The settings that the cloud is drawn for."""
        return self.company or (self.setting,)

    def scatterers(self, generator: np.random.Generator) -> Scatterers:
        """A draw of the scene's cloud, or the cloud that was given; amplitudes as this setting hears them."""
        if self.cloud is not None:
            return self.cloud
        depth, lateral, density, strength, slab = self.cloud_law
        geometry = self.setting.plan.geometry
        if self.scene.sequence and self.scene.sequence.motions:
            return draw_moving(self.world, depth, lateral, density, strength, slab, generator, geometry)
        return draw_cloud(self.scene, depth, lateral, density, strength, slab, generator, geometry)

    @cached_property
    def cloud_law(self) -> tuple[Array, tuple[Array, Array], Array, Array, Array | None]:
        """Depths (256,), and at each of them where scatterers lie (x0, x1), how densely, how strongly, and in which
        half-slab, as draw_cloud takes them; raises ResourceError for too many."""
        plans = [setting.plan for setting in self._served]
        reach = [plan.extent[1] for plan in plans]
        depth = np.geomspace(min(near for near, _ in reach), max(far for _, far in reach), 256)
        sides = [plan.lateral_extent(depth) for plan in plans]
        lateral = np.min([left for left, _ in sides], axis=0), np.max([right for _, right in sides], axis=0)
        if self.scene.scatterers.model == "volume":
            density, strength = np.full(256, self.density), np.ones(256)
            slab = np.max([plan.beam.elevation.half_slab(depth) for plan in plans], axis=0)
            if self.scene.sweep:
                slab = slab + self.scene.sweep.elevations[-1]
        else:
            strength, slab = self.setting.power.elevation_energies(depth)[0], None
            density = self.density * _thickness(self._served[0], depth)
        spread = max(densities(self.scene)) * density * self.setting.plan.geometry.spread(depth)
        expected = np.trapezoid(expected_per_depth(lateral, spread, slab), depth)
        if expected > MOST_SCATTERERS:
            raise ResourceError(
                f"scatterers: per_cell {self.scene.scatterers.per_cell:g} asks for {expected:.3g} scatterers, "
                f"at most {MOST_SCATTERERS:g} are allowed; lower per_cell or choose model: field"
            )
        return depth, lateral, density, strength, slab

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

    @property
    def amplification(self) -> Array:
        """Amplitude gain (Z, 1) from the engine's IQ to the image's scale: TGC, and 1 at 0 dB."""
        return np.sqrt(self.gain / self.scale)[:, None]

    @cached_property
    def noise_power(self) -> float:
        """Mean noise power before TGC; 0 without noise."""
        noise = self.scene.noise
        return 0.0 if noise is None else self.setting.reference.tissue * 10.0 ** (-noise.snr / 10.0)

    @cached_property
    def targets(self) -> Targets:
        """The echoes that the scene fixes."""
        return Targets(self.world, self.setting.power)

    @cached_property
    def fixed(self) -> Scatterers:
        """Everything that the scene fixes: points, wires, interfaces and reverberation, as they are heard here."""
        targets = self.targets
        reached = self.shaded(joined(self.seen(targets.points), targets.wires, targets.mirrors))
        return joined(reached, targets.repeats)

    @cached_property
    def coherent(self) -> Image | None:
        """Deterministic IQ (Z, X) of everything that the scene fixes, before TGC; None without such things."""
        return self.setting.echo(self.fixed) if len(self.fixed) else None

    @cached_property
    def haze_mean(self) -> Array:
        """Mean intensity (Z, X) of the haze, before TGC: as tissue of its level would have."""
        return self._haze(self.setting.plan.grid.z)[:, None] * self.setting.power.tissue

    def _haze(self, depth: Array) -> Array:
        """Echogenicity (D,), a power, of tissue that looks as bright as the haze."""
        haze = self.scene.haze
        level = 0.0 if haze is None else 10.0 ** (haze.level / 10.0)
        fade = math.inf if haze is None or haze.depth is None else haze.depth
        return level * np.exp(-np.maximum(depth, 0.0) / fade)

    @cached_property
    def haze_amplitude(self) -> NDArray[np.float32]:
        """Standard deviation of the haze's noise on the fine cells (R, J)."""
        grid = self.setting.plan.grid
        cells = np.broadcast_to(self.haze_cells, (len(grid.fine_z), len(grid.fine_x)))
        return psf.field_amplitude(self.setting.plan, cells, self.setting.power.field_strength)

    @property
    def haze_cells(self) -> NDArray[np.float32]:
        """Echogenicity (R, 1), on the fine rows, of tissue that looks as bright as the haze."""
        return self._haze(self.setting.plan.grid.fine_z)[:, None].astype(np.float32)

    def rough(self, generator: np.random.Generator) -> Scatterers:
        """A draw of the diffuse part of interfaces: heights over a cycle of phase, and random signs."""
        return roughened(self.shaded(self.targets.rough), self.setting.plan, generator)

    @cached_property
    def noise_mean(self) -> Array:
        """Mean power of noise and haze before TGC, (Z, X)."""
        heard = self.setting.noise.heard if self.noise_power else np.zeros(())
        noise = np.where(heard, self.noise_power, 0.0)
        noise = noise + self.haze_mean if self.scene.haze else noise
        return np.broadcast_to(noise, (len(self.setting.plan.grid.z), len(self.setting.plan.grid.x)))

    @cached_property
    def law(self) -> Law:
        """What the intensity of every pixel follows."""
        expected, fixed = self.expectation, self.coherent
        coherent = np.zeros((), np.complex128) if fixed is None else fixed.astype(np.complex128)
        return Law.amplified(expected.mean, self.noise_mean, coherent, expected.fourth, self.amplification)

    def scene_truth(self, x: Array, z: Array) -> dict[str, NDArray]:
        """Those truths that are the scene's alone, at places (x, z), metres, broadcast."""
        moved = {"displacement": self.world.displacement(x, z).astype(np.float32)} if self.scene.sequence else {}
        cover = self.world.cover(x, z)
        return {
            "echogenicity_db": cover.echogenicity_db().astype(np.float32),
            "labels": cover.labels(),
            **moved,
        }

    @cached_property
    def bmode(self) -> NDArray[np.float32]:
        """Expectation of the image (Z, X) in dB."""
        return self.law.bmode.astype(np.float32)

    @property
    def resolved_db(self) -> NDArray[np.float32]:
        """`resolved` (Z, X) in dB, at least FLOOR_DB."""
        return (10.0 * np.log10(np.maximum(self.resolved, 10.0 ** (FLOOR_DB / 10.0)))).astype(np.float32)

    @property
    def few_scatterers(self) -> NDArray[np.uint8]:
        """1 in pixels (Z, X) of fewer than FEW_SCATTERERS."""
        law = self.law
        diffuse = law.mean + law.noise
        few = (np.abs(law.fourth) > (2.0 / FEW_SCATTERERS) * diffuse**2) & (diffuse > 10.0 ** (FLOOR_DB / 10.0))
        return few.astype(np.uint8)

    @property
    def pixel_truth(self) -> dict[str, NDArray]:
        """`scene_truth` at the image's pixels, of a sector those of its lines."""
        grid = self.setting.plan.grid
        return self.scene_truth(*self.setting.plan.geometry.to_space(grid.x[None, :], grid.z[:, None]))

    @cached_property
    def truth(self) -> Truth:
        """The four truths, of a sector those of its lines."""
        return Truth(
            bmode=self.bmode,
            resolved_db=self.resolved_db,
            few_scatterers=self.few_scatterers,
            label_names=label_names(self.scene),
            **self.pixel_truth,
        )

    @cached_property
    def screen(self) -> Screen | None:
        """The scanner's display."""
        display = self.scene.display
        if display is None:
            return None
        return Screen.of(display, self.setting.plan.grid.z, averaged=isinstance(self.scene.image, Sector))

    @cached_property
    def shown(self) -> NDArray[np.float32] | None:
        """What the screen shows of this one image on average, (Z, X), in its units; None without one."""
        return None if self.screen is None else self.screen.mean(*self.law.moments)

    def iq(self, streams: Streams) -> tuple[Image, Scatterers | None]:
        """IQ (Z, X) after noise and TGC, 1 at 0 dB, and the cloud that was drawn; from these streams."""
        setting, cloud = self.setting, None
        if self.given is None and self.scene.scatterers.model == "field":
            iq = psf.run_field(setting.plan, self.field_amplitude, streams.scatterers)
        else:
            cloud = self.scatterers(streams.scatterers)
            whole = self.given is not None or self.scene.scatterers.model == "volume"
            iq = setting.echo(self.shaded(self.seen(cloud)), elevation=whole)
        if self.coherent is not None:
            iq = iq + self.coherent
        if self.is_rough:
            iq = iq + setting.echo(self.rough(streams.roughness))
        if self.scene.haze:
            iq = iq + psf.run_field(setting.plan, self.haze_amplitude, streams.haze)
        if self.noise_power:
            iq = iq + np.float32(math.sqrt(self.noise_power)) * setting.noise.draw(streams.noise)
        return iq * self.amplification.astype(np.float32), cloud


def roughened(mean: Scatterers, plan: psf.Plan, generator: np.random.Generator) -> Scatterers:
    """Scatterers of rms amplitudes `mean`, displaced along the beam over a cycle of phase, with random signs."""
    count, geometry = len(mean), plan.geometry
    height = plan.beam.wavelength * (generator.random(count) - 0.5) / 2.0
    angle = geometry.angle(geometry.to_beam(mean.x, mean.z)[0])
    position = mean.position + height[:, None] * np.stack([np.sin(angle), 0.0 * angle, np.cos(angle)], axis=1)
    return Scatterers(position, mean.amplitude * (2.0 * generator.integers(0, 2, count) - 1.0))


def _thickness(setting: Setting, depth: Array) -> Array:
    """Effective elevation thickness (integral |E|^2)^2 / integral |E|^4 (D,), metres."""
    second, fourth = setting.power.elevation_energies(depth)
    return second**2 / fourth
