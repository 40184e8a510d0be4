"""Denoise images: a method, loaded by name or from a checkpoint, on images of any size and domain."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2s.checkpoint import BEST, load_checkpoint
from s2s.domain import RANGE_DB, Domain, Kind, from_scale, to_scale
from s2s.images.image import Stated, find_domain, shown_db, survey
from s2s.methods import METHODS, make, method_class
from s2s.methods.base import Method
from usim.errors import ConfigError, DataError, ResourceError, UsimError, first_line

#: Images of more pixels are cut into tiles: a U-Net of 64 channels takes about 1 kB per pixel.
_TILED_ABOVE = 1 << 20
#: Side of a tile's own part in pixels; the halo comes on top.
_TILE = 768


class Denoiser:
    """A method that is ready for images; `load` makes it.

    name: of the method.  method: the torch module.  checkpoint: sha256 of its file, "" for a filter.
    """

    def __init__(self, method: Method, *, checkpoint: str = "", device: str = "cpu") -> None:
        self.method = method.to(device).eval()
        self.name, self.checkpoint, self.device = method.name, checkpoint, torch.device(device)

    @property
    def domain(self) -> str:
        """The scale on which the method works: "db" or "env"."""
        return self.method.domain

    def denoise(
        self, image: NDArray[Any], domain: Kind | Domain, dynamic_range: float = RANGE_DB
    ) -> NDArray[np.floating[Any]]:
        """Return an image (H, W), or images (N, H, W), without speckle, on the scale on which it came.

        domain: "log", grey levels that are linear in dB: whole numbers, or floats from 0 to 1 (or 255); "envelope";
        "db"; or a Domain that says which value is white.  dynamic_range: dB between black and white; what is darker
        is taken as black.

        Raises DataError for an image that is no image or not of the domain, ResourceError when memory ends.

        >>> s2s.load("nlm").denoise(image, domain="log", dynamic_range=50.0)  # doctest: +SKIP
        """
        if np.ma.is_masked(image):
            raise DataError("image: some pixels are masked, which no method knows; fill them, image.filled(value)")
        if not domain:
            raise ConfigError("domain: say what the numbers are: log, envelope, db, or a Domain")
        image = np.asarray(image)
        if image.dtype.kind not in "fiu" or image.ndim not in (2, 3) or not image.size:
            raise DataError(
                f"image: shape {image.shape} of {image.dtype}; allowed are floats or whole numbers (H, W) or (N, H, W)"
            )
        frames = image[None] if image.ndim == 2 else image
        ranges = [survey(frame, f"image {index}" if image.ndim == 3 else "image") for index, frame in enumerate(frames)]
        if not isinstance(domain, Domain):
            low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
            domain, _ = find_domain(image.dtype, low, high, Stated(domain, dynamic_range), "image")
        wide = image.dtype.itemsize > (4 if image.dtype.kind == "f" else 2)
        clean = np.empty(frames.shape, np.float64 if wide else np.float32)
        for index, frame in enumerate(frames):
            clean[index] = self.denoise_frame(frame, domain)
        return clean.reshape(image.shape)

    def denoise_frame(self, frame: NDArray[Any], domain: Domain) -> NDArray[np.float64]:
        """Return one checked image (H, W) without speckle, on its own scale."""
        values = torch.from_numpy(to_scale(shown_db(frame, domain), self.method.domain)).float().to(self.device)
        try:
            clean = self._whole_or_tiled(values[None, None])[0, 0].cpu().double().numpy()
        except (MemoryError, RuntimeError) as error:
            refusal = _refusal(error, frame.shape, self.name)
            if refusal is None:
                raise
            raise refusal from error
        if not np.isfinite(clean).all():
            raise DataError(f"{self.name}: its output is not finite; the checkpoint or a setting is not usable")
        result: NDArray[np.float64] = domain.from_db(from_scale(clean, self.method.domain))
        return result

    def _whole_or_tiled(self, values: torch.Tensor) -> torch.Tensor:
        height, width = values.shape[-2:]
        if self.method.halo is None or height * width <= _TILED_ABOVE:
            return self.method.denoise(values)
        multiple = self.method.multiple
        halo = -(-self.method.halo // multiple) * multiple
        clean = torch.empty_like(values)
        for top, bottom in _parts(height, multiple):
            for left, right in _parts(width, multiple):
                above, before = max(top - halo, 0), max(left - halo, 0)
                part = self.method.denoise(values[..., above : bottom + halo, before : right + halo])
                clean[..., top:bottom, left:right] = part[
                    ..., top - above : bottom - above, left - before : right - before
                ]
        return clean

    def describe(self) -> dict[str, str]:
        """Return what made an image: method, its settings as JSON, and the checkpoint's sha256 ("" for a filter)."""
        settings = json.dumps(dict(self.method.settings), sort_keys=True, default=str)
        return {"method": self.name, "settings": settings, "checkpoint_sha256": self.checkpoint}

    def __repr__(self) -> str:
        return f"<s2s.Denoiser: {self.name}{f', checkpoint {self.checkpoint[:12]}' if self.checkpoint else ''}>"


