"""How well methods denoise the toy scene, and how long a learned one takes to get there: one JSON line per run.

    OPENBLAS_NUM_THREADS=1 python benchmarks/toy_denoise.py --method noise2true --seconds 43 213
    OPENBLAS_NUM_THREADS=1 python benchmarks/toy_denoise.py --method noise2void --steps 400 --white
    OPENBLAS_NUM_THREADS=1 python benchmarks/toy_denoise.py --filters

Twelve scenes that no training saw (128 x 128, speckle cell 1.2 x 2.2 pixels, 60 dB) are denoised; psnr is the mean over
them against the clean image. A learned method gets each number of seconds in a training of its own, with the making of
its data included; its schedule ends with the time. Seconds are CPU time of one thread, so that other work on the
machine does not count; --steps asks for so many steps instead. --white: speckle of single pixels, for methods that
need noise without correlation. A filter has its `toy` preset.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch

from s2s.data import Feed
from s2s.denoise import Denoiser, setting
from s2s.domain import RANGE_DB, Domain
from s2s.methods import METHODS, make, method_class
from s2s.methods.bands import MOST_BANDS
from s2s.methods.base import Method
from s2s.metrics.fidelity import psnr, tone_fit
from s2s.pool import Pool
from s2s.toy import ToyScenes, toy_clean, toy_looks, toy_scene
from s2s.train import Plan, State, fit

SCENES, TEST_SEED, TRAINING_SEED = 12, 12345, 1


def test_set(white: bool) -> list[tuple[list[np.ndarray], np.ndarray]]:
    """Noisy images, as many looks as a method may see at once, and the clean one of the scenes that judge, in dB."""
    generator, further = np.random.default_rng(TEST_SEED), np.random.default_rng(TEST_SEED + 1)
    scenes = [toy_scene(generator) for _ in range(SCENES)]
    firsts = [toy_looks(scene, generator, iid=white) for scene in scenes]
    others = [toy_looks(scene, further, looks=MOST_BANDS - 1, iid=white) for scene in scenes]
    clean = [toy_clean(scene, iid=white) for scene in scenes]
    return [(first + other, one) for first, other, one in zip(firsts, others, clean, strict=True)]


def score(method: Method | None, images: list[tuple[list[np.ndarray], np.ndarray]]) -> dict[str, float]:
    """Mean PSNR, raw and after a tone fit, and seconds per image; of the noisy images for no method."""
    raw, fitted = [], []
    start = time.perf_counter()
    shown = Domain("db", RANGE_DB)
    bands = 1 if method is None else method.bands.count
    outputs = [
        looks[0] if method is None else Denoiser(method).denoise_frame(looks[0], shown, beside=looks[1:bands])
        for looks, _ in images
    ]
    seconds = (time.perf_counter() - start) / len(images)
    for output, (_, clean) in zip(outputs, images, strict=True):
        raw.append(psnr(output, clean, RANGE_DB))
        fitted.append(psnr(tone_fit(output, clean, RANGE_DB), clean, RANGE_DB))
    return {
        "psnr": round(float(np.mean(raw)), 2),
        "psnr_fit": round(float(np.mean(fitted)), 2),
        "seconds_per_image": round(seconds, 4),
    }


def train(
    name: str, settings: dict[str, object], changes: dict[str, object], budget: dict[str, float], white: bool
) -> State:
    """A training on one core; budget: of a Plan, its minutes or steps."""
    torch.manual_seed(TRAINING_SEED)
    method = make(name, "toy", **settings)
    training = dataclasses.replace(method.TRAINING["toy"], **changes)
    state = State.fresh(method, training, "cpu")
    feed = Feed(ToyScenes(TRAINING_SEED, method.needs, white, method.looks), workers=0)
    pool = Pool(method, training, seed=TRAINING_SEED, reuse=1.0)
    plan = Plan(training, **budget, seed=TRAINING_SEED)
    fit(state, plan, pool, feed, lambda state, logs: None, time.process_time)
    return state


def main() -> None:
    """Print one JSON line per filter, or per method and budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    learned = [name for name in METHODS if method_class(name).needs]
    parser.add_argument("--method", nargs="*", default=[], metavar="NAME", help="learned ones, polyphase(4):NAME too")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--seconds", type=float, nargs="+", default=[43.0])
    group.add_argument("--steps", type=int, nargs="+", default=[])
    parser.add_argument("--white", action="store_true", help="white speckle")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the method")
    parser.add_argument("--training", nargs="*", default=[], metavar="KEY=VALUE", help="fields of its training")
    parser.add_argument("--filters", action="store_true", help="the filters too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    images = test_set(asked.white)
    common = {"benchmark": Path(__file__).stem, "scenes": SCENES, "white": asked.white, "cpu_threads": 1}
    print(json.dumps({**common, "method": "noisy", **score(None, images)}), flush=True)
    for name in (name for name in METHODS if asked.filters and name not in learned):
        print(json.dumps({**common, "method": name, "seconds": 0, **score(make(name, "toy"), images)}), flush=True)
    settings, changes = (
        dict(setting(pair, option, "KEY=VALUE") for pair in pairs)
        for option, pairs in (("--set", asked.set), ("--training", asked.training))
    )
    budgets = [{"steps": steps} for steps in asked.steps] or [{"minutes": seconds / 60.0} for seconds in asked.seconds]
    for name in asked.method:
        for budget in budgets:
            state = train(name, settings, changes, budget, asked.white)
            parameters = sum(p.numel() for p in state.method.parameters())
            about = {"method": name, "seconds": round(state.elapsed, 1), "steps": state.step, "parameters": parameters}
            print(json.dumps({**common, **about, "settings": settings, **score(state.average, images)}), flush=True)


if __name__ == "__main__":
    main()
