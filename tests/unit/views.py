"""Crafted frames of scenes with several images, and datasets of them: every frame has a grey level of its own."""

import itertools

import numpy as np

from usim.io.dataset import open_frames
from usim.io.shard import ShardHeader, encode_shard

DEPTH = 60.0


def level_of(scene, look, slice, angle, time):
    """dB of the frame's left half; its right half lies 10 dB above."""
    return -50.0 + 3.0 * time + 5.0 * slice + 7.0 * look + 2.0 * scene + 1.0 * angle


def grey_of(level):
    return 255.0 * np.clip(1.0 + level / DEPTH, 0.0, 1.0)


def views(make_frame, scenes=1, looks=1, slices=1, angles=1, times=1, rate=25.0, shape=(40, 32)):
    """Frames in the order of a dataset."""
    frames = []
    ranges = map(range, (scenes, looks, slices, angles, times))
    for index, look, slice, angle, time in itertools.product(*ranges):
        frame = make_frame(index, look=look, shape=shape)
        frame.params.update(index=index, look=look, slice=slice, angle=angle, time=time)
        frame.params["scene"].update(
            looks=looks,
            sweep={"slices": slices, "step": 0.5e-3} if slices > 1 else None,
            angles=list(np.radians(np.linspace(-10, 10, angles))) if angles > 1 else None,
            sequence={"times": times, "rate": rate, "motions": []} if times > 1 else None,
        )
        frame.bmode[:] = level_of(index, look, slice, angle, time)
        frame.bmode[:, shape[1] // 2 :] += 10.0
        frame.truth.bmode[:] = -20.0
        frames.append(frame)
    return frames


def dataset(folder, frames, per_shard=7):
    """The frames as shards in a folder, opened."""
    folder.mkdir()
    for start in range(0, len(frames), per_shard):
        part = frames[start : start + per_shard]
        header = ShardHeader(len(part), start, 7, "", "views", {})
        (folder / f"shard-{start // per_shard:05d}.h5").write_bytes(encode_shard(part, header))
    return open_frames(folder)
