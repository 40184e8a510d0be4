"""Methods that see several images of a scene at once: from simulation, from files, and in what they clean."""

import re
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

import s2s
import s2s.files
import usim
from s2s.alike import frames_alike
from s2s.checkpoint import load_checkpoint, save_checkpoint
from s2s.cli import main
from s2s.data import Simulation
from s2s.domain import RANGE_DB
from s2s.files import denoise_files
from s2s.held_out import HeldOut
from s2s.images import Stated, open_image
from s2s.images.image import LazyFrames
from s2s.methods import make
from s2s.methods.bands import Bands
from s2s.pool import Pool
from s2s.recordings import Recordings
from s2s.toy import ToyScenes
from usim.errors import ConfigError, DataError
from usim.generate import generate
from usim.phantom.load import phantom_from_text
from usim.pipeline import Renderer

PHANTOM = """\
description: A small phantom
probe: {elements: 32, pitch: 0.3 mm, element_width: 0.27 mm, element_height: 5 mm, elevation_focus: 15 mm,
        center_frequency: 5 MHz, fractional_bandwidth: 0.6}
medium: {sound_speed: 1540 m/s}
transmit: {type: plane}
image: {x: [-4 mm, 4 mm], z: [10 mm, 18 mm], pixels: [40, 48], dynamic_range: 40 dB}
background: {echogenicity: 0 dB}
regions:
  - {shape: circle, center: [{uniform: [-2 mm, 2 mm]}, 14 mm], radius: 2 mm, echogenicity: -12 dB}
seed: 7
"""
ANGLES = PHANTOM + "scatterers: {model: plane}\nangles: [-10 deg, 0 deg, 10 deg]\nlooks: 2\n"
LOOKS = PHANTOM + "scatterers: {model: field}\nlooks: 4\n"
SMALL = ("--crop", "32", "--batch", "2", "--steps", "2", "--held-out", "2", "--workers", "1")

pytestmark = pytest.mark.usefixtures("one_thread")


def phantom(text):
    return phantom_from_text(text, "bands.yaml")


def method(bands=2, part="look", **settings):
    torch.manual_seed(0)
    made = make("dna-net", "toy", width=4, stages=1, bands=bands, part=part, **settings)
    torch.nn.init.normal_(made.prior.last.weight, std=0.05)
    return made


@pytest.mark.parametrize("bands", [Bands(), Bands(2, "look"), Bands(4, "angle")])
def test_bands_are_found_among_the_keys(bands):
    assert Bands.among(("y", "x", *bands.keys)) == bands
    views = 5
    for number in range(views):
        assert bands.after(number, views) == tuple((number + k) % views for k in range(1, bands.count))


def test_too_few_views_are_all_given():
    assert Bands(4, "look").after(1, 3) == (2, 0)


@torch.no_grad()
def test_every_band_is_seen_and_the_first_is_cleaned():
    three, y = method(3), torch.rand(2, 3, 64, 32)
    assert three.infer(y).shape == three.extras(y)["outliers_db"].shape == (2, 1, 64, 32)
    for band in range(3):
        other = y.clone()
        other[:, band] = torch.rand(2, 64, 32)
        assert not torch.equal(three.infer(other), three.infer(y)), band
    torch.nn.init.zeros_(three.prior.last.weight)
    torch.testing.assert_close(three.infer(y), y[:, :1])


@torch.no_grad()
def test_one_band_is_as_it_was():
    one = method(1)
    assert one.needs == ("y", "x")
    assert one.steer.see[0].in_channels == 1
    assert one.prior.first.in_channels == 2
    batch = {key: torch.rand(2, 1, 32, 32) for key in one.needs}
    expected = (((one.infer(batch["y"]) - batch["x"]) * RANGE_DB / 5.57).square() + 1e-6).sqrt().mean()
    torch.testing.assert_close(one.loss(batch, 0.0), expected, rtol=1e-3, atol=0.0)


@torch.no_grad()
def test_phases_keep_their_bands():
    whole = make("polyphase(2):dna-net", "toy", width=4, stages=1, bands=2)
    y = torch.rand(1, 2, 64, 64)
    parts = whole.apart(y)
    assert parts.shape == (4, 2, 32, 32)
    torch.testing.assert_close(parts[1], y[0, :, ::2, 1::2])
    torch.testing.assert_close(whole.denoise(y), y[:, :1])


