"""Batches of images on a device: the CPU draws scenes and samples them on cells, the device does everything after.

    draw, plan, cells (CPU) -> field or cloud, fixed echoes, haze, noise, gain, envelope, dB, display, truth (device)

The formulas are those of stage.py, over tensors. What is random in the images comes from the device's own generator, so
they are other looks at the same scenes than those of usim.simulate; the truth is the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from usim import _cloud_torch
from usim.engines import psf
from usim.engines.psf_device import DeviceNoise, DevicePlan, DevicePower, device_of
from usim.errors import ConfigError
from usim.feed import Feed
from usim.phantom import ranges
from usim.phantom.draw import ROUGHNESS, addressed
from usim.phantom.load import Phantom
from usim.pipeline import Recent
from usim.prepared import Prepared, Scenes
from usim.process import envelope, log_compress
from usim.scatterers import Scatterers
from usim.speckle import Law
from usim.stage import Setting, roughened

#: Random streams of batches, beside those of phantom/draw.py.
_BATCH = 7
#: What decides a plan, by keys of a phantom's document.
_PLANNED = ("probe", "transmit", "receive", "medium", "image", "engine", "psf", "speckle")
#: Settings other than that of scene 0 that stay on the device: the matrices of one take up to two gigabytes.
_KEPT = 1
#: Scenes that each worker prepares ahead: with a plan of its own, one takes up to 90 MB of shared memory.
_AHEAD = 2


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of S scenes, L looks at each, (Z, X) pixels, as tensors of the device.

    number: 0, 1, 2, ...; it holds the scenes number * S and on.  bmode: (S, L, Z, X) float32 dB, 0 dB as full scale.
    truth: (S, Z, X) float32 dB, the images with the speckle taken out; None when it was not asked for.
    display: (S, L, Z, X) what the scanner shows, uint8 or float32; None without a display.
    display_truth: (S, Z, X) float32, what it shows on average; None without a display or truth.
    dynamic_range: (S,) dB between black and white.  seed: what the device's generator was started with.
    """

    number: int
    bmode: Tensor
    truth: Tensor | None
    display: Tensor | None
    display_truth: Tensor | None
    dynamic_range: tuple[float, ...]
    seed: int


class _Images(NamedTuple):
    """Envelope (L, Z, X) of a scene, 1 at 0 dB, and the law of each look, (Z, X)."""

    envelope: Tensor
    law: Law | None


