"""Whether what attacks found on a network can be believed: one table of checks, one line each.

A curve that stays high says little if the attack was weak or the gradient masked. The checks are
those by which evaluations of robustness are reviewed.

References:
    Carlini et al., On evaluating adversarial robustness, 2019, sections 4 and 5.
    Athalye et al., Obfuscated gradients give a false sense of security, ICML 2018, section 3.1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from robustness.counts import CLEAN
from robustness.gradient_health import GradientHealth

Status = Literal["pass", "fail", "not applicable"]
COLUMNS = (
    "check",
    "question",
    "status",
    "value",
    "tolerance",
    "cases",
    "least_cases",
    "note",
)
_CASES = 5  # fewer say nothing of a mean over cases


@dataclass(frozen=True)
class Evidence:
    """What a card is judged by.

    Attributes:
        dice: Mean Dice over classes and repeats, of each attack: cases by points; ``clean`` too.
        repeats: The same for each repeat: repeats by cases by points.
        health: Zeros in gradients and saturated outputs.
        transferred: For each other network, Dice under ``TRANSFERRED`` made on it: cases by points;
            empty where nothing was transferred.
    """

    dice: Mapping[str, np.ndarray]
    repeats: Mapping[str, np.ndarray]
    health: GradientHealth
    transferred: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Check:
    """One line of the card.

    Attributes:
        name: Its name in tables.
        question: What must hold, in words.
        value: The number that must not exceed the tolerance; None where it does not apply.
        tolerance: In Dice, paired over cases, or a share where the question says so.
        least_cases: With fewer cases nothing is said.
    """

    name: str
    question: str
    value: Callable[[Evidence], float | None]
    tolerance: float = 0.01
    least_cases: int = _CASES


# Names of the attacks that the checks look for; conf and callbacks build them by card_attacks.
FGSM, APGD, APGD_DOUBLE = "card_fgsm", "card_apgd", "card_apgd_double"
UNBOUNDED = "card_unbounded"
SQUARE, TOP, RANDOM = "card_square", "card_top_pixels", "card_random_pixels"
TRANSFERRED = APGD


def _lower_by(weaker: str, stronger: str) -> Callable[[Evidence], float | None]:
    """By how much the attack that should be weaker has the lower Dice, at the worst point."""

    def value(found: Evidence) -> float | None:
        if weaker not in found.dice or stronger not in found.dice:
            return None
        return _worst(found.dice[stronger] - found.dice[weaker])

    return value


def _gained_by_doubling(found: Evidence) -> float | None:
    if APGD not in found.dice or APGD_DOUBLE not in found.dice:
        return None
    # From the same random starts, and of each case, so that gains of one and losses of another do
    # not make up for each other.
    return _worst(np.abs(found.repeats[APGD][0] - found.repeats[APGD_DOUBLE][0]))


def _rises_with_budget(found: Evidence) -> float | None:
    if APGD not in found.dice:
        return None
    curve = np.concatenate([found.dice[CLEAN], found.dice[APGD]], axis=1)
    return _worst(np.diff(curve, axis=1))


def _left_when_unbounded(found: Evidence) -> float | None:
    return _worst(found.dice[UNBOUNDED]) if UNBOUNDED in found.dice else None


def _gained_by_transfer(found: Evidence) -> float | None:
    if not found.transferred or TRANSFERRED not in found.dice:
        return None
    own = found.dice[TRANSFERRED]
    return max(_worst(own - other) for other in found.transferred.values())


def _spread_of_restarts(found: Evidence) -> float | None:
    repeats = found.repeats.get(APGD)
    if repeats is None or len(repeats) < 2:  # noqa: PLR2004 - a spread needs two
        return None
    return _worst(repeats.max(axis=0) - repeats.min(axis=0))


CHECKS = (
    Check(
        "iterating_beats_one_step",
        "APGD leaves no more Dice than FGSM at any epsilon",
        _lower_by(FGSM, APGD),
    ),
    Check(
        "more_steps_change_nothing",
        "APGD with twice the steps finds the same Dice",
        _gained_by_doubling,
    ),
    Check(
        "falls_with_budget",
        "Dice falls as epsilon grows",
        _rises_with_budget,
    ),
    Check(
        "unbounded_reaches_zero",
        "an epsilon of the whole range leaves no Dice where there is truth",
        _left_when_unbounded,
    ),
    Check(
        "gradients_beat_random_search",
        "a search without gradients finds no lower Dice than APGD",
        _lower_by(SQUARE, APGD),
    ),
    Check(
        "transfer_does_not_beat_white_box",
        "APGD made on another network leaves no lower Dice than APGD made on this one",
        _gained_by_transfer,
    ),
    Check(
        "top_pixels_beat_random_pixels",
        "pixels with the highest gradients cost no less Dice than random pixels",
        _lower_by(RANDOM, TOP),
    ),
    Check(
        "no_zero_gradients",
        "share of the gradient in valid pixels that is exactly 0",
        lambda found: found.health.zero_share if found.health.entries else None,
        tolerance=0.05,
        least_cases=1,
    ),
    Check(
        "no_saturation",
        "share of the outputs in valid pixels whose sigmoid is flat (slope under 1e-6)",
        lambda found: found.health.saturated_share if found.health.outputs else None,
        tolerance=0.5,
        least_cases=1,
    ),
    Check(
        "restarts_agree",
        "APGD from other random starts finds the same Dice",
        _spread_of_restarts,
    ),
)


def report_card(
    counts: pd.DataFrame,
    health: GradientHealth,
    transferred: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """Judge a network by the checks.

    Args:
        counts: Table of counts of the attacks of :func:`robustness.card_attacks.card_attacks`.
            Cases without truth in all classes are left out.
        health: Of the same slices.
        transferred: By the name of another network, counts of ``TRANSFERRED`` made on it.

    Returns:
        One row a check with columns ``COLUMNS``; ``status`` is ``pass``, ``fail`` or ``not
        applicable``; ``value`` is NaN where nothing could be measured.
    """
    cases = _cases_with_truth(counts)
    others = {
        name: _by_case(frame, cases)[TRANSFERRED] for name, frame in (transferred or {}).items()
    }
    evidence = Evidence(
        dice=_by_case(counts, cases),
        repeats=_by_repeat(counts, cases),
        health=health,
        transferred=others,
    )
    rows = [_judge(check, evidence, len(cases)) for check in CHECKS]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def checks_table() -> str:
    """The checks as rows of a Markdown table, for the documentation."""
    rows = (
        f"| `{check.name}` | {check.question} | {check.tolerance:g} | {check.least_cases} |"
        for check in CHECKS
    )
    return "\n".join(rows)


def _judge(check: Check, found: Evidence, cases: int) -> tuple[object, ...]:
    value = check.value(found) if cases >= check.least_cases else None
    status: Status
    if value is None or not np.isfinite(value):
        status, number = "not applicable", float("nan")
        enough = cases >= check.least_cases
        note = "not measured" if enough else f"fewer than {check.least_cases} cases with truth"
    else:
        status, number, note = ("pass" if value <= check.tolerance else "fail"), float(value), ""
    return (
        check.name,
        check.question,
        status,
        number,
        check.tolerance,
        cases,
        check.least_cases,
        note,
    )


def _worst(by_case: np.ndarray) -> float:
    """The largest mean over cases of any point."""
    return float(np.nanmean(by_case, axis=0).max())


def _cases_with_truth(counts: pd.DataFrame) -> list[str]:
    clean = counts[counts["attack"] == CLEAN]
    truth = (clean["tp"] + clean["fn"]).groupby(clean["case"]).sum()
    return sorted(str(case) for case in truth.index[truth > 0])


def _by_case(counts: pd.DataFrame, cases: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: repeats.mean(axis=0) for name, repeats in _by_repeat(counts, cases).items()}


def _by_repeat(counts: pd.DataFrame, cases: Sequence[str]) -> dict[str, np.ndarray]:
    """Dice of each attack: repeats by cases by points, the mean over classes with truth."""
    kept = counts[counts["case"].isin(cases) & (counts["tp"] + counts["fn"] > 0)]
    dice = 2 * kept["tp"] / (2 * kept["tp"] + kept["fp"] + kept["fn"])
    scored = kept[["attack", "repeat", "case", "point_index"]].assign(dice=dice)
    means = scored.groupby(["attack", "repeat", "case", "point_index"], sort=True)["dice"].mean()
    found = {}
    for attack, values in means.groupby(level="attack", sort=False):
        shape = [values.index.get_level_values(level).nunique() for level in (1, 2, 3)]
        found[str(attack)] = values.to_numpy(float).reshape(shape)
    return found
