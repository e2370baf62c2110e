import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_t
from torch.nn.functional import l1_loss, mse_loss

from lightning_module.losses.cross_entropy import BinaryCrossEntropy, CrossEntropy
from lightning_module.losses.noise_robust import (
    GeneralizedCrossEntropy,
    MeanSquaredError,
    SymmetricCrossEntropy,
    TLoss,
)
from lightning_module.losses.term import Term
from tests.lightning_module.losses.references import assert_close, assert_formula, case, pixels

seeds = st.integers(0, 10_000)
either = pytest.mark.parametrize("exclusive", [False, True], ids=["sigmoid", "softmax"])


def symmetric(p: float) -> float:
    """Symmetric cross-entropy of two classes, one of them true, as the sums that define it."""
    return -0.3 * math.log(p) - 0.8 * (p * 0.0 + (1 - p) * -4.0)


def generalized(p: float) -> float:
    return float((1 - p**0.7) / 0.7)


OF_TRUTH: dict[str, tuple[Callable[..., Term], Callable[[float], float]]] = {
    "sce": (lambda **said: SymmetricCrossEntropy(alpha=0.3, beta=0.8, **said), symmetric),
    "gce": (GeneralizedCrossEntropy, generalized),
}


@either
@pytest.mark.parametrize("name", OF_TRUTH)
@given(seeds)
def test_losses_of_the_likelihood_are_their_formulas(name: str, exclusive: bool, seed: int) -> None:
    build, formula = OF_TRUTH[name]
    given_case = case(exclusive=exclusive, seed=seed)

    values = build(exclusive=exclusive)(*given_case)

    expected = [
        [
            sum(3 * formula(p) for p, y in one if y) / len(one)
            if exclusive
            else sum(formula(p if y else 1 - p) for p, y in one) / len(one)
            for one in image
        ]
        for image in pixels(*given_case, exclusive=exclusive)
    ]
    assert_formula(values, expected)


@either
@given(seeds)
def test_mean_squared_error_is_its_formula(exclusive: bool, seed: int) -> None:
    given_case = case(exclusive=exclusive, seed=seed)

    values = MeanSquaredError(exclusive=exclusive)(*given_case)

    images = pixels(*given_case, exclusive=exclusive)
    assert_formula(
        values,
        [[sum((p - y) ** 2 for p, y in one) / len(one) for one in image] for image in images],
    )


@either
@given(seeds)
def test_t_loss_is_the_likelihood_of_a_student_t_over_the_valid_pixels(
    exclusive: bool, seed: int
) -> None:
    given_case = case(exclusive=exclusive, seed=seed)
    nu = math.exp(0.5) + 1e-8

    values = TLoss(log_nu=0.5, exclusive=exclusive)(*given_case)

    expected = [
        [
            math.lgamma(nu / 2)
            - math.lgamma((nu + len(one)) / 2)
            + len(one) / 2 * math.log(math.pi * nu)
            + (nu + len(one)) / 2 * math.log(1 + sum((p - y) ** 2 for p, y in one) / nu)
            for one in image
        ]
        for image in pixels(*given_case, exclusive=exclusive)
    ]
    assert_formula(values.detach(), expected)


@either
def test_losses_agree_with_torch_and_scipy(exclusive: bool) -> None:
    logits, target, valid = case(exclusive=exclusive, size=4, all_valid=True)
    errors = (logits.softmax(1) if exclusive else logits.sigmoid()) - target

    squares = MeanSquaredError(exclusive=exclusive)(logits.float(), target, valid)
    tails = TLoss(log_nu=math.log(3.0), exclusive=exclusive)(logits.float(), target, valid)
    absolute = GeneralizedCrossEntropy(q=1, exclusive=exclusive)(logits.float(), target, valid)

    by_pixel = mse_loss(errors + target, target, reduction="none")
    assert_close(squares, by_pixel.mean((2, 3)))
    density = multivariate_t(loc=[0.0] * 16, shape=1.0, df=3)
    expected = -torch.as_tensor(density.logpdf(errors.flatten(2).numpy()))
    torch.testing.assert_close(tails, expected, rtol=1e-6, atol=0, check_dtype=False)
    # Over the classes of a softmax the absolute errors add up to twice that of the true one.
    whole = l1_loss(errors, torch.zeros_like(errors), reduction="none").mean((2, 3))
    if exclusive:
        assert_close(absolute.mean(1), whole.sum(1) / 2)
    else:
        assert_close(absolute, whole)


