"""Batches of one fixed size, the last one filled up.

The logits of a slice are then bit-identical whatever slices stand beside it: counts do not depend
on how slices are dealt out to batches and processes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.keyed_random import text_key
from robustness.objectives import OBJECTIVES, Objective
from robustness.saliency import Forward

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class Piece:
    """A batch of the fixed size; the slices after ``len(cases)`` only fill it up.

    ``counted`` is False where the truth is not known, shape ``(B, 1, H, W)``.
    """

    cases: list[str]
    image: Tensor
    mask: Tensor
    valid: Tensor
    slice_index: Tensor
    counted: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What each slice has a row in, in the order of the fields."""
        return self.image, self.mask, self.valid, self.slice_index, self.counted

    def rows(self, cases: list[str], rows: Tensor) -> "Piece":
        """Some of its slices, by their row.

        Args:
            cases: The case of each slice that does not only fill up.
            rows: int64, shape ``(N,)``.
        """
        return Piece(cases, *(tensor[rows.to(tensor.device)] for tensor in self.tensors))

    def split(self, left: Tensor) -> tuple["Piece", "Piece"]:
        """Its slices in two pieces, without those that only fill it up.

        Args:
            left: True for the slices of the first piece, shape ``(B,)``.
        """
        real = left[: len(self.cases)]
        return tuple(  # type: ignore[return-value]
            self.rows([self.cases[row] for row in rows.tolist()], rows)
            for rows in (real.nonzero()[:, 0], (~real).nonzero()[:, 0])
        )


class Regrouped:
    """Slices that are held back until there are enough of them for a piece of one size.

    Args:
        size: Slices in each piece.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: Piece | None = None

    def push(self, piece: Piece) -> Iterator[Piece]:
        """Put slices behind those held back.

        Args:
            piece: Of any size. Where the size of the images changes, those held back are filled up.

        Yields:
            The pieces that are full now, in order.
        """
        held, size = self._held, self._size
        if held is not None and held.image.shape[1:] != piece.image.shape[1:]:
            yield from self.rest()
            held = None
        held = _joined(held, piece)
        while held is not None and len(held.cases) >= size:
            full, held = _part(held, 0, size), _part(held, size, None)
            self._held = held = held if held.cases else None
            yield full
        self._held = held

    def rest(self) -> Iterator[Piece]:
        """The slices held back as one piece, filled up with the last of them; none without any."""
        held, self._held = self._held, None
        if held is not None:
            rows = torch.arange(self._size).clamp(max=len(held.cases) - 1)
            yield held.rows(held.cases, rows)


def fixed_size(batches: Iterable[Batch], size: int) -> Iterator[Piece]:
    """Join and cut batches into pieces of one size, the last one filled up with its last slice.

    Args:
        batches: Batches of the design, each of any size. Where the size of the images changes, the
            piece at hand is filled up as well.
        size: Slices in each piece.

    Yields:
        The pieces, in order.
    """
    regrouped = Regrouped(size)
    for batch in batches:
        yield from regrouped.push(_piece(batch))
    yield from regrouped.rest()


def only_cases(batches: Iterable[Batch], cases: Collection[str]) -> Iterator[Batch]:
    """The slices of some cases.

    Args:
        batches: Batches of the design.
        cases: Names of the cases that are kept.

    Yields:
        Batches without other cases' slices; none where nothing is left.
    """
    wanted = set(cases)
    for batch in batches:
        rows = [row for row, case in enumerate(batch["case"]) if case in wanted]
        if rows:
            yield {
                name: value[rows] if isinstance(value, Tensor) else [value[row] for row in rows]
                for name, value in batch.items()
            }


def attack_batch(
    forward: Forward,
    piece: Piece,
    device: torch.device,
    objectives: Mapping[str, Objective] = OBJECTIVES,
) -> AttackBatch:
    """What attacks get to see of a piece, on the network's device.

    Args:
        forward: Gives logits ``(B, K, H, W)`` for images.
        piece: From :func:`fixed_size`.
        device: Where the network is.
        objectives: What gradients may be taken of, by name.

    Returns:
        The batch, with as many slices as the piece has, those that fill it up included.
    """
    keys = [text_key(case) for case in piece.cases]
    keys += keys[-1:] * (len(piece.slice_index) - len(keys))
    with ordinary_tensors():
        return AttackBatch(
            forward,
            _plain_layout(_ordinary(piece.image, device)),
            _ordinary(piece.mask, device),
            _ordinary(piece.valid, device),
            torch.tensor(keys, dtype=torch.int64, device=device),
            _ordinary(piece.slice_index, device),
            _ordinary(piece.counted, device),
            objectives,
        )


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Inside, tensors are made that a gradient may go through, although none is asked for.

    A validation or test outside of fit runs in inference mode, whose tensors no objective of an
    attack could use in a backward pass.
    """
    with torch.inference_mode(mode=False), torch.no_grad():
        yield


def _ordinary(tensor: Tensor, device: torch.device) -> Tensor:
    moved = tensor.to(device)
    return moved.clone() if moved.is_inference() else moved


def _piece(batch: Batch) -> Piece:
    valid = batch["valid"]
    return Piece(
        list(batch["case"]),
        batch["image"],
        batch["mask"],
        valid,
        batch["slice_index"],
        ~batch["ignored"] if "ignored" in batch else torch.ones_like(valid),
    )


def _joined(held: Piece | None, new: Piece) -> Piece | None:
    """The slices of a piece behind those held back from the ones before it; None without any."""
    if held is None:
        return new if new.cases else None
    pairs = zip(held.tensors, new.tensors, strict=True)
    return Piece(held.cases + new.cases, *(torch.cat(pair) for pair in pairs))


def _part(piece: Piece, start: int, end: int | None) -> Piece:
    return Piece(piece.cases[start:end], *(tensor[start:end] for tensor in piece.tensors))


def _plain_layout(image: Tensor) -> Tensor:
    """The same images, row by row in memory: another layout may take other kernels, and round."""
    return image.flatten(1).contiguous().reshape(image.shape)
