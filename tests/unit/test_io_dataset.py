"""usim.open: a lazy sequence that survives pickling and forks, and names the file that is damaged."""

import multiprocessing
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

from usim.errors import DataError, ResourceError
from usim.io.atomic import write_atomic
from usim.io.dataset import open_frames
from usim.io.provenance import Manifest, ShardEntry, read_manifest, sha256, write_manifest, write_run
from usim.io.shard import ShardHeader, encode_shard


@pytest.fixture
def folder(tmp_path, make_frame):
    """Ten shards of two frames: more files than may be open."""
    manifest = Manifest("cyst", 20, 7, 2, [], "0" * 64, {"usim": "0.1.0"})
    for number in range(10):
        frames = [make_frame(2 * number + i) for i in range(2)]
        data = encode_shard(frames, ShardHeader(2, 2 * number, 7, "", "", {"usim": "0.1.0"}))
        name = f"shard-{number:05d}.h5"
        write_atomic(tmp_path / name, data)
        manifest.shards.append(ShardEntry(2 * number, 2, name, len(data), sha256(data)))
    write_manifest(tmp_path, manifest)
    return tmp_path


def indices(frames):
    return [frame.params["index"] for frame in frames]


def test_it_is_a_sequence(folder, make_frame):
    frames = open_frames(folder)
    assert len(frames) == 20
    assert indices(frames) == list(range(20))
    assert frames[-1].params["index"] == 19
    assert indices(frames[3:9:2]) == [3, 5, 7]
    assert indices(frames[::-1][:2]) == [19, 18]
    np.testing.assert_array_equal(frames[5].bmode, make_frame(5).bmode)
    with pytest.raises(IndexError, match="frame 20 of a dataset of 20"):
        frames[20]


def test_few_files_are_open_at_a_time(folder):
    frames = open_frames(folder)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    list(frames)
    assert len(frames._handles.files) == 8
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) - before <= 8
    frames.close()
    assert frames[0].params["index"] == 0


def test_single_files_lists_and_folders_without_a_manifest(folder):
    assert len(open_frames(folder / "shard-00003.h5")) == 2
    assert indices(open_frames([folder / "shard-00003.h5", folder / "shard-00000.h5"])) == [6, 7, 0, 1]
    (folder / "manifest.json").unlink()
    assert len(open_frames(folder)) == 20


def test_an_unfinished_folder_yields_what_is_finished(folder):
    manifest = read_manifest(folder)
    assert manifest.complete
    manifest.shards = [s for s in manifest.shards if s.first_frame != 4]
    write_manifest(folder, manifest)
    (folder / "shard-00002.h5").unlink()
    assert indices(open_frames(folder)) == [*range(4), *range(6, 20)]
    assert not read_manifest(folder).complete


def _child(frames, index, queue):
    queue.put(frames[index].params["index"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_it_can_be_pickled_and_used_in_other_processes(folder, method):
    frames = open_frames(folder)
    assert frames[4].params["index"] == 4
    assert pickle.loads(pickle.dumps(frames))[1:][4].params["index"] == 5
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_child, args=(frames, 5, queue))
    process.start()
    assert queue.get() == 5
    process.join()
    assert process.exitcode == 0
    assert frames[5].params["index"] == 5


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, 0.5, -1])
def test_a_truncated_shard_is_named_at_once(folder, keep):
    path = folder / "shard-00001.h5"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))] if keep == 0.5 else data[:keep])
    frames = open_frames(folder)
    with pytest.raises(DataError, match=r"shard-00001\.h5.*the manifest says"):
        frames[2]
    with pytest.raises(DataError, match=r"shard-00001\.h5"):
        open_frames(path)[0]
    assert frames[0].params["index"] == 0


def test_a_flipped_bit_in_the_pixels_is_noticed(folder):
    path = folder / "shard-00001.h5"
    data = bytearray(path.read_bytes())
    position = bytes(data).index(open_frames(path)[0].bmode.tobytes())
    data[position + 100] ^= 4
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"shard-00001\.h5.*frame 0: "):
        open_frames(folder)[2]


def test_what_is_no_dataset_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="neither manifest"):
        open_frames(tmp_path / "empty")
    with pytest.raises(DataError, match=r"gone\.h5.*No such file"):
        open_frames(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DataError, match=r"text\.h5.*HDF5"):
        open_frames(tmp_path / "text.h5")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "other"}', "[" * 100_000])
def test_a_damaged_manifest_is_named(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        open_frames(folder)


def test_a_manifest_cannot_point_outside_its_folder(folder):
    manifest = read_manifest(folder)
    manifest.shards[3] = replace(manifest.shards[3], name="../../etc/passwd")
    write_manifest(folder, manifest)
    with pytest.raises(DataError, match="not a file name"):
        open_frames(folder)


def test_manifest_bytes_do_not_depend_on_the_order_of_work(folder):
    manifest = read_manifest(folder)
    before = manifest.to_json()
    manifest.shards.reverse()
    assert manifest.to_json() == before


def test_run_json_says_when_and_where(tmp_path):
    write_run(tmp_path, workers=2, started=0.0, seconds=1.5, outcome="complete")
    assert '"workers": 2' in (tmp_path / "run.json").read_text()


@pytest.mark.parametrize("failing", ["open", "write", "fsync", "replace"])
def test_a_refused_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, refuse)
        with pytest.raises(ResourceError, match=r"a\.bin: .*No space left.*12345 bytes"):
            write_atomic(path, b"x" * 12345)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]
