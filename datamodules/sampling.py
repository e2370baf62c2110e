"""Which slices a process takes: shuffled by seed and epoch to train, in order to evaluate."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import Sampler

from datamodules.wrong_input import wrong_input

# Neighbours that are read together where an order is friendly to the disk.
RUN = 32


class ShuffledSampler(Sampler[int]):
    """An order of samples that depends on seed and epoch alone, dealt out in equal numbers.

    A resumed run sees what an uninterrupted one sees. Where the number of samples is no multiple
    of the number of processes, the first of the order come again at its end.

    It yields ``epoch * length + index``, which ``divmod(value, length)`` takes apart: so the epoch
    reaches worker processes that were started long before it.

    With a window, the order is friendly to the disk. The samples are cut into runs of 32
    neighbours, the runs are shuffled and gathered into windows of at most ``window`` samples, and
    the samples of each window are shuffled. So a stretch that lies in n windows reads from
    ``n * window / 32`` places at most, however many samples there are, and what has been read
    is not asked for again once its window is over.

    With ``keep_empty``, an epoch takes that share of the samples without foreground, drawn anew in
    each epoch. They are drawn from rounds of as many epochs as it takes to see all of them: each
    comes in every round, once or, in the round's last epoch, a second time.

    Args:
        length: Number of samples.
        seed: Seed of the order.
        rank: Number of this process.
        world_size: Number of processes.
        window: Samples that are shuffled among each other, 32 at least; all of them if left out.
        empty: Whether each sample is without foreground, shape ``(length,)``.
        keep_empty: Share of these that an epoch takes, 0 to 1; where all samples are empty, one at
            least is taken.

    Raises:
        ValueError: If the window is less than 1, the share not in 0 to 1, or ``empty`` of another
            shape.
    """

    def __init__(
        self,
        length: int,
        *,
        seed: int,
        rank: int,
        world_size: int,
        window: int | None = None,
        empty: NDArray[np.bool_] | None = None,
        keep_empty: float = 1.0,
    ) -> None:
        """Start with the order of epoch 0."""
        empty = np.zeros(length, dtype=bool) if empty is None else empty
        _check(length, window, empty, keep_empty)
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.window = window
        self.epoch = 0
        self._full = np.flatnonzero(~empty)
        self._empty = np.flatnonzero(empty)
        wanted = max(round(keep_empty * len(self._empty)), 0 if len(self._full) else 1)
        self._empty_taken = min(wanted, len(self._empty))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls it before each."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Go through this process's share of the epoch."""
        order = self._order()
        dealt = np.resize(order, len(self) * self.world_size)[self.rank :: self.world_size]
        return iter((dealt + self.epoch * self.length).tolist())

    def __len__(self) -> int:
        """Count this process's samples of an epoch."""
        samples = len(self._full) + self._empty_taken
        return (samples + self.world_size - 1) // self.world_size

    def _order(self) -> NDArray[np.int64]:
        random = np.random.default_rng([self.seed, self.epoch])
        samples = np.sort(np.concatenate([self._full, self._drawn_empty()]))
        if self.window is None or self.window >= len(samples):
            return random.permutation(samples)
        runs = random.permutation(-(-len(samples) // RUN))
        windows = np.array_split(runs, -(-len(runs) // max(1, self.window // RUN)))
        places = (runs[:, np.newaxis] * RUN + np.arange(RUN) for runs in windows)
        return np.concatenate(
            [random.permutation(samples[place[place < len(samples)]]) for place in places]
        )

    def _drawn_empty(self) -> NDArray[np.int64]:
        if self._empty_taken in {0, len(self._empty)}:
            return self._empty[: self._empty_taken]
        epochs = -(-len(self._empty) // self._empty_taken)
        round_number, turn = divmod(self.epoch, epochs)
        # The last number keeps this stream apart from the one that orders an epoch.
        random = np.random.default_rng([self.seed, round_number, 1])
        drawn = np.resize(random.permutation(self._empty), epochs * self._empty_taken)
        return drawn[turn * self._empty_taken :][: self._empty_taken]


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


def _check(length: int, window: int | None, empty: NDArray[np.bool_], keep_empty: float) -> None:
    if window is not None and window < 1:
        message = f"window is {window}, expected 1 or more"
        raise ValueError(message)
    if not 0 <= keep_empty <= 1:
        message = f"keep_empty is {keep_empty}, expected a share from 0 to 1"
        raise ValueError(message)
    if empty.shape != (length,):
        message = f"empty has shape {empty.shape}, expected ({length},)"
        raise ValueError(message)
