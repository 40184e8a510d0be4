"""Everything that is measured on a scan, and its table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from usim.match.area import Area, find_area
from usim.match.blocks import Blocks, find_blocks
from usim.match.cells import Cells, measure_cells
from usim.match.curve import Compression, Law, find_curve
from usim.match.levels import Floor, Trend, find_floor, find_trend
from usim.match.scan import Scan

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
# Speckle cells are measured on I^(1/4): between the envelope, which a few bright places rule, and the logarithm, which
# black ones do.
_POWER: Final = 0.25


@dataclass(frozen=True, eq=False)
class Match:
    """What was measured on a scan. Rows of `straight` (Z, X) are depths along the beams; seen: where echoes are.

    cells: over all depths; bands: by depth.
    """

    scan: Scan
    area: Area
    straight: Array
    seen: Mask
    cells: Cells
    bands: list[Cells]
    blocks: Blocks
    compression: Compression
    floor: Floor
    trend: Trend

    @property
    def depth_pixels(self) -> float:
        """Pixels from the probe's face, or from where the lines of a phased array meet, to the deepest echoes."""
        fan = self.area.fan
        if fan is None:
            return float(len(self.straight))
        return fan.radii[1] - (fan.radii[0] if self.area.kind == "convex" else 0.0)


def measure(scan: Scan) -> Match:
    """Measure a scan: area, compression, speckle cells, noise floor and trend with depth.

    The cells are measured twice: the curve is found on blocks of some cells, and cells are measured on the picture with
    the curve taken off. Raises DataError where the picture shows no scan area or no speckle.
    """
    area = find_area(scan.values, scan.ignored)
    straight, seen = area.along_beams(np.where(scan.ignored, 0.0, scan.values))
    rough, _ = measure_cells(straight, seen)
    blocks = find_blocks(straight, seen, rough.size).even()
    compression = find_curve(blocks)
    cells, bands = cells_of(straight, seen, compression.law)
    return Match(
        scan, area, straight, seen, cells, bands, blocks, compression,
        find_floor(straight, seen, cells.size, compression.law), find_trend(straight, seen, compression.law),
    )  # fmt: skip


def cells_of(straight: Array, seen: Mask, law: Law) -> tuple[Cells, list[Cells]]:
    """Cells of a picture (Z, X) whose curve is known."""
    return measure_cells(10.0 ** (law.level_of(straight) * (_POWER / 10.0)), seen, _POWER)


def table(match: Match, pixel: float) -> str:
    """The measurements as lines of text; pixel: metres."""
    return "\n".join(f"{name:16}{value}" for name, value in _rows(match, pixel))


def _rows(match: Match, pixel: float) -> list[tuple[str, str]]:
    area, cells, floor, trend, found = match.area, match.cells, match.floor, match.trend, match.compression
    x0, z0, x1, z1 = area.box
    rows = [("scan area", f"{area.kind}, {x1 - x0} x {z1 - z0} pixels from column {x0}, row {z0}")]
    if area.fan is not None:
        (near, far), (first, last) = area.fan.radii, (math.degrees(a) for a in area.fan.angles)
        apex = f"apex at ({area.fan.apex[0]:.1f}, {area.fan.apex[1]:.1f})"
        rows.append(("fan", f"{apex}, radii {near:.1f} to {far:.1f} pixels, angles {first:.1f} to {last:.1f} deg"))
    rows.append(("pixel", f"{pixel * 1e3:.4g} mm, depth {match.depth_pixels * pixel * 1e3:.1f} mm"))
    rows.append(("speckle cell", f"{_cell(cells)} pixels, axial x lateral (FWHM)"))
    rows += [("", f"{_cell(band)} in rows {band.rows[0]} to {band.rows[1]}") for band in match.bands]
    rows.append(("curve", f"{describe_curve(found)}; {found.range_db:.0f} dB from black to white"))
    if math.isfinite(found.slope):
        rows.append(("", f"std ~ mean^{found.slope:.2f} +- {found.slope_error:.2f} (0: logarithm, 1: power)"))
    low = f"black, below {floor.level:.1f} dB" if floor.black else f"{floor.level:.1f} +- {floor.error:.1f} dB"
    rows.append(("noise floor", f"{low} of white, at row {floor.depth:.0f}; deepest tenth {floor.deep:.1f} dB"))
    cm = 1e-2 / pixel
    rows.append(
        ("trend", f"{trend.slope * cm:+.1f} dB/cm with depth, 95 %: {trend.low * cm:+.1f} to {trend.high * cm:+.1f}")
    )
    return rows


def _cell(cells: Cells) -> str:
    (axial, lateral), (above, beside) = cells.size, cells.error
    return f"{axial:.2f} +- {above:.2f} x {lateral:.2f} +- {beside:.2f}"


def describe_curve(found: Compression) -> str:
    """The curve in words, with standard errors."""
    display, errors = found.law.display, found.errors
    if display.curve.type == "power":
        return (
            f"power {display.curve.exponent:.2f} +- {errors['exponent']:.2f} of the envelope, black at "
            f"{display.curve.black:.1f} +- {errors['black']:.1f} dB"
        )
    text = f"logarithm of {display.curve.dynamic_range:.1f} +- {errors['dynamic_range']:.1f} dB"
    return text + (f", gamma {display.gamma:.2f} +- {errors['gamma']:.2f}" if "gamma" in errors else "")
