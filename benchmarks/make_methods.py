"""Seconds to make each method from each of its presets, and its parameters: one JSON line, the slowest first.

    OMP_NUM_THREADS=1 python benchmarks/make_methods.py

Each is made three times in one process, and the fastest counts; `first` is the slowest of all, which has the imports
in it. Methods whose packages are not installed are named.
"""

from __future__ import annotations

import json
import time

import torch

from s2s.methods import METHODS, make, method_class


def seconds_to_make(name: str, preset: str) -> list[float]:
    """Wall-clock seconds of three times."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        make(name, preset)
        taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Print the line."""
    torch.set_num_threads(1)
    able = [name for name in METHODS if not method_class(name).lacking()]
    taken = {(name, preset): seconds_to_make(name, preset) for name in able for preset in method_class(name).PRESETS}
    order = sorted(taken, key=lambda one: -min(taken[one]))
    rows = [
        {
            "method": name,
            "preset": preset,
            "seconds": round(min(taken[name, preset]), 3),
            "parameters": make(name, preset).parameter_count(),
        }
        for name, preset in order
    ]
    first = round(max(max(times) for times in taken.values()), 3)
    missing = [name for name in METHODS if name not in able]
    print(
        json.dumps({"benchmark": "make_methods", "made": len(rows), "first": first, "missing": missing, "rows": rows})
    )


if __name__ == "__main__":
    main()
