import copy
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_module.stored_network import StoredNetwork
from lightning_module.unet import UNet
from robustness.objectives import probability_sum
from robustness.randomisation import Maps, cascade, cascade_steps, randomise, weight_layers
from robustness.saliency import input_gradient
from tests.robustness.toy import ConvNet, as_batch, make_slices

BATCH = as_batch(make_slices(4))
IMAGE = BATCH["image"]


def gradient_of(network: nn.Module) -> Maps:
    def maps(image: Tensor) -> Tensor:
        return input_gradient(network, probability_sum, image, BATCH["mask"], BATCH["valid"])

    return maps


class Scaled(nn.Module):
    """A weight that is no module's but the network's, beside modules."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1, 4, 1, 1), 2.0))
        self.first = nn.Conv2d(1, 4, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 1, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        features = (self.norm(self.first(image)) * self.scale).relu()
        logits: Tensor = self.last(features)
        return logits


class Shuffled(nn.Module):
    """Registers its layers in another order than it uses them in, and one not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(4, 1, kernel_size=1)
        self.norm = nn.BatchNorm2d(4)
        self.unused = nn.Conv2d(4, 1, kernel_size=1)
        self.slope = nn.PReLU(4)
        self.up = nn.ConvTranspose2d(4, 4, kernel_size=2, stride=2)
        self.first = nn.Conv2d(1, 4, kernel_size=3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.slope(self.norm(self.first(image)))
        features = self.up(nn.functional.max_pool2d(features, 2))
        logits: Tensor = self.last(features)
        return logits


def trained(network: Shuffled) -> Shuffled:
    """Statistics and weights that are not those of the beginning."""
    network.train()
    network(IMAGE)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1)
    return network


def stored(network: nn.Module, kind: str, folder: Path) -> StoredNetwork:
    """The network from a file, as the command line reads it."""
    network.eval()
    path = folder / ("net.pt2" if kind == "export" else "net.pt")
    with warnings.catch_warnings():
        # torch deprecates TorchScript; the files that exist are still read.
        warnings.simplefilter("ignore", DeprecationWarning)
        if kind == "script":
            torch.jit.save(torch.jit.script(network), path)
        elif kind == "trace":
            torch.jit.save(torch.jit.trace(network, IMAGE), path)  # type: ignore[no-untyped-call]
        else:
            size = {0: torch.export.Dim("batch", min=1, max=512)}
            program = torch.export.export(network, (IMAGE,), dynamic_shapes=(size,))
            torch.export.save(program, path)
    return StoredNetwork(1, 1, str(path))


def test_layers_stand_in_the_order_of_use() -> None:
    layers = weight_layers(Shuffled().eval(), IMAGE[:1])
    assert layers == [("first", "norm", "slope"), ("up",), ("last",)]


def test_the_cascade_begins_at_the_output_and_ends_with_all_at_random() -> None:
    network = trained(Shuffled())
    seen: list[dict[str, Tensor]] = []

    def maps(image: Tensor) -> Tensor:
        seen.append({name: one.clone() for name, one in network.state_dict().items()})
        return gradient_of(network)(image)

    found = cascade(network, maps, IMAGE)
    assert found.layers == ("last", "up", "first")
    assert found.spearman.shape == found.ssim.shape == (3, 4)
    randomised = (("last",), ("last", "up"), ("last", "up", "first", "norm", "slope"))
    for state, names in zip(seen[1:], randomised, strict=True):
        for key, value in state.items():
            if "num_batches" in key:
                continue
            changed = not torch.equal(value, seen[0][key])
            assert changed == (key.split(".")[0] in names), key


