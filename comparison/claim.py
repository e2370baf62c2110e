"""The paper's claim over the runs of a comparison: does a wider spread go with more robustness?"""

import math
from dataclasses import dataclass

import pandas as pd

from comparison.saliency_files import Stored, run_name
from comparison.selection import Selection
from pictures.claim import ClaimDot, claim_figure
from pictures.drawing import draw
from pictures.style import loss_styles
from robustness.claim import ATTACK, ClaimTest, RunPoint, run_point, weigh_claim
from robustness.curves import mean_curves
from robustness.spread_table import SpreadFile
from robustness.temperature import OUTPUTS

FIGURE = "claim"
# Fixed before the two were first compared; the other outputs are secondary.
PRIMARY, METHOD = "probability", "gradient"
COLUMNS = ["output", "test", "loss", "seed", "fold", "run", "spread", "robustness"]


@dataclass(frozen=True)
class Claim:
    """The claim put to the test, by what was explained.

    Attributes:
        table: One row an output and run, with columns ``COLUMNS``: ``test`` is ``primary`` or
            ``secondary``, ``spread`` the mean effective number of pixels, ``robustness`` the area
            under ``topn_at_max`` over clean Dice.
        tests: What came out of each output, the primary one first.
        left_out: Runs that are no point of the primary test, with the reason.
    """

    table: pd.DataFrame
    tests: dict[str, ClaimTest]
    left_out: dict[str, str]


def weighed_claim(selection: Selection, stored: Stored[SpreadFile]) -> Claim:
    """The test over all runs that have both numbers.

    Args:
        selection: The runs.
        stored: Their tables of spread.
    """
    left_out = dict.fromkeys(stored.without, "no spread is stored") | stored.left_out
    unlike = {
        name: f"{METHOD} {reasons[METHOD]}"
        for name, reasons in stored.methods_left_out.items()
        if METHOD in reasons
    }
    tests, rows = {}, []
    for output in (PRIMARY, *(name for name in OUTPUTS if name != PRIMARY)):
        points: list[RunPoint] = []
        for compared, file in stored.runs:
            name = run_name(selection, compared)
            curves = mean_curves(compared.counts.frame)
            try:
                point = run_point(
                    name, compared.loss, file.frame, curves, output=output, method=METHOD
                )
                _check(point)
            except ValueError as error:
                if output == PRIMARY:
                    left_out[name] = unlike.get(name) or str(error).removeprefix(f"{name}: ")
                continue
            points.append(point)
            test = "primary" if output == PRIMARY else "secondary"
            run = (compared.loss, compared.seed, compared.fold, compared.run.run_id)
            rows.append((output, test, *run, point.spread, point.robustness))
        tests[output] = weigh_claim(points)
    return Claim(pd.DataFrame(rows, columns=COLUMNS), tests, left_out)


def claim_picture(selection: Selection, claim: Claim) -> dict[str, bytes]:
    """PNG of the primary test, a dot a run, by the name of its file; none without a point.

    Args:
        selection: The runs.
        claim: From :func:`weighed_claim`.
    """
    points = claim.table[claim.table["output"] == PRIMARY]
    if points.empty:
        return {}
    dots = [
        ClaimDot(str(row["loss"]), float(row["spread"]), float(row["robustness"]))
        for row in points.to_dict("records")
    ]
    figure = claim_figure(
        dots,
        title=f"Spread of the gradient of the {PRIMARY} against robustness to {ATTACK}",
        styles=loss_styles(selection.by_loss()),
    )
    return {FIGURE: draw(figure)}


def _check(point: RunPoint) -> None:
    if not math.isfinite(point.robustness):
        msg = f"{point.name}: its Dice under {ATTACK} is unknown at some point"
        raise ValueError(msg)
