"""Attacks and maps leave a training exactly as it would have been without them."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.evaluating import weights_sha256
from callbacks.robustness import RobustnessCallback
from callbacks.run_state import RunState
from callbacks.saliency import SaliencyCallback
from robustness.attribution_backprop import GuidedBackprop
from robustness.attribution_gradients import Gradient, SmoothGrad
from robustness.attribution_layers import GradCam
from robustness.attribution_perturbation import Occlusion
from tests.callbacks.toy import ATTACKS, ToyModule, train_loader, trainer, val_loader
from tests.places import NewLogger


def attacks() -> RobustnessCallback:
    return RobustnessCallback(list(ATTACKS), every_n_epochs=1, batch_size=16, pictures=1)


def maps() -> SaliencyCallback:
    methods = [Gradient(), SmoothGrad(samples=2), GradCam(), GuidedBackprop(), Occlusion()]
    return SaliencyCallback(methods, every_n_epochs=1, batch_size=16, cases=1)


EACH = pytest.mark.parametrize("measures", [attacks, maps])


class Look(Callback):
    """Remembers everything that attacks could disturb, each time validation ends."""

    def __init__(self, *, sets_grads: bool = False) -> None:
        self.seen: list[dict[str, Any]] = []
        self.sets_grads = sets_grads

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parameters = dict(pl_module.named_parameters())
        if self.sets_grads:
            for one in list(parameters.values())[-2:]:
                one.grad = torch.full_like(one, 0.5)
        grads = [None if one.grad is None else one.grad.tolist() for one in parameters.values()]
        self.seen.append(
            {
                "weights": weights_sha256(pl_module),
                "modes": [module.training for module in pl_module.modules()],
                "flags": [one.requires_grad for one in parameters.values()],
                "grads": grads,
                "torch": torch.get_rng_state().tolist(),
                "numpy": repr(np.random.get_state()),  # noqa: NPY002 (is the one to look at)
                "python": random.getstate(),
                "grad_enabled": torch.is_grad_enabled(),
            }
        )


class FrozenToy(ToyModule):
    """A part that is frozen and stays in evaluation mode while the rest trains."""

    def __init__(self) -> None:
        super().__init__()
        self.network[0].requires_grad_(requires_grad=False)


@EACH
def test_everything_is_left_as_it_was(
    measures: Callable[[], Callback], new_logger: NewLogger
) -> None:
    before, after = Look(sets_grads=True), Look()
    logger, module = new_logger(), FrozenToy()
    runner = trainer(before, measures(), after, RunState(), logger=logger)
    runner.fit(module, train_loader(), val_loader())
    assert len(before.seen) == 2
    assert before.seen == after.seen
    assert not all(before.seen[0]["flags"])
    assert before.seen[0]["grads"].count(None) == len(list(module.parameters())) - 2


@EACH
def test_a_training_is_the_same_with_and_without(
    measures: Callable[[], Callback], new_logger: NewLogger
) -> None:
    def trained(*callbacks: Callback, seed: int = 3) -> str:
        torch.manual_seed(seed)
        module = ToyModule()
        runner = trainer(*callbacks, RunState(), logger=new_logger())
        runner.fit(module, train_loader(), val_loader())
        return weights_sha256(module)

    plain = trained()
    assert trained(measures()) == plain
    assert trained(seed=4) != plain  # the random numbers do matter