@dataclass(frozen=True, eq=False)
class _Engine:
    """A setting on a device."""

    setting: Setting
    device: Any
    captured: bool

    @cached_property
    def plan(self) -> DevicePlan:
        return DevicePlan.of(self.setting.plan, self.device, captured=self.captured)

    @cached_property
    def noise(self) -> DeviceNoise:
        return DeviceNoise.of(self.setting.noise, self.device)

    @cached_property
    def power(self) -> DevicePower:
        return DevicePower.of(self.setting.power, self.device)

    @cached_property
    def _weights(self) -> tuple[Tensor, Tensor | None]:
        power, lit = psf.field_weights(self.setting.plan, self.setting.power.field_strength)
        return self.tensor(power), None if lit is None else self.tensor(lit)

    def tensor(self, values: Any) -> Tensor:
        """Values on the device."""
        return torch.as_tensor(np.ascontiguousarray(values), device=self.device)

    def stacked(self, values: Sequence[NDArray[Any]]) -> Tensor:
        """Arrays of scenes as one tensor (B, ...); one that scenes share is moved once."""
        moved = {id(value): self.tensor(value) for value in values}
        return torch.stack([moved[id(value)] for value in values])

    def known(self, values: Sequence[NDArray[Any] | None], missing: float) -> Tensor | None:
        """The same, `missing` for those that are None; None when all are."""
        first = next((value for value in values if value is not None), None)
        if first is None:
            return None
        blank = np.full_like(first, missing)
        return self.stacked([blank if value is None else value for value in values])

    def diffuse(self, scenes: Sequence[Prepared], cells: Tensor, looks: int, generator: Generator) -> Tensor:
        """IQ (B, L, Z, X) of the tissue."""
        if scenes[0].cloud is None:
            return self.plan.run_field(psf.field_deviation(cells, *self._weights), generator, looks)
        grid = self.setting.plan.grid
        lattice = (grid.fine_x[0], grid.fine_z[0], grid.step[0], grid.step[1] / 2.0)
        law, rarity = self.known([p.cloud for p in scenes], 0.0), self.known([p.rarity for p in scenes], 1.0)
        most, lit = self.tensor([p.densest for p in scenes]), self._weights[1]
        heard = cells if lit is None else cells * lit**2
        cloud = _cloud_torch.draw_clouds(law, most, heard, rarity, lattice, looks, scenes[0].amplitudes, generator)
        return self.plan.run_padded(*cloud).unflatten(0, (len(scenes), looks))

    def haze(self, scenes: Sequence[Prepared], looks: int, generator: Generator) -> Tensor | None:
        """IQ (B, L, Z, X) of the haze; None without one."""
        rows = self.known([p.haze for p in scenes], 0.0)
        if rows is None:
            return None
        cells = rows.expand(-1, -1, len(self.setting.plan.grid.fine_x))
        return self.plan.run_field(psf.field_deviation(cells, *self._weights), generator, looks)

    def echoes(self, clouds: Sequence[Scatterers]) -> Tensor | None:
        """IQ (B, Z, X) of a cloud for each image; None where all are empty."""
        return self.plan.run(clouds) if any(map(len, clouds)) else None

    def expectation(self, scenes: Sequence[Prepared], cells: Tensor) -> tuple[Tensor, Tensor]:
        """Diffuse mean intensity and fourth cumulant (B, Z, X)."""
        plan, power = self.setting.plan, self.setting.power
        margin = (len(plan.grid.fine_x) - len(power.cell_x)) // 2
        part = np.s_[:, margin : margin + len(power.row_z), margin : margin + len(power.cell_x)]
        inner, beside = cells[part], self.known([p.beside for p in scenes], 0.0)
        if scenes[0].cloud is None:
            mean, _ = self.power.expect(inner, beside=beside)
            return mean, torch.zeros_like(mean)
        rarity = self.known([p.rarity for p in scenes], 1.0)
        square = inner**2 if rarity is None else inner**2 * rarity[part]
        return self.power.expect(inner, square, self.tensor([p.fourth for p in scenes]), beside)  # type: ignore[return-value]


