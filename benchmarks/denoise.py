"""Images per second of s2s's denoising against the same network written plainly, in one run: one JSON line per case.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python benchmarks/denoise.py
    python benchmarks/denoise.py --model demo/speckle2self --model demo/noise2noise --device cuda

Plainly: float32, eager, contiguous weights, one image at a time, under no_grad. Ours is what `s2s.load` gives, exactly
and with `fast`. All are timed in turns, and each keeps its best round, so that other work on the machine harms all of
them alike; on one thread, since two on a busy machine wait for each other. error is ours against plainly, in grey
levels of 255 over 60 dB: root mean square and largest.

The cases without --model are the paper's network as published (InstanceNorm, its head), the same network as it is the
default here (BatchNorm, linear head), and a U-Net. Their weights are random: rates are those of trained ones,
errors are not, so give --model for errors that mean something.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.denoise import find_device, load
from s2s.methods import make
from s2s.toy import toy_looks, toy_scene

FRESH = (("speckle2self", "paper"), ("speckle2self", "default"), ("noise2true", "default"))
GREY = 255 / 60


def fresh(folder: Path) -> list[tuple[str, Path]]:
    """Checkpoints of networks that were not trained."""
    found = []
    for name, preset in FRESH:
        torch.manual_seed(0)
        path = folder / f"{name}-{preset}.pt"
        save_checkpoint(path, make(name, preset), {})
        found.append((f"{name}, {preset}, random weights", path))
    return found


def rates(ways: dict[str, Callable[[], torch.Tensor]], rounds: int, device: torch.device) -> dict[str, float]:
    """Images per second of each way, its best round."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: 1.0 / seconds for name, seconds in best.items()}


def compare(path: Path, noisy: torch.Tensor, device: str, rounds: int) -> dict[str, float]:
    """Rates, their ratios to plainly, and what the images differ by."""
    plain = load_checkpoint(path).method.to(device).eval()
    image = noisy.to(device)
    ours = {"exact": load(path, device=device), "fast": load(path, device=device, fast=True)}

    @torch.no_grad()
    def plainly() -> torch.Tensor:
        return plain.denoise(image)

    ways = {"plainly": plainly, **{name: lambda one=one: one.run(image) for name, one in ours.items()}}
    wanted = {name: way().cpu() for name, way in ways.items()}
    found = rates(ways, rounds, torch.device(device))
    result = {f"{name}_images_per_s": round(rate, 2) for name, rate in found.items()}
    for name in ours:
        error = 60.0 * GREY * (wanted[name] - wanted["plainly"]).double()
        result[f"{name}_ratio"] = round(found[name] / found["plainly"], 2)
        result[f"{name}_error_rms"] = round(float(error.square().mean().sqrt()), 4)
        result[f"{name}_error_most"] = round(float(error.abs().max()), 3)
    return result


def main() -> None:
    """Print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", type=Path, help="a checkpoint, or the folder of a training")
    parser.add_argument("--side", type=int, default=256, help="pixels a side")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = find_device(asked.device)
    generator = np.random.default_rng(0)
    decibel = toy_looks(toy_scene(generator), generator)[0]
    count = -(-asked.side // min(decibel.shape))
    cut = np.tile(decibel, (count, count))[: asked.side, : asked.side]
    noisy = torch.from_numpy(1.0 + np.clip(cut, -60.0, 0.0) / 60.0).float()[None, None]
    with tempfile.TemporaryDirectory() as folder:
        cases = fresh(Path(folder)) if not asked.model else []
        cases += [(str(path), path / "best.pt" if path.is_dir() else path) for path in asked.model or []]
        for name, path in cases:
            about = {
                "case": name,
                "pixels": list(noisy.shape[-2:]),
                "device": device,
                "threads": torch.get_num_threads(),
            }
            print(json.dumps(about | compare(path, noisy, device, asked.rounds)), flush=True)


if __name__ == "__main__":
    main()
