"""Processes that train one method together, each on its share of every batch; torchrun starts them.

    torchrun --nproc-per-node 2 -m s2s train --sim --method noise2true -o runs/n2t

Every rank holds the same weights: gradients are averaged before a step, and scenes, which the ranks make in turn, are
given to all. So a training by two ranks is the training of one process with the double batch.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from usim.errors import ConfigError, ResourceError


@dataclass(frozen=True)
class Ranks:
    """The processes of a training: this one is `rank` of `world`, alone by default; rank 0 judges, says and writes.

    store: what all of them can write in.
    All ranks call `mean`, `first`, `any` and `give` in the same order; ResourceError means that one of them has ended.
    """

    rank: int = 0
    world: int = 1
    store: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the one that judges, says and writes."""
        return self.rank == 0

    @torch.no_grad()
    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, all of one device and type, by their means over the ranks."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self._together():
            dist.all_reduce(flat)
        flat /= self.world
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def first(self, *numbers: float) -> tuple[float, ...]:
        """The numbers of rank 0."""
        if self.world == 1:
            return numbers
        known = torch.tensor(numbers, dtype=torch.float64)
        with self._together():
            dist.broadcast(known, 0)
        return tuple(known.tolist())

    def any(self, own: bool) -> bool:
        """Whether it is so in any rank."""
        if self.world == 1:
            return own
        found = torch.tensor(float(own))
        with self._together():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def give(self, item: Any, owner: int) -> Any:
        """What rank `owner` has, for all."""
        if self.world == 1:
            return item
        held = [item]
        with self._together():
            dist.broadcast_object_list(held, owner, device=torch.device("cpu"))
        return held[0]

    def claim(self, words: str) -> bool:
        """Whether this rank is the first to claim these words: an error of all is then said once."""
        if self.world == 1:
            return True
        try:
            return bool(self.store.compare_set(f"s2s/{words}", "", str(self.rank)) == str(self.rank).encode())
        except RuntimeError:  # the process that holds the store has ended
            return True

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ResourceError(
                f"one of the {self.world} processes that train together has ended; "
                "what ended it stands above or in the system's log, and --resume goes on"
            ) from error


#: A process that trains by itself.
ALONE = Ranks()


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """Join the processes that torchrun started, if it did; yields them and this one's device.

    device: "cuda" becomes a GPU of its own for each.  Raises ConfigError for one GPU for all.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield Ranks(), device
        return
    kind, _, number = device.partition(":")
    if number:
        raise ConfigError(f"device: {device} is one, but each process of torchrun takes its own; say {kind} or auto")
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # torch.optim imports it later, and it keeps the group of that moment: threads of the group outlive its destruction,
    # and one that still holds a tensor when Python ends aborts the process (seen in 1 of 15 trainings that succeeded).
    importlib.import_module("torch._dynamo")
    # torchrun's own store outlives every rank.
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore("group", store), rank=rank, world_size=world)
    yield Ranks(rank, world, store), device
    dist.barrier()
    dist.destroy_process_group()