def load(spec: str | os.PathLike[str], *, device: str = "cpu") -> Denoiser:
    """Make a denoiser from a checkpoint, from the folder of a training (its best.pt), or from the name of a filter.

    spec: a path that exists, or a name with settings such as "lee:window=9" or "nlm:preset=toy".
    device: where to compute: "cpu", "cuda", "cuda:1", "mps".

    Raises ConfigError for an unknown name, setting or device, or a name that needs weights; DataError for a checkpoint
    that is missing, damaged or not one.

    >>> load("gaussian:sigma=2").name
    'gaussian'
    """
    refuse_device(device)
    path, text = Path(spec), os.fspath(spec)
    name = text.partition(":")[0]
    best = path / BEST
    if text and (path.is_file() or best.is_file()):
        return _from_checkpoint(best if path.is_dir() else path, device)
    if text and path.is_dir() and name not in METHODS:
        raise DataError(f"{path}: no {BEST} in this folder; name one that s2s train wrote, or a checkpoint")
    if isinstance(spec, os.PathLike) or os.sep in name or path.suffix in (".pt", ".pth", ".ckpt", ".safetensors"):
        raise DataError(f"{path}: no such checkpoint; name one that s2s train wrote, or a filter (see s2s methods)")
    kind = method_class(name)
    settings = _settings(text)
    method = make(name, settings.pop("preset", "default"), **settings)
    if kind.needs and not method.fit_steps:
        raise ConfigError(
            f"{name}: learns, and has no weights by its name alone; name its checkpoint, or train one: "
            f"s2s train --sim --method {name} -o runs/{name}"
        )
    return Denoiser(method, device=device)


def _from_checkpoint(path: Path, device: str) -> Denoiser:
    checkpoint = load_checkpoint(path)
    return Denoiser(checkpoint.method, checkpoint=checkpoint.sha256, device=device)


def _settings(spec: str) -> dict[str, Any]:
    """Return {"window": 9, "looks": 2.0} of "lee:window=9,looks=2.0"."""
    _, _, text = spec.partition(":")
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    for key, sign, value in pairs:
        if not sign or not key.strip() or not value.strip():
            raise ConfigError(f"{spec}: {(key + sign + value)!r} is no setting; write NAME:KEY=VALUE,KEY=VALUE")
    return {key.strip(): value_of(value.strip()) for key, _, value in pairs}


def value_of(text: str) -> Any:
    """Return a setting as written on a command line: true, false, none, a number, or the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def refuse_device(device: str) -> None:
    """Raise ConfigError when torch can't compute there."""
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device: {device!r} can't be used here: {first_line(error)}; use cpu") from error


def _parts(side: int, multiple: int) -> list[tuple[int, int]]:
    """Cut a side into parts of about equal length; they begin where strides of `multiple` do."""
    count = -(-side // _TILE)
    step = -(-side // (count * multiple)) * multiple
    return [(start, min(start + step, side)) for start in range(0, side, step)]


def _refusal(error: BaseException, shape: tuple[int, ...], name: str) -> UsimError | None:
    """Return the error of ours for one of torch's, or None for a bug."""
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words:
        return ResourceError(
            f"{name}: out of memory at {shape[0]} x {shape[1]} pixels; cut the image, or use another device"
        )
    return None
