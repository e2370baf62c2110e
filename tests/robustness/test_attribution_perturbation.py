"""Occlusion and LIME: networks whose answer is known, and captum's occlusion."""

import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor, nn

from robustness.attribution import explain
from robustness.attribution_perturbation import Lime, Occlusion
from robustness.objectives import logit_sum, probability_sum
from robustness.superpixels import grid_cells, slic
from tests.robustness.toy_layers import Layered, Scored, batch_for, rows_of


class OnePixel(nn.Module):
    """Every logit is the brightness of the pixel at row 5, column 9."""

    def forward(self, image: Tensor) -> Tensor:
        return image[..., 5:6, 9:10].expand_as(image)


class Weighted(nn.Module):
    """Logits are the image times fixed weights, so that pixels simply add up."""

    def __init__(self, size: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weights = torch.randn(1, 1, size, size, generator=draw)

    def forward(self, image: Tensor) -> Tensor:
        return image * self.weights


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (4, 2), (5, 3)])
def test_occlusion_finds_the_one_pixel_that_matters(window: int, stride: int) -> None:
    network = OnePixel()
    batch = batch_for(network)
    found = explain(Occlusion(window, stride), network, batch, logit_sum)
    brightness = batch.image[:, 0, 5, 9]
    torch.testing.assert_close(found[:, 0, 5, 9], 256 * brightness)
    torch.testing.assert_close(found.flatten(1).amax(dim=1), 256 * brightness)
    far = torch.ones(16, 16, dtype=torch.bool)
    far[max(0, 6 - window) : 5 + window, max(0, 10 - window) : 9 + window] = False
    assert not bool(found[:, :, far].any())


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (7, 4), (16, 16)])
def test_occlusion_is_captum_s(window: int, stride: int) -> None:
    network = Layered(2, 2).eval()
    batch = batch_for(network, channels=2, classes=2)
    found = explain(
        Occlusion(window, stride, baseline=0.3, valid_only=False), network, batch, probability_sum
    )
    expected = CaptumOcclusion(Scored(network, batch, probability_sum)).attribute(
        batch.image.clone(),
        sliding_window_shapes=(2, window, window),
        strides=(2, stride, stride),
        baselines=0.3,
    )
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5 * scale)


def test_a_window_larger_than_the_image_is_refused() -> None:
    network = OnePixel()
    with pytest.raises(ValueError, match="window is 17, expected at most the image's side, 16"):
        explain(Occlusion(17, 4), network, batch_for(network), logit_sum)


@pytest.mark.parametrize("superpixels", ["grid", "slic"])
def test_lime_finds_what_each_superpixel_adds(superpixels: str) -> None:
    network = Weighted(16)
    batch = batch_for(network)
    method = Lime(superpixels, cell=5, samples=80, ridge=1e-6)  # type: ignore[arg-type]
    found = explain(method, network, batch, logit_sum)
    cells = grid_cells(batch.image, 5)
    labels = cells if superpixels == "grid" else slic(batch.image, cells)
    added = (batch.image * network.weights)[:, 0]
    for row in range(4):
        for label in torch.arange(16):
            inside = labels[row] == label
            expected = torch.where(batch.valid[row, 0] & inside, added[row][inside].sum(), 0)
            torch.testing.assert_close(
                found[row, 0][inside], expected[inside], rtol=1e-3, atol=1e-3
            )


def test_a_heavier_ridge_shrinks_lime_s_slopes() -> None:
    network = Weighted(16)
    batch = batch_for(network)
    sizes = [
        float(explain(Lime(samples=40, ridge=ridge), network, batch, logit_sum).abs().sum())
        for ridge in (0.01, 1.0, 100.0)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0] / 5


def test_lime_weighs_near_samples_more() -> None:
    network = Layered().eval()
    batch = batch_for(network)
    near, far = (
        explain(Lime(samples=60, width=width, ridge=1e-3), network, batch, probability_sum)
        for width in (0.05, 5.0)
    )
    assert not torch.allclose(near, far, atol=1e-3)


def test_a_grid_numbers_squares_row_by_row() -> None:
    found = grid_cells(torch.zeros(2, 1, 4, 5), 2)
    expected = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5], [3, 3, 4, 4, 5]])
    assert torch.equal(found, expected.expand(2, -1, -1))


def test_superpixels_follow_an_edge_that_squares_do_not() -> None:
    image = torch.zeros(1, 1, 16, 16)
    image[..., 6:] = 1.0
    labels = slic(image, grid_cells(image, 4))
    dark, bright = (set(half.flatten().tolist()) for half in (labels[..., :6], labels[..., 6:]))
    assert not dark & bright
    assert len(dark | bright) >= 12


def test_superpixels_of_a_flat_image_are_the_squares() -> None:
    image = torch.full((1, 2, 16, 16), 0.3)
    cells = grid_cells(image, 4)
    assert torch.equal(slic(image, cells), cells)


def test_superpixels_do_not_depend_on_other_slices_or_on_the_scale() -> None:
    batch = batch_for(OnePixel(), 6, channels=2, classes=2)
    labels = slic(batch.image, grid_cells(batch.image, 4))
    for row in range(6):
        image = rows_of(batch, slice(row, row + 1)).image
        assert torch.equal(slic(image, grid_cells(image, 4))[0], labels[row])
    scaled = slic(batch.image * 4, grid_cells(batch.image, 4))
    assert torch.equal(scaled, labels)
