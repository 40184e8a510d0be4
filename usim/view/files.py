"""Pictures and movies as files: which kinds there are, how they are encoded, and that they appear whole."""

from __future__ import annotations

import contextlib
import io
import itertools
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from usim.errors import ConfigError, ResourceError
from usim.io.atomic import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STILLS = (".png", ".jpg", ".pdf", ".svg")
MOVIES = (".gif", ".mp4")
#: GIF counts hundredths of a second, and programs slow down what asks for less than two of them.
GIF_TICKS, GIF_MOST_FPS = 100, 50
MP4_MOST_FPS = 1000
LEAST_FPS = 0.1
_DPI = 110

Grey = NDArray[np.uint8]


def is_movie(path: Path) -> bool:
    """True when the name says that it moves."""
    return path.suffix.lower() in MOVIES


def check_target(path: Path, allowed: tuple[str, ...] = STILLS) -> None:
    """Refuse before any work what could not be written: ConfigError for the kind, ResourceError for the folder."""
    if path.suffix.lower() not in allowed:
        kind = f"of type '{path.suffix}'" if path.suffix else "without an ending"
        raise ConfigError(f"{path}: a picture cannot be {kind}; use {', '.join(allowed[:-1])} or {allowed[-1]}")
    if path.is_dir():
        raise ResourceError(f"{path}: cannot write: a folder is in the way; choose another name with -o")
    if not path.parent.is_dir():
        raise ResourceError(f"{path}: cannot write: no such folder; make it, or choose another place with -o")
    if path.suffix.lower() == ".mp4":
        ffmpeg(path)


def save_figure(figure: Figure, target: Path) -> None:
    """Write a figure to a still; ConfigError for an unknown kind, ResourceError when it can't be written."""
    check_target(target)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=target.suffix[1:].lower(), dpi=_DPI, bbox_inches="tight")
    write_atomic(target, buffer.getvalue())


def save_movie(images: Iterable[Grey], target: Path, fps: float) -> None:
    """Write grey images (H, W), all of one size, as a movie of `fps` images per second.

    Raises ConfigError for an unknown kind or a rate that it cannot have, ResourceError when it can't be written.
    """
    check_target(target, MOVIES)
    data = encode_gif(images, fps) if target.suffix.lower() == ".gif" else encode_mp4(images, fps, target)
    write_atomic(target, data)


def encode_gif(images: Iterable[Grey], fps: float) -> bytes:
    """Return the GIF of grey images (H, W): every level as it is, endless; durations are right in their sum.

    Raises ConfigError for a rate outside GIF's.

    >>> encode_gif([np.zeros((4, 4), np.uint8)], 10.0)[:6]
    b'GIF89a'
    """
    from PIL import Image

    if not LEAST_FPS <= fps <= GIF_MOST_FPS:
        raise ConfigError(
            f"--fps: {fps:g}: a GIF shows {LEAST_FPS} to {GIF_MOST_FPS} images per second; write .mp4 for more"
        )
    pictures = [Image.fromarray(image) for image in images]
    ticks = np.diff(np.round(np.arange(len(pictures) + 1) * GIF_TICKS / fps)).astype(int)
    buffer = io.BytesIO()
    durations = [int(tick) * 1000 // GIF_TICKS for tick in ticks]
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return buffer.getvalue()


def encode_mp4(images: Iterable[Grey], fps: float, target: Path = Path("movie.mp4")) -> bytes:
    """Return the H.264 movie of grey images (H, W), padded to even sizes with white, as players need them.

    target: what an error names.  Raises ConfigError without ffmpeg or for an unusable rate, ResourceError when ffmpeg
    fails.
    """
    if not LEAST_FPS <= fps <= MP4_MOST_FPS:
        raise ConfigError(f"--fps: {fps:g} is not between {LEAST_FPS} and {MP4_MOST_FPS} images per second")
    program = ffmpeg(target)
    even = (np.pad(image, [(0, size % 2) for size in image.shape], constant_values=255) for image in images)
    first = next(even)
    form = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{first.shape[1]}x{first.shape[0]}", "-r", f"{fps:.9g}"]
    coded = ["-c:v", "libx264", "-crf", "16", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-bitexact"]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        path = Path(folder) / "movie.mp4"
        command = [program, "-loglevel", "error", *form, "-i", "-", *coded, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as process:
            feed(process, (image.tobytes() for image in itertools.chain([first], even)))
        if process.returncode:
            said.seek(0)
            reason = (said.read().decode(errors="replace").strip().splitlines() or ["it says nothing"])[-1]
            raise ResourceError(f"{target}: ffmpeg failed: {reason}; free some space, or write a .gif")
        return path.read_bytes()


def feed(process: subprocess.Popen[bytes], parts: Iterable[bytes]) -> None:
    """Write parts to a program's input and close it; the program is ended when a part can't be made."""
    assert process.stdin is not None
    try:
        for part in parts:
            process.stdin.write(part)
    except BrokenPipeError:
        pass  # it has ended, and said why
    except BaseException:
        process.kill()
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def ffmpeg(target: Path) -> str:
    """Return the path of the program; ConfigError, naming the extra, where it is missing.  target: what needs it."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ModuleNotFoundError, RuntimeError) as error:
        raise ConfigError(
            f"{target}: movies need ffmpeg; run: pip install 'usim-s2s[video]'; a .gif needs none"
        ) from error
