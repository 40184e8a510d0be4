"""A checkpoint of the first format opens for ever and gives the pixels that it gave.

python tests/golden/test_golden_checkpoint.py      # stores it anew, for a new format only
"""

from pathlib import Path

import numpy as np
import torch

from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.methods import make

FOLDER = Path(__file__).parent
CHECKPOINT, OUTPUT = FOLDER / "s2s-1.pt", FOLDER / "s2s-1.npy"


def image():
    rows, columns = np.mgrid[:20, :24]
    return torch.from_numpy((0.5 + 0.3 * np.sin(rows / 3) * np.cos(columns / 4)).astype(np.float32))[None, None]


def test_the_first_checkpoint_still_opens():
    checkpoint = load_checkpoint(CHECKPOINT)
    assert checkpoint.method.name == "noise2noise"
    assert checkpoint.about["note"] == "golden"
    np.testing.assert_allclose(checkpoint.method.denoise(image()).numpy(), np.load(OUTPUT), atol=1e-5)


def store():
    torch.manual_seed(0)
    method = make("noise2noise", width=2, depth=1)
    torch.nn.init.normal_(method.net.last.weight)
    save_checkpoint(CHECKPOINT, method, {"note": "golden"})
    np.save(OUTPUT, load_checkpoint(CHECKPOINT).method.denoise(image()).numpy())


if __name__ == "__main__":
    store()
