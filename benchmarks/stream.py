"""How many images per second batches on a device make, beside those of the CPU's processes, and how exact they are.

    python benchmarks/stream.py [--seconds 10] [--workers 2] [--scenes 16] [--looks 8] [--case ...] [--on ...]

One JSON line. For each case, 256 x 256 pixels, `looks` of each scene, and its truth: `numba`, the CPU engine
in `workers` spawned processes; `cpu` and, where there is one, `cuda`, usim.batches with as many processes that prepare
scenes. `images_per_s` counts looks, `scenes_per_s` scenes, `cpu_ms_per_image` the CPU time of this process alone;
`first_s` is what the first batch took, matrices included; `prepare_ms` one scene's CPU time before the device gets it.
`truth_db` is the largest difference of the truth to that of the NumPy engine, `nrmse_db` the error of the device's
engine against the grid-free definition, on 100 points, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time

# one kernel thread per process; numpy, numba and torch are imported later, inside the functions that need them
os.environ |= dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

PLAN = """
probe: L11-5v
transmit: {type: focused, depth: 20 mm, f_number: 2.5}
receive: {f_number: 1.5, apodization: hann}
image: {x: [-15 mm, 15 mm], z: [3 mm, 33 mm], pixels: [256, 256]}
scatterers: {model: field}
noise: {snr: 40 dB}
background: {echogenicity: 0 dB}
"""
REGIONS = """
regions:
  - repeat: {integer: [2, 8]}
    shape: {choice: [circle, ellipse, polygon]}
    center: [{uniform: [-14 mm, 14 mm]}, {uniform: [4 mm, 32 mm]}]
    size: {log_uniform: [1 mm, 8 mm]}
    echogenicity: {choice: [anechoic, {uniform: [-20 dB, 15 dB]}]}
"""
CASES = {"one scene": PLAN, "one plan": PLAN + REGIONS, "training": "training"}


def phantom_of(case: str):
    from usim.phantom.load import load_phantom, phantom_from_text

    return phantom_from_text(CASES[case], source=case) if "\n" in CASES[case] else load_phantom(CASES[case])


class Frames:
    """A source of image and truth, one scene after the other; for usim.feed."""

    def __init__(self, case: str, looks: int) -> None:
        self.case, self.looks = case, looks

    def open(self):
        from usim.pipeline import Renderer

        renderer = Renderer(phantom_of(self.case))

        def frames(index: int):
            return [renderer.image(index, look) for look in range(self.looks)], renderer.stage(index).bmode

        return frames


def counted(take, scenes: int, looks: int, seconds: float) -> dict:
    """Rates of a function that makes so many scenes at each call, after two calls."""
    start = time.perf_counter()
    take()
    first = time.perf_counter() - start
    take()
    start, spent, calls = time.perf_counter(), time.process_time(), 0
    while calls == 0 or time.perf_counter() - start < seconds:
        take()
        calls += 1
    rate = calls * scenes / (time.perf_counter() - start)
    own = (time.process_time() - spent) / (calls * scenes * looks)
    return {
        "scenes_per_s": round(rate, 2),
        "images_per_s": round(rate * looks, 1),
        "cpu_ms_per_image": round(1e3 * own, 2),
        "first_s": round(first, 2),
    }


def prepared(case: str, scenes: int = 8) -> float:
    """CPU time in ms that a scene takes before the device gets it, the first one's left out."""
    from usim.prepared import Scenes

    make = Scenes(phantom_of(case), 0, True).open()
    make(0), make(1)
    start = time.process_time()
    for index in range(2, 2 + scenes):
        make(index)
    return round(1e3 * (time.process_time() - start) / scenes, 1)


def on_processes(case: str, arguments: argparse.Namespace) -> dict:
    """The NumPy and Numba engine in processes."""
    from usim.feed import Feed

    with Feed(Frames(case, arguments.looks), workers=arguments.workers) as feed:
        return counted(lambda: next(feed), 1, arguments.looks, arguments.seconds)


def on_device(case: str, device: str, arguments: argparse.Namespace) -> dict:
    """usim.batches."""
    import usim

    shape = {"scenes": arguments.scenes, "looks": arguments.looks, "workers": arguments.workers}
    with usim.batches(phantom_of(case), device=device, **shape) as made:
        found = counted(lambda: next(made), arguments.scenes, arguments.looks, arguments.seconds)
    return found | {"prepare_ms": prepared(case)} | agreement(case, device)


def agreement(case: str, device: str) -> dict:
    """Largest difference of the truth of two scenes to NumPy's in dB, and error against the definition."""
    import numpy as np
    import torch

    import usim
    from usim.engines import psf
    from usim.engines.psf_device import DevicePlan
    from usim.pipeline import Renderer
    from usim.scatterers import Scatterers

    batch, renderer = next(usim.batches(phantom_of(case), device=device, scenes=2)), Renderer(phantom_of(case))
    truth = max(float(np.abs(batch.truth[k].cpu().numpy() - renderer.stage(k).bmode).max()) for k in range(2))
    plan, generator = renderer.stage(0).setting.plan, np.random.default_rng(0)
    x, z = plan.grid.x, plan.grid.z
    position = np.zeros((100, 3))
    position[:, 0], position[:, 2] = generator.uniform(x[0], x[-1], 100), np.sort(generator.uniform(z[0], z[-1], 100))
    points = Scatterers(position, np.ones(100))
    gain = np.sqrt(renderer.stage(0).gain)[:, None]
    expected = psf.definition(plan, points, elevation=False) * gain
    image = DevicePlan.of(plan, torch.device(device)).run([points], elevation=False)[0].cpu().numpy() * gain
    error = 10.0 * np.log10((abs(image - expected) ** 2).sum() / (abs(expected) ** 2).sum())
    return {"truth_db": float(f"{truth:.2g}"), "nrmse_db": round(float(error), 1)}


def main() -> None:
    import torch

    places = ["numba", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--looks", type=int, default=8)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--on", choices=places, action="append")
    arguments = parser.parse_args()
    found = {
        case: {
            place: on_processes(case, arguments) if place == "numba" else on_device(case, place, arguments)
            for place in arguments.on or places
        }
        for case in arguments.case or CASES
    }
    about = {"workers": arguments.workers, "scenes": arguments.scenes, "looks": arguments.looks, "pixels": [256, 256]}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "gpu": gpu}
    print(json.dumps({"benchmark": "stream", **about, **machine, "cases": found}))


if __name__ == "__main__":
    main()
