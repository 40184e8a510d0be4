"""The incoherent twin in single precision."""

from __future__ import annotations

import numpy as np

from usim.phantom.load import load_phantom
from usim.pipeline import Renderer


def test_blurs_are_linear_down_to_the_weakest_strengths():
    """What has the units of the fourth moment is some 1e-31: its tails are as good as those of strengths near 1."""
    power = Renderer(load_phantom("cyst")).stage(0).setting.power
    cells = np.zeros((len(power.row_z), len(power.cell_x)), np.float32)
    cells[200::400, 100::150] = 1.0
    whole, weak = (power.blur(cells * np.float32(strength), squared=True) for strength in (1.0, 1e-31))
    assert np.abs(10.0 * np.log10(weak / 1e-31 / whole)).max() < 1e-3
