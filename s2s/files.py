"""Denoise files: where each output goes, every refusal before the first is written, and one line for each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from s2s.denoise import Denoiser
from s2s.images import READERS, Image, Stated, open_image
from usim.errors import ConfigError
from usim.io.atomic import make_folder

#: Opened images are kept from the check to their turn while they fit this many bytes; later ones are opened again.
_KEPT_BYTES = 256 << 20
#: Seconds between signs of life from a file of many frames.
_LINE_EVERY_S = 5.0


def denoise_files(
    inputs: Sequence[Path],
    denoiser: Denoiser,
    output: str | None = None,
    *,
    stated: Stated,
    force: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Path, str]]:
    """Denoise files one after the other; yields each finished output and what it took.

    output: see `targets`.  stated: what the numbers of all inputs are.  force: replace outputs that exist.
    tell: gets a line for every assumption, and now and then one that shows life.  check: raises to end the work between
    two frames.

    Raises ConfigError, DataError or ResourceError; all inputs are checked before the first output is written, and
    what was finished before an error stays.
    """
    places = targets(inputs, output, force=force)
    kept, size = [], 0
    for source in inputs:
        check()
        image = open_image(source, stated)
        size += getattr(image.frames, "nbytes", 0)
        kept.append(image if size <= _KEPT_BYTES else None)
    for source, target in zip(inputs, places, strict=True):
        image = kept.pop(0) or open_image(source, stated)
        if image.note:
            tell(image.note)
        make_folder(target.parent)
        start = time.perf_counter()
        pixels = _denoise(image, denoiser, source, target, tell, check)
        yield target, _summary(image, pixels, time.perf_counter() - start)


def targets(inputs: Sequence[Path], output: str | None, *, force: bool = False) -> list[Path]:
    """Return where the output of every input goes: scan.png becomes scan.denoised.png.

    output: None for beside the input; a file for one input; a folder, made when it is needed: one that exists, or a
    name that ends with a slash or has no ending, and always for several inputs.

    Raises ConfigError when an output would replace an input, another output, or, unless force, any file.
    """
    into = output is not None and (
        len(inputs) > 1 or output.endswith(("/", os.sep)) or Path(output).is_dir() or not Path(output).suffix
    )
    if into and Path(str(output)).is_file():
        raise ConfigError(f"{output}: a file is in the way of a folder for {len(inputs)} outputs; name a folder")
    places: list[Path] = []
    for source in inputs:
        suffix = ".h5" if source.is_dir() else source.suffix
        if output is not None and not into:
            place = Path(output)
            if place.suffix.lower() != suffix.lower() and suffix.lower() in READERS:
                raise ConfigError(f"{place}: the output has the format of its input; name it {place.stem}{suffix}")
        else:
            stem = source.resolve().name if source.is_dir() else source.stem
            place = (Path(str(output)) if into else source.parent) / f"{stem}.denoised{suffix}"
        if any(place.resolve() == other.resolve() for other in inputs):
            raise ConfigError(f"{place}: this would replace an input; choose another output")
        if place in places:
            raise ConfigError(f"{place}: two inputs have this output; denoise them into folders of their own")
        if place.is_dir() or (place.exists() and not force):
            raise ConfigError(f"{place}: exists already; choose another output, or replace it with --force")
        places.append(place)
    return places


def _denoise(
    image: Image, denoiser: Denoiser, source: Path, target: Path, tell: Callable[[str], None], check: Callable[[], None]
) -> int:
    """Write the output; returns how many pixels it has."""
    pixels, last = 0, time.perf_counter()

    def clean() -> Iterator[NDArray[Any]]:
        nonlocal pixels, last
        for index, frame in enumerate(image.frames):
            check()
            yield denoiser.denoise_frame(frame, image.domain)
            pixels += frame.size
            if time.perf_counter() - last > _LINE_EVERY_S and index + 1 < len(image.frames):
                last = time.perf_counter()
                tell(f"{source}: {index + 1}/{len(image.frames)} frames")

    image.write(target, clean(), {**denoiser.describe(), "input": source.resolve().name})
    return pixels


def _summary(image: Image, pixels: int, seconds: float) -> str:
    count = len(image.frames)
    frames = f"{count} frames, " if count > 1 else ""
    return (
        f"{frames}{pixels / 1e6:.2f} Mpixel, {seconds * 1e3:.0f} ms, {pixels / 1e6 / max(seconds, 1e-9):.2f} Mpixel/s"
    )
