"""Clips: animated GIF and PNG, MP4, MOV and AVI. Frames one by one, with their timing, and what stands still stays."""

import json
import subprocess

import imageio_ffmpeg
import numpy as np
import PIL.Image
import pytest
from made_scans import scan
from made_screens import DISPLAY, bare, screen

from s2s.cli import main
from s2s.images import Stated, open_image
from s2s.images.picture import grey_of
from usim.errors import ConfigError, DataError

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
NOTHING = Stated()
ABOUT = {"method": "lee", "input": "a"}
FRAMES = [np.rint(scan(DISPLAY, shape=(64, 80), seed=seed)).astype(np.uint8) for seed in range(5)]


def halved(path):
    """Write the like of a clip with half the grey in its scan."""
    image = open_image(path, NOTHING)
    target = path.with_name(f"out{path.suffix}")
    made = (image.whole(frame, 0.5 * image.inside(frame)) for frame in image.frames)
    image.write(target, made, ABOUT)
    return image, target


def encoded(path, frames, *options, rate="25"):
    """Encode grey or colour frames (H, W[, 3]) with ffmpeg; options: of the output."""
    height, width = frames[0].shape[:2]
    form = ["-f", "rawvideo", "-pix_fmt", "gray" if frames[0].ndim == 2 else "rgb24", "-s", f"{width}x{height}"]
    command = [FFMPEG, "-v", "error", "-y", *form, "-r", rate, "-i", "-", *options, str(path)]
    subprocess.run(command, input=b"".join(frame.tobytes() for frame in frames), check=True)
    return path


def said(path):
    return subprocess.run([FFMPEG, "-hide_banner", "-i", str(path)], capture_output=True, check=False).stderr.decode()


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_animations_keep_frames_timing_and_loop(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    first, *others = [PIL.Image.fromarray(frame) for frame in FRAMES]
    durations = [40, 100, 250, 30, 70]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=3)
    image, target = halved(path)
    assert len(image.frames) == 5
    for k in (3, 0, 4):  # in any order
        np.testing.assert_array_equal(image.frames[k], FRAMES[k])
    with pytest.raises(IndexError):
        image.frames[5]
    with PIL.Image.open(target) as file:
        assert file.n_frames == 5
        assert file.info["loop"] == 3
        for k in range(5):
            file.seek(k)
            assert file.info["duration"] == durations[k]
            np.testing.assert_array_equal(np.asarray(file.convert("L")), np.rint(0.5 * FRAMES[k]))
        file.seek(0)
        words = file.text["s2s"] if suffix == ".png" else file.info["comment"]
    assert json.loads(words)["method"] == "lee"


