"""Exports that go wrong: nothing is left of them, and what was there before stays."""

import errno
import os

import pytest
from failing import NthFails

import usim.export
from usim.cli import main
from usim.errors import ConfigError, DataError, ResourceError
from usim.export import FORMATS, export
from usim.io.shard import ShardHeader, encode_shard


@pytest.fixture
def data(tmp_path, make_frame):
    """Two shards of two frames."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        header = ShardHeader(2, 2 * number, 7, "", "", {"usim": "0.1.0"}, ("iq",))
        frames = [make_frame(2 * number + i) for i in range(2)]
        (folder / f"shard-{number:05d}.h5").write_bytes(encode_shard(frames, header))
    return folder


def content(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "rename", "mkdir"])
def test_the_nth_write_fails(tmp_path, data, monkeypatch, form, call):
    first = 2 if call == "mkdir" else 1  # that the folder above is there is as good as making it
    for n in (*range(first, 6), 9, 17, 50, 500):
        failing, error = NthFails(call, n, errno.ENOSPC), None
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                export(data, tmp_path / "out", form)
            except ResourceError as caught:
                error = caught
        assert (error is None) == (failing.left > 0), f"{call} number {n} failed and nobody noticed"
        if error is None:
            break
        assert "\n" not in str(error)
        assert str(tmp_path / "out") in str(error)
        assert "bytes are needed" in str(error) or "cannot make this folder" in str(error)
        assert content(tmp_path) == ["data"], f"{call} number {n}"
    assert failing.left > 0


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_what_ends_it_leaves_nothing(tmp_path, data, form, after):
    def stop(state):
        if state.frames == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(data, tmp_path / "out", form, progress=stop)
    assert content(tmp_path) == ["data"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_shard_is_named_and_nothing_is_left(tmp_path, data, form):
    path = data / "shard-00001.h5"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"shard-00001\.h5"):
        export(data, tmp_path / "out", form)
    assert content(tmp_path) == ["data"]


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path, data):
    out = tmp_path / "out"
    out.mkdir()
    export(data, out, "npy")  # an empty one is fine
    before = content(out)
    with pytest.raises(ConfigError, match="holds something else"):
        export(data, out, "mat")
    assert content(out) == before
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match="a file is in the way"):
        export(data, tmp_path / "file", "mat")
    with pytest.raises(ConfigError, match="holds"):
        export(data, data, "mat")


def test_a_folder_that_is_filled_meanwhile_stays(tmp_path, data):
    def fill(state):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/thesis.txt").write_text("precious")

    with pytest.raises(ConfigError, match=r"thesis\.txt"):
        export(data, tmp_path / "out", "npy", progress=fill)
    assert content(tmp_path) == ["data", "out"]
    assert content(tmp_path / "out") == ["thesis.txt"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["data", "--format", "tiff"], 2, "'tiff' is not one of"),
        (["data"], 2, "Missing option '--format'"),
        (["data", "--format", "npy", "--dynamic-range", "50"], 2, "npy keeps numbers"),
        (["data", "--format", "png", "--dynamic-range", "0"], 2, "allowed are 1 to 150 dB"),
        (["data", "--format", "png", "--dynamic-range", "nan"], 2, "allowed are 1 to 150 dB"),
        (["data", "--format", "npy", "--frames", "4"], 2, "4 is not one of the 4 frames"),
        (["data", "--format", "npy", "--frames", "3-1"], 2, "not a list of numbers"),
        (["data", "--format", "npy", "--frames", "0-99999999999"], 2, "not a list of numbers"),
        (["gone", "--format", "npy"], 3, "gone"),
        (["empty", "--format", "npy"], 3, "neither manifest.json nor shards"),
        (["data", "--format", "npy", "-o", "note/out"], 2, "a file is in the way"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path, data, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "note").write_text("")
    assert main(["export", *words]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert content(tmp_path) == ["data", "empty", "note"]


def test_the_command_writes_beside_the_dataset(tmp_path, data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "data", "--format", "mat", "--frames", "0,2-3"]) == 0
    assert content(tmp_path / "data-mat") == ["shard-00000.mat", "shard-00001.mat"]
    output = capsys.readouterr()
    assert output.out.startswith("data-mat: 3 frames, ")
    assert "3/3 frames" in output.err


def test_an_interrupt_is_130_and_leaves_nothing(tmp_path, data, monkeypatch, capsys):
    def stop(job):
        raise KeyboardInterrupt
        yield

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(usim.export, "_writer", lambda form: stop)
    assert main(["export", "data", "--format", "npy"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert content(tmp_path) == ["data"]
