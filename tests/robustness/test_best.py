"""The best of several images is kept slice by slice."""

import torch

from robustness.best import Best, chosen


def test_the_best_image_is_kept_slice_by_slice() -> None:
    best = Best(torch.zeros(3, 1, 1, 1))
    best.show(torch.full((3, 1, 1, 1), 1.0), torch.tensor([5.0, 1.0, float("nan")]))
    better = best.show(torch.full((3, 1, 1, 1), 2.0), torch.tensor([4.0, 2.0, -3.0]))
    assert better.tolist() == [False, True, True]
    assert best.image.flatten().tolist() == [1.0, 2.0, 2.0]
    assert best.value.tolist() == [5.0, 2.0, -3.0]


def test_nothing_is_kept_before_something_is_shown() -> None:
    clean = torch.rand(2, 1, 3, 3)
    best = Best(clean)
    assert best.image is clean
    assert best.value.tolist() == [-torch.inf] * 2


def test_images_are_chosen_as_a_whole() -> None:
    first, second = torch.ones(2, 2, 3, 3), torch.zeros(2, 2, 3, 3)
    found = chosen(torch.tensor([True, False]), first, second)
    assert torch.equal(found[0], first[0])
    assert torch.equal(found[1], second[1])
