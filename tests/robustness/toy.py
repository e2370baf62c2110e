"""Small networks, slices and tables of attacks that the tests of this folder share."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn

from robustness.attack import Attack
from robustness.batches import Batch
from robustness.counts import FIELDS, CountTable, counts_frame
from robustness.engine import evaluate
from robustness.pixel_attacks import CountAttack, LevelAttack
from robustness.plan import Plan, make_plan
from robustness.saliency import Forward
from tests.robustness.reference import Slice

CPU = torch.device("cpu")
CONF = Path(__file__).resolve().parents[2] / "conf"
KEYS = ["attack", "point_index", "repeat", "case", "class"]

Spec = tuple[str, dict[str, Any]]


class ConvNet(nn.Module):
    """Two resolutions and a skip connection; random weights, the same for the same arguments."""

    def __init__(
        self,
        channels: int = 1,
        classes: int = 1,
        *,
        norm: bool = False,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.fine = nn.Conv2d(channels, 6, kernel_size=3, padding=1)
            self.coarse = nn.Conv2d(6, 8, kernel_size=3, padding=1)
            self.head = nn.Conv2d(14, classes, kernel_size=3, padding=1)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.dropout = nn.Dropout2d(dropout)
        with torch.no_grad():
            self.fine.weight *= 6
            self.head.weight *= 4

    def forward(self, image: Tensor) -> Tensor:
        fine = torch.relu(self.norm(self.fine(image)))
        coarse = torch.relu(self.coarse(nn.functional.avg_pool2d(fine, 2)))
        upsampled = nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        logits: Tensor = self.head(self.dropout(torch.cat([fine, upsampled], dim=1)))
        return logits


class Thresholded(nn.Module):
    """Sees what is brighter than 0.5 alone: its gradient is zero on dark slices."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.inner(torch.relu(image - 0.5))
        return logits


class CallCounter:
    """Passes images on to a network and counts forward and backward passes through it."""

    def __init__(self, network: Forward) -> None:
        self.network = network
        self.forwards = 0
        self.under_gradient = 0
        self.backwards = 0
        self.sizes: set[int] = set()

    def __call__(self, image: Tensor) -> Tensor:
        logits = self.network(image)
        self.forwards += 1
        self.sizes.add(len(image))
        if logits.requires_grad:
            self.under_gradient += 1
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += 1


def make_slices(
    count: int = 10,
    *,
    channels: int = 1,
    classes: int = 1,
    size: int = 24,
    cases: int = 3,
    seed: int = 0,
) -> list[Slice]:
    """Slices with smooth noise in [0, 1], zero padding right and below, and every third one empty.

    The last slice is dark: nothing in it is brighter than 0.2.
    """
    draw = np.random.default_rng(seed)
    made = []
    for number in range(count):
        image = draw.random((channels, size, size), dtype=np.float32)
        image = (image + np.roll(image, 1, axis=1) + np.roll(image, 1, axis=2)) / np.float32(3)
        mask = draw.random((classes, size, size)) < (0.0 if number % 3 == 2 else 0.3)
        valid = np.zeros((size, size), dtype=bool)
        valid[: size - 2, : size - 3 - number % 2] = True
        if number == count - 1:
            image *= np.float32(0.2)
        made.append(
            Slice(
                case=f"case_{number % cases}",
                index=number // cases,
                image=image * valid,
                mask=mask & valid,
                valid=valid,
            )
        )
    return made


def as_batch(slices: Sequence[Slice]) -> Batch:
    """One batch of the design."""
    return {
        "image": torch.from_numpy(np.stack([one.image for one in slices])),
        "mask": torch.from_numpy(np.stack([one.mask for one in slices])).float(),
        "valid": torch.from_numpy(np.stack([one.valid for one in slices]))[:, None],
        "case": [one.case for one in slices],
        "slice_index": torch.tensor([one.index for one in slices]),
    }


def batches_of(slices: Sequence[Slice], size: int) -> Iterator[Batch]:
    """Batches of a loader, the last one shorter."""
    for start in range(0, len(slices), size):
        yield as_batch(slices[start : start + size])


def class_names(count: int) -> list[str]:
    return [f"class_{index}" for index in range(count)]


def count_table(
    network: Forward,
    slices: Sequence[Slice],
    attacks: Sequence[Attack],
    *,
    loader: int = 8,
    batch_size: int = 8,
    seed: int = 0,
) -> tuple[CountTable, Plan]:
    """Run the engine."""
    plan = make_plan(attacks)
    batches = batches_of(slices, loader)
    return (
        evaluate(network, batches, plan, device=CPU, seed=seed, batch_size=batch_size).counts,
        plan,
    )


def count(
    network: Forward,
    slices: Sequence[Slice],
    attacks: Sequence[Attack],
    *,
    loader: int = 8,
    batch_size: int = 8,
    seed: int = 0,
) -> pd.DataFrame:
    """Run the engine and lay the counts out as a table."""
    table, plan = count_table(
        network, slices, attacks, loader=loader, batch_size=batch_size, seed=seed
    )
    return counts_frame([table.partial()], plan.rows, class_names(len(slices[0].mask)))


def counts_by_key(frame: pd.DataFrame) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Whole numbers of each row of a table, in the order of ``FIELDS``."""
    keys = frame[KEYS].itertuples(index=False, name=None)
    values = frame[list(FIELDS)].itertuples(index=False, name=None)
    return dict(zip(keys, values, strict=True))


def attack_specs(path: Path) -> list[Spec]:
    """``class_path`` and ``init_args`` of each attack of a YAML file."""
    robustness = yaml.safe_load(path.read_text(encoding="utf-8")).get("robustness", {})
    entries = [*robustness.get("attacks", []), *robustness.get("attacks+", [])]
    return [(entry["class_path"], entry["init_args"]) for entry in entries]


def check_refused(make: Callable[[], object], message: str) -> None:
    """Settings that make no sense are refused in one line."""
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def few_repeats(spec: Spec, repeats: int = 2) -> Spec:
    """An attack with few repeats, all of them made: no plan of how many are enough."""
    few = min(spec[1].get("repeats", 1), repeats)
    kept = {key: value for key, value in spec[1].items() if key != "half_width"}
    return spec[0], {**kept, "repeats": few}


def build(spec: Spec) -> Attack:
    """Make an attack of a YAML file, lists as tuples."""
    module, _, name = spec[0].rpartition(".")
    settings = {
        key: tuple(value) if isinstance(value, list) else value for key, value in spec[1].items()
    }
    attack: Attack = getattr(import_module(module), name)(**settings)
    return attack


def few_attacks() -> list[Attack]:
    """One attack of each kind, with few points."""
    return [
        LevelAttack("levels", levels=(0.0, 0.5, 1.0), pixels=3),
        CountAttack("counts", counts=(1, 4, 9), value=0.2, ranking="gradient_abs"),
        CountAttack("values", counts=(2, 6), repeats=3, ranking="gradient_logit"),
        CountAttack(
            "values_control", counts=(2, 6), repeats=3, ranking="random", values_like="values"
        ),
    ]


def with_its_source(attack: Attack) -> list[Attack]:
    """One of the few attacks, behind the one whose values it takes: it is refused without."""
    names = {attack.name, getattr(attack, "values_like", "")}
    return [one for one in few_attacks() if one.name in names]
