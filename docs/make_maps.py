"""Draw the maps that the pages and the shipped phantom `section` show.

    python docs/make_maps.py    # writes phantoms/section.png

The label map is a section through the abdomen under the ribs, drawn by formulas: what a person would draw over a slice
of a CT.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TARGET = Path(__file__).parents[1] / "phantoms" / "section.png"
#: Labels: 0 is nothing.
SKIN, FAT, MUSCLE, LIVER, VESSEL, BILE, BOWEL = range(1, 8)


def section(columns: int = 380, rows: int = 480) -> NDArray[np.uint8]:
    """Return the label map (rows, columns) of 38 x 48 mm: skin, fat, muscle, liver, vessels, gall bladder, bowel."""
    x = ((np.arange(columns) + 0.5) / columns - 0.5)[None, :] * 38
    z = ((np.arange(rows) + 0.5) / rows)[:, None] * 48
    roll = 0.8 * np.sin(x / 5) + 0.3 * np.sin(x / 1.7 + 1)
    labels = np.full((rows, columns), LIVER, dtype=np.uint8)
    labels[z < 11 + 0.7 * roll + 0.06 * x] = MUSCLE
    labels[z < 7 + roll] = FAT
    labels[(np.abs(z - 8.8 - 0.9 * roll) < 0.25) & (labels == MUSCLE)] = FAT
    labels[np.broadcast_to(z < 2 + 0.1 * roll, labels.shape)] = SKIN
    below = z > 41 + 3 * np.sin(x / 9 + 0.8) - 0.008 * x**2
    labels[below] = BOWEL
    labels[((x - 9) / 5.5) ** 2 + ((z - 29 - 0.25 * (x - 9)) / 3.3) ** 2 < 1] = BILE
    for (ax, az), (bx, bz), radius in (((-19, 22), (-2, 27), 1.5), ((-9, 25), (-4, 36), 1), ((-2.5, 27), (4, 18), 1)):
        along = ((x - ax) * (bx - ax) + (z - az) * (bz - az)) / ((bx - ax) ** 2 + (bz - az) ** 2)
        share = np.clip(along, 0, 1)
        distance = np.hypot(x - ax - share * (bx - ax), z - az - share * (bz - az))
        labels[(distance < radius * (1 - 0.4 * share)) & (labels == LIVER)] = VESSEL
    return labels


def scan(columns: int = 120, rows: int = 100) -> NDArray[np.uint8]:
    """Return grey values (rows, columns) as a slice of a scan might have: a smooth organ, a bright rim, a dark duct."""
    x = np.linspace(-1, 1, columns)[None, :]
    z = np.linspace(-1, 1, rows)[:, None]
    organ = 150 / (1 + np.exp(20 * (np.hypot(x / 0.85, z / 0.75) - 1)))
    rim = 90 * np.exp(-((np.hypot(x / 0.85, z / 0.75) - 1) ** 2) / 0.006)
    lobes = 45 * np.sin(4.5 * x + 1) * np.sin(5 * z) * (organ / 150)
    duct = 1 - np.exp(-((z - 0.35 * np.sin(2.4 * x)) ** 2) / 0.008)
    return np.clip((40 + organ + lobes) * duct + rim, 0, 255).astype(np.uint8)


def organs(columns: int = 64, rows: int = 80, slices: int = 41) -> NDArray[np.uint8]:
    """Return a volume (slices, rows, columns) of labels: an organ (1) with a duct (2) that runs through it."""
    y, z, x = (np.linspace(-1, 1, n) for n in (slices, rows, columns))
    y, z, x = y[:, None, None], z[None, :, None], x[None, None, :]
    organ = (x / 0.8) ** 2 + ((z - 0.25 * x**2) / (0.7 - 0.2 * y)) ** 2 + (y / 0.95) ** 2 < 1
    duct = np.hypot(x - 0.5 * y, z - 0.15) < 0.16
    return (organ.astype(np.uint8) + (organ & duct)).astype(np.uint8)


def write(values: NDArray[np.uint8], path: Path) -> None:
    """Write a map as a grey PNG."""
    from PIL import Image

    Image.fromarray(values).save(path, optimize=True)


if __name__ == "__main__":
    write(section(), TARGET)
    print(f"{TARGET}  {TARGET.stat().st_size} bytes")
