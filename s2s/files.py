"""Denoise files: where each output goes, every refusal before the first is written, and one line for each."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2s.alike import frames_beside
from s2s.denoise import Denoiser, TooLarge, refuse_strength, spread
from s2s.folders import DENOISED, RESIDUAL, Found, find
from s2s.images import READERS, Image, Stated, open_image
from s2s.images.image import shown_db
from s2s.methods import METHODS, method_class
from s2s.methods.bands import Bands
from s2s.methods.base import Method
from usim.errors import ConfigError, DataError
from usim.io.atomic import make_folder, no_room, write_atomic

#: Opened images are kept from the check to their turn while they fit this many bytes; later ones are opened again.
_KEPT_BYTES = 256 << 20
#: Share of the work that the fit to a clip is.
_FIT = 0.9


@dataclass(frozen=True)
class Finish:
    """How much of the speckle goes, and what is made of the rest.

    strength: from 0, nothing goes, to 1, all that the method takes for speckle.  residual: also write what was removed.
    gamma: of grey levels for display, v^(1 / gamma) with white = 1, applied last; None for none.  extras: also write
    what else the method tells.
    """

    strength: float = 1.0
    residual: bool = False
    gamma: float | None = None
    extras: bool = False

    def __post_init__(self) -> None:
        refuse_strength(self.strength)
        if self.gamma is not None and not 0.2 <= self.gamma <= 5.0:
            raise ConfigError(f"gamma: {self.gamma:g}; allowed are 0.2 to 5")


class Progress(NamedTuple):
    """How far the work is: the image that is at work, how many were finished, and the same of its frames.

    fitted: share of the fit to this frame that is made, by a method that is fitted to what it cleans; or of the fit to
    the whole clip, where `together`.
    """

    source: Path
    done: int
    images: int
    frame: int
    frames: int
    fitted: float = 0.0
    together: bool = False

    @property
    def share(self) -> float:
        """Which part of the work is done, all images taken as equal; fits are nearly all of it."""
        if self.together:
            return (self.done + _FIT * self.fitted + (1.0 - _FIT) * self.frame / self.frames) / self.images
        return (self.done + (self.frame + self.fitted) / self.frames) / self.images


def denoise_files(
    inputs: Sequence[Path],
    denoiser: Denoiser,
    output: str | None = None,
    *,
    stated: Stated,
    finish: Finish = Finish(),  # frozen
    force: bool = False,
    skip_existing: bool = False,
    tell: Callable[[str], None] = lambda text: None,
    progress: Callable[[Progress], None] = lambda state: None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Path, str]]:
    """Denoise files one after the other; yields each finished output and what it took, or what is in a residual.

    inputs: files, folders that usim wrote, and folders of images, which are walked to the bottom.  output: see
    `targets`.  stated: what the numbers of all inputs are.  force: replace outputs that exist.  skip_existing: leave
    inputs out whose outputs exist.  tell: gets a line for every assumption, and for what is left out.  progress: hears
    of every frame.  check: raises to end the work between two frames.

    Raises ConfigError, DataError or ResourceError. All inputs that were named are checked before the first output is
    written; of a folder, what can't be denoised is left out, and named in a DataError when the others are done. What
    was finished before an error stays.
    """
    if finish.extras and not denoiser.tells:
        able = [name for name in METHODS if method_class(name).extras is not Method.extras]
        raise ConfigError(
            f"--extras: {denoiser.name} tells nothing beside the image; leave it out ({', '.join(able)} do)"
        )
    items = find(inputs, tell)
    places = targets(items, output, force=force or skip_existing, residual=finish.residual, extras=finish.extras)
    kept = _check_named(items, stated, finish, denoiser.method.bands, check)
    lost: list[str] = []
    for number, (item, target) in enumerate(zip(items, places, strict=True)):
        if skip_existing and all(path.exists() for path in beside(target, finish)):
            tell(f"{target}: exists already, left as it is")
            continue
        try:
            image = kept.pop(number, None) or open_image(item.source, stated)
            refuse_gamma(item.source, image, finish)
            beside_each = frames_beside(item.source, image, denoiser.method.bands)
            if image.note:
                tell(image.note)
            if denoiser.fits:
                tell(f"{item.source}: {denoiser.name} is fitted to it, in {denoiser.method.fit_steps} steps")
            make_folder(target.parent)
            start = time.perf_counter()
            state = Progress(item.source, number, len(items), 0, len(image.frames))
            work = _Work(image, beside_each, denoiser, finish, state, progress, check)
            pixels = work.write(target)
            yield target, _summary(image, pixels, time.perf_counter() - start)
            if finish.residual:
                yield residual_of(target), work.scale()
            if finish.extras:
                yield extras_of(target), work.tell(extras_of(target))
        except (DataError, TooLarge) as error:
            if item.named:
                raise
            lost.append(str(error))
            tell(f"left out: {error}")
    if lost:
        reasons = "\n  ".join(lost)
        raise DataError(f"{len(lost)} of {len(items)} images were not denoised, the others were:\n  {reasons}")


def targets(
    items: Sequence[Found | Path],
    output: str | None,
    *,
    force: bool = False,
    residual: bool = False,
    extras: bool = False,
) -> list[Path]:
    """Return where the output of every input goes: scan.png becomes scan.denoised.png.

    output: None for beside the input; a file for one input; a folder, made when it is needed: one that exists, or a
    name that ends with a slash or has no ending, and always for several inputs and for what was found in a folder,
    which keeps its place in it.  residual, extras: there is one more file for each, see `residual_of`, `extras_of`.

    Raises ConfigError when an output would replace an input, another output, or, unless force, any file.
    """
    found = [item if isinstance(item, Found) else Found(item) for item in items]
    into = output is not None and (
        len(found) > 1
        or not all(item.named for item in found)
        or output.endswith(("/", os.sep))
        or Path(output).is_dir()
        or not Path(output).suffix
    )
    if into and Path(str(output)).is_file():
        raise ConfigError(f"{output}: a file is in the way of a folder for {len(found)} outputs; name a folder")
    if into and not Path(str(output)).is_dir() and Path(str(output)).suffix.lower() in READERS:
        raise ConfigError(f"{output}: is the name of one file, and there are several inputs; name a folder")
    sources = {item.source.resolve() for item in found}
    places: list[Path] = []
    taken: set[Path] = set()
    for item in found:
        if output is not None and not into:
            place = Path(output)
            if place.suffix.lower() != item.suffix.lower() and item.suffix.lower() in READERS:
                raise ConfigError(f"{place}: the output has the format of its input; name it {place.stem}{item.suffix}")
        else:
            home = Path(str(output)) / item.within if into else item.source.parent
            place = home / f"{item.stem}{DENOISED}{item.suffix}"
        for path in beside(place, Finish(residual=residual, extras=extras)):
            if path.resolve() in sources:
                raise ConfigError(f"{path}: this would replace an input; choose another output")
            if path in taken:
                raise ConfigError(f"{path}: two inputs have this output; denoise them into folders of their own")
            if path.is_dir() or (path.exists() and not force):
                raise ConfigError(
                    f"{path}: exists already; choose another output, replace it with --force, or leave it with "
                    "--skip-existing"
                )
            taken.add(path)
        places.append(place)
    return places


def beside(target: Path, finish: Finish) -> list[Path]:
    """Return all files that are written of an input, the clean image first."""
    more = [residual_of(target)] * finish.residual + [extras_of(target)] * finish.extras
    return [target, *more]


def extras_of(target: Path) -> Path:
    """Return where what else a method tells goes: scan.extras.npz beside scan.denoised.png."""
    return target.with_name(f"{target.stem.removesuffix(DENOISED)}.extras.npz")


def residual_of(target: Path) -> Path:
    """Return where what was removed goes: scan.residual.png beside scan.denoised.png."""
    return target.with_name(f"{target.stem.removesuffix(DENOISED)}{RESIDUAL}{target.suffix}")


def refuse_gamma(source: Path, image: Image, finish: Finish) -> None:
    """Raise ConfigError for a display curve on numbers that are not for display."""
    if finish.gamma is not None and image.domain.kind != "log":
        raise ConfigError(f"{source}: --gamma is for the display of grey levels, this is {image.domain.kind}; leave it")


def _check_named(
    items: Sequence[Found], stated: Stated, finish: Finish, bands: Bands, check: Callable[[], None]
) -> dict[int, Image]:
    """Open what the user named; returns by number what may stay in memory."""
    kept, size = {}, 0
    for number, item in enumerate(items):
        if not item.named:
            continue
        check()
        image = open_image(item.source, stated)
        refuse_gamma(item.source, image, finish)
        frames_beside(item.source, image, bands)
        size += getattr(image.frames, "nbytes", 0)
        if size <= _KEPT_BYTES:
            kept[number] = image
    return kept


class _Work:
    """One image on its way to its output, and to the file of what was removed.

    beside: numbers of the further bands of each frame.
    """

    def __init__(
        self,
        image: Image,
        beside: Sequence[Sequence[int]],
        denoiser: Denoiser,
        finish: Finish,
        state: Progress,
        progress: Callable[[Progress], None],
        check: Callable[[], None],
    ) -> None:
        self.image, self.denoiser, self.finish = image, denoiser, finish
        self.state, self.progress, self.check = state, progress, check
        self.plain = image.domain.kind == "db" or image.frames[0].dtype.kind == "f"
        self.about = {**denoiser.describe(), "input": state.source.resolve().name, "strength": f"{finish.strength:g}"}
        if finish.gamma is not None:
            self.about["gamma"] = f"{finish.gamma:g}, for display"
        self.beside = beside
        # Frames are bands of several: going back in a movie means to decode it from its start.
        self.frame = lru_cache(2 * denoiser.method.bands.count)(image.frames.__getitem__)
        self.pixels, self.shapes = 0, []
        denoiser.watch = self._watch

    def _watch(self, share: float) -> None:
        self.check()
        self.progress(self.state._replace(fitted=share))
        if self.state.together:
            self.state = self.state._replace(fitted=share)

    def write(self, target: Path) -> int:
        """Write the files; returns how many pixels were denoised."""
        if not self.finish.residual:
            self.image.write(target, self._clean(None), self.about)
            return self.pixels
        try:
            with tempfile.SpooledTemporaryFile(_KEPT_BYTES, dir=target.parent) as removed:
                self.image.write(target, self._clean(removed), self.about)
                removed.seek(0)
                about = {key: text for key, text in self.about.items() if key != "gamma"}
                about["content"] = f"residual: {self.scale()}"
                self.image.write(residual_of(target), self._removed(removed), about)
        except OSError as error:
            raise no_room(residual_of(target), error, 4 * self.pixels) from error
        return self.pixels

    def tell(self, target: Path) -> str:
        """Write what else the method tells, arrays (frames, H, W) in dB of the scan's own area; returns their names."""
        told: dict[str, list[NDArray[np.float32]]] = {}
        for index in range(len(self.image.frames)):
            self.check()
            seen, beside = self.image.inside(self.frame(index)), self._beside(index)
            for name, values in self.denoiser.tell(seen, self.image.domain, beside=beside).items():
                told.setdefault(name, []).append(values)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{name: np.stack(values) for name, values in told.items()})  # type: ignore[arg-type]
        write_atomic(target, buffer.getvalue())
        return f"{', '.join(told)}, in dB"

    def _clean(self, removed: Any) -> Iterator[NDArray[Any]]:
        image, finish = self.image, self.finish
        together = image.clip and len(image.frames) > 1
        extremes = self.denoiser.extremes(map(image.inside, image.frames), image.domain) if together else None
        denoiser = self.denoiser
        if together and denoiser.fits:
            self.state = self.state._replace(together=not denoiser.method.holds_image)
            denoiser = denoiser.fitted([image.inside(image.frames[k]) for k in spread(len(image.frames))], image.domain)
        for index in range(len(image.frames)):
            self.check()
            frame = self.frame(index)
            self.state = self.state._replace(frame=index)
            self.progress(self.state)
            seen = image.inside(frame)
            clean = denoiser.denoise_frame(
                seen, image.domain, beside=self._beside(index), strength=finish.strength, extremes=extremes
            )
            self.pixels += seen.size
            if removed is not None:
                change = self._shown(frame, shown_db(seen, image.domain) - image.domain.to_db(clean.astype(np.float64)))
                self.shapes.append(change.shape)
                removed.write(change.astype(np.float32).tobytes())
            if finish.gamma is not None:
                clean = image.domain.white * (clean / image.domain.white) ** (1.0 / finish.gamma)
            yield image.whole(frame, clean)

    def _beside(self, index: int) -> list[NDArray[Any]]:
        """The further bands of a frame."""
        return [self.image.inside(self.frame(k)) for k in self.beside[index]]

    def _shown(self, frame: NDArray[Any], change: NDArray[np.float64]) -> NDArray[np.float64]:
        """What was removed, in dB, as a picture (H, W); see `scale`."""
        if self.plain:
            return self.image.whole(np.zeros_like(frame), change)
        domain = self.image.domain
        level = domain.white * np.clip(0.5 + change / domain.dynamic_range, 0.0, 1.0)
        return self.image.whole(frame, level)

    def scale(self) -> str:
        """What the numbers of a residual are."""
        domain = self.image.domain
        words = "input minus output in dB"
        if self.plain:
            return words
        return f"{words}; 0 dB is {domain.white / 2:g}, {domain.dynamic_range / domain.white:.4g} dB per grey level"

    def _removed(self, file: Any) -> Iterator[NDArray[Any]]:
        for height, width in self.shapes:
            yield np.frombuffer(file.read(4 * height * width), np.float32).reshape(height, width)


def _summary(image: Image, pixels: int, seconds: float) -> str:
    count = len(image.frames)
    frames = f"{count} frames, " if count > 1 else ""
    return (
        f"{frames}{pixels / 1e6:.2f} Mpixel, {seconds * 1e3:.0f} ms, {pixels / 1e6 / max(seconds, 1e-9):.2f} Mpixel/s"
    )
