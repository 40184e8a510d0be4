"""GIF and MP4 are decoded again: how many frames, how long, and which grey levels."""

import re
import subprocess

import numpy as np
import pytest
from PIL import Image
from views import dataset, grey_of, level_of, views

from usim.errors import ConfigError, DataError, ResourceError
from usim.view import movie
from usim.view.files import encode_gif, encode_mp4, save_movie
from usim.view.movie import MOST_FRAMES, rasters


def read_gif(path):
    """Grey images (N, H, W) and durations in ms."""
    with Image.open(path) as gif:
        images, durations = [], []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            images.append(np.array(gif.convert("L")))
    return np.stack(images), durations


def read_mp4(path):
    """Grey images (N, H, W) and frames per second."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    command = [program, "-i", str(path), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    wide, high, fps = re.search(r"Video: h264.* (\d+)x(\d+)[, ].*?([\d.]+) fps", done.stderr.decode()).groups()
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, int(high), int(wide)), float(fps)


def panel_levels(raster):
    """Median grey in the left and the right half of the image, and in the truth, in a picture of two panels."""
    high, wide = raster.shape
    rows = slice(int(0.4 * high), int(0.6 * high))
    return [
        float(np.median(raster[rows, int(a * wide) : int(b * wide)])) for a, b in ((0.13, 0.24), (0.3, 0.4), (0.6, 0.8))
    ]


@pytest.mark.parametrize(("suffix", "tolerance"), [(".gif", 2.0), (".mp4", 3.0)])
def test_a_sequence_has_its_frames_its_rate_and_its_grey_levels(tmp_path, make_frame, suffix, tolerance):
    frames, path = views(make_frame, times=9, rate=25.0), tmp_path / f"a{suffix}"
    assert movie(frames, path) == 25.0
    if suffix == ".gif":
        images, durations = read_gif(path)
        assert durations == [40] * 9
    else:
        images, fps = read_mp4(path)
        assert fps == 25.0
        assert images.shape[1] % 2 == images.shape[2] % 2 == 0
    assert len(images) == 9
    for time, image in enumerate(images):
        level = level_of(0, 0, 0, 0, time)
        expected = [grey_of(level), grey_of(level + 10.0), grey_of(-20.0)]
        np.testing.assert_allclose(panel_levels(image), expected, atol=tolerance)
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_gif_keeps_every_level_and_the_sum_of_durations(tmp_path):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (17, 23), dtype=np.uint8) for _ in range(30)]
    pictures[11] = pictures[10].copy()
    pictures[11][0, 0] ^= 1
    (tmp_path / "a.gif").write_bytes(encode_gif(pictures, 30.0))
    images, durations = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(images, pictures)
    assert sum(durations) == 1000
    assert set(durations) == {30, 40}


def test_mp4_of_odd_sizes_is_padded_not_scaled(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    across = np.tile(np.linspace(20, 230, 33).astype(np.uint8), (21, 1))
    (tmp_path / "a.mp4").write_bytes(encode_mp4([across] * 5, 7.5))
    images, fps = read_mp4(tmp_path / "a.mp4")
    assert images.shape == (5, 22, 34)
    assert fps == 7.5
    np.testing.assert_allclose(images[2, :20, :32].astype(float), across[:20, :32], atol=4)
    assert images[2, 21, 33] > 240


def test_the_rate_of_a_movie(tmp_path, make_frame):
    still = [make_frame(index) for index in range(3)]
    assert movie(still, tmp_path / "a.gif") == 10.0
    assert read_gif(tmp_path / "a.gif")[1] == [100] * 3
    assert movie(still, tmp_path / "a.gif", fps=4.0) == 4.0
    assert read_gif(tmp_path / "a.gif")[1] == [250] * 3
    fast = views(make_frame, times=3, rate=500.0)
    assert movie(fast, tmp_path / "b.gif") == 50.0
    assert movie(views(make_frame, times=3, rate=0.01), tmp_path / "c.gif") == 0.1
    assert read_gif(tmp_path / "c.gif")[1] == [10000] * 3
    with pytest.raises(ConfigError, match=r"--fps: 60: a GIF shows 0\.1 to 50"):
        movie(fast, tmp_path / "b.gif", fps=60.0)
    with pytest.raises(ConfigError, match="--fps: nan"):
        movie(fast, tmp_path / "b.gif", fps=float("nan"))
    pytest.importorskip("imageio_ffmpeg")
    assert movie(fast, tmp_path / "b.mp4") == 500.0
    assert read_mp4(tmp_path / "b.mp4")[1] == 500.0
    with pytest.raises(ConfigError, match="between"):
        movie(fast, tmp_path / "b.mp4", fps=0.0)


def test_what_changes_is_drawn_as_a_whole_picture_would_be(make_frame):
    frames = views(make_frame, times=3)
    alone = [next(iter(rasters([frame]))) for frame in frames]
    for together, one in zip(rasters(frames), alone, strict=True):
        np.testing.assert_array_equal(together, one)


def test_movies_that_cannot_be(tmp_path, make_frame, monkeypatch):
    frames = views(make_frame, times=3)
    with pytest.raises(ConfigError, match="no frames"):
        movie([], tmp_path / "a.gif")
    with pytest.raises(ConfigError, match=f"at most {MOST_FRAMES}; choose some with --frames"):
        movie(frames * 400, tmp_path / "a.gif")
    with pytest.raises(ConfigError, match=r"of type '\.avi'; use \.gif or \.mp4"):
        movie(frames, tmp_path / "a.avi")
    with pytest.raises(ResourceError, match="no such folder"):
        movie(frames, tmp_path / "gone" / "a.gif")
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(ResourceError, match="a folder is in the way"):
        movie(frames, tmp_path / "folder.gif")
    with pytest.raises(DataError, match="frame 3 of the movie lies at other x or z"):
        movie([*frames, make_frame(wider=1e-3)], tmp_path / "a.gif")
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"pip install 'usim-s2s\[video\]'; a \.gif needs none"):
        movie(frames, tmp_path / "a.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.gif"]


def test_a_movie_that_fails_leaves_the_old_one(tmp_path, make_frame):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")

    def broken():
        yield np.zeros((16, 16), np.uint8)
        raise DataError("the disk is gone")

    for name in ("a.gif", "a.mp4"):
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(DataError, match="gone"):
            save_movie(broken(), tmp_path / name, 10.0)
        assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.gif", "a.mp4"]
    assert ffmpeg.get_ffmpeg_exe()


def test_ffmpeg_that_fails_is_named(tmp_path, monkeypatch):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'first line\nNo space left' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "get_ffmpeg_exe", lambda: str(program))
    for size in (10, 1000):  # in the buffer of a pipe, and beyond it
        with pytest.raises(ResourceError, match=r"a\.mp4: ffmpeg failed: No space left; free some space"):
            save_movie([np.zeros((size, size), np.uint8)] * 3, tmp_path / "a.mp4", 10.0)
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_frames_of_a_dataset_are_read_one_at_a_time(tmp_path, make_frame, monkeypatch):
    frames = views(make_frame, times=8)
    data = dataset(tmp_path / "data", frames, per_shard=3)
    movie(data, tmp_path / "a.gif")
    images, _ = read_gif(tmp_path / "a.gif")
    np.testing.assert_array_equal(images, list(rasters(frames)))
