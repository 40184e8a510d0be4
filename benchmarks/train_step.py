"""Training images per second in our loop and in a plain one, same network, loss and batches: one JSON line per method.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py

Plain: float32, eager, contiguous, batches read from a NumPy file, Adam. Ours: `s2s.train.fit` with `--precision auto`,
which cuts its batches itself, averages the weights, and clips. Both begin with the same weights, see the same batches,
and take turns step by step, so that other work on the machine slows both. Seconds are CPU time of one thread. Scenes
are toy scenes in a NumPy file. `loss_gap` is the mean difference of the two loss curves relative to their mean, and
`loss_gap_of_a_seed` what another seed changes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2s.ask import find_precision
from s2s.data import Feed
from s2s.methods import make
from s2s.methods.base import Method, Training
from s2s.pool import Pool
from s2s.toy import toy_clean, toy_looks, toy_scene
from s2s.train import Plan, State, fit
from usim.phantom.draw import addressed

SCENES, WARM_UP = 8, 3
#: Method, preset, and changes of its training: the paper's network on whole images, and the U-Net as it is used. At the
#: rates of the presets, without warm-up, rounding grows tenfold a step in either layout, and curves can't be compared.
CASES = {
    "speckle2self": ("paper", {"batch": 4, "rate": 1e-4}),
    "noise2true": ("default", {"gain": (0.0, 0.0), "rate": 1e-4}),
}


@dataclasses.dataclass(frozen=True)
class Stored:
    """Scenes from a NumPy file (scene, key, H, W), again and again; a source of training samples."""

    path: str
    needs: tuple[str, ...]

    def open(self) -> Callable[[int], list[dict[str, np.ndarray]]]:
        """Return the function that reads a scene."""
        scenes = np.load(self.path, mmap_mode="r")

        def samples(index: int) -> list[dict[str, np.ndarray]]:
            noisy, clean = scenes[index % len(scenes)]
            return [{key: np.array({"y": noisy, "x": clean}[key]) for key in self.needs}]

        return samples


def write_scenes(path: Path, side: int) -> None:
    """Noisy and clean toy images in dB."""
    found = []
    for index in range(SCENES):
        generator = addressed(5, index)
        scene = toy_scene(generator, (side, side))
        found.append([toy_looks(scene, generator)[0], toy_clean(scene)])
    np.save(path, np.array(found, np.float32))


def pool_of(method: Method, training: Training, path: Path, seed: int) -> tuple[Pool, Feed]:
    """The batches of a training."""
    feed = Feed(Stored(str(path), method.needs), workers=0)
    return Pool(method, training, seed=seed, capacity=SCENES, reuse=1e6), feed


def plain_steps(method: Method, training: Training, batches: np.ndarray, keys: list[str]) -> Iterator[float]:
    """The loop that one writes first; yields the loss of every step."""
    optimizer = method.optimizers(training)["main"]
    method.train()
    for stored in batches:
        batch: dict[str, Tensor] = dict(zip(keys, torch.from_numpy(stored.copy()), strict=True))
        optimizer.zero_grad()
        loss = method.loss(batch, 0.0)
        loss.backward()
        if training.clip:
            torch.nn.utils.clip_grad_norm_(method.parameters(), training.clip)
        optimizer.step()
        yield float(loss.detach())


def ours(method: Method, training: Training, path: Path, seed: int, between: Callable[[float], None]) -> None:
    """Our loop; `between` gets the loss of every step."""
    pool, feed = pool_of(method, training, path, seed)
    plan = Plan(training, training.steps, seed=seed)
    fit(State.fresh(method, training, "cpu"), plan, pool, feed, lambda _, logs: between(logs["loss"]))


def fresh(name: str, preset: str) -> Method:
    """The same weights every time."""
    torch.manual_seed(0)
    return make(name, preset)


def compare(name: str, side: int, steps: int, asked: str, folder: Path) -> dict[str, Any]:
    """Both loops, step by step in turn."""
    preset, changes = CASES[name]
    precision = find_precision(asked, "cpu", lambda text: None)
    training = dataclasses.replace(
        make(name, preset).TRAINING[preset], **changes, steps=steps, schedule="constant", precision=precision
    )
    scenes, stored = folder / "scenes.npy", folder / f"{name}.npy"
    write_scenes(scenes, side)
    pool, feed = pool_of(fresh(name, preset), training, scenes, 0)
    found = [pool.batch(step, feed) for step in range(steps)]
    keys = list(found[0])
    np.save(stored, np.stack([np.stack([batch[key].numpy() for key in keys]) for batch in found]))
    plain = plain_steps(fresh(name, preset), training, np.load(stored, mmap_mode="r"), keys)
    losses: dict[str, list[float]] = {"plain": [], "ours": []}
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    since = time.process_time()

    def between(loss: float) -> None:
        nonlocal since
        seconds["ours"].append(time.process_time() - since)
        losses["ours"].append(loss)
        since = time.process_time()
        losses["plain"].append(next(plain))
        seconds["plain"].append(time.process_time() - since)
        since = time.process_time()

    ours(fresh(name, preset), training, scenes, 0, between)
    other: list[float] = []
    ours(fresh(name, preset), training, scenes, 1, other.append)
    rate = {key: training.batch / float(np.median(values[WARM_UP:])) for key, values in seconds.items()}
    mean = float(np.mean(losses["plain"]))
    return {
        "benchmark": Path(__file__).stem,
        "method": name,
        "preset": preset,
        "batch": training.batch,
        "side": training.crop or side,
        "steps": steps,
        "precision": precision,
        "plain_images_per_s": round(rate["plain"], 2),
        "images_per_s": round(rate["ours"], 2),
        "ratio": round(rate["ours"] / rate["plain"], 3),
        "loss_gap": round(float(np.mean(np.abs(np.subtract(losses["ours"], losses["plain"])))) / mean, 5),
        "loss_gap_of_a_seed": round(float(np.mean(np.abs(np.subtract(losses["ours"], other)))) / mean, 5),
        "last_losses": [round(float(np.mean(losses[key][-5:])), 4) for key in ("plain", "ours")],
    }


def main() -> None:
    """Print one JSON line per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=list(CASES), nargs="*", default=list(CASES))
    parser.add_argument("--side", type=int, default=256, help="of the scenes; the paper's training takes them whole")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of ours")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.method:
            print(json.dumps(compare(name, asked.side, asked.steps, asked.precision, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
