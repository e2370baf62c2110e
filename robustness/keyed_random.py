"""Random numbers that are a function of what they are for, not of when they were drawn.

A number is the hash of (seed, attack, case, slice, repeat, rank): it is the same for every batch
size, order of slices and number of processes, and needs no generator per image.
"""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)


@lru_cache(maxsize=65536)
def text_key(text: str) -> int:
    """A signed 64-bit key for a name, the same on every machine.

    Args:
        text: Any string, such as the name of a case or of an attack.

    Returns:
        The first eight bytes of BLAKE2b over the UTF-8 text, as a signed integer.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def absorb(state: Tensor, value: Tensor | int) -> Tensor:
    """Mix one more counter into a hash state.

    Args:
        state: int64, any shape.
        value: int64 that broadcasts with ``state``, or a number.

    Returns:
        int64 of the broadcast shape; a bijection of ``state`` for a fixed ``value``.

    References:
        The finaliser of SplitMix64: Steele, Lea, Flood, Fast splittable pseudorandom number
        generators, OOPSLA 2014.
    """
    if isinstance(value, int):
        value = _signed(value)
    mixed = (state ^ value) + _signed(_GOLDEN)
    mixed = (mixed ^ _shift_right(mixed, _SHIFTS[0])) * _signed(_MULTIPLIERS[0])
    mixed = (mixed ^ _shift_right(mixed, _SHIFTS[1])) * _signed(_MULTIPLIERS[1])
    return mixed ^ _shift_right(mixed, _SHIFTS[2])


def slice_keys(seed: int, name: str, case_keys: Tensor, slice_index: Tensor) -> Tensor:
    """One hash state for each slice of a batch, under a name such as an attack's.

    Args:
        seed: The seed of the attacks.
        name: What the numbers are for; two names give independent numbers.
        case_keys: ``text_key`` of each slice's case, int64, shape ``(B,)``.
        slice_index: Index of each slice in its volume, int64, shape ``(B,)``.

    Returns:
        int64, shape ``(B,)``.
    """
    start = torch.zeros_like(case_keys)
    return absorb(absorb(absorb(absorb(start, seed), text_key(name)), case_keys), slice_index)


def counter_hashes(keys: Tensor, repeat: int, count: int) -> Tensor:
    """Hashes of the counters 0 to ``count - 1`` in one repeat, for each key.

    Args:
        keys: int64, shape ``(B,)``.
        repeat: Which repetition of the experiment.
        count: How many numbers each key needs.

    Returns:
        int64, shape ``(B, count)``; the j-th column does not depend on ``count``.
    """
    counters = torch.arange(count, device=keys.device)
    return absorb(absorb(keys, repeat)[:, None], counters[None, :])


def uniforms(hashes: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) from the top 24 bits of hashes.

    Args:
        hashes: int64, any shape.

    Returns:
        float32, same shape; every value is an exact multiple of 2**-24.
    """
    return _shift_right(hashes, 40).to(torch.float32) * 2.0**-24


def opposites(drawn: Tensor) -> Tensor:
    """The number as far from the upper end of [0, 1) as each one is from the lower end.

    Where a function rises or falls, the mean of a number and its opposite scatters less than that
    of two independent numbers.

    Args:
        drawn: From :func:`uniforms`, any shape.

    Returns:
        float32 in [0, 1), same shape; uniform as well, and exact: the opposite of the opposite is
        the number.

    References:
        Hammersley, Morton, A new Monte Carlo technique: antithetic variates, Mathematical
        Proceedings of the Cambridge Philosophical Society 52, 1956.
    """
    return (1.0 - 2.0**-24) - drawn


def _shift_right(value: Tensor, bits: int) -> Tensor:
    """Shift without copying the sign: torch's ``>>`` on int64 is arithmetic."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The same 64 bits as a signed number, which is all that torch's int64 accepts."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
