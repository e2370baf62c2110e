"""Makes the report card of a network on a few cases: its attacks, its checks, its verdicts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from lightning.pytorch import LightningModule, Trainer

from callbacks.evaluating import (
    class_names,
    gather,
    heeding_sigterm,
    network_forward,
    split_batches,
)
from callbacks.progress import progress, say
from robustness.attack import attacks_fingerprint, settings_text
from robustness.batches import Batch, only_cases
from robustness.counts import counts_frame
from robustness.engine import evaluate
from robustness.gradient_health import GradientHealth, gradient_health
from robustness.plan import Plan
from robustness.report_card import report_card

HEALTH = "gradient_health"  # key of the metadata


@dataclass(frozen=True)
class Card:
    """A report card and the counts that it was judged by.

    Attributes:
        verdicts: From :func:`robustness.report_card.report_card`.
        counts: Table of counts of the card's attacks.
        metadata: Fingerprint and settings of these attacks, and the health of the gradients.
    """

    verdicts: pd.DataFrame
    counts: pd.DataFrame
    metadata: dict[str, str]


def make_card(
    trainer: Trainer,
    module: LightningModule,
    split: str,
    cases: Sequence[str],
    plan: Plan,
    *,
    slices: int,
    seed: int,
    batch_size: int,
) -> Card:
    """Attack a network in the ways that its report card asks for.

    Args:
        trainer: Has just validated or tested.
        module: The network, in evaluation mode and without gradients of parameters.
        split: ``val`` or ``test``.
        cases: The cases; all processes are given the same.
        plan: The attacks of :func:`robustness.card_attacks.card_attacks`.
        slices: How many slices of them this process has.
        seed: Seed of the attacks.
        batch_size: Slices in each forward pass.

    Returns:
        The card, on every process.

    Raises:
        ValueError: If a gradient is not finite.
    """
    forward = network_forward(trainer, module)
    # One of each beside the attacks, for zeros in the gradient and saturated outputs.
    forward_passes, backward_passes = (count + 1 for count in plan.cost)
    say(
        trainer,
        f"Report card on {split}: {len(plan.attacks)} attacks on {len(cases)} cases, "
        f"{forward_passes} forward and {backward_passes} backward passes of each slice",
    )
    with progress(trainer, "Report card", slices) as advance:
        found = evaluate(
            forward,
            _kept(trainer, split, cases),
            plan,
            device=module.device,
            seed=seed,
            batch_size=batch_size,
            on_slices=heeding_sigterm(trainer, advance),
        )
    own = gradient_health(
        forward, _kept(trainer, split, cases), device=module.device, batch_size=batch_size
    )
    health = sum(gather(own), start=GradientHealth())
    parts = gather(found.counts.partial())
    classes = max(part.sums.shape[2] for part in parts)
    counts = counts_frame(parts, plan.rows, class_names(module, classes))
    metadata = {
        "attacks": attacks_fingerprint(plan.attacks, seed),
        "attack_settings": settings_text(plan.attacks),
        HEALTH: health.to_text(),
    }
    return Card(report_card(counts, health), counts, metadata)


def verdict_line(verdicts: pd.DataFrame) -> str:
    """How a card has turned out, in one line."""
    status = verdicts["status"].value_counts()
    failed = verdicts.loc[verdicts["status"] == "fail", "check"].tolist()
    line = f"Report card: {status.get('pass', 0)} of {len(verdicts)} checks passed"
    if skipped := status.get("not applicable", 0):
        line += f", {skipped} not applicable"
    return line + (f"; failed: {', '.join(failed)}" if failed else "")


def _kept(trainer: Trainer, split: str, cases: Sequence[str]) -> Iterator[Batch]:
    return only_cases(split_batches(trainer, split), cases)
