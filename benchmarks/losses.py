"""What the loss contract costs: a loss of three terms against the same three computed by hand."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from benchmarks.timing import Ratio, time_in_turn, write_results
from lightning_module.losses.compound import CompoundLoss

_SHAPES = {
    "16 x 1 x 64 x 64": (16, 1, 64, 64),
    "16 x 5 x 64 x 64": (16, 5, 64, 64),
    "16 x 5 x 256 x 256": (16, 5, 256, 256),
}


def by_hand(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """``bce+batch_dice+focal`` as somebody would write the three down and add them up."""
    return (
        _bce(logits, target, valid)
        + _batch_dice(logits, target, valid)
        + _focal(logits, target, valid)
    )


def _bce(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    return _mean(binary_cross_entropy_with_logits(logits, target, reduction="none"), valid)


def _batch_dice(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    zero = logits.new_zeros(())
    probs, truth = torch.where(valid, logits.sigmoid(), zero), torch.where(valid, target, zero)
    shared = (probs * truth).sum((0, 2, 3))
    size = probs.square().sum((0, 2, 3)) + truth.square().sum((0, 2, 3))
    return (1 - (2 * shared + 1e-5) / (size + 1e-5)).mean()


def _focal(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    towards = logits * (2 * target - 1)
    balance = 0.75 - 0.5 * target
    focus = torch.sigmoid(-towards).pow(2.0)
    return _mean(-balance * focus * logsigmoid(towards), valid)


def _mean(pixels: Tensor, valid: Tensor) -> Tensor:
    """Mean over the pixels that count of each image and class, then over both."""
    sums = torch.where(valid, pixels, pixels.new_zeros(())).sum((2, 3))
    return (sums / valid.sum((2, 3)).clamp(min=1)).mean()


def measure(*, rounds: int = 31, seconds: float = 0.05) -> list[Ratio]:
    """Time one step, forward and backward, of both.

    Args:
        rounds: Rounds that count.
        seconds: How long a round of each takes, about.
    """
    ratios, loss = [], CompoundLoss("bce+batch_dice+focal")
    for name, shape in _SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(shape, generator=generator).requires_grad_()
        target = (torch.rand(shape, generator=generator) > 0.8).float()  # noqa: PLR2004
        valid = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)

        batch = (logits, target, valid)
        ratios.append(
            time_in_turn(
                f"three terms by the contract / by hand, {name}",
                partial(_step, lambda *given: loss(*given).total, batch),
                partial(_step, by_hand, batch),
                goal="at most 1.05",
                calls=max(1, round(seconds / _seconds_of(pixels=math.prod(shape)))),
                rounds=rounds,
            )
        )
    return ratios


def _seconds_of(*, pixels: int) -> float:
    """About what a step takes on two cores."""
    return 5e-4 + 1.5e-8 * pixels


def _step(loss: Callable[..., Tensor], batch: tuple[Tensor, Tensor, Tensor]) -> None:
    loss(*batch).backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    print(write_results("Losses", measure()))
