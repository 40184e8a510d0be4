"""Checkpoints and published weights of the first formats open for ever and give the pixels that they gave.

python tests/golden/test_golden_checkpoint.py s2s-1.pt      # stores one anew, for a new format only
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.methods import make
from s2s.published import write_weights

FOLDER = Path(__file__).parent
#: What writes each file.
FILES = {"s2s-1.pt": save_checkpoint, "s2s-weights-1.safetensors": write_weights}


def image():
    rows, columns = np.mgrid[:20, :24]
    return torch.from_numpy((0.5 + 0.3 * np.sin(rows / 3) * np.cos(columns / 4)).astype(np.float32))[None, None]


@pytest.mark.parametrize("name", FILES)
def test_the_first_files_still_open(name):
    checkpoint = load_checkpoint(FOLDER / name)
    assert checkpoint.method.name == "noise2noise"
    assert checkpoint.about["note"] == "golden"
    known = np.load((FOLDER / name).with_suffix(".npy"))
    np.testing.assert_allclose(checkpoint.method.denoise(image()).numpy(), known, atol=1e-5)


def store(name):
    torch.manual_seed(0)
    method = make("noise2noise", width=2, depth=1)
    torch.nn.init.normal_(method.net.last.weight)
    FILES[name](FOLDER / name, method, {"note": "golden"})
    clean = load_checkpoint(FOLDER / name).method.denoise(image())
    np.save((FOLDER / name).with_suffix(".npy"), clean.numpy())


if __name__ == "__main__":
    for chosen in sys.argv[1:]:
        store(chosen)
