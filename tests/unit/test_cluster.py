"""Runs over a dask scheduler and real worker processes: the bytes of one machine, or a clear error."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from dask_processes import Dask
from surroundings import PATIENCE, contents

import usim.cluster
import usim.cluster_worker
from usim.cluster import Cluster, connect
from usim.errors import ConfigError, ResourceError
from usim.generate import generate
from usim.io.provenance import read_manifest
from usim.phantom.load import load_phantom
from usim.workers import Event

ROOT = Path(__file__).resolve().parents[2]
PHANTOM = """\
probe: L11-5v
image: {x: [-5 mm, 5 mm], z: [10 mm, 20 mm], pixels: [32, 24]}
medium: {attenuation: {uniform: [0.2 dB/cm/MHz, 0.8 dB/cm/MHz]}}
scatterers: {model: field}
background: {name: tissue, echogenicity: 0 dB}
frames: 40
seed: 3
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    dask = Dask(tmp_path_factory.mktemp("dask"))
    dask.team = [dask.worker(), dask.worker()]
    yield dask
    dask.end()


@pytest.fixture
def dask(started, monkeypatch):
    """Two workers, whatever the test before has done to them."""
    started.team = [worker for worker in started.team if worker.poll() is None]
    while len(started.team) < 2:
        started.team.append(started.worker())
    monkeypatch.setattr(usim.cluster, "REACH_S", PATIENCE)
    return started.wait(2)


