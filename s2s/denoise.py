"""Denoise images: a method, loaded by name or from a checkpoint, on images of any size and domain."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2s.checkpoint import BEST, in_use, load_checkpoint
from s2s.domain import RANGE_DB, Domain, Kind, from_scale, to_scale
from s2s.images.image import Stated, find_domain, shown_db, survey
from s2s.methods import METHODS, is_method, make, method_class, split_spec
from s2s.methods.base import Method
from s2s.published import published, weights_of
from usim.errors import ConfigError, DataError, ResourceError, UsimError, first_line
from usim.units import did_you_mean

#: Images of more pixels are cut into tiles: a U-Net of 64 channels takes about 1 kB per pixel.
_TILED_ABOVE = 1 << 20
#: Side of a tile's own part in pixels; the halo comes on top.
_TILE = 768

#: Frames of a clip that a method is fitted to.
FITTED_FRAMES = 4

Box = tuple[slice, slice]


class TooLarge(ResourceError):
    """An image does not fit into memory with this method; others may."""


class Denoiser:
    """A method that is ready for images; `load` makes it.

    name: of the method.  method: the torch module.  checkpoint: sha256 of its file, "" for a filter.  fast: networks
    compute in bfloat16.  fits: its weights are still to be fitted to what it cleans.  watch: told of such a fit which
    share of it is made; what it raises ends it.
    """

    def __init__(
        self, method: Method, *, checkpoint: str = "", device: str = "cpu", fast: bool = False, fits: bool = False
    ) -> None:
        self.method = method.to(device).eval()
        self.name, self.checkpoint, self.device, self.fast = method.name, checkpoint, torch.device(device), fast
        self.fits = fits
        self.watch: Callable[[float], None] = lambda share: None

    @property
    def domain(self) -> str:
        """The scale on which the method works: "db" or "env"."""
        return self.method.domain

    def denoise(
        self, image: NDArray[Any], domain: Kind | Domain, dynamic_range: float = RANGE_DB, *, strength: float = 1.0
    ) -> NDArray[np.floating[Any]]:
        """Return an image (H, W), or a clip (N, H, W), without speckle, on the scale on which it came.

        domain: "log", grey levels that are linear in dB: whole numbers, or floats from 0 to 1 (or 255); "envelope";
        "db"; or a Domain that says which value is white.  dynamic_range: dB between black and white; what is darker
        is taken as black.  strength: from 0, the image as a screen shows it, to 1, what the method makes of it; in
        between y + strength (clean - y) in dB, for every method.

        What belongs to a clip is found once, from all of its frames: white, and the extremes of methods that scale
        by them. Everything else is done for each frame alone, so that equal frames give equal results; but a method
        with several bands sees each frame with those that follow it, after the last comes the first.

        Raises DataError for an image that is no image or not of the domain, ResourceError when memory ends.

        >>> s2s.load("nlm").denoise(image, domain="log", dynamic_range=50.0)  # doctest: +SKIP
        """
        if np.ma.is_masked(image):
            raise DataError("image: some pixels are masked, which no method knows; fill them, image.filled(value)")
        if not domain:
            raise ConfigError("domain: say what the numbers are: log, envelope, db, or a Domain")
        refuse_strength(strength)
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
        extremes, ready = self.extremes(frames, domain), self.fitted(frames, domain)
        clean = np.empty(frames.shape, _precision(image.dtype))
        for index, frame in enumerate(frames):
            beside = [frames[k] for k in self.method.bands.after(index, len(frames))]
            clean[index] = ready.denoise_frame(frame, domain, beside=beside, strength=strength, extremes=extremes)
        return clean.reshape(image.shape)

    def extremes(self, frames: Iterable[NDArray[Any]], domain: Domain) -> tuple[float, float] | None:
        """Return the darkest and the brightest of a clip's frames (H, W) on the method's scale.

        None for a method whose output does not depend on them; the frames are then not looked at.
        """
        if not self.method.scales_by_extremes:
            return None
        ranges = [(float(frame.min()), float(frame.max())) for frame in frames]
        ends = np.array([[min(low for low, _ in ranges), max(high for _, high in ranges)]])
        darkest, brightest = to_scale(shown_db(ends, domain), self.method.domain)[0]
        return float(darkest), float(brightest)

    def fitted(self, frames: Sequence[NDArray[Any]], domain: Domain) -> Denoiser:
        """Return a denoiser fitted to frames (H, W) that belong together, a few of them; this one if it needs no fit.

        Raises DataError when the fit fails.
        """
        if not self.fits or (len(frames) > 1 and self.method.holds_image):
            return self
        from s2s.fitting import fitted

        if self.method.halo is None:
            _refuse_size(frames[0].shape, self.method, self.device)
        images = [shown_db(frames[index], domain) for index in spread(len(frames))]
        method = fitted(self.method, images, device=str(self.device), watch=self.watch)
        return Denoiser(method, device=str(self.device), fast=self.fast)

    def denoise_frame(
        self,
        frame: NDArray[Any],
        domain: Domain,
        *,
        beside: Sequence[NDArray[Any]] = (),
        strength: float = 1.0,
        extremes: tuple[float, float] | None = None,
    ) -> NDArray[np.floating[Any]]:
        """Return one checked image (H, W) without speckle, on its own scale.

        A method that is fitted to images is fitted to this one, unless `fitted` has done so.
        beside: the further bands (H, W), for a method that sees several.  strength: see `denoise`.  extremes: of the
        clip that the image belongs to; None for those of the image itself.
        Large images are done in tiles whose seams do not show; memory is then that of a tile, and of the result.
        """
        if self.fits:
            return self.fitted([frame], domain).denoise_frame(frame, domain, strength=strength, extremes=extremes)
        clean = np.empty(frame.shape, _precision(frame.dtype))
        bands = self._bands(frame, beside)
        for seen, kept, place in self._tiles(frame.shape):
            try:
                decibel = self._clean_db(shown_db(bands[:, *seen], domain), strength, extremes)
            except (MemoryError, RuntimeError) as error:
                refusal = _refusal(error, frame.shape, self.name)
                if refusal is None:
                    raise
                raise refusal from error
            clean[place] = domain.from_db(decibel[kept])
        return clean

    @property
    def tells(self) -> bool:
        """Whether the method tells more than the image."""
        return type(self.method).extras is not Method.extras

    def tell(
        self, frame: NDArray[Any], domain: Domain, *, beside: Sequence[NDArray[Any]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """Return what else the method tells of an image (H, W), such as a map of its noise: arrays (H, W) in dB.

        beside: see `denoise_frame`.
        Raises ResourceError for an image that is too large: it is not cut into tiles.
        """
        _refuse_size(frame.shape, self.method, self.device)
        noisy = shown_db(self._bands(frame, beside), domain)
        values = torch.from_numpy(to_scale(noisy, self.method.domain)).float().to(self.device)
        return {name: found[0, 0].cpu().numpy() for name, found in self.method.tell(values[None]).items()}

    def run(self, values: torch.Tensor, extremes: tuple[float, float] | None = None) -> torch.Tensor:
        """Return clean images (B, 1, H, W) of noisy ones (B, bands, H, W), on the method's scale and its device."""
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.fast):
            return self.method.denoise(values, extremes).float()

    def _bands(self, frame: NDArray[Any], beside: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The images (bands, H, W) that the method is to see at once; raises DataError where they can't be."""
        bands = self.method.bands
        if len(beside) + 1 != bands.count:
            raise DataError(
                f"image: {len(beside) + 1} of the {bands} that {self.name} sees at once; give them all, as a clip"
            )
        for other in beside:
            if other.shape != frame.shape:
                raise DataError(f"image: {bands} of {frame.shape} and {other.shape} pixels; they must be of one size")
        return np.stack([frame, *beside])

    def _clean_db(
        self, noisy: NDArray[np.float64], strength: float, extremes: tuple[float, float] | None
    ) -> NDArray[np.float64]:
        """What is made of the first of images (bands, H, W) in dB."""
        values = torch.from_numpy(to_scale(noisy, self.method.domain)).float().to(self.device)
        clean = self.run(values[None], extremes)[0, 0].cpu().double().numpy()
        if not np.isfinite(clean).all():
            raise DataError(f"{self.name}: its output is not finite; the checkpoint or a setting is not usable")
        decibel: NDArray[np.float64] = from_scale(clean, self.method.domain)
        return decibel if strength == 1.0 else noisy[0] + strength * (decibel - noisy[0])

    def _tiles(self, shape: tuple[int, ...]) -> Iterator[tuple[Box, Box, Box]]:
        """Yield what a method sees of an image (H, W), what is kept of its output, and where that goes."""
        height, width = shape
        if self.method.halo is None:
            _refuse_size(shape, self.method, self.device)
        if self.method.halo is None or height * width <= _TILED_ABOVE:
            whole = (slice(None), slice(None))
            yield whole, whole, whole
            return
        multiple = self.method.multiple
        halo = -(-self.method.halo // multiple) * multiple
        for top, bottom in _parts(height, multiple):
            for left, right in _parts(width, multiple):
                above, before = max(top - halo, 0), max(left - halo, 0)
                yield (
                    (slice(above, bottom + halo), slice(before, right + halo)),
                    (slice(top - above, bottom - above), slice(left - before, right - before)),
                    (slice(top, bottom), slice(left, right)),
                )

    def describe(self) -> dict[str, str]:
        """Return what made an image: method, its settings as JSON, and the checkpoint's sha256 ("" for a filter)."""
        settings = json.dumps(dict(self.method.settings), sort_keys=True, default=str)
        return {"method": self.name, "settings": settings, "checkpoint_sha256": self.checkpoint}

    def __repr__(self) -> str:
        return f"<s2s.Denoiser: {self.name}{f', checkpoint {self.checkpoint[:12]}' if self.checkpoint else ''}>"


def load(spec: str | os.PathLike[str], *, device: str = "cpu", fast: bool = False) -> Denoiser:
    """Make a denoiser from a checkpoint, the folder of a training (its best.pt), published weights, or a filter.

    spec: a path that exists; a name of weights that come with the package, such as "default"; either with settings of
    use (`Method.IN_USE`), such as "runs/r2d2:samples=8"; or a filter with settings such as "lee:window=9" or
    "nlm:preset=toy".
    device: where to compute: "cpu", "cuda", "cuda:1", "mps", or "auto", the GPU when there is one.
    fast: a network computes in bfloat16, 1.6 to 3 times as fast where the device knows it, and less exact, see
    docs/performance.md.

    Raises ConfigError for an unknown name, setting or device, or a name that needs weights; DataError for a checkpoint
    that is missing, damaged or not one.

    >>> load("gaussian:sigma=2").name
    'gaussian'
    """
    device = find_device(device)
    path, text = Path(spec), os.fspath(spec)
    name, settings_text = split_spec(text)
    if text and (found := _checkpoint_at(path)):
        return _from_checkpoint(found, device, fast)
    before, _, behind = text.rpartition(":")
    if before and "=" in behind:
        found = weights_of(before) if before in published() else _checkpoint_at(Path(before))
        if found:
            return _from_checkpoint(found, device, fast, _settings(behind, text))
    if text and path.is_dir() and not is_method(name) and text not in published():
        raise DataError(f"{path}: no {BEST} in this folder; name one that s2s train wrote, or a checkpoint")
    if isinstance(spec, os.PathLike) or os.sep in name or path.suffix in (".pt", ".pth", ".ckpt", ".safetensors"):
        raise DataError(f"{path}: no such checkpoint; name one that s2s train wrote, or a filter (see s2s methods)")
    if text in published():
        return _from_checkpoint(weights_of(text), device, fast)
    if not is_method(name):
        known = tuple(dict.fromkeys((*published(), *METHODS)))
        raise ConfigError(
            f"model: {text!r} is unknown{did_you_mean(text, known)}; allowed are {', '.join(known)}, or a path"
        )
    kind = method_class(name)
    settings = _settings(settings_text, text)
    method = make(name, settings.pop("preset", "default"), **settings)
    if kind.needs and not method.fit_steps:
        raise ConfigError(
            f"{name}: learns, and has no weights by its name alone; name its checkpoint, take weights that come with "
            f"the package ({', '.join(published())}), or train: s2s train --sim --method {shlex.quote(name)}"
        )
    if fast and not kind.needs:
        raise ConfigError(f"fast: {name} is a filter, which has one precision; leave it out")
    return Denoiser(method, device=device, fast=fast, fits=method.fit_steps > 0)


def _checkpoint_at(path: Path) -> Path | None:
    """The file of weights that a path names, a file or the folder of a training; None where there is none."""
    return next((file for file in (path, path / BEST) if file.is_file()), None)


def _from_checkpoint(path: Path, device: str, fast: bool, settings: Mapping[str, Any] | None = None) -> Denoiser:
    checkpoint = load_checkpoint(path)
    method = in_use(checkpoint.method, settings) if settings else checkpoint.method
    # Channels last: 1.05 times as fast for Speckle2Self with BatchNorm, 1.4 for U-Nets (benchmarks/denoise.py),
    # the same to 0.0003 dB; with InstanceNorm, whose kernel copies them back, a tenth slower.
    if not any(isinstance(module, torch.nn.InstanceNorm2d) for module in method.modules()):
        method = method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Denoiser(method, checkpoint=checkpoint.sha256, device=device, fast=fast)


def _settings(text: str, spec: str) -> dict[str, Any]:
    """Return {"window": 9, "looks": 2.0} of "window=9,looks=2.0", the end of "lee:window=9,looks=2.0"."""
    return dict(setting(pair, spec, "NAME:KEY=VALUE,KEY=VALUE") for pair in text.split(",") if pair.strip())


def setting(text: str, where: str, form: str) -> tuple[str, Any]:
    """Return ("window", 9) of "window=9", values with commas as a tuple.

    where, form: told in the ConfigError for anything else.
    """
    key, _, value = (part.strip() for part in text.partition("="))
    if not key or not value:
        raise ConfigError(f"{where}: {text!r} is no setting; write {form}")
    return key, tuple(map(_value_of, value.split(","))) if "," in value else _value_of(value)


def _value_of(text: str) -> Any:
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


def spread(count: int) -> list[int]:
    """Return which of `count` frames a method is fitted to: all of few, and the first, the last and some of many.

    >>> spread(2), spread(100)
    ([0, 1], [0, 33, 66, 99])
    """
    return sorted(set(np.linspace(0, count - 1, min(count, FITTED_FRAMES)).astype(int).tolist()))


def refuse_strength(strength: float) -> None:
    """Raise ConfigError for what is not from 0 to 1."""
    if not 0.0 <= strength <= 1.0:
        raise ConfigError(f"strength: {strength:g}; allowed are 0, the image itself, to 1, all that the method removes")


def find_device(asked: str) -> str:
    """Return the device to compute on; "auto" is the GPU when there is one. Raises ConfigError for one that is not."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    refuse_device(asked)
    return asked


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


def _precision(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """The floats that hold an image of this type."""
    return np.float64 if dtype.itemsize > (4 if dtype.kind == "f" else 2) else np.float32


def _refuse_size(shape: tuple[int, ...], method: Method, device: torch.device) -> None:
    """Raise TooLarge before the system kills a process that sees too many pixels at once."""
    needed, free = shape[0] * shape[1] * method.bytes_per_pixel, _free_bytes()
    if device.type == "cpu" and needed > free:
        raise TooLarge(
            f"{method.name}: sees {shape[0]} x {shape[1]} pixels at once, which takes {needed / 1e9:.1f} GB of memory, "
            f"and {free / 1e9:.1f} GB are free; cut the image, or take a method that can work in tiles"
        )


def _free_bytes() -> float:
    """Return the bytes of memory that can be had without swapping; infinity where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), float("inf"))


def _refusal(error: BaseException, shape: tuple[int, ...], name: str) -> UsimError | None:
    """Return the error of ours for one of torch's, or None for a bug."""
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words:
        return TooLarge(
            f"{name}: out of memory at {shape[0]} x {shape[1]} pixels; cut the image, or use another device"
        )
    return None
