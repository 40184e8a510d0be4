"""Validations for TensorBoard: every number of metrics.jsonl, and held-out frames beside their truth.

pip install "usim-s2s[tensorboard]"
s2s train --sim --tensorboard -o runs/s2s
tensorboard --logdir runs
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError

#: Its folder in that of a training.
BOARD = "tensorboard"


class Board:
    """What TensorBoard shows of a training, in a folder; what stood there of later steps than `step` is forgotten.

    Raises ConfigError when tensorboard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                '--tensorboard: tensorboard is not installed; run: pip install "usim-s2s[tensorboard]"'
            ) from error
        self._writer = SummaryWriter(folder / BOARD, purge_step=step + 1)

    def add(self, line: Mapping[str, Any], pictures: Mapping[str, NDArray[np.float32]]) -> None:
        """Show a line of metrics.jsonl, and pictures (H, W) from 0 to 1 by name."""
        step = int(line["step"])
        for name, value in _numbers(line, ""):
            self._writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HW")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _numbers(line: Mapping[str, Any], above: str) -> Iterator[tuple[str, float]]:
    """The numbers of nested data, by their path: psnr, noisy/psnr, suites/cyst/psnr."""
    for key, value in line.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{above}{key}/")
        elif isinstance(value, int | float) and key != "step":
            yield f"{above}{key}", float(value)
