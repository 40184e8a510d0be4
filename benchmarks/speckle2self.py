"""What each part of Speckle2Self does to its result: one training and one JSON line per variant.

    OPENBLAS_NUM_THREADS=1 python benchmarks/speckle2self.py
    OPENBLAS_NUM_THREADS=1 python benchmarks/speckle2self.py --only published decibels hidden --steps 1200 --seeds 1 2
    OPENBLAS_NUM_THREADS=1 python benchmarks/speckle2self.py --scenes training --only decibels hidden noise2true
    python benchmarks/speckle2self.py --correlation training evaluation/scenes training-any

All variants see equal scenes: four crops of 64 x 64 pixels a step, of toy scenes (s2s.toy) or of the phantom
`training`, for --steps or for --seconds of CPU time of one thread, the making of the data included. Twelve unseen toy
scenes, or eight frames of `training`, with two looks each judge:

psnr, psnr_fit  dB against the clean image, raw and after a monotone tone fit; means over the scenes
speckle_db      what differs between the outputs of two looks at a scene, as a standard deviation: speckle that was kept
bias_db         what is wrong with both: anatomy that was lost; speckle_db^2 + bias_db^2 is the mean squared error
slope           of the output's regions against those of the truth: 1 keeps contrast
point_db        height that points lose against the truth; of frames that have some

--correlation prints over how many rows and columns the speckle of phantoms is correlated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2s.data import Feed, Simulation
from s2s.denoise import Denoiser
from s2s.domain import RANGE_DB, Domain
from s2s.methods import make
from s2s.methods.base import Method
from s2s.methods.speckle2self import multi_scale
from s2s.metrics.fidelity import psnr, tone_fit
from s2s.metrics.frame_view import FrameView
from s2s.pool import Pool
from s2s.seeds import held_out_seed, training_seed
from s2s.toy import ToyScenes, toy_clean, toy_looks, toy_scene
from s2s.train import Plan, State, fit
from usim.phantom.load import load_phantom
from usim.pipeline import Renderer

TOY_SCENES, FRAMES, TEST_SEED = 12, 8, 12345
Image = NDArray[Any]


@dataclass(frozen=True)
class Scene:
    """Two looks at a scene and its truth in dB (H, W), the dynamic range, and the rows and columns of points."""

    looks: tuple[Image, Image]
    clean: Image
    range_db: float = RANGE_DB
    points: tuple[tuple[int, int], ...] = ()


#: The published network and loss, on images in dB with a linear head, BatchNorm and a fixed scale: every variant below
#: that says "target: own" differs from it in one thing.
OWN: dict[str, Any] = {"target": "own"}
HIDDEN: dict[str, Any] = {"target": "hidden", "smooth": (0.0, 0.0)}
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "noise2true": ("noise2true", {}, {}),
    "noise2noise": ("noise2noise", {}, {}),
    "hidden": ("speckle2self", HIDDEN, {}),
    "decibels": ("speckle2self", OWN, {}),
    "published": (
        "speckle2self",
        {**OWN, "norm": "instance", "head": "instance-relu", "scaling": "minmax", "compression": 0.4},
        {},
    ),
    "agreement 0": ("speckle2self", {**OWN, "agreement": 0.0}, {}),
    "agreement 10": ("speckle2self", {**OWN, "agreement": 10.0}, {}),
    "skip 8": ("speckle2self", {**OWN, "skips": (8,)}, {}),
    "skips 2 4 8": ("speckle2self", {**OWN, "skips": (2, 4, 8)}, {}),
    "others": ("speckle2self", {**OWN, "target": "others"}, {}),
    "instance": ("speckle2self", {**OWN, "norm": "instance"}, {}),
    "group": ("speckle2self", {**OWN, "norm": "group"}, {}),
    "no norm": ("speckle2self", {**OWN, "norm": "none"}, {}),
    "instance-relu head": ("speckle2self", {**OWN, "head": "instance-relu"}, {}),
    "minmax": ("speckle2self", {**OWN, "scaling": "minmax"}, {}),
    "envelope^0.4": ("speckle2self", {**OWN, "compression": 0.4}, {}),
    "envelope": ("speckle2self", {**OWN, "compression": 1.0}, {}),
    "scales 1 2": ("speckle2self", {**OWN, "scales": (1.0, 0.5)}, {}),
    "scales 1 2 4 8": ("speckle2self", {**OWN, "scales": (1.0, 0.5, 0.25, 0.125)}, {}),
    "bicubic": ("speckle2self", {**OWN, "interpolation": "bicubic"}, {}),
    "nearest": ("speckle2self", {**OWN, "interpolation": "nearest"}, {}),
    "area": ("speckle2self", {**OWN, "interpolation": "area"}, {}),
    "antialias": ("speckle2self", {**OWN, "antialias": True}, {}),
    "hidden 1 1": ("speckle2self", {**HIDDEN, "hidden": (1, 1)}, {}),
    "hidden 3 5": ("speckle2self", {**HIDDEN, "hidden": (3, 5)}, {}),
    "hidden 3 11": ("speckle2self", {**HIDDEN, "hidden": (3, 11)}, {}),
    "hidden 7 13": ("speckle2self", {**HIDDEN, "hidden": (7, 13)}, {}),
    "hidden, smooth": ("speckle2self", {"target": "hidden"}, {}),
    "hidden 3 11, smooth": ("speckle2self", {"target": "hidden", "hidden": (3, 11)}, {}),
    "hidden, none kept": ("speckle2self", {**HIDDEN, "keep": 0.0}, {}),
    "hidden, width 8": ("speckle2self", {**HIDDEN, "width": 8}, {}),
    "hidden, width 24": ("speckle2self", {**HIDDEN, "width": 24}, {}),
}
FILTERS = ("gaussian", "nlm")
#: Weights of the copies at the scales 1, 1/2 and 1/4 in what is shown beside the networks.
COPIES = {"copy 1/2": (0, 1, 0), "copy 1/4": (0, 0, 1), "mean of the copies": (1 / 3, 1 / 3, 1 / 3)}


def toy_set() -> list[Scene]:
    """The toy scenes that judge."""
    generator = np.random.default_rng(TEST_SEED)
    scenes = [toy_scene(generator) for _ in range(TOY_SCENES)]
    found = []
    for scene in scenes:
        first, second = toy_looks(scene, generator, looks=2)
        found.append(Scene((first, second), toy_clean(scene)))
    return found


def training_set() -> list[Scene]:
    """Frames of the phantom `training` that no training sees."""
    renderer = Renderer(load_phantom("training"), seed=held_out_seed(TEST_SEED))
    found = []
    for index in range(FRAMES):
        frame = renderer.render(index)
        depth = float(frame.params["scene"]["image"]["dynamic_range"])
        view, axes = FrameView.of(frame), frame.axes
        points = tuple((int(abs(axes.z - z).argmin()), int(abs(axes.x - x).argmin())) for x, z in view.points)
        looks = [np.clip(image, -depth, 0.0) for image in (frame.bmode, renderer.image(index, 1))]
        found.append(Scene((looks[0], looks[1]), np.clip(frame.truth.bmode, -depth, 0.0), depth, points))
    return found


def correlation(name: str, scenes: int = 6) -> dict[str, list[float]]:
    """Correlation of a phantom's speckle in dB by distance, 1, 2, 3... rows and columns: the largest of some scenes."""
    renderer = Renderer(load_phantom(name), seed=TEST_SEED)
    found: dict[str, list[list[float]]] = {"rows": [], "columns": []}
    for index in range(scenes):
        truth = renderer.stage(index).truth.bmode
        speckle = np.clip(np.stack([renderer.image(index, look) for look in range(2)]) - truth, -25.0, 12.0)
        speckle = speckle - speckle.mean((1, 2), keepdims=True)
        power = np.square(speckle).mean()
        rows = [(speckle[:, k:] * speckle[:, :-k]).mean() / power for k in range(1, 7)]
        columns = [(speckle[:, :, k:] * speckle[:, :, :-k]).mean() / power for k in range(1, 16)]
        found["rows"].append(rows)
        found["columns"].append(columns)
    return {axis: [round(float(value), 2) for value in np.max(values, axis=0)] for axis, values in found.items()}


