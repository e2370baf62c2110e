"""What terms share is computed once, and the same as if each had computed it."""

import pytest
import torch
from torch import Tensor, nn

from lightning_module.losses.compound import CompoundLoss
from lightning_module.losses.overlap import Dice
from lightning_module.losses.sharing import shared, sharing

SHAPE = (3, 2, 8, 8)


class Counted:
    """A shared function that knows how often it has run."""

    def __init__(self) -> None:
        self.calls = 0
        self.double = shared(self._double)

    def _double(self, values: Tensor, negative: bool = False) -> Tensor:
        self.calls += 1
        return values * (-2 if negative else 2)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_a_result_is_shared_within_a_block_only(counted: Counted) -> None:
    values = torch.ones(3)
    with sharing():
        assert counted.double(values) is counted.double(values)
        assert counted.calls == 1
    counted.double(values)
    counted.double(values)
    assert counted.calls == 3
    with sharing():
        counted.double(values)
    assert counted.calls == 4


def test_other_tensors_and_other_flags_have_results_of_their_own(counted: Counted) -> None:
    values = torch.ones(3)
    with sharing():
        assert torch.equal(counted.double(values), 2 * values)
        assert torch.equal(counted.double(values, True), -2 * values)
        assert torch.equal(counted.double(values + 1), 2 * values + 2)
        # Tensors that come and go may get each other's place in memory.
        for number in range(50):
            assert counted.double(torch.full((3,), float(number)))[0] == 2 * number


def test_a_result_without_gradient_is_not_taken_for_one_with(counted: Counted) -> None:
    values = torch.ones(3, requires_grad=True)
    with sharing():
        with torch.no_grad():
            assert not counted.double(values).requires_grad
        assert counted.double(values).requires_grad


def test_nothing_is_kept_after_an_error(counted: Counted) -> None:
    values = torch.ones(3)
    with pytest.raises(TypeError), sharing():
        counted.double(counted.double(values), None, None)
    counted.double(values)
    assert counted.calls == 2


class Bystander(nn.Module):
    """Asks for the same probabilities as others, without a gradient."""

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        with torch.no_grad():
            return Dice().reduce_pixels(logits, target, valid, sample_weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_terms_that_share_give_the_loss_and_gradient_of_terms_alone(dtype: torch.dtype) -> None:
    names = [
        "bce",
        "tests.lightning_module.losses.test_sharing:Bystander",
        "dice",
        "batch_dice",
        "focal",
        "mse",
        "boundary",
        "topk",
    ]
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(SHAPE, generator=generator)).to(dtype).requires_grad_()
    target = (torch.rand(SHAPE, generator=generator) > 0.6).to(dtype)
    valid = torch.rand(SHAPE[0], 1, *SHAPE[2:], generator=generator) > 0.1

    together = CompoundLoss("+".join(names))(logits, target, valid)
    (gradient,) = torch.autograd.grad(together.total, logits)
    alone = [CompoundLoss(name)(logits, target, valid) for name in names]
    total = torch.stack([value.total for value in alone]).sum()
    (expected,) = torch.autograd.grad(total, logits)

    torch.testing.assert_close(together.total, total)
    torch.testing.assert_close(gradient, expected)
    assert torch.equal(together.ledger, torch.cat([value.ledger for value in alone]))
