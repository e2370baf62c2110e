from typing import Any

import pytest
import torch
from torch import nn

from lightning_module.losses.cross_entropy import BinaryCrossEntropy, Focal
from lightning_module.losses.overlap import BatchDice, Dice
from tests.lightning_module.toy import random_case


@pytest.mark.parametrize("term", [BinaryCrossEntropy(), Dice(), Focal()])
def test_terms_by_image_leave_sample_weights_to_the_compound(term: nn.Module) -> None:
    logits, target, valid = random_case()

    weighed = term(logits, target, valid, torch.tensor([0.0, 5.0, 2.0]))

    assert torch.equal(weighed, term(logits, target, valid))


@pytest.mark.parametrize("term", [BinaryCrossEntropy(), Dice(), BatchDice(), Focal()])
@pytest.mark.parametrize("mask_type", [torch.bool, torch.uint8, torch.int64])
def test_terms_convert_masks_of_any_type(term: nn.Module, mask_type: torch.dtype) -> None:
    logits, target, valid = random_case()

    assert torch.equal(term(logits, target.to(mask_type), valid), term(logits, target, valid))


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Dice, {"smooth": 0}, "smooth: found 0, expected a number of at least 1e-12"),
        (BatchDice, {"smooth": -1.0}, "smooth: found -1.0, expected a number of at least 1e-12"),
        (Focal, {"gamma": -0.1}, "gamma: found -0.1, expected a number of at least 0"),
        (Focal, {"gamma": float("inf")}, "gamma: found inf"),
        (Focal, {"gamma": "two"}, "gamma: found 'two'"),
        (Focal, {"gamma": True}, "gamma: found True"),
        (Focal, {"alpha": 1.5}, r"alpha: found 1.5, expected a number in \[0, 1\]"),
        (Focal, {"alpha": float("nan")}, "alpha: found nan"),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: type[nn.Module], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
