"""From a phantom to a frame, top to bottom: draw, plan, scatter, image, noise, gain, envelope, dB, truth."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from usim.compounding import Compounded
from usim.display import Screen
from usim.engines.correlation import rho_between, rho_elevation
from usim.errors import ConfigError
from usim.frame import Axes, Frame, Polar, PolarAxes, Truth
from usim.phantom.cloud import load_cloud
from usim.phantom.draw import HAZE, NOISE, ROUGHNESS, SCATTERERS, addressed, draw
from usim.phantom.load import Phantom, load_phantom
from usim.phantom.schema import Scene
from usim.phantom.structure import Point, Wire
from usim.phantom.views import MOST_MEMBERS, View, aimed, members, shape_of, view_of
from usim.process import envelope, log_compress
from usim.scan import Sector
from usim.scan_convert import Conversion, conversion_of, picture_of, truth_of
from usim.scatterers import Scatterers
from usim.stage import Image, Setting, Stage, Streams

FIRST = View()
MOST_STAGES = 8  # truths that are kept while looks go over the times, slices or angles of one scene
Made = TypeVar("Made")


class Recent(Generic[Made]):
    """The values made last, each found again by a key that is compared."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[tuple[Any, Made]] = []

    def get(self, key: Any, make: Callable[[], Made]) -> Made:
        """The value of a key: kept, or made now."""
        found = next((kept for kept in self._kept if kept[0] == key), None)
        if found is None:
            del self._kept[self._most - 1 :]  # before another is made: they are large
            found = key, make()
            self._kept.insert(0, found)
        return found[1]


