"""Two writers on one folder, and workers that are killed: nothing is lost but what they held, and it is made again."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import pytest
from surroundings import PATIENCE, contents, environment

import usim.generate
from usim.errors import ResourceError
from usim.generate import ShardMaker, generate
from usim.io.provenance import read_manifest
from usim.io.verify import verify
from usim.phantom.load import load_phantom

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [32, 24]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 12
seed: 3
"""


@pytest.fixture
def phantom(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    return load_phantom(path)


@pytest.mark.parametrize("runs", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_two_writers_never_spoil_each_other(tmp_path, phantom, runs):
    start = [sys.executable, "-m", "usim", "-q", "generate", "small.yaml", "--workers", "1", "--shard-size", "1"]
    generate(phantom, tmp_path / "alone", workers=1, shard_size=1)
    for run in range(runs):
        folder = tmp_path / f"run-{run}"
        commands = [[*start, "-o", str(folder), *more] for more in ([], ["--resume"])]
        writers = [
            subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
            for command in (commands if run % 2 else commands[::-1])
        ]
        errors = [writer.communicate(timeout=PATIENCE)[1] for writer in writers]
        assert {writer.returncode for writer in writers} in ({0}, {0, 2}), errors
        assert all("another run is writing there" in error or "already" in error for error in errors if error)
        assert contents(folder) == contents(tmp_path / "alone")
        assert len({shard.name for shard in read_manifest(folder).shards}) == len(read_manifest(folder).shards) == 12


@dataclass(frozen=True)
class Dying(ShardMaker):
    """Workers that are killed in the middle of the shard of frame 4."""

    def open_ahead(self):
        make = super().open_ahead()

        def work(rows, report):
            if rows.start == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return make(rows, report)

        return work


@pytest.mark.parametrize(("workers", "keep_going"), [(4, False), (2, True)])
def test_one_worker_killed_and_the_others_finish(tmp_path, phantom, monkeypatch, workers, keep_going):
    asked = {"workers": workers, "shard_size": 1}
    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(usim.generate, "ShardMaker", Dying)
        with pytest.raises(ResourceError) as caught:
            generate(phantom, folder, keep_going=keep_going, **asked)
    there = {shard.name for shard in read_manifest(folder).shards}
    missing = {f"shard-{number:05d}.h5" for number in range(12)} - there
    assert "shard-00004.h5" in missing
    assert len(missing) <= 2  # the one that it made, and the one that it wrote meanwhile
    assert all(f"{name} (a worker was killed, exit code -9" in str(caught.value) for name in missing)
    assert f"{len(there)} of 12 shards are finished and readable; make the rest with --resume" in str(caught.value)
    assert [damage.path for damage in verify(folder).damages] == [folder]  # unfinished, and nothing else
    result = generate(phantom, folder, resume=True, **asked)
    assert (result.kept, result.rendered) == (len(there), len(missing))
    generate(phantom, tmp_path / "alone", workers=1, shard_size=1)
    assert contents(folder) == contents(tmp_path / "alone")


def test_keep_going_outlives_all_its_workers(tmp_path, phantom, monkeypatch):
    """Both workers may die of the same shard number one after the other; another one is hired for the rest."""
    monkeypatch.setattr(usim.generate, "ShardMaker", DyingTwice)
    with pytest.raises(ResourceError, match=r"shard-00001\.h5 \(a worker was killed"):
        generate(phantom, tmp_path / "out", keep_going=True, workers=2, shard_size=1)
    assert len(read_manifest(tmp_path / "out").shards) >= 8


@dataclass(frozen=True)
class DyingTwice(ShardMaker):
    """Workers that are killed by the frames 0 and 1."""

    def open_ahead(self):
        make = super().open_ahead()

        def work(rows, report):
            if rows.start < 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return make(rows, report)

        return work