def test_equal_frames_of_an_animation_stay_frames(tmp_path):
    still = [FRAMES[0]] * 3
    for name in ("a.gif", "a.png"):
        first, *others = [PIL.Image.fromarray(frame + np.uint8(k)) for k, frame in enumerate(f // 2 for f in still)]
        first.save(tmp_path / name, save_all=True, append_images=others, duration=50)
        image = open_image(tmp_path / name, NOTHING)
        image.write(tmp_path / f"out-{name}", [FRAMES[0].astype(float)] * 3, ABOUT)
        with PIL.Image.open(tmp_path / f"out-{name}") as file:
            assert file.n_frames == 3


def test_marks_of_a_moving_gif_stay_bit_for_bit(tmp_path):
    made = screen("convex", 1, colour=False)
    marks = made.outside | made.inside
    frames = []
    for seed in range(4):
        levels, _ = bare("convex", seed)
        frames.append(np.where(marks[..., None], made.picture, levels[..., None]).astype(np.uint8))
    first, *others = [PIL.Image.fromarray(grey_of(frame)) for frame in frames]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=40)
    image, target = halved(tmp_path / "a.gif")
    assert (made.inside & image.mask).sum() / made.inside.sum() < 0.1
    assert (made.area & ~made.inside & image.mask).sum() / (made.area & ~made.inside).sum() > 0.98
    with PIL.Image.open(target) as file:
        for k, frame in enumerate(frames):
            file.seek(k)
            after = np.asarray(file.convert("RGB"))
            np.testing.assert_array_equal(after[made.outside], frame[made.outside])
            np.testing.assert_array_equal(after[~image.mask], frame[~image.mask])


MOVIES = {
    "a.mp4": ("-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv420p"),
    "a.mov": ("-c:v", "libx264", "-crf", "8", "-pix_fmt", "yuv444p"),
    "grey.mp4": ("-c:v", "libx264", "-crf", "8", "-pix_fmt", "gray"),
    "hd.mp4": ("-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-c:v", "libx264", "-crf", "8",
               "-pix_fmt", "yuv420p"),
    "a.avi": ("-c:v", "mjpeg", "-q:v", "1", "-qmin", "1"),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVIES)
def test_movies_go_in_and_out(tmp_path, name):
    path = encoded(tmp_path / name, FRAMES, "-metadata", "title=A liver", *MOVIES[name], rate="12.5")
    image, target = halved(path)
    assert "loses once more" in image.note
    assert len(image.frames) == 5
    again = open_image(target, NOTHING)
    assert len(again.frames) == 5
    for k in (2, 0, 1):
        before, after = (one.frames[k].astype(float) for one in (image, again))
        assert np.abs(before - FRAMES[k]).mean() < 2.5
        assert np.abs(after - 0.5 * before).mean() < 2.0
        assert abs((after - 0.5 * before).mean()) < 1.0
    words = said(target)
    assert "12.50 fps" in words
    assert "A liver" in words
    assert '"method": "lee"' in words


def test_lossless_avi_keeps_every_value(tmp_path):
    path = encoded(tmp_path / "a.avi", FRAMES, "-c:v", "ffv1", "-pix_fmt", "gray")
    image, target = halved(path)
    assert "loses" not in image.note
    again = open_image(target, NOTHING)
    for k, frame in enumerate(FRAMES):
        np.testing.assert_array_equal(image.frames[k], frame)
        np.testing.assert_array_equal(again.frames[k], np.rint(0.5 * frame))


def test_sound_stays_and_odd_sizes_do(tmp_path):
    odd = [frame[:63, :79] for frame in FRAMES]
    sound = ("-f", "lavfi", "-i", "sine=duration=0.2", "-c:a", "aac", "-shortest")
    path = encoded(tmp_path / "a.mp4", odd, *sound, "-c:v", "libx264", "-pix_fmt", "yuv444p")
    image, target = halved(path)
    assert image.frames[0].shape == (63, 79)
    words = said(target)
    assert "Audio: aac" in words
    assert "79x63" in words


def test_a_rotation_is_applied_once(tmp_path):
    plain = encoded(tmp_path / "plain.mp4", FRAMES, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    path = tmp_path / "a.mp4"
    subprocess.run(
        [FFMPEG, "-v", "error", "-display_rotation", "90", "-i", str(plain), "-c", "copy", str(path)], check=True
    )
    image, target = halved(path)
    assert image.frames[0].shape == (80, 64)
    assert open_image(target, NOTHING).frames[0].shape == (80, 64)
    assert "rotation of" not in said(target)


def test_coloured_marks_over_a_movie_are_kept_frame_by_frame(tmp_path):
    made = screen("phased", 1)
    frames = []
    for seed in range(3):
        levels, _ = bare("phased", seed)
        marks = made.inside | made.outside
        frames.append(np.where(marks[..., None], made.picture, levels[..., None]).astype(np.uint8))
    path = encoded(tmp_path / "a.mp4", frames, "-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv444p")
    image, target = halved(path)
    assert not (image.mask & made.outside).any()
    before = open_image(path, NOTHING)
    after = open_image(target, NOTHING)
    change = np.abs(after.frames[1].astype(float) - before.frames[1])
    assert np.median(change[made.inside]) <= 2
    assert change[~image.mask].mean() < 1.0
    assert change[made.area & ~made.inside].mean() > 20


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.gif", "a.png"])
def test_clips_that_end_early_are_refused(tmp_path, name):
    path = tmp_path / name
    if name.startswith("a.m") or name.endswith("avi"):
        encoded(path, FRAMES * 4, *MOVIES[name], *(("-movflags", "+faststart") if name == "a.mp4" else ()))
    else:
        first, *others = [PIL.Image.fromarray(frame) for frame in FRAMES]
        first.save(path, save_all=True, append_images=others)
    data = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(DataError) as caught:
            open_image(path, NOTHING)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_movies_that_are_none(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    with pytest.raises(DataError, match="no movie"):
        open_image(tmp_path / "a.mp4", NOTHING)
    deep = encoded(tmp_path / "b.mp4", FRAMES, "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
    with pytest.raises(DataError, match="yuv420p10le; allowed are those of 8 bits"):
        open_image(deep, NOTHING)


def test_without_ffmpeg_the_extra_is_named(tmp_path, monkeypatch):
    path = encoded(tmp_path / "a.mp4", FRAMES, *MOVIES["a.mp4"])
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(ConfigError, match=r"usim-s2s\[video\]"):
        open_image(path, NOTHING)


def test_a_full_disk_leaves_no_half_movie(tmp_path):
    path = encoded(tmp_path / "a.mp4", FRAMES, *MOVIES["a.mp4"])
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "out.mp4").mkdir()
    image = open_image(path, NOTHING)
    with pytest.raises(Exception, match=r"out\.mp4"):
        image.write(tmp_path / "there" / "out.mp4", (frame.astype(float) for frame in image.frames), ABOUT)
    assert [found.name for found in (tmp_path / "there").iterdir()] == ["out.mp4"]


def test_the_command_line_denoises_a_clip(tmp_path, capsys):
    first, *others = [PIL.Image.fromarray(frame) for frame in FRAMES[:2]]
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=70)
    assert main(["denoise", str(tmp_path / "a.gif"), "-m", "median"]) == 0
    assert "2 frames" in capsys.readouterr().out
    with PIL.Image.open(tmp_path / "a.denoised.gif") as file:
        assert (file.n_frames, file.info["duration"]) == (2, 70)