class Renderer:
    """Makes the frames of one phantom; plans and truths are kept as long as scenes stay the same.

    phantom: what load_phantom returns.  seed: replaces the phantom's own.
    """

    def __init__(self, phantom: Phantom, *, seed: int | None = None) -> None:
        self.phantom = phantom
        self.seed = phantom.seed if seed is None else seed
        shape = phantom.views
        several = max(shape.angle, MOST_MEMBERS if phantom.document.get("compound") else 1)
        self._settings = Recent[Setting](several)
        self._stages = Recent[Stage | Compounded](MOST_STAGES if shape.look > 1 or shape.angle > 1 else 1)
        self._pictures = Recent[Truth](MOST_STAGES if shape.look > 1 or shape.angle > 1 else 1)
        self._scenes = Recent[Scene](1)
        self._clouds = Recent[Scatterers | None](1)
        self._rhos = Recent[dict[str, Any]](1)
        self._greys: dict[tuple[int, View], tuple[Any, Any]] = {}

    def stage(self, index: int, view: View = FIRST) -> Stage | Compounded:
        """The stage of a view of scene `index`, whatever the look: one of the last again, where they are equal."""
        scene = self._scene(index)
        key = scene, view._replace(look=0)
        return self._stages.get(key, lambda: self._make(scene, view))

    def _scene(self, index: int) -> Scene:
        return self._scenes.get(index, lambda: draw(self.phantom, self.seed, index))

    def _make(self, scene: Scene, view: View) -> Stage | Compounded:
        if scene.compound is None:
            every = [aimed(scene, number) for number in range(shape_of(scene).angle)]
            return self._stage(view.angle, every, view)
        several = members(scene)
        return Compounded(tuple(self._stage(number, several, view) for number in range(len(several))))

    def _stage(self, number: int, company: Sequence[Scene], view: View) -> Stage:
        """The stage of scene `number` of those that share their scatterers."""
        settings = tuple(self._settings.get(setting_key(each), functools.partial(Setting.of, each)) for each in company)
        scene = company[number]
        given = self._clouds.get(scene.scatterers, lambda: load_cloud(self.phantom, scene))
        time = view.time / scene.sequence.rate if scene.sequence else 0.0
        elevation = scene.sweep.elevations[view.slice] if scene.sweep else 0.0
        return Stage(scene, settings[number], given, time, elevation, settings)

    def image(self, index: int, look: int = 0, *, slice: int = 0, angle: int = 0, time: int = 0) -> NDArray[np.float32]:
        """B-mode (Z, X) of a view of scene `index` in dB, without its truth, which costs as much again."""
        amplitude, converted = self._detect(index, View(look, slice, angle, time))[0], _conversion(self._scene(index))
        return log_compress(amplitude) if converted is None else picture_of(amplitude, converted)[0]

    def frame(self, number: int) -> Frame:
        """Frame `number` of the phantom's dataset, which holds all views of one scene after the other."""
        index, view = view_of(number, self.phantom.views)
        return self.render(index, **view._asdict())

    def render(self, index: int, look: int = 0, *, slice: int = 0, angle: int = 0, time: int = 0) -> Frame:
        """A view of scene `index`; another look redraws scatterers and noise of the same scene."""
        view = View(look, slice, angle, time)
        stage = self.stage(index, view)
        amplitude, iq, cloud = self._detect(index, view)
        first = stage.members[0] if isinstance(stage, Compounded) else stage
        grid, scene = first.setting.plan.grid, self._scene(index)
        place = {"seed": self.seed, "index": index, **view._asdict()}
        frame = Frame(
            bmode=log_compress(amplitude),
            envelope=amplitude,
            iq=iq,
            truth=_copy(stage.truth),
            axes=Axes(grid.x.copy(), grid.z.copy()),
            params=_params(scene, first, place | self._rhos.get(scene, lambda: _correlation(scene, first))),
            scatterers=cloud,
        )
        converted = _conversion(scene)
        if converted is not None:
            x, z = converted.x[None, :], converted.z[:, None]
            truth = self._pictures.get(
                (scene, view._replace(look=0)), lambda: truth_of(stage.truth, converted, **first.scene_truth(x, z))
            )
            frame = _pictured(frame, scene, _copy(truth), converted)
        if stage.screen is None:
            return frame
        shown, average = self._shown(index, view, amplitude, stage.screen)
        return replace(frame, display=shown, truth=replace(frame.truth, display=average))

    def _shown(self, index: int, view: View, amplitude: NDArray[np.float32], screen: Screen) -> tuple[Any, Any]:
        """What the scanner shows of a view, and its expectation, (Z, X).

        Persistence averages the images of this time and of those before it, which are made where they are not kept.
        A sector's greys are those of its lines, converted to pixels before they are rounded.
        """
        self._greys[index, view] = self._grey(index, view, amplitude)
        first = max(0, view.time + 1 - screen.display.persistence)
        window = [(index, view._replace(time=time)) for time in range(first, view.time + 1)]
        self._greys = {place: self._greys.get(place) or self._grey(*place) for place in window}
        grey, average = (np.mean(part, axis=0, dtype=np.float32) for part in zip(*self._greys.values(), strict=True))
        converted = _conversion(self._scene(index))
        if converted is not None:
            grey, average = converted.linear(grey, 0.0), converted.linear(average, 0.0)
        return screen.rounded(grey), average

    def _grey(self, index: int, view: View, amplitude: NDArray[np.float32] | None = None) -> tuple[Any, Any]:
        """Grey of a view, not rounded, and what the screen shows on average."""
        stage = self.stage(index, view)
        assert stage.screen is not None
        seen = self._detect(index, view)[0] if amplitude is None else amplitude
        return stage.screen.grey(seen.astype(np.float64) ** 2).astype(np.float32), stage.shown

    def _detect(self, index: int, view: View) -> tuple[NDArray[np.float32], Image | None, Scatterers | None]:
        """Envelope (Z, X), 1 at 0 dB, IQ unless compounded, and the cloud that was drawn."""
        stage = self.stage(index, view)
        if isinstance(stage, Stage):
            iq, cloud = stage.iq(self._streams(index, view))
            return envelope(iq), iq, cloud
        several = [member.iq(self._streams(index, view, number)) for number, member in enumerate(stage.members)]
        return stage.detect([iq for iq, _ in several]), None, several[0][1]

    def _streams(self, index: int, view: View, member: int = 0) -> Streams:
        """Random streams of an image; `member` of a compounded one."""
        place = (*view[1:], member)
        rest = place if any(place) else ()
        shared = [addressed(self.seed, index, purpose, view.look) for purpose in (SCATTERERS, ROUGHNESS)]
        return Streams(*shared, *(addressed(self.seed, index, purpose, view.look, *rest) for purpose in (NOISE, HAZE)))


