"""The command line s2s: help at once, exit codes, one-line errors, and where outputs go."""

import re
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

import s2s.progress
from s2s.cli import cli, main
from s2s.files import targets
from s2s.methods import METHODS
from usim.errors import ConfigError
from usim.io.atomic import write_atomic
from usim.io.shard import ShardHeader, encode_shard

HEAVY = ["numpy", "h5py", "rich", "pydantic", "yaml", "numba", "scipy", "matplotlib", "torch", "skimage", "PIL"]
GREY = np.random.default_rng(7).integers(0, 256, (20, 31), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch, make_frame):
    monkeypatch.chdir(tmp_path)
    PIL.Image.fromarray(GREY).save("a.png")
    PIL.Image.fromarray(GREY[::-1]).save("b.png")
    np.save("c.npy", np.stack([GREY, GREY[::-1]]).astype(np.float32))
    (tmp_path / "data").mkdir()
    shard = encode_shard([make_frame(i) for i in range(2)], ShardHeader(2, 0, 7, "", "", {"usim": "0.1.0"}))
    write_atomic(tmp_path / "data/shard-00000.h5", shard)
    return tmp_path


def names(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_help_loads_click_alone_and_ends_with_an_example(command):
    arguments = [*command.split(), "--help"]
    code = f"import sys; from s2s.cli import main; main({arguments}); print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.endswith("[]\n")
    assert "Example:\n    s2s " in out or "Example:\n  s2s " in out


def test_importing_s2s_loads_nothing_heavy():
    code = f"import sys, s2s; s2s.__version__; print([m for m in {[*HEAVY, 'click']} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("arguments", [["denoise", "a.png", "-m", "lee"], ["methods"]])
def test_without_torch_one_line_says_what_to_install(folder, arguments):
    code = f"import sys; sys.modules['torch'] = None; from s2s.cli import main; sys.exit(main({arguments}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: torch is not installed; run: pip install 'usim-s2s[s2s]'\n"


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, "s2s 0.1.0\n")
    code, out, _ = run(capsys, "--version", "-v")
    assert code == 0
    assert "torch 2." in out


def test_methods_are_listed_and_described(capsys):
    code, out, _ = run(capsys, "methods")
    assert code == 0
    assert [line.split()[0] for line in out.split("\n\n")[0].splitlines()[1:]] == list(METHODS)
    assert out.splitlines()[-1].startswith("polyphase(4):NAME ")
    assert "filter" in out
    assert "learned" in out
    for name in METHODS:
        code, out, _ = run(capsys, "methods", name)
        assert code == 0
        assert out.startswith(f"{name}: ")
        assert "settings:" in out
    code, out, err = run(capsys, "methods", "nln")
    assert (code, out) == (2, "")
    assert "did you mean 'nlm'" in err


def test_one_image_lands_beside_its_input_and_the_assumption_is_said_once(capsys, folder):
    before = names(folder)
    code, out, err = run(capsys, "denoise", "a.png", "-m", "lee:window=5")
    assert code == 0
    assert out.startswith("a.denoised.png: 0.00 Mpixel, ")
    assert "Mpixel/s" in out
    assert err == (
        "a.png: taken as log-compressed, 60 dB between black and white, white = 255; "
        "state it with --domain, --dynamic-range, --white\n"
    )
    assert names(folder) - before == {"a.denoised.png"}
    with PIL.Image.open("a.denoised.png") as file:
        assert (file.mode, file.size) == ("L", (31, 20))
        assert np.std(np.asarray(file)) < np.std(GREY)


def test_both_files_are_named_when_what_was_removed_is_kept(capsys, folder):
    code, out, _ = run(capsys, "denoise", "a.png", "-m", "gaussian", "--residual", "--dynamic-range", "51")
    assert code == 0
    image, residual = out.splitlines()
    assert image.startswith("a.denoised.png: ")
    assert residual == "a.residual.png: input minus output in dB; 0 dB is 127.5, 0.2 dB per grey level"


def test_what_is_stated_is_not_assumed(capsys, folder):
    stated = ("--domain", "log", "--dynamic-range", 50)
    assert run(capsys, "denoise", "a.png", "-m", "lee", *stated)[2] == ""


def test_quiet_says_nothing(capsys, folder):
    assert run(capsys, "-q", "denoise", "a.png", "c.npy", "data", "-m", "lee", "-o", "out") == (0, "", "")
    assert len(names(folder / "out")) == 3


def test_several_inputs_of_all_formats_into_a_folder(capsys, folder):
    import h5py

    code, out, err = run(
        capsys, "denoise", "a.png", "c.npy", "data", "data/shard-00000.h5", "-m", "median:window=5", "-o", "x/y"
    )
    assert code == 0, err
    assert names(folder / "x/y") == {
        "a.denoised.png", "c.denoised.npy", "data.denoised.h5", "shard-00000.denoised.h5",
    }  # fmt: skip
    assert len(out.splitlines()) == 4
    assert "2 frames, " in out
    assert len(err.splitlines()) == 2
    clean = np.load("x/y/c.denoised.npy")
    assert (clean.shape, clean.dtype) == ((2, 20, 31), np.float32)
    np.testing.assert_allclose(clean[0], clean[1][::-1], rtol=1e-5)
    with h5py.File("x/y/data.denoised.h5") as file:
        assert file["denoised"].shape == (2, 24, 16)
        told = {key: file.attrs[key] for key in ("format", "method", "settings", "checkpoint_sha256", "input")}
    assert told == {
        "format": "s2s-denoised-1", "method": "median", "settings": '{"window": 5}', "checkpoint_sha256": "",
        "input": "data",
    }  # fmt: skip