@pytest.mark.parametrize(("text", "part", "views"), [(ANGLES, "angle", 3), (LOOKS, "look", 4)])
def test_simulation_gives_the_views_that_follow(text, part, views):
    bands = Bands(3, part)
    made = Simulation(phantom(text), 5, ("y", "x", *bands.keys), looks=4).open()(1)
    renderer = Renderer(phantom(text), seed=5)
    frames = [renderer.render(1, **{part: number}) for number in range(views)]
    assert len(made) == views
    for number, sample in enumerate(made):
        for key, k in zip(("y", *bands.keys), (number, *bands.after(number, views)), strict=True):
            np.testing.assert_array_equal(sample[key], np.clip(frames[k].bmode, -40.0, 0.0))
        np.testing.assert_array_equal(sample["x"], np.clip(frames[number].truth.bmode, -50.0, 0.0))


def test_what_is_learned_from_is_none_of_the_bands():
    three = method(3, against="look")
    assert three.needs == ("y", "y2", "look+1", "look+2")
    assert three.looks == 4
    for sample in ToyScenes(3, three.needs, looks=three.looks).open()(0):
        for key in ("y", "look+1", "look+2"):
            assert not np.array_equal(sample[key], np.clip(sample["y2"], -RANGE_DB, 0.0))


@pytest.mark.parametrize(
    ("settings", "text", "more", "reason"),
    [
        ({"bands": 3, "part": "angle"}, LOOKS, {}, "bands.yaml: has 1 of the 3 angles that are to be seen at once"),
        ({"bands": 4, "part": "angle"}, ANGLES, {}, "bands.yaml: has 3 of the 4 angles"),
        ({"bands": 3}, LOOKS, {"looks": 2}, "looks: 2 of a scene, but 3 looks are seen at once; choose 3 or more"),
        (
            {"bands": 3, "against": "look"}, LOOKS, {"looks": 3},
            "looks: 3 of a scene, but 3 looks are seen at once, and one more is learned from; choose 4 or more",
        ),
    ],
)  # fmt: skip
def test_scenes_with_too_few_images_are_refused(settings, text, more, reason):
    seen = method(**settings)
    with pytest.raises(ConfigError, match=f"^{reason}"):
        Simulation(phantom(text), 5, seen.needs, **{"looks": seen.looks, **more}).open()


def test_scatterers_of_a_file_have_one_look(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("cloud.npz", position=np.full((9, 3), [0.0, 0.0, 0.014]), amplitude=np.ones(9))
    (tmp_path / "cloud.yaml").write_text(PHANTOM + "scatterers: {file: cloud.npz}\n")
    (tmp_path / "looks.yaml").write_text(LOOKS)
    choice = ["--method", "dna-net", "--preset", "toy", "--set", "bands=2", "--set", "width=4", *SMALL, "-o", "run"]
    for source in (["--sim", "cloud.yaml"], ["--sim", "looks.yaml", "--judge", "cloud.yaml"]):
        assert main(["train", *source, *choice]) == 2
        assert "a cloud that is given has one look only, but 2 looks are to be seen" in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_a_device_makes_no_angles():
    source = Simulation(phantom(ANGLES), 5, method(3, "angle").needs)
    with pytest.raises(ConfigError, match="a band of 3 angles is made by the CPU only"):
        source.refuse_device()
    Simulation(phantom(LOOKS), 5, method(3).needs, looks=3).refuse_device()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"bands": 0}, "bands"),
        ({"bands": 17}, "bands"),
        ({"part": "slice"}, "part 'slice': allowed are look, angle"),
        ({"bands": 2, "part": "angle", "against": "look"}, "against look: 2 angles have no further look"),
    ],
)
def test_settings_that_can_not_be(settings, reason):
    with pytest.raises(ConfigError, match=f"^dna-net: {reason}"):
        make("dna-net", **settings)


def test_batches_hold_crops_of_one_place():
    seen = method(3)
    pool = Pool(seen, seen.TRAINING["toy"], seed=1, reuse=1.0)
    make_scene = ToyScenes(3, seen.needs, looks=seen.looks).open()
    batch = pool.batch(0, map(make_scene, range(100)))
    assert set(batch) == set(seen.needs)
    assert seen.bands.stacked(batch).shape == (4, 3, 64, 64)
    for key in seen.bands.keys:
        for one, clean in zip(batch[key], batch["x"], strict=True):
            assert np.corrcoef(one.numpy().ravel(), clean.numpy().ravel())[0, 1] > 0.5


@pytest.fixture(scope="module")
def angles(tmp_path_factory):
    """Two scenes, each as three angles of two looks."""
    folder = tmp_path_factory.mktemp("angles")
    generate(phantom(ANGLES), folder / "data", frames=12, workers=1)
    return folder / "data"


