"""The ledger adds up to the loss, and its rule finds the classes that the loss does not see."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_module.ledger import LossLedger
from lightning_module.losses.compound import CompoundLoss
from tests.lightning_module.toy import random_case

EXPRESSION = "0.5*bce+batch_dice+bce"
NAMES = ("a", "b", "c", "d", "e")


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_an_epoch_is_the_mean_over_its_samples(batches: list[int]) -> None:
    loss = CompoundLoss(EXPRESSION)
    ledger = LossLedger(loss.term_names, loss.term_weights, ["Left side", "right"])
    totals = []
    for seed, samples in enumerate(batches):
        value = loss(*random_case(samples, seed=seed))
        ledger.update(value.ledger)
        totals.append(samples * value.total.item())

    result = ledger.compute()

    assert list(result) == ["loss"] + [
        f"loss/{term}/{name}"
        for term in ("bce", "batch_dice", "bce_2")
        for name in ("left_side", "right")
    ]
    assert result["loss"] == pytest.approx(sum(totals) / sum(batches), rel=1e-5)
    by_class = [
        0.5 * result[f"loss/bce/{name}"]
        + result[f"loss/batch_dice/{name}"]
        + result[f"loss/bce_2/{name}"]
        for name in ("left_side", "right")
    ]
    assert result["loss"] == pytest.approx(sum(by_class) / 2, rel=1e-12)


def test_reset_begins_a_new_epoch() -> None:
    ledger = LossLedger(["bce"], [1.0], ["foreground"])
    ledger.update(torch.full((1, 5, 1), 7.0), torch.tensor(1.0))
    ledger.reset()

    ledger.update(torch.full((1, 2, 1), 3.0))

    assert ledger.compute() == {"loss": 3.0, "loss/bce/foreground": 3.0}


def test_a_term_that_leaves_the_background_out_is_a_mean_over_the_other_classes() -> None:
    ledger = LossLedger(["ce", "dice"], [1.0, 2.0], ["background", "a", "b"], [False, True])
    ledger.update(torch.tensor([[[3.0, 6.0, 9.0]], [[0.0, 1.0, 3.0]]]))

    assert ledger.compute() == {
        "loss": 6.0 + 2.0 * 2.0,
        "loss/ce/background": 3.0,
        "loss/ce/a": 6.0,
        "loss/ce/b": 9.0,
        "loss/dice/a": 1.0,
        "loss/dice/b": 3.0,
    }


def test_the_total_of_a_softmax_is_that_of_its_loss() -> None:
    loss = CompoundLoss("ce+2*dice(background=false)", [1.0, 2.0, 0.5], exclusive=True)
    ledger = LossLedger(
        loss.term_names, loss.term_weights, ["background", "a", "b"], loss.skips_background
    )
    logits, _, valid = random_case(4, classes=3)
    index = torch.randint(0, 3, (4, 5, 5), generator=torch.Generator().manual_seed(1))
    target = torch.nn.functional.one_hot(index, 3).movedim(-1, 1).double()
    value = loss(logits, target, valid)
    ledger.update(value.ledger)

    result = ledger.compute()

    assert result["loss"] == pytest.approx(value.total.item(), rel=1e-6)
    assert "loss/dice/background" not in result


def test_regularization_is_a_mean_over_samples_and_part_of_the_loss() -> None:
    ledger = LossLedger(["bce"], [1.0], ["foreground"])
    ledger.update(torch.full((1, 3, 1), 1.0), torch.tensor(0.25))
    ledger.update(torch.full((1, 1, 1), 1.0), torch.tensor(0.75))

    result = ledger.compute()

    assert result == {"loss": 1.375, "loss/bce/foreground": 1.0, "loss/regularization": 0.375}
