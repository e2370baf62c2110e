"""After an evaluation a network, its gradients and the random state are what they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from robustness.network_state import untouched
from tests.robustness.toy import ConvNet, count, few_attacks, make_slices


def _network() -> ConvNet:
    """A network in the middle of a training: mixed modes, frozen parts, gradients, statistics."""
    network = ConvNet(norm=True, dropout=0.5)
    network.train()
    network(torch.rand(4, 1, 8, 8)).sum().backward()
    network.norm.eval()
    network.coarse.weight.requires_grad = False
    network.head.bias = nn.Parameter(torch.zeros(1))
    return network


def _state(network: nn.Module) -> dict[str, Tensor | bool | None]:
    found: dict[str, Tensor | bool | None] = {"random": torch.get_rng_state()}
    for name, module in network.named_modules():
        found[f"mode {name}"] = module.training
    for name, value in network.state_dict().items():
        found[f"value {name}"] = value.clone()
    for name, parameter in network.named_parameters():
        found[f"flag {name}"] = parameter.requires_grad
        found[f"grad {name}"] = None if parameter.grad is None else parameter.grad.clone()
    return found


def _same(one: dict[str, Tensor | bool | None], other: dict[str, Tensor | bool | None]) -> bool:
    if one.keys() != other.keys():
        return False
    pairs = ((value, other[name]) for name, value in one.items())
    return all(
        torch.equal(value, then)
        if isinstance(value, Tensor) and isinstance(then, Tensor)
        else value is then
        for value, then in pairs
    )


@contextmanager
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


MODES = pytest.mark.parametrize(
    "mode", [torch.enable_grad, torch.no_grad, _inference], ids=["grad", "no_grad", "inference"]
)


@MODES
def test_an_evaluation_leaves_no_trace(mode: type[torch.no_grad]) -> None:
    network, slices = _network(), make_slices(5)
    before = _state(network)
    assert {value for name, value in before.items() if name.startswith("mode")} == {True, False}
    assert {value for name, value in before.items() if name.startswith("flag")} == {True, False}
    assert any(isinstance(v, Tensor) for name, v in before.items() if name.startswith("grad"))
    with mode(), untouched(network):
        count(network, slices, few_attacks())
    assert _same(_state(network), before)


@MODES
@pytest.mark.parametrize("calls", [0, 1, 2, 9])
def test_an_evaluation_that_fails_in_the_middle_leaves_no_trace(
    mode: type[torch.no_grad], calls: int
) -> None:
    network, slices = _network(), make_slices(5)
    before = _state(network)
    passes = 0

    def failing(image: Tensor) -> Tensor:
        nonlocal passes
        if passes == calls:
            torch.rand(3)
            raise KeyboardInterrupt
        passes += 1
        logits: Tensor = network(image)
        return logits

    with pytest.raises(KeyboardInterrupt), mode(), untouched(network):
        count(failing, slices, few_attacks())
    assert passes == calls
    assert _same(_state(network), before)


def test_inside_everything_is_in_evaluation_mode_and_without_parameter_gradients() -> None:
    network = _network()
    with untouched(network):
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_random_numbers_drawn_inside_do_not_move_those_outside() -> None:
    network = _network()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = torch.rand(4)
        torch.manual_seed(7)
        with untouched(network):
            torch.rand(100)
            torch.manual_seed(99)
        assert torch.equal(torch.rand(4), expected)


def test_dropout_and_batch_statistics_do_not_reach_the_counts() -> None:
    network, slices = _network(), make_slices(6)
    with untouched(network):
        first, second = (count(network, slices, few_attacks()) for _ in range(2))
    network.eval()
    assert first.equals(second)
    assert first.equals(count(network, slices, few_attacks()))


def test_training_goes_on_as_if_nothing_had_happened() -> None:
    weights = []
    for evaluated in (False, True):
        network = ConvNet(norm=True, dropout=0.3, seed=4)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            for _ in range(3):
                optimizer.zero_grad()
                network(torch.rand(4, 1, 8, 8)).square().mean().backward()
                optimizer.step()
                if evaluated:
                    with untouched(network):
                        count(network, make_slices(3), few_attacks())
        weights.append(network.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_shared_modules_and_parameters_are_restored_once() -> None:
    shared = nn.Conv2d(1, 1, kernel_size=3, padding=1)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    network[1].eval()
    before = _state(network)
    with untouched(network), untouched(shared):
        count(network, make_slices(2), few_attacks())
    assert _same(_state(network), before)
