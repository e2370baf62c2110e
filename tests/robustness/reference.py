"""The protocol once more, slowly: one image at a time, in loops, sharing no code with the engine.

Where the engine has batches, this file has one image, repeated to fill a batch of some size; a
batch of 1 shows what rounding does. Counts come with what rounding may decide: pixels whose logit
lies near the threshold, and slices in whose ranking neighbours tie.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
Key = tuple[str, int, int, str, str]

WORD = (1 << 64) - 1
# How far rounding may move a logit, and a score in parts of the slice's largest one.
LOGIT_ROUNDING = 1e-5
SCORE_ROUNDING = 4e-6


@dataclass(frozen=True)
class Slice:
    """One slice: image ``(C, H, W)`` float32, mask ``(K, H, W)`` bool, valid ``(H, W)`` bool."""

    case: str
    index: int
    image: np.ndarray
    mask: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class Recipe:
    """An attack as the protocol's table describes it; ``value`` None is a random one."""

    name: str
    points: tuple[float, ...]
    numbers: tuple[int, ...]
    levels: tuple[float | None, ...]
    ranking: str = "gradient"
    repeats: int = 1
    low: float = 0.0
    high: float = 1.0
    values_name: str = ""


@dataclass
class Tally:
    """Counts of one row of the table, then what rounding may change about it."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    fp_empty: int = 0
    slices: int = 0
    slices_all: int = 0
    slice_dice_q20: int = 0
    change_q20: int = 0
    degenerate: int = 0
    borderline: int = 0
    tied_slices: int = 0

    def numbers(self) -> tuple[int, ...]:
        """What the table holds, in its order."""
        return astuple(self)[:-2]


def recipe(class_path: str, settings: Mapping[str, Any]) -> Recipe:
    """Read an attack of a configuration file; a class that has no reference yet is refused."""
    given = dict(settings)
    name, kind = given.pop("name"), class_path.rpartition(".")[2]
    repeats, ranking = given.pop("repeats", 1), given.pop("ranking", "gradient")
    common = {"name": name, "ranking": ranking, "repeats": repeats}
    if kind == "LevelAttack":
        levels, pixels = tuple(given.pop("levels")), given.pop("pixels", 5)
        found = Recipe(points=levels, numbers=(pixels,) * len(levels), levels=levels, **common)
    elif kind == "CountAttack":
        numbers, value = tuple(given.pop("counts")), given.pop("value", "uniform")
        level = None if value == "uniform" else value
        found = Recipe(
            points=numbers,
            numbers=numbers,
            levels=(level,) * len(numbers),
            low=given.pop("low", 0.0),
            high=given.pop("high", 1.0),
            values_name=given.pop("values_like", "") or name,
            **common,
        )
    else:
        msg = f"{name}: the reference does not know {class_path}; write it down here as well"
        raise ValueError(msg)
    if given:
        msg = f"{name}: the reference does not know the settings {sorted(given)}"
        raise ValueError(msg)
    return found


def split_mix(state: int) -> int:
    """One step of SplitMix64 (Steele, Lea, Flood, 2014): advance by the golden gamma, then mix."""
    state = (state + 0x9E3779B97F4A7C15) & WORD
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & WORD
    return state ^ (state >> 31)


def chained(words: Iterable[int], state: int = 0) -> int:
    """Hash of a sequence of 64-bit words."""
    for word in words:
        state = split_mix(state ^ (word & WORD))
    return state


def word_of(name: str) -> int:
    """64 bits of a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def random_value(seed: int, name: str, one: Slice, repeat: int, rank: int) -> float:
    """Uniform in [0, 1), from the 24 highest bits."""
    words = (seed, word_of(f"{name}/values"), word_of(one.case), one.index, repeat, rank)
    return (chained(words) >> 40) / 2**24


def random_order(seed: int, name: str, one: Slice, repeat: int) -> list[int]:
    """Valid pixels by falling hash, read as a signed number; then the padding in its order."""
    start = chained((seed, word_of(f"{name}/pixels"), word_of(one.case), one.index, repeat))
    valid = one.valid.ravel().tolist()
    hashes = [split_mix(start ^ pixel) for pixel in range(len(valid))]
    signed = [word - (1 << 64) if word >> 63 else word for word in hashes]
    inside = [pixel for pixel in range(len(valid)) if valid[pixel]]
    outside = [pixel for pixel in range(len(valid)) if not valid[pixel]]
    return sorted(inside, key=lambda pixel: -signed[pixel]) + outside


def filled(image: np.ndarray, size: int) -> Tensor:
    """A batch of one image, ``size`` times."""
    return torch.from_numpy(np.stack([image] * size))


def logits_of(network: Forward, image: np.ndarray, size: int) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = network(filled(image, size))[0].numpy()
    return found


def gradient_of(network: Forward, image: np.ndarray, size: int, *, of_logits: bool) -> np.ndarray:
    """Gradient of the sum of all probabilities, or of all logits, at the first of the images."""
    with torch.enable_grad():
        batch = filled(image, size).requires_grad_()
        logits = network(batch)
        total = logits.sum() if of_logits else torch.sigmoid(logits).sum()
        found: np.ndarray = torch.autograd.grad(total, batch)[0][0].numpy()
    return found


