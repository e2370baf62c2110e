"""What several terms need of the same tensors, computed once.

Cross-entropy, focal loss and their kin all begin with the likelihood of each pixel, the overlaps
with probabilities, all means with the number of valid pixels. Terms know nothing of each other;
the compound opens ``sharing()`` around them.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import torch
from torch import Tensor

# Results by function and arguments, with the arguments: as long as they live, no other tensor can
# have their id.
_Results = dict[Hashable, tuple[tuple[Any, ...], Tensor]]
_results: ContextVar[_Results | None] = ContextVar("results of the terms of a loss", default=None)


@contextmanager
def sharing() -> Iterator[None]:
    """Keep what ``shared`` functions compute until the block ends; inputs must not change in it."""
    token = _results.set({})
    try:
        yield
    finally:
        _results.reset(token)


def shared(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute a pure function of tensors and flags once in a block of ``sharing``.

    A result is taken again only for the very same tensors, and only with the gradient it had.
    """

    @wraps(function)
    def once(*arguments: Any) -> Tensor:  # noqa: ANN401 - tensors and flags
        results = _results.get()
        if results is None:
            return function(*arguments)
        key = (function, torch.is_grad_enabled(), *map(id, arguments))
        known = results.get(key)
        if known is None:
            known = results[key] = (arguments, function(*arguments))
        return known[1]

    return once