def test_equal_runs_give_equal_files(capsys, folder):
    for out in ("one", "two"):
        assert run(capsys, "denoise", "a.png", "c.npy", "data", "-m", "lee", "-o", out)[0] == 0
    for name in names(folder / "one"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_a_setting_reaches_the_filter(capsys, folder):
    for sigma in ("0.1", "3"):
        assert run(capsys, "denoise", "a.png", "-m", f"gaussian:sigma={sigma}", "-o", f"{sigma}.png")[0] == 0
    with PIL.Image.open("0.1.png") as same, PIL.Image.open("3.png") as blurred:
        np.testing.assert_array_equal(np.asarray(same), GREY)
        assert np.std(np.asarray(blurred)) < 20


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["denoise", "-m", "lee"], 2, "INPUT"),
        (["denoise", "a.png", "-m", "lee", "-f", "--skip-existing"], 2, "one of them"),
        (["denoise", "a.png", "-m", "lee", "--strength", "1.5"], 2, "strength: 1.5; allowed are 0"),
        (["denoise", "a.png", "-m", "lee", "--gamma", "0"], 2, "gamma: 0; allowed are 0.2 to 5"),
        (["denoise", "c.npy", "-m", "lee", "--gamma", "1.2"], 2, "c.npy: --gamma is for the display of grey levels"),
        (["denoise", "a.png", "-m", "lea"], 2, "did you mean 'lee'"),
        (["denoise", "a.png", "-m", "noise2noise"], 2, "s2s train"),
        (["denoise", "a.png", "-m", "noise2true"], 2, "that come with the package (awgn, default, speckle2self)"),
        (["denoise", "a.png", "-m", "gone.pt"], 3, "gone.pt: no such checkpoint"),
        (["denoise", "a.png", "-m", "b.png"], 3, "not an s2s checkpoint"),
        (["denoise", "gone.png", "-m", "lee"], 3, "gone.png: cannot read"),
        (["denoise", "gone.bmp", "-m", "lee", "-o", "x.png"], 3, "gone.bmp: cannot read"),
        (["denoise", "a.png", "-m", "lee", "--domain", "rf"], 2, "rf"),
        (["denoise", "a.png", "-m", "lee", "--domain", "db"], 3, "no decibels"),
        (["denoise", "a.png", "-m", "lee", "--dynamic-range", "0"], 2, "allowed are 10 to 150 dB"),
        (["denoise", "a.png", "-m", "lee", "--device", "cuda:77"], 2, "use cpu"),
        (["denoise", "a.png", "-m", "lee", "-o", "a.png", "-f"], 2, "would replace an input"),
        (["denoise", "a.png", "-m", "lee", "-o", "./a.png", "-f"], 2, "would replace an input"),
        (["denoise", "a.png", "-m", "lee", "-o", "b.png"], 2, "exists already"),
        (["denoise", "a.png", "-m", "lee", "-o", "x.npy"], 2, "name it x.png"),
        (["denoise", "a.png", "b.png", "-m", "lee", "-o", "c.npy"], 2, "a file is in the way"),
        (["denoise", "a.png", "-m", "lee", "-o", "a.png/x/y.png"], 4, "cannot make this folder"),
        (["denoise", "a.png", "./a.png", "-m", "lee", "-o", "out"], 2, "two inputs have this output"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_bad_calls_get_one_line_and_their_code(capsys, folder, arguments, code, text):
    before = names(folder)
    found, out, error = run(capsys, *arguments)
    assert (found, out) == (code, "")
    last = error.splitlines()[-1]
    assert last.startswith("error: ")
    assert text in last
    assert len(error.splitlines()) - error.count("taken as") == 1
    assert names(folder) == before


def test_all_inputs_are_checked_before_the_first_output(capsys, folder):
    np.save("d.npy", GREY * np.nan)
    before = names(folder)
    code, out, err = run(capsys, "denoise", "a.png", "d.npy", "-m", "lee", "-o", "out")
    assert (code, out) == (3, "")
    assert "d.npy: 620 of 620 values" in err
    assert names(folder) == before
    assert not (folder / "out").exists()


def test_force_replaces_outputs(capsys, folder):
    assert run(capsys, "denoise", "a.png", "-m", "median")[0] == 0
    code, _, err = run(capsys, "denoise", "a.png", "-m", "lee")
    assert code == 2
    assert "--force" in err
    old = (folder / "a.denoised.png").read_bytes()
    assert run(capsys, "denoise", "a.png", "-m", "lee", "--force")[0] == 0
    assert (folder / "a.denoised.png").read_bytes() != old


def test_where_outputs_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.d").mkdir()
    inputs = [tmp_path / "scan.png"]

    def place(output):
        return str(targets(inputs, output)[0].resolve().relative_to(tmp_path))

    assert place(None) == "scan.denoised.png"
    assert place("clean.png") == "clean.png"
    assert place("deep/clean.PNG") == "deep/clean.PNG"
    assert place("folder") == "folder/scan.denoised.png"
    assert place("a.folder/") == "a.folder/scan.denoised.png"
    assert place("out.d") == "out.d/scan.denoised.png"
    assert place(".") == "scan.denoised.png"
    inputs.append(tmp_path / "x" / "scan.png")
    assert [path.parent.name for path in targets(inputs, None)] == [tmp_path.name, "x"]
    with pytest.raises(ConfigError, match="two inputs have this output"):
        targets(inputs, "folder")


def test_off_a_terminal_long_work_says_in_lines_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(s2s.progress, "_LINE_EVERY_S", 0.0)
    with s2s.progress.show_pieces("evaluating", 5) as move:
        move(1)
        move(4)
    _, err = capsys.readouterr()
    assert re.fullmatch(r"evaluating: 0/5\nevaluating: 1/5, \S+ left\nevaluating: 5/5, 0:00 left\n", err)
