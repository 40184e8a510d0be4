"""Whole frames to disk: drawing, planning, simulation, truth, encoding, writing; and where the time goes.

    python benchmarks/generate.py [--frames 96] [--workers 2] [--folder FOLDER]
    python benchmarks/generate.py --overlap [--repeats 3] [--shard-size FRAMES] ...
    python benchmarks/generate.py --predict [--options "--dtype uint8 --compress"] ...

One JSON line per phantom. `frames_per_s` is that of `usim generate` with `--workers` processes, start-up and JIT
loading
included; `steady_frames_per_s` leaves them out (rate between the first and the last shard's frames). `breakdown_ms` is
one core's time per frame, measured in this process. `peak_mb` is the largest resident size of a worker at --frames
and at a quarter of them: it must not grow with the number of frames.

--overlap: frames per second of shards made and written, over those of the same frames simulated and dropped by as many
processes, without start-up: `ratio`. The two take turns, the best of the repeats counts. `cpu_ratio` is that of the CPU
time of the processes, which tells of a busy machine what the wall clock does not.
--predict: what `usim generate --dry-run` says over what the run then takes: bytes, memory of the workers at their
peaks, and minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
TRAINING = Path(__file__).resolve().parents[1] / "phantoms/training.yaml"
CASES = {
    "cyst size, field": SETTING % "model: field",
    "cyst size, 100k points": SETTING % "per_cell: 1.7",
    "cyst as shipped": None,
    "training as shipped": None,
    "training-wide as shipped": None,
    "training at 512 x 512": TRAINING.read_text().replace("[256, 256]", "[512, 512]"),
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


@dataclass(frozen=True)
class Timed:
    """Makes shards, or simulates their frames and drops them, and reports the CPU time of its process."""

    maker: Any
    writes: bool

    def open(self) -> Callable:
        from usim.pipeline import Renderer
        from usim.workers import Later

        def now() -> tuple[int, float]:
            return os.getpid(), time.process_time()

        def drop(rows: range, report: Callable) -> Later:
            for row in rows:
                renderer.frame(row)
                report(1)
            return Later(lambda check: None)

        Renderer(self.maker.phantom, seed=self.maker.plan.seed).frame(0)  # loads the kernels
        renderer = Renderer(self.maker.phantom, seed=self.maker.plan.seed)
        make = self.maker.open_ahead() if self.writes else drop

        def timed(rows: range, report: Callable) -> Later:
            report(now())
            later = make(rows, lambda count: report(now()))
            return Later(lambda check: (later.result(), now())[1])

        return timed


def overlap(
    source: str, frames: int, workers: int, folder: Path, *, repeats: int, shard_size: int | None = None
) -> dict:
    """Rate of making and writing shards over that of simulating their frames."""
    from usim.generate import ShardMaker, deciding_versions
    from usim.phantom.load import load_phantom
    from usim.sizing import plan_run
    from usim.workers import map_items

    phantom = load_phantom(source)
    plan = plan_run(phantom, frames=frames, workers=workers, shard_size=shard_size)
    folder.mkdir(exist_ok=True)
    maker = ShardMaker(phantom, plan, folder, deciding_versions())
    rate, cpu = {"pipeline": 0.0, "generate": 0.0}, {"pipeline": float("inf"), "generate": float("inf")}
    for _ in range(repeats):
        for name in rate:
            wall, used = list[float](), dict[int, list[float]]()

            def listen(event: Any, wall: list[float] = wall, used: dict[int, list[float]] = used) -> None:
                if event.kind in ("progress", "done"):
                    wall.append(time.perf_counter())
                    used.setdefault(event.value[0], []).append(event.value[1])

            map_items(Timed(maker, name == "generate").open, plan.shards, plan.workers, listen)
            rate[name] = max(rate[name], frames / (wall[-1] - wall[0]))
            cpu[name] = min(cpu[name], sum(times[-1] - times[0] for times in used.values()) / frames)
    return {
        "shard_mb": round(sum(path.stat().st_size for path in folder.glob("*.h5")) / len(plan.shards) / 1e6, 1),
        "frames_per_s": {name: round(value, 2) for name, value in rate.items()},
        "ratio": round(rate["generate"] / rate["pipeline"], 3),
        "cpu_ms": {name: round(value * 1e3, 1) for name, value in cpu.items()},
        "cpu_ratio": round(cpu["pipeline"] / cpu["generate"], 3),
    }


def peaks(pid: int, found: dict[int, int]) -> None:
    """Note the largest resident size, bytes, of every worker of a process, or of itself while it has none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for number in [int(child) for child in children] or [pid]:
        command = Path(f"/proc/{number}/cmdline").read_text()
        status = Path(f"/proc/{number}/status").read_text()
        if "VmHWM" in status and ("spawn_main" in command or number == pid):
            found[number] = int(status.split("VmHWM:")[1].split()[0]) * 1024


def predict(source: str, frames: int, workers: int, folder: Path, options: list[str]) -> dict:
    """What a dry run says over what a run then takes."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "usim", "generate", source, "-o", str(folder), "--frames", str(frames), *options]
    command += ["--workers", str(workers)]
    said = subprocess.run([*command, "--dry-run"], check=True, capture_output=True, text=True).stdout
    said = {line.split()[0]: line.split()[1] for line in said.splitlines()}
    found: dict[int, int] = {}
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while run.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one has just ended
            peaks(run.pid, found)
        time.sleep(0.05)
    if workers > 1:
        found.pop(run.pid, None)
    took = json.loads((folder / "run.json").read_text())["wall_s"]
    actual = {
        "bytes": sum(path.stat().st_size for path in folder.glob("*.h5")),
        "memory": sum(found.values()),
        "minutes": took / 60,
    }
    return {
        "options": " ".join(options),
        "said": {name: float(said[name]) for name in actual},
        "actual": {name: round(value, 3) for name, value in actual.items()},
        "said_over_actual": {name: round(float(said[name]) / value, 3) for name, value in actual.items()},
    }


def source_of(case: str, folder: Path) -> str:
    """The name or the file of a case's phantom."""
    text = CASES[case]
    if text is None:
        return case.split()[0]
    (folder / "phantom.yaml").write_text(text)
    return str(folder / "phantom.yaml")


def measure(case: str, frames: int, workers: int, folder: Path) -> dict:
    """One case: two runs of the command line, of all and of a quarter of the frames, and the breakdown."""
    source = source_of(case, folder)
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
    parser.add_argument("--overlap", action="store_true", help="only the rate of writing over that of simulating")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shard-size", type=int, help="frames of a shard, with --overlap")
    parser.add_argument("--predict", action="store_true", help="only what a dry run says over what a run takes")
    parser.add_argument("--options", default="", help="more options of usim generate, with --predict")
    parser.add_argument("--phantom", help="a name or a file instead of the cases, with --predict")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        for case in [given.phantom] if given.phantom else given.case or CASES:
            name = {"case": case, "frames": given.frames, "workers": given.workers}
            source = given.phantom or source_of(case, Path(scratch))
            place = source, given.frames, given.workers, Path(scratch) / "out"
            if given.overlap:
                line = {
                    "benchmark": "overlap",
                    **name,
                    **overlap(*place, repeats=given.repeats, shard_size=given.shard_size),
                }
            elif given.predict:
                line = {"benchmark": "predict", **name, **predict(*place, given.options.split())}
            else:
                line = measure(case, given.frames, given.workers, Path(scratch))
            print(json.dumps(line), flush=True)
