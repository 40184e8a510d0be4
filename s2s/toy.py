"""A toy scene, made in milliseconds, on which despeckling methods are compared and regressions are noticed.

Ellipses of random brightness over a faint grating are filled with complex Gaussian reflectivity and seen through a
Gaussian point spread function. That is not an ultrasound image, since the speckle cell is the same everywhere, but its
speckle is fully developed and correlated as in one, and its clean image is known in closed form.

>>> generator = np.random.default_rng(0)
>>> scene = toy_scene(generator)
>>> noisy, second_look = toy_looks(scene, generator, looks=2)
>>> noisy.shape, toy_clean(scene).shape
((128, 128), (128, 128))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from s2s.domain import LOG_BIAS_DB, LOWEST_DB, RANGE_DB
from s2s.methods.bands import Bands
from usim.phantom.draw import addressed

Image = NDArray[np.float64]

#: Standard deviation of the point spread function, axial and lateral, in pixels, and half its support.
CELL, REACH = (1.2, 2.2), 8
#: dB of full scale above the echogenicity 0 dB: room for the brightest ellipse and the peaks of its speckle.
HEADROOM_DB = 15.0


def toy_scene(generator: np.random.Generator, shape: tuple[int, int] = (128, 128)) -> Image:
    """Echogenicity in dB (H, W): 4 to 8 ellipses, each over those before it, plus a grating of 3 dB."""
    height, width = shape
    y, x = np.mgrid[:height, :width].astype(np.float64)
    scene = np.zeros(shape)
    for _ in range(generator.integers(4, 9)):
        row, column = generator.uniform(0.0, (height, width))
        semi_y, semi_x = generator.uniform(8.0, 35.0, 2)
        angle, level = generator.uniform(0.0, np.pi), generator.uniform(-22.0, 12.0)
        down, right = y - row, x - column
        u, v = down * np.cos(angle) + right * np.sin(angle), right * np.cos(angle) - down * np.sin(angle)
        scene[(u / semi_y) ** 2 + (v / semi_x) ** 2 <= 1.0] = level
    cycles_y, cycles_x = generator.uniform(0.5, 2.0), generator.uniform(-1.0, 1.0)
    scene += 3.0 * np.sin(2.0 * np.pi * (y / height * cycles_y + x / width * cycles_x))
    return scene


def toy_looks(
    scene: Image, generator: np.random.Generator, looks: int = 1, *, iid: bool = False, clip: bool = True
) -> list[Image]:
    """Independent noisy images of a scene in dB, 0 dB being full scale.

    iid: a point spread function of one pixel, so that speckle is white.  clip: to -60...0 dB, like a B-mode.
    """
    return [_seen(scene, generator.standard_normal((2, *scene.shape)), iid, clip) for _ in range(looks)]


def toy_slices(
    scene: Image, generator: np.random.Generator, *, rho: float = 0.3, farthest: float = 6.0, clip: bool = True
) -> tuple[list[Image], list[Image]]:
    """Noisy images of a scene and of its neighbour, which is shifted by up to so many pixels, and their echogenicities.

    rho: correlation of the fields of scatterers.
    """
    moved = ndimage.shift(scene, generator.uniform(-farthest, farthest, 2), order=1, mode="nearest")
    fields = [generator.standard_normal((2, *scene.shape)) for _ in range(2)]
    fields[1] = rho * fields[0] + np.sqrt(1.0 - rho**2) * fields[1]
    scenes = [scene, moved]
    return [_seen(one, field, False, clip) for one, field in zip(scenes, fields, strict=True)], scenes


def toy_clean(scene: Image, *, iid: bool = False, clip: bool = True) -> Image:
    """The image without speckle, in dB: the mean over all looks of the image in dB."""
    intensity = 10.0 ** (scene / 10.0)
    return _decibel(_blur(intensity, 2, iid) * 10.0 ** (-LOG_BIAS_DB / 10.0), clip)


def _seen(scene: Image, field: Image, iid: bool, clip: bool) -> Image:
    """The noisy image of a scene in dB; field: the real and the imaginary part (2, H, W) of white reflectivity."""
    amplitude = 10.0 ** (scene / 20.0) * np.sqrt(0.5)
    real, imaginary = (_blur(amplitude * part, 1, iid) for part in field)
    return _decibel(real**2 + imaginary**2, clip)


def _blur(image: Image, power: int, iid: bool) -> Image:
    """Convolution with the point spread function (power 1) or its square (power 2), of unit energy; borders reflect."""
    if iid:
        return image
    t = np.arange(-REACH, REACH + 1)
    for axis, cell in enumerate(CELL):
        profile = np.exp(-(t**2) / (2.0 * cell**2))
        profile /= np.sqrt(np.sum(profile**2))
        image = ndimage.correlate1d(image, profile**power, axis=axis, mode="reflect")
    return image


def _decibel(intensity: Image, clip: bool) -> Image:
    decibel: Image = 10.0 * np.log10(np.maximum(intensity, 10.0 ** (LOWEST_DB / 10.0))) - HEADROOM_DB
    return decibel.clip(-RANGE_DB, 0.0) if clip else decibel


@dataclass(frozen=True)
class ToyScenes:
    """Toy scenes without end as a source of training samples (s2s.data.Source): looks or slices, and the clean image.

    seed: of the scenes.  needs: keys of a sample.  iid: with white speckle.  looks: independent draws of each scene,
    where no slices are needed.
    """

    seed: int
    needs: tuple[str, ...]
    iid: bool = False
    looks: int = 2

    def open(self) -> Callable[[int], list[dict[str, NDArray[np.float32]]]]:
        """Return the function that draws the samples of scene number 0, 1, 2, ..."""

        def samples(index: int) -> list[dict[str, NDArray[np.float32]]]:
            generator = addressed(self.seed, index)
            scene = toy_scene(generator)
            if "next" in self.needs:
                return self._slices(scene, generator)
            bands = Bands.among(self.needs)
            looks = toy_looks(scene, generator, looks=self.looks, iid=self.iid, clip=False)
            clean = toy_clean(scene, iid=self.iid, clip=False)
            every = [
                {
                    "y": np.clip(look, -RANGE_DB, 0.0),
                    "y2": looks[number - 1],
                    "others": np.mean([other for other in looks if other is not look], axis=0),
                    "x": clean,
                    **{
                        key: np.clip(looks[k], -RANGE_DB, 0.0)
                        for key, k in zip(bands.keys, bands.after(number, len(looks)), strict=True)
                    },
                }
                for number, look in enumerate(looks)
            ]
            return [{key: sample[key].astype(np.float32) for key in self.needs} for sample in every]

        return samples

    def _slices(self, scene: Image, generator: np.random.Generator) -> list[dict[str, NDArray[np.float32]]]:
        images, scenes = toy_slices(scene, generator, clip=False)
        every = [
            {"y": np.clip(image, -RANGE_DB, 0.0), "next": other, "x": toy_clean(one, clip=False)}
            for image, other, one in zip(images, reversed(images), scenes, strict=True)
        ]
        return [{key: sample[key].astype(np.float32) for key in self.needs} for sample in every]
