"""Published weights: what a method needs to denoise in one safetensors file, and those that come with the package.

The tensors are those that `infer` uses, in single or half precision; the header's metadata says whose they are, how
they were made, and the sha256 of all that, since the format itself does not notice a flipped bit. Nothing in such a
file can be executed.

>>> published()
('awgn', 'default', 'speckle2self')
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.methods.base import Method
from usim.errors import DataError, first_line
from usim.io.atomic import write_atomic
from usim.units import show

FORMAT, WEIGHTS = "s2s-weights-1", ".safetensors"
#: The one entry of the header's metadata: sha256, a space, and JSON.
_ENTRY = "s2s"
#: How a file begins that torch.save wrote; and the longest header of safetensors, whose length stands before it.
_ZIP, _LONGEST = b"PK\x03\x04", 100_000_000
#: Weights, recipes and cards that come with the package.
FOLDER = Path(__file__).parent / "weights"


def published() -> tuple[str, ...]:
    """Names of the weights that come with the package; `s2s.load` and `s2s denoise -m` take them."""
    return tuple(sorted(path.stem for path in FOLDER.glob(f"*{WEIGHTS}")))


def weights_of(name: str) -> Path:
    """The file of published weights."""
    return FOLDER / f"{name}{WEIGHTS}"


def is_safetensors(data: bytes) -> bool:
    """Whether a file begins as safetensors do: 8 bytes of the header's length, and the header, JSON."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _LONGEST


def write_weights(path: Path, method: Method, about: dict[str, Any], *, half: bool = False) -> str:
    """Write the weights that `infer` uses, atomically; returns the sha256 of what they are.

    about: plain data, how they were made.  half: 16 bits for each number.
    Raises DataError for a weight beyond half precision, ResourceError when the disk refuses.
    """
    from safetensors.torch import save

    tensors = {name: _stored(name, value, half) for name, value in method.inference_state().items()}
    told = {
        "format": FORMAT,
        "method": method.name,
        "preset": method.preset,
        "settings": dict(method.settings),
        "domain": method.domain,
        "about": about,
    }
    text = json.dumps(told, sort_keys=True)
    digest = _digest(text, tensors)
    # one entry, since the library writes several in an order that changes
    write_atomic(path, save(tensors, {_ENTRY: f"{digest} {text}"}))
    return digest


def read_weights(path: Path) -> tuple[dict[str, Any], str]:
    """The content of published weights as a checkpoint has it, numbers in single precision, and their sha256.

    Raises DataError when the file is missing, damaged or of another format.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(
            f"{path}: no such file; name weights that s2s publish wrote, or one of {', '.join(published())}"
        )
    try:
        with open(path, "rb") as raw:
            if raw.read(4) == _ZIP:
                raise DataError(f"{path}: holds a checkpoint, not safetensors; name it {path.with_suffix('.pt').name}")
        with safe_open(path, framework="pt") as file:
            entry = (file.metadata() or {}).get(_ENTRY, "")
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: damaged: {show(first_line(error), 200)}; restore a copy") from error
    digest, _, text = entry.partition(" ")
    if not text:
        raise DataError(f"{path}: no weights of format {FORMAT!r}; name a file that s2s publish wrote")
    if digest != _digest(text, tensors):
        raise DataError(f"{path}: damaged: its sha256 does not match; restore a copy")
    told = json.loads(text)
    if told["format"] != FORMAT:
        raise DataError(f"{path}: weights of format {told['format']!r}, known is {FORMAT!r}; publish them again")
    return {**told, "weights": {name: _restored(value) for name, value in tensors.items()}, "resume": None}, digest


def _stored(name: str, value: Tensor, half: bool) -> Tensor:
    value = value.detach().cpu().contiguous()
    if not half or value.dtype != torch.float32:
        return value
    stored = value.half()
    if not bool(torch.isfinite(stored).all()):
        raise DataError(f"{name}: a weight of {float(value.abs().max()):g} is beyond half precision; leave out --half")
    return stored


def _restored(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """Of the text and of each tensor's name, type, shape and bytes, in the order of names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
