"""What `s2s denoise` offers beside the method: strength, what was removed, display gamma, folders, progress."""

import io

import h5py
import numpy as np
import PIL.Image
import pytest
import torch

from s2s.checkpoint import save_checkpoint
from s2s.cli import main
from s2s.denoise import load
from s2s.domain import Domain
from s2s.files import Finish, Progress, denoise_files, residual_of, targets
from s2s.folders import find
from s2s.images import Stated
from s2s.methods import make
from s2s.progress import Lines, show_progress
from usim.errors import ConfigError, DataError
from usim.io.atomic import write_atomic
from usim.io.shard import ShardHeader, encode_shard

RNG = np.random.default_rng(31)
GREY = RNG.integers(0, 256, (24, 33), dtype=np.uint8)
DB = RNG.uniform(-59, -1, (24, 33))


def picture(path, levels=GREY):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(levels).save(path)
    return path


def read(path):
    with PIL.Image.open(path) as file:
        return np.asarray(file)


def run(*inputs, spec="gaussian:sigma=1.5", output=None, **options):
    return [path for path, _ in denoise_files(inputs, load(spec), output, stated=Stated(), **options)]


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("spec", ["gaussian:sigma=1.5", "lee"])
def test_strength_is_a_straight_line_in_decibels(spec):
    """On either scale that methods work on: y + S (clean - y)."""
    method = load(spec)
    none, half, full = (method.denoise(DB, "db", strength=s) for s in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(none, DB, atol=1e-9)
    np.testing.assert_allclose(half, (DB + full) / 2, atol=1e-5)
    np.testing.assert_array_equal(full, method.denoise(DB, "db"))
    envelope = method.denoise(10 ** (DB / 20), Domain("envelope"), strength=0.5)
    np.testing.assert_allclose(20 * np.log10(envelope), half, atol=1e-3)


@pytest.mark.parametrize("strength", [-0.1, 1.01, np.nan, np.inf])
def test_strengths_that_are_refused(strength):
    with pytest.raises(ConfigError, match=r"strength: .* allowed are 0"):
        load("median").denoise(DB, "db", strength=strength)
    with pytest.raises(ConfigError, match="strength: "):
        Finish(strength)


def test_strength_zero_gives_the_file_back(tmp_path):
    (target,) = run(picture(tmp_path / "a.png"), finish=Finish(0.0))
    np.testing.assert_array_equal(read(target), GREY)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_output_and_residual_add_up_to_a_picture(tmp_path, dtype):
    """Mid grey is 0 dB, and a level of the residual is a level of the image."""
    deep = GREY.astype(dtype) * (257 if dtype == np.uint16 else 1)
    target, other = run(picture(tmp_path / "a.png", deep), finish=Finish(residual=True))
    assert names(tmp_path) == ["a.denoised.png", "a.png", "a.residual.png"]
    assert residual_of(target) == other
    assert other.name == "a.residual.png"
    white = np.iinfo(dtype).max
    removed = read(tmp_path / "a.residual.png").astype(float) - white / 2
    inside = np.abs(removed) < white / 2 - 1
    assert inside.mean() > 0.8
    np.testing.assert_allclose((read(target) + removed)[inside], deep[inside], atol=1)


def test_residuals_of_floats_are_decibels(tmp_path, make_frame):
    clip = np.stack([DB, DB[::-1], DB[:, ::-1]]).astype(np.float32)
    np.save(tmp_path / "a.npy", clip)
    np.save(tmp_path / "e.npy", (7 * 10 ** (clip[0] / 20)).astype(np.float32))
    shard = encode_shard([make_frame(i) for i in range(2)], ShardHeader(2, 0, 7, "", "", {}))
    write_atomic(tmp_path / "c.h5", shard)
    run(tmp_path / "a.npy", tmp_path / "e.npy", tmp_path / "c.h5", output=str(tmp_path), finish=Finish(residual=True))
    clean = np.load(tmp_path / "a.denoised.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.residual.npy") + clean, clip, atol=1e-4)
    ratio = np.load(tmp_path / "e.npy") / np.load(tmp_path / "e.denoised.npy")
    np.testing.assert_allclose(np.load(tmp_path / "e.residual.npy"), 20 * np.log10(ratio), atol=1e-3)
    with h5py.File(tmp_path / "c.denoised.h5") as file, h5py.File(tmp_path / "c.residual.h5") as other:
        noisy = np.stack([np.clip(make_frame(i).bmode, -60, 0) for i in range(2)])
        np.testing.assert_allclose(file["denoised"][:] + other["residual"][:], noisy, atol=1e-4)
        assert "denoised" not in other
        assert other.attrs["content"] == "residual: input minus output in dB"
        assert file.attrs["strength"] == "1"
        assert "gamma" not in file.attrs


