"""Simulated images that look like a user's scanner: the truth of a dataset, with speckle that a generator has learned.

s2s train --data scans/ --method pngan --set backbone=default -o runs/scanner
usim generate training --frames 200 -o data
s2s synthesise data -m runs/scanner -o like-mine.h5
s2s train --data like-mine.h5 --method noise2true -o runs/mine
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import torch

from s2s.checkpoint import load_checkpoint
from s2s.denoise import load
from s2s.domain import LOWEST_DB, RANGE_DB, amplitude_to_db, db_to_amplitude, from_scale, to_scale
from s2s.methods.synthesis import Synthesis
from s2s.run import LAST
from usim.errors import ConfigError, DataError
from usim.frame import Frame
from usim.generate import deciding_versions
from usim.io.atomic import make_folder, write_atomic
from usim.io.dataset import open_frames
from usim.io.shard import ShardHeader, encode_shard, read_config


def synthesise(
    source: Path,
    target: Path,
    model: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the frames of a dataset with speckle made by a model, as one HDF5 file, and return their number.

    source: a file or folder that usim wrote; its truth is kept.  target: ends with .h5; a file there is replaced.
    model: a training of danet or pngan.  watch: told how many frames are made, of how many.
    Raises ConfigError for a model without a generator that has learned, another ending, sectors, or several images of
    one scene; DataError for a dataset or model that can't be read.
    """
    if target.suffix != ".h5":
        raise ConfigError(f"{target}: is to be an HDF5 file; name it {target.with_suffix('.h5').name}")
    if target.is_dir():
        raise ConfigError(f"{target}: is a folder; name a file")
    if source.is_file() and source.suffix.lower() not in (".h5", ".hdf5"):
        raise DataError(
            f"{source}: has no truth to put speckle on; name simulated frames, a folder or .h5 file of usim generate"
        )
    method = generator_of(model, device)
    frames = open_frames(source)
    if target.exists() and target.resolve() in {part.path.resolve() for part in frames.parts}:
        raise ConfigError(f"{target}: is what is to be read; name another file")
    if frames[0].polar is not None:
        raise ConfigError(f"{source}: holds sectors, whose speckle lies along their lines; only linear scans are made")
    if any(frames.places()[part].any() for part in ("slice", "angle", "time")):
        raise ConfigError(
            f"{source}: holds slices, angles or times of one scene, which share speckle; only single images are made"
        )
    make_folder(target.parent)

    def made() -> Iterator[Frame]:
        for index, frame in enumerate(frames):
            yield with_speckle(frame, method, int(np.random.SeedSequence((seed, index)).generate_state(1)[0]), device)
            watch(index + 1, len(frames))

    write_atomic(
        target, encode_shard(made(), frames.read(0, lambda file, row: _header(file, len(frames), method.name)))
    )
    return len(frames)


def generator_of(model: str, device: str = "cpu") -> Synthesis:
    """The model of a training's last step: the best one is best at removing speckle, and may not make any yet.

    Raises ConfigError for a model without a generator, or whose generator has learned nothing.
    """
    last = Path(model) / LAST
    method = load_checkpoint(last, device=device).method if last.is_file() else load(model, device=device).method
    if not isinstance(method, Synthesis):
        raise ConfigError(f"model: {method.name} makes no speckle; train one that does, pngan or danet")
    if not method.taught:
        raise ConfigError(f"model: the generator of {model} has learned nothing yet; train it further, to its end")
    return method


def with_speckle(frame: Frame, method: Synthesis, seed: int, device: str = "cpu") -> Frame:
    """A frame whose image was made from its truth; the envelope follows, and what belongs to the old image goes."""
    x = torch.from_numpy(to_scale(frame.truth.bmode, "db").astype(np.float32))[None, None].to(device)
    decibel = from_scale(method.synthesise(x, seed)[0, 0].cpu().numpy(), "db").astype(np.float32)
    envelope = db_to_amplitude(decibel).astype(np.float32)
    params = {**frame.params, "synthesised": {"method": method.name, "seed": seed, "dynamic_range_db": RANGE_DB}}
    bmode = np.clip(amplitude_to_db(envelope), LOWEST_DB, 0.0).astype(np.float32)
    return dataclasses.replace(
        frame, bmode=bmode, envelope=envelope, iq=None, display=None, scatterers=None, params=params
    )


def _header(file: h5py.File, frames: int, name: str) -> ShardHeader:
    return ShardHeader(
        frames=frames,
        first_frame=0,
        seed=int(file.attrs["seed"]),
        config_yaml=read_config(file),
        description=f"{file.attrs['description']}, with speckle made by {name}".removeprefix(", "),
        versions=deciding_versions(),
        config_sha256=str(file.attrs["config_sha256"]),
    )