def test_stored_frames_are_seen_with_their_angles(angles):
    seen = method(2, "angle")
    recordings = Recordings.of([angles], seen.needs, Stated(), 0)
    assert len(recordings.items) == 12
    assert not recordings.note
    frames, places = usim.open(angles), usim.open(angles).places()
    for index in range(12):
        read = recordings.open()(index)[0]
        number = next(k for k in range(12) if np.array_equal(np.maximum(frames[k].bmode, -40.0), read["y"]))
        other = next(k for k in range(12) if np.array_equal(np.maximum(frames[k].bmode, -40.0), read["angle+1"]))
        assert places["angle"][other] == (places["angle"][number] + 1) % 3
        assert all(places[part][other] == places[part][number] for part in ("scene", "look") if part in places)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"bands": 4, "part": "angle"}, "no 4 angles of a scene"), ({"bands": 3}, "no 3 looks of a scene"),
     ({"bands": 2, "against": "look"}, "no 2 looks of a scene, and a further look to learn from,")],
)  # fmt: skip
def test_data_without_bands_is_refused(angles, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        Recordings.of([angles], method(**settings).needs, Stated(), 0)


def test_files_are_cleaned_with_the_angles_beside(angles, tmp_path):
    two = method(2, "angle")
    save_checkpoint(tmp_path / "two.pt", two, {})
    assert (
        main(["denoise", str(angles), "-m", str(tmp_path / "two.pt"), "-o", str(tmp_path / "out.h5"), "--extras"]) == 0
    )
    frames, places = usim.open(angles), usim.open(angles).places()

    with h5py.File(tmp_path / "out.h5") as file:
        clean = file["denoised"][()]
    denoiser = s2s.load(tmp_path / "two.pt")
    for first in range(0, 12, 3):
        group = sorted(range(first, first + 3), key=lambda k: places["angle"][k])
        clip = np.clip(np.stack([frames[k].bmode for k in group]), -40.0, 0.0)
        np.testing.assert_array_equal(clean[group], denoiser.denoise(clip, domain="db"))
    with np.load(tmp_path / "out.extras.npz") as told:
        assert told["outliers_db"].shape == (12, 48, 40)


def test_clips_are_bands_and_single_images_are_refused(tmp_path, capsys):
    save_checkpoint(tmp_path / "two.pt", method(2), {})
    clip = np.random.default_rng(0).uniform(-50.0, -1.0, (3, 32, 40)).astype(np.float32)
    np.save(tmp_path / "clip.npy", clip)
    np.save(tmp_path / "one.npy", clip[0])
    command = ["denoise", "-m", str(tmp_path / "two.pt"), "--domain", "db", "--dynamic-range", "60"]
    assert main([*command, str(tmp_path / "clip.npy")]) == 0
    clean = np.load(tmp_path / "clip.denoised.npy")
    denoiser = s2s.load(tmp_path / "two.pt")
    np.testing.assert_array_equal(clean[2], denoiser.denoise(clip[[2, 0]], domain="db")[0])
    assert not np.array_equal(clean[2], denoiser.denoise(clip[[2, 1]], domain="db")[0])
    (tmp_path / "clip.denoised.npy").unlink()
    capsys.readouterr()
    assert main([*command, str(tmp_path / "clip.npy"), str(tmp_path / "one.npy")]) != 0
    assert "one.npy: 1 of the 2 images of a scene that are seen at once" in capsys.readouterr().err
    assert not (tmp_path / "clip.denoised.npy").exists()
    with pytest.raises(DataError, match="image: 1 of the 2 looks that dna-net sees at once"):
        denoiser.denoise(clip[0], domain="db")


@pytest.mark.parametrize(("text", "settings"), [(ANGLES, ("part=angle",)), (LOOKS, ("against=look",))])
def test_training_sees_bands(tmp_path, monkeypatch, text, settings):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bands.yaml").write_text(text)
    chosen = [word for setting in ("bands=3", "width=4", "stages=1", *settings) for word in ("--set", setting)]
    command = ["train", "--sim", "bands.yaml", "--method", "dna-net", "--preset", "toy", *chosen, *SMALL]
    assert main([*command, "-o", "run"]) == 0
    assert load_checkpoint(tmp_path / "run" / "best.pt").method.bands == Bands(3, "angle" if text == ANGLES else "look")


def test_held_out_scenes_are_judged_with_their_bands():
    seen = method(3, "angle")
    held_out = HeldOut.simulate({"angles": phantom(ANGLES)}, 3, 2, seen.bands)
    (frame, _), (angle1, angle2) = held_out.suites["angles"], held_out.beside["angles"][0]
    stack = np.clip(np.stack([frame.bmode, angle1, angle2]), -40.0, 0.0)
    clean = s2s.denoise.Denoiser(seen).denoise(stack, "db", 40.0)[0]
    error = np.clip(clean, -40.0, 0.0) - np.clip(frame.truth.bmode, -40.0, 0.0)
    scores = held_out.scores(seen).suites["angles"][0]
    assert scores["psnr"] == pytest.approx(20.0 * np.log10(40.0 / np.sqrt(np.mean(error**2))), abs=1e-3)


def test_what_judges_is_looked_at_before_any_work(angles, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    choice = ["--method", "dna-net", "--preset", "toy", "--set", "bands=2", "--set", "part=angle", *SMALL, "-o", "run"]
    assert main(["train", "--data", str(angles), *choice]) == 2
    assert "has 1 of the 2 angles that are to be seen at once; name one that has them with --judge" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()
    (tmp_path / "angles.yaml").write_text(ANGLES)
    assert main(["train", "--data", str(angles), "--judge", "angles.yaml", *choice]) == 0
    assert "next, s2s denoise scans.npy -m run" in capsys.readouterr().out
    assert main(["train", "--adapt", "run", "--data", str(angles), "-o", "adapted"]) == 2
    assert "which learns from what images alone lack" in capsys.readouterr().err
    assert main(["export", "run", "-o", "run.onnx"]) == 2
    assert main(["publish", "run", "-o", "mine.safetensors"]) == 0
    assert "the image 1 angle further on, seen with it" in (tmp_path / "mine.md").read_text()


@pytest.mark.parametrize("frames", [(4, 6), (7, 5)])
def test_runs_are_not_mixed_with_each_other(tmp_path, frames, capsys):
    """Shards of two runs in one folder, of which the first ends within a scene."""
    (tmp_path / "both").mkdir()
    for seed, count in enumerate(frames):
        generate(phantom(ANGLES), tmp_path / f"{seed}", frames=count, seed=seed, workers=1)
        for shard in (tmp_path / f"{seed}").glob("*.h5"):
            shutil.copy(shard, tmp_path / "both" / f"shard-{seed}{shard.name[-8:]}")
    found, stored = frames_alike(tmp_path / "both", "angle"), usim.open(tmp_path / "both")
    assert sorted(number for group in found for number in group) == list(range(sum(frames)))
    for group in found:
        assert len({stored[number].params["seed"] for number in group}) == 1
    save_checkpoint(tmp_path / "two.pt", method(2, "angle"), {})
    assert main(["denoise", str(tmp_path / "both"), "-m", str(tmp_path / "two.pt"), "-o", str(tmp_path / "c.h5")]) == 3
    assert re.search(r"both: frame \d+: its scene has 1 of the 2 angles", capsys.readouterr().err)
    assert not (tmp_path / "c.h5").exists()


def test_frames_of_a_clip_are_read_once_but_for_the_last(tmp_path, monkeypatch):
    """Going back means to decode a movie from its start."""
    clip = np.random.default_rng(0).uniform(-50.0, -1.0, (9, 32, 40)).astype(np.float32)
    np.save(tmp_path / "clip.npy", clip)
    read = []

    class Watched(LazyFrames):
        def read(self, index):
            read.append(index)
            return clip[index]

    def watched(path, stated):
        return replace(open_image(path, stated), frames=Watched(len(clip)))

    monkeypatch.setattr(s2s.files, "open_image", watched)
    stated = Stated("db", 60.0)
    assert list(denoise_files([tmp_path / "clip.npy"], s2s.denoise.Denoiser(method(3)), stated=stated))
    assert read[-11:] == [*range(9), 0, 1]
    np.testing.assert_allclose(
        np.load(tmp_path / "clip.denoised.npy"), s2s.denoise.Denoiser(method(3)).denoise(clip, "db"), atol=1e-6
    )


def test_evaluations_judge_single_images(tmp_path, capsys):
    save_checkpoint(tmp_path / "two.pt", method(2), {})
    assert main(["evaluate", "--sim", "-m", str(tmp_path / "two.pt"), "-o", str(tmp_path / "r.html")]) != 0
    assert "dna-net sees 2 looks at once, but images are judged one by one" in capsys.readouterr().err