def score(clean: Callable[[Image, float], Image], scenes: list[Scene]) -> dict[str, float]:
    """What the module's docstring lists, of a denoiser of images in dB with their dynamic range."""
    rows, heights, levels = [], [], []
    for scene in scenes:
        first, second = (clean(look, scene.range_db) for look in scene.looks)
        truth, depth = scene.clean, scene.range_db
        kept = float(np.square(first - second).mean() / 2.0)
        wrong = float(np.mean([np.square(output - truth).mean() for output in (first, second)]))
        fitted = psnr(tone_fit(first, truth, depth), truth, depth)
        rows.append((psnr(first, truth, depth), fitted, kept, max(wrong - kept, 0.0)))
        for row, column in scene.points:
            near = (slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3))
            heights.append(float(truth[near].max() - first[near].max()))
        for least in np.arange(-depth, 0.0, 3.0):  # the mean of the output where the truth has a level
            here = (truth > least) & (truth <= least + 3.0) & (truth > 6.0 - depth)
            if here.mean() > 0.01:
                levels.append((truth[here].mean() - truth.mean(), first[here].mean() - truth.mean()))
    mean = np.mean(rows, axis=0)
    true, shown = np.array(levels).T
    found = {
        "psnr": mean[0],
        "psnr_fit": mean[1],
        "speckle_db": mean[2] ** 0.5,
        "bias_db": mean[3] ** 0.5,
        "slope": np.polyfit(true, shown, 1)[0],
        **({"point_db": np.median(heights)} if heights else {}),
    }
    return {key: round(float(value), 2) for key, value in found.items()}