def test_gamma_comes_last_and_only_for_display(tmp_path):
    plain = read(run(picture(tmp_path / "a.png"))[0])
    finish = Finish(gamma=2.0, residual=True)
    bright = read(run(tmp_path / "a.png", output=str(tmp_path / "g.png"), finish=finish)[0])
    np.testing.assert_allclose(bright, 255 * np.sqrt(plain / 255), atol=8)  # from a level that was rounded before
    assert bright.mean() > plain.mean() + 20
    run(tmp_path / "a.png", output=str(tmp_path / "p.png"), finish=Finish(residual=True))
    np.testing.assert_array_equal(read(tmp_path / "g.residual.png"), read(tmp_path / "p.residual.png"))
    np.save(tmp_path / "d.npy", DB)
    for inputs in ([tmp_path / "d.npy"], [tmp_path / "a.png", tmp_path / "d.npy"]):
        with pytest.raises(ConfigError, match=r"d\.npy: --gamma is for the display of grey levels, this is db"):
            run(*inputs, output=str(tmp_path / "out"), finish=finish)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def scans(tmp_path, make_frame):
    """A folder as people have it: pictures, notes, hidden files, a dataset, and something broken."""
    root = tmp_path / "scans"
    picture(root / "b.png")
    picture(root / "deep/er/a.png", GREY[::-1])
    picture(root / ".hidden.png")
    picture(root / ".cache/a.png")
    (root / "notes.txt").write_text("left kidney")
    (root / "deep/broken.png").write_bytes(picture(root / "b.png").read_bytes()[:-9])
    np.save(root / "deep/rf.npy", RNG.standard_normal((20, 20)))
    (root / "data").mkdir()
    shard = encode_shard([make_frame(i) for i in range(2)], ShardHeader(2, 0, 7, "", "", {}))
    write_atomic(root / "data/shard-00000.h5", shard)
    return root


