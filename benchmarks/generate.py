"""Whole frames to disk: drawing, planning, simulation, truth, encoding, writing; and where the time goes.

    python benchmarks/generate.py [--frames 96] [--workers 2] [--folder FOLDER]

One JSON line per phantom. `frames_per_s` is that of `usim generate` with `--workers` processes, start-up and JIT
loading
included; `steady_frames_per_s` leaves them out (rate between the first and the last shard's frames). `breakdown_ms` is
one core's time per frame, measured in this process. `peak_mb` is the largest resident size of a worker at --frames
and at a quarter of them: it must not grow with the number of frames.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# one kernel thread per process; numpy and numba are imported later, inside the functions that need them
os.environ |= dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")

SETTING = """
probe: L11-5v
transmit: {type: focused, depth: 20 mm, f_number: 2.5}
image: {x: [-19 mm, 19 mm], z: [2 mm, 42 mm], pixels: [512, 512]}
scatterers: {%s}
noise: {snr: 50 dB}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: anechoic cyst, shape: circle, center: [-10 mm, 15 mm], radius: 3 mm, echogenicity: anechoic}
  - {name: bright lesion, shape: ellipse, center: [10 mm, 15 mm], radii: [4 mm, 2.5 mm], echogenicity: 9 dB}
points:
  - {position: [0 mm, 30 mm], amplitude: 30 dB}
"""
CASES = {
    "cyst size, field": SETTING % "model: field",
    "cyst size, 100k points": SETTING % "per_cell: 1.7",
    "cyst as shipped": None,
    "training as shipped": None,
    "training-wide as shipped": None,
}


def run_cli(phantom: str, folder: Path, frames: int, workers: int) -> dict:
    """Run `usim generate` in a process of its own: seconds, peak MB of the largest child, steady rate."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "usim", "generate", phantom, "-o", str(folder), "--frames", str(frames)]
    script = (
        "import json, resource, subprocess, sys, time; start = time.time(); "
        "subprocess.run(sys.argv[1:], check=True, capture_output=True); "
        "print(json.dumps([time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command, "--workers", str(workers)], check=True, capture_output=True, text=True
    )
    seconds, peak = json.loads(done.stdout)
    shards = sorted(folder.glob("shard-*.h5"), key=lambda path: path.stat().st_mtime)
    size = frames / len(shards)
    first, last = shards[0].stat().st_mtime, shards[-1].stat().st_mtime
    # shards are finished `workers` at a time: from the first to the last one, all but the first wave were made
    steady = (len(shards) - 1) * size / (last - first) if last > first else None
    return {
        "seconds": seconds,
        "peak_mb": peak / 1024,
        "steady": steady,
        "bytes": sum(s.stat().st_size for s in shards),
    }


def breakdown(source: str, frames: int = 12) -> dict[str, float]:
    """Milliseconds of one core per frame: whole frames, then the same frames stage by stage, then the way to disk."""
    import hashlib

    from usim.generate import deciding_versions
    from usim.io.atomic import write_atomic
    from usim.io.shard import ShardHeader, encode_shard
    from usim.phantom.draw import NOISE, SCATTERERS, substream
    from usim.phantom.load import load_phantom
    from usim.pipeline import Renderer

    phantom = load_phantom(source)
    total: dict[str, float] = {}

    def timed(name, action):
        start = time.process_time()
        result = action()
        total[name] = total.get(name, 0.0) + time.process_time() - start
        return result

    renderer = Renderer(phantom)
    renderer.render(0)
    made = [timed("whole frame", lambda i=i: renderer.render(i)) for i in range(1, frames + 1)]
    renderer = Renderer(phantom)
    renderer.render(0)
    for index in range(1, frames + 1):
        stage = timed("of it: scene and plan", lambda i=index: renderer.stage(i))
        timed("of it: kernels", lambda s=stage: s.setting.plan.banks)
        timed("of it: truth", lambda s=stage: s.truth)
        if stage.noise_power:
            timed("of it: noise", lambda s=stage, i=index: s.setting.noise.draw(substream(0, i, NOISE)))
        if stage.density < float("inf"):
            timed("of it: draw scatterers", lambda s=stage, i=index: s.scatterers(substream(0, i, SCATTERERS)))
    header = ShardHeader(frames, 1, 0, phantom.config_yaml, "", deciding_versions())
    data = timed("encode HDF5", lambda: encode_shard(iter(made), header))
    timed("sha256", lambda: hashlib.sha256(data).hexdigest())
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_atomic(Path(folder) / "shard.h5", data)
        total["write and fsync (wall)"] = time.perf_counter() - start
    return {name: round(seconds / frames * 1e3, 2) for name, seconds in total.items()}


def measure(case: str, frames: int, workers: int, folder: Path) -> dict:
    """One case: two runs of the command line, of all and of a quarter of the frames, and the breakdown."""
    text = CASES[case]
    source = case.split()[0]
    if text is not None:
        path = folder / "phantom.yaml"
        path.write_text(text)
        source = str(path)
    small = run_cli(source, folder / "out", max(frames // 4, 8), workers)
    whole = run_cli(source, folder / "out", frames, workers)
    return {
        "benchmark": "generate",
        "case": case,
        "frames": frames,
        "workers": workers,
        "frames_per_s": round(frames / whole["seconds"], 2),
        "frames_per_minute": round(60 * frames / whole["seconds"]),
        "steady_frames_per_s": whole["steady"] and round(whole["steady"], 2),
        "mb_per_frame": round(whole["bytes"] / frames / 1e6, 2),
        "peak_mb": {str(max(frames // 4, 8)): round(small["peak_mb"]), str(frames): round(whole["peak_mb"])},
        "breakdown_ms": breakdown(source),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=96)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder unless given")
    parser.add_argument("--case", choices=CASES, action="append")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        for case in arguments.case or CASES:
            print(json.dumps(measure(case, arguments.frames, arguments.workers, Path(scratch))), flush=True)