def train(variant: str, asked: argparse.Namespace, seed: int) -> tuple[State, float]:
    """A training of one variant, and its seconds of CPU time."""
    torch.manual_seed(seed)
    name, settings, changes = VARIANTS[variant]
    toy = asked.scenes == "toy"
    preset = "toy" if toy or name != "speckle2self" else "default"  # the speckle cells of toy scenes are smaller
    method = make(name, preset, **settings)
    precision = "fp32" if asked.float32 else "bf16"
    training = dataclasses.replace(method.TRAINING["toy"], crop=64, rate=2e-3, precision=precision, **changes)
    state = State.fresh(method, training, "cpu")
    source = ToyScenes(seed, method.needs)
    if not toy:
        source = Simulation(load_phantom("training"), training_seed(seed), method.needs)
    plan = Plan(training, asked.steps, asked.seconds and asked.seconds / 60.0, seed=seed)
    start = time.process_time()
    pool = Pool(method, training, seed=seed, reuse=4.0)
    fit(state, plan, pool, Feed(source, workers=0), lambda state, logs: None, time.process_time)
    return state, time.process_time() - start


def main() -> None:
    """Print one JSON line per filter, then one per seed and variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--steps", type=int, help="steps of each training; 400 when no seconds are given")
    parser.add_argument("--seconds", type=float, help="CPU seconds of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--scenes", choices=("toy", "training"), default="toy")
    parser.add_argument("--float32", action="store_true", help="no bfloat16: twice the time on processors that have it")
    parser.add_argument("--correlation", nargs="+", metavar="PHANTOM", help="print the speckle's and end")
    asked = parser.parse_args()
    if asked.correlation:
        for name in asked.correlation:
            print(json.dumps({"benchmark": Path(__file__).stem, "phantom": name, **correlation(name)}), flush=True)
        return
    asked.steps = asked.steps or (None if asked.seconds else 400)
    torch.set_num_threads(1)
    scenes = toy_set() if asked.scenes == "toy" else training_set()
    torch.set_num_threads(1)  # numba's pool, when it starts, takes every core for torch as well
    common = {"benchmark": Path(__file__).stem, "scenes": asked.scenes}
    print(json.dumps({**common, "variant": "noisy", **score(lambda image, depth: image, scenes)}), flush=True)
    for name in FILTERS:
        print(json.dumps({**common, "variant": name, **score(_with(make(name, "toy")), scenes)}), flush=True)
    for name, weights in COPIES.items():
        print(json.dumps({**common, "variant": name, **score(_copies(weights), scenes)}), flush=True)
    for seed in asked.seeds:
        for variant in asked.only:
            state, seconds = train(variant, asked, seed)
            about = {"variant": variant, "seed": seed, "steps": state.step, "seconds": round(seconds, 1)}
            about["parameters"] = state.average.parameter_count()
            print(json.dumps({**common, **about, **score(_with(state.average), scenes)}), flush=True)


def _copies(weights: tuple[float, ...]) -> Callable[[Image, float], Image]:
    def mean(image: Image, depth: float) -> Image:
        copies = multi_scale(torch.from_numpy(image)[None, None], (1.0, 0.5, 0.25))
        return sum(weight * copy[0, 0].numpy() for weight, copy in zip(weights, copies, strict=True))

    return mean


def _with(method: Method) -> Callable[[Image, float], Image]:
    denoiser = Denoiser(method)
    return lambda image, depth: denoiser.denoise_frame(image, Domain("db", depth))


if __name__ == "__main__":
    main()
