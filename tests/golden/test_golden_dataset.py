"""Datasets of the first format open for ever, are proven whole, and give the numbers that they gave.

They are kept in dataset-1.zip, since small HDF5 files are mostly zeros.
python tests/golden/test_golden_dataset.py FOLDER      # makes all but `before` anew there, for a new format only
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from usim.errors import ConfigError
from usim.generate import deciding_versions, generate
from usim.info import describe
from usim.io.dataset import open_frames, rows_of
from usim.io.provenance import read_manifest
from usim.io.verify import verify
from usim.phantom.load import load_phantom

PHANTOM = """\
description: A golden dataset
probe: PROBE
transmit: {type: focused, depth: 15 mm}
image: IMAGE
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
regions:
  - {name: cyst, shape: circle, center: [0, 15 mm], radius: 2 mm, echogenicity: anechoic}
frames: 4
seed: 3
"""
FLAT = "{x: [-4 mm, 4 mm], z: [11 mm, 19 mm], pixels: [16, 20]}"
SECTOR = "{angle: [-20 deg, 20 deg], depth: [5 mm, 25 mm], lines: 12, samples: 16, pixels: [16, 20]}"
#: Probe and image, and what was asked for. `before` has a manifest of the code that knew no checksum of it.
KINDS = {
    "plain": ("L11-5v", FLAT, {"store": ["scatterers"]}),
    "packed": ("L11-5v", FLAT, {"dtype": "uint8", "compress": True, "split": {"train": 0.5, "val": 0.5}}),
    "polar": ("C5-2v", SECTOR, {"dtype": "float16", "store": ["iq"]}),
}
NAMES = ("plain", "packed", "polar", "before")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The folder that holds the datasets, each beside its numbers."""
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(Path(__file__).parent / "dataset-1.zip") as archive:
        archive.extractall(folder)
    return folder


def numbers(folder):
    """What is known of each frame: means over the images, names, and where it is from."""
    found = []
    for frame in open_frames(folder):
        images = {"bmode": frame.bmode, "envelope": frame.envelope, "truth": frame.truth.bmode}
        images |= {"resolved": frame.truth.resolved_db, "labels": frame.truth.labels, "x": frame.axes.x}
        if frame.iq is not None:
            images |= {"real": frame.iq.real, "imaginary": frame.iq.imag}
        if frame.polar is not None:
            images |= {
                "lines": frame.polar.bmode,
                "angle": frame.polar.axes.angle,
                "polar truth": frame.polar.truth.bmode,
            }
        if frame.scatterers is not None:
            images |= {"amplitude": frame.scatterers.amplitude}
        means = {name: [float(np.mean(v, dtype=float)), float(np.std(v, dtype=float))] for name, v in images.items()}
        found.append({"index": frame.params["index"], "names": list(frame.truth.label_names), **means})
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_first_datasets_still_open(stored, name):
    folder = stored / name
    known, found = json.loads((stored / f"{name}.json").read_text()), numbers(folder)
    assert len(found) == len(known) == 4
    for old, new in zip(known, found, strict=True):
        assert old.keys() == new.keys()
        for key, value in old.items():
            assert new[key] == (value if key in ("index", "names") else pytest.approx(value, rel=1e-6, abs=1e-9))
    assert "frames" in describe(folder)


@pytest.mark.parametrize("name", NAMES)
def test_they_are_proven_whole(stored, name, tmp_path):
    found = verify(stored / name)
    assert (found.damages, found.frames, found.shards, found.proven) == ((), 4, 2, True)
    copy = shutil.copytree(stored / name, tmp_path / name)
    path = sorted(copy.glob("*.h5"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    assert [damage.path for damage in verify(copy).damages] == [path]


def test_what_was_asked_for_is_known(stored):
    said = [read_manifest(stored / name) for name in NAMES]
    assert [(m.frames, m.seed, m.shard_size, m.store, m.dtype, m.compress, m.split) for m in said] == [
        (4, 3, 2, ["scatterers"], "float32", False, ()),
        (4, 3, 2, [], "uint8", True, (("train", 0.5), ("val", 0.5))),
        (4, 3, 2, ["iq"], "float16", False, ()),
        (4, 3, 2, [], "float32", False, ()),
    ]
    assert rows_of(stored / "packed") == {"train": range(2), "val": range(2, 4)}
    assert len(open_frames(stored / "packed", split="val")) == 2
    assert "sha256" not in json.loads((stored / "before/manifest.json").read_text())


@pytest.mark.parametrize("name", KINDS)
def test_a_run_of_today_does_not_spoil_them(stored, name, tmp_path):
    """Another version, if only of a library, is refused; the same versions have nothing to do."""
    probe, image, asked = KINDS[name]
    copy = shutil.copytree(stored / name, tmp_path / "golden")
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    (tmp_path / f"{name}.yaml").write_text(PHANTOM.replace("PROBE", probe).replace("IMAGE", image))
    phantom, asked = load_phantom(tmp_path / f"{name}.yaml"), {"workers": 1, "shard_size": 2, "resume": True, **asked}
    if read_manifest(copy).versions == deciding_versions():
        result = generate(phantom, copy, **asked)
        assert (result.kept, result.rendered) == (2, 0)
    else:
        with pytest.raises(ConfigError, match="version of"):
            generate(phantom, copy, **asked)
    assert {path.name: path.read_bytes() for path in copy.iterdir() if path.name != "run.json"} == before


def store(folder):
    folder.mkdir()
    for name, (probe, image, asked) in KINDS.items():
        (folder / f"{name}.yaml").write_text(PHANTOM.replace("PROBE", probe).replace("IMAGE", image))
        generate(load_phantom(folder / f"{name}.yaml"), folder / name, workers=1, shard_size=2, **asked)
        (folder / name / "run.json").unlink()
        (folder / f"{name}.yaml").unlink()
        (folder / f"{name}.json").write_text(json.dumps(numbers(folder / name)) + "\n")


if __name__ == "__main__":
    store(Path(sys.argv[1]))
