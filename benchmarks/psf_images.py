"""How many images per second the `psf` engine makes, from scatterers to dB, and how exact they are.

    python benchmarks/psf_images.py [--processes 2] [--seconds 4]

One JSON line per case: `images_per_s` over all processes after warm-up (one image per core, one kernel thread each),
`nrmse_db` of the same kernels against the grid-free definition on a subsample of the same cloud, `taps` (axial, mean
lateral), `rank` of the PSF, the internal grid. A rate counts only where nrmse_db is at most -50. Drawing the cloud is
not timed here (benchmarks/generate.py does); for `field`, which has no cloud, drawing is part of the image and timed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time

# one kernel thread per process; numpy and numba are imported later, inside the functions that need them
os.environ |= dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")

CYST = """
probe: L11-5v
transmit: {type: focused, depth: 20 mm, f_number: 2.5}
receive: {f_number: 1.5, apodization: hann}
image: {x: [-19 mm, 19 mm], z: [2 mm, 42 mm], pixels: [512, 512]}
background: {name: tissue, echogenicity: 0 dB}
"""
CASES = {
    "plane 100k": (CYST, "plane", 100_000),
    "plane 1M": (CYST, "plane", 1_000_000),
    "field": (CYST, "field", 0),
    "cyst.yaml as shipped": ("cyst", "plane", None),
}


def prepare(case: str):
    """The stage of a case, and a function that makes one dB image."""
    import numpy as np

    from usim.engines import psf
    from usim.phantom.draw import SCATTERERS, substream
    from usim.phantom.load import load_phantom, phantom_from_text
    from usim.pipeline import Renderer
    from usim.process import envelope, log_compress
    from usim.scatterers import Scatterers

    source, model, count = CASES[case]
    stage = Renderer(load_phantom(source) if "\n" not in source else phantom_from_text(source)).stage(0)
    plan, generator = stage.setting.plan, substream(0, 0, SCATTERERS)
    if model == "field":
        amplitude = stage.field_amplitude
        return stage, None, lambda: log_compress(envelope(psf.run_field(plan, amplitude, generator)))
    cloud = stage.scatterers(generator)
    if count is not None:
        (x0, x1), (z0, z1) = plan.extent
        position = np.zeros((count, 3))
        position[:, 0], position[:, 2] = generator.uniform(x0, x1, count), np.sort(generator.uniform(z0, z1, count))
        cloud = Scatterers(position, generator.choice([-1.0, 1.0], count))
    return stage, cloud, lambda: log_compress(envelope(psf.run(plan, cloud, elevation=False)))


def accuracy(stage, cloud, count: int = 100) -> float:
    """NRMSE in dB against the definition, on `count` scatterers of the cloud, depths weighed as TGC does."""
    import numpy as np

    from usim.engines import psf
    from usim.scatterers import Scatterers

    plan = stage.setting.plan
    (x0, x1), (z0, z1) = (plan.grid.x[0], plan.grid.x[-1]), (plan.grid.z[0], plan.grid.z[-1])
    if cloud is None:  # `field` shares kernels and filters with a cloud of the same setting
        generator = np.random.default_rng(0)
        position = np.stack(
            (generator.uniform(x0, x1, count), np.zeros(count), generator.uniform(z0, z1, count)), axis=1
        )
        cloud = Scatterers(position, np.ones(count))
    inside = np.nonzero((cloud.x > x0) & (cloud.x < x1) & (cloud.z > z0) & (cloud.z < z1))[0]
    chosen = inside[np.linspace(0, len(inside) - 1, count).astype(int)]
    sample = Scatterers(cloud.position[chosen], cloud.amplitude[chosen])
    gain = np.sqrt(stage.gain)[:, None]
    truth = psf.definition(plan, sample, elevation=False) * gain
    image = psf.run(plan, sample, elevation=False) * gain
    return 10.0 * np.log10((abs(image - truth) ** 2).sum() / (abs(truth) ** 2).sum())


def work(case: str, seconds: float, ready, go, results) -> None:
    """One process: warm up, wait for the others, count images for a while."""
    _, _, image = prepare(case)
    image(), image()
    ready.release()
    go.wait()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        image()
        count += 1
    results.put(count / (time.perf_counter() - start))


def measure(case: str, processes: int, seconds: float) -> dict:
    """Run one case in `processes` processes at once."""
    context = multiprocessing.get_context("spawn")
    ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
    workers = [context.Process(target=work, args=(case, seconds, ready, go, results)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for _ in workers:
        while not ready.acquire(timeout=1.0):
            if not all(worker.is_alive() for worker in workers):
                raise SystemExit(f"{case}: a process failed, see above")
    go.set()
    rates = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    stage, cloud, _ = prepare(case)
    grid = stage.setting.plan.grid
    banks = stage.setting.plan.banks
    rows = sum(len(bank.node) for bank in banks)
    lateral = sum(float((2 * bank.reach[bank.node] + 1).sum()) for bank in banks) / rows
    return {
        "benchmark": "psf_images",
        "case": case,
        "images_per_s": round(sum(rates), 1),
        "processes": processes,
        "pixels": [len(grid.x), len(grid.z)],
        "scatterers": 0 if cloud is None else len(cloud),
        "model": CASES[case][1],
        "nrmse_db": round(accuracy(stage, cloud), 1),
        "rank": 1,
        "taps": [stage.setting.plan.pulse_rows[1].shape[1], round(lateral, 1)],
        "grid": {"rows": len(grid.row), "columns": len(grid.column), "fine": [len(grid.fine_z), len(grid.fine_x)]},
        "cpu": platform.processor() or platform.machine(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--case", choices=CASES, action="append")
    arguments = parser.parse_args()
    for case in arguments.case or CASES:
        print(json.dumps(measure(case, arguments.processes, arguments.seconds)), flush=True)
