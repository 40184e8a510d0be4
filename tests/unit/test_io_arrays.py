"""usim.open(...).arrays(...): dictionaries of arrays that DataLoaders of every kind take as they are."""

import contextlib
import functools
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from kinds import KINDS, truths

from usim.errors import ConfigError, DataError
from usim.io.arrays import READABLE
from usim.io.dataset import open_frames
from usim.io.layout import BY_PATH
from usim.io.provenance import Manifest, ShardEntry, sha256, write_manifest
from usim.io.shard import ShardHeader, encode_shard

QUIET = (
    # Forking is what is tested; torch counts the cores that it would like.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
)


def quiet(test):
    return functools.reduce(lambda made, mark: mark(made), QUIET, test)


def encoded(frames, words=(), first=0, dtype="float32"):
    return encode_shard(frames, ShardHeader(len(frames), first, 7, "", "", {"usim": "0.1.0"}, words, dtype))


@pytest.fixture
def folder(tmp_path, make_frame):
    """Ten shards of two frames: more files than may be open."""
    for number in range(10):
        frames = [make_frame(2 * number + i, shape=(8, 6)) for i in range(2)]
        (tmp_path / f"shard-{number:05d}.h5").write_bytes(encoded(frames, first=2 * number))
    return tmp_path


def scenes(data):
    return [int(item["index/scene"]) for item in data]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*((kind, "float32") for kind in KINDS), *((k, d) for k in ("linear", "phased") for d in ("float16", "uint8"))],
)
def test_arrays_are_those_of_the_frame(tmp_path, kind, dtype):
    frames = KINDS[kind]()
    words = ("iq",) if frames[0].iq is not None or frames[0].polar is not None else ()
    (tmp_path / "a.h5").write_bytes(encoded(frames, words, dtype=dtype))
    opened = open_frames(tmp_path / "a.h5")
    last = opened[-1]
    expected = {"bmode": last.bmode, "envelope": last.envelope, "axes/x": last.axes.x, "axes/z": last.axes.z}
    expected |= {f"truth/{name}": values for name, values in truths(last.truth).items()}
    expected |= {} if last.iq is None else {"iq": last.iq}
    expected |= {} if last.display is None else {"display": last.display}
    if last.polar is not None:
        expected |= {
            "polar/iq": last.polar.iq,
            "polar/bmode": last.polar.bmode,
            "polar/axes/angle": last.polar.axes.angle,
        }
        expected |= {f"polar/truth/{name}": values for name, values in truths(last.polar.truth).items()}
    found = opened.arrays(*expected)[-1]
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values)


def test_it_is_a_sequence(folder):
    data = open_frames(folder).arrays("bmode", "index/scene")
    assert len(data) == 20
    assert scenes(data) == list(range(20))
    assert scenes(data[3:9:2]) == [3, 5, 7]
    assert scenes(open_frames(folder)[5:].arrays("index/scene"))[0] == 5
    assert data[-1]["index/scene"] == 19
    assert data.names == ("bmode", "index/scene")
    with pytest.raises(IndexError):
        data[20]
    assert scenes(pickle.loads(pickle.dumps(data))) == list(range(20))


def test_names_that_are_not_there_are_told(folder):
    frames = open_frames(folder)
    with pytest.raises(ConfigError, match="did you mean 'bmode'"):
        frames.arrays("b_mode")
    with pytest.raises(ConfigError, match="no array of every frame"):
        frames.arrays("params")
    with pytest.raises(ConfigError, match="at least one"):
        frames.arrays()
    with pytest.raises(ConfigError, match="once"):
        frames.arrays("bmode", "bmode")
    with pytest.raises(DataError, match=r"no iq is stored; it has bmode, .*--store iq"):
        frames.arrays("bmode", "iq")
    with pytest.raises(DataError, match="comes with the key sequence"):
        frames.arrays("truth/displacement")
    assert {BY_PATH[name].dtype for name in READABLE}.isdisjoint({"json", "text"})


def test_only_what_is_named_is_read(folder):
    """A damaged byte of an image that nobody asked for goes unnoticed; one that is asked for is a DataError."""
    path = folder / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    data[bytes(data).index(open_frames(folder)[0].envelope.tobytes()) + 5] ^= 1
    path.write_bytes(bytes(data))
    frames = open_frames(folder)
    assert frames.arrays("bmode", "truth/bmode")[0]["bmode"].shape == (8, 6)
    with pytest.raises(DataError, match=r"shard-00000\.h5.*frame 0"):
        frames.arrays("envelope")[0]


