"""How long a whole scan takes in the time domain: channel RF of 128 focused transmissions, beamformed to one B-mode.

    python benchmarks/rf_frame.py [--scatterers 100000] [--dimensions 2d] [--threads 2] [--sample 50]

One JSON line: `seconds_rf` (usim.simulate_rf), `seconds_beamform` (usim.beamform, one line per transmission, to dB),
their sum `seconds`, `peak_mib` of the process up to there, and `nrmse_db` of the RF against the definition in double
precision (backend="numpy"), for a sample of the same scatterers, simulated both ways by the same transmissions.
The kernels are compiled before the clock starts. L11-5v, scatterers in the plane from 2 to 42 mm over 38 mm, one
transmission per line, focused at 20 mm with f/2.5; 512 pixels per line.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time

# numpy and numba are imported later, inside the functions that need them
os.environ["OPENBLAS_NUM_THREADS"] = "1"

LINES, FOCUS, F_NUMBER, HALF_WIDTH, DEPTHS = 128, 20e-3, 2.5, 19e-3, (2e-3, 42e-3)


def cloud_of(count: int):
    """Return scatterers drawn over the image."""
    import numpy as np

    from usim.scatterers import Scatterers

    generator = np.random.default_rng(0)
    position = np.zeros((count, 3))
    position[:, 0] = generator.uniform(-HALF_WIDTH, HALF_WIDTH, count)
    position[:, 2] = generator.uniform(*DEPTHS, count)
    return Scatterers(position, generator.choice([-1.0, 1.0], count))


def scan():
    """Return the lines' x (128,) in metres and their transmissions."""
    import numpy as np

    from usim.elements import elements_of
    from usim.events import Focused
    from usim.probe import Probe

    elements = elements_of(Probe.preset("L11-5v")).centre[:, 0]
    lines = np.linspace(-HALF_WIDTH, HALF_WIDTH, LINES)
    apertures = [tuple(1.0 * (abs(elements - x) <= FOCUS / F_NUMBER / 2.0)) for x in lines]
    return lines, [Focused(point=(x, 0.0, FOCUS), apodization=w) for x, w in zip(lines, apertures, strict=True)]


def b_mode(rf, lines):
    """Return the image (512, 128) in dB."""
    import numpy as np

    import usim
    from usim.process import envelope, log_compress

    return log_compress(envelope(usim.beamform(rf, (lines, np.linspace(*DEPTHS, 512)), lines=True)))


def measure(count: int, dimensions: str, sample: int) -> dict:
    """Simulate and beamform one frame, then compare a sample with the definition."""
    import numba
    import numpy as np

    import usim

    lines, events = scan()

    def rf_of(cloud, backend="numba"):
        return usim.simulate_rf("L11-5v", events, usim.Medium(), cloud, dimensions=dimensions, backend=backend)

    b_mode(rf_of(cloud_of(100)), lines)
    cloud = cloud_of(count)
    start = time.perf_counter()
    rf = rf_of(cloud)
    middle = time.perf_counter()
    image = b_mode(rf, lines)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    assert np.isfinite(image).all()
    few = usim.Scatterers(cloud.position[:sample], cloud.amplitude[:sample])
    truth = rf_of(few, "numpy").data
    error = np.linalg.norm(rf_of(few).data - truth) / np.linalg.norm(truth)
    return {
        "benchmark": "rf_frame",
        "dimensions": dimensions,
        "scatterers": count,
        "transmissions": len(events),
        "seconds_rf": round(middle - start, 3),
        "seconds_beamform": round(end - middle, 3),
        "seconds": round(end - start, 3),
        "nrmse_db": round(20.0 * float(np.log10(error)), 1),
        "peak_mib": round(peak),
        "data": list(rf.data.shape),
        "threads": numba.get_num_threads(),
        "cpu": platform.processor() or platform.machine(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scatterers", type=int, default=100_000)
    parser.add_argument("--dimensions", choices=("2d", "3d"), default="2d")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--sample", type=int, default=50)
    arguments = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = str(arguments.threads)
    print(json.dumps(measure(arguments.scatterers, arguments.dimensions, arguments.sample)), flush=True)
