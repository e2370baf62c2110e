"""The attacks that a report card is judged by."""

from robustness.apgd import Apgd
from robustness.attack import Attack
from robustness.directed import Fgsm
from robustness.pixel_attacks import CountAttack
from robustness.report_card import APGD, APGD_DOUBLE, FGSM, RANDOM, SQUARE, TOP, UNBOUNDED
from robustness.square import SquareSearch

# Budgets in parts of the intensity range: hardly visible, and up to a strong disturbance.
SHARES = (0.005, 0.02, 0.08)
_QUERIES = 100
_PIXELS = 20
# Foreground weighs as much as background: Dice counts no pixel that is background in both.
_OBJECTIVE = "balanced_bce"


def card_attacks(low: float, high: float, steps: int = 20) -> list[Attack]:
    """The attacks of a report card, in valid pixels; directed ones in the maximum norm.

    Args:
        low: Lowest intensity that an attack may use.
        high: Highest intensity.
        steps: Steps of the iterated attack.

    Returns:
        The attacks, under the names that :mod:`robustness.report_card` looks for.

    Raises:
        ValueError: If the intensities do not rise, or there is no step.
    """
    # As somebody would write them down: 0.004, not 0.004000000000000001.
    budgets = tuple(float(f"{(high - low) * share:.6g}") for share in SHARES)
    whole = (high - low,)
    return [
        Fgsm(FGSM, budgets, objective=_OBJECTIVE, low=low, high=high),
        Apgd(APGD, budgets, objective=_OBJECTIVE, steps=steps, repeats=2, low=low, high=high),
        Apgd(
            APGD_DOUBLE,
            budgets,
            objective=_OBJECTIVE,
            steps=2 * steps,
            starts_like=APGD,
            low=low,
            high=high,
        ),
        # Cross-entropy would give up some of the truth for many false positives.
        Apgd(UNBOUNDED, whole, objective="soft_dice", steps=2 * steps, low=low, high=high),
        SquareSearch(SQUARE, budgets, objective=_OBJECTIVE, queries=_QUERIES, low=low, high=high),
        CountAttack(TOP, counts=(_PIXELS,), value=high, valid_only=True),
        CountAttack(RANDOM, counts=(_PIXELS,), value=high, ranking="random", repeats=5),
    ]