def simulate(
    phantom: Phantom | str | Path,
    *,
    seed: int | None = None,
    index: int = 0,
    look: int = 0,
    slice: int = 0,
    angle: int = 0,
    time: int = 0,
) -> Frame:
    """Simulate one frame of a phantom.

    phantom: what load_phantom returns, or a path or name for it.  seed: replaces the phantom's own.  index: which
    scene. look: which independent draw of scatterers and noise of that scene.  slice, angle, time: which elevation
    slice, steering angle and step of time, where the phantom has several.
    Returns a Frame with arrays (Z, X); raises ConfigError, DataError or ResourceError.

    >>> frame = simulate("uniform")  # doctest: +SKIP
    """
    if isinstance(phantom, (str, Path)):
        phantom = load_phantom(phantom)
    view = View(look, slice, angle, time)
    for name, number, count in zip(View._fields[1:], view[1:], phantom.views[1:], strict=True):
        if not 0 <= number < count:
            raise ConfigError(f"{name}: {number}; {phantom.source} has {count}, numbered from 0")
    return Renderer(phantom, seed=seed).render(index, **view._asdict())


def _copy(truth: Truth) -> Truth:
    """Arrays of the frame's own: frames of one scene share a stage, and users normalise in place."""
    arrays = {f.name: getattr(truth, f.name) for f in fields(Truth)}
    return replace(truth, **{name: value.copy() for name, value in arrays.items() if isinstance(value, np.ndarray)})


def _conversion(scene: Scene) -> Conversion | None:
    """How the lines of a sector become a picture; None for linear scans."""
    return conversion_of(scene.image, scene.probe.radius or 0.0) if isinstance(scene.image, Sector) else None


def _pictured(lines: Frame, scene: Scene, truth: Truth, converted: Conversion) -> Frame:
    """A sector's frame from that of its lines, which it keeps."""
    axes = PolarAxes(scene.image.range_axis(), scene.image.angle_axis())
    bmode, amplitude = picture_of(lines.envelope, converted)
    return replace(
        lines,
        bmode=bmode,
        envelope=amplitude,
        iq=None,
        truth=truth,
        axes=Axes(converted.x.copy(), converted.z.copy()),
        polar=Polar(lines.bmode, lines.envelope, lines.iq, lines.truth, axes),
    )


def setting_key(scene: Scene) -> tuple[Any, ...]:
    """What decides the setting of a scene."""
    return scene.probe, scene.transmit, scene.receive, scene.medium, scene.image, scene.engine, scene.psf


def _params(scene: Scene, stage: Stage, also: dict[str, Any]) -> dict[str, Any]:
    """Everything that was drawn and derived, as plain JSON data; stage: that of the image, or its first member."""
    place = stage.setting.reference
    return {
        "scene": scene.model_dump(mode="json"),
        "points": _placed(scene.points, stage.targets.points),
        "wires": _placed(scene.wires, stage.targets.wires),
        "interfaces": [{"name": i.name, "path": i.path, "amplitude_db": i.amplitude} for i in scene.interfaces],
        "reference": {
            "depth": place.depth,
            "headroom_db": scene.image.headroom,
            "cell_area": place.cell,
            "zero_db_power": stage.scale,
        },
        "noise_power": stage.noise_power,
        **({"seconds": stage.time} if scene.sequence else {}),
        "truth_is": "E[20 log10(envelope)]: the target of squared error on dB images",
        **also,
    }


def _placed(targets: Sequence[Point | Wire], scatterers: Scatterers) -> list[dict[str, Any]]:
    """Name, place and amplitudes of point targets or wires, as plain JSON data."""
    return [
        {
            "name": target.name,
            "position": [float(scatterers.x[i]), float(scatterers.z[i])],
            "amplitude_db": target.amplitude,
            "scattering_amplitude": float(scatterers.amplitude[i]),
        }
        for i, target in enumerate(targets)
    ]


def _correlation(scene: Scene, stage: Stage) -> dict[str, Any]:
    """Modulus of the field correlation at the reference depth, between all images of the same scatterers."""
    depth, beam = stage.setting.reference.depth, stage.setting.plan.beam
    rho: dict[str, Any] = {}
    if scene.sweep:
        along = rho_elevation(beam, scene.sweep.step, scene.sweep.slices, depth, exact=stage.setting.exact)
        rho["slices"] = np.abs(along).tolist()
    beams = tuple(setting.plan.beam for setting in stage.company)
    if len(beams) > 1:
        rho["members" if scene.compound else "angles"] = np.abs(rho_between(beams, depth)).tolist()
    return {"rho": rho} if rho else {}
