"""Runs that go wrong: full disks, signals, occupied folders, killed workers; and runs that must not differ."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from failing import NthFails
from surroundings import PATIENCE, environment

import usim.generate
from usim.errors import ConfigError, DataError, ResourceError
from usim.generate import generate
from usim.io.dataset import open_frames
from usim.io.provenance import read_manifest
from usim.phantom.load import load_phantom

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [32, 24]}
medium: {attenuation: {uniform: [0.2 dB/cm/MHz, 0.8 dB/cm/MHz]}}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 6
seed: 3
"""


@pytest.fixture
def phantom(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    return load_phantom(path)


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("shard-*.h5")}


def test_frames_do_not_depend_on_workers_or_shards(tmp_path, phantom):
    runs = [(1, 6), (1, 1), (2, 1), (2, 3)]
    results = []
    for workers, shard_size in runs:
        folder = tmp_path / f"{workers}-{shard_size}"
        generate(phantom, folder, workers=workers, shard_size=shard_size, store=["iq"])
        results.append(open_frames(folder))
    for frames in results[1:]:
        assert len(frames) == 6
        for a, b in zip(results[0], frames, strict=True):
            np.testing.assert_array_equal(a.iq, b.iq)
            np.testing.assert_array_equal(a.bmode, b.bmode)
            np.testing.assert_array_equal(a.truth.bmode, b.truth.bmode)
            assert a.params == b.params


def test_equal_runs_give_equal_files(tmp_path, phantom):
    for name, workers in (("a", 1), ("b", 2)):
        generate(phantom, tmp_path / name, workers=workers)
    assert len(hashes(tmp_path / "a")) == 3
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert (tmp_path / "a/manifest.json").read_bytes() == (tmp_path / "b/manifest.json").read_bytes()
    listed = {shard.name: shard.sha256 for shard in read_manifest(tmp_path / "a").shards}
    assert listed == hashes(tmp_path / "a")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_the_nth_write_fails(tmp_path, phantom, fake_renderer, monkeypatch, code, call):
    for n in range(1, 51):
        folder, failing = tmp_path / f"run-{n}", NthFails(call, n, code)
        error = None
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                generate(phantom, folder, workers=1, shard_size=2)
            except ResourceError as caught:
                error = caught
        assert (error is None) == (failing.left > 0), f"{call} number {n} failed and nobody noticed"
        if error is not None:
            assert error.exit_code == 4
            assert "\n" not in str(error)
            assert str(folder) in str(error)
            assert "bytes are needed" in str(error)
        if folder.exists():
            names = {path.name for path in folder.iterdir()}
            listed = {shard.name for shard in read_manifest(folder).shards}
            assert names - {"run.json", "manifest.json"} == listed
            assert len(list(open_frames(folder))) == 2 * len(listed)
        if failing.left > 0:
            break
    assert failing.left > 0


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_the_nth_write_of_a_shard_fails_while_the_next_is_simulated(
    tmp_path, phantom, fake_renderer, monkeypatch, call
):
    before = threading.active_count()
    for n in (1, 2, 3):
        folder, failing = tmp_path / f"{call}-{n}", NthFails(call, n, errno.ENOSPC, thread="other")
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            with pytest.raises(ResourceError, match="bytes are needed") as caught:
                generate(phantom, folder, workers=1, shard_size=1)
        assert threading.active_count() == before
        # `open` and `fsync` count the folder too, which is synchronised after the rename; and where a disk is slow, the
        # shard after the one that is being written is being written too.
        number = (n - 1) // 2 if call in ("open", "fsync") else n - 1
        candidates = {f"shard-{at:05d}.h5" for at in (number, number + 1, n - 1)}
        (named,) = {path for path in candidates if f"{folder}/{path}" in str(caught.value)}
        if folder.exists():
            names = {path.name for path in folder.iterdir()}
            listed = [shard.name for shard in read_manifest(folder).shards]
            assert named not in listed
            assert set(listed) <= {f"shard-{at:05d}.h5" for at in range(n + 1)}
            assert names == {"manifest.json", "run.json", *listed}