def test_random_weights_are_those_of_a_beginning() -> None:
    network = trained(Shuffled())
    for name, module in network.named_children():
        randomise(module, name, seed=3)
    state = network.state_dict()
    assert float(state["first.bias"].abs().max()) == 0
    assert state["norm.weight"].tolist() == [1.0] * 4
    assert state["norm.running_mean"].tolist() == [0.0] * 4
    assert state["norm.running_var"].tolist() == [1.0] * 4
    assert state["slope.weight"].tolist() == [0.25] * 4
    wide = nn.Conv2d(32, 64, kernel_size=3)
    randomise(wide, "wide", seed=3)
    assert float(wide.weight.detach().std()) == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.02)
    assert float(wide.weight.detach().mean()) == pytest.approx(0, abs=0.01)
    up = nn.ConvTranspose2d(64, 32, kernel_size=2, stride=2)
    randomise(up, "up", seed=3)
    assert float(up.weight.detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.03)


def test_weights_depend_on_seed_and_name_only() -> None:
    def drawn(name: str, seed: int) -> Tensor:
        module = nn.Conv2d(3, 5, kernel_size=3)
        randomise(module, name, seed)
        return module.weight.detach()

    assert torch.equal(drawn("a", 1), drawn("a", 1))
    assert not torch.equal(drawn("a", 1), drawn("b", 1))
    assert not torch.equal(drawn("a", 1), drawn("a", 2))


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_bit_for_bit_as_it_was(fails: bool) -> None:
    network = trained(Shuffled())
    network.norm.eval()
    network.first.weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    flags = [parameter.requires_grad for parameter in network.parameters()]
    places = [parameter.data_ptr() for parameter in network.parameters()]
    random = torch.get_rng_state()
    calls = 0

    def maps(image: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if fails and calls == 3:
            msg = "the method gave up"
            raise RuntimeError(msg)
        return gradient_of(network)(image)

    if fails:
        with pytest.raises(RuntimeError, match="gave up"):
            cascade(network, maps, IMAGE)
    else:
        cascade(network, maps, IMAGE)
        assert calls == 4
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert [parameter.data_ptr() for parameter in network.parameters()] == places
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks for module in network.modules())


def test_a_gradient_changes_and_a_picture_of_the_image_does_not() -> None:
    network = ConvNet()
    learned = cascade(network, gradient_of(network), IMAGE)
    drawn = cascade(network, lambda image: image - image.mean(), IMAGE)
    assert bool((drawn.spearman == 1).all())
    torch.testing.assert_close(drawn.ssim, torch.ones_like(drawn.ssim))
    assert bool((learned.spearman[-1].abs() < 0.5).all())
    assert bool((learned.ssim[-1] < 0.9).all())


@pytest.mark.parametrize("kind", ["script", "trace", "export"])
def test_a_stored_network_forgets_layer_by_layer(kind: str, tmp_path: Path) -> None:
    """Layers stand as they were declared, and end with the weights of the network itself."""
    network = trained(Shuffled())
    found = stored(network, kind, tmp_path)
    torch.testing.assert_close(found(IMAGE), network(IMAGE))
    before = copy.deepcopy(found.state_dict())
    seen: list[dict[str, Tensor]] = []

    def maps(image: Tensor) -> Tensor:
        seen.append({name: one.clone() for name, one in found.state_dict().items()})
        return gradient_of(found)(image)

    similar = cascade(found, maps, IMAGE, seed=3)
    declared = [
        layer[0].removeprefix("program.").split(".")[0]
        for layer in reversed(weight_layers(found, IMAGE[:1]))
    ]
    unused = [] if "unused" not in declared else ["unused"]
    assert declared == ["first", "up", *unused, "last"]
    assert [name.removeprefix("program.").split(".")[0] for name in similar.layers] == declared
    assert similar.spearman.shape == (len(declared), len(IMAGE))
    assert bool((similar.spearman[-1].abs() < 0.5).all())
    changed = [
        {key for key in before if not torch.equal(state[key], before[key])} for state in seen
    ]
    assert not changed[0]
    assert {key.split(".")[1] for key in changed[1]} == {"first"}
    # Its count of batches is a number of the norm that no map depends on.
    assert {key for key in before if "num_batches" not in key} == changed[-1] - {
        key for key in before if "num_batches" in key
    }
    assert all(torch.equal(found.state_dict()[key], value) for key, value in before.items())
    for kept, expected in (("running_mean", 0.0), ("running_var", 1.0)):
        assert seen[-1][f"program.norm.{kept}"].tolist() == [expected] * 4
    last = seen[-1]["program.first.weight"]
    assert float(last.abs().max()) <= (6 / 9) ** 0.5
    assert float(seen[-1]["program.first.bias"].abs().max()) == 0


