"""Occlusion and LIME: networks whose answer is known, and captum's occlusion."""

import resource
import sys
from time import process_time

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor, nn

from robustness.attribution import explain
from robustness.attribution_perturbation import Lime, Occlusion, default_side
from robustness.objectives import logit_sum, probability_sum
from robustness.superpixels import ROUNDS, grid_cells, slic
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


@pytest.mark.parametrize(
    ("size", "side"),
    [((64, 64), 8), ((65, 65), 9), ((512, 512), 64), ((16, 16), 4), ((64, 256), 16)],
)
def test_sides_grow_with_the_slice(size: tuple[int, int], side: int) -> None:
    assert default_side(*size) == side
    count = len(set(grid_cells(torch.zeros(1, 1, *size), side).flatten().tolist()))
    assert count == (16 if size == (16, 16) else 64)
    assert Occlusion().passes(*size) == Occlusion(side, side // 2).passes(*size)
    assert Occlusion(stride=3).passes(*size) == Occlusion(side, 3).passes(*size)
    assert Occlusion(6).passes(*size) == Occlusion(6, 3).passes(*size)


def test_defaults_are_those_sides() -> None:
    network = Layered().eval()
    batch = batch_for(network, 2, size=40)
    for default, said in ((Occlusion(), Occlusion(5, 2)), (Lime(), Lime(cell=5))):
        found, expected = (
            explain(method, network, batch, probability_sum) for method in (default, said)
        )
        assert torch.equal(found, expected)
    assert Occlusion(window=1).passes(8, 8) == Occlusion(1, 1).passes(8, 8)


def test_a_stride_beyond_the_default_window_is_refused() -> None:
    network = OnePixel()
    with pytest.raises(ValueError, match="stride is 5, expected at most the window, 4"):
        explain(Occlusion(stride=5), network, batch_for(network), logit_sum)


def test_more_superpixels_than_half_the_samples_are_refused() -> None:
    network = Layered().eval()
    batch = batch_for(network)
    with pytest.raises(
        ValueError,
        match="lime: the number of superpixels with cell 4 is 16, expected at most half the "
        "samples, 15; raise cell or samples",
    ):
        explain(Lime(samples=31), network, batch, logit_sum)
    assert bool(explain(Lime(samples=32), network, batch, logit_sum).any())
    with pytest.raises(ValueError, match="with cell 1 is 256, expected at most half the samples"):
        explain(Lime(cell=1), network, batch, logit_sum)


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


def _slic_by_loops(
    image: np.ndarray, cell: int, compactness: float = 0.3, *, everywhere: bool = False
) -> np.ndarray:
    """Pixel by pixel over the squares around its own, or over all squares."""
    _, height, width = image.shape
    down, across = -(-height // cell), -(-width // cell)
    span = float(image.max() - image.min()) or 1.0
    side = (height * width / (down * across)) ** 0.5
    points = {
        (row, column): np.array(
            [*(image[:, row, column] / span), *(compactness * np.array([row, column]) / side)]
        )
        for row in range(height)
        for column in range(width)
    }
    labels = {(row, column): row // cell * across + column // cell for row, column in points}
    start = dict(labels)
    centres: dict[int, np.ndarray] = {}
    for _ in range(ROUNDS):
        for label in range(down * across):
            inside = [points[place] for place in points if labels[place] == label]
            if inside:
                centres[label] = np.mean(inside, axis=0)
        for place, point in points.items():
            row, column = divmod(start[place], across)
            candidates = [
                label
                for label in centres
                if everywhere
                or (abs(label // across - row) <= 1 and abs(label % across - column) <= 1)
            ]
            labels[place] = min(candidates, key=lambda one: ((point - centres[one]) ** 2).sum())
    return np.array([[labels[row, column] for column in range(width)] for row in range(height)])


@pytest.mark.parametrize(("size", "cell"), [((13, 18), 4), ((16, 9), 3), ((7, 7), 8)])
def test_superpixels_are_those_of_loops(size: tuple[int, int], cell: int) -> None:
    draw = torch.Generator().manual_seed(sum(size))
    image = torch.rand(2, 2, *size, generator=draw, dtype=torch.float64)
    labels = slic(image, grid_cells(image, cell))
    for row in range(2):
        assert np.array_equal(labels[row].numpy(), _slic_by_loops(image[row].numpy(), cell))


def test_neighbours_are_enough_at_an_edge() -> None:
    rows, columns = torch.meshgrid(torch.arange(20), torch.arange(20), indexing="ij")
    image = (rows + 0.4 * columns > 13).double()[None, None]
    cells = grid_cells(image, 4)
    labels = slic(image, cells, compactness=0.8)
    assert float((labels != cells).double().mean()) > 0.03
    everywhere = _slic_by_loops(image[0].numpy(), 4, 0.8, everywhere=True)
    assert np.array_equal(labels[0].numpy(), everywhere)


def test_large_slices_take_neither_long_nor_much_memory() -> None:
    image = torch.rand(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    unit = 1 if sys.platform == "darwin" else 1024
    for cell in (8, 64):
        held, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, process_time()
        slic(image, grid_cells(image, cell))
        assert process_time() - start < 2 * torch.get_num_threads()
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held) * unit < 500e6
