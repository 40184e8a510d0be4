"""What a batch of `field` images costs on a torch device: operations and bytes counted, stages timed, error measured.

    python benchmarks/psf_device.py [--device cuda] [--images 64] [--pixels 256]

One JSON line. `gflop` and `megabytes` per image are counted from the plan's matrices; bytes are those that have to pass
through the device's memory, each operation's operands and result once (a tile's neighbours find their shared cells in
the cache). `floor_us` is what they take per image at the rates of --tflops and --bandwidth, the data sheet of an H100
by default: a bound, no measurement. `ms` per image are measured on the device, with one look per scene; `images_per_s`
is the whole, from random numbers to IQ. `nrmse_db` is against the engine's grid-free definition.
"""

from __future__ import annotations

import argparse
import json
import time

SCENE = """
probe: L11-5v
transmit: {{type: focused, depth: 20 mm, f_number: 2.5}}
receive: {{f_number: 1.5, apodization: hann}}
image: {{x: [-19 mm, 19 mm], z: [2 mm, 42 mm], pixels: [{pixels}, {pixels}]}}
scatterers: {{model: field}}
background: {{echogenicity: 0 dB}}
"""


def counted(chain, fine: tuple[int, int], images: int) -> dict[str, tuple[float, float]]:
    """(floating-point operations, bytes) per image of every stage; bytes of matrices are shared by the batch."""
    rows, columns = fine
    cells, (tiles, pulse) = 8.0 * rows * columns, chain.terms[0]
    lateral = 8.0 * chain.axial[-1].rows.stop * columns
    read = 8.0 * tiles[-1].rows.stop * chain.pixels

    def size(parts) -> float:
        return float(sum(part.matrix.numel() for part in parts))

    matrices = 8.0 * (size(tiles) + size(pulse)) / images
    return {
        "random": (0.0, cells),
        "amplitude": (2.0 * rows * columns, 2.5 * cells),
        "filter": (4.0 * columns * size(chain.axial), cells + lateral),
        "kernels": (8.0 * size(tiles), matrices + lateral + 3.0 * read),
        "pulse": (8.0 * chain.pixels * size(pulse), read + 8.0 * pulse[-1].rows.stop * chain.pixels),
    }


def timed(device, repeat: int, work) -> float:
    """Least seconds of a few runs of `work`, the device's queue emptied."""
    import torch

    best = float("inf")
    for _ in range(repeat + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def stages(plan, images: int, repeat: int) -> dict[str, float]:
    """Seconds per image of every stage of a batch."""
    import torch

    from usim.engines import _psf_torch as kernels

    chain, grid = plan.field_chain, plan.plan.grid
    shape = len(grid.fine_z), images, len(grid.fine_x)
    cells = torch.empty(shape, dtype=torch.complex64, device=plan.device)
    amplitude = torch.rand(shape, device=plan.device)
    generator = torch.Generator(plan.device).manual_seed(0)
    tiles, pulse = chain.terms[0]
    with kernels.single_precision():
        rows = kernels.along_rows(chain.axial, cells)
        columns = kernels.along_columns(tiles, rows, chain.pixels)
        parts = {
            "random": lambda: kernels.fill_white(cells, generator),
            "amplitude": lambda: cells.mul_(amplitude),
            "filter": lambda: kernels.along_rows(chain.axial, cells),
            "kernels": lambda: kernels.along_columns(tiles, rows, chain.pixels),
            "pulse": lambda: kernels.along_rows(pulse, columns),
        }
        return {name: timed(plan.device, repeat, work) / images for name, work in parts.items()}


def accuracy(plan) -> float:
    """NRMSE in dB against the definition, of 100 scatterers over the image, every fourth pixel either way."""
    from dataclasses import replace

    import numpy as np

    from usim.engines import psf
    from usim.scatterers import Scatterers

    grid, rng = plan.plan.grid, np.random.default_rng(0)
    place = np.stack((rng.uniform(*grid.x[[0, -1]], 100), np.zeros(100), rng.uniform(*grid.z[[0, -1]], 100)), axis=1)
    cloud = Scatterers(place, rng.choice((-1.0, 1.0), 100))
    thin = replace(plan.plan, grid=replace(grid, x=grid.x[::4], z=grid.z[::4]))
    wanted = psf.definition(thin, cloud, elevation=False)
    found = plan.run([cloud], elevation=False)[0, ::4, ::4].cpu().numpy()
    return float(10.0 * np.log10((abs(found - wanted) ** 2).sum() / (abs(wanted) ** 2).sum()))


def main() -> None:
    """Count, time, and print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--captured", action="store_true", help="replay a CUDA graph")
    parser.add_argument("--tflops", type=float, default=67.0, help="single precision, without tensor cores")
    parser.add_argument("--bandwidth", type=float, default=3.35, help="TB/s")
    asked = parser.parse_args()
    import torch

    from usim.engines.psf_device import DevicePlan
    from usim.phantom.load import phantom_from_text
    from usim.pipeline import Renderer

    stage = Renderer(phantom_from_text(SCENE.format(pixels=asked.pixels))).stage(0)
    plan = DevicePlan.of(stage.setting.plan, asked.device, captured=asked.captured)
    _ = stage.setting.plan.banks
    build = timed(plan.device, 0, lambda: plan.field_chain)
    grid, chain = plan.plan.grid, plan.field_chain
    costs = counted(chain, (len(grid.fine_z), len(grid.fine_x)), asked.images)
    amplitude = torch.as_tensor(stage.field_amplitude, device=plan.device).expand(asked.images, -1, -1)
    generator = torch.Generator(plan.device).manual_seed(0)
    whole = timed(plan.device, asked.repeat, lambda: plan.run_field(amplitude, generator))
    measured = stages(plan, asked.images, asked.repeat)
    floor = sum(max(flop / asked.tflops, size / asked.bandwidth) * 1e-6 for flop, size in costs.values())
    line = {
        "benchmark": "psf_device",
        "device": torch.cuda.get_device_name(plan.device) if plan.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "pixels": [len(grid.x), len(grid.z)],
        "images": asked.images,
        "images_per_s": round(asked.images / whole, 1),
        "nrmse_db": round(accuracy(plan), 1),
        "ms": {name: round(1e3 * seconds, 4) for name, seconds in measured.items()},
        "gflop": {name: round(1e-9 * flop, 3) for name, (flop, _) in costs.items()},
        "megabytes": {name: round(1e-6 * size, 1) for name, (_, size) in costs.items()},
        "floor_us": round(floor, 1),
        "plan_seconds": round(build, 2),
        "plan_megabytes": round(sum(part.matrix.numel() for part in chain.terms[0][0]) * 8e-6, 1),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
