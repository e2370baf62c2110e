"""Trainings that take turns, so that whatever else the machine does falls on all of them."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor


class Learner(Protocol):
    """Something that can be trained for a while, and later on from there."""

    def train(self, seconds: float) -> tuple[int, float]:
        """Train for some seconds; returns how many slices it went through, and the seconds."""


class InTurn(Callback):
    """Stops our training now and then for others to train as long as it did.

    Args:
        peers: The others.
        every: After how many of our steps.

    Attributes:
        pairs: Of each peer the seconds that a slice took it and us, in each round it trained in.
        seconds: How long we have trained, and how long each peer has.
    """

    def __init__(self, peers: Sequence[Learner], every: int) -> None:
        self.peers = peers
        self.every = every
        self.pairs: list[list[tuple[float, float]]] = [[] for _ in peers]
        self.seconds = [0.0] * (1 + len(peers))
        self._start = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count the time."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Hand over to the others at the end of a round."""
        if trainer.global_step % self.every:
            return
        spent = time.perf_counter() - self._start
        own = spent / (self.every * len(batch["image"]))
        self.seconds[0] += spent
        for at, (peer, pairs) in enumerate(zip(self.peers, self.pairs, strict=True), start=1):
            # What its last step took too long is taken off its next round.
            slices, theirs = peer.train(self.seconds[0] - self.seconds[at])
            self.seconds[at] += theirs
            if slices:
                pairs.append((theirs / slices, own))
        self._start = time.perf_counter()
