"""Checkpoints: weights with everything that is needed to use them, and the sha256 of it all in the last bytes.

A checkpoint is what torch.save writes, followed by a footer: the 32 bytes of the sha256 of what stands before it, and
the 8 bytes "s2s-sha2". Neither torch.load nor the zip format notices a flipped bit; the footer does, and it can't be
lost as a second file can. torch.load still reads the file. Nothing in it is executed: weights_only=True.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2s.methods import make, method_class, settings_of
from s2s.methods.base import Method
from s2s.published import WEIGHTS, is_safetensors, read_weights
from usim.errors import ConfigError, DataError, first_line
from usim.io.atomic import write_atomic
from usim.units import show

FORMAT = "s2s-1"
#: The checkpoint by which the folder of a training is loaded: the weights that came closest to the truth.
BEST = "best.pt"
_MARK = b"s2s-sha2"
_FOOTER = 32 + len(_MARK)


@dataclass(frozen=True)
class Checkpoint:
    """A method with its weights, what is told about them, and the state of an unfinished training.

    method: ready to denoise.  sha256: of the file's content.  about: plain data: training, scores, versions.
    resume: what s2s/run.py needs to go on, or None.
    """

    method: Method
    sha256: str
    about: dict[str, Any]
    resume: dict[str, Any] | None


def save_checkpoint(path: Path, method: Method, about: dict[str, Any], resume: dict[str, Any] | None = None) -> str:
    """Write a checkpoint atomically and return its sha256.

    about: plain data.  resume: plain data and tensors; without it only the weights that `infer` uses are stored.
    Raises ResourceError when the disk refuses; the file that was there before then stays.
    """
    weights = method.inference_state() if resume is None else method.state_dict()
    content = {
        "format": FORMAT,
        "method": method.name,
        "preset": method.preset,
        "settings": {key: list(v) if isinstance(v, tuple) else v for key, v in method.settings.items()},
        "domain": method.domain,
        "weights": {key: value.cpu() for key, value in weights.items()},
        "about": about,
        "resume": resume,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload)
    write_atomic(path, payload + digest.digest() + _MARK)
    return digest.hexdigest()


def load_checkpoint(path: Path, *, device: str = "cpu") -> Checkpoint:
    """Read a checkpoint, check it, and build its method.

    Weights that `s2s publish` wrote (.safetensors) are read as well.
    Raises DataError when the file is missing, damaged, not of this format, holds code, or does not fit its method.
    """
    content, digest = read_weights(path) if path.suffix == WEIGHTS else _read(path)
    try:
        name, settings = content["method"], content["settings"]
        settings = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()}
        # What an older checkpoint does not name has the constructor's default, whatever its preset has become.
        method = make(name, content["preset"], **{**settings_of(method_class(name)), **settings})
        other = [key for key, value in method.state_dict().items() if _differs(content["weights"].get(key), value)]
        missing, unexpected = method.load_state_dict(content["weights"], strict=False)
        if content["domain"] != method_class(name).domain:
            raise DataError(f"{path}: made for the domain {content['domain']!r}, {name} has {method.domain!r}")
        needed = [key for key in missing if method.uses(key)]
        about, resume = content["about"], content["resume"]
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(f"{path}: does not fit this version of s2s: {_line(error)}; train it again") from error
    if needed or unexpected or other:
        wrong = ", ".join(show(key) for key in [*needed, *unexpected, *other][:3])
        raise DataError(f"{path}: the weights are not those of {name}: {wrong} ...; train it again")
    if not all(bool(torch.isfinite(value).all()) for value in method.state_dict().values()):
        raise DataError(f"{path}: some weights are not numbers; train it again")
    return Checkpoint(method.to(device).eval(), digest, about, resume)


def in_use(method: Method, settings: Mapping[str, Any]) -> Method:
    """The method with the same weights and other settings, of those that no weight depends on.

    Raises ConfigError for a setting that belongs to the training or is none, and for a value that the method refuses.
    """
    for key in settings:
        if key in method.settings and key not in method.IN_USE:
            may = f"in use may be changed {', '.join(method.IN_USE)}" if method.IN_USE else "none may be changed in use"
            raise ConfigError(f"{method.name}: setting {key!r} belongs to its training; {may}")
    other = make(method.name, method.preset, **{**method.settings, **settings})
    other.load_state_dict(method.state_dict())
    return other.eval()


def _read(path: Path) -> tuple[dict[str, Any], str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; name a checkpoint that s2s train wrote") from error
    payload, footer = data[:-_FOOTER], data[-_FOOTER:]
    if not footer.endswith(_MARK):
        if is_safetensors(data):
            raise DataError(f"{path}: holds safetensors, not a checkpoint; name it {path.with_suffix(WEIGHTS).name}")
        raise DataError(f"{path}: not an s2s checkpoint, or cut short; name a .pt file that s2s train wrote")
    digest = hashlib.sha256(payload)
    if digest.digest() != footer[:32]:
        raise DataError(f"{path}: damaged: its sha256 does not match; restore a copy or train it again")
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: holds something else than weights, it was not loaded; do not trust it") from error
    except Exception as error:  # torch has no error of its own for what is no checkpoint
        raise DataError(f"{path}: not a readable checkpoint: {_line(error)}; restore a copy") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: not a checkpoint of format {FORMAT!r}; train it again with this version")
    return content, digest.hexdigest()


def _differs(found: Tensor | None, own: Tensor) -> bool:
    """Whether stored numbers are of another type, which torch would convert without a word."""
    return found is not None and found.dtype != own.dtype


def _line(error: Exception) -> str:
    return show(first_line(error), 200)
