"""How a network is optimised: AdamW, its learning rate in one cycle over the whole training."""

import math

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from errors import InputError


def one_cycle(
    network: nn.Module,
    loss: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    steps: float,
    fused: bool = True,
) -> OptimizerLRScheduler:
    """AdamW with a one-cycle schedule, as Lightning wants it.

    Args:
        network: Its weights decay.
        loss: Parameters that its terms learn do not: decay would pull them to 0, whatever that
            means for the loss.
        learning_rate: The highest.
        weight_decay: That of AdamW.
        steps: Steps of the training; infinite where nobody knows.
        fused: Whether all weights are updated in one go, which is faster.

    Raises:
        InputError: If the number of steps is not known beforehand.
    """
    if not math.isfinite(steps):
        msg = (
            "--trainer.max_epochs: found no limit, expected one, because the learning rate "
            "follows a cycle over all steps; set it"
        )
        raise InputError(msg)
    groups: list[dict[str, object]] = [{"params": list(network.parameters())}]
    if learnt := list(loss.parameters()):
        groups.append({"params": learnt, "weight_decay": 0.0})
    optimizer = AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=fused)
    schedule = OneCycleLR(optimizer, max_lr=learning_rate, total_steps=int(steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def check_cycle(schedule: object, steps: float) -> None:
    """Refuse a resumed schedule that ends before the training does.

    Args:
        schedule: The schedule that a checkpoint brought.
        steps: Steps of the training.

    Raises:
        InputError: If its cycle has fewer.
    """
    if isinstance(schedule, OneCycleLR) and schedule.total_steps < steps:
        msg = (
            f"--ckpt_path: found a learning rate cycle of {schedule.total_steps} steps, "
            f"expected {steps}; resume with the epochs, data and batch size it began with"
        )
        raise InputError(msg)
