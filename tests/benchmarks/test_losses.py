import pytest

from benchmarks.losses import by_hand, measure
from lightning_module.losses.compound import CompoundLoss
from tests.lightning_module.toy import random_case


def test_both_compute_the_same() -> None:
    logits, target, valid = random_case()
    value = CompoundLoss("bce+batch_dice+focal")(logits, target, valid)
    assert by_hand(logits, target, valid).item() == pytest.approx(value.total.item(), rel=1e-6)


def test_every_shape_has_a_row() -> None:
    rows = measure(rounds=2, seconds=0.001)
    shapes = ["16 x 1 x 64 x 64", "16 x 5 x 64 x 64", "16 x 5 x 256 x 256"]
    assert [row.name.rpartition(", ")[2] for row in rows] == shapes
    assert all(row.median > 0 for row in rows)
