"""Pieces of one size: every slice once, in order, the last piece filled up."""

from collections.abc import Iterator

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustness.batches import Batch, Piece, attack_batch, fixed_size
from robustness.keyed_random import text_key
from tests.robustness.toy import CPU, ConvNet, as_batch, make_slices


def _numbered(start: int, count: int, side: int = 2) -> Batch:
    """Slices whose every pixel is their number."""
    numbers = torch.arange(start, start + count)
    shape = (count, 1, side, side)
    return {
        "image": numbers.reshape(-1, 1, 1, 1).expand(shape).float(),
        "mask": (numbers % 2).reshape(-1, 1, 1, 1).expand(shape).float(),
        "valid": (numbers % 3 > 0).reshape(-1, 1, 1, 1).expand(shape),
        "case": [f"case_{number}" for number in numbers.tolist()],
        "slice_index": numbers,
    }


def _stream(sizes: list[int]) -> Iterator[Batch]:
    starts = np.cumsum([0, *sizes]).tolist()
    for start, size in zip(starts, sizes, strict=False):
        yield _numbered(start, size)


def _check_rows(piece: Piece, numbers: list[int]) -> None:
    """Each row of a piece, those that fill it up included, is one and the same slice."""
    assert piece.slice_index.tolist() == numbers
    assert piece.image[:, 0, 1, 0].tolist() == numbers
    assert piece.mask[:, 0, 0, 1].tolist() == [number % 2 for number in numbers]
    assert piece.valid[:, 0, 1, 1].tolist() == [number % 3 > 0 for number in numbers]


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 8))
def test_batches_of_any_sizes_become_pieces_of_one(sizes: list[int], size: int) -> None:
    pieces = list(fixed_size(_stream(sizes), size))
    total = sum(sizes)
    assert len(pieces) == -(-total // size)
    for number, piece in enumerate(pieces):
        numbers = [min(number * size + row, total - 1) for row in range(size)]
        _check_rows(piece, numbers)
        real = min(size, total - number * size)
        assert piece.cases == [f"case_{value}" for value in numbers[:real]]


def test_a_small_batch_waits_for_the_next_one() -> None:
    """A loader's batches that are smaller than the engine's cost no extra passes."""
    pieces = fixed_size(_stream([3, 3, 3, 3]), 6)
    assert [len(piece.cases) for piece in pieces] == [6, 6]


def test_pieces_are_handed_on_as_soon_as_they_are_full() -> None:
    seen: list[int] = []

    def watched() -> Iterator[Batch]:
        for batch in _stream([4, 4, 4]):
            seen.append(len(batch["case"]))
            yield batch

    pieces = fixed_size(watched(), 4)
    next(pieces)
    assert seen == [4]


def test_slices_of_another_size_begin_a_new_piece() -> None:
    batches = [_numbered(0, 3), _numbered(3, 2, side=4), _numbered(5, 4, side=4)]
    pieces = list(fixed_size(batches, 4))
    assert [len(piece.cases) for piece in pieces] == [3, 4, 2]
    assert [piece.image.shape[-1] for piece in pieces] == [2, 4, 4]
    _check_rows(pieces[0], [0, 1, 2, 2])
    _check_rows(pieces[1], [3, 4, 5, 6])
    _check_rows(pieces[2], [7, 8, 8, 8])


def test_attacks_see_the_slices_with_their_keys() -> None:
    network = ConvNet()
    (piece,) = fixed_size([_numbered(0, 3)], 5)
    batch = attack_batch(network, piece, CPU)
    assert batch.forward is network
    keys = [text_key(f"case_{number}") for number in (0, 1, 2, 2, 2)]
    assert batch.case_keys.tolist() == keys
    assert batch.slice_index.tolist() == [0, 1, 2, 2, 2]
    for name in ("image", "mask", "valid"):
        assert torch.equal(getattr(batch, name), getattr(piece, name))


def test_images_lie_in_memory_in_one_way_however_they_came() -> None:
    """With one channel, images in two layouts count as contiguous but take other kernels."""
    for channels in (1, 3):
        plain = as_batch(make_slices(4, channels=channels, size=8))
        strides = torch.empty(4, channels, 8, 8).stride()
        for layout in (torch.contiguous_format, torch.channels_last):
            given = {**plain, "image": plain["image"].to(memory_format=layout)}
            (piece,) = fixed_size([given], 4)
            batch = attack_batch(ConvNet(channels), piece, CPU)
            assert batch.image.stride() == strides
            assert torch.equal(batch.image, plain["image"])
