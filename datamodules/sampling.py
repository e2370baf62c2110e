"""Which slices a process takes: shuffled by seed and epoch to train, in order to evaluate."""

from collections.abc import Iterator

import numpy as np
from torch import distributed
from torch.utils.data import Sampler

from datamodules.wrong_input import wrong_input


class ShuffledSampler(Sampler[int]):
    """An order of samples that depends on seed and epoch alone, dealt out in equal numbers.

    A resumed run sees what an uninterrupted one sees. Where the number of samples is no multiple
    of the number of processes, the first of the order come again at its end.

    Args:
        length: Number of samples.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(self, length: int, *, seed: int, rank: int, world_size: int) -> None:
        """Start with the order of epoch 0."""
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls it before each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Go through this process's share of the epoch."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        dealt = np.resize(order, len(self) * self.world_size)
        return iter(dealt[self.rank :: self.world_size].tolist())

    def __len__(self) -> int:
        """Count this process's samples of an epoch."""
        return (self.length + self.world_size - 1) // self.world_size


class OrderedSampler(Sampler[int]):
    """The samples in order, each in exactly one process; shares differ by one at most.

    Args:
        length: Number of samples.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        InputError: If there are fewer samples than processes: those without one would be waited
            for in vain.
    """

    def __init__(self, length: int, *, rank: int, world_size: int) -> None:
        """Take every ``world_size``-th sample, beginning with ``rank``."""
        if length < world_size:
            raise wrong_input(
                at="--trainer.devices",
                found=f"{world_size} processes for {length} slices",
                expected="a slice for each process",
                do="use fewer processes",
            )
        self.share = range(rank, length, world_size)

    def __iter__(self) -> Iterator[int]:
        """Go through this process's share."""
        return iter(self.share)

    def __len__(self) -> int:
        """Count this process's samples."""
        return len(self.share)


def process_position() -> tuple[int, int]:
    """Tell this process's number and how many there are; 0 and 1 where nothing is distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1
