"""usim verify and usim info: every damage is named, and nothing else is."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

import usim
from usim.cli import main
from usim.errors import DataError
from usim.generate import generate
from usim.info import describe
from usim.io.dataset import open_frames
from usim.io.provenance import read_manifest, write_manifest
from usim.io.verify import verify
from usim.phantom.load import load_phantom

PHANTOM = """\
description: For tests
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [32, 24]}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 8
seed: 3
"""


@pytest.fixture
def folder(tmp_path, fake_renderer):
    """Four shards of two frames."""
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    split = {"train": 0.75, "val": 0.25}
    generate(load_phantom(path), tmp_path / "data", workers=1, shard_size=2, split=split)
    return tmp_path / "data"


@pytest.fixture
def shard(folder, tmp_path):
    """One of its shards, somewhere else."""
    return shutil.copy(folder / "train-00001.h5", tmp_path / "alone.h5")


def told(path):
    return [str(damage) for damage in verify(path).damages]


def relist(folder, **changes):
    manifest = read_manifest(folder)
    for name, value in changes.items():
        setattr(manifest, name, value)
    write_manifest(folder, manifest)


def test_nothing_is_found_where_nothing_is_wrong(folder):
    found = verify(folder)
    assert (found.damages, found.frames, found.shards, found.proven) == ((), 8, 4, True)
    assert found.bytes == sum(path.stat().st_size for path in folder.glob("*.h5"))
    assert usim.verify is verify
    (folder / "README.txt").write_text("notes are no damage")
    assert told(folder) == []
    assert verify(folder / "val-00000.h5").frames == 2


def test_every_damage_is_named_in_a_line_of_its_own(folder):
    (folder / "train-00000.h5").unlink()
    data = (folder / "train-00001.h5").read_bytes()
    (folder / "train-00001.h5").write_bytes(data[:-1])
    (folder / "train-00002.h5").write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    with (folder / "val-00000.h5").open("ab") as file:
        file.write(b"x")
    (folder / "train-00009.h5").write_bytes(data)
    (folder / ".train-00000.h5.part.n7-12").write_bytes(b"")
    size = read_manifest(folder).shards[0].bytes
    assert told(folder) == [
        f"{folder}/.train-00000.h5.part.n7-12: left by a run that was ended, or being written; --resume clears it up",
        f"{folder}/train-00009.h5: not in manifest.json; remove it",
        f"{folder}/train-00000.h5: missing; make it again with --resume",
        f"{folder}/train-00001.h5: truncated: {size - 1} bytes, manifest.json says {size}",
        f"{folder}/train-00002.h5: changed: its SHA-256 is not the one in manifest.json; make it again with --resume",
        f"{folder}/val-00000.h5: changed: {size + 1} bytes, manifest.json says {size}",
    ]
    assert verify(folder).shards == 0


def test_every_flipped_bit_is_found(folder):
    path, random = folder / "train-00001.h5", np.random.default_rng(0)
    data = path.read_bytes()
    for position in [0, len(data) - 1, *random.integers(0, len(data), 60)]:
        changed = bytearray(data)
        changed[position] ^= 1 << random.integers(8)
        path.write_bytes(bytes(changed))
        assert len(told(folder)) == len(told(path)) == 1


def test_every_flipped_bit_of_the_manifest_is_found(folder):
    path, random = folder / "manifest.json", np.random.default_rng(0)
    data = path.read_bytes()
    for position in [0, len(data) - 1, *random.integers(0, len(data), 100)]:
        changed = bytearray(data)
        changed[position] ^= 1 << random.integers(8)
        path.write_bytes(bytes(changed))
        damages = told(folder)
        assert len(damages) == 1
        assert damages[0].startswith(f"{path}: ")


@pytest.mark.parametrize("key", ["seed", "frames", "sha256", "dtype"])
def test_a_manifest_edited_by_hand_is_told(folder, key):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content[key] = {"seed": 4, "frames": 9, "dtype": "uint8"}.get(key)
    if content[key] is None:
        del content[key]
    path.write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    assert len(told(folder)) == 1
    assert f"{path}: damaged manifest" in told(folder)[0]
    with pytest.raises(DataError, match=r"manifest\.json: damaged manifest: [^(]*(edited|checksum)[^)]*;"):
        open_frames(folder)


def test_a_manifest_of_before_has_no_checksum_and_still_opens(folder):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    for key in ("sha256", "dtype", "compress", "split"):
        del content[key]
    for entry in content["shards"]:
        del entry["split"]
    path.write_text(json.dumps(content, sort_keys=True, indent=1) + "\n")
    assert len(open_frames(folder)) == 8
    assert told(folder) == []
    assert "sizes of all shards fit" in describe(folder)


def test_a_lost_manifest_leaves_the_checksums(folder):
    (folder / "manifest.json").unlink()
    found = verify(folder)
    (lost,) = map(str, found.damages)
    assert lost.startswith(f"{folder}/manifest.json: cannot read: No such file or directory; restore a copy")
    assert (found.frames, found.proven) == (8, False)


def test_an_unfinished_run_is_told(folder):
    manifest = read_manifest(folder)
    (folder / "val-00000.h5").unlink()
    relist(folder, shards=manifest.shards[:-1])
    assert told(folder) == [f"{folder}: unfinished: 6 of 8 frames are there; generate the rest with --resume"]


def test_a_run_that_still_writes_is_named(folder):
    relist(folder, shards=read_manifest(folder).shards[:-1])
    (folder / ".usim.lock").write_text("process 7 on node1")
    said = "process 7 on node1 writes there, or was killed"
    assert told(folder) == [
        f"{folder}: unfinished: 6 of 8 frames are there; {said}: wait for it, or generate the rest with --resume",
        f"{folder}/val-00000.h5: not in manifest.json; generate the rest with --resume, or remove it",
    ]
    assert f"6 finished of 8 ({said})" in describe(folder)


def test_a_folder_among_shards_is_named_without_the_words_of_hdf5(folder):
    with pytest.raises(DataError, match=r"data: missing or damaged: Is a directory; generate"):
        usim.open([folder])


def test_shards_that_do_not_fit_their_list_are_told(folder):
    manifest = read_manifest(folder)
    first, second, *others = manifest.shards
    relist(folder, seed=4)
    assert "train-00000.h5: does not fit manifest.json: seed is 3 in the shard, 4 in the list" in told(folder)[0]
    relist(folder, seed=3, shards=[first, replace(second, first_frame=1), *others])
    assert told(folder) == [
        f"{folder}/manifest.json: frame 1 of train-00001.h5 is in another shard too",
        f"{folder}/train-00001.h5: does not fit manifest.json: first_frame is 2 in the shard, 1 in the list",
    ]
    relist(folder, shards=manifest.shards, frames=6)
    assert told(folder) == [f"{folder}/manifest.json: lists frames up to 7, but 6 were asked for"]
    (folder / "train-00001.h5").unlink()
    (folder / "train-00001.h5").mkdir()
    relist(folder, shards=manifest.shards, frames=8)
    assert len(told(folder)) == 1


def test_a_shard_of_its_own_has_checksums_only(shard):
    found = verify(shard)
    assert (found.damages, found.frames, found.shards, found.proven) == ((), 2, 1, False)
    data = bytearray(shard.read_bytes())
    position = bytes(data).index(open_frames(shard)[1].bmode.tobytes())
    data[position + 100] ^= 4
    shard.write_bytes(bytes(data))
    assert [line.split(": ")[1] for line in told(shard)] == ["bmode", "frame 1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file.attrs.__setitem__("seed", "x"), "attribute seed: unreadable"),
        (lambda file: file.attrs.__setitem__("first_frame", -1), "attribute first_frame: -1 is negative"),
        (lambda file: file.attrs.__delitem__("usim_version"), "attribute config_yaml or usim_version: unreadable"),
        (lambda file: file.attrs.__setitem__("format", "usim-9"), "its format is 'usim-9', expected 'usim-1'"),
        (lambda file: file["bmode"].attrs.__setitem__("unit", "Pa"), "bmode: its attribute unit is 'Pa'"),
        (None, "index/look: 1 rows for 2 frames"),
        (lambda file: file.create_dataset("extra", data=1), "extra: unknown to usim"),
        (lambda file: file.__delitem__("truth/labels"), "frame 1: unreadable"),
    ],
)
def test_attributes_are_looked_at(shard, change, said):
    with h5py.File(shard, "r+") as file:
        if change is None:
            old = file["index/look"]
            attributes = dict(old.attrs)
            del file["index/look"]
            file.create_dataset("index/look", data=[0]).attrs.update(attributes)
        else:
            change(file)
    assert any(said in line for line in told(shard)), told(shard)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_what_is_no_shard_is_told(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    assert len(told(tmp_path / "a.h5")) == 1
    assert "No such file" in told(tmp_path / "b.h5")[0]
    (tmp_path / "empty").mkdir()
    assert "neither manifest.json nor shards" in told(tmp_path / "empty")[0]


def test_the_command_line_checks_several_and_exits_with_3(folder, shard, capsys):
    assert main(["verify", str(folder), str(shard)]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[0].startswith(f"{folder}: 8 frames in 4 shards, ")
    assert out.splitlines()[1].startswith(f"{shard}: 2 frames in 1 shard, ")
    assert out.splitlines()[1].endswith("only the hash in a manifest is proof of every bit")
    assert main(["--quiet", "verify", str(folder)]) == 0
    assert capsys.readouterr() == ("", "")
    (folder / "train-00001.h5").unlink()
    for quiet in ([], ["-q"]):
        assert main([*quiet, "verify", str(folder), str(folder / "gone")]) == 3
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(": ")[0] for line in lines] == [f"{folder}/train-00001.h5", f"{folder}/gone"]


def test_progress_counts_the_bytes(folder, monkeypatch):
    heard = []
    verify(folder, lambda done, total: heard.append((done, total)))
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert heard[-1] == (verify(folder).bytes,) * 2

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(folder, stop)


def test_info_compares_sizes_and_tells_parts(folder):
    text = describe(folder)
    for said in ("sizes of all shards fit the manifest", f"usim verify {folder}", "train 6, val 2", "float32", "seed"):
        assert said in text
    (folder / "train-00001.h5").write_bytes(b"short")
    (folder / "train-00002.h5").unlink()
    text = describe(folder)
    assert "DAMAGED: train-00001.h5 has 5 of " in text
    assert "train-00002.h5 is missing" in text
    for path in folder.glob("*.h5"):
        path.unlink()
    with pytest.raises(DataError, match="no shard is whole"):
        describe(folder)
