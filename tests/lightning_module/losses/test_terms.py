from typing import Any

import pytest
import torch
from torch import nn

from lightning_module.losses.cross_entropy import (
    BinaryCrossEntropy,
    Focal,
    TopK,
    WeightedBinaryCrossEntropy,
)
from lightning_module.losses.noise_robust import (
    GeneralizedCrossEntropy,
    SymmetricCrossEntropy,
    TLoss,
)
from lightning_module.losses.overlap import (
    BatchDice,
    Dice,
    DicePlusPlus,
    GeneralizedDice,
    LogCoshDice,
)
from lightning_module.losses.tversky import FocalTversky, Jaccard, Tversky
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
        (LogCoshDice, {"smooth": 0}, "smooth: found 0, expected a number of at least 1e-12"),
        (DicePlusPlus, {"gamma": 0.9}, "gamma: found 0.9, expected a number of at least 1"),
        (DicePlusPlus, {"smooth": -1}, "smooth: found -1"),
        (GeneralizedDice, {"smooth": 0}, "smooth: found 0"),
        (Jaccard, {"smooth": 0}, "smooth: found 0, expected a number of at least 1e-12"),
        (Tversky, {"smooth": "x"}, "smooth: found 'x'"),
        (Tversky, {"alpha": -0.1}, "alpha: found -0.1, expected a number of at least 0"),
        (Tversky, {"beta": float("nan")}, "beta: found nan"),
        (FocalTversky, {"beta": -1}, "beta: found -1"),
        (FocalTversky, {"gamma": 0}, "gamma: found 0, expected a number of at least 0.1"),
        (WeightedBinaryCrossEntropy, {"pos_weight": -1}, "pos_weight: found -1, expected a number"),
        (TopK, {"k": 0}, r"k: found 0, expected a number in \[1e-06, 1\]"),
        (TopK, {"k": 1.01}, "k: found 1.01, expected a number"),
        (SymmetricCrossEntropy, {"alpha": -1}, "alpha: found -1, expected a number of at least 0"),
        (SymmetricCrossEntropy, {"beta": -0.5}, "beta: found -0.5"),
        (SymmetricCrossEntropy, {"log_zero": 1}, r"log_zero: found 1, .* in \[-100, 0\]"),
        (GeneralizedCrossEntropy, {"q": 0}, r"q: found 0, expected a number in \[1e-06, 1\]"),
        (GeneralizedCrossEntropy, {"q": 1.1}, "q: found 1.1"),
        (TLoss, {"log_nu": 11}, r"log_nu: found 11, expected a number in \[-10, 10\]"),
    ],
)
def test_settings_out_of_range_are_refused(
    kind: type[nn.Module], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