def test_a_folder_is_walked_and_what_fails_is_named_at_the_end(scans, tmp_path, capsys):
    before = names(scans)
    code = main(["denoise", str(scans), "-m", "median:window=3", "-o", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    assert code == 3
    assert names(tmp_path / "out") == ["b.denoised.png", "data.denoised.h5", "deep/er/a.denoised.png"]
    assert len(out.splitlines()) == 3
    assert f"{scans / 'notes.txt'}: skipped, no image that can be read\n" in err
    assert "hidden" not in err
    assert "cache" not in err
    last = err[err.index("error: ") :].splitlines()
    assert last[0] == "error: 2 of 5 images were not denoised, the others were:"
    assert [line.split(":")[0].strip() for line in last[1:]] == [
        str(scans / "deep/broken.png"), str(scans / "deep/rf.npy"),
    ]  # fmt: skip
    assert names(scans) == before


def test_outputs_beside_their_inputs_are_no_inputs_later(scans, capsys):
    (scans / "deep/broken.png").unlink()
    (scans / "deep/rf.npy").unlink()
    assert len(run(scans, finish=Finish(residual=True))) == 6
    made = names(scans)
    assert "deep/er/a.residual.png" in made
    with pytest.raises(ConfigError, match=r"exists already.*--skip-existing"):
        run(scans)
    (scans / "b.denoised.png").unlink()
    told = []
    again = run(scans, skip_existing=True, tell=told.append)
    assert [path.name for path in again] == ["b.denoised.png"]
    assert sum("exists already, left as it is" in line for line in told) == 2
    assert names(scans) == made
    assert len(run(scans, force=True)) == 3


def test_a_residual_that_is_missing_is_made_up_for(tmp_path):
    picture(tmp_path / "a.png")
    run(tmp_path / "a.png")
    assert run(tmp_path / "a.png", skip_existing=True) == []
    assert len(run(tmp_path / "a.png", skip_existing=True, finish=Finish(residual=True))) == 2
    with pytest.raises(ConfigError, match=r"a\.residual\.png: this would replace an input"):
        targets([tmp_path / "a.png", tmp_path / "a.residual.png"], str(tmp_path), force=True, residual=True)


def test_folders_that_give_nothing(tmp_path):
    with pytest.raises(DataError, match="no images in this folder"):
        find([tmp_path], lambda text: None)
    picture(tmp_path / "x/a.png")
    picture(tmp_path / "y/a.png")
    with pytest.raises(ConfigError, match="two inputs have this output"):
        run(tmp_path / "x", tmp_path / "y", output=str(tmp_path / "out"))
    assert [str(path.relative_to(tmp_path)) for path in run(tmp_path, output=str(tmp_path / "out"))] == [
        "out/x/a.denoised.png", "out/y/a.denoised.png",
    ]  # fmt: skip


def test_progress_hears_of_every_frame(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([DB, DB, DB]))
    picture(tmp_path / "b.png")
    heard = []
    run(tmp_path / "a.npy", tmp_path / "b.png", output=str(tmp_path), progress=heard.append)
    a, b = tmp_path / "a.npy", tmp_path / "b.png"
    assert heard == [Progress(a, 0, 2, 0, 3), Progress(a, 0, 2, 1, 3), Progress(a, 0, 2, 2, 3), Progress(b, 1, 2, 0, 1)]


def test_lines_come_now_and_then_with_what_is_left(tmp_path, capsys, monkeypatch):
    clock = iter([100.0, 102.0, 106.0, 107.0, 110.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    lines = Lines()
    for state in (Progress("a.npy", 0, 2, 1, 4), Progress("a.npy", 0, 2, 3, 4), Progress("b.npy", 1, 2, 0, 4)):
        lines.show(state)
    # After 6 s, 3/8 of the work is done: 10 s are left.
    assert capsys.readouterr().err == "a.npy: image 1/2, 3/4 frames, 0:10 left\n"


def test_a_terminal_gets_a_bar(tmp_path, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    with show_progress(False) as shown:
        shown.show(Progress(tmp_path / "a[1].npy", 1, 4, 2, 9))
        shown.bar.refresh()
        shown.result("out [1].png: done")
        shown.tell("a note")
    text = screen.getvalue()
    for part in ("a[1].npy", "1/4", "frame 2/9", "out [1].png: done\n", "a note\n"):
        assert part in text


def test_quiet_says_nothing(capsys):
    with show_progress(True) as shown:
        shown.show(Progress("a", 0, 1, 0, 1))
        shown.result("x")
        shown.tell("y")
    assert capsys.readouterr() == ("", "")


def test_several_inputs_do_not_go_into_one_picture(tmp_path):
    with pytest.raises(ConfigError, match="there are several inputs; name a folder"):
        targets([tmp_path / "a.png", tmp_path / "b.png"], str(tmp_path / "c.png"))


def test_what_a_method_tells_beside_the_image_is_written_on_request(tmp_path, capsys):
    torch.manual_seed(0)
    about = {"request": {}, "phantom": {}}
    save_checkpoint(tmp_path / "vdn.pt", make("vdn", "toy", width=4, depth=1, features=4), about)
    save_checkpoint(tmp_path / "r2d2.pt", make("r2d2+", "toy", width=4, depth=1, steps=2, samples=2), about)
    clip = np.random.default_rng(0).integers(0, 256, (3, 37, 50), dtype=np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    assert main(["denoise", str(tmp_path / "clip.npy"), "-m", str(tmp_path / "vdn.pt"), "--extras"]) == 0
    assert f"{tmp_path / 'clip.extras.npz'}: noise_db, in dB" in capsys.readouterr().out
    with np.load(tmp_path / "clip.extras.npz") as told:
        assert told.files == ["noise_db"]
        assert (told["noise_db"].shape, told["noise_db"].dtype) == ((3, 37, 50), np.float32)
        assert told["noise_db"].mean() == pytest.approx(5.6, abs=0.2)  # a network that has learned nothing yet
    command = ["denoise", str(tmp_path / "clip.npy"), "-m", str(tmp_path / "r2d2.pt"), "--extras"]
    assert main([*command, "-o", str(tmp_path / "clip.denoised.npy")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    with np.load(tmp_path / "clip.extras.npz") as told:
        assert told.files == ["spread_db", "sample0", "sample1"]
        mean = (told["sample0"] + told["sample1"]) / 2.0
    clean = np.load(tmp_path / "clip.denoised.npy").astype(np.float64) / 255.0
    np.testing.assert_allclose(np.clip(1.0 + mean / 60.0, 0.0, 1.0), clean, atol=0.003)
    assert main(["denoise", str(tmp_path / "clip.npy"), "-m", "lee", "--extras", "--force"]) == 2
    refusal = "--extras: lee tells nothing beside the image; leave it out (r2d2+, vdn, dna-net, danet, pngan, cosdd do)"
    assert refusal in capsys.readouterr().err
