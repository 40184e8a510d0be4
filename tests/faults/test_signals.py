"""SIGINT and SIGTERM end export, verify and resume within two seconds, and leave what was there."""

import os
import signal
import subprocess
import sys
import time

import pytest
from surroundings import PATIENCE, contents, environment

from usim.generate import generate
from usim.io.dataset import open_frames
from usim.io.folder import LOCK
from usim.io.provenance import read_manifest
from usim.io.verify import verify
from usim.phantom.load import load_phantom

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [16, 24]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
seed: 3
"""
ASKED = {"workers": 1, "shard_size": 1}
RESUME = ["generate", "small.yaml", "-o", "data", "--workers", "1", "--shard-size", "1", "--resume", "--frames"]


class Stop(Exception):
    """Ends a run in this process."""


def stop_after(shards):
    def listen(state):
        if state.shards >= shards:
            raise Stop

    return listen


class Case:
    """A command in a folder, when it is well under way, and what must be so when it has ended."""

    def __init__(self, place):
        (place / "small.yaml").write_text(PHANTOM)
        self.phantom, self.place, self.data = load_phantom(place / "small.yaml"), place, place / "data"

    def is_under_way(self, process):
        raise NotImplementedError

    def check(self):
        assert contents(self.data) == self.before


class Verifying(Case):
    """The same folder again and again."""

    command = ("verify", *["data"] * 5000)

    def __init__(self, place):
        super().__init__(place)
        generate(self.phantom, self.data, frames=4, **ASKED)
        self.before = contents(self.data)

    def is_under_way(self, process):
        return "as written" in process.stdout.readline()


class Exporting(Case):
    """Thousands of names of one shard."""

    command = ("export", "data", "--format", "npy", "-o", "out")

    def __init__(self, place):
        super().__init__(place)
        generate(self.phantom, self.data, frames=1, **ASKED)
        (self.data / "manifest.json").unlink()
        for number in range(1, 4000):
            os.link(self.data / "shard-00000.h5", self.data / f"shard-{number:05d}.h5")

    def is_under_way(self, process):
        return any(".part" in path.name and any(path.iterdir()) for path in self.place.iterdir())

    def check(self):
        assert sorted(path.name for path in self.place.iterdir()) == ["data", "small.yaml"]
        assert len(contents(self.data)) == 4000


class Proving(Case):
    """A lost manifest: every shard is encoded again."""

    command = (*RESUME, "200")

    def __init__(self, place):
        super().__init__(place)
        generate(self.phantom, self.data, frames=200, **ASKED)
        (self.data / "manifest.json").unlink()
        self.before = contents(self.data)

    def is_under_way(self, process):
        return (self.data / LOCK).exists()

    def check(self):
        super().check()
        result = generate(self.phantom, self.data, frames=200, resume=True, **ASKED)
        assert (result.kept, result.rendered) == (200, 0)


class Making(Case):
    """The rest of a run that was stopped."""

    command = (*RESUME, "5000")

    def __init__(self, place):
        super().__init__(place)
        with pytest.raises(Stop):
            generate(self.phantom, self.data, frames=5000, progress=stop_after(3), **ASKED)
        self.before = contents(self.data)
        self.there = {shard.name for shard in read_manifest(self.data).shards}

    def is_under_way(self, process):
        return len(read_manifest(self.data).shards) > len(self.there) + 1

    def check(self):
        now = {shard.name for shard in read_manifest(self.data).shards}
        assert self.there < now
        assert all(contents(self.data)[name] == self.before[name] for name in self.there)
        assert set(contents(self.data)) == {"manifest.json", *now}
        assert [damage.path for damage in verify(self.data).damages] == [self.data]  # unfinished, and nothing else
        assert len(list(open_frames(self.data))) == len(now)


INT, TERM = (signal.SIGINT, 130), (signal.SIGTERM, 143)
SHORT = [(Verifying, INT), (Exporting, TERM), (Proving, INT), (Making, TERM)]
FULL = [(Verifying, TERM), (Exporting, INT), (Proving, TERM), (Making, INT)]


@pytest.mark.parametrize(
    ("case", "signals", "limit"),
    [*((*one, PATIENCE) for one in SHORT), *(pytest.param(*one, 2.0, marks=pytest.mark.slow) for one in FULL)],
)  # fmt: skip
def test_a_signal_ends_it(tmp_path, fake_renderer, monkeypatch, case, signals, limit):
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        chosen = case(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "usim", *case.command], cwd=tmp_path, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while not chosen.is_under_way(process):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    start = time.monotonic()
    process.send_signal(signals[0])
    _, error = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - start < limit
    assert process.returncode == signals[1]
    assert "interrupted" in error
    assert "Traceback" not in error
    chosen.check()
