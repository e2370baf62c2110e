import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from errors import InputError
from lightning_module.losses.compound import CompoundLoss
from lightning_module.losses.cross_entropy import BinaryCrossEntropy, Focal
from lightning_module.losses.overlap import BatchDice
from tests.lightning_module.toy import random_case

WIDE = f"{__name__}:Wide"
WHOLE = f"{__name__}:Whole"


class Wide(nn.Module):
    """No term: it keeps the pixels."""

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        return logits


class Whole(nn.Module):
    """A term over the batch that does not say so; its shape does. The scale is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor, sample_weight: Tensor | None = None
    ) -> Tensor:
        value: Tensor = BatchDice()(logits, target, valid, sample_weight)
        return self.scale * value


def in_plain_numbers(
    case: tuple[Tensor, Tensor, Tensor], classes: list[float], samples: list[float]
) -> float:
    """``0.5*bce+2*batch_dice+focal`` in the order of the contract, one number at a time."""
    logits, target, valid = case
    bce: list[list[float]] = BinaryCrossEntropy()(*case).tolist()
    focal: list[list[float]] = Focal()(*case).tolist()
    weight = torch.tensor(samples)
    whole = BatchDice()(logits, target, valid, weight)
    batch: list[float] = whole[0].tolist()
    total = 0.0
    for row in range(len(logits)):
        terms = [0.5 * classes[k] * bce[row][k] + classes[k] * focal[row][k] for k in range(2)]
        total += samples[row] * sum(terms) / 2
    return total / len(logits) + sum(2 * classes[k] * batch[k] for k in range(2)) / 2


@given(
    st.integers(0, 1000),
    st.lists(st.floats(0.125, 5, width=32), min_size=2, max_size=2),
    st.lists(st.floats(0.125, 5, width=32), min_size=3, max_size=3),
)
def test_pixels_classes_and_samples_become_one_number_in_the_order_of_the_contract(
    seed: int, classes: list[float], samples: list[float]
) -> None:
    case = random_case(seed=seed)

    value = CompoundLoss("0.5*bce+2*batch_dice+focal", classes)(*case, torch.tensor(samples))

    expected = in_plain_numbers(case, classes, samples)
    assert value.total.item() == pytest.approx(expected, rel=1e-6)


@given(st.integers(0, 1000), st.booleans(), st.booleans())
def test_the_total_follows_from_the_ledger(seed: int, classes: bool, samples: bool) -> None:
    logits, target, valid = random_case(seed=seed)
    loss = CompoundLoss("0.5*bce+batch_dice+bce+3*dice", [0.25, 4.0] if classes else None)

    value = loss(logits, target, valid, torch.tensor([0.5, 2.0, 1.0]) if samples else None)

    assert value.ledger.shape == (4, 3, 2)
    weights = torch.tensor(loss.term_weights).unsqueeze(1)
    again = (weights * value.ledger.mean(1)).sum(0).mean()
    torch.testing.assert_close(again, value.total, rtol=1e-6, atol=0)
    assert not value.ledger.requires_grad


def test_the_ledger_shows_the_class_that_goes_wrong() -> None:
    logits, target, valid = random_case()
    logits = 20 * (2 * target - 1)
    logits[:, 1] *= -1

    ledger = CompoundLoss("bce+dice")(logits, target, valid).ledger.mean(1)

    assert ledger[:, 0].max() < 1e-6
    assert ledger[0, 1].item() == pytest.approx(20.0, rel=1e-6)
    assert ledger[1, 1].item() == pytest.approx(1.0, abs=1e-4)


def test_sample_weights_divide_by_the_batch_as_in_keras_3() -> None:
    logits, valid = torch.zeros(4, 1, 3, 3), torch.ones(4, 1, 3, 3, dtype=torch.bool)

    total = CompoundLoss("bce")(logits, logits, valid, torch.tensor([2.0, 0, 0, 0])).total

    assert total.item() == pytest.approx(0.3466, abs=1e-4)


@pytest.mark.parametrize("term", ["batch_dice", WHOLE])
def test_terms_over_the_batch_weigh_samples_once(term: str) -> None:
    logits, target, valid = random_case()
    loss = CompoundLoss(term)

    doubled = loss(logits, target, valid, torch.full((3,), 2.0)).total

    torch.testing.assert_close(doubled, loss(logits, target, valid).total, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("term", "factor"), [("bce", 3.0), ("dice", 3.0), ("batch_dice", 1.0)])
def test_a_batch_of_one_weighs_its_sample_by_the_same_rule(term: str, factor: float) -> None:
    logits, target, valid = random_case(samples=1)
    loss = CompoundLoss(term)

    weighed = loss(logits, target, valid, torch.tensor([3.0])).total

    plain = loss(logits, target, valid).total
    torch.testing.assert_close(weighed, factor * plain, rtol=1e-4, atol=0)


@pytest.mark.parametrize("expression", ["bce", "dice", "batch_dice", "0.5*bce+batch_dice+focal"])
def test_gradients_agree_with_finite_differences(expression: str) -> None:
    logits, target, valid = random_case(samples=2, size=3)
    loss = CompoundLoss(expression, [0.5, 2.0])
    weight = torch.tensor([1.5, 0.5], dtype=torch.float64)

    def total(z: Tensor) -> Tensor:
        value: Tensor = loss(z, target, valid, weight).total
        return value

    assert torch.autograd.gradcheck(total, logits.requires_grad_())


def test_sums_add_without_weights() -> None:
    case = random_case()

    parts = sum(CompoundLoss(term)(*case).total for term in ("bce", "dice", "focal"))

    torch.testing.assert_close(CompoundLoss("bce+dice+focal")(*case).total, parts)


def test_order_of_images_and_classes_does_not_matter() -> None:
    logits, target, valid = random_case()
    order, weight = [2, 0, 1], torch.tensor([0.5, 1.0, 2.0])

    plain = CompoundLoss("bce+batch_dice", [1.0, 3.0])(logits, target, valid, weight).total
    moved = CompoundLoss("bce+batch_dice", [3.0, 1.0])(
        logits[order].flip(1), target[order].flip(1), valid[order], weight[order]
    ).total

    torch.testing.assert_close(moved, plain)


def test_terms_are_named_and_a_second_of_a_kind_is_told_apart() -> None:
    loss = CompoundLoss(f"0.5*bce + focal(gamma=3) + bce + {WHOLE}")

    assert loss.term_names == ("bce", "focal", "bce_2", "whole")
    assert loss.term_weights == (0.5, 1.0, 1.0, 1.0)
    assert loss.expression == f"0.5*bce+focal(gamma=3)+bce+{WHOLE}"


def test_parameters_of_a_term_are_trained_and_settings_stay_out_of_checkpoints() -> None:
    loss = CompoundLoss(f"2*bce+{WHOLE}", [1.0, 2.0])

    assert [name for name, _ in loss.named_parameters()] == ["terms.1.scale"]
    assert list(loss.state_dict()) == ["terms.1.scale"]


def test_a_term_that_keeps_pixels_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"'wide' returned shape \(3, 2, 5, 5\), expected \(3, 2\)"
    ):
        CompoundLoss(WIDE)(*random_case())


def test_weights_for_another_number_of_classes_or_samples_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3,\) for 2 classes"):
        CompoundLoss("bce", [1.0, 1.0, 1.0])(*random_case())
    with pytest.raises(ValueError, match=r"shape \(2,\) for 3 samples"):
        CompoundLoss("bce")(*random_case(), torch.ones(2))


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_class_weights_no_loss_can_have_are_refused(weights: list[float]) -> None:
    with pytest.raises(InputError, match=r"--model\.class_weights: found .*, expected finite"):
        CompoundLoss("bce", weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stay_exact_in_a_module_of_half_precision(dtype: torch.dtype) -> None:
    logits, target, valid = random_case()
    loss = CompoundLoss("0.3*bce+dice", [70_000.0, 0.1])
    expected = loss(logits.to(dtype).float(), target, valid).total
    found = loss.to(dtype)(logits.to(dtype), target.to(dtype), valid).total
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_background_that_a_term_leaves_out_makes_a_mean_over_the_others() -> None:
    logits, target, valid = random_case(classes=4)
    weights = [9.0, 1.0, 2.0, 3.0]
    whole = CompoundLoss("dice", weights, exclusive=True)(logits, target, valid)
    without = CompoundLoss("dice(background=false)", weights, exclusive=True)
    value = without(logits, target, valid)
    assert value.total.item() == pytest.approx(whole.ledger[0, :, 1:].mean().item(), rel=1e-6)
    assert not value.ledger[0, :, 0].any()
    assert without.skips_background == (True,)


@pytest.mark.parametrize("exclusive", [False, True])
def test_the_loss_of_an_image_is_that_of_a_batch_of_its_own(*, exclusive: bool) -> None:
    """Terms over the batch, class weights and a background that is left out included."""
    first = "ce" if exclusive else "bce"
    skip = "background=false" if exclusive else ""
    loss = CompoundLoss(
        f"{first}+0.5*batch_dice({skip})+dice({skip})", [1.0, 2.0, 0.5], exclusive=exclusive
    )
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 3, 8, 8, generator=generator).requires_grad_()
    classes = torch.randint(3, (4, 8, 8), generator=generator)
    target = torch.nn.functional.one_hot(classes, 3).permute(0, 3, 1, 2).float()
    valid = torch.rand(4, 1, 8, 8, generator=generator) > 0.2
    found = loss.of_images(logits, target, valid)
    alone = torch.stack(
        [loss(logits[i : i + 1], target[i : i + 1], valid[i : i + 1]).total for i in range(4)]
    )
    torch.testing.assert_close(found, alone)
    gradients = [torch.autograd.grad(values.sum(), logits)[0] for values in (found, alone)]
    torch.testing.assert_close(*gradients)
