"""The size of batches is the smallest that is about as fast as any."""

import time

import pytest
import torch
from torch import Tensor, nn

from robustness.batch_size import candidates_for, fastest_batch_size, seconds_per_slice


class _Recorder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.seen.append(image)
        return image


class _Timed(nn.Module):
    """Takes as long as it is told to for a slice of a batch, and has room for so many."""

    def __init__(self, milliseconds: dict[int, float], room: int = 1000) -> None:
        super().__init__()
        self.milliseconds = milliseconds
        self.room = room
        self.sizes: set[int] = set()

    def forward(self, image: Tensor) -> Tensor:
        size = len(image)
        if size > self.room:
            msg = "no memory"
            raise torch.OutOfMemoryError(msg)
        self.sizes.add(size)
        time.sleep(size * self.milliseconds[size] / 1000)
        return image


@pytest.mark.parametrize(
    ("milliseconds", "best", "tried"),
    [
        ({32: 0.3, 64: 0.15, 128: 0.4}, 64, {32, 64, 128}),
        ({32: 0.3, 64: 0.6, 128: 0.1}, 32, {32, 64}),
        ({32: 0.3, 64: 0.3, 128: 0.1}, 32, {32, 64}),
    ],
    ids=["until it is slower", "the first", "no faster"],
)
def test_larger_batches_are_taken_as_long_as_they_pay(
    milliseconds: dict[int, float], best: int, tried: set[int]
) -> None:
    network = _Timed(milliseconds)
    assert fastest_batch_size(network, torch.rand(3, 1, 4, 4)) == best
    assert network.sizes == tried


def test_a_batch_without_room_is_not_taken() -> None:
    network = _Timed({32: 0.4, 64: 0.2, 128: 0.05}, room=64)
    assert fastest_batch_size(network, torch.rand(1, 1, 4, 4)) == 64
    with pytest.raises(torch.OutOfMemoryError):
        fastest_batch_size(_Timed({}, room=8), torch.rand(1, 1, 4, 4))


def test_the_time_is_measured_on_full_batches_of_the_given_slices() -> None:
    network, image = _Recorder(), torch.rand(3, 1, 4, 4)
    seconds = seconds_per_slice(network, image, 8, trials=2)
    assert 0 < seconds < 1
    assert len(network.seen) == 3
    expected = torch.cat([image, image, image[:2]])
    assert all(torch.equal(seen, expected) for seen in network.seen)


@pytest.mark.parametrize(("side", "first"), [(4, 32), (64, 32), (96, 16), (512, 16)])
def test_small_slices_come_in_larger_batches(side: int, first: int) -> None:
    assert candidates_for(torch.empty(1, 1, side, side))[0] == first
