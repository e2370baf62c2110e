"""Small networks of modules for attribution, and batches for them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustness.attack import AttackBatch
from robustness.attribution import find_method
from robustness.attribution_method import Attribution
from robustness.batches import attack_batch, fixed_size
from robustness.objectives import Objective
from robustness.saliency import Forward
from tests.robustness.toy import CPU, as_batch, make_slices

Activation = Callable[[], nn.Module]


class Layered(nn.Module):
    """Two levels, batch norm with uneven statistics and one pool, of modules used once each."""

    def __init__(
        self,
        channels: int = 1,
        classes: int = 1,
        activation: Activation = nn.ReLU,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.first = nn.Conv2d(channels, 6, kernel_size=3, padding=1)
            self.norm = norm(6)
            self.first_on = activation()
            self.pool = nn.MaxPool2d(2)
            self.second = nn.Conv2d(6, 8, kernel_size=3, padding=1)
            self.second_on = activation()
            self.upsample = nn.ConvTranspose2d(8, 6, kernel_size=2, stride=2)
            self.head = nn.Conv2d(12, classes, kernel_size=1)
            if isinstance(self.norm, nn.BatchNorm2d):
                self.norm.running_mean = torch.rand(6) - 0.5
                self.norm.running_var = torch.rand(6) / 2 + 0.1
        with torch.no_grad():
            self.first.weight *= 3
            self.head.weight *= 3

    def forward(self, image: Tensor) -> Tensor:
        fine = self.first_on(self.norm(self.first(image)))
        # captum 0.9's DeepLIFT goes wrong at a pool whose input is what an activation gave.
        coarse = self.second_on(self.second(self.pool(1 * fine)))
        logits: Tensor = self.head(torch.cat([fine, self.upsample(coarse)], dim=1))
        return logits


class Reusing(nn.Module):
    """The same computation with functions, or with one activation for both places."""

    def __init__(self, inner: Layered, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = inner
        self.activation = activation

    def forward(self, image: Tensor) -> Tensor:
        inner = self.inner
        fine = self.activation(inner.norm(inner.first(image)))
        coarse = self.activation(inner.second(nn.functional.max_pool2d(fine, 2)))
        logits: Tensor = inner.head(torch.cat([fine, inner.upsample(coarse)], dim=1))
        return logits


class Scored(nn.Module):
    """A network with the objective at its end, as other libraries want it; one scalar a slice."""

    def __init__(self, network: nn.Module, batch: AttackBatch, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.batch = batch
        self.objective = objective

    def forward(self, image: Tensor) -> Tensor:
        # Other libraries stack inputs and baselines, or points of a line.
        times = len(image) // len(self.batch.image)
        target, valid = (
            one.repeat(times, 1, 1, 1) for one in (self.batch.mask, self.batch.counted)
        )
        return self.objective(self.network(image), target, valid)


def made(name: str, **settings: object) -> Attribution:
    """A method by name."""
    kind: Callable[..., Attribution] = find_method(name)
    return kind(**settings)


def batch_for(
    forward: Forward, count: int = 4, *, channels: int = 1, classes: int = 1, size: int = 16
) -> AttackBatch:
    """Slices with padding, some empty, the last one dark."""
    slices = make_slices(count, channels=channels, classes=classes, size=size)
    (piece,) = fixed_size([as_batch(slices)], count)
    return attack_batch(forward, piece, CPU)


def rows_of(batch: AttackBatch, rows: slice) -> AttackBatch:
    """Some slices of a batch, in a batch of their own."""
    return AttackBatch(
        batch.forward,
        batch.image[rows],
        batch.mask[rows],
        batch.valid[rows],
        batch.case_keys[rows],
        batch.slice_index[rows],
        batch.counted[rows],
    )
