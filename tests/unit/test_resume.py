"""Runs taken up again: what was proven whole is kept, the rest is made, and nobody can tell that it stopped."""

import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from filelock import FileLock
from surroundings import PATIENCE, contents, environment

import usim.generate
from usim.errors import ConfigError, DataError, ResourceError
from usim.generate import generate
from usim.io.dataset import open_frames
from usim.io.folder import LOCK
from usim.io.provenance import read_manifest, write_manifest
from usim.io.verify import verify
from usim.phantom.load import load_phantom
from usim.sizing import plan_run
from usim.splits import frames_of, parse_split

PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [32, 24]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
looks: 2
frames: 12
seed: 3
"""
ASKED = {"workers": 1, "shard_size": 3}


@pytest.fixture
def phantom(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    return load_phantom(path)


@pytest.fixture
def whole(tmp_path, phantom, fake_renderer):
    """A complete dataset of four shards."""
    generate(phantom, tmp_path / "whole", **ASKED)
    fake_renderer.clear()
    return tmp_path / "whole"


@pytest.fixture
def folder(tmp_path, whole):
    """A copy of it, to be damaged."""
    return shutil.copytree(whole, tmp_path / "out")


def flip(path, position, mask=1):
    data = bytearray(path.read_bytes())
    data[position] ^= mask
    path.write_bytes(bytes(data))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "flipped": lambda path: flip(path, 30_000),
    "text": lambda path: path.write_text("hello"),
    "another's": lambda path: shutil.copy(path.with_name("shard-00003.h5"), path),
}


def test_nothing_there_is_begun(tmp_path, phantom, whole, fake_renderer):
    result = generate(phantom, tmp_path / "new/one", resume=True, **ASKED)
    assert (result.kept, result.rendered) == (0, 12)
    assert contents(tmp_path / "new/one") == contents(whole)
    (tmp_path / "empty").mkdir()
    assert generate(phantom, tmp_path / "empty", resume=True, **ASKED).rendered == 12


def test_what_is_complete_is_kept(phantom, whole, folder, fake_renderer):
    result = generate(phantom, folder, resume=True, **ASKED)
    assert (result.kept, result.rendered, fake_renderer) == (4, 0, [])
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize("manifest", ["intact", "lost", "edited"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_shards_are_made_again_and_no_others(phantom, whole, folder, fake_renderer, damage, manifest):
    for name in ("shard-00001.h5", "shard-00002.h5"):
        DAMAGES[damage](folder / name)
    path = folder / "manifest.json"
    if manifest == "lost":
        path.unlink()
    elif manifest == "edited":
        path.write_text(path.read_text().replace('"seed": 3', '"seed": 4'))
    result = generate(phantom, folder, resume=True, **ASKED)
    assert (result.kept, result.rendered) == (2, 6)
    assert fake_renderer == [3, 4, 5, 6, 7, 8]
    assert contents(folder) == contents(whole)
    assert verify(folder).damages == ()


def test_any_bit_of_a_shard_without_a_manifest_matters(phantom, whole, folder, fake_renderer):
    """Its metadata have no checksum, but encoding its frames again shows what they must be."""
    (folder / "manifest.json").unlink()
    path = folder / "shard-00001.h5"
    data, random = path.read_bytes(), np.random.default_rng(1)
    for position in random.integers(0, len(data), 25):
        path.write_bytes(data)
        flip(path, position, 1 << random.integers(8))
        fake_renderer.clear()
        generate(phantom, folder, resume=True, **ASKED)
        assert fake_renderer == [3, 4, 5]
        assert contents(folder) == contents(whole)
        (folder / "manifest.json").unlink()


@pytest.mark.parametrize("stop", range(0, 12, 2))
def test_a_run_stopped_anywhere_is_completed(tmp_path, phantom, whole, fake_renderer, stop):
    def listen(state):
        if state.frames > stop:
            raise KeyboardInterrupt

    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        generate(phantom, folder, progress=listen, **ASKED)
    done = len(read_manifest(folder).shards) if folder.exists() else 0
    assert verify(folder).frames == 3 * done
    assert done in (stop // 3 - 1, stop // 3)  # one may have been on its way to the disk
    fake_renderer.clear()
    seen = []
    result = generate(phantom, folder, resume=True, progress=seen.append, **ASKED)
    assert (result.kept, result.rendered, len(fake_renderer)) == (done, 12 - 3 * done, 12 - 3 * done)
    assert (seen[-1].frames, seen[-1].shards, seen[-1].kept) == (12, 4, 3 * done)
    assert contents(folder) == contents(whole)


def test_leftovers_of_a_killed_run_are_cleared(phantom, whole, folder, fake_renderer):
    manifest = read_manifest(folder)
    manifest.shards = manifest.shards[:2]
    write_manifest(folder, manifest)  # killed between the rename of the third shard and the manifest
    for name in (".shard-00003.h5.part", ".shard-00003.h5.part.node7-123", ".manifest.json.part", LOCK):
        (folder / name).write_text("node7")
    (folder / "notes.txt").write_text("mine")
    result = generate(phantom, folder, resume=True, **ASKED)
    assert (result.kept, result.rendered) == (2, 6)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    assert contents(folder) == contents(whole)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seed": 4}, "seed: 3 there, 4 asked"),
        ({"frames": 14}, "frames: 12 there, 14 asked"),
        ({"frames": 6}, "frames: 12 there, 6 asked"),
        ({"shard_size": 4}, "shard-size: 3 there, 4 asked"),
        ({"store": ["iq"]}, "store: none there, iq asked"),
        ({"dtype": "float16"}, "dtype: float32 there, float16 asked"),
        ({"compress": True}, "compress: no there, yes asked"),
        ({"split": {"a": 0.5, "b": 0.5}}, "split: none there, a=0.5,b=0.5 asked"),
        ({"seed": 4, "compress": True}, "seed: 3 there, 4 asked; compress: no there, yes asked"),
    ],
)
def test_another_run_is_refused_and_left_alone(phantom, folder, fake_renderer, asked, said):
    before = contents(folder)
    with pytest.raises(ConfigError) as caught:
        generate(phantom, folder, resume=True, **ASKED | asked)
    assert f"another run than the one asked for: {said}; ask for the same, or choose another" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    assert fake_renderer == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seed": 4}, r"shard-00000\.h5: another run .*: seed: 3 there, 4 asked"),
        ({"frames": 6}, r"holds something else: shard-00002\.h5, shard-00003\.h5"),
        ({"shard_size": 4}, r"frames: 3 there, 4 asked|holds something else"),
        ({"store": ["iq"]}, "store: none there, iq asked"),
        ({"dtype": "float16"}, "dtype: float32 there, float16 asked"),
        ({"compress": True}, "compress: no there, yes asked"),
        ({"split": {"a": 0.5, "b": 0.5}}, r"holds something else: shard-00000\.h5"),
    ],
)
def test_another_run_is_refused_without_its_manifest_too(phantom, folder, fake_renderer, asked, said):
    (folder / "manifest.json").unlink()
    before = contents(folder)
    with pytest.raises(ConfigError, match=said):
        generate(phantom, folder, resume=True, **ASKED | asked)
    assert contents(folder) == before
    assert fake_renderer == []


@pytest.mark.parametrize("manifest", ["intact", "lost"])
def test_another_phantom_or_version_is_refused(tmp_path, phantom, folder, fake_renderer, monkeypatch, manifest):
    if manifest == "lost":
        (folder / "manifest.json").unlink()
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM.replace("5 mm, 5 mm", "5 mm, 6 mm"))
    with pytest.raises(ConfigError, match="phantom: another text, or other files"):
        generate(load_phantom(path), folder, resume=True, **ASKED)
    versions = usim.generate.deciding_versions()
    monkeypatch.setattr(usim.generate, "deciding_versions", lambda: versions | {"numba": "0.1"})
    with pytest.raises(ConfigError, match=rf"version of numba: {versions['numba']} there, 0\.1 asked"):
        generate(phantom, folder, resume=True, **ASKED)


def test_other_things_are_refused_and_left_alone(tmp_path, phantom, folder, fake_renderer):
    (folder / "manifest.json").unlink()
    (folder / "thesis.txt").write_text("precious")
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.json").write_text('{"name": "a web page"}')
    for place, said in ((folder, r"thesis\.txt"), (site, r"manifest\.json")):
        before = contents(place), os.stat(place).st_mtime_ns
        with pytest.raises(ConfigError, match=f"holds something else: {said}"):
            generate(phantom, place, resume=True, **ASKED)
        assert (contents(place), os.stat(place).st_mtime_ns) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="a file is in the way"):
        generate(phantom, tmp_path / "file", resume=True, **ASKED)


@pytest.mark.parametrize("resume", [False, True])
def test_a_manifest_of_another_format_is_refused(phantom, folder, fake_renderer, resume):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("usim-1", "usim-9"))
    before = contents(folder)
    with pytest.raises(ConfigError, match="this version of usim reads usim-1 only; choose another folder with -o"):
        generate(phantom, folder, resume=resume, **ASKED)
    assert contents(folder) == before


def test_what_is_in_the_way_of_a_shard_is_told(phantom, folder, fake_renderer):
    (folder / "shard-00001.h5").unlink()
    (folder / "shard-00001.h5").mkdir()
    with pytest.raises(ResourceError, match=r"shard-00001\.h5: cannot write: Is a directory"):
        generate(phantom, folder, resume=True, **ASKED)
    assert len(open_frames(folder)) == 9


def test_a_folder_that_is_removed_meanwhile_is_told(tmp_path, phantom, fake_renderer):
    def remove(state):
        if state.frames == 5:
            (tmp_path / "out").rename(tmp_path / "gone")  # at once: a shard is being written meanwhile

    with pytest.raises(ResourceError, match=r"out.*cannot write: No such file or directory"):
        generate(phantom, tmp_path / "out", progress=remove, **ASKED)


def test_a_folder_that_may_not_be_written_is_told(tmp_path, phantom, fake_renderer, monkeypatch):
    def refuse(self, *args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(ResourceError, match=r"cannot write: Permission denied.*choose a folder that you may write to"):
        generate(phantom, tmp_path / "out", **ASKED)


def test_a_second_writer_or_resumer_is_refused_at_once(tmp_path, phantom, whole, folder, fake_renderer):
    begun, go = threading.Event(), threading.Event()

    def wait(state):
        begun.set()
        assert go.wait(20)

    (folder / "shard-00001.h5").unlink()
    asked = {"resume": True, "progress": wait, **ASKED}
    first = threading.Thread(target=generate, args=(phantom, folder), kwargs=asked)
    first.start()
    assert begun.wait(20)
    try:
        for resume in (True, False):
            with pytest.raises(ConfigError, match=rf"another run is writing there \(process {os.getpid()} on "):
                generate(phantom, folder, resume=resume, **ASKED)
    finally:
        go.set()
        first.join()
    assert contents(folder) == contents(whole)


def test_a_lock_without_a_holder_is_no_obstacle(tmp_path, phantom, fake_renderer):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / LOCK).write_text("process 1 on a machine that lost power")
    generate(phantom, folder, **ASKED)
    assert not (folder / LOCK).exists()
    with FileLock(folder / LOCK):
        assert len(open_frames(folder)) == 12  # readers do not ask


def test_keep_going_makes_all_that_can_be_made(tmp_path, phantom, whole, fake_renderer, monkeypatch):
    frame = usim.generate.Renderer.frame

    def failing(self, number):
        if number in (4, 10):
            raise DataError(f"cloud-{number}.npz: damaged")
        return frame(self, number)

    folder = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(usim.generate.Renderer, "frame", failing)
        with pytest.raises(DataError, match=r"^cloud-4\.npz: damaged$"):
            generate(phantom, tmp_path / "stops", **ASKED)
        with pytest.raises(DataError) as caught:
            generate(phantom, folder, keep_going=True, **ASKED)
    assert str(caught.value) == (
        f"{folder}: missing shard-00001.h5 (cloud-4.npz: damaged), shard-00003.h5 (cloud-10.npz: damaged); "
        "2 of 4 shards are finished and readable; make the rest with --resume"
    )
    assert len(open_frames(folder)) == 6
    fake_renderer.clear()
    assert generate(phantom, folder, resume=True, **ASKED).kept == 2
    assert fake_renderer == [3, 4, 5, 9, 10, 11]
    assert contents(folder) == contents(whole)


SPLIT = {"train": 0.5, "val": 0.25, "test": 0.25}


def test_splits_are_whole_scenes_in_shards_of_their_own(tmp_path, phantom, fake_renderer):
    folder = tmp_path / "out"
    generate(phantom, folder, frames=16, split=SPLIT, **ASKED)
    names = {path.name for path in folder.glob("*.h5")}
    assert names == {"train-00000.h5", "train-00001.h5", "train-00002.h5", "val-00000.h5", "val-00001.h5",
                     "test-00000.h5", "test-00001.h5"}  # fmt: skip
    assert {name: len(open_frames(folder, split=name)) for name in SPLIT} == {"train": 8, "val": 4, "test": 4}
    assert [frame.params["index"] for frame in open_frames(folder)] == list(range(16))
    assert [frame.params["index"] for frame in open_frames(folder, split="val")] == [8, 9, 10, 11]
    assert verify(folder).damages == ()
    with pytest.raises(ConfigError, match=r"has no part 'dev'; its parts are train, val, test"):
        open_frames(folder, split="dev")
    with pytest.raises(ConfigError, match="only a folder has parts"):
        open_frames(folder / "val-00000.h5", split="val")
    (folder / "val-00001.h5").unlink()
    (folder / "manifest.json").unlink()
    fake_renderer.clear()
    assert generate(phantom, folder, frames=16, split=SPLIT, resume=True, **ASKED).kept == 6
    assert fake_renderer == [11]
    with pytest.raises(ConfigError, match=r"split: train=0\.5,val=0\.25,test=0\.25 there, none asked"):
        generate(phantom, folder, frames=16, resume=True, **ASKED)


def test_no_scene_is_in_two_parts():
    for frames in range(1, 60):
        for per_scene in (1, 2, 5):
            parts = frames_of(tuple(SPLIT.items()), frames, per_scene)
            assert [i for part in parts.values() for i in part] == list(range(frames))
            scenes = [{i // per_scene for i in part} for part in parts.values()]
            assert sum(map(len, scenes)) == len(set.union(*scenes))
            share = len(scenes[0]) / -(-frames // per_scene)
            assert abs(share - 0.5) <= 0.5 / -(-frames // per_scene) + 1e-9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train", "'train' is not NAME=FRACTION"),
        ("train=much", "'train=much' is not NAME=FRACTION"),
        ("a=0.5,a=0.5", "a is there twice"),
        ("Train=1", "'Train' is not a name"),
        ("../x=1", "is not a name"),
        ("a=0.5", "add up to 0.5, not to 1"),
        ("a=nan", "a=nan is not a fraction"),
        ("a=-1,b=2", "a=-1 is not a fraction"),
        ("a=0.99,b=0.01", "b gets none of the 6 scenes"),
    ],
)
def test_bad_splits_are_refused(phantom, text, said):
    with pytest.raises(ConfigError, match=said):
        plan_run(phantom, split=parse_split(text))


@pytest.mark.parametrize(("asked", "said"), [({"dtype": "f8"}, "float32, float16, uint8"), ({"frames": 10**30}, "10")])
def test_bad_requests_are_refused(phantom, asked, said):
    with pytest.raises(ConfigError, match=said):
        plan_run(phantom, **asked)


def command(*arguments, cwd):
    run = [sys.executable, "-m", "usim", "-q", *arguments]
    return subprocess.Popen(run, cwd=cwd, env=environment(), stderr=subprocess.PIPE, text=True)


def test_the_command_line_resumes(tmp_path, phantom):
    for arguments, code in (([], 0), ([], 2), (["--resume"], 0), (["--resume", "--seed", "4"], 2)):
        process = command("generate", "small.yaml", "--workers", "1", *arguments, cwd=tmp_path)
        error = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == code, error
        assert error.count("\n") == (code > 0)
