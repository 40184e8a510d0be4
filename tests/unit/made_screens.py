"""Screens of scanners, made up: a scan of known place in black, with text, bars, rulers, a logo and marks around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from made_scans import fan_scan, scan
from scipy import ndimage

from usim.match.area import Fan

SIZE = (640, 480)
DISPLAY = {"curve": {"type": "log", "dynamic_range": 55}}
FANS = {
    "convex": Fan((320.0, -60.0), (110.0, 490.0), (-0.55, 0.55)),
    "phased": Fan((320.0, 40.0), (6.0, 400.0), (-0.7, 0.7)),
}
WHITE, YELLOW, CYAN = (255, 255, 255), (255, 230, 30), (40, 220, 240)


@dataclass(frozen=True, eq=False)
class Screen:
    """picture: (H, W, 3) uint8.  area: where the scan is.  marks: everything drawn over or around it, by name."""

    picture: np.ndarray
    area: np.ndarray
    marks: dict[str, np.ndarray]

    @property
    def outside(self) -> np.ndarray:
        """Marks that lie outside of the scan."""
        return np.any([mark for mark in self.marks.values()], axis=0) & ~self.area

    @property
    def inside(self) -> np.ndarray:
        """Marks that are burned into the scan."""
        return np.any([mark for mark in self.marks.values()], axis=0) & self.area


def bare(kind: str, seed: int = 0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The scan alone (H, W) uint8 on black, and where it is; shift: of its tissue, in frames of a slow motion."""
    width, height = SIZE
    if kind == "linear":
        area = np.zeros((height, width), bool)
        area[60:420, 140:500] = True
        part = scan(DISPLAY, shape=(360, 360), seed=seed, noise=-32.0, slope=-0.06)
        picture = np.zeros((height, width))
        picture[area] = part.ravel()
    else:
        fan = FANS[kind]
        picture = fan_scan(fan, SIZE, (3.0, 5.0), DISPLAY, seed)
        z, x = np.mgrid[:height, :width].astype(np.float64)
        r, a = fan.polar(x, z)
        area = (fan.radii[0] <= r) & (r <= fan.radii[1]) & (fan.angles[0] <= a) & (a <= fan.angles[1])
        level = 6.0 * np.sin(x / 60.0 + shift) * np.cos(z / 45.0) - 10.0 * ((x - 300) ** 2 + (z - 250) ** 2 < 45**2)
        picture = np.clip(picture + np.where(area, 255.0 / 55.0 * level, 0.0), 0, 255) * area
    return np.rint(picture).astype(np.uint8), area


def screen(kind: str, seed: int = 0, *, colour: bool = True, within: bool = True, doppler: bool = False) -> Screen:
    """A whole screen.  colour: yellow and cyan marks, not white ones.  within: text over the scan as well."""
    levels, area = bare(kind, seed)
    picture = PIL.Image.fromarray(np.dstack([levels] * 3))
    marks: dict[str, np.ndarray] = {}

    def mark(name, draw_it):
        nonlocal picture
        before = np.asarray(picture).copy()
        draw_it(PIL.ImageDraw.Draw(picture))
        marks[name] = (np.asarray(picture) != before).any(axis=2)

    small, large = PIL.ImageFont.load_default(12), PIL.ImageFont.load_default(18)
    warm, cold = (YELLOW, CYAN) if colour else (WHITE, (200, 200, 200))

    def patient(draw):
        draw.text((6, 4), "DOE JANE  F 41Y   MI 1.1  TIs 0.4", WHITE, large)
        draw.text((6, 90), "L12-5\n38 Hz\n4.0 cm\n2D 61 %\nC 55\nP Med", warm, small)

    def ruler(draw):
        for k in range(41):
            y, length = 60 + 9 * k, 8 if k % 5 == 0 else 4
            draw.line((610, y, 610 + length, y), warm)

    def trace(draw):
        x = np.arange(40, 600)
        y = 468 - 6 * np.sin(x / 9.0) - 22 * np.exp(-(((x % 110) - 50) ** 2) / 12.0)
        draw.line([*zip(x.tolist(), y.tolist(), strict=True)], (60, 255, 60) if colour else WHITE)

    def bars(draw):
        for k in range(120):
            draw.line((20, 220 + k, 32, 220 + k), (255 - 2 * k,) * 3)
        draw.rectangle((540, 6, 600, 26), outline=cold)
        draw.text((546, 8), "usim", cold, small)

    def calipers(draw):
        for x, y in ((290, 200), (360, 260)):
            draw.line((x - 6, y, x + 6, y), warm)
            draw.line((x, y - 6, x, y + 6), warm)
        draw.text((250, 320), "RT LOBE", WHITE, large)
        draw.text((330, 170), "D 1.23 cm", warm, small)

    for name, drawn in (("patient", patient), ("ruler", ruler), ("trace", trace), ("bars", bars)):
        mark(name, drawn)
    if within:
        mark("calipers", calipers)
    if doppler:
        flow = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(levels.shape), 9)
        there = np.zeros(levels.shape, bool)
        there[210:290, 270:380] = True
        there &= np.abs(flow) > 0.4 * flow.std()
        tint = np.where((flow > 0)[..., None], (230, 40, 0), (0, 60, 240))
        pixels = np.asarray(picture).copy()
        pixels[there] = tint[there]
        picture = PIL.Image.fromarray(pixels)
        marks["flow"] = there
    return Screen(np.asarray(picture).copy(), area, marks)
