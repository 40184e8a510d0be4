"""Training on scenes that the training's own device images: the same targets, an order that nothing changes."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from trainings import SURROUNDINGS, lines, stop_after

from s2s.data import DeviceFeed, Simulation
from s2s.methods import make
from s2s.methods.base import Training
from s2s.pool import Pool
from s2s.request import Request
from s2s.run import Run
from usim.errors import ConfigError
from usim.phantom.load import phantom_from_text

TEXT = """\
probe: L11-5v
image: {x: [-3 mm, 3 mm], z: [11 mm, 16 mm], pixels: [32, 40], dynamic_range: 40 dB}
scatterers: {model: field}
background: {echogenicity: 0 dB}
regions:
  - {shape: circle, center: [0 mm, 13.5 mm], radius: {uniform: [1 mm, 2 mm]}, echogenicity: anechoic}
"""
PHANTOM = phantom_from_text(TEXT)

pytestmark = pytest.mark.usefixtures("one_thread")


def taken(source, count, start=0):
    return [next(feed) for feed in [DeviceFeed(source, "cpu", start=start, workers=0)] for _ in range(count)]


def equal(one, other):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(("display", "screens"), [("", 0.0), ("display: {gain: 2 dB, bits: 32}\n", 0.5)])
def test_targets_are_those_of_simulation_on_the_cpu(display, screens):
    source = Simulation(phantom_from_text(TEXT + display), 3, ("y", "y2", "x"), 2, (-6.0, 6.0), screens)
    make_on_cpu, scenes = source.open(), taken(source, 5)
    for index, looks in enumerate(scenes):
        expected = make_on_cpu(index)
        assert len(looks) == len(expected) == 2
        for sample, other in zip(looks, expected, strict=True):
            assert sample.keys() == other.keys()
            assert all(isinstance(values, torch.Tensor) for values in sample.values())
            assert np.abs(sample["x"].numpy() - other["x"]).max() < 0.01
            assert float(sample["y"].min()) >= other["y"].min() - 1e-3  # black is where it is there
            assert float(sample["y"].max()) <= 0.0
        assert torch.equal(looks[0]["y2"].clamp(min=float(looks[1]["y"].min())), looks[1]["y"])
        level = [np.mean([np.asarray(sample["y"]).mean() for sample in each]) for each in (looks, expected)]
        assert level[0] == pytest.approx(level[1], abs=1.5)


def test_scenes_are_the_same_wherever_a_feed_starts():
    source = Simulation(PHANTOM, 3, ("y",), 1)
    whole = taken(source, 10)
    assert not equal(whole[0], whole[1])
    for start in (3, 4, 9):
        assert all(itertools.starmap(equal, zip(whole[start:], taken(source, 10 - start, start), strict=True)))


def test_pairs_need_two_looks():
    with pytest.raises(ConfigError, match="looks: 1 of a scene make no pair"):
        DeviceFeed(Simulation(PHANTOM, 3, ("y", "y2"), 1), "cpu")


@pytest.mark.parametrize("augment", ["flip", "paper"])
def test_pools_cut_tensors_at_one_place_for_all_keys(augment):
    source = Simulation(PHANTOM, 3, ("y", "x"), 1)
    pool = Pool(make("noise2true", width=4, depth=1), Training(batch=3, crop=8, augment=augment), seed=1)
    with DeviceFeed(source, "cpu", workers=0) as feed:
        batch = pool.batch(0, feed)
        assert feed.waited > 0.0
    assert batch["y"].shape == batch["x"].shape == (3, 1, 8, 8)
    assert batch["y"].dtype == torch.float32


@pytest.fixture
def request_of(tmp_path):
    (tmp_path / "small.yaml").write_text(TEXT)

    def made(**changes):
        return Request(
            method="noise2true", preset="toy", settings={"width": 4, "depth": 1}, phantom=str(tmp_path / "small.yaml"),
            steps=36, changes={"batch": 2, "crop": 16, "rate": 0.003}, seed=5, reuse=1.0, held_out=2,
            simulate_on="device", **changes,
        )  # fmt: skip

    return made


def weights(folder):
    return torch.load(folder / "last.pt", weights_only=True)["weights"]


def test_a_training_on_the_device_learns_and_goes_on_as_if_it_had_not_stopped(request_of, tmp_path):
    Run.new(request_of(), tmp_path / "whole", **SURROUNDINGS).train(lambda: None)
    told = lines(tmp_path / "whole")
    losses = [line["loss"] for line in told if "loss" in line]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert all(0.0 <= line["waiting"] <= 1.0 for line in told if "waiting" in line)
    with pytest.raises(KeyboardInterrupt):
        Run.new(request_of(), tmp_path / "stopped", **SURROUNDINGS).train(stop_after(7))
    Run.resumed(tmp_path / "stopped", **SURROUNDINGS).train(lambda: None)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"simulate_on": "gpu"}, "simulate_on: 'gpu' is unknown; allowed are cpu, device"),
        ({"data": ("a.png",)}, "simulate_on: images from files are not simulated; leave it out"),
    ],
)
def test_the_place_is_known_and_belongs_to_simulation(request_of, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        Run.new(replace(request_of(), **changes), tmp_path / "run", **SURROUNDINGS)


def test_phantoms_that_no_device_makes_are_refused_with_the_cure(request_of, tmp_path):
    (tmp_path / "solid.yaml").write_text(TEXT.replace("field", "volume"))
    asked = replace(request_of(), phantom=str(tmp_path / "solid.yaml"))
    with pytest.raises(ConfigError, match=r"scatterers\.model: volume is not made in batches.*--simulate-on cpu"):
        Run.new(asked, tmp_path / "run", **SURROUNDINGS).train(lambda: None)
