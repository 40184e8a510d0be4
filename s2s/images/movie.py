"""MP4, MOV and AVI, through ffmpeg: decoded frame by frame, written once more with little loss, sound and timing kept.

ffmpeg comes with the extra `video`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from s2s.images.image import Image, Stated
from s2s.images.picture import Kind, Pixels, open_picture, refuse_size, software
from usim.errors import DataError, ResourceError
from usim.io.atomic import no_room, partial_path, sync_folder
from usim.view.files import feed, ffmpeg

#: How pixels of a stream are stored, of which 8 bits are all; others have more, or transparency.
_EIGHT_BITS = re.compile(r"gray|yuvj?4[0124]{2}p|nv12|yuyv422|uyvy422|rgb24|bgr24|bgr0|pal8|gbrp")
#: Containers, and how ffmpeg calls them.
_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".avi": "avi"}
#: Codecs of AVI files that lose nothing; they are written again as they were.
_LOSSLESS = ("rawvideo", "huffyuv", "ffvhuff", "ffv1")
#: H.264 at rate factor 12 is within 1 to 2 grey levels of what goes in; Motion JPEG at its best quality too.
_H264 = ("-c:v", "libx264", "-crf", "12", "-preset", "medium")
_MJPEG = ("-c:v", "mjpeg", "-q:v", "1", "-qmin", "1")
#: Timing that is even: the duration may miss frames / rate by this many frames.
_UNEVEN = 1.5


@dataclass(frozen=True)
class Stream:
    """What ffmpeg says of a movie. size: (width, height) as it is shown.  rate: frames per second, as written there.
    codec, pixels: of the video.  bt709: whether its colours follow BT.709.  seconds: its length, nan when unknown."""

    size: tuple[int, int]
    rate: str
    codec: str
    pixels: str
    bt709: bool
    seconds: float


class Clip(Sequence[Pixels]):
    """The frames of a movie: (H, W) when it stores no colour, else (H, W, 3); decoded one after the other.

    A frame before the last one that was asked for makes ffmpeg start again. How many there are is known when all have
    been asked for once.
    """

    def __init__(self, path: Path, program: str, stream: Stream) -> None:
        self.stream = stream
        self._path, self._program = path, program
        self._length: int | None = None
        self._decoder: Iterator[Pixels] = iter(())
        self._at, self._last = -1, np.zeros(0, np.uint8)

    def __len__(self) -> int:
        if self._length is None:
            raise DataError(f"{self._path}: its frames have not been counted")
        return self._length

    def __iter__(self) -> Iterator[Pixels]:
        index = 0
        with contextlib.suppress(IndexError):
            while True:
                yield self[index]
                index += 1

    def __getitem__(self, index: Any) -> Any:
        if index < 0 or (self._length is not None and index >= self._length):
            raise IndexError(index)
        if index < self._at or self._at < 0:
            self._decoder, self._at = self._decoded(), -1
        while self._at < index:
            frame = next(self._decoder, None)
            if frame is None:
                self._length = self._at + 1
                raise IndexError(index)
            self._last, self._at = frame, self._at + 1
        return self._last

    def _decoded(self) -> Iterator[Pixels]:
        width, height = self.stream.size
        grey = self.stream.pixels.startswith("gray")
        shape = (height, width) if grey else (height, width, 3)
        form = ["-map", "0:v:0", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray" if grey else "rgb24"]
        command = [self._program, "-v", "error", "-nostdin", "-i", str(self._path), *form, "-"]
        size = int(np.prod(shape))
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as process,
        ):
            assert process.stdout is not None
            try:
                while len(data := process.stdout.read(size)) == size:
                    yield np.frombuffer(data, np.uint8).reshape(shape)
            finally:
                process.kill() if process.poll() is None and len(data) == size else process.wait()
            reason = _last_line(said)
            if process.returncode or reason or data:
                raise DataError(f"{self._path}: damaged or truncated: {reason or 'it ends early'}; restore a copy")


def read_movie(path: Path, stated: Stated) -> Image:
    """Open a movie; raises DataError when it is damaged, of more than 8 bits, or shows colours only.

    ConfigError without ffmpeg. A rotation that it asks for is applied, and not asked for again.
    """
    program = ffmpeg(path)
    stream = probe(path, program)
    lossless = path.suffix.lower() == ".avi" and stream.codec in _LOSSLESS
    loses = f"its video loses values, and loses once more when it is written, as {_words(path)}"
    clip = Clip(path, program, stream)

    def save(target: Path, made: Iterable[Pixels], text: str) -> None:
        write_movie(target, made, clip.stream, text, source=path, program=program)

    image = open_picture(path, clip, stated, Kind("movie", path.suffix.lower(), "" if lossless else loses), save)
    uneven = abs(len(clip) - stream.seconds * float(stream.rate)) > _UNEVEN
    if not uneven:
        return image
    note = f"{path}: its frames are not evenly timed; they are written at {stream.rate} per second"
    return replace(image, note=f"{image.note}\n{note}".strip())


def write_movie(path: Path, frames: Iterable[Pixels], stream: Stream, text: str, *, source: Path, program: str) -> None:
    """Write frames as a movie like `source`, whose sound, subtitles and texts it keeps.

    text: goes into the tag comment.  Raises ResourceError when the system or ffmpeg refuses.
    """
    grey, (width, height) = stream.pixels.startswith("gray"), stream.size
    form = ["-f", "rawvideo", "-pix_fmt", "gray" if grey else "rgb24", "-s", f"{width}x{height}", "-r", stream.rate]
    others = ["-i", str(source), "-map", "0:v", "-map", "1:a?", "-map", "1:s?", "-c:a", "copy", "-c:s", "copy"]
    about = ["-map_metadata", "1", "-metadata", f"comment={text}", "-metadata", f"encoding_tool={software()}"]
    temporary = partial_path(path)
    container = _FORMATS[source.suffix.lower()]
    command = [program, "-v", "error", "-y", *form, "-i", "-", *others, *_coding(source, stream), *about,
               "-f", container, str(temporary)]  # fmt: skip
    try:
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as process,
        ):
            feed(process, (np.ascontiguousarray(pixels).tobytes() for pixels in frames))
            if process.wait():
                raise ResourceError(f"{path}: ffmpeg failed: {_last_line(said) or 'it says nothing'}; free some space")
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise no_room(path, error, width * height) from error
        raise


def probe(path: Path, program: str) -> Stream:
    """Return what ffmpeg says of a movie's first video; raises DataError when there is none, or none of 8 bits."""
    run = subprocess.run(
        [program, "-hide_banner", "-nostdin", "-i", str(path)],
        capture_output=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = run.stderr.decode(errors="replace")
    line = next((line for line in said.splitlines() if re.search(r"Stream #0.*: Video:", line)), "")
    found = re.search(r"Video: (\w+).*?, (\w+)(?:\([^)]*\))?.*?, (\d+)x(\d+)", line)
    rate = re.search(r"([\d.]+k?) fps", line) or re.search(r"([\d.]+k?) tbr", line)
    if not found or not rate:
        reason = next((text.strip() for text in reversed(said.splitlines()) if str(path) in text), "no video in it")
        raise DataError(f"{path}: damaged, truncated or no movie: {reason}; restore a copy")
    codec, pixels, width, height = found.groups()
    if not _EIGHT_BITS.fullmatch(pixels):
        raise DataError(f"{path}: its pixels are {pixels}; allowed are those of 8 bits; save its frames as PNG or TIFF")
    if turned := re.search(r"rotation of (-?[\d.]+) degrees", said):
        width, height = (height, width) if round(float(turned[1]) / 90) % 2 else (width, height)
    refuse_size(path, int(width), int(height))
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said)
    seconds = 3600 * int(length[1]) + 60 * int(length[2]) + float(length[3]) if length else float("nan")
    return Stream(
        (int(width), int(height)), rate[1].replace("k", "000"), codec, pixels, "bt709" in line, seconds
    )  # fmt: skip


def _coding(source: Path, stream: Stream) -> list[str]:
    """Return ffmpeg's options for the video: what keeps the most that players of its kind of file understand."""
    if source.suffix.lower() == ".avi":
        return ["-c:v", stream.codec, "-pix_fmt", stream.pixels] if stream.codec in _LOSSLESS else [*_MJPEG]
    odd = any(side % 2 for side in stream.size)
    pixels = "yuv444p" if odd or "444" in stream.pixels else "yuv420p"
    matrix = "bt709" if stream.bt709 else "bt601"
    tags = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"] if stream.bt709 else []
    scale = ["-vf", f"scale=out_color_matrix={matrix}:out_range=tv:flags=accurate_rnd+full_chroma_int"]
    return [*_H264, "-pix_fmt", pixels, *scale, *tags, "-movflags", "+faststart"]


def _words(path: Path) -> str:
    return "Motion JPEG of the best quality" if path.suffix.lower() == ".avi" else "H.264 with rate factor 12"


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    return (said.read().decode(errors="replace").strip().splitlines() or [""])[-1]