@pytest.fixture
def phantom(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(PHANTOM)
    return load_phantom(path)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """What one machine makes: 20 shards."""
    path = tmp_path_factory.mktemp("here") / "small.yaml"
    path.write_text(PHANTOM)
    generate(load_phantom(path), path.parent / "out", workers=1, shard_size=2)
    return contents(path.parent / "out")


def start():
    return work


def work(item, report):
    report(2)
    if item == "die":
        time.sleep(0.2)  # its worker has told that it was begun
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "config":
        raise ConfigError("a.yaml:1:1: no")
    if item == "disk":
        raise ResourceError("/data: no space")
    if item == "bug":
        raise ZeroDivisionError("oops")
    report(1)
    return item


def run(dask, items, folder, **options):
    events = []
    with connect(dask.address) as cluster, cluster.sharing(folder):
        cluster.map_items(start, items, events.append, folder, **options)
    assert list(folder.iterdir()) == []
    return [event for event in events if event.kind != "idle"]


def test_the_bytes_of_a_run_on_one_machine(tmp_path, phantom, dask, here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    states = []
    made = generate(phantom, "there", shard_size=2, scheduler=dask.address, progress=states.append)
    assert contents(tmp_path / "there") == here
    assert made.folder == tmp_path / "there"
    assert (states[-1].frames, states[-1].shards) == (40, 20)
    assert [state.frames for state in states] == sorted(state.frames for state in states)


def test_the_shards_of_a_killed_worker_are_made_again(tmp_path, phantom, dask, here):
    def progress(state):
        if state.shards == 1:
            dask.team[0].kill()

    made = generate(phantom, tmp_path / "there", shard_size=2, scheduler=dask.address, progress=progress)
    assert contents(tmp_path / "there") == here
    assert made.manifest.complete
    assert dask.team[0].wait() == -signal.SIGKILL


def test_a_stopped_run_goes_on_over_a_cluster(tmp_path, phantom, dask, here):
    def stop(state):
        if state.shards == 2:
            raise KeyboardInterrupt

    asked = {"shard_size": 2, "scheduler": dask.address}
    with pytest.raises(KeyboardInterrupt):
        generate(phantom, tmp_path / "there", progress=stop, **asked)
    listed = {shard.name for shard in read_manifest(tmp_path / "there").shards}
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"manifest.json", "run.json"} | listed
    made = generate(phantom, tmp_path / "there", resume=True, **asked)
    assert (made.kept, made.rendered) == (2, 40 - 4)
    assert contents(tmp_path / "there") == here


def test_only_an_item_that_kills_one_worker_after_another_is_lost(tmp_path, dask):
    dask.team.append(dask.worker())
    dask.wait(3)
    events = run(dask, ["die", *range(20)], tmp_path)
    assert [event for event in events if event.kind == "lost"] == [Event("lost", "die", None)]
    assert sorted(event.value for event in events if event.kind == "done") == list(range(20))
    told = [event.value for event in events if event.kind == "progress" and event.item != "die"]
    assert sum(told) == 3 * 20  # an item that was made twice counts once


@pytest.mark.parametrize(
    ("item", "error", "text"),
    [
        ("config", ConfigError, "no"),
        ("disk", ResourceError, "/data: no space"),
        ("bug", RuntimeError, "ZeroDivisionError: oops"),
    ],
)
def test_errors_come_through(tmp_path, dask, item, error, text):
    with pytest.raises(error, match=text):
        run(dask, [1, item, 2, 3], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_whoever_keeps_going_hears_of_failures(tmp_path, dask):
    events = run(dask, ["config", 1, "disk", 2], tmp_path, keep_going=True)
    assert sorted(event.value for event in events if event.kind == "done") == [1, 2]
    assert {event.item: str(event.value) for event in events if event.kind == "failed"} == {
        "config": "a.yaml:1:1: no", "disk": "/data: no space",
    }  # fmt: skip


def test_other_versions_are_refused_before_work_and_when_they_join_later(tmp_path, phantom, dask, monkeypatch):
    (tmp_path / "older.py").write_text("import usim\nusim.__version__ = '0.0.9'\n")
    old = dask.worker("--preload", str(tmp_path / "older.py"))
    try:
        dask.wait(3)
        with pytest.raises(ConfigError, match=r"worker tcp://\S+ has usim 0\.0\.9 instead of"):
            generate(phantom, tmp_path / "out", scheduler=dask.address)
        assert not (tmp_path / "out").exists()
        monkeypatch.setattr(Cluster, "_refuse_mixed", lambda self: None)  # as if it joined just after
        with pytest.raises(ConfigError, match=r"has usim 0\.0\.9 instead of .*; stop it, go on with --resume"):
            generate(phantom, tmp_path / "out", frames=60, shard_size=1, scheduler=dask.address)
        if (tmp_path / "out").exists():
            listed = {shard.name for shard in read_manifest(tmp_path / "out").shards}
            assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", "run.json"} | listed
    finally:
        old.kill()
        old.wait()


def test_a_folder_or_file_that_workers_do_not_see_is_named(tmp_path, phantom, dask, monkeypatch):
    unseen = pytest.raises(ResourceError, match=r"^/nowhere/map\.png: worker tcp://\S+ does not see this file; ")
    with connect(dask.address) as cluster, unseen, cluster.sharing(tmp_path, ("/nowhere/map.png",)):
        pass
    # Elsewhere the same path leads to another folder, in which our file is not.
    monkeypatch.setattr(usim.cluster_worker, "probe_path", lambda folder, run: Path(folder) / f".elsewhere-{run}")
    out = tmp_path / "out"
    with pytest.raises(ResourceError, match=rf"^{out}: worker tcp://\S+ does not see this folder; .* -o$"):
        generate(phantom, out, scheduler=dask.address)
    assert not out.exists()


@pytest.mark.parametrize("limit", [PATIENCE, pytest.param(2.0, marks=pytest.mark.slow)])
def test_an_interrupt_ends_it(tmp_path, phantom, dask, limit):
    command = [sys.executable, "-m", "usim", "generate", "small.yaml", "--frames", "5000", "--shard-size", "3"]
    process = subprocess.Popen(
        [*command, "--scheduler", dask.address], cwd=tmp_path, env=dask.environment, stderr=subprocess.PIPE, text=True
    )
    folder, deadline = tmp_path / "small", time.monotonic() + PATIENCE
    while not ((folder / "manifest.json").exists() and read_manifest(folder).shards):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - begun < limit
    assert process.returncode == 130
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+/status", error)
    assert "Traceback" not in error
    listed = {shard.name for shard in read_manifest(folder).shards}
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "run.json"} | listed


@pytest.mark.parametrize(
    "address", ["node1:8786", "http://node1:8786", "tcp://node1", "tcp://:8786", "tcp://node1:99999", "tcp://a:1/b", ""]
)
def test_what_is_no_address_is_refused(tmp_path, phantom, address):
    with pytest.raises(ConfigError, match=r"is not tcp://host:port or tls://host:port"):
        generate(phantom, tmp_path / "out", scheduler=address)


def test_a_scheduler_that_does_not_answer(tmp_path, phantom, monkeypatch):
    monkeypatch.setattr(usim.cluster, "REACH_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        closed = socket.create_server(("127.0.0.1", 0))
        ports = [deaf.getsockname()[1], closed.getsockname()[1]]
        closed.close()
        for port in ports:
            with pytest.raises(ResourceError, match=r"no dask scheduler answered within 0\.5 s") as caught:
                generate(phantom, tmp_path / "out", scheduler=f"tcp://127.0.0.1:{port}")
            assert caught.value.exit_code == 4
    with pytest.raises(ConfigError, match=r"--scheduler: tls://127\.0\.0\.1:\d+: .*"):
        generate(phantom, tmp_path / "out", scheduler=f"tls://127.0.0.1:{ports[0]}")
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_go_together_and_a_library_that_is_missing(tmp_path, phantom, monkeypatch):
    with pytest.raises(ConfigError, match="leave --workers or --scheduler out"):
        generate(phantom, tmp_path / "out", workers=2, scheduler="tcp://127.0.0.1:8786")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r'distributed is not installed; run: pip install "usim-s2s\[cluster\]"'):
        generate(phantom, tmp_path / "out", scheduler="tcp://127.0.0.1:8786")


def test_a_worker_that_is_too_small_is_refused():
    client = SimpleNamespace(scheduler_info=lambda: {"workers": {"tcp://a:1": {"memory_limit": 10**9}}})
    Cluster(client, "tcp://s:1").refuse_small(10**9)
    with pytest.raises(
        ResourceError, match="worker tcp://a:1 may use 1000000000 bytes of memory, a shard needs 10000000"
    ):
        Cluster(client, "tcp://s:1").refuse_small(10**9 + 1)


def test_processors_of_several_types_and_workers_of_several_threads_are_warned_of(caplog):
    here = usim.cluster_worker.versions()
    client = SimpleNamespace(
        run_on_scheduler=lambda question: here,
        run=lambda question, on_error: {"tcp://a:1": (here, "znver4 avx512f"), "tcp://b:1": (here, "znver3 avx2")},
        nthreads=lambda: {"tcp://a:1": 1, "tcp://b:1": 8},
    )
    Cluster(client, "tcp://s:1")._refuse_mixed()
    first, second = (record.getMessage() for record in caplog.records)
    assert "several types (1 x znver3 avx2, 1 x znver4 avx512f)" in first
    assert "--nworkers 8 --nthreads 1" in second
    client.run_on_scheduler = lambda question: here | {"numpy": "1.0"}
    with pytest.raises(ConfigError, match=r"scheduler tcp://s:1 has numpy 1\.0 instead of"):
        Cluster(client, "tcp://s:1")._refuse_mixed()


def test_kernels_get_one_thread():
    import numba
    from threadpoolctl import threadpool_info

    before = numba.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    with usim.cluster_worker.one_thread():
        assert numba.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} <= {1}
    assert (numba.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]) == before


