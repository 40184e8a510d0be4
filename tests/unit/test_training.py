"""Training: data in an order that timing can't change, the loop, and runs that go on as if nobody had stopped them."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import PIL.Image
import psutil
import pytest
import torch
from surroundings import PATIENCE, environment
from torch import nn
from trainings import PHANTOM, SURROUNDINGS, lines, stop_after

import s2s.recordings
import s2s.run
from s2s.checkpoint import load_checkpoint
from s2s.cli import main
from s2s.data import BELOW_BLACK_DB, Feed, Simulation
from s2s.domain import from_scale
from s2s.held_out import HeldOut
from s2s.images import Stated
from s2s.methods import make
from s2s.methods.base import Method, Training
from s2s.pool import Pool
from s2s.recordings import Recordings
from s2s.request import VALIDATIONS, Request
from s2s.run import Run
from s2s.train import WARM_UP, Plan, State, fit
from usim.errors import ConfigError, DataError, ResourceError
from usim.io.atomic import write_atomic
from usim.io.provenance import Manifest, ShardEntry, sha256, write_manifest
from usim.io.shard import ShardHeader, encode_shard
from usim.phantom.load import phantom_from_text
from usim.pipeline import Renderer

#: Scenes are 30 x 40 pixels and have two looks.
HEIGHT, WIDTH, LOOKS = 30, 40, 2
SMALL = {"width": 4, "depth": 1}

pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Counted:
    """Scenes whose pixels are numbered through: scene, look, row, column. `x` is the negative, `y2` the same again.

    slow: scenes that take their time.  wrong: the scene that fails.
    """

    slow: tuple[int, ...] = ()
    wrong: int = -1

    def open(self):
        def samples(index):
            if index == self.wrong:
                raise DataError(f"scene {index}: no such thing")
            if index in self.slow:
                time.sleep(0.3)
            pixels = np.arange(LOOKS * HEIGHT * WIDTH, dtype=np.float32).reshape(LOOKS, HEIGHT, WIDTH)
            return [{"y": y, "x": -y, "y2": y.copy()} for y in pixels + index * pixels.size]

        return samples


def where(values):
    """(scene, look, row, column) of numbered pixels, each an array."""
    number = np.rint(from_scale(np.asarray(values, dtype=np.float64), "db")).astype(int)
    return np.unravel_index(number, (1000, LOOKS, HEIGHT, WIDTH))


def pool(seed=0, capacity=8, reuse=0.5, **training):
    chosen = Training(**{"batch": 3, "crop": 8, **training})
    return Pool(make("noise2true", **SMALL), chosen, seed=seed, capacity=capacity, reuse=reuse)


def batches(one, feed, steps):
    return [{key: values.numpy() for key, values in one.batch(step, feed).items()} for step in steps]


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def makers():
    """The processes of this one that make data; torch's resource tracker is none of them."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if "spawn_main" in " ".join(process.cmdline())]


def gone(processes):
    """Whether all of them have ended, or do so soon."""
    return not psutil.wait_procs([p for p in processes if p.is_running()], timeout=PATIENCE)[1]


# The pool.


def test_a_batch_depends_on_the_seed_and_its_number_alone():
    whole = batches(pool(capacity=5), Feed(Counted(), workers=0), range(30))
    assert whole[0]["y"].shape == (3, 1, 8, 8)
    for step in (1, 13, 29):
        later = pool(capacity=5)
        first = later.start_at(step, (LOOKS, HEIGHT, WIDTH))
        assert first == {1: 0, 13: 1, 29: 3}[step]
        feed = Feed(Counted(), start=first, workers=0)
        again = batches(later, feed, (step, step, *range(step + 1, 30)))
        assert all(equal(*pair) for pair in zip(again, [whole[step], *whole[step:]], strict=True))
    other = batches(pool(seed=1), Feed(Counted(), workers=0), range(30))
    assert not any(equal(*pair) for pair in zip(whole, other, strict=True))


@pytest.mark.parametrize("reuse", [0.25, 1.0, 4.0])
def test_a_pixel_is_shown_as_often_as_was_asked(reuse):
    one, feed = pool(reuse=reuse, capacity=1000), Feed(Counted(), workers=0)
    steps = 200
    batches(one, feed, range(steps))
    shown = steps * 3 * 8 * 8
    taken = next(feed)[0]["y"][0, 0] / (LOOKS * HEIGHT * WIDTH)
    assert taken - 4 == pytest.approx(shown / (reuse * LOOKS * HEIGHT * WIDTH), abs=1.0)


def test_crops_come_from_the_latest_scenes_and_all_their_looks():
    one, feed = pool(capacity=5), Feed(Counted(), workers=0)
    seen, looks = [], set()
    for step in range(200):
        scene, look, _, _ = where(one.batch(step, feed)["y"])
        seen.append(scene.max())
        looks |= set(look.flat)
        assert scene.min() > seen[-1] - 5 or step < 20
    assert looks == {0, 1}
    assert seen[-1] > 20