class Batches:
    """Batches of a phantom's scenes without end, in order; a context that ends its workers. See usim.batches.

    start: number of the first batch.  waited: seconds until batches were there, the device's work included.
    """

    def __init__(
        self, phantom: Phantom, *, device: str = "cpu", seed: int | None = None, scenes: int = 16, looks: int = 1,
        truth: bool = True, workers: int = 0, start: int = 0,
    ) -> None:  # fmt: skip
        for name, value in (("scenes", scenes), ("looks", looks)):
            if value < 1:
                raise ConfigError(f"{name}: {value} of them make no batch; choose 1 or more")
        self.phantom, self.device = phantom, device_of(device)
        self.seed = phantom.seed if seed is None else seed
        self._scenes, self._looks, self._truth, self._number = scenes, looks, truth, start
        source = Scenes(phantom, self.seed, truth)
        first = source.open()(0)
        assert first is not None
        assert first.setting is not None
        self._first = first
        fixed = not any(next(ranges.find(phantom.document.get(key)), None) for key in _PLANNED)
        self._home = _Engine(first.setting, self.device, fixed and self.device.type == "cuda")
        self._engines = Recent[_Engine](_KEPT)
        self._feed = Feed(source, start=start * scenes, workers=workers, ahead=_AHEAD)
        self.waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: Any) -> None:
        self._feed.__exit__(*error)

    def close(self) -> None:
        """End the workers."""
        self._feed.close()

    def __next__(self) -> Batch:
        self._settle()  # what the device does for others is no waiting
        began, first = time.perf_counter(), self._number * self._scenes
        found = [next(self._feed) or replace(self._first, index=first + k) for k in range(self._scenes)]
        batch = self._render(found)
        self._number += 1
        self._settle()
        self.waited += time.perf_counter() - began
        return batch

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @torch.no_grad()
    def _render(self, found: list[Prepared]) -> Batch:
        words = np.random.SeedSequence(self.seed, spawn_key=(self._number, _BATCH)).generate_state(1, np.uint64)
        seed = int(words[0] >> np.uint64(1))
        generator = torch.Generator(self.device).manual_seed(seed)
        made: dict[int, _Images] = {}
        for places in _alike(found):
            group = [found[place] for place in places]
            made.update(zip(places, self._images(group, generator), strict=True))
        images = [made[place] for place in range(len(found))]
        screened = [(p.screen, one) for p, one in zip(found, images, strict=True) if p.screen]  # all of them or none
        shown = [screen.show(one.envelope.double() ** 2) for screen, one in screened]
        average = [screen.mean(*one.law.moments) for screen, one in screened if one.law]
        return Batch(
            number=self._number,
            bmode=log_compress(torch.stack([one.envelope for one in images])),
            truth=torch.stack([one.law.bmode.float() for one in images if one.law]) if self._truth else None,
            display=torch.stack(shown) if shown else None,
            display_truth=torch.stack(average) if average else None,
            dynamic_range=tuple(p.dynamic_range for p in found),
            seed=seed,
        )

    def _images(self, group: list[Prepared], generator: Generator) -> Iterator[_Images]:
        """The images of scenes of one setting."""
        engine, looks, shape = self._engine(group[0]), self._looks, (len(group), self._looks)
        cells = engine.stacked([p.cells for p in group])
        iq = engine.diffuse(group, cells, looks, generator)
        fixed = engine.echoes([p.fixed for p in group])
        if fixed is not None:
            iq = iq + fixed[:, None]
        rough = self._rough(engine, group)
        if rough is not None:
            iq = iq + rough
        haze = engine.haze(group, looks, generator)
        if haze is not None:
            iq = iq + haze
        if any(p.noise for p in group):
            root = engine.tensor([np.float32(p.noise**0.5) for p in group])
            noise = engine.noise.draw(generator, shape[0] * shape[1]).unflatten(0, shape)
            iq = iq + root[:, None, None, None] * noise
        gain = engine.stacked([p.gain for p in group])
        seen = envelope(iq * gain[:, None].float())
        if not self._truth:
            return (_Images(one, None) for one in seen)
        mean, fourth = engine.expectation(group, cells)
        noise_mean = engine.stacked([p.noise_mean for p in group])
        coherent = torch.zeros_like(mean) if fixed is None else fixed.to(torch.complex128)
        parts = zip(seen, mean, noise_mean, coherent, fourth, gain, strict=True)
        return (_Images(one, Law.amplified(*law)) for one, *law in parts)

    def _rough(self, engine: _Engine, group: list[Prepared]) -> Tensor | None:
        """IQ (B, L, Z, X) of the diffuse part of interfaces; None without any."""
        if not any(len(p.rough) for p in group):
            return None
        streams = [(p, addressed(self.seed, p.index, ROUGHNESS, look)) for p in group for look in range(self._looks)]
        found = engine.echoes([roughened(p.rough, engine.setting.plan, stream) for p, stream in streams])
        return None if found is None else found.unflatten(0, (len(group), self._looks))

    def _engine(self, one: Prepared) -> _Engine:
        if one.key == self._first.key:
            return self._home
        setting = one.setting
        assert setting is not None
        return self._engines.get(one.key, lambda: _Engine(setting, self.device, False))


def _alike(found: Sequence[Prepared]) -> list[list[int]]:
    """Places of the scenes that are imaged together: those of one setting and model."""
    groups: list[tuple[Any, list[int]]] = []
    for place, one in enumerate(found):
        key = (one.key, one.cloud is None, one.amplitudes)
        known = next((places for other, places in groups if other == key), None)
        if known is None:
            groups.append((key, [place]))
        else:
            known.append(place)
    return [places for _, places in groups]
