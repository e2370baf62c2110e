import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_module.ledger import LossLedger
from lightning_module.losses.compound import CompoundLoss
from tests.lightning_module.toy import random_case

EXPRESSION = "0.5*bce+batch_dice+bce"


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
    ledger.update(torch.full((1, 5, 1), 7.0))
    ledger.reset()

    ledger.update(torch.full((1, 2, 1), 3.0))

    assert ledger.compute() == {"loss": 3.0, "loss/bce/foreground": 3.0}