def test_crops_are_cut_at_one_place_for_all_keys_and_flipped_left_to_right_only():
    feed, mirrored, corners = Feed(Counted(), workers=0), 0, set()
    for batch in batches(pool(crop=12), feed, range(40)):
        np.testing.assert_array_equal(batch["y"], batch["y2"])
        np.testing.assert_allclose(batch["x"] + batch["y"], 2.0, atol=1e-3)
        for crop in batch["y"][:, 0]:
            scene, look, row, column = where(crop)
            assert np.ptp(scene) == np.ptp(look) == 0
            assert (np.diff(row, axis=0) == 1).all()
            assert (np.abs(np.diff(column, axis=1)) == 1).all()
            mirrored += column[0, 0] > column[0, -1]
            corners.add((row[0, 0], column.min()))
    assert 40 < mirrored < 80
    assert min(corners)[0] == 0
    assert max(corners)[0] == HEIGHT - 12
    assert {column for _, column in corners} >= {0, WIDTH - 12}


def test_augmentation_of_the_paper_moves_all_keys_alike():
    feed, kinds = Feed(Counted(), workers=0), {"same": 0, "across": 0, "down": 0, "moved": 0}
    for batch in batches(pool(crop=16, augment="paper"), feed, range(60)):
        np.testing.assert_array_equal(batch["y"], batch["y2"])
        np.testing.assert_allclose(batch["x"] + batch["y"], 2.0, atol=1e-3)
        assert np.isfinite(batch["y"]).all()
        for crop in batch["y"][:, 0]:
            down, right = (np.median(np.diff(crop, axis=axis)) * 60.0 for axis in (0, 1))
            whole = abs(abs(right) - 1.0) < 0.1 and abs(abs(down) - WIDTH) < 0.1
            kinds["same"] += whole and right > 0 and down > 0
            kinds["across"] += whole and right < 0
            kinds["down"] += whole and down < 0
            kinds["moved"] += not whole
    assert kinds["same"] / 180 == pytest.approx(0.7**3, abs=0.12)
    assert kinds["moved"] / 180 == pytest.approx(0.3, abs=0.12)
    assert min(kinds["across"], kinds["down"]) > 15


def test_whole_images_are_taken_when_no_crop_is_asked_for():
    batch = pool(crop=0, batch=2).batch(0, Feed(Counted(), workers=0))
    assert batch["y"].shape == (2, 1, HEIGHT, WIDTH)


@dataclass(frozen=True)
class Growing:
    """Images that become larger."""

    def open(self):
        return lambda index: [dict.fromkeys(("y", "x"), np.zeros((16 + 2 * index, 20), np.float32))]


@pytest.mark.parametrize(
    ("source", "training", "depth", "text"),
    [
        (Counted(), {"crop": 31}, 1, "31 pixels; noise2true needs multiples of 2"),
        (Counted(), {"crop": 32}, 1, "images of 30 x 40 pixels are smaller than crops of 32; choose --crop 30"),
        (Counted(), {"crop": 0}, 2, "images of 30 x 40 pixels; noise2true needs multiples of 4"),
        (Growing(), {"crop": 0}, 1, "images of 18 x 20 pixels among others of 16 x 20"),
    ],
)
def test_crops_that_can_not_be_cut_are_refused(source, training, depth, text):
    with pytest.raises(ConfigError, match=rf"^crop: {text}"):
        Pool(make("noise2true", width=4, depth=depth), Training(**training), seed=0).batch(0, Feed(source, workers=0))


# The feed.


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than cores
def test_workers_change_nothing_and_an_error_in_one_is_the_error_itself():
    """Three workers, of which the first is slow: scenes come in their order all the same, and then scene 9 fails."""
    source = Counted(slow=(2, 5), wrong=9)
    with Feed(source, start=2, workers=3) as feed:
        parts = [next(feed) for _ in range(7)]
        team = makers()  # before they have made something they may still be about to become what they are
        with pytest.raises(DataError, match=r"^scene 9: no such thing$"):
            next(feed)
        assert feed.waited > 0.3
    alone = Feed(source, start=2, workers=0)
    for scene in parts:
        for one, other in zip(scene, next(alone), strict=True):
            assert equal(one, other)
    with pytest.raises(DataError, match=r"^scene 9: no such thing$"):
        next(alone)
    assert len(team) == 3
    assert gone(team)


def test_a_lost_worker_is_named_and_none_is_left():
    """torch raises an error about it anywhere in the main thread; it must come out as one of ours."""
    team = []

    def lose_the_worker():
        with Feed(Counted(), workers=1) as feed:
            assert equal(next(feed)[0], Counted().open()(0)[0])
            team.extend(makers())
            team[0].kill()
            for _ in range(100):
                next(feed)

    with pytest.raises(ResourceError, match="ended from outside"):
        lose_the_worker()
    assert len(team) == 1
    assert gone(team)


DIES_WHILE_ASKING = """\
import multiprocessing.connection
import os
import signal

import numpy as np

from usim.feed import Feed


class Zeros:
    def open(self):
        return lambda index: np.zeros(1000)


def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    multiprocessing.connection.answer_challenge = die
    next(Feed(Zeros(), workers=1))
"""


