"""What a dry run says is what a run takes, within a fifth, whatever kind of phantom and file it is."""

import importlib.util
import sys
from pathlib import Path

import pytest

from usim.errors import ResourceError
from usim.estimate import estimate
from usim.generate import generate
from usim.phantom.load import load_phantom
from usim.sizing import plan_run
from usim.workers import Event

ROOT = Path(__file__).resolve().parents[2]
PLAIN = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [64, 48]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 8
"""
CLOUD = PLAIN.replace("{model: field}", "{per_cell: {uniform: [2, 8]}}")
SWEEP = PLAIN.replace("{model: field}", "{model: volume}") + "sweep: {slices: 4, step: 0.3 mm}\n"
SECTOR = """\
probe: P4-2v
transmit: {type: focused, depth: 40 mm}
image: {angle: [-30 deg, 30 deg], depth: [10 mm, 60 mm], lines: 32, samples: 200, pixels: [64, 64]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 6
"""
SIR = "engine: sir\n" + PLAIN.replace("{model: field}", "{per_cell: 1}").replace("[64, 48]", "[32, 24]").replace(
    "8", "4"
)


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("benchmark_of_generate", ROOT / "benchmarks/generate.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (PLAIN, {"store": ["iq"]}),
        (PLAIN, {"dtype": "uint8", "compress": True}),
        (CLOUD, {"store": ["scatterers"], "shard_size": 3}),
        (SWEEP, {"dtype": "float16", "store": ["iq"]}),
        (SECTOR, {"store": ["iq"]}),
        (SIR, {}),
    ],
    ids=["iq", "compressed", "scatterers", "sweep", "sector", "sir"],
)
def test_bytes_are_within_a_fifth(tmp_path, text, asked):
    (tmp_path / "a.yaml").write_text(text)
    phantom = load_phantom(tmp_path / "a.yaml")
    said = estimate(phantom, plan_run(phantom, workers=1, **asked))
    generate(phantom, tmp_path / "out", workers=1, **asked)
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("*.h5"))
    assert abs(said.bytes / size - 1) < 0.2
    assert said.seconds > 0
    assert not list(tmp_path.glob("out/.*"))


def test_memory_of_two_workers_is_within_a_fifth(tmp_path, bench):
    (tmp_path / "a.yaml").write_text(PLAIN.replace("[64, 48]", "[256, 256]"))
    result = bench.predict(str(tmp_path / "a.yaml"), 8, 2, tmp_path / "out", ["--shard-size", "4"])
    assert abs(result["said_over_actual"]["bytes"] - 1) < 0.2
    assert abs(result["said_over_actual"]["memory"] - 1) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "frames", "options"),
    [
        ("training", 24, []),
        ("training", 24, ["--dtype", "uint8", "--compress", "--store", "scatterers"]),
        ("cyst", 16, ["--shard-size", "8"]),
        ("liver-convex", 8, []),
    ],
)
def test_shipped_phantoms_take_what_is_said(tmp_path, bench, name, frames, options):
    result = bench.predict(name, frames, 2, tmp_path / "out", options)
    assert abs(result["said_over_actual"]["bytes"] - 1) < 0.2
    assert abs(result["said_over_actual"]["memory"] - 1) < 0.2


def test_a_killed_measurement_is_told(monkeypatch, tmp_path):
    (tmp_path / "a.yaml").write_text(PLAIN)
    phantom = load_phantom(tmp_path / "a.yaml")
    lose = lambda start, items, workers, listen: listen(Event("lost", items[0], -9))  # noqa: E731
    monkeypatch.setattr("usim.estimate.map_items", lose)
    with pytest.raises(ResourceError, match=r"was killed \(exit code -9; out of memory\?\)"):
        estimate(phantom, plan_run(phantom, workers=2))