def scores_of(network: Forward, one: Slice, ranking: str, size: int) -> list[float]:
    """What the pixels are ranked by: the gradient, summed over channels; empty if it is zero."""
    gradient = gradient_of(network, one.image, size, of_logits=ranking == "gradient_logit")
    if ranking == "gradient_abs":
        gradient = np.abs(gradient)
    total = gradient[0]
    for channel in gradient[1:]:
        total = total + channel
    return [float(score) for score in total.ravel()] if gradient.any() else []


def replaced(image: np.ndarray, pixels: Sequence[int], values: Sequence[float]) -> np.ndarray:
    """A copy with pixels replaced, in all channels."""
    changed = image.copy()
    width = image.shape[2]
    for pixel, value in zip(pixels, values, strict=True):
        for channel in range(image.shape[0]):
            changed[channel, pixel // width, pixel % width] = np.float32(value)
    return changed


def ties(scores: Sequence[float], order: Sequence[int], first: int, last: int, gap: float) -> bool:
    """Whether rounding may swap neighbours between these places of an order (0 is the first)."""
    return any(
        scores[order[place]] - scores[order[place + 1]] <= gap
        for place in range(first, min(last, len(order) - 1))
    )


def reference_counts(
    network: Forward,
    slices: Sequence[Slice],
    recipes: Sequence[Recipe],
    *,
    seed: int = 0,
    fill: int = 8,
) -> dict[Key, Tally]:
    """Every row of the table of counts: (attack, point, repeat, case, class) and its numbers."""
    table: dict[Key, Tally] = {}
    for one in slices:
        judge = _Judge(network, one, fill, table)
        judge.count("clean", 0, 0, one.image, degenerate=False, tied=False)
        scores: dict[str, list[float]] = {}
        for attack in recipes:
            if attack.ranking != "random" and attack.ranking not in scores:
                scores[attack.ranking] = scores_of(network, one, attack.ranking, fill)
            for repeat in range(attack.repeats):
                _attack(judge, attack, repeat, seed, scores.get(attack.ranking))
    return table


def _attack(
    judge: "_Judge", attack: Recipe, repeat: int, seed: int, scores: list[float] | None
) -> None:
    """Count every point of one repeat; ``scores`` is None where pixels are taken at random."""
    one, gap = judge.one, 0.0
    if scores is None:
        order = random_order(seed, attack.name, one, repeat)
    else:
        order = sorted(range(one.valid.size), key=lambda pixel: -scores[pixel] if scores else 0.0)
        gap = SCORE_ROUNDING * max(map(abs, scores), default=0.0)
    for point, (number, level) in enumerate(zip(attack.numbers, attack.levels, strict=True)):
        values = [
            level if level is not None else _scaled(attack, seed, one, repeat, rank)
            for rank in range(number)
        ]
        # Only random values care about the order of the pixels that are taken.
        first = number - 1 if level is not None else 0
        tied = bool(scores) and ties(scores or [], order, first, number, gap)
        image = replaced(one.image, order[:number], values)
        judge.count(attack.name, point, repeat, image, degenerate=scores == [], tied=tied)


def _scaled(attack: Recipe, seed: int, one: Slice, repeat: int, rank: int) -> float:
    drawn = np.float32(random_value(seed, attack.values_name, one, repeat, rank))
    return float(np.float32(attack.low) + np.float32(attack.high - attack.low) * drawn)


@dataclass(frozen=True)
class _Judge:
    """Counts one slice into the table."""

    network: Forward
    one: Slice
    fill: int
    table: dict[Key, Tally]

    def count(
        self,
        attack: str,
        point: int,
        repeat: int,
        image: np.ndarray,
        *,
        degenerate: bool,
        tied: bool,
    ) -> None:
        logits = logits_of(self.network, image, self.fill)
        change = np.abs(image - self.one.image).mean(dtype=np.float64)
        for index, (scores, truth) in enumerate(zip(logits, self.one.mask, strict=True)):
            key = (attack, point, repeat, self.one.case, f"class_{index}")
            tally = self.table.setdefault(key, Tally())
            tp, fp, fn = _hits(scores.ravel().tolist(), truth.ravel().tolist())
            tally.tp += tp
            tally.fp += fp
            tally.fn += fn
            tally.slices_all += 1
            tally.change_q20 += round(2**20 * float(change))
            tally.degenerate += degenerate
            tally.tied_slices += tied
            tally.borderline += int((np.abs(scores) < LOGIT_ROUNDING).sum())
            if truth.any():
                tally.slices += 1
                tally.slice_dice_q20 += round(2**20 * 2 * tp / (2 * tp + fp + fn))
            else:
                tally.fp_empty += fp


def _hits(logits: Sequence[float], truth: Sequence[bool]) -> tuple[int, int, int]:
    tp = fp = fn = 0
    for logit, true in zip(logits, truth, strict=True):
        if logit > 0 and true:
            tp += 1
        elif logit > 0:
            fp += 1
        elif true:
            fn += 1
    return tp, fp, fn
