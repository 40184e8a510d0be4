"""Denoising that goes wrong: damaged files, full disks, interrupts. One clear error, and nothing half-written."""

import errno
import os

import numpy as np
import PIL.Image
import pytest
from failing import NthFails

from s2s.cli import main
from s2s.denoise import load
from s2s.files import denoise_files
from s2s.images import Stated, open_image
from usim.errors import DataError, ResourceError
from usim.io.atomic import write_atomic
from usim.io.growing import growing
from usim.io.shard import ShardHeader, encode_shard

GREY = np.random.default_rng(11).integers(0, 256, (24, 31), dtype=np.uint8)


@pytest.fixture
def inputs(tmp_path, make_frame):
    """One image of each format."""
    PIL.Image.fromarray(GREY).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.stack([GREY, GREY[::-1], GREY]) / 255.0)
    write_atomic(tmp_path / "c.h5", encode_shard([make_frame(i) for i in range(3)], ShardHeader(3, 0, 7, "", "", {})))
    return [tmp_path / name for name in ("a.png", "b.npy", "c.h5")]


def opens(path):
    """True when the file opens as an image whose frames are all there; DataError with its name is the other way."""
    message = None
    try:
        image = open_image(path, Stated())
        assert all(np.isfinite(frame).all() for frame in image.frames)
    except DataError as error:
        message = str(error)
    assert message is None or (str(path) in message and "\n" not in message)
    return message is None


@pytest.mark.parametrize("number", [0, 1])
def test_truncated_files_are_refused(inputs, number):
    path = inputs[number]
    data = path.read_bytes()
    for end in np.unique(np.linspace(0, len(data) - 1, 200).astype(int)):
        path.write_bytes(data[:end])
        assert not opens(path), end
    path.write_bytes(data + b"more")
    assert not opens(path)


def test_flipped_bits_of_a_png_are_noticed(inputs):
    data, rng = inputs[0].read_bytes(), np.random.default_rng(13)
    for _ in range(300):
        position, bit = int(rng.integers(len(data))), int(rng.integers(8))
        damaged = bytearray(data)
        damaged[position] ^= 1 << bit
        inputs[0].write_bytes(damaged)
        assert not opens(inputs[0]), (position, bit)


def test_mutated_headers_of_npy_end_in_an_error_or_an_image(inputs):
    data, rng = inputs[1].read_bytes(), np.random.default_rng(17)
    for _ in range(600):
        damaged = bytearray(data)
        for position in rng.integers(0, 128, rng.integers(1, 4)):
            damaged[position] = rng.integers(256)
        inputs[1].write_bytes(damaged)
        opens(inputs[1])


@pytest.mark.parametrize("header", [
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-20, -20), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (20, 20), }",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (20, 20), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (20, " + "(" * 500 + "20" + ")" * 500 + "), }",
    "{" * 1000,
    "__import__('os').system('true')",
])  # fmt: skip
def test_hostile_npy_headers(tmp_path, header):
    text = header.encode().ljust(1 << 12, b" ")[:-1] + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(3200))
    assert not opens(path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "ftruncate"])
def test_the_nth_write_fails(inputs, tmp_path, monkeypatch, code, call):
    """What was finished before stays whole, what was not is not there."""
    denoiser, whole = load("median:window=3"), {}
    for path, _ in denoise_files(inputs, denoiser, str(tmp_path / "whole"), stated=Stated()):
        whole[path.name] = path.read_bytes()
    for n in range(1, 60):
        folder, failing = tmp_path / f"run-{n}", NthFails(call, n, code)
        error = None
        run = denoise_files(inputs, denoiser, str(folder), stated=Stated())
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing)
            try:
                list(run)
            except ResourceError as caught:
                error = caught
        assert (error is None) == (failing.left > 0), f"{call} number {n} failed and nobody noticed"
        if error is not None:
            assert "bytes are needed" in str(error)
            assert str(folder) in str(error)
            assert "\n" not in str(error)
        found = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}
        assert all(found[name] == whole[name] for name in found)
        if failing.left > 0:
            break
    assert failing.left > 0
    assert found == whole


def test_a_full_disk_is_exit_code_4(inputs, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for path in inputs:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            code = main(["-q", "denoise", str(path), "-m", "median"])
        out, err = capsys.readouterr()
        assert (code, out) == (4, "")
        assert "No space left on device" in err
        assert err.count("\n") == 1
    assert {path.name for path in inputs[0].parent.iterdir()} == {"a.png", "b.npy", "c.h5"}


def test_an_interrupt_leaves_nothing_half_written(inputs, tmp_path):
    for frames in range(1, 4):

        def check():
            nonlocal frames
            frames -= 1
            if frames < 0:
                raise KeyboardInterrupt

        run = denoise_files(inputs[2:], load("median"), str(tmp_path / "out"), stated=Stated(), check=check)
        with pytest.raises(KeyboardInterrupt):
            list(run)
        assert not list((tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else True


def test_damage_in_a_later_frame_leaves_the_files_before_it(inputs, tmp_path):
    import h5py

    data = bytearray(inputs[2].read_bytes())
    with h5py.File(inputs[2]) as file:
        place = file["bmode"].id.get_chunk_info(2).byte_offset
    data[place + 40] ^= 1
    inputs[2].write_bytes(data)
    finished = []
    with pytest.raises(DataError, match=r"c\.h5: missing or damaged: frame 2"):
        finished.extend(
            path.name for path, _ in denoise_files(inputs, load("median"), str(tmp_path / "out"), stated=Stated())
        )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.denoised.png", "b.denoised.npy"}


def test_memory_does_not_grow_with_the_frames(tmp_path, make_frame):
    import tracemalloc

    peaks = []
    for count in (2, 20):
        path = tmp_path / f"{count}.h5"
        frames = [make_frame(i, shape=(128, 96)) for i in range(count)]
        write_atomic(path, encode_shard(frames, ShardHeader(count, 0, 7, "", "", {})))
        del frames
        image = open_image(path, Stated())
        tracemalloc.start()
        image.write(tmp_path / "out.h5", image.frames, {})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_a_growing_file_reads_back_what_it_was_given(tmp_path):
    with growing(tmp_path / "a.bin", 10) as file:
        file.write(b"hello world")
        file.seek(6)
        file.write(b"there")
        file.seek(-11, os.SEEK_END)
        assert file.read(11) == b"hello there"
        file.truncate(20)
        assert file.seek(0, os.SEEK_END) == 20
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"hello there" + bytes(9)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