def test_the_documented_slurm_job_says_what_its_comments_say(monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # dask_jobqueue takes SIGINT when it is imported
    from dask_jobqueue import SLURMCluster

    page = (ROOT / "docs/cluster.md").read_text()
    code = re.search(r"<!-- slurm: begin -->\n```python\n(.*?)```", page, re.DOTALL)[1]
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    asked = next(call for call in calls if getattr(call.func, "id", "") == "SLURMCluster")
    options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in asked.keywords}
    script = SLURMCluster.job_cls(scheduler="tcp://10.0.0.1:8786", name="0", **options).job_script()
    for part in (
        "#SBATCH -p normal", "#SBATCH -A project", "#SBATCH --cpus-per-task=16", "#SBATCH --mem=45G",
        "#SBATCH -t 12:00:00", "#SBATCH --constraint=genoa", "tcp://10.0.0.1:8786", "--nworkers 16", "--nthreads 1",
        "--interface ib0", "--lifetime 11h --lifetime-stagger 10m",
    ):  # fmt: skip
        assert part in script, script


def test_no_workers_then_no_scheduler(tmp_path, phantom, dask, monkeypatch, caplog):
    """Last, because it ends them all."""
    monkeypatch.setattr(usim.cluster, "_LOOK_S", 0.1)
    monkeypatch.setattr(usim.cluster, "WORKERS_S", 0.5)

    def kill_workers(state):
        if state.shards == 1:
            for worker in dask.team:
                worker.kill()

    out, many = tmp_path / "out", {"frames": 4000, "shard_size": 2}
    with pytest.raises(ResourceError, match=r"has no worker; finished shards stay\. .* dask worker tcp://"):
        generate(phantom, out, scheduler=dask.address, progress=kill_workers, **many)
    assert "waiting 0.5 s for one" in caplog.text
    listed = {shard.name for shard in read_manifest(out).shards}
    assert listed
    assert {path.name for path in out.iterdir()} >= {"manifest.json", "run.json"} | listed
    with pytest.raises(ResourceError, match="has no worker"):
        generate(phantom, tmp_path / "none", scheduler=dask.address)
    assert not (tmp_path / "none").exists()
    dask.worker()
    dask.wait(1)
    with pytest.raises(ResourceError, match="connection to the scheduler was lost"):
        generate(phantom, tmp_path / "lost", scheduler=dask.address, **many,
                 progress=lambda state: dask.scheduler.kill() if state.shards else None)  # fmt: skip
    listed = {shard.name for shard in read_manifest(tmp_path / "lost").shards}
    assert {path.name for path in (tmp_path / "lost").iterdir()} >= {"manifest.json", "run.json"} | listed
