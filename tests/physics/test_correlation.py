"""The stored field correlation rho of images of the same scatterers, against images by both engines (0.02)."""

import numpy as np
import pytest
from scenes import scene

from usim.scatterers import Scatterers

IMAGE = "{x: [-5 mm, 5 mm], z: [17 mm, 23 mm], pixels: [160, 96]}"
SWEEP = {"scatterers": "{model: volume, per_cell: 4}", "sweep": "{slices: 4, step: 0.25 mm}", "image": IMAGE}
ANGLES = {"transmit": "{type: plane}", "angles": "[-5 deg, 0 deg, 5 deg]", "image": IMAGE}
ANGLES |= {"scatterers": "{model: plane, per_cell: 8}", "medium": "{attenuation: 0}"}


def rows_near(renderer, depth):
    """The rows (a slice) within 1.5 mm of a depth."""
    z = renderer.stage(0).setting.plan.grid.z
    near = np.nonzero(np.abs(z - depth) < 1.5e-3)[0]
    return slice(near[0], near[-1] + 1)


def measured(renderer, views, looks):
    """|rho| (N, N) between images of views, over all pixels near the reference depth and looks."""
    depth = renderer.render(0).params["reference"]["depth"]
    rows, total = rows_near(renderer, depth), 0.0
    for look in range(looks):
        fields = np.stack([renderer.render(0, look, **view).iq[rows] for view in views]).reshape(len(views), -1)
        fields = fields.astype(np.complex128)
        total = total + fields @ fields.conj().T
    power = np.sqrt(np.diag(total).real)
    return np.abs(total) / np.outer(power, power)


def overlaps(renderer, lags, step):
    """|rho| by the echoes of one scatterer after the other along elevation: the definition, without chance."""
    setting = renderer.stage(0).setting
    y = np.arange(-18, 19) * step
    echoes = [setting.echo(Scatterers(np.array([[0.0, at, 20e-3]]), np.ones(1))).ravel() for at in y]
    echoes = np.stack(echoes).astype(np.complex128)
    energy = (np.abs(echoes) ** 2).sum()
    return [abs((echoes[lag:] * echoes[: len(y) - lag].conj()).sum()) / energy for lag in lags]


@pytest.mark.parametrize("engine", ["psf", "sir"])
def test_slices(engine):
    """Slices by 0.25 mm: what is stored is the overlap of their PSFs within 0.02."""
    image = "{x: [-1.2 mm, 1.2 mm], z: [19 mm, 21 mm], pixels: [24, 48]}"
    renderer = scene(**SWEEP | {"image": image}, engine=engine)
    found = overlaps(renderer, range(4), 0.25e-3)
    stored = np.array(renderer.render(0).params["rho"]["slices"])
    print(np.round(found, 3), np.round(stored, 3))
    assert np.abs(found - stored).max() < 0.02


def test_speckle_of_slices():
    """The image engine's speckle, 12 looks at four slices: within 0.02 of what is stored, chance being 0.01."""
    renderer = scene(**SWEEP)
    found = measured(renderer, [{"slice": k} for k in range(4)], 12)
    stored = np.array(renderer.render(0).params["rho"]["slices"])
    lag = np.abs(np.subtract.outer(range(4), range(4)))
    by_lag = [found[lag == k].mean() for k in range(4)]
    print(np.round(by_lag, 3), np.round(stored, 3))
    assert np.abs(by_lag - stored).max() < 0.02


@pytest.mark.parametrize("engine", ["psf", "sir"])
def test_angles(engine):
    """Plane waves by 5 deg: within 0.02 of what is stored."""
    renderer = scene(**ANGLES, engine=engine)
    found = measured(renderer, [{"angle": k} for k in range(3)], 12 if engine == "psf" else 5)
    stored = np.array(renderer.render(0).params["rho"]["angles"])
    print(np.round(found, 3), np.round(stored, 3), sep="\n")
    assert np.abs(found - stored).max() < 0.02
