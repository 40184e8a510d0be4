"""Pairs of images with other speckle: looks, slices and angles, from simulation and from files."""

import dataclasses

import numpy as np
import pytest

from s2s.cli import main
from s2s.data import BELOW_BLACK_DB, DeviceFeed, Simulation, partners
from s2s.images import Stated
from s2s.methods import make
from s2s.pool import Pool
from s2s.recordings import Recordings
from s2s.toy import ToyScenes
from usim.errors import ConfigError
from usim.generate import generate
from usim.phantom.load import load_phantom, phantom_from_text
from usim.pipeline import Renderer

COMMON = """
probe: {elements: 32, pitch: 0.3 mm, element_width: 0.27 mm, element_height: 5 mm, elevation_focus: 15 mm,
        center_frequency: 5 MHz, fractional_bandwidth: 0.6}
medium: {sound_speed: 1540 m/s}
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [40, 48], dynamic_range: 40 dB}
background: {echogenicity: 0 dB}
regions:
  - {shape: circle, center: [{uniform: [-2 mm, 2 mm]}, 14 mm], radius: 2 mm, echogenicity: -12 dB}
seed: 7
"""
SWEEP = """
transmit: {type: focused, depth: 14 mm}
scatterers: {model: volume}
sweep: {slices: 3, step: 2 mm}
looks: 2
"""
ANGLES = "transmit: {type: plane}\nscatterers: {model: plane}\nangles: [-10 deg, 10 deg]\n"
PLAIN = "transmit: {type: plane}\nscatterers: {model: field}\n"

pytestmark = pytest.mark.usefixtures("one_thread")


def phantom(more):
    return phantom_from_text(COMMON + more, "pairs.yaml")


def test_partners():
    assert partners("", 2) == partners("y2", 2) == [(0, 1), (1, 0)]
    assert partners("", 1) == [(0, 0)]
    assert partners("next", 4) == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2)]
    assert partners("steered", 2) == [(0, 1), (1, 0)]
    assert set(partners("steered", 4)) == {(0, 2), (2, 0), (1, 3), (3, 1)}


@pytest.mark.parametrize(
    ("more", "key", "part"), [(SWEEP, "next", "slice"), (ANGLES, "steered", "angle")], ids=["sweep", "angles"]
)
def test_a_scene_gives_every_pair_both_ways_round(more, key, part):
    made = Simulation(phantom(more), 5, ("y", key, "x")).open()(2)
    renderer = Renderer(phantom(more), seed=5)
    frames = [renderer.render(2, **{part: number}) for number in range(3 if part == "slice" else 2)]
    wanted = partners(key, len(frames))
    assert len(made) == len(wanted)
    for sample, (here, there) in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(sample["y"], np.clip(frames[here].bmode, -40.0, 0.0))
        np.testing.assert_array_equal(sample[key], np.clip(frames[there].bmode, -40.0 - BELOW_BLACK_DB, 0.0))
        np.testing.assert_array_equal(sample["x"], np.clip(frames[here].truth.bmode, -50.0, 0.0))
        speckle = [sample["y"] - sample["x"], sample[key] - sample["x"]]
        assert abs(np.corrcoef(*(one.ravel() for one in speckle))[0, 1]) < 0.35


def test_other_looks_are_averaged_in_decibels():
    made = Simulation(phantom(PLAIN), 5, ("y", "others"), looks=3).open()(0)
    renderer = Renderer(phantom(PLAIN), seed=5)
    looks = [np.clip(renderer.image(0, look), -40.0 - BELOW_BLACK_DB, 0.0) for look in range(3)]
    assert len(made) == 3
    for number, sample in enumerate(made):
        others = [look for k, look in enumerate(looks) if k != number]
        np.testing.assert_allclose(sample["others"], np.mean(others, axis=0), atol=1e-4)
    toy = ToyScenes(3, ("y", "others", "x"), looks=4).open()(0)
    errors = [np.std(toy[0]["others"] - toy[0]["x"]), np.std(toy[0]["y"] - toy[0]["x"])]
    assert errors[0] / errors[1] == pytest.approx(3**-0.5, rel=0.1)


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (("y", "next"), r"pairs\.yaml: has one slice, but the neighbouring slice.*add sweep: .*training-sweep"),
        (("y", "steered"), r"pairs\.yaml: has one angle, but .*add angles: .*training-angles"),
    ],
)
def test_phantoms_without_pairs_are_refused(needs, text):
    with pytest.raises(ConfigError, match=text):
        Simulation(phantom(PLAIN), 5, needs).open()
    with pytest.raises(ConfigError, match="looks: 1 of a scene"):
        Simulation(phantom(PLAIN), 5, ("y", "others"), looks=1).open()


def test_a_device_makes_looks_only():
    with pytest.raises(ConfigError, match="simulate_on: the neighbouring slice of a volume is made by the CPU only"):
        DeviceFeed(Simulation(phantom(SWEEP), 5, ("y", "next")), "cpu")


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volume") / "data"
    generate(phantom(SWEEP), folder, frames=12, workers=1)  # two scenes of two looks of three slices
    return folder


