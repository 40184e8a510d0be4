"""Flipped bits, cut files and mutated shards: each is found, named and refused, or the frames are as they were."""

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from usim.errors import DataError
from usim.generate import generate
from usim.io.dataset import open_frames
from usim.io.provenance import MANIFEST
from usim.io.verify import verify
from usim.phantom.load import load_phantom

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [16, 24]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 6
seed: 3
"""
#: Shards that a child opens, and seconds that it may take for one.
BATCH, PATIENCE_S = 100, 60


@pytest.fixture(params=["plain", "packed"])
def folder(tmp_path, fake_renderer, request):
    """Three shards of two frames; packed ones are compressed, in steps of decibels and split."""
    (tmp_path / "small.yaml").write_text(PHANTOM)
    more = {"dtype": "uint8", "compress": True, "split": {"train": 0.7, "val": 0.3}, "store": ["iq", "scatterers"]}
    asked = more if request.param == "packed" else {}
    generate(load_phantom(tmp_path / "small.yaml"), tmp_path / "data", workers=1, shard_size=2, **asked)
    return tmp_path / "data"


def files(folder):
    return sorted([*folder.glob("*.h5"), folder / MANIFEST])


@pytest.mark.parametrize("count", [90, pytest.param(1000, marks=pytest.mark.slow)])
def test_verify_finds_every_flipped_bit(folder, count):
    random, found = np.random.default_rng(count), 0
    for number in range(count):
        path = files(folder)[number % 4]
        data = path.read_bytes()
        place, bit = random.integers(len(data)), 1 << random.integers(8)
        path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
        damages = verify(folder).damages
        found += [damage.path for damage in damages] == [path]
        assert damages, f"{path.name}: bit {bit} of byte {place} of {len(data)}"
        path.write_bytes(data)
    assert verify(folder).damages == ()
    print(f"{found} of {count} flipped bits found and named")
    assert found == count


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_truncated_files_are_named_at_once(folder, count):
    random, slowest, expected = np.random.default_rng(count), 0.0, len(open_frames(folder))
    for number in range(count):
        path = files(folder)[number % 4]
        data = path.read_bytes()
        path.write_bytes(data[: random.integers(len(data))])
        start = time.perf_counter()
        with pytest.raises(DataError) as caught:
            list(open_frames(folder))
        assert [damage.path for damage in verify(folder).damages] == [path]
        if path.suffix == ".h5":
            with pytest.raises(DataError, match=path.name):
                open_frames(path)
        slowest = max(slowest, time.perf_counter() - start)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        path.write_bytes(data)
    assert len(list(open_frames(folder))) == expected
    print(f"{count} truncations: {count} errors that name the file, the slowest after {slowest:.3f} s")


#: Opens shards, and says of each: error, the same frames, other frames, or what no error of ours is.
OPENER = """
import hashlib, signal, sys
import numpy as np
import usim
from usim.errors import DataError

def digest(frames):
    found = hashlib.sha256()
    for frame in frames:
        truth = frame.truth
        for image in (frame.bmode, frame.envelope, truth.bmode, truth.resolved_db, truth.echogenicity_db, truth.labels):
            found.update(np.ascontiguousarray(image))
        found.update(repr((truth.label_names, frame.params)).encode())
    return found.hexdigest()

for path in map(str.strip, sys.stdin):
    signal.alarm(PATIENCE_S)  # ends the process, also in the middle of HDF5
    try:
        said = digest(usim.open(path))
    except DataError as error:
        said = "error" if path in str(error) and "\\n" not in str(error) else f"unclear: {error}"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    usim.verify(path)
    print(path, said, sep="\\t", flush=True)
"""


def mutations(data, random):
    """Bits, runs of bytes, lengths and places that HDF5 believes in: at random, and most of them among the metadata."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        place = int(random.integers(len(data)) if random.random() < 0.4 else random.integers(2048))
        size = int(random.choice([1, 2, 4, 8, 64]))
        kind = random.integers(5)
        if kind == 0:
            data[place] ^= 1 << random.integers(8)
        elif kind == 1:
            data[place : place + size] = random.bytes(len(data[place : place + size]))
        elif kind == 2:
            data[place : place + size] = random.choice([b"\0", b"\xff", b"\x7f"]) * len(data[place : place + size])
        elif kind == 3:
            start = int(random.integers(len(data)))
            data[place : place + size] = data[start : start + size]
        else:
            del data[place : place + size]
    return bytes(data)


def opened(paths):
    """What a child says of each shard; raises when it dies by a signal or hangs."""
    lines = "\n".join(map(str, paths))
    run = subprocess.run(
        [sys.executable, "-c", OPENER.replace("PATIENCE_S", str(PATIENCE_S))],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60 + PATIENCE_S * len(paths),
    )
    assert run.returncode == 0, f"{run.returncode} after {len(run.stdout.splitlines())} shards: {run.stderr[-500:]}"
    return [line.split("\t")[1] for line in run.stdout.splitlines()]


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_mutated_shards_are_refused_or_intact(folder, tmp_path, count):
    random, said = np.random.default_rng(count), []
    source = sorted(folder.glob("*.h5"))[0]
    for first in range(0, count, BATCH):
        paths = [tmp_path / f"mutated-{first + i}.h5" for i in range(min(BATCH, count - first))]
        for path in paths:
            path.write_bytes(mutations(source.read_bytes(), random))
        first_ones, *rest = opened([source, *paths])
        said += rest
        for path in paths:
            path.unlink()
    counts = {"error": said.count("error"), "intact": said.count(first_ones)}
    print(f"{count} mutated shards: {counts}")
    assert sum(counts.values()) == count, sorted(set(said) - {"error", first_ones})


def test_what_is_edited_in_a_manifest_is_found(folder):
    path = folder / MANIFEST
    content = json.loads(path.read_text())
    for key in content:
        for value in (None, 1, "x", [], {}):
            text = json.dumps({**content, key: value}, sort_keys=True, indent=1) + "\n"
            is_edited = text != path.read_text()
            path.write_text(text)
            assert bool(verify(folder).damages) == is_edited, f"{key} = {value!r}"
            path.write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    shutil.rmtree(folder)
    assert verify(folder).damages