def test_many_threads_read_at_once(folder):
    data = open_frames(folder).arrays("bmode", "index/scene")
    expected = [item["bmode"] for item in data]
    wrong = []

    def read(seed):
        for number in np.random.default_rng(seed).permutation(20):
            item = data[int(number)]
            if item["index/scene"] != number or not np.array_equal(item["bmode"], expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_it_does_without_torch(folder):
    code = "import sys, usim; print(usim.open(sys.argv[1]).arrays('bmode')[0]['bmode'].shape, 'torch' in sys.modules)"
    path = os.pathsep.join(p for p in [os.getcwd(), *sys.path] if p)
    made = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert made.stdout.split(") ") == ["(8, 6", "False\n"]


def halved(item):
    """A transform that spawned workers can import."""
    return {"half": item["bmode"][:, ::2].copy(), "scene": item["index/scene"]}


NAMES = ("bmode", "truth/bmode", "truth/labels", "truth/few_scatterers", "axes/x", "index/scene")


@pytest.mark.parametrize(
    ("method", "workers"),
    [
        (None, 0),
        *(("fork", workers) for workers in (1, 2, 4)),
        ("spawn", 2),
        *(pytest.param("spawn", workers, marks=pytest.mark.slow) for workers in (1, 4)),
    ],
)
@quiet
def test_a_data_loader_takes_it(folder, method, workers):
    torch = pytest.importorskip("torch")
    frames = open_frames(folder)
    first = frames[3]  # the parent has files open before it forks
    data = frames.arrays(*NAMES)
    loader = torch.utils.data.DataLoader(
        data, batch_size=3, shuffle=True, num_workers=workers, multiprocessing_context=method,
        persistent_workers=workers > 0,
    )  # fmt: skip
    for _ in range(2):  # persistent workers serve every epoch
        batches = list(loader)
        assert sorted(int(scene) for batch in batches for scene in batch["index/scene"]) == list(range(20))
        assert len(batches) == 7
        for batch in batches:
            assert batch["truth/labels"].dtype == torch.uint16
            assert batch["axes/x"].dtype == torch.float64
            for row, scene in enumerate(batch["index/scene"]):
                for name, values in data[int(scene)].items():
                    np.testing.assert_array_equal(batch[name][row].numpy(), values)
    np.testing.assert_array_equal(frames[3].bmode, first.bmode)


@quiet
def test_parts_of_it_and_a_transform(folder):
    torch = pytest.importorskip("torch")
    data = open_frames(folder).arrays("bmode", "index/scene", transform=halved)
    some = torch.utils.data.Subset(data, [4, 19, 0])
    train, test = torch.utils.data.random_split(data, [0.8, 0.2], torch.Generator().manual_seed(1))
    found = []
    for part in (some, train, test):
        loader = torch.utils.data.DataLoader(part, batch_size=2, num_workers=2, multiprocessing_context="fork")
        batches = list(loader)
        assert all(batch["half"].shape[1:] == (8, 3) for batch in batches)
        found.append([int(scene) for batch in batches for scene in batch["scene"]])
    assert found[0] == [4, 19, 0]
    assert sorted(found[1] + found[2]) == list(range(20))
    assert len(found[1]) == 16


def open_shards(item):
    """How many shards the process that reads has open; torch's own descriptors come and go meanwhile."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{number}").endswith(".h5")
    return np.array(found)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are counted in /proc")
@quiet
def test_a_thousand_shards_take_few_descriptors(tmp_path, make_frame):
    torch = pytest.importorskip("torch")
    data = encoded([make_frame(0, shape=(4, 4))])
    manifest = Manifest("cyst", 1000, 7, 1, [], "0" * 64, {"usim": "0.1.0"})
    for number in range(1000):
        name = f"shard-{number:05d}.h5"
        (tmp_path / name).write_bytes(data)
        manifest.shards.append(ShardEntry(number, 1, name, len(data), sha256(data)))
    write_manifest(tmp_path, manifest)
    counted = open_frames(tmp_path).arrays("bmode", transform=open_shards)
    before = len(os.listdir("/proc/self/fd"))
    assert [int(count) for count in counted] == [*range(1, 9), *[8] * 992]
    assert len(os.listdir("/proc/self/fd")) == before + 8
    loader = torch.utils.data.DataLoader(
        counted, batch_size=None, shuffle=True, num_workers=2, multiprocessing_context="fork"
    )
    there = [int(count) for count in loader]
    assert len(there) == 1000
    assert max(there) == 8  # those that were open here when the workers were forked are gone there
    assert open_shards(None) == 8
