"""Drawn masks, and what tests of several loss terms ask of them."""

import torch
from torch import Tensor, nn

from lightning_module.losses.compound import CompoundLoss
from tests.lightning_module.losses.references import case


def everywhere(target: Tensor) -> Tensor:
    """A mask that leaves no pixel out."""
    return torch.ones_like(target[:, :1], dtype=torch.bool)


def drawing(*rows: str) -> Tensor:
    """A mask of one image and class, 1 where a row has ``#``."""
    return torch.tensor([[[[float(cell == "#") for cell in row] for row in rows]]])


def certain(prediction: Tensor) -> Tensor:
    """Logits that say a mask without doubt."""
    return 100 * prediction - 50


def assert_background_can_be_left_out(name: str) -> None:
    """The loss of a softmax without background is the mean over the other classes."""
    logits, target, valid = case(exclusive=True)
    whole = CompoundLoss(name, exclusive=True)
    foreground = CompoundLoss(f"{name}(background=false)", exclusive=True)

    columns = whole(logits, target, valid).ledger[0]
    found = foreground(logits, target, valid)

    assert columns[:, 0].all()
    assert not found.ledger[0, :, 0].any()
    torch.testing.assert_close(found.total, columns[:, 1:].mean())


def assert_runs_without_values(term: nn.Module) -> None:
    """No step of the term looks at a value: it runs where there are none."""
    logits, target, valid = (tensor.to("meta") for tensor in case(exclusive=True))

    value = term(logits, target, valid)

    assert value.is_meta
    assert value.shape == logits.shape[:2]
