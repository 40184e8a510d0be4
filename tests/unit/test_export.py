"""Networks as ONNX and TorchScript: the same numbers for every size and batch, and no wrong file."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import s2s.export
from s2s.checkpoint import save_checkpoint
from s2s.cli import main
from s2s.denoise import Denoiser, load
from s2s.export import export
from s2s.methods import make
from usim.errors import ConfigError, DataError

RNG = np.random.default_rng(3)
#: batch, height, width: none was traced or checked at export; below, at and above the multiples.
SHAPES = [(1, 16, 16), (1, 17, 130), (3, 96, 31), (1, 200, 144)]
NETWORKS = {
    "U-Net": ("noise2true", {"width": 4, "depth": 2}),
    "folded U-Net": ("noise2noise", {"width": 4, "depth": 2, "fold": 2, "residual": False}),
    "BatchNorm": ("speckle2self", {}),
    "paper": ("speckle2self", {"preset": "paper"}),
}


@pytest.fixture(scope="module")
def networks():
    """Networks that do something: their weights are not those of the start."""
    found = {}
    for case, (name, options) in NETWORKS.items():
        torch.manual_seed(4)
        settings = dict(options)
        method = make(name, settings.pop("preset", "default"), **settings)
        for parameter in method.parameters():
            if parameter.ndim == 1:
                torch.nn.init.normal_(parameter, 0.3, 0.2)
            else:
                torch.nn.init.kaiming_normal_(parameter, a=1.0)
        found[case] = Denoiser(method, checkpoint="ab" * 32)
    return found


def decibels(shape):
    return RNG.uniform(-60, 0, (shape[0], 1, *shape[1:])).astype(np.float32)


def runner(path, kind):
    if kind == "onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda noisy: session.run(None, {"noisy": noisy})[0]
    loaded = torch.jit.load(path)
    return lambda noisy: loaded(torch.from_numpy(noisy)).numpy()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
@pytest.mark.parametrize("case", NETWORKS)
def test_a_file_computes_what_the_network_does(networks, tmp_path, case, kind):
    """Within 1e-4 of the 60 dB of a display, on the scale and in the range on which `Denoiser` works."""
    denoiser, path = networks[case], tmp_path / f"a.{kind}"
    assert export(denoiser, path, kind) < 6e-2
    run = runner(path, kind)
    for shape in SHAPES:
        noisy = decibels(shape)
        clean = run(noisy)
        assert (clean.shape, clean.dtype) == (noisy.shape, np.float32)
        for one, image in zip(clean[:, 0], noisy[:, 0], strict=True):
            wanted = denoiser.denoise(image, "db")
            assert np.abs(wanted - image).max() > 1
            assert np.sqrt(np.mean((one - wanted) ** 2)) < 6e-3
            np.testing.assert_allclose(one, wanted, atol=6e-2 if case == "paper" else 6e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_is_told_inside(networks, tmp_path):
    export(networks["U-Net"], tmp_path / "a.onnx", "onnx")
    model = onnx.load(tmp_path / "a.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert told["method"] == "noise2true"
    assert json.loads(told["settings"])["width"] == 4
    assert told["checkpoint_sha256"] == "ab" * 32
    assert "in dB, 0 dB is full scale" in told["input"]
    for value in (*model.graph.input, *model.graph.output):
        assert next(axis.dim_param for axis in value.type.tensor_type.shape.dim) == "batch"
    assert {value.name for value in (*model.graph.input, *model.graph.output)} == {"noisy", "clean"}
    export(networks["U-Net"], tmp_path / "a.pt", "torchscript")
    files = {"s2s.json": ""}
    torch.jit.load(tmp_path / "a.pt", _extra_files=files)
    assert json.loads(files["s2s.json"])["method"] == "noise2true"


def test_torchscript_runs_without_s2s(networks, tmp_path):
    export(networks["folded U-Net"], tmp_path / "a.pt", "torchscript")
    code = (
        "import sys, torch; net = torch.jit.load('a.pt'); print(float(net(torch.full((1, 1, 40, 33), -20.0)).mean()));"
        "assert not {'s2s', 'usim'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    wanted = networks["folded U-Net"].method.denoise(torch.full((1, 1, 40, 33), 1 - 20 / 60))
    assert float(done.stdout) == pytest.approx(60 * (float(wanted.mean()) - 1), abs=6e-3)


def test_a_wrong_file_is_not_written(networks, tmp_path, monkeypatch):
    class Wrong(s2s.export.Graph):
        def forward(self, noisy):
            return super().forward(noisy) + 0.01

    monkeypatch.setattr(s2s.export, "Graph", Wrong)
    for kind in ("onnx", "torchscript"):
        with pytest.raises(DataError, match=r"not written: .* differs from noise2true by 0\.01\d* dB, 0\.006 are"):
            export(networks["U-Net"], tmp_path / "a", kind)
    monkeypatch.setattr(s2s.export, "Graph", s2s.export.Graph.__base__)
    assert not list(tmp_path.iterdir())


def test_a_graph_of_one_size_is_not_written(networks, tmp_path, monkeypatch):
    """What a trace with fixed sizes would give: it does not run, or its output has the wrong shape."""

    def fixed(self, noisy):
        return 60 * (self.method.infer(1 + noisy[..., :48, :48] / 60) - 1)

    monkeypatch.setattr(s2s.export.Graph, "forward", fixed)
    for kind in ("onnx", "torchscript"):
        with pytest.raises(DataError, match="not written"):
            export(networks["U-Net"], tmp_path / "a", kind)
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_exported(networks, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="nlm: a filter has no network"):
        export(load("nlm"), tmp_path / "a.onnx", "onnx")
    for name in ("cosdd", "dna-net", "polyphase(2):dna-net", "r2d2+", "noise2vst", "polyphase(4):noise2vst"):
        with pytest.raises(ConfigError, match=re.escape(f"{name}: what it does to an image no exported network can")):
            export(Denoiser(make(name, "toy")), tmp_path / "a.onnx", "onnx")
    with pytest.raises(ConfigError, match="allowed are onnx and torchscript"):
        export(networks["U-Net"], tmp_path / "a", "tflite")
    (tmp_path / "there.onnx").write_text("precious")
    with pytest.raises(ConfigError, match=r"there\.onnx: exists already.*--force"):
        export(networks["U-Net"], tmp_path / "there.onnx", "onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is not installed; run: pip install 'usim-s2s\[export\]'"):
        export(networks["U-Net"], tmp_path / "b.onnx", "onnx")
    assert (tmp_path / "there.onnx").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["there.onnx"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_and_the_lines_of_the_page(networks, tmp_path, monkeypatch, capsys):
    """docs/export.md, executed: what is written there denoises an image as `s2s denoise` does."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "best.pt", networks["U-Net"].method, {})
    assert main(["export", ".", "-o", "denoiser.onnx"]) == 0
    assert capsys.readouterr().out.startswith("denoiser.onnx: differs from . by ")
    assert main(["export", ".", "-o", "denoiser.onnx"]) == 2
    assert main(["-q", "export", ".", "--format", "torchscript"]) == 0
    (tmp_path / "noise2true.pt").rename("denoiser.pt")
    page = (Path(__file__).parents[2] / "docs/export.md").read_text()
    grey = RNG.integers(0, 256, (70, 90), dtype=np.uint8)
    wanted = load(".").denoise(grey, "log")
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        names = {"grey": grey}
        exec(code, names)
        np.testing.assert_allclose(names["clean"], wanted, atol=0.03)


@pytest.mark.parametrize(("kind", "name"), [("onnx", "a.pt"), ("torchscript", "a.onnx")])
def test_a_file_does_not_end_as_the_other_format(networks, tmp_path, kind, name):
    with pytest.raises(ConfigError, match="or choose --format"):
        export(networks["U-Net"], tmp_path / name, kind)
    assert not list(tmp_path.iterdir())
