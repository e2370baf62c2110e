"""What every attribution method keeps to: passes, batches, channels, and a network left alone."""

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from robustness.attribution import METHODS, explain, find_method
from robustness.attribution_method import Attribution
from robustness.explained import explained, one_pixel
from robustness.objectives import logit_sum, probability_sum
from robustness.saliency import Forward
from tests.robustness.toy import CallCounter
from tests.robustness.toy_layers import Layered, batch_for, made, rows_of

# Small enough for many tests; the defaults are the setting of one below.
QUICK: Mapping[str, Mapping[str, object]] = {
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 4},
    "occlusion": {"window": 6, "stride": 5},
    "lime": {"samples": 20, "cell": 6},
}


def _method(name: str) -> Attribution:
    return made(name, **QUICK.get(name, {}))


def _hooks(network: nn.Module) -> Counter[str]:
    found: Counter[str] = Counter()
    for module in network.modules():
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"):
            found[kind] += len(getattr(module, kind))
    return found


def test_methods_are_listed_by_their_names() -> None:
    assert {name: kind.name for name, kind in METHODS.items()} == {name: name for name in METHODS}


def test_an_unknown_method_answers_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean grad_cam"):
        find_method("gradcam")


@pytest.mark.parametrize("name", METHODS)
def test_the_passes_are_those_that_are_stated(name: str) -> None:
    network = Layered().eval()
    counter = CallCounter(network)
    batch = batch_for(counter, size=18)
    method = _method(name)
    explain(method, network, batch, probability_sum)
    assert (counter.forwards, counter.backwards) == method.passes(18, 18)
    assert counter.sizes == {4}


@pytest.mark.parametrize("name", METHODS)
def test_many_slices_give_what_single_ones_give(name: str) -> None:
    network = Layered(2, 2).eval()
    batch = batch_for(network, 32, channels=2, classes=2, size=12)
    method = _method(name)
    together = explain(method, network, batch, explained("frozen", batch))
    assert together.shape == batch.image.shape
    assert together.dtype == torch.float32
    assert bool(together.any())
    scale = together.abs().amax()
    for row in range(32):
        alone = rows_of(batch, slice(row, row + 1))
        found = explain(method, network, alone, explained("frozen", alone))
        torch.testing.assert_close(
            found / scale, together[row : row + 1] / scale, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", METHODS)
def test_all_classes_but_one_pixel_s_are_of_no_account(name: str) -> None:
    network = Layered(2, 3).eval()
    batch = batch_for(network, channels=2, classes=3)
    before = explain(_method(name), network, batch, one_pixel(5, 6, 1))
    with torch.no_grad():
        network.head.weight[[0, 2]] += 1
    assert torch.equal(explain(_method(name), network, batch, one_pixel(5, 6, 1)), before)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("mode", [torch.no_grad(), torch.inference_mode()], ids=["no", "inference"])
def test_it_works_where_gradients_are_off(name: str, mode: AbstractContextManager[None]) -> None:
    network = Layered().eval()
    expected = explain(_method(name), network, batch_for(network), probability_sum)
    with mode:
        batch = batch_for(lambda image: network(image) * 1)
        # Tensors made here are inference tensors, as a DataLoader's are in standalone validation.
        batch = rows_of(batch, slice(None))
        found = explain(_method(name), network, batch, explained("all", batch))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", METHODS)
def test_the_network_is_left_as_it_was(name: str) -> None:
    network = Layered().train()
    network.second.eval()
    network.head.weight.requires_grad = False
    modes = [module.training for module in network.modules()]
    flags = [parameter.requires_grad for parameter in network.parameters()]
    values = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    batch = batch_for(network)
    image = batch.image.clone()
    explain(_method(name), network, batch, probability_sum)
    with pytest.raises(RuntimeError, match="broken"):
        explain(_method(name), network, batch_for(_breaks(network)), probability_sum)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not +_hooks(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(batch.image, image)
    after = network.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in values.items())


def _breaks(network: nn.Module) -> Forward:
    def forward(image: Tensor) -> Tensor:
        network(image)
        msg = "broken"
        raise RuntimeError(msg)

    return forward


@pytest.mark.parametrize("name", ["smoothgrad", "lime"])
def test_random_numbers_are_a_function_of_the_seed(name: str) -> None:
    network = Layered().eval()
    batch = batch_for(network)
    first, again, other = (
        explain(_method(name), network, batch, logit_sum, seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift", "occlusion", "lime"])
def test_padding_adds_nothing_unless_it_is_asked_for(name: str) -> None:
    network = Layered().eval()
    batch = batch_for(network)
    baseline = {**QUICK.get(name, {}), "baseline": 0.5}
    kept = explain(made(name, **baseline), network, batch, probability_sum)
    blanked = explain(made(name, **baseline, valid_only=False), network, batch, probability_sum)
    corner = (..., slice(14, 16), slice(13, 16))
    assert bool(blanked[corner].any())
    if name == "occlusion":
        # Windows that reach from the image into the padding still blank the image.
        assert not torch.allclose(kept, blanked)
    else:
        assert not bool(kept[corner].any())


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("smoothgrad", {"samples": 0}, "samples is 0, expected a finite number of 1 or more"),
        ("smoothgrad", {"sigma": -0.1}, "sigma is -0.1, expected a finite number of 0 or more"),
        ("integrated_gradients", {"steps": 0}, "steps is 0"),
        ("integrated_gradients", {"baseline": float("nan")}, "baseline is nan"),
        ("deeplift", {"baseline": float("inf")}, "baseline is inf"),
        ("occlusion", {"window": -1}, "window is -1, expected a finite number of 0 or more"),
        ("occlusion", {"stride": -1}, "stride is -1, expected a finite number of 0 or more"),
        ("occlusion", {"window": 4, "stride": 5}, "stride is 5, expected at most the window, 4"),
        ("occlusion", {"baseline": float("nan")}, "baseline is nan"),
        ("lime", {"superpixels": "felzenszwalb"}, "superpixels is felzenszwalb"),
        ("lime", {"samples": 1}, "samples is 1"),
        ("lime", {"cell": -1}, "cell is -1, expected a finite number of 0 or more"),
        ("lime", {"ridge": 0.0}, "ridge is 0.0, expected a finite number above 0"),
        ("lime", {"width": float("nan")}, "width is nan"),
        ("lime", {"baseline": float("nan")}, "baseline is nan"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    name: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        made(name, **settings)


def test_a_map_that_is_not_finite_is_refused() -> None:
    network = Layered().eval()
    with pytest.raises(ValueError, match="occlusion: the map holds NaN"):
        explain(
            _method("occlusion"),
            network,
            batch_for(network),
            lambda logits, *_: logits.flatten(1).sum(dim=1) / 0,
        )
