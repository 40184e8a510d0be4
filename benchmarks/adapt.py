"""What adapting to images without truth gains, and how good its rule chooses: truth beside what the rule sees.

    OPENBLAS_NUM_THREADS=1 python benchmarks/adapt.py WEIGHTS --domain display cell probe same --steps 120

Scenes of another phantom than the weights were trained on are made (128 x 128 pixels, a quarter of the shipped field at
its density), shown as a scanner does, and stored as 8-bit PNG files; `s2s train --adapt` gets nothing else. The truth
(what the scanner would show on average) is kept here, and gives PSNR at every validation. One JSON line for each, and
one for the choice: PSNR of the start, and what the chosen step, the best and the last have more; regret is what the
best step has more than the chosen one.

same     scenes of the training phantom: nothing is shifted
probe    evaluation/validation: another probe, other shapes, shown over 60 dB
cell     the same with receive and transmit apertures half as wide, shown over 45 dB
display  the same with 6 dB of gain and a power curve

Seconds are CPU time of the process that trains.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from s2s.ask import CHANGES, request_from
from s2s.denoise import Denoiser, load
from s2s.domain import Domain
from s2s.methods.base import Method
from s2s.metrics.fidelity import psnr
from s2s.run import Run
from usim.phantom.load import Phantom, load_phantom, phantom_from_text
from usim.pipeline import Renderer

SEED = 99
FIELD = "image: {x: [-8 mm, 8 mm], z: [10 mm, 26 mm], pixels: [128, 128]"
#: What the files' grey levels are stated to be, whatever the display did.
SHOWN = Domain("log", 60.0, 255.0)
DOMAINS = {
    "same": ("training", {}, "{curve: {type: log, dynamic_range: 60 dB}}"),
    "probe": ("evaluation/validation", {}, "{curve: {type: log, dynamic_range: 60 dB}}"),
    "cell": (
        "evaluation/validation",
        {"f_number: 1.8": "f_number: 4", "f_number: 3}": "f_number: 5}"},
        "{curve: {type: log, dynamic_range: 45 dB, white: -5 dB}}",
    ),
    "display": ("evaluation/validation", {}, "{gain: 6 dB, curve: {type: power, exponent: 0.3, black: -55 dB}}"),
}


def shifted(domain: str) -> Phantom:
    """The phantom of a domain."""
    name, changes, display = DOMAINS[domain]
    base = load_phantom(name)
    text = re.sub(r"image: \{x: \[.*?\], z: \[.*?\], pixels: \[256, 256\]", FIELD, base.text)
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"{name}: has no {old!r} any more")
        text = text.replace(old, new)
    return phantom_from_text(f"{text}\ndisplay: {display}\n", domain, base.base)


def make(domain: str, count: int, folder: Path) -> list[NDArray[np.float64]]:
    """Write the images, and return their truths in dB of `SHOWN`."""
    renderer, truths = Renderer(shifted(domain), seed=SEED), []
    for index in range(count):
        frame = renderer.render(index)
        assert frame.display is not None
        assert frame.truth.display is not None
        PIL.Image.fromarray(frame.display).save(folder / f"{index:03}.png")
        truths.append(SHOWN.to_db(frame.truth.display.astype(np.float64)))
    return truths


def score(method: Method, folder: Path, truths: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """PSNR of every image against its truth."""
    denoiser = Denoiser(method)
    found = []
    for index, truth in enumerate(truths):
        grey = np.asarray(PIL.Image.open(folder / f"{index:03}.png"))
        clean = SHOWN.to_db(denoiser.denoise_frame(grey, SHOWN))
        found.append(psnr(clean, truth, SHOWN.dynamic_range))
    return np.array(found)


def adapt(weights: str, domain: str, images: int, steps: int, rate: float | None, root: Path) -> None:
    """Adapt to one domain and print its course."""
    scans = root / domain
    scans.mkdir()
    truths = make(domain, images, scans)
    asked = {
        "adapt": weights, "data": (str(scans),), "domain": "log", "dynamic_range": 60.0, "white": 255.0, "steps": steps,
        "rate": rate, "crop": 64,
    }  # fmt: skip
    silent = dict.fromkeys((*CHANGES, "recipe", "sim", "minutes", "until_converged"))
    given = {key for key, value in asked.items() if value is not None}
    request = request_from(
        {**silent, **asked, "seed": 0, "reuse": 4.0, "judge": (), "held_out": 4, "simulate_on": "cpu"}, given
    )
    run = Run.new(request, root / f"{domain}-run", workers=0, device="cpu", say=lambda text: None)
    judging = [int(Path(path).stem) for path, _ in run.unseen.items]
    course = [score(load(weights).method, scans, truths)]
    start = time.process_time()

    def check() -> None:
        if len(run.course.steps) > len(course):
            course.append(score(run.state.average, scans, truths))
            print(json.dumps({"domain": domain, **line(len(course) - 1)}), flush=True)

    def line(number: int) -> dict[str, object]:
        told = run.course
        own = np.delete(course[number], judging)
        return {
            "step": told.steps[number],
            "psnr": round(float(course[number].mean()), 3),
            "psnr_trained_on": round(float(own.mean()), 3),
            "psnr_judging": round(float(course[number][judging].mean()), 3),
            "foretold": round(float(np.mean(told.scores[number])), 4),
        }

    run.train(check)
    means = [float(scores.mean()) for scores in course]
    chosen = run.course.best
    gains = course[chosen] - course[0]
    found = {
        "start": line(0),
        "chosen_step": run.course.steps[chosen],
        "gain": round(float(gains.mean()), 3),
        "gain_error": round(float(gains.std(ddof=1) / np.sqrt(gains.size)), 3),
        "regret": round(max(means) - means[chosen], 3),
        "best_step": run.course.steps[int(np.argmax(means))],
        "last": round(means[-1] - means[0], 3),
        "seconds": round(time.process_time() - start, 1),
    }
    print(json.dumps({"domain": domain, **found}), flush=True)


def main() -> None:
    """Adapt to every domain that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--domain", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for domain in options.domain:
            adapt(options.weights, domain, options.images, options.steps, options.rate, Path(folder))


if __name__ == "__main__":
    main()