def test_memory_does_not_grow_with_the_number_of_shards(tmp_path, phantom, monkeypatch, make_frame):
    made = [make_frame(i, shape=(200, 200)) for i in range(2)]
    held = []

    class Fake:
        def __init__(self, phantom, *, seed=None):
            pass

        def frame(self, number):
            held.append(tracemalloc.get_traced_memory()[0])
            return made[number % 2]

    monkeypatch.setattr(usim.generate, "Renderer", Fake)
    tracemalloc.start()
    try:
        result = generate(phantom, tmp_path / "out", frames=60, workers=1, shard_size=3)
    finally:
        tracemalloc.stop()
    shard = max(entry.bytes for entry in result.manifest.shards)
    assert max(held) - held[0] < 2.5 * shard  # one that is filled, one that is written, of twenty


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path, phantom, fake_renderer):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"holds something else: thesis\.txt; choose another folder"):
        generate(phantom, folder)
    assert (folder / "thesis.txt").read_text() == "precious"
    generate(phantom, tmp_path / "new", workers=1)
    before = hashes(tmp_path / "new")
    with pytest.raises(ConfigError, match=r"holds a dataset already: small, 6 frames \(complete\), seed 3"):
        generate(phantom, tmp_path / "new", seed=4)
    assert hashes(tmp_path / "new") == before


def test_an_empty_folder_and_new_parents_are_fine(tmp_path, phantom, fake_renderer):
    (tmp_path / "empty").mkdir()
    generate(phantom, tmp_path / "empty", workers=1)
    generate(phantom, tmp_path / "a/b/c", workers=1)
    assert len(open_frames(tmp_path / "a/b/c")) == 6


def test_a_run_without_a_finished_shard_leaves_nothing(tmp_path, phantom, fake_renderer, monkeypatch):
    def broken(self, number):
        raise DataError("cloud.npz: damaged")

    monkeypatch.setattr(usim.generate.Renderer, "frame", broken)
    with pytest.raises(DataError, match=r"cloud\.npz"):
        generate(phantom, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_requests_beyond_the_machine_are_refused_before_work(tmp_path, phantom, fake_renderer):
    with pytest.raises(ResourceError, match="bytes are needed"):
        generate(phantom, tmp_path / "out", frames=10**12)
    huge = tmp_path / "huge.yaml"
    huge.write_text(PHANTOM.replace("[32, 24]", "[8192, 8192]"))
    free = 10**15
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
        with pytest.raises(ResourceError, match="bytes of memory are needed"):
            generate(load_phantom(huge), tmp_path / "out", frames=1000, shard_size=1000)
    assert not fake_renderer
    assert not (tmp_path / "out").exists()


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("limit", [PATIENCE, pytest.param(2.0, marks=pytest.mark.slow)])
def test_a_signal_ends_it(tmp_path, number, code, workers, limit):
    (tmp_path / "small.yaml").write_text(PHANTOM)
    run = [sys.executable, "-m", "usim", "generate", "small.yaml", "--frames", "5000", "--shard-size", "3"]
    process = subprocess.Popen(
        [*run, "--workers", str(workers)], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    folder = tmp_path / "small"
    deadline = time.monotonic() + PATIENCE
    while not ((folder / "manifest.json").exists() and read_manifest(folder).shards):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    start = time.monotonic()
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - start < limit
    assert process.returncode == code
    assert "Traceback" not in error
    while group_lives(process.pid):  # the resource tracker of multiprocessing takes a moment to follow
        assert time.monotonic() < deadline
        time.sleep(0.02)
    names = {path.name for path in folder.iterdir()}
    manifest = read_manifest(folder)
    assert names == {"manifest.json", "run.json"} | {shard.name for shard in manifest.shards}
    assert len(list(open_frames(folder))) == 3 * len(manifest.shards)
    assert json.loads((folder / "run.json").read_text())["outcome"] == "interrupted"


def test_two_writers_on_one_folder(tmp_path):
    (tmp_path / "small.yaml").write_text(PHANTOM)
    run = [sys.executable, "-m", "usim", "generate", "small.yaml", "--workers", "1"]
    writers = [
        subprocess.Popen(run, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [writer.communicate(timeout=PATIENCE)[1] for writer in writers]
    assert sorted(writer.returncode for writer in writers) == [0, 2], errors
    assert len(list(open_frames(tmp_path / "small"))) == 6
