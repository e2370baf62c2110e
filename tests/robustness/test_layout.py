"""Layout, size of batches and compilation change no count beyond rounding at the threshold."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from lightning_module.unet import UNet
from robustness.attack import Attack
from robustness.counter import Attacker
from robustness.counts import counts_frame
from robustness.engine import evaluate
from robustness.layout import LAYOUTS, laid_out
from robustness.pixel_attacks import CountAttack
from robustness.plan import make_plan
from robustness.saliency import Forward
from tests.robustness.reference import Slice
from tests.robustness.toy import CPU, as_batch, make_slices
from tests.tools import needs_compiler

# Far above what another order of sums changes, far below what a logit usually is.
_ROUNDING = 1e-4
_ATTACK: Attack = CountAttack("drawn", (1, 8, 64), ranking="random", repeats=2)


def network() -> UNet:
    """A U-Net with weights and statistics that are not those it begins with."""
    torch.manual_seed(0)
    made = UNet(1, 1, channels=(8, 16, 32)).train()
    with torch.no_grad():
        for _ in range(3):
            made(torch.rand(8, 1, 32, 32))
    return made.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def counted(
    forward: Forward, slices: Sequence[Slice], batch_size: int, counted_by: Forward | None = None
) -> pd.DataFrame:
    plan = make_plan([_ATTACK])
    found = evaluate(
        forward if counted_by is None else counted_by,
        [as_batch(slices)],
        plan,
        device=CPU,
        batch_size=batch_size,
        attacker=Attacker(forward, counted_by=counted_by),
    )
    return counts_frame([found.counts.partial()], plan.rows, ["a"])


class Near:
    """Passes images on and counts the pixels whose logit another rounding could turn."""

    def __init__(self, made: UNet) -> None:
        self.made = made
        self.pixels = 0
        self.seen = 0

    def __call__(self, image: Tensor) -> Tensor:
        logits: Tensor = self.made(image)
        self.pixels += int((logits.abs() < _ROUNDING).sum())
        self.seen += logits.numel()
        return logits


def assert_alike(found: pd.DataFrame, plain: pd.DataFrame, near: Near) -> None:
    """Not more pixels differ than there are near the threshold, and those are few."""
    assert near.pixels < 1e-3 * near.seen
    pd.testing.assert_frame_equal(
        found.drop(columns=["tp", "fp", "fn", "fp_empty", "slice_dice_q20"]),
        plain.drop(columns=["tp", "fp", "fn", "fp_empty", "slice_dice_q20"]),
    )
    differences = (found[["tp", "fp"]] - plain[["tp", "fp"]]).abs().to_numpy()
    assert differences.sum() <= near.pixels


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_size", [16, 24, 64])
def test_neither_layout_nor_size_changes_more_than_rounding(layout: str, batch_size: int) -> None:
    made, slices = network(), make_slices(20, size=32)
    near = Near(made)
    plain = counted(near, slices, 16)
    with laid_out(made, layout):
        assert_alike(counted(made, slices, batch_size), plain, near)


@needs_compiler
def test_compiling_changes_no_more_than_rounding() -> None:
    made, slices = network(), make_slices(20, size=32)
    near = Near(made)
    plain = counted(near, slices, 16)
    assert_alike(counted(made, slices, 16, torch.compile(made)), plain, near)


def test_weights_are_afterwards_where_and_how_they_were() -> None:
    made = network()
    before = {name: (w.data_ptr(), w.stride(), w.clone()) for name, w in made.named_parameters()}
    for layout in LAYOUTS:
        with laid_out(made, layout):
            wide = [w for w in made.parameters() if w.dim() == 4 and min(w.shape) > 1]
            assert all(w.is_contiguous(memory_format=LAYOUTS[layout]) for w in wide)
        for name, weight in made.named_parameters():
            place, strides, values = before[name]
            assert (weight.data_ptr(), weight.stride()) == (place, strides)
            assert torch.equal(weight, values)


def test_features_lie_as_the_weights_do() -> None:
    made, image = network(), torch.from_numpy(np.random.default_rng(0).random((2, 1, 32, 32)))
    kept: list[Tensor] = []
    convolution = next(iter(made.encoder[1].children()))
    hook = convolution.register_forward_hook(lambda *given: kept.append(given[2]))
    for layout in LAYOUTS:
        with laid_out(made, layout):
            made(image.float())
        assert kept[-1].is_contiguous(memory_format=LAYOUTS[layout])
    hook.remove()