@either
def test_symmetric_and_generalized_cross_entropy_hold_cross_entropy_as_a_limit(
    exclusive: bool,
) -> None:
    given_case = case(exclusive=exclusive)
    plain = (CrossEntropy if exclusive else BinaryCrossEntropy)(exclusive=exclusive)(*given_case)

    symmetric_value = SymmetricCrossEntropy(alpha=2, beta=0, exclusive=exclusive)(*given_case)
    near, nearer = (
        GeneralizedCrossEntropy(q=q, exclusive=exclusive)(*given_case) for q in (1e-3, 1e-5)
    )

    torch.testing.assert_close(symmetric_value, 2 * plain)
    torch.testing.assert_close(nearer, plain, rtol=1e-4, atol=0)
    assert ((plain - nearer) < (plain - near) / 50).all()


def test_a_wrong_pixel_costs_at_most_one_over_q_in_generalized_cross_entropy() -> None:
    logits = torch.full((1, 1, 1, 1), -1000.0)

    value = GeneralizedCrossEntropy(q=0.4)(logits, torch.ones_like(logits), logits < 0)

    assert value.item() == pytest.approx(2.5)


def test_t_loss_learns_how_heavy_the_tails_are() -> None:
    logits, target, valid = case(exclusive=False)
    term = TLoss().double()

    def of_log_nu(log_nu: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = torch.func.functional_call(
            term, {"log_nu": log_nu}, (logits, target, valid)
        )
        return value

    (gradient,) = torch.autograd.grad(term(logits, target, valid).mean(), term.log_nu)

    assert [name for name, _ in term.named_parameters()] == ["log_nu"]
    assert gradient != 0
    assert torch.autograd.gradcheck(of_log_nu, term.log_nu)


def test_fewer_degrees_of_freedom_let_an_image_with_large_errors_pull_less() -> None:
    target = torch.ones(2, 1, 8, 8)
    wrong = torch.zeros(2, 1, 8, 8)
    wrong[1] = 3.0

    def pulls(log_nu: float) -> torch.Tensor:
        logits = wrong.clone().requires_grad_()
        value = TLoss(log_nu=log_nu)(logits, target, target.bool()).sum()
        (gradient,) = torch.autograd.grad(value, logits)
        slope = logits.sigmoid() * (1 - logits.sigmoid()) * (logits.sigmoid() - 1)
        return (gradient / slope).detach()[:, 0, 0, 0]

    # By error: (v + D) / (v + S), which a normal distribution has as 1 whatever the errors.
    heavy, light = pulls(0.0), pulls(10.0)
    torch.testing.assert_close(heavy[0], torch.tensor((1 + 64) / (1 + 16)), rtol=1e-5, atol=0)
    assert heavy[0] < 0.1 * heavy[1]
    assert light[0] > 0.99 * light[1]


def test_t_loss_of_an_image_without_valid_pixels_is_nothing() -> None:
    logits, target, valid = case(exclusive=False)
    logits.requires_grad_()
    term = TLoss()

    value = term(logits, target, torch.zeros_like(valid))

    assert not value.any()
    assert not torch.autograd.grad(value.sum(), logits)[0].any()


@either
@pytest.mark.parametrize(
    "kind", [MeanSquaredError, SymmetricCrossEntropy, GeneralizedCrossEntropy, TLoss]
)
def test_nothing_waits_for_values(kind: type[Term], exclusive: bool) -> None:
    logits, target, valid = (tensor.to("meta") for tensor in case(exclusive=exclusive))

    value = kind(exclusive=exclusive).to("meta")(logits, target, valid)

    assert value.shape == logits.shape[:2]