def test_a_worker_says_nothing_of_a_pipe_that_broke_because_its_parent_was_killed(tmp_path):
    (tmp_path / "dies.py").write_text(DIES_WHILE_ASKING)
    run = [sys.executable, str(tmp_path / "dies.py")]
    done = subprocess.run(run, env=environment(), stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    assert "Traceback" not in done.stderr


SLOW_THREADS = """\
import multiprocessing.queues
import multiprocessing.synchronize
import threading
import time

import numpy as np

from usim.feed import Feed

feed_queue, unlink = multiprocessing.queues.Queue._feed, multiprocessing.synchronize.sem_unlink


class Zeros:
    def open(self):
        return lambda index: np.zeros(1000)


def feed_slowly(*arguments):
    feed_queue(*arguments)
    time.sleep(0.1)


def unlink_slowly(name):
    unlink(name)
    if threading.current_thread() is not threading.main_thread():
        time.sleep(0.2)


if __name__ == "__main__":
    multiprocessing.queues.Queue._feed = staticmethod(feed_slowly)
    multiprocessing.synchronize.sem_unlink = unlink_slowly
    with Feed(Zeros(), workers=1) as feed:
        next(feed)
    time.sleep(0.15)
"""


def test_the_end_does_not_cut_a_thread_off_that_gives_a_semaphore_back(tmp_path):
    """Python told users of a leaked semaphore that was none, once in a few trainings on a busy machine."""
    (tmp_path / "ends.py").write_text(SLOW_THREADS)
    run = [sys.executable, str(tmp_path / "ends.py")]
    done = subprocess.run(run, env=environment(), stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


# What is simulated.


@pytest.fixture
def phantom():
    return phantom_from_text(PHANTOM, "small.yaml")


def test_images_are_clipped_at_black_and_targets_below_it(phantom):
    looks = Simulation(phantom, 5, ("y", "y2", "x")).open()(3)
    renderer = Renderer(phantom, seed=5)
    images = [np.clip(renderer.image(3, look), -40.0, None) for look in range(2)]
    for look, sample in enumerate(looks):
        assert all(values.dtype == np.float32 for values in sample.values())
        np.testing.assert_array_equal(sample["y"], images[look])
        np.testing.assert_array_equal(np.maximum(sample["y2"], -40.0), images[1 - look])
        assert sample["y"].min() == -40.0
        assert -40.0 - BELOW_BLACK_DB <= sample["y2"].min() < -41.0
        assert sample["x"].min() == -40.0 - BELOW_BLACK_DB
        assert sample["x"].max() <= 0.0
    assert images[0].shape == (40, 48)


def test_looks_share_the_scene_and_nothing_else(phantom):
    texts = PHANTOM.replace("anechoic", "-6 dB")
    looks = Simulation(phantom_from_text(texts), 5, ("y", "y2", "x"), looks=3).open()(0)
    speckle = [(sample["y"] - sample["x"]).ravel() for sample in looks]
    for a in range(3):
        np.testing.assert_array_equal(looks[a]["x"], looks[0]["x"])
        for b in range(a):
            assert abs(np.corrcoef(speckle[a], speckle[b])[0, 1]) < 0.15
        other = np.maximum(looks[a]["y2"], -40.0)
        assert not np.array_equal(other, looks[a]["y"])
        assert any(np.array_equal(other, sample["y"]) for sample in looks)
    again = Simulation(phantom_from_text(texts), 5, ("y",), looks=1).open()(0)
    np.testing.assert_array_equal(again[0]["y"], looks[0]["y"])
    elsewhere = Simulation(phantom_from_text(texts), 6, ("y",), looks=1).open()(0)
    assert not np.array_equal(elsewhere[0]["y"], looks[0]["y"])


def test_gain_moves_a_scene_as_the_knob_of_a_scanner_does(phantom):
    """Brighter before it is clipped: black stays black, white stays white, and the truth moves along."""
    needs = ("y", "y2", "x")
    plain, louder = (Simulation(phantom, 5, needs, gain=gain).open() for gain in ((0.0, 0.0), (7.0, 7.0)))
    image = Renderer(phantom, seed=5).image(3) + np.float32(7.0)
    before, after = plain(3)[0], louder(3)[0]
    np.testing.assert_allclose(after["y"], np.clip(image, -40.0, 0.0), atol=1e-5)
    for key in needs:
        inside = (before[key] > -40.0) & (before[key] < -7.0)
        np.testing.assert_allclose(after[key][inside], before[key][inside] + 7.0, atol=1e-4)
        assert after[key].max() <= 0.0
    drawn = Simulation(phantom, 5, ("y",), gain=(-9.0, 9.0)).open()
    moved = [float(np.median(drawn(index)[0]["y"] - plain(index)[0]["y"])) for index in range(6)]
    assert len(set(np.round(moved, 2))) > 3
    assert max(map(abs, moved)) <= 9.01


def test_pairs_need_two_looks(tmp_path, phantom):
    with pytest.raises(ConfigError, match="looks: 1 of a scene"):
        Simulation(phantom, 5, ("y", "y2"), looks=1).open()
    generator = np.random.default_rng(0)
    place = generator.uniform((-4e-3, 0.0, 10e-3), (4e-3, 0.0, 18e-3), (4000, 3))
    np.savez(tmp_path / "cloud.npz", position=place, amplitude=np.ones(4000))
    text = PHANTOM.replace("{model: field}", "{file: cloud.npz}").partition("regions")[0]
    cloud = phantom_from_text(text, "brought.yaml", tmp_path)
    with pytest.raises(ConfigError, match=r"brought\.yaml: scatterers\.file: .* one look only"):
        Simulation(cloud, 5, ("y", "y2")).open()(0)
    assert Simulation(cloud, 5, ("y", "x")).open()(0)[0]["y"].shape == (40, 48)


# Files.


@pytest.fixture
def files(tmp_path, make_frame):
    generator = np.random.default_rng(3)
    grey = [generator.integers(0, 256, (32, 40), dtype=np.uint8) for _ in range(3)]
    (tmp_path / "pictures").mkdir()
    for name, image in zip("ba", grey[:2], strict=True):
        PIL.Image.fromarray(image).save(tmp_path / f"pictures/{name}.png")
    np.save(tmp_path / "pictures/c.npy", np.stack([grey[2], grey[2].T[:32, :].repeat(2, 1)[:, :40]]))
    (tmp_path / "pictures/notes.txt").write_text("not an image")
    (tmp_path / "data").mkdir()
    frames = [make_frame(i, shape=(32, 24)) for i in range(3)]
    write_atomic(tmp_path / "data/shard-00000.h5", encode_shard(frames, ShardHeader(3, 0, 7, "", "", {})))
    return tmp_path, grey, frames


def test_pictures_are_taken_as_they_are_shown_once_in_every_epoch(files):
    folder, grey, _ = files
    source = Recordings.of([folder / "pictures"], ("y",), Stated(dynamic_range=50.0), seed=1)
    assert [os.path.basename(path) for path, _ in source.items] == ["a.png", "b.png", "c.npy", "c.npy"]
    read = source.open()
    epochs = [[read(epoch * 4 + place)[0]["y"] for place in range(4)] for epoch in range(6)]
    levels = [[image.mean() for image in epoch] for epoch in epochs]
    assert len({tuple(sorted(epoch)) for epoch in levels}) == 1
    assert len({tuple(epoch) for epoch in levels}) > 2
    expected = (grey[0] / 255.0 - 1.0) * 50.0
    assert any(image.shape == (32, 40) and np.allclose(image, expected, atol=1e-4) for image in epochs[0])
    assert {image.dtype for image in epochs[0]} == {np.dtype(np.float32)}
    other = Recordings.of([folder / "pictures"], ("y",), Stated(dynamic_range=50.0), seed=2).open()
    assert any(not np.array_equal(read(i)[0]["y"], other(i)[0]["y"]) for i in range(24))


def test_an_envelope_is_as_dark_as_its_range(tmp_path):
    envelope = np.random.default_rng(0).rayleigh(size=(32, 32)).astype(np.float32)
    envelope[3:9, 4:8] = 0.0
    np.save(tmp_path / "a.npy", envelope / envelope.max())
    y = Recordings.of([tmp_path / "a.npy"], ("y",), Stated("envelope", 50.0), seed=0).open()(0)[0]["y"]
    assert (y.min(), y.max()) == pytest.approx((-50.0, 0.0), abs=1e-4)


def test_data_of_usim_bring_their_truth(files):
    folder, _, frames = files
    for place in (folder / "data", folder / "data/shard-00000.h5"):
        read = Recordings.of([place], ("y", "x"), Stated(), seed=0).open()
        for sample in (read(index)[0] for index in range(3)):
            (frame,) = (f for f in frames if np.array_equal(np.maximum(f.bmode, -60.0), sample["y"]))
            np.testing.assert_array_equal(sample["x"], np.clip(frame.truth.bmode, -70.0, 0.0))
        blind = Recordings.of([place], ("y",), Stated(), seed=0).open()(0)[0]
        np.testing.assert_array_equal(blind["y"], read(0)[0]["y"])
        for needs in (("y", "x"), ("y",)):
            shallow = Recordings.of([place], needs, Stated(dynamic_range=30.0), seed=0).open()(0)[0]
            np.testing.assert_array_equal(shallow["y"], np.maximum(read(0)[0]["y"], -30.0))
        assert shallow["y"].min() == -30.0


def test_what_is_assumed_about_pictures_is_said(files, small, tmp_path):
    folder, _, _ = files
    words = []
    request = replace(small, method="speckle2self", settings={}, changes={}, data=(str(folder / "pictures"),))
    Run.new(request, tmp_path / "out", **{**SURROUNDINGS, "say": words.append})
    (line,) = words
    assert "a.png: taken as log-compressed, 60 dB between black and white" in line
    assert line.endswith("; 2 more by the same rules")
    stated = Stated("log", 50.0)
    assert not Recordings.of([folder / "pictures/a.png"], ("y",), stated, seed=0).note
    assert not Recordings.of([folder / "data"], ("y",), Stated(), seed=0).note


def test_grey_levels_of_twelve_bits_teach_when_white_is_stated(tmp_path, capsys):
    grey = np.random.default_rng(0).integers(0, 4096, (32, 32), dtype=np.uint16)
    PIL.Image.fromarray(grey).save(tmp_path / "deep.png")
    command = ["train", "--data", str(tmp_path / "deep.png"), "--steps", "1", "-o", str(tmp_path / "out")]
    assert main(command) == 3
    assert "with --white" in capsys.readouterr().err
    assert main([*command, "--white", "4095", "--crop", "64"]) == 2
    assert "smaller than crops of 64" in capsys.readouterr().err
    y = Recordings.of([tmp_path / "deep.png"], ("y",), Stated(white=4095.0), seed=0).open()(0)[0]["y"]
    np.testing.assert_allclose(y, (grey / 4095.0 - 1.0) * 60.0, atol=1e-4)


def test_only_some_of_many_files_are_kept(files, monkeypatch):
    folder, _, _ = files
    source, opened = Recordings.of([folder / "pictures"], ("y",), Stated(), seed=0), []
    monkeypatch.setattr(s2s.recordings, "_KEPT", 2)
    read = Recordings._reader
    monkeypatch.setattr(Recordings, "_reader", lambda self, path: opened.append(path) or read(self, path))
    samples = source.open()
    for index in range(16):
        samples(index)
    assert 3 < len(opened) < 16


@pytest.mark.parametrize(
    ("path", "needs", "error", "text"),
    [
        ("pictures", ("y", "y2"), ConfigError, "no frame comes with a second, independent look"),
        ("pictures", ("y", "x"), ConfigError, r"a\.png has no truth"),
        ("data", ("y", "y2"), ConfigError, "no frame comes with a second, independent look"),
        ("empty", ("y",), DataError, "empty: no images in this folder"),
        ("gone.png", ("y",), DataError, r"gone\.png: cannot read"),
        ("pictures/notes.txt", ("y",), DataError, r"notes\.txt: a file of another kind"),
        ("tiny.png", ("y",), DataError, r"tiny\.png: 12 x 40 pixels; an image needs"),
        ("flat.png", ("y",), DataError, r"flat\.png: constant"),
    ],
)
def test_files_that_teach_nothing_are_refused(files, path, needs, error, text):
    folder, grey, _ = files
    (folder / "empty").mkdir()
    PIL.Image.fromarray(grey[0][:12]).save(folder / "tiny.png")
    PIL.Image.fromarray(grey[0] * 0).save(folder / "flat.png")
    with pytest.raises(error, match=text):
        Recordings.of([folder / path], needs, Stated(), seed=0)


# The plan and the loop.


def test_progress_by_steps_or_by_minutes():
    plan = Plan(Training(), steps=40)
    assert [plan.progress(step, 1e9) for step in (0, 10, 40)] == [0.0, 0.25, 1.0]
    plan = Plan(Training(), minutes=2.0)
    assert [plan.progress(10**9, seconds) for seconds in (0.0, 30.0, 120.0)] == [0.0, 0.25, 1.0]


def test_rates_rise_fall_and_end_at_zero():
    plan = Plan(Training(schedule="cosine"), steps=1000)
    rates = np.array([plan.rate(step / 1000) for step in range(1001)])
    peak = round(1000 * WARM_UP)
    assert rates[0] == rates[-1] == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[peak] == pytest.approx(1.0, abs=1e-2)
    assert rates[500] == pytest.approx(0.5)
    assert {Plan(Training(schedule="constant"), steps=10).rate(p) for p in (0.0, 0.3, 1.0)} == {1.0}


class Shift(Method):
    """A method of one number, with noise in its loss and a buffer."""

    needs = ("y", "x")

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def infer(self, y):
        return y + self.shift

    def loss(self, batch, progress):
        self.seen += 1
        return (self.infer(batch["y"]) - batch["x"] + torch.randn(())).square().mean()


def loop(training, steps, listen, state=None, wrong=None):
    method = Shift()
    method.name = "shift"
    if wrong is not None:
        method.loss = wrong
    state = state or State.fresh(method, training, "cpu")
    one = Pool(method, training, seed=0, reuse=4.0)
    fit(state, Plan(training, steps=steps, seed=3), one, Feed(Counted(), workers=0), listen)
    return state


@pytest.mark.parametrize("ema", [0.0, 0.3, 0.999])
def test_the_average_forgets_as_its_decay_says(ema):
    training, shifts, averages = Training(batch=2, crop=8, rate=0.1, ema=ema), [], []

    def listen(state, logs):
        shifts.append(float(state.method.shift.detach()))
        averages.append(float(state.average.shift))
        assert state.average.seen == state.method.seen == state.step

    loop(training, 30, listen)
    expected = 0.0
    for step, (shift, found) in enumerate(zip(shifts, averages, strict=True)):
        kept = min(ema, (1.0 + step) / (10.0 + step))
        expected = kept * expected + (1.0 - kept) * shift
        assert found == pytest.approx(expected, abs=1e-6)
    assert len(set(shifts)) > 25


def test_rates_reach_the_optimiser_and_every_step_has_its_own_noise():
    training, rates, losses = Training(batch=2, crop=8, rate=0.1), [], []

    def listen(state, logs):
        rates.append(state.optimizers["main"].param_groups[0]["lr"])
        losses.append(logs["loss"])

    state = loop(training, 20, listen)
    plan = Plan(training, steps=20)
    assert rates == pytest.approx([0.1 * plan.rate(step / 20) for step in range(20)])
    assert state.step == 20
    assert state.elapsed > 0.0
    first, losses = losses, []
    loop(training, 20, listen)
    assert losses == first


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_training(value):
    training, steps = Training(batch=2, crop=8), []
    parts = iter([1.0, 1.0, value])
    method = Shift()
    state = State.fresh(method, training, "cpu")
    state.method.loss = lambda batch, progress: (method.shift + 1.0) * next(parts)
    with pytest.raises(DataError, match=r"the loss became (nan|inf) in step 2; .* lower --rate"):
        loop(training, 10, lambda state, logs: steps.append(state.step), state)
    assert steps == [1, 2]
    assert state.step == 2


# Runs in folders.

STEPS = 60


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A request whose training takes a second or two, and reads new scenes all the time."""
    path = tmp_path_factory.mktemp("phantom") / "small.yaml"
    path.write_text(PHANTOM)
    return Request(
        method="noise2true", preset="toy", settings=SMALL, phantom=str(path), steps=STEPS,
        changes={"batch": 2, "crop": 16, "rate": 0.002}, seed=5, reuse=1.0, held_out=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    """The folder of the training that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    Run.new(small, folder, **SURROUNDINGS).train(lambda: None)
    torch.set_num_threads(before)
    return folder


def same(one, other):
    """Whether nested data are equal to the last bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return one == other


def assert_same_training(folder, whole):
    """Weights, average, optimiser, scores: all but the time that it took."""
    found, expected = (torch.load(place / "last.pt", weights_only=True) for place in (folder, whole))
    for content in (found, expected):
        assert content["resume"].pop("elapsed") > 0.0
    for key in ("weights", "resume", "settings"):
        assert same(found[key], expected[key]), key
    found, expected = (torch.load(place / "best.pt", weights_only=True) for place in (folder, whole))
    assert same(found["weights"], expected["weights"])
    assert same(found["about"]["scores"], expected["about"]["scores"])
    timeless = [[{k: v for k, v in line.items() if k not in ("seconds", "waiting")} for line in lines(place)]
                for place in (folder, whole)]  # fmt: skip
    assert timeless[0] == timeless[1]


def test_metrics_tell_what_happened(whole):
    told = lines(whole)
    every = STEPS // VALIDATIONS
    assert [line["step"] for line in told] == list(range(every, STEPS + 1, every))
    keys = {"step", "seconds", "loss", "waiting", "psnr", "ssim", "psnr_fit", "ssim_fit", "noisy"}
    assert all(set(line) - {"warning"} == keys for line in told)
    assert all(later["seconds"] > line["seconds"] > 0.0 for line, later in itertools.pairwise(told))
    assert all(0.0 <= line["waiting"] <= 1.0 for line in told)
    assert np.mean([line["loss"] for line in told[-5:]]) < np.mean([line["loss"] for line in told[:5]])
    assert len({str(line["noisy"]) for line in told}) == 1
    assert sorted(path.name for path in whole.iterdir()) == ["best.pt", "last.pt", "metrics.jsonl"]


def test_the_best_weights_are_those_of_the_best_line(whole, small):
    best = load_checkpoint(whole / "best.pt")
    line = max(lines(whole), key=lambda line: line["psnr"])
    assert best.about["scores"] == {key: line[key] for key in ("step", "psnr", "ssim", "psnr_fit", "ssim_fit")}
    assert best.resume is None
    assert best.about["request"]["seed"] == 5
    assert best.about["phantom"]["text"] == PHANTOM
    phantom = phantom_from_text(**best.about["phantom"])
    again = HeldOut.simulate({"training": phantom}, 5, small.held_out)
    assert again.scores(best.method).plain() == pytest.approx(
        {key: line[key] for key in ("psnr", "ssim", "psnr_fit", "ssim_fit")}
    )
    assert again.scores(None).plain() == line["noisy"]
    assert line["psnr"] > line["noisy"]["psnr"]


@pytest.mark.parametrize("stops", [(1,), (5, 6, 20), (STEPS - 1,), (STEPS,)])
def test_a_stopped_training_goes_on_as_if_it_had_not_been(small, whole, tmp_path, stops):
    run = Run.new(small, tmp_path / "a", **SURROUNDINGS)
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run.train(stop_after(stop))
        run = Run.resumed(tmp_path / "a", **SURROUNDINGS)
    assert run.state.step == sum(stops)
    assert run.train(lambda: None) == tmp_path / "a/best.pt"
    assert_same_training(tmp_path / "a", whole)


def test_a_training_that_was_stopped_before_its_first_step_goes_on_too(small, whole, tmp_path, monkeypatch):
    """Its checkpoint once said nothing of the scenes' shape, and could not be resumed."""

    def stop(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(s2s.run, "fit", stop)
        with pytest.raises(KeyboardInterrupt):
            Run.new(small, tmp_path, **SURROUNDINGS).train(lambda: None)
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
    run = Run.resumed(tmp_path, **SURROUNDINGS)
    assert run.state.step == 0
    run.train(lambda: None)
    assert_same_training(tmp_path, whole)


def test_a_training_that_was_stopped_before_its_first_scene_begins_again(small, tmp_path, monkeypatch, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    call = ["-q", "train", "--sim", small.phantom, "--method", "noise2true", "--preset", "toy", "--set", "width=4",
            "--set", "depth=1", "--steps", "1", "--batch", "2", "--crop", "16", "--workers", "0", "--held-out", "1",
            "-o", str(tmp_path / "a b")]  # fmt: skip
    for place, left in (
        ("_judge", "no step was made yet; the same command begins again"),
        ("_look_after", f"go on with s2s train --resume -o '{tmp_path}/a b'"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Run, place, stop)
            assert main(call) == 130
        assert capsys.readouterr().err.splitlines()[-1] == f"error: interrupted; {left}"
    assert main(["-q", "train", "--resume", "-o", str(tmp_path / "a b"), "--workers", "0"]) == 0


def test_what_was_told_after_the_last_checkpoint_is_told_once(small, whole, tmp_path):
    """A kill between a line of metrics.jsonl and its checkpoint, or in the middle of a line."""
    run = Run.new(small, tmp_path, **SURROUNDINGS)
    with pytest.raises(KeyboardInterrupt):
        run.train(stop_after(10))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": 12, "psnr": 1.0}) + '\n{"step": 15, "ps')
    Run.resumed(tmp_path, **SURROUNDINGS).train(lambda: None)
    assert_same_training(tmp_path, whole)


def test_a_finished_training_is_finished(whole, tmp_path):
    for name in ("last.pt", "best.pt", "metrics.jsonl"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    before = (tmp_path / "last.pt").read_bytes()
    assert Run.resumed(tmp_path, **SURROUNDINGS).train(lambda: None) == tmp_path / "best.pt"
    assert (tmp_path / "last.pt").read_bytes() == before
    assert len(lines(tmp_path)) == VALIDATIONS


def test_a_folder_that_holds_a_training_is_refused(small, whole):
    before = (whole / "last.pt").read_bytes()
    with pytest.raises(ConfigError, match="holds a training; go on with it with --resume"):
        Run.new(replace(small, seed=6), whole, **SURROUNDINGS)
    assert (whole / "last.pt").read_bytes() == before


def test_a_folder_in_which_a_training_is_at_work_is_refused(small, tmp_path):
    late = Run.new(replace(small, seed=6), tmp_path, **SURROUNDINGS)
    tried = []

    def check():
        if not tried:
            told = (tmp_path / "metrics.jsonl").read_text()
            for other in (late, Run.resumed(tmp_path, **SURROUNDINGS)):
                with pytest.raises(ConfigError, match="another training is at work in it") as error:
                    other.train(lambda: None)
                tried.append(error)
            assert (tmp_path / "metrics.jsonl").read_text() == told

    request = replace(small, steps=4, held_out=1)
    Run.new(request, tmp_path, **SURROUNDINGS).train(check)
    assert len(tried) == 2
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4]
    Run.resumed(tmp_path, **SURROUNDINGS).train(lambda: None)


def test_a_scene_that_never_varies_is_named_and_perfect_scores_are_json(small, tmp_path):
    still = tmp_path / "still.yaml"
    still.write_text(
        "probe: L11-5v\nimage: {x: [-2 mm, 2 mm], z: [8 mm, 12 mm], pixels: [32, 32]}\n"
        "background: {echogenicity: anechoic}\n"
    )
    words = []
    request = replace(small, phantom=str(still), steps=2, held_out=2)
    Run.new(request, tmp_path / "out", **{**SURROUNDINGS, "say": words.append}).train(lambda: None)
    assert words[0].endswith("nothing in its scene varies; the scores tell nothing about other scenes")
    assert lines(tmp_path / "out")[0]["noisy"]["psnr"] is None
    assert "Infinity" not in (tmp_path / "out/metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", "5"], "--steps"),
        (["--set", "width=8"], "--set"),
        (["--seed", "5", "--method", "noise2true"], "--method, --seed"),
        (["--sim", "uniform"], "--sim"),
    ],
)
def test_a_resumed_training_takes_no_other_wishes(whole, capsys, options, named):
    assert main(["train", "--resume", "-o", str(whole), "--device", "cpu", *options]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"leave out {named}")


def test_minutes_are_kept(small, tmp_path):
    run = Run.new(replace(small, steps=None, minutes=0.02, held_out=1), tmp_path, **SURROUNDINGS)
    run.train(lambda: None)
    assert run.state.elapsed >= 1.2
    told = lines(tmp_path)
    assert told[-1]["step"] == run.state.step > 0
    assert told[-1]["seconds"] >= 1.2
    assert all(line["seconds"] < 1.2 for line in told[:-1])
    assert 1 <= len(told) <= VALIDATIONS


def test_the_preset_says_how_long_when_nobody_else_does(small, tmp_path):
    run = Run.new(replace(small, steps=None), tmp_path, **SURROUNDINGS)
    assert run.plan.steps == 2_000
    assert not list(tmp_path.iterdir())


def test_a_training_on_files_is_judged_on_the_phantom(files, small, tmp_path):
    folder, _, _ = files
    request = replace(small, data=(str(folder / "data"),), steps=4, held_out=1)
    run = Run.new(request, tmp_path / "out", **SURROUNDINGS)
    with pytest.raises(KeyboardInterrupt):
        run.train(stop_after(2))
    Run.resumed(tmp_path / "out", **SURROUNDINGS).train(lambda: None)
    assert [line["step"] for line in lines(tmp_path / "out")] == [1, 2, 3, 4]
    Run.new(request, tmp_path / "whole", **SURROUNDINGS).train(lambda: None)
    assert_same_training(tmp_path / "out", tmp_path / "whole")


def test_words_about_progress(small, tmp_path, monkeypatch):
    words = []
    monkeypatch.setattr(s2s.run, "LINE_EVERY_S", 0.0)
    request = replace(small, steps=42, held_out=1)
    Run.new(request, tmp_path, **{**SURROUNDINGS, "say": words.append}).train(lambda: None)
    assert len(words) == 42
    assert words[0].startswith("step 1, 2%, loss ")
    assert words[-1].startswith("step 42, 100%, loss ")
    assert "psnr" in words[-1]
    assert "noisy" in words[-1]
    assert words[-1].endswith("0:00 left")


# Trainings in processes of their own, and what becomes of them.


def start(folder, small, *options):
    if not options:
        options = ("--sim", small.phantom, "--method", "noise2true", "--preset", "toy", "--set", "width=4", "--set",
                   "depth=1", "--steps", str(STEPS), "--batch", "2", "--crop", "16", "--rate", "0.002", "--seed", "5",
                   "--reuse", "1", "--precision", "fp32")  # fmt: skip
    run = [sys.executable, "-m", "s2s", "train", "-o", str(folder), "--device", "cpu", "--workers", "1", *options]
    variables = environment(OMP_NUM_THREADS="1")  # threads decide the last bits of a sum
    return subprocess.Popen(run, env=variables, stderr=subprocess.PIPE, text=True)


def end(process, number, ready):
    """Send a signal when `ready` says so; return what was written to stderr, once all its children have ended."""
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert gone(family)
    assert "Traceback" not in error
    return error


def told(folder, count):
    path = folder / "metrics.jsonl"
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= count


def test_a_killed_training_and_an_interrupted_one_go_on_to_the_same_weights(small, whole, tmp_path):
    folder = tmp_path / "a"
    process = start(folder, small)
    end(process, signal.SIGKILL, told(folder, 3))
    assert process.returncode == -signal.SIGKILL
    assert load_checkpoint(folder / "last.pt").resume["step"] < STEPS
    process = start(folder, small, "--resume")
    error = end(process, signal.SIGINT, told(folder, 8))
    assert process.returncode == 130
    assert error.splitlines()[-1] == f"error: interrupted; go on with s2s train --resume -o {folder}"
    assert load_checkpoint(folder / "last.pt").resume["step"] < STEPS
    Run.resumed(folder, **SURROUNDINGS).train(lambda: None)
    assert_same_training(folder, whole)


@pytest.mark.slow
def test_a_training_that_is_stopped_again_and_again(small, whole, tmp_path):
    """At random moments, of the start too: what lies in the folder is always whole, and the end always the same."""
    folder, random = tmp_path / "a", np.random.default_rng(0)
    for number in range(8):
        kind = (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT)[number % 4]
        before = len(lines(folder)) if (folder / "metrics.jsonl").exists() else 0
        wait, known = random.uniform(0.0, 0.05), told(folder, before + 1)
        if number % 7 == 0:
            kind, wait, known = signal.SIGKILL, random.uniform(0.5, 4.0), lambda: True
        process = start(folder, small, *(("--resume",) if (folder / "last.pt").exists() else ()))
        end(process, kind, lambda known=known, wait=wait: known() and not time.sleep(wait))
        assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[kind]
        if (folder / "last.pt").exists():
            assert load_checkpoint(folder / "last.pt").resume["step"] < STEPS
    Run.resumed(folder, **SURROUNDINGS).train(lambda: None)
    assert_same_training(folder, whole)


@pytest.mark.slow
def test_a_terminated_training_says_so(small, tmp_path):
    process = start(tmp_path / "a", small)
    error = end(process, signal.SIGTERM, told(tmp_path / "a", 2))
    assert process.returncode == 143
    assert error.splitlines()[-1].startswith("error: interrupted")
    load_checkpoint(tmp_path / "a/last.pt")


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["toy", "paper"])
def test_speckle2self_goes_on_with_its_statistics_too(small, tmp_path, preset):
    """Normalisations may keep running statistics, which no optimiser knows."""
    request = replace(
        small,
        method="speckle2self",
        preset=preset,
        settings={"target": "own"},
        steps=6,
        held_out=1,
        changes={"batch": 2, "crop": 32},
    )
    for name, stops in (("whole", ()), ("parts", (2, 3))):
        run = Run.new(request, tmp_path / name, **SURROUNDINGS)
        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                run.train(stop_after(stop))
            run = Run.resumed(tmp_path / name, **SURROUNDINGS)
        run.train(lambda: None)
    assert_same_training(tmp_path / "parts", tmp_path / "whole")


def test_of_a_split_dataset_the_part_called_train_is_learned_from(tmp_path, make_frame):
    for names in (("train", "val"), ("dev", "val")):
        folder = tmp_path / names[0]
        folder.mkdir()
        split = tuple((name, 0.5) for name in names)
        manifest = Manifest("cyst", 4, 7, 2, [], "0" * 64, {}, split=split)
        for number, name in enumerate(names):
            frames = [make_frame(2 * number + i, shape=(32, 24)) for i in range(2)]
            data = encode_shard(frames, ShardHeader(2, 2 * number, 7, "", "", {}))
            write_atomic(folder / f"{name}-00000.h5", data)
            manifest.shards.append(ShardEntry(2 * number, 2, f"{name}-00000.h5", len(data), sha256(data), name))
        write_manifest(folder, manifest)
    source = Recordings.of([tmp_path / "train"], ("y", "x"), Stated(), seed=0)
    assert source.items == ((str(tmp_path / "train"), 0), (str(tmp_path / "train"), 1))
    assert "its part train alone, 2 of 4 images" in source.note
    with pytest.raises(ConfigError, match="its parts are dev, val; none is called train"):
        Recordings.of([tmp_path / "dev"], ("y", "x"), Stated(), seed=0)
