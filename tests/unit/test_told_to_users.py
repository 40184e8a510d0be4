"""What the command line tells: one last line of progress, names that a shell reads, and one line for every refusal."""

from dataclasses import dataclass

import pytest

from s2s.evaluation.cases import Stored
from usim import console
from usim.cli import cli, main
from usim.errors import ConfigError
from usim.generate import generate
from usim.phantom.load import load_phantom
from usim.progress import show_progress
from usim.splits import parse_split

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [32, 24]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 8
"""


@dataclass
class State:
    frames: int
    kept: int = 0
    total: int = 8
    bytes: int = 0

    @property
    def finished(self) -> bool:
        return self.frames == self.total


@pytest.fixture
def phantom(tmp_path, monkeypatch, fake_renderer):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(PHANTOM)
    return load_phantom(tmp_path / "small.yaml")


def test_a_finished_run_is_told_once(capsys):
    with show_progress(quiet=False) as show:
        for frames in (0, 8, 8, 8):
            show(State(frames))
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["0/8", "8/8"]


def test_the_next_command_can_be_pasted_into_a_shell(phantom, capsys):
    assert main(["generate", "small.yaml", "-o", "my data [1]", "--workers", "1"]) == 0
    assert "next: usim view 'my data [1]'" in capsys.readouterr().out


def test_shards_without_a_manifest_point_to_resume(phantom, tmp_path, capsys):
    generate(phantom, "data", workers=1)
    (tmp_path / "data/manifest.json").unlink()
    assert main(["generate", "small.yaml", "-o", "data"]) == 2
    assert "complete it with --resume" in capsys.readouterr().err


def test_a_folder_that_may_not_be_entered_is_one_line(monkeypatch, capsys):
    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "closed/data")

    monkeypatch.setattr(cli, "main", refused)
    assert console.run_console(cli, "usim", ["verify", "closed/data"], install="usim-s2s", less="--workers") == 4
    assert capsys.readouterr().err == (
        "error: closed/data: Permission denied; name a path that you may read and write\n"
    )


@pytest.mark.parametrize("text", ["", " "])
def test_a_split_without_parts_is_refused(text):
    with pytest.raises(ConfigError, match="split: names no part; give NAME=FRACTION"):
        parse_split(text)


@pytest.mark.parametrize(
    ("split", "judged"), [({"train": 0.5, "val": 0.25, "test": 0.25}, 4), ({"train": 1}, 8), ({}, 8)]
)
def test_what_is_learned_from_is_not_judged_on(phantom, tmp_path, split, judged):
    generate(phantom, "data", workers=1, shard_size=2, split=split)
    stored = Stored(tmp_path / "data")
    numbers = [case.frames["image"].params["index"] for case in map(stored.open(), stored.items)]
    assert numbers == list(range(8))[-judged:]
