"""Channel RF against PyMUST's SIMUS: both timed in one run, with how well that run's results agree.

    python benchmarks/rf_vs_pymust.py --scatterers 100000               # both; two to three minutes
    python benchmarks/rf_vs_pymust.py --scatterers 1000000 --no-pymust
    python benchmarks/rf_vs_pymust.py --sweep                           # ours from 1k to 1M, and the exponent of N

One plane wave of the L11-5v, 4 samples per period, scatterers from 1 to 40 mm over 40 mm, 2-D, soft baffle, directivity
as at the centre frequency, two sub-elements per element: SIMUS's own defaults, and the settings that
tests/physics/test_simus_agreement.py judges in every band of depth.

One JSON line:
    seconds         ours, the best of --repeats, from scatterers to samples with all checks; kernels compiled before
    pymust_seconds  PyMUST's, the best of --pymust-repeats
    pymust_cpu_seconds  CPU time of that call in all threads; where it is not near pymust_seconds times the cores, other
                    programs were at work, and the ratio is too good
    ratio           theirs over ours
    gain, nrmse_db  of ours against theirs, the very arrays that were timed
    peak_mib        by how much making and simulating the cloud raises the resident size of a fresh process that has
                    simulated 1000 scatterers before (VmHWM of /proc/self/status; Linux only)
    threads         of our kernels
--sweep prints a last line with `exponent`, the slope of log seconds over log N by least squares.

PyMUST runs at its best: its own pool of threads, one BLAS thread in each (else they oversubscribe), the cloud as a row,
so that the pool shares it out, and as many threads as cores. On two cores and 10,000 scatterers 2, 4 and 8
threads took 7.1 to 8.3 s in two runs each, 16 threads 10 s, two processes 8.6 s; at 1000 scatterers two threads were
the best. Its threshold for frequencies is its own, -100 dB; with -60 dB it took 7.4 s.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

# one BLAS thread in each of PyMUST's; before numpy is imported
os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "physics"))
SWEEP = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
MEMORY = """
import re, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from rf_vs_pymust import setting, simulate
def resident(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024.0
simulate(setting(1000))
before = resident("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
simulate(setting(int(sys.argv[1])))
print(resident("VmHWM") - before)
"""


def setting(count: int, seed: int = 0):
    """The cloud: normally distributed amplitudes, uniform over 40 mm x 1 to 40 mm."""
    from usim.scatterers import Scatterers

    rng = np.random.default_rng(seed)
    position = np.stack([rng.uniform(-20e-3, 20e-3, count), np.zeros(count), rng.uniform(1e-3, 40e-3, count)], axis=1)
    return Scatterers(position, rng.standard_normal(count))


def simulate(cloud):
    """Our RF, by the call that users make."""
    from usim.events import PlaneWave
    from usim.medium import Medium
    from usim.rf import simulate_rf

    medium = Medium(attenuation=0.0)
    return simulate_rf("L11-5v", PlaneWave(), medium, cloud, dimensions="2d", directivity="center")


def timed(work, repeats: int):
    """(best seconds, CPU seconds of that call in all threads, last result)."""
    best = (np.inf, np.inf)
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        result = work()
        best = min(best, (time.perf_counter() - start, time.process_time() - used))
    return *best, result


def peak_mib(count: int) -> float | None:
    """How far a cloud of `count`, made and simulated in a process of its own, raises its resident size; Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    command = [sys.executable, "-c", MEMORY, str(count), str(ROOT), str(ROOT / "benchmarks")]
    return round(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout), 1)


def measure(count: int, repeats: int, pymust_repeats: int, workers: int) -> dict:
    """One line for `count` scatterers; without PyMUST if pymust_repeats is 0."""
    from usim.engines.compiled import kernels

    cloud = setting(count)
    simulate(setting(1000))  # compiles
    seconds, _, rf = timed(lambda: simulate(cloud), repeats)
    line = {"benchmark": "rf_vs_pymust", "scatterers": count, "seconds": round(seconds, 5)}
    if pymust_repeats:
        from simus import Case, agreement, on_grid, theirs

        from usim.events import PlaneWave
        from usim.probe import Probe

        case = Case(Probe.preset("L11-5v"), PlaneWave())
        theirs(case, setting(100), workers)
        other, used, wanted = timed(lambda: theirs(case, cloud, workers), pymust_repeats)
        data = rf.data[0].astype(np.float64)
        found = agreement(on_grid(data, round(rf.t0[0] * rf.sampling_frequency), len(wanted)), wanted)
        line |= {"pymust_seconds": round(other, 3), "pymust_cpu_seconds": round(used, 3)}
        line["ratio"] = round(other / seconds, 1)
        line |= {"gain": round(found.gain, 6), "nrmse_db": round(found.nrmse_db, 1)}
    line |= {"peak_mib": peak_mib(count), "threads": kernels("sir").threads()}
    return line | {"cpu": platform.processor() or platform.machine()}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scatterers", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pymust-repeats", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="threads of PyMUST's pool")
    parser.add_argument("--no-pymust", action="store_true")
    parser.add_argument("--sweep", action="store_true", help="ours from 1k to 1M scatterers")
    arguments = parser.parse_args()
    pymust_repeats = 0 if arguments.no_pymust or arguments.sweep else arguments.pymust_repeats
    lines = []
    for count in SWEEP if arguments.sweep else (arguments.scatterers,):
        lines.append(measure(count, arguments.repeats, pymust_repeats, arguments.workers))
        print(json.dumps(lines[-1]), flush=True)
    if arguments.sweep:
        logs = np.log([[line["scatterers"], line["seconds"]] for line in lines])
        exponent = np.polyfit(logs[:, 0], logs[:, 1], 1)[0]
        print(json.dumps({"benchmark": "rf_vs_pymust", "exponent": round(float(exponent), 3)}))


if __name__ == "__main__":
    main()
