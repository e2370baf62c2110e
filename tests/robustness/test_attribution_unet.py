"""Attribution of the U-Nets that runs train, the house's own and MONAI's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from time import perf_counter

import pytest
import torch
from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from lightning_module.module import SegmentationModule
from lightning_module.unet import UNet
from robustness.attack import AttackBatch
from robustness.attribution import METHODS, explain
from robustness.attribution_backprop import DeepLift
from robustness.attribution_gradients import IntegratedGradients
from robustness.attribution_method import Attribution
from robustness.explained import explained
from robustness.objectives import OBJECTIVES, logit_sum
from tests.robustness.toy_layers import batch_for, made

Make = Callable[[], nn.Module]


def _basic(activation: str, norm: str = "batch") -> nn.Module:
    return BasicUNet(2, 1, 1, features=(4, 4, 8, 8, 8, 4), norm=norm, act=activation)


def _settled(make: Make) -> nn.Module:
    """A network with random weights, whose norms have seen some images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = make().train()
        with torch.no_grad():
            for _ in range(10):
                network(torch.rand(4, 1, 32, 32))
    return network.eval()


@pytest.fixture
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("method", "make"),
    [
        (DeepLift(), lambda: UNet(1, 1, (4, 8, 16, 16))),
        (DeepLift(), lambda: UNet(1, 1, (4, 8, 16, 16), activation="prelu")),
        (DeepLift(), lambda: _basic("relu")),
        (DeepLift(), lambda: _basic("leakyrelu")),
        (IntegratedGradients(), lambda: UNet(1, 1, (4, 8, 16, 16))),
    ],
    ids=["relu", "prelu", "monai", "monai leaky in place", "integrated"],
)
def test_contributions_add_up_to_one_percent(method: Attribution, make: Make) -> None:
    network = _settled(make)
    batch = batch_for(network, 3, size=32)
    objective = explained("all", batch)
    contributions = explain(method, network, batch, objective).flatten(1)
    blank = torch.zeros_like(batch.image)
    expected = batch.value(objective, batch.image) - batch.value(objective, blank)
    gap = (contributions.sum(dim=1) - expected).abs()
    assert bool((gap <= 0.01 * expected.abs()).all())


def test_grad_cam_takes_the_end_of_the_deepest_level() -> None:
    network = _settled(lambda: UNet(1, 1, (4, 8, 16, 16)))
    batch = batch_for(network, size=32)
    by_rule, named = (
        explain(made("grad_cam", layer=layer, positive=False), network, batch, logit_sum)
        for layer in ("", "encoder.3.5")
    )
    assert torch.equal(by_rule, named)
    assert bool(by_rule.any())


@pytest.fixture(scope="module")
def exclusive() -> SegmentationModule:
    """The module that runs train, with three classes of which none may overlap."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        module = SegmentationModule(
            class_names=["a", "b", "c"], outputs="softmax", channels=(4, 8, 16, 16), loss="ce"
        )
        module.train()
        with torch.no_grad():
            for _ in range(10):
                module(torch.rand(4, 1, 32, 32))
            # Leads that are told apart, so that image and baseline differ in who is the strongest.
            for parameter in module.network.head.parameters():
                parameter.mul_(5)
    return module.eval()


@pytest.mark.parametrize("what", ["all", "frozen", "bce"])
@pytest.mark.parametrize("name", ["deeplift", "integrated_gradients"])
def test_contributions_add_up_behind_a_softmax(
    name: str, what: str, exclusive: SegmentationModule
) -> None:
    batch = _exclusive_batch(exclusive)
    objective = explained(what, batch)
    contributions = explain(made(name), exclusive, batch, objective).flatten(1)
    blank = torch.zeros_like(batch.image)
    expected = batch.value(objective, batch.image) - batch.value(objective, blank)
    gap = (contributions.sum(dim=1) - expected).abs()
    assert bool((gap <= 0.01 * expected.abs()).all())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_behind_a_softmax(name: str, exclusive: SegmentationModule) -> None:
    batch = _exclusive_batch(exclusive)
    found = explain(made(name), exclusive, batch, explained("all", batch))
    assert found.shape == batch.image.shape
    assert bool(found.flatten(1).any(dim=1).all())


def test_a_plain_gradient_is_right_for_the_strongest_rival(exclusive: SegmentationModule) -> None:
    """Who is the strongest is frozen: guided backpropagation gives the same map."""
    batch = _exclusive_batch(exclusive)
    rivals = []
    with torch.no_grad():
        outputs = exclusive.network(batch.image)
        for index in range(1, 4):
            others = outputs.clone()
            others[:, index] = -torch.inf
            rivals.append(others.argmax(dim=1))
    chosen = torch.stack(rivals, dim=1)

    def frozen(image: Tensor) -> Tensor:
        found: Tensor = exclusive.network(image)
        return found[:, 1:] - found.gather(1, chosen)

    maps = [
        explain(made("guided_backprop"), exclusive, replace(batch, forward=forward), logit_sum)
        for forward in (exclusive, frozen)
    ]
    torch.testing.assert_close(maps[0], maps[1])
    assert bool(maps[0].any())


def _exclusive_batch(module: SegmentationModule) -> AttackBatch:
    batch = batch_for(module, 3, classes=3, size=32)
    return replace(batch, objectives=OBJECTIVES)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("deeplift", lambda: _basic("relu", "instance"), r"instance_norm in the module conv_0\."),
        ("deeplift", lambda: AttentionUnet(2, 1, 1, (4, 8), (2,)), r"mul in the module model\."),
        ("guided_backprop", lambda: _basic("leakyrelu"), r"leaky_relu in the module conv_0\."),
        ("guided_backprop", lambda: UNet(1, 1, (4, 8), activation="prelu"), "prelu in the module"),
    ],
    ids=["instance norm", "attention", "leaky", "prelu"],
)
def test_what_has_no_rule_is_refused_by_its_place(name: str, make: Make, message: str) -> None:
    network = _settled(make)
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        explain(made(name), network, batch_for(network, size=32), logit_sum)


@pytest.mark.slow
def test_all_methods_take_less_than_thirty_seconds_of_two_cores(two_threads: None) -> None:
    """On a machine with nothing else to do: what else runs on the two cores counts."""
    network = _settled(lambda: UNet(1, 1))
    batch = batch_for(network, 8, size=64)
    objective = explained("frozen", batch)
    seconds: dict[str, float] = {}
    for name in METHODS:
        start = perf_counter()
        found = explain(made(name), network, batch, objective)
        seconds[name] = perf_counter() - start
        assert found.shape == (8, 1, 64, 64)
    total = sum(seconds.values())
    slowest = max(seconds, key=seconds.__getitem__)
    assert total < 30, f"{total:.1f} s on two cores, of which {slowest} {seconds[slowest]:.1f} s"