def test_scripts_forget_the_slopes_of_prelu(tmp_path: Path) -> None:
    found = stored(trained(Shuffled()), "script", tmp_path)
    for name, module in found.named_modules():
        randomise(module, name, seed=3)
    assert found.state_dict()["program.slope.weight"].tolist() == [0.25] * 4


def test_an_exported_network_s_own_weight_is_not_all_there_is(tmp_path: Path) -> None:
    found = stored(Scaled(), "export", tmp_path)
    names = [layer[0] for layer in weight_layers(found, IMAGE[:1])]
    assert names == [f"program.{name}" for name in ("scale", "first.weight", "last.weight")]
    similar = cascade(found, gradient_of(found), IMAGE)
    assert similar.layers == tuple(reversed(names))


def test_maps_that_are_given_are_not_drawn_again() -> None:
    network = trained(Shuffled()).eval()
    calls: list[Tensor] = []

    def maps(image: Tensor) -> Tensor:
        calls.append(gradient_of(network)(image))
        return calls[-1]

    expected = cascade(network, maps, IMAGE)
    assert len(calls) == 4
    given = calls[0]
    calls.clear()
    found = cascade(network, maps, IMAGE, trained=given)
    assert len(calls) == 3
    assert torch.equal(found.spearman, expected.spearman)
    assert torch.equal(found.ssim, expected.ssim)
    other = cascade(network, maps, IMAGE, trained=given.flip(3))
    assert not torch.equal(other.spearman, expected.spearman)


def test_slices_smaller_than_the_window_have_no_structure_but_ranks() -> None:
    network = ConvNet()
    image = IMAGE[:, :, :8, :8]

    def maps(image: Tensor) -> Tensor:
        return input_gradient(
            network, probability_sum, image, BATCH["mask"][..., :8, :8], BATCH["valid"][..., :8, :8]
        )

    found = cascade(network, maps, image)
    assert bool(found.ssim.isnan().all())
    assert found.ssim.shape == found.spearman.shape
    assert not bool(found.spearman.isnan().any())


def test_it_works_inside_inference_mode() -> None:
    network = ConvNet(norm=True)
    expected = cascade(network, gradient_of(network), IMAGE)
    with torch.inference_mode():
        found = cascade(network, gradient_of(network), IMAGE)
    torch.testing.assert_close(found.spearman, expected.spearman)


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="found no weights"):
        cascade(nn.ReLU(), lambda image: image, IMAGE)


@given(st.integers(1, 60), st.integers(1, 12))
def test_steps_take_every_layer_once_in_groups_of_nearly_equal_size(layers: int, most: int) -> None:
    steps = cascade_steps(layers, most)
    assert [layer for step in steps for layer in range(layers)[step]] == list(range(layers))
    sizes = [step.stop - step.start for step in steps]
    assert len(sizes) == min(layers, most)
    assert max(sizes) - min(sizes) <= 1
    assert cascade_steps(layers, None) == [slice(layer, layer + 1) for layer in range(layers)]


def test_few_steps_are_some_of_many() -> None:
    network = UNet(1, 1, (4, 8)).eval()
    maps = gradient_of(network)
    whole, few = cascade(network, maps, IMAGE), cascade(network, maps, IMAGE, most=3)
    assert len(whole.layers) > len(few.layers) == 3
    places = [whole.layers.index(name) for name in few.layers]
    assert places[-1] == len(whole.layers) - 1
    torch.testing.assert_close(few.spearman, whole.spearman[places])
    torch.testing.assert_close(few.ssim, whole.ssim[places])
