"""A denoiser as a file that runs without Python: ONNX or TorchScript, decibels in and decibels out, any size.

The file holds one graph: clean = f(noisy), both float32 (batch, 1, height, width) in dB with 0 dB as full scale, sides
of 16 pixels and more. The scale of the method, the padding to its multiples and the way back are part of it. Before it
is written it is run again by what will run it, on sizes it was not made with, against the method itself.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from s2s import __version__
from s2s.denoise import Denoiser
from s2s.domain import RANGE_DB, SPECKLE_DB
from s2s.methods.base import Method
from usim.errors import ConfigError, DataError, first_line
from usim.io.atomic import make_folder, write_atomic

#: Formats, and how their files end.
FORMATS = {"onnx": ".onnx", "torchscript": ".pt"}
#: A file may differ from the method by these parts of the 60 dB of a display: root mean square, and at most. Rounding
#: reaches 1.4e-4 at single pixels of Speckle2Self as published, whose power law stretches it in black.
TOLERANCE, MOST = 1e-4, 1e-3
#: Sizes (batch, height, width) of the check; odd, not square, and small enough to be padded more than once.
_CHECKED = ((1, 16, 61), (2, 83, 48))
_TRACED = (1, 48, 64)
_OPSET = 17

Array = NDArray[np.float32]


class Graph(nn.Module):
    """(B, 1, H, W) in dB -> (B, 1, H, W) in dB: what `Denoiser` does to an image, as operations on tensors alone."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, noisy: Tensor) -> Tensor:
        """The clean images."""
        amplitude = self.method.domain == "env"
        values = 10.0 ** (noisy / 20.0) if amplitude else 1.0 + noisy / RANGE_DB
        # Not `shape`: a trace would keep the numbers of the size that it was made with.
        height, width = torch._shape_as_tensor(noisy)[-2:].unbind()
        for axis, side in ((-2, height), (-1, width)):
            values = values.index_select(axis, self._mirrored(side))
        clean = self.method.infer(values)[..., :height, :width]
        return 20.0 * torch.log10(clean.clamp_min(1e-7)) if amplitude else RANGE_DB * (clean - 1.0)

    def _mirrored(self, side: Tensor) -> Tensor:
        """Indices that reflect a side until it fits the method, as numpy.pad does."""
        multiple = self.method.multiple
        wanted = ((side + multiple - 1) // multiple * multiple).clamp_min(self.method.smallest)
        period = 2 * (side - 1)
        place = torch.arange(wanted) % period
        return torch.minimum(place, period - place)


def export(denoiser: Denoiser, path: Path, kind: str, *, force: bool = False) -> float:
    """Write a denoiser's network to a file; returns by how many dB its output differs at most from the network's.

    kind: "onnx" or "torchscript".  force: replace a file that exists.

    Raises ConfigError for a filter, a file that exists, or a library that is missing; DataError when what the file
    computes differs by more than 1e-4 of 60 dB in the root mean square, or 1e-3 anywhere, and nothing is written then;
    ResourceError when the disk refuses.

    >>> export(s2s.load("default"), Path("s2s.onnx"), "onnx")  # doctest: +SKIP
    2.3e-05
    """
    if kind not in FORMATS:
        raise ConfigError(f"--format {kind}: allowed are {' and '.join(FORMATS)}")
    other = next((name for name, ending in FORMATS.items() if name != kind and path.suffix.lower() == ending), "")
    if other:
        own = FORMATS[kind]
        raise ConfigError(f"{path}: ends as {other} does; name it {path.stem}{own}, or choose --format {other}")
    if not denoiser.method.needs:
        raise ConfigError(f"{denoiser.name}: a filter has no network to export; name weights or a checkpoint")
    if not denoiser.method.exportable:
        raise ConfigError(f"{denoiser.name}: what it does to an image no exported network can; use it with s2s denoise")
    if path.is_dir() or (path.exists() and not force):
        raise ConfigError(f"{path}: exists already; choose another file, or replace it with --force")
    graph = Graph(denoiser.method).cpu().eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch deprecates tracing, and every step of it says so. torch.export (2.13) refuses free sides that are
            # padded to a multiple inside ("Constraints violated"); the check below decides whether a file is right.
            warnings.simplefilter("ignore")
            data, run = (_onnx if kind == "onnx" else _torchscript)(graph, about(denoiser))
            differences = [_difference(graph, run, shape) for shape in _CHECKED]
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; run: pip install 'usim-s2s[export]'") from error
    finally:
        denoiser.method.to(denoiser.device)
    mean, worst = (max(values) / RANGE_DB for values in zip(*differences, strict=True))
    if not (mean <= TOLERANCE and worst <= MOST):
        raise DataError(
            f"{path}: not written: what the file computes differs from {denoiser.name} by {mean * RANGE_DB:.3g} dB, "
            f"{TOLERANCE * RANGE_DB:g} are allowed; use another format or another version of torch"
        )
    make_folder(path.parent)
    write_atomic(path, data)
    return worst * RANGE_DB


def about(denoiser: Denoiser) -> dict[str, str]:
    """What is told inside the file."""
    return {
        **denoiser.describe(),
        "s2s": __version__,
        "input": "noisy: float32 (batch, 1, height, width) in dB, 0 dB is full scale; sides of at least 16 pixels",
        "output": "clean: the same shape and scale",
        "range": "clip the input to the range that the image shows, such as -60 to 0 dB",
    }


def _onnx(graph: Graph, told: dict[str, str]) -> tuple[bytes, Callable[[Array], Array]]:
    import onnx
    import onnxruntime

    buffer, free = io.BytesIO(), {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        graph, (_image(_TRACED),), buffer, input_names=["noisy"], output_names=["clean"], opset_version=_OPSET,
        dynamic_axes={"noisy": free, "clean": free}, dynamo=False,
    )  # fmt: skip
    model = onnx.load_from_string(buffer.getvalue())
    for key, text in told.items():
        model.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return data, lambda noisy: session.run(None, {"noisy": noisy})[0]


def _torchscript(graph: Graph, told: dict[str, str]) -> tuple[bytes, Callable[[Array], Array]]:
    buffer = io.BytesIO()
    traced: Any = torch.jit.freeze(torch.jit.trace(graph, (_image(_TRACED),), check_trace=False))
    torch.jit.save(traced, buffer, _extra_files={"s2s.json": json.dumps(told)})
    data = buffer.getvalue()
    loaded: Any = torch.jit.load(io.BytesIO(data))
    return data, lambda noisy: loaded(torch.from_numpy(noisy)).numpy()


def _difference(graph: Graph, run: Callable[[Array], Array], shape: tuple[int, int, int]) -> tuple[float, float]:
    """Difference in dB between a file and what `Denoiser` does: rms and largest; infinity where a shape is wrong."""
    noisy = _image(shape)
    method = graph.method
    if method.domain == "env":
        wanted = 20.0 * torch.log10(method.denoise(10.0 ** (noisy / 20.0)).clamp_min(1e-7))
    else:
        wanted = RANGE_DB * (method.denoise(1.0 + noisy / RANGE_DB) - 1.0)
    try:
        found = torch.from_numpy(np.array(run(noisy.numpy())))
    except Exception as error:  # whoever runs the file has errors of its own
        raise DataError(f"not written: the file does not run at {shape}: {first_line(error)}") from error
    if found.shape != wanted.shape:
        return float("inf"), float("inf")
    difference = (found - wanted).double()
    return float(difference.square().mean().sqrt()), float(difference.abs().max())


def _image(shape: tuple[int, int, int]) -> Tensor:
    """Grey levels of speckle in dB (B, 1, H, W), the same every time."""
    batch, height, width = shape
    noise = torch.randn((batch, 1, height, width), generator=torch.Generator().manual_seed(height))
    return (SPECKLE_DB * noise - 20.0).clamp(-RANGE_DB, 0.0)
