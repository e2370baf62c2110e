"""Evaluates attacks on a network: one gradient per batch, then all disturbed copies, and counts."""

from collections.abc import Callable, Iterable, Sequence

import torch

from robustness.batches import Batch, fixed_size, ordinary_tensors
from robustness.counter import Attacker, Counter, Measured
from robustness.plan import Plan
from robustness.saliency import Forward


def evaluate(
    forward: Forward,
    batches: Iterable[Batch],
    plan: Plan,
    *,
    device: torch.device,
    seed: int = 0,
    batch_size: int = 32,
    attacker: Attacker | None = None,
    on_slices: Callable[[int], None] = lambda slices: None,
) -> Measured:
    """Attack every slice and count hits and misses.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images; in evaluation mode.
        batches: Batches of the design: ``image``, ``mask``, ``valid``, ``case``, ``slice_index``.
        plan: From :func:`make_plan`.
        device: Where the network is.
        seed: The seed of the attacks.
        batch_size: The one size of all batches. Logits of another size may differ by rounding.
        attacker: What the attacks know; None is the network and the objectives of this package.
        on_slices: Called with the number of slices after each batch is done.

    Returns:
        What was measured on the slices that this process was given.

    Raises:
        ValueError: If logits and masks differ in shape, a batch's slices do not fit an attack, or
            clean logits or a gradient are not finite.
    """
    (found,) = evaluate_many(
        [forward],
        batches,
        plan,
        attacker or Attacker(forward),
        device=device,
        seed=seed,
        batch_size=batch_size,
        on_slices=on_slices,
    )
    return found


def evaluate_many(
    victims: Sequence[Forward],
    batches: Iterable[Batch],
    plan: Plan,
    attacker: Attacker,
    *,
    device: torch.device,
    seed: int = 0,
    batch_size: int = 32,
    on_slices: Callable[[int], None] = lambda slices: None,
) -> list[Measured]:
    """Make each attack once, on one network, and count what it does to several (transfer).

    Args:
        victims: Networks that the disturbed slices are counted on, as in :func:`evaluate`.
        batches: As in :func:`evaluate`.
        plan: From :func:`make_plan`.
        attacker: What the attacks know.
        device: Where all the networks are.
        seed: The seed of the attacks.
        batch_size: The one size of all batches.
        on_slices: Called with the number of slices after each batch is done.

    Returns:
        What was measured on each victim.

    Raises:
        ValueError: As in :func:`evaluate`.
    """
    found = [Measured.nothing(plan, device) for _ in victims]
    counter = Counter(
        tuple(zip(victims, found, strict=True)),
        attacker,
        plan,
        device=device,
        seed=seed,
        batch_size=batch_size,
    )
    for piece in fixed_size(batches, batch_size):
        with ordinary_tensors():
            counter.count(piece)
        on_slices(len(piece.cases))
    with ordinary_tensors():
        counter.finish()
    return found
