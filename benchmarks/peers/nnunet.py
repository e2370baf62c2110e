"""nnU-Net's 2D trainer against ``fit``'s: slices per second in turn, and Dice after equal time."""

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

from benchmarks.data import Slices, slices
from benchmarks.peers.compare import CPU, GOAL
from benchmarks.peers.nnunet_peer import NnUNet, planned, volume_dice
from benchmarks.peers.turns import InTurn
from benchmarks.timing import Ratio, ratio_of, write_results
from datamodules.task import Case
from lightning_module.module import SegmentationModule
from robustness.counts import FIELDS
from robustness.engine import evaluate
from robustness.plan import make_plan

# Batches after which the speed of our training is known.
_TRIED = 60
_HOW = (
    "All train on the same cases without validation; each one's learning rate ends its course with "
    "the time. nnU-Net augments in processes of its own and has several outputs; it predicts with "
    "mirroring."
)


def measure(
    source: Slices, *, seconds: float = 80.0, rounds: int = 5, cases: int = 12
) -> tuple[list[Ratio], list[str]]:
    """Train on the same cases for as long, and predict the same others.

    nnU-Net trains with its own defaults, and a second time with batches as small as ours.

    Args:
        source: Where the slices come from.
        seconds: How long each trains.
        rounds: How often they take turns.
        cases: How many cases of the test set are predicted.

    Returns:
        The ratios of the speeds, and what all have come to.
    """
    data = source.data
    names = data.split_cases("test")[:cases]
    held_out = [one for one in data.task.cases if one.name in names]
    every = max(1, round(seconds * _steps_per_second(source) / rounds))
    with TemporaryDirectory(prefix="segstress-bench-") as scratch, planned(data, Path(scratch)):
        peers = {
            "nnU-Net 2D, its own defaults": NnUNet(Path(scratch), seconds),
            "nnU-Net 2D, our batch size": NnUNet(Path(scratch), seconds, data.batch_size),
        }
        turns = InTurn(list(peers.values()), every)
        module = _fitted(source, every * rounds, turns)
        rows = [
            _row(name, peer.weights, peer.batch, peer.steps, spent, _dice(peer, source, held_out))
            for (name, peer), spent in zip(peers.items(), turns.seconds[1:], strict=True)
        ]
        for peer in peers.values():
            peer.close()
    weights = sum(weight.numel() for weight in module.network.parameters())
    batch = f"{data.batch_size} of {' x '.join(map(str, data.settings.size))} pixels"
    own = _own_dice(source, module, len(held_out))
    rows.append(_row("SegStress", weights, batch, every * rounds, turns.seconds[0], own))
    ratios = [_ratio(name, pairs) for name, pairs in zip(peers, turns.pairs, strict=True)]
    dice = f"mean Dice of {len(held_out)} volumes not trained on"
    head = f"| trained on {source.name} | weights | batch | steps | seconds | {dice} | quartiles |"
    return ratios, [head, "|---|---|---|---|---|---|---|", *rows, "", _HOW]


def _ratio(name: str, pairs: Sequence[tuple[float, float]]) -> Ratio:
    theirs, own = zip(*pairs, strict=True)
    per_second = [1 / float(np.median(each)) for each in (theirs, own)]
    rates = " / ".join(f"{rate:.0f} slices/s" for rate in per_second)
    return ratio_of(f"a slice in training: {name} / SegStress: {rates}", theirs, own, goal=GOAL)


def _dice(peer: NnUNet, source: Slices, held_out: Sequence[Case]) -> list[float]:
    masks = peer.predict([case.image for case in held_out])
    pairs = zip(held_out, masks, strict=True)
    return [volume_dice(source.data, case, mask) for case, mask in pairs]


def _fitted(source: Slices, steps: int, *callbacks: Callback) -> SegmentationModule:
    """A module after some steps of its training, without validation and logging."""
    torch.manual_seed(0)
    module = SegmentationModule()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train_dataloaders=source.data.train_dataloader())
    return module


def _steps_per_second(source: Slices) -> float:
    """The best of three tries: what else the machine did in one of them would cut ours short."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        _fitted(source, _TRIED)
        taken.append(time.perf_counter() - start)
    return _TRIED / min(taken)


def _own_dice(source: Slices, module: SegmentationModule, cases: int) -> list[float]:
    """Dice of each of the first cases of the test set."""
    batch = source.batch("test", cases=cases)
    found = evaluate(module.evaluation_logits, [batch], make_plan([]), device=CPU)
    sums = found.counts.partial().sums[0].sum(axis=1)
    hits, extra, missed = (sums[:, FIELDS.index(name)] for name in ("tp", "fp", "fn"))
    return [float(one) for one in 2 * hits / np.maximum(1, 2 * hits + extra + missed)]


def _row(
    name: str,
    weights: int,
    batch: str,
    steps: int,
    seconds: float,
    dice: Sequence[float],
) -> str:
    low, high = np.quantile(dice, [0.25, 0.75])
    return (
        f"| {name} | {weights / 1e6:.1f} M | {batch} | {steps} | {seconds:.0f} | "
        f"{np.mean(dice):.3f} | {low:.3f} to {high:.3f} |"
    )


if __name__ == "__main__":
    with slices() as prepared:
        found, lines = measure(prepared)
        print(write_results(f"Peers: nnU-Net, on {prepared.name}", found, lines))
