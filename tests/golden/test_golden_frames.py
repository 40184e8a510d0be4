"""Frames of small phantoms against stored ones: a change of the numbers has to be meant.

Golden values compare at 1e-5 of the largest one, never by hash: other processors and versions round differently.
To store new ones after a change that is meant: python tests/golden/test_golden_frames.py
"""

from pathlib import Path

import numpy as np
import pytest

from usim.phantom.load import phantom_from_text
from usim.pipeline import simulate

HERE = Path(__file__).parent
SCENE = """
probe: L11-5v
transmit: {type: %s}
image: {x: [-4 mm, 4 mm], z: [14 mm, 22 mm], pixels: [48, 64]}
scatterers: {model: %s}
noise: {snr: 40 dB}
background: {name: tissue, echogenicity: 0 dB, texture: {std: 2 dB, correlation: 2 mm}}
regions:
  - {name: cyst, shape: ellipse, center: [-1 mm, 17 mm], size: 3 mm, angle: 30 deg, echogenicity: anechoic}
points:
  - {position: [2 mm, 20 mm], amplitude: 25 dB}
seed: 3
"""
CASES = {
    "focused-plane": SCENE % ("focused, depth: 18 mm", "plane, per_cell: 5"),
    "focused-volume": SCENE % ("focused, depth: 18 mm", "volume, per_cell: 1, amplitude: gaussian"),
    "plane-wave-field": SCENE % ("plane, angle: 5 deg", "field"),
}


def arrays(text: str) -> dict[str, np.ndarray]:
    """What is stored of a frame."""
    frame = simulate(phantom_from_text(text))
    truth = frame.truth
    return {
        "envelope": frame.envelope,
        "truth_bmode": truth.bmode,
        "truth_resolved_db": truth.resolved_db,
        "truth_echogenicity_db": truth.echogenicity_db,
        "truth_labels": truth.labels,
    }


@pytest.mark.parametrize("name", CASES)
def test_frame_is_the_stored_one(name):
    """Envelope and truths to 1e-5 of the stored maximum, labels exactly."""
    with np.load(HERE / f"{name}.npz") as stored:
        for key, found in arrays(CASES[name]).items():
            wanted = stored[key]
            assert found.shape == wanted.shape, key
            tolerance = 0 if wanted.dtype.kind == "u" else 1e-5 * np.abs(wanted).max()
            assert np.abs(found.astype(np.float64) - wanted).max() <= tolerance, key


if __name__ == "__main__":
    for case, text in CASES.items():
        np.savez_compressed(HERE / f"{case}.npz", **arrays(text))
