"""Frames from disk: how many one core reads, and exports, in a second.

    python benchmarks/reading.py [--frames 32] [--pixels 512] [--shard-size 16]

One JSON line for each way to read, in random order, and each format of `usim export`. `frames_per_s` counts the time of
the processor, so that a busy machine does not matter; the files come from the system's cache, not from the disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import usim
from usim.export import FORMATS, export
from usim.frame import Axes, Frame, Truth
from usim.io.shard import ShardHeader, encode_shard
from usim.probe import Probe


def frame(index: int, pixels: int) -> Frame:
    """A frame of noise: what it shows makes no difference to reading."""
    rng = np.random.default_rng(index)
    shape = (pixels, pixels)
    images = [rng.normal(-20, 5, shape).astype(np.float32) for _ in range(5)]
    labels = rng.integers(0, 5, shape, dtype=np.uint16)
    truth = Truth(*images[2:], labels, labels.astype(np.uint8), ("a", "b", "c", "d", "e"))
    axes = Axes(np.linspace(-0.02, 0.02, pixels), np.linspace(0, 0.04, pixels))
    scene = {"probe": Probe.preset("L11-5v").model_dump(), "image": {"dynamic_range": 60.0}}
    return Frame(images[0], images[1], None, truth, axes, {"scene": scene, "index": index})


def rate(work: Callable[[], Any], frames: int) -> float:
    """Frames in a second of the processor."""
    start = time.process_time()
    work()
    return round(frames / (time.process_time() - start), 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--shard-size", type=int, default=16)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        for start in range(0, asked.frames, asked.shard_size):
            made = [frame(i, asked.pixels) for i in range(start, min(start + asked.shard_size, asked.frames))]
            header = ShardHeader(len(made), start, 0, "", "", {})
            (folder / f"shard-{start // asked.shard_size:05d}.h5").write_bytes(encode_shard(made, header))
        frames = usim.open(folder)
        order = np.random.default_rng(0).permutation(asked.frames).tolist()
        pair = frames.arrays("bmode", "truth/bmode")
        for what, source in (("whole frames", frames), ("arrays: bmode, truth/bmode", pair)):
            found = rate(lambda source=source: [source[i] for i in order], asked.frames)
            print(json.dumps({"what": what, "shards": len(frames.parts), "frames_per_s": found}), flush=True)
        for form in FORMATS:
            found = rate(lambda form=form: export(folder, Path(name) / form, form), asked.frames)
            size = sum(path.stat().st_size for path in (Path(name) / form).rglob("*") if path.is_file())
            print(json.dumps({"what": f"export to {form}", "bytes": size, "frames_per_s": found}), flush=True)


if __name__ == "__main__":
    main()
