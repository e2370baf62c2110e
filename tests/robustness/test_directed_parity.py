"""The same images as captum.robust and foolbox at the same settings, on one output pixel.

Foolbox wants a logit for each of two classes: 0 and the network's own give the same cross-entropy.
Captum leaves pixels alone whose gradient is below 1e-6; gradients of these networks are above, and
sums rather than means over pixels keep real ones there.
"""

import pytest
import torch
from captum.robust import FGSM, PGD
from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor as EagerTensor
from foolbox.attacks.fast_gradient_method import L2FastGradientAttack, LinfFastGradientAttack
from foolbox.attacks.gradient_descent_base import BaseGradientDescent
from foolbox.attacks.projected_gradient_descent import (
    L2ProjectedGradientDescentAttack,
    LinfProjectedGradientDescentAttack,
)
from foolbox.criteria import Misclassification
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from robustness.attack import AttackBatch
from robustness.directed import Fgsm, IteratedFgsm
from robustness.norms import Norm
from robustness.pgd import Pgd
from robustness.saliency import Forward
from tests.robustness.directed_kinds import images_of

LOW, HIGH = 0.0, 0.2
WIDE = (-5.0, 5.0)
EPSILONS = [0.01, 0.07, 0.5]
STEPS = pytest.mark.parametrize(("steps", "step_size"), [(1, 1.0), (7, 0.25), (20, 0.1)])


class OnePixel(nn.Module):
    """A smooth network of one output pixel: logits ``(B, 1, 1, 1)``."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.hidden = nn.Linear(2 * 5 * 5, 16)
            self.head = nn.Linear(16, 1)
        with torch.no_grad():
            self.hidden.weight *= 20
            self.head.weight *= 5

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.tanh(self.hidden(image.flatten(1))))
        return logits[:, :, None, None]


class TwoClasses(nn.Module):
    """The same network with a logit for each class, shape ``(B, 2)``."""

    def __init__(self, network: Forward) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits = self.network(image).flatten(1)
        return torch.cat([torch.zeros_like(logits), logits], dim=1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return OnePixel().eval().requires_grad_(requires_grad=False)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return 0.2 * torch.rand((6, 2, 5, 5), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def truth() -> Tensor:
    return torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0]).reshape(6, 1, 1, 1)


@pytest.fixture
def batch(network: nn.Module, image: Tensor, truth: Tensor) -> AttackBatch:
    return AttackBatch(
        network,
        image,
        truth,
        torch.ones((6, 1, 5, 5), dtype=torch.bool),
        torch.arange(6),
        torch.arange(6),
        torch.ones((6, 1, 1, 1), dtype=torch.bool),
    )


def _loss(logits: Tensor, truth: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, truth, reduction="none").flatten()


def _foolbox(
    attack: BaseGradientDescent, batch: AttackBatch, epsilon: float, low: float, high: float
) -> Tensor:
    model = PyTorchModel(TwoClasses(batch.forward).eval(), bounds=(low, high), device="cpu")
    labels = Misclassification(batch.mask.flatten().long())
    found: Tensor = attack.run(model, batch.image, labels, epsilon=epsilon)
    return found


def _check_pgd(
    ours: IteratedFgsm,
    kind: type[LinfProjectedGradientDescentAttack | L2ProjectedGradientDescentAttack],
    batch: AttackBatch,
) -> None:
    """The image of one epsilon is foolbox's at the same settings, from the clean image on."""
    theirs = kind(rel_stepsize=ours.step_size, steps=ours.steps, random_start=False)
    (epsilon,) = ours.epsilons
    expected = _foolbox(theirs, batch, epsilon, ours.low, ours.high)
    _same(images_of(ours, batch)[0, 0], expected, batch.image)


def _same(found: Tensor, expected: Tensor, clean: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (expected != clean).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_fgsm_is_captum_s(
    network: nn.Module, batch: AttackBatch, truth: Tensor, epsilon: float
) -> None:
    theirs = FGSM(network, _loss, lower_bound=LOW, upper_bound=HIGH)
    expected = theirs.perturb(batch.image, epsilon, truth)
    _same(images_of(Fgsm("a", (epsilon,)), batch)[0, 0], expected, batch.image)


@pytest.mark.parametrize("epsilon", EPSILONS)
@STEPS
def test_pgd_without_a_random_start_is_captum_s(
    network: nn.Module,
    batch: AttackBatch,
    truth: Tensor,
    epsilon: float,
    steps: int,
    step_size: float,
) -> None:
    theirs = PGD(network, _loss, lower_bound=LOW, upper_bound=HIGH)
    expected = theirs.perturb(
        batch.image, epsilon, step_size * epsilon, steps, truth, random_start=False, norm="Linf"
    )
    ours = IteratedFgsm("a", (epsilon,), steps=steps, step_size=step_size)
    _same(images_of(ours, batch)[0, 0], expected, batch.image)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_fgsm_is_foolbox_s(batch: AttackBatch, epsilon: float) -> None:
    expected = _foolbox(LinfFastGradientAttack(random_start=False), batch, epsilon, LOW, HIGH)
    _same(images_of(Fgsm("a", (epsilon,)), batch)[0, 0], expected, batch.image)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_fast_gradient_method_is_foolbox_s_where_no_pixel_meets_the_range(
    batch: AttackBatch, epsilon: float
) -> None:
    expected = _foolbox(L2FastGradientAttack(random_start=False), batch, epsilon, *WIDE)
    ours = Fgsm("a", (epsilon,), norm="l2", low=WIDE[0], high=WIDE[1])
    _same(images_of(ours, batch)[0, 0], expected, batch.image)


@pytest.mark.parametrize("epsilon", EPSILONS)
@STEPS
def test_linf_pgd_without_a_random_start_is_foolbox_s(
    batch: AttackBatch, epsilon: float, steps: int, step_size: float
) -> None:
    ours = IteratedFgsm("a", (epsilon,), steps=steps, step_size=step_size, low=LOW, high=HIGH)
    _check_pgd(ours, LinfProjectedGradientDescentAttack, batch)


@pytest.mark.parametrize("epsilon", EPSILONS)
@STEPS
def test_l2_pgd_without_a_random_start_is_foolbox_s_where_no_pixel_meets_the_range(
    batch: AttackBatch, epsilon: float, steps: int, step_size: float
) -> None:
    """Foolbox shortens to epsilon, then cuts; the nearest image of the budget is another one."""
    ours = IteratedFgsm(
        "a",
        (epsilon,),
        norm="l2",
        steps=steps,
        step_size=step_size,
        low=WIDE[0],
        high=WIDE[1],
    )
    _check_pgd(ours, L2ProjectedGradientDescentAttack, batch)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_from_a_start_is_foolbox_s_from_the_same(batch: AttackBatch, norm: Norm) -> None:
    ours = Pgd("a", (0.05,), norm=norm, steps=9, step_size=0.3, low=WIDE[0], high=WIDE[1])
    (start,) = ours._starts(batch, ours.budget(batch, 0.05), 0, repeat=0)

    class LinfFromStart(LinfProjectedGradientDescentAttack):
        def get_random_start(self, x0: EagerTensor, epsilon: float) -> EagerTensor:
            return astensor(start)

    class L2FromStart(L2ProjectedGradientDescentAttack):
        def get_random_start(self, x0: EagerTensor, epsilon: float) -> EagerTensor:
            return astensor(start)

    kind = LinfFromStart if norm == "linf" else L2FromStart
    theirs = kind(rel_stepsize=0.3, steps=9, random_start=True)
    _same(images_of(ours, batch)[0, 0], _foolbox(theirs, batch, 0.05, *WIDE), batch.image)
