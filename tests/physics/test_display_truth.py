"""What a display shows on average over simulated looks is its truth."""

import numpy as np
import pytest
from scenes import scene

SMALL = "{x: [-4 mm, 4 mm], z: [12 mm, 24 mm], pixels: [40, 60]}"
EVERYTHING = {
    "noise": "{snr: 15 dB}",
    "image": SMALL,
    "regions": "[{shape: circle, center: [-1 mm, 16 mm], radius: 2 mm, echogenicity: anechoic}]",
    "points": "[{position: [2 mm, 20 mm], amplitude: 25 dB}]",
}
PLANE = {"transmit": "{type: plane}", "scatterers": "{per_cell: 8}"}
DISPLAYS = {
    "log": {"display": "{tgc_error: {sliders: [4, -4, 2]}}"},
    "log, not rounded": {"display": "{bits: 32, curve: {type: log, dynamic_range: 40 dB, white: -8 dB}}"},
    "power": {"display": "{gain: -2 dB, gamma: 0.8, curve: {type: power, exponent: 0.4, black: -42 dB}}"},
    "few scatterers": {"display": "{curve: {type: power}}", "scatterers": "{per_cell: 3}"},
    "compounded in power": {"display": "{}", "compound": "{angles: [-9 deg, 0 deg, 9 deg]}", **PLANE},
    "compounded in dB": {"display": "{}", "compound": "{angles: [-9 deg, 0 deg, 9 deg], mean: dB}", **PLANE},
    "moving, with persistence": {
        "display": "{persistence: 3}",
        "sequence": "{times: 3, rate: 20 Hz, motions: [{type: translation, velocity: [10 mm/s, 5 mm/s]}]}",
        "looks": "36",
        "scatterers": "{per_cell: 8}",
        "view": {"time": 2},
    },
}


@pytest.mark.parametrize("changes", DISPLAYS.values(), ids=DISPLAYS)
def test_mean_of_looks(changes):
    """36 looks of a cyst, a wire and noise: 0.3 % of white on average, pixels as far off as their spread says."""
    view = changes.get("view", {})
    renderer = scene(**EVERYTHING, **{key: value for key, value in changes.items() if key != "view"})
    frames = [renderer.render(0, look, **view) for look in range(36)]
    white = 255.0 if frames[0].display.dtype == np.uint8 else 1.0
    shown = np.stack([frame.display / white for frame in frames])
    truth = frames[0].truth.display / white
    assert all(np.array_equal(frame.truth.display, frames[0].truth.display) for frame in frames)
    error = shown.mean(axis=0) - truth
    spread = np.sqrt((shown.var(axis=0, ddof=1) + 0.004**2) / len(frames))
    print(f"mean error {error.mean():.5f}, largest {np.abs(error / spread).max():.2f} standard errors")
    assert abs(error.mean()) < 3e-3
    # shares of Student's law with 35 degrees of freedom: 3.5e-6 lie beyond 5.5; skew adds to it
    assert (np.abs(error / spread) > 5.5).mean() < 1e-3
    assert np.sqrt(((error / spread) ** 2).mean()) < 1.15
