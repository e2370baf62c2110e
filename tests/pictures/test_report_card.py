"""The card says pass, fail or not applicable in words and by number, for every check and run."""

import math
from itertools import pairwise

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pictures.report_card import LOOKS, Mark, report_card_figure
from pictures.style import PNG_DPI, to_png_bytes

NAN = float("nan")
LONG = "bce+batch_dice+focal (outputs=softmax, class_weights=median_frequency)"


def drawn(marks: list[list[Mark | None]], runs: dict[str, list[str]]) -> Figure:
    checks = [f"check {index}\nat most 0.01" for index in range(len(marks))]
    return report_card_figure(checks, runs, marks, title="Report card")


def cells(figure: Figure) -> dict[tuple[int, int], str]:
    (axes,) = figure.axes
    return {
        (math.floor(text.get_position()[1]), math.floor(text.get_position()[0])): text.get_text()
        for text in axes.texts
        if text.get_transform() == axes.transData
    }


def test_every_mark_has_its_word_and_its_number() -> None:
    marks: list[list[Mark | None]] = [
        [Mark("pass", -0.0004), Mark("fail", 0.0456)],
        [Mark("not applicable", NAN), None],
    ]
    figure = drawn(marks, {"bce": ["seed 0", "seed 1"]})
    assert cells(figure) == {
        (0, 0): "✓ pass\n0.000",
        (0, 1): "✗ FAIL\n0.046",
        (1, 0): "n. a.",
        (1, 1): "none",
    }
    (axes,) = figure.axes
    heads = [text.get_text() for text in axes.get_yticklabels()]
    assert heads == ["check 0\nat most 0.01", "check 1\nat most 0.01"]


def test_failures_differ_by_more_than_their_colour() -> None:
    assert len({look.color for look in LOOKS.values()}) == len(LOOKS)
    marks: list[list[Mark | None]] = [[Mark("pass", 0.0)], [Mark("fail", 1.0)]]
    figure = drawn(marks, {"bce": ["seed 0"]})
    (axes,) = figure.axes
    passed, failed = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert to_hex(passed.get_facecolor()) == LOOKS["pass"].color.lower()
    assert to_hex(failed.get_facecolor()) == LOOKS["fail"].color.lower()
    assert passed.get_edgecolor() != failed.get_edgecolor()
    weights = {text.get_text().split()[1]: text.get_fontweight() for text in axes.texts[:2]}
    assert weights == {"pass": "normal", "FAIL": "bold"}


def test_losses_stand_over_their_runs() -> None:
    row: list[Mark | None] = [Mark("pass", 0.0)] * 3
    figure = drawn([row], {"bce": ["seed 0", "seed 1"], "dice": ["seed 0"]})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["seed 0", "seed 1", "seed 0"]
    over = {text.get_text(): text.xy[0] for text in axes.texts if hasattr(text, "xy")}
    assert over == {"bce": 1.0, "dice": 2.5}


@pytest.mark.parametrize(
    ("checks", "runs", "marks"),
    [
        (["a"], {}, [[]]),
        ([], {"bce": ["seed 0"]}, []),
        (["a"], {"bce": ["seed 0"]}, [[None, None]]),
        (["a", "b"], {"bce": ["seed 0"]}, [[None]]),
    ],
)
def test_marks_that_do_not_fit_are_refused(
    checks: list[str], runs: dict[str, list[str]], marks: list[list[Mark | None]]
) -> None:
    with pytest.raises(ValueError, match="expected one mark for each check and run"):
        report_card_figure(checks, runs, marks, title="")


@pytest.mark.parametrize(("losses", "seeds"), [(1, 1), (8, 1), (2, 3)])
def test_nothing_that_is_written_leaves_the_picture(losses: int, seeds: int) -> None:
    runs = {f"{LONG}{index}": [f"seed {seed}" for seed in range(seeds)] for index in range(losses)}
    row: list[Mark | None] = [Mark("fail", -0.123)] * (losses * seeds)
    figure = report_card_figure(
        ["transfer does not beat white box\nat most 0.01"] * 3,
        runs,
        [row] * 3,
        title="Report card: can the attacks be believed?",
    )
    figure.set_dpi(PNG_DPI)  # letters are not as wide at another resolution
    to_png_bytes(figure)
    (axes,) = figure.axes
    inside = figure.bbox
    boxes = [text.get_window_extent() for text in (*figure.texts, *axes.texts)]
    box = axes.get_tightbbox()
    assert box is not None
    for found in (*boxes, box):
        assert inside.x0 <= found.x0
        assert found.x1 <= inside.x1
        assert inside.y0 <= found.y0
        assert found.y1 <= inside.y1
    over = [text.get_window_extent() for text in axes.texts if hasattr(text, "xy")]
    for left, right in pairwise(over):
        assert left.x1 < right.x0
    cell = axes.get_window_extent().width / (losses * seeds)
    marks = [text for text in axes.texts if not hasattr(text, "xy")]
    assert all(text.get_window_extent().width < cell for text in marks)
