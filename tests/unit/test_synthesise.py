"""Datasets with speckle that a generator has learned: the truth stays, and the image is the generator's."""

import numpy as np
import pytest
import torch

import usim
from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.cli import main
from s2s.domain import from_scale, to_scale
from s2s.images import Stated
from s2s.methods import make
from s2s.recordings import Recordings
from usim.cli import main as usim_main

pytestmark = pytest.mark.usefixtures("one_thread")
PHANTOM = """\
probe: L11-5v
description: A small phantom
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [32, 48]}
scatterers: {model: field}
background: {echogenicity: {uniform: [-20 dB, -10 dB]}}
"""
LINEAR = "x: [-4 mm, 4 mm], z: [10 mm, 18 mm]"
FAN = "angle: [-30 deg, 30 deg], depth: [20 mm, 60 mm], lines: 32, samples: 64"
SECTOR = PHANTOM.replace("L11-5v", "P4-2v\ntransmit: {type: focused, depth: 60 mm}").replace(LINEAR, FAN)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A dataset of three frames and a generator that has learned nothing yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(PHANTOM)
    assert usim_main(["generate", "small.yaml", "-o", "data", "--frames", "3", "--workers", "1"]) == 0
    torch.manual_seed(0)
    method = make("danet", "toy", width=4, depth=1, maker=4, critic=4)
    save_checkpoint(tmp_path / "untaught.pt", method, {})
    method.taught += 1
    save_checkpoint(tmp_path / "maker.pt", method, {})
    return tmp_path


def test_images_are_the_generators_and_the_truth_stays(folder, capsys):
    assert main(["synthesise", "data", "-m", "maker.pt", "-o", "mine.h5", "--seed", "5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "mine.h5"
    before, after = usim.open("data"), usim.open("mine.h5")
    assert len(after) == 3
    method = load_checkpoint(folder / "maker.pt").method
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        np.testing.assert_array_equal(old.truth.bmode, new.truth.bmode)
        np.testing.assert_array_equal(old.truth.labels, new.truth.labels)
        x = torch.from_numpy(to_scale(old.truth.bmode, "db").astype(np.float32))[None, None]
        seed = int(np.random.SeedSequence((5, index)).generate_state(1)[0])
        made = from_scale(method.synthesise(x, seed)[0, 0].numpy(), "db")
        np.testing.assert_allclose(new.bmode, made, atol=1e-4)
        np.testing.assert_allclose(20.0 * np.log10(new.envelope), new.bmode, atol=1e-3)
        assert new.params["synthesised"] == {"method": "danet", "seed": seed, "dynamic_range_db": 60.0}
    assert not np.array_equal(before[0].bmode, after[0].bmode)
    assert usim_main(["verify", "mine.h5"]) == 0
    assert usim_main(["info", "mine.h5"]) == 0
    assert "A small phantom, with speckle made by danet" in capsys.readouterr().out


def test_a_denoiser_learns_from_it_like_from_any_dataset(folder):
    assert main(["synthesise", "data", "-m", "maker.pt", "-o", "mine.h5"]) == 0
    samples = Recordings.of((str(folder / "mine.h5"),), ("y", "x"), Stated(), 0).open()(0)
    assert any(np.allclose(samples[0]["y"], frame.bmode, atol=1e-4) for frame in usim.open("mine.h5"))


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("data", "-m", "nlm", "-o", "mine.h5"), 2, "nlm makes no speckle; train one that does, pngan or danet"),
        (("data", "-m", "maker.pt", "-o", "mine.png"), 2, "is to be an HDF5 file; name it mine.h5"),
        (("nothing", "-m", "maker.pt", "-o", "mine.h5"), 3, "nothing: missing or damaged"),
        (("scan.png", "-m", "maker.pt", "-o", "mine.h5"), 3, "scan.png: has no truth to put speckle on; name"),
        (("data", "-m", "none.pt", "-o", "mine.h5"), 3, "none.pt: no such checkpoint"),
        (("data", "-m", "untaught.pt", "-o", "mine.h5"), 2, "untaught.pt has learned nothing yet; train it further"),
        (("data", "-m", "maker.pt", "-o", "mine.h5", "--seed", str(2**63)), 2, "--seed"),
        (("data", "-m", "maker.pt", "-o", "dir.h5"), 2, "dir.h5: is a folder; name a file"),
        (("data/shard", "-m", "maker.pt", "-o", "data/shard"), 2, "is what is to be read; name another file"),
    ],
)
def test_bad_calls_are_refused_and_nothing_is_written(folder, capsys, words, code, text):
    shard = min((folder / "data").glob("*.h5"))
    before = shard.read_bytes()
    (folder / "dir.h5").mkdir()
    (folder / "scan.png").touch()
    words = [word.replace("data/shard", str(shard)) for word in words]
    assert main(["synthesise", *words]) == code
    assert text in capsys.readouterr().err
    assert not (folder / "mine.h5").exists()
    assert shard.read_bytes() == before


def test_weights_of_the_last_step_are_taken_and_a_folder_is_made(folder):
    """The best weights are best at removing speckle, and may come from before the generator began to learn."""
    (folder / "run").mkdir()
    (folder / "untaught.pt").rename(folder / "run/best.pt")
    (folder / "maker.pt").rename(folder / "run/last.pt")
    assert main(["synthesise", "data", "-m", "run", "-o", "new/folder/mine.h5"]) == 0
    assert len(usim.open("new/folder/mine.h5")) == 3


def test_slices_of_one_scene_are_refused(folder, capsys):
    (folder / "sweep.yaml").write_text(PHANTOM.replace("field", "volume") + "sweep: {slices: 2, step: 1 mm}\n")
    assert usim_main(["generate", "sweep.yaml", "-o", "sweep", "--frames", "2", "--workers", "1"]) == 0
    assert main(["synthesise", "sweep", "-m", "maker.pt", "-o", "mine.h5"]) == 2
    assert "holds slices, angles or times of one scene" in capsys.readouterr().err


def test_sectors_are_refused(folder, capsys):
    (folder / "sector.yaml").write_text(SECTOR)
    assert usim_main(["generate", "sector.yaml", "-o", "fan", "--frames", "1", "--workers", "1"]) == 0
    assert main(["synthesise", "fan", "-m", "maker.pt", "-o", "mine.h5"]) == 2
    assert "holds sectors" in capsys.readouterr().err