def test_stored_frames_are_paired_by_their_places(volume):
    source = Recordings.of([volume], ("y", "next"), Stated(), seed=1)
    assert len(source.items) == 12
    read, renderer = source.open(), Renderer(phantom(SWEEP))
    every = [sample for index in range(12) for sample in read(index)]
    assert len(every) == 2 * 2 * 4
    for look in range(2):
        here, there = (np.clip(renderer.image(1, look, slice=k), -50.0, 0.0) for k in (2, 1))
        assert any(np.array_equal(s["y"], np.maximum(here, -40.0)) and np.array_equal(s["next"], there) for s in every)
    looks = Recordings.of([volume], ("y", "y2"), Stated(), seed=1).open()
    (sample,) = looks(0)
    assert not np.array_equal(sample["y"], sample["y2"])
    assert np.corrcoef(sample["y"].ravel(), sample["y2"].ravel())[0, 1] < 0.9
    with pytest.raises(ConfigError, match=r"no frame comes with the same scatterers .*\(steered\); data of usim with"):
        Recordings.of([volume], ("y", "steered"), Stated(), seed=1)
    with pytest.raises(ConfigError, match=r"the mean in dB of all other .* is not read from files"):
        Recordings.of([volume], ("y", "others"), Stated(), seed=1)


def test_neighbouring_frames_of_a_clip_are_pairs(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (3, 32, 40), dtype=np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    read = Recordings.of([tmp_path / "clip.npy"], ("y", "next"), Stated(), seed=1).open()
    counts = sorted(len(read(index)) for index in range(3))
    assert counts == [1, 1, 2]
    levels = (clip / 255.0 - 1.0) * 60.0
    for index in range(3):
        for sample in read(index):
            here, there = (
                int(np.argmin([np.abs(level - sample[key]).max() for level in levels])) for key in ("y", "next")
            )
            assert abs(here - there) == 1
    np.save(tmp_path / "one.npy", clip[0])
    with pytest.raises(ConfigError, match=r"one\.npy: no frame comes with the neighbouring slice .*clips and data"):
        Recordings.of([tmp_path / "one.npy"], ("y", "next"), Stated(), seed=1)


def test_the_pair_decides_what_noise2noise_needs(tmp_path, capsys):
    needs = {pair: make("noise2noise", "toy", pair=pair).needs for pair in ("look", "slice", "angle")}
    assert needs == {"look": ("y", "y2"), "slice": ("y", "next"), "angle": ("y", "steered")}
    assert make("polyphase(2):noise2noise", "toy", pair="slice").needs == ("y", "next")
    assert make("speckle2speckle", "toy", draws=5).looks == 5
    with pytest.raises(ConfigError, match="pair 'slices': allowed are look, slice, angle"):
        make("noise2noise", pair="slices")
    command = ["train", "--sim", "cyst", "--method", "noise2noise", "--set", "pair=angle", "-o", str(tmp_path / "out")]
    assert main(command) == 2
    assert "add angles" in capsys.readouterr().err
    command[2:6] = ["training-sweep", "--method", "noise2noise", "--set"]
    assert main([*command[:6], "pair=slice", "--simulate-on", "device", "-o", str(tmp_path / "out")]) == 2
    assert "simulate_on: the neighbouring slice of a volume is made by the CPU only" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_image_that_is_in_several_pairs_is_kept_once():
    method = make("noise2noise", "toy", pair="slice", width=4)
    pool = Pool(method, dataclasses.replace(method.TRAINING["toy"], crop=32), seed=0)
    made = Simulation(phantom(SWEEP), 5, ("y", "next")).open()(0)
    pool._take(made)
    (scene,) = pool._scenes
    assert len(scene) == 4
    assert len({sample["y"].data_ptr() for sample in scene}) == 3
    assert len({sample["next"].data_ptr() for sample in scene}) == 3


@pytest.mark.parametrize("name", ["training-sweep", "training-angles"])
def test_shipped_phantoms_give_pairs_that_share_little_speckle(name):
    shipped = load_phantom(name)
    rho = Renderer(shipped).render(0).params["rho"]
    found = rho["slices"][1] if "slices" in rho else rho["angles"][0][1]
    assert found < 0.3


@pytest.mark.parametrize(("more", "pair"), [(SWEEP, "slice"), (ANGLES, "angle")], ids=["sweep", "angles"])
def test_training_learns_from_pairs(tmp_path, more, pair):
    (tmp_path / "pairs.yaml").write_text(COMMON + more)
    command = ["train", "--sim", str(tmp_path / "pairs.yaml"), "--method", "noise2noise", "--preset", "toy"]
    command += ["--set", f"pair={pair}", "--set", "width=4", "--set", "depth=1", "--steps", "3", "--crop", "32"]
    assert main([*command, "--held-out", "1", "--workers", "0", "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "best.pt").is_file()
