"""Maps of a few slices by several methods, and what becomes of a method that cannot work."""

import json

import numpy as np
import torch
from torch import nn

from robustness.attribution import explain
from robustness.attribution_backprop import DeepLift, GuidedBackprop
from robustness.attribution_gradients import Gradient
from robustness.attribution_layers import GradCam
from robustness.explained import explained
from robustness.slice_maps import check_method, explain_slices, slice_maps, whole_batch
from robustness.snapshots import LargestSlices, SliceSample
from robustness.trust import Checked
from tests.robustness.toy import CPU, ConvNet, batches_of, make_slices


def samples(count: int = 3) -> list[SliceSample]:
    chooser = LargestSlices(count)
    for batch in batches_of(make_slices(5, classes=2), 5):
        chooser.look(batch)
    return chooser.samples()


def test_maps_are_those_of_the_method_slice_by_slice() -> None:
    network, chosen = ConvNet(1, 2).eval(), samples()
    batch = whole_batch(network, chosen, CPU)
    found = [
        explain_slices(network, batch, method, what="frozen", seed=5)
        for method in (GradCam(), Gradient())
    ]
    maps = slice_maps(batch, chosen, found, "frozen", "c" * 64)
    assert [(one.case, one.slice_index) for one in maps] == [
        (sample.case, sample.slice_index) for sample in chosen
    ]
    objective = explained("frozen", batch)
    for column, method in enumerate((GradCam(), Gradient())):
        expected = explain(method, network, batch, objective).numpy()
        for row, one in enumerate(maps):
            np.testing.assert_array_equal(one.maps[column], expected[row])
    first = maps[0]
    assert first.methods.tolist() == ["grad_cam", "gradient"]
    assert first.signed.tolist() == [False, True]
    assert first.checkpoint_sha256 == "c" * 64
    assert json.loads(first.settings[0]) == {**GradCam().settings(), "seed": 5}
    assert first.units.tolist() == [
        "sum of p in the clean prediction",
        "d(sum of p in the clean prediction) / d(intensity)",
    ]
    with torch.no_grad():
        probs = network(chosen[0].image[None]).sigmoid()[0].numpy()
    np.testing.assert_allclose(first.probs, probs, atol=1e-6)
    np.testing.assert_array_equal(first.image, chosen[0].image.numpy())
    np.testing.assert_array_equal(first.mask, chosen[0].mask.numpy() > 0)
    np.testing.assert_array_equal(first.valid, chosen[0].valid[0].numpy())


def test_a_method_that_cannot_work_is_named_with_the_reason() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 2, 1)).eval()
    chosen = samples()
    batch = whole_batch(network, chosen, CPU)
    guided, lifted = (
        explain_slices(network, batch, method) for method in (GuidedBackprop(), DeepLift())
    )
    assert guided.maps is None
    assert guided.checked is None
    assert "gelu" in guided.refused
    assert lifted.refused == ""
    (first, *_) = slice_maps(batch, chosen, [guided, lifted], "all")
    assert first.methods.tolist() == ["deeplift"]
    assert slice_maps(batch, chosen, [guided], "all") == []


def test_a_predicted_mask_is_frozen_for_the_checks() -> None:
    """Under other weights and pixels another region would be explained."""
    network = ConvNet(1, 2).eval()
    batch = whole_batch(network, samples(), CPU)
    moving, frozen = (
        check_method(network, batch, Gradient(), what=what) for what in ("predicted", "frozen")
    )
    assert isinstance(moving, Checked)
    assert moving == frozen


def test_maps_are_there_although_they_cannot_be_checked() -> None:
    class Plain(nn.Module):
        """Has nothing to learn, and nothing to randomise."""

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat([image - 0.5, image**2], dim=1)

    batch = whole_batch(Plain(), samples(), CPU)
    assert explain_slices(Plain(), batch, Gradient()).maps is not None
    found = check_method(Plain(), batch, Gradient())
    assert isinstance(found, str)
    assert found.startswith("not checkable: network: found no weights")
