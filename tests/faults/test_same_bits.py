"""The frames of a seed: with any number of threads, workers and shards their bits are the same."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from surroundings import environment

from usim.generate import generate
from usim.io.dataset import open_frames
from usim.phantom.load import load_phantom

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [48, 40]}
medium: {attenuation: {uniform: [0.2 dB/cm/MHz, 0.8 dB/cm/MHz]}}
scatterers: {model: SCATTERERS}
background: {name: tissue, echogenicity: 0 dB, texture: {std: 2 dB, correlation: 2 mm}}
regions:
  - {name: cyst, shape: ellipse, center: [-1 mm, 15 mm], size: 3 mm, angle: 30 deg, echogenicity: anechoic}
frames: 8
seed: 3
"""
THREADED = """
import sys
import numba
from usim.generate import generate
from usim.phantom.load import load_phantom

for threads in (1, 2, 4):
    numba.set_num_threads(threads)
    generate(load_phantom("small.yaml"), f"threads-{threads}", workers=1, shard_size=4, store=["iq"])
    assert numba.get_num_threads() == threads
"""


def bits(folder):
    digest = hashlib.sha256()
    for frame in open_frames(folder):
        truth = frame.truth
        for image in (frame.iq, frame.bmode, frame.envelope, truth.bmode, truth.resolved_db, truth.echogenicity_db):
            digest.update(np.ascontiguousarray(image))
        digest.update(repr((frame.params, truth.label_names)).encode() + truth.labels.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    "scatterers",
    ["field", *(pytest.param(words, marks=pytest.mark.slow) for words in ("plane", "volume, per_cell: 1"))],
)
def test_frames_do_not_depend_on_threads(tmp_path, scatterers):
    (tmp_path / "small.yaml").write_text(PHANTOM.replace("SCATTERERS", scatterers))
    threads = environment(NUMBA_NUM_THREADS="4")
    subprocess.run([sys.executable, "-c", THREADED], cwd=tmp_path, env=threads, check=True, timeout=300)
    assert len({bits(tmp_path / f"threads-{threads}") for threads in (1, 2, 4)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("scatterers", ["field", "plane", "volume, per_cell: 1"])
def test_frames_do_not_depend_on_workers_or_shards(tmp_path, scatterers):
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM.replace("SCATTERERS", scatterers))
    runs = [(1, size) for size in range(1, 9)] + [(2, 1), (2, 3), (4, 1), (4, 2)]
    found = set()
    for workers, size in runs:
        generate(load_phantom(path), tmp_path / f"{workers}-{size}", workers=workers, shard_size=size, store=["iq"])
        found.add(bits(tmp_path / f"{workers}-{size}"))
    assert len(found) == 1
