"""Each loss has a bar whose parts are the shares of its ranks, the best on top."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from pictures.ranking import RankPanel, ranking_figure

SHARES = np.array([[0.8, 0.15, 0.05], [0.2, 0.5, 0.3], [0.0, 0.35, 0.65]])
PANEL = RankPanel("Dice without attack", ("bce+dice", "$a$", "c"), SHARES)


def test_bars_are_the_shares_and_their_numbers_stand_in_them() -> None:
    figure = ranking_figure([PANEL, PANEL], title="Ranks")
    assert len(figure.axes) == 2
    axes = figure.axes[0]
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    widths = np.array([bar.get_width() for bar in bars]).reshape(3, 3)
    assert pytest.approx(SHARES) == widths.T
    starts = np.array([bar.get_x() for bar in bars]).reshape(3, 3)
    assert pytest.approx(np.cumsum(SHARES, axis=1) - SHARES) == starts.T
    words = {text.get_text() for text in axes.texts}
    assert words == {"80 %", "15 %", "20 %", "50 %", "30 %", "35 %", "65 %"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bce+dice", "$a$", "c"]
    low, high = axes.get_ylim()
    assert low > high
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["rank 1", "rank 2", "rank 3"]


def test_ranks_are_told_apart_by_lightness() -> None:
    axes = ranking_figure([PANEL], title="Ranks").axes[0]
    colors = [bar.get_facecolor() for bar in axes.patches[::3] if isinstance(bar, Rectangle)]
    lightness = [sum(to_rgb(color)) for color in colors]
    assert lightness == sorted(lightness)
    assert len(set(lightness)) == 3


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="no questions"):
        ranking_figure([], title="Ranks")
    with pytest.raises(ValueError, match="for 2 losses"):
        ranking_figure([RankPanel("clean", ("a", "b"), SHARES)], title="Ranks")
