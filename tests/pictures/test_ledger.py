"""Heat maps show the shares of the ledger, on one scale, and cross out what parts ways."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_module.ledger_history import LossHistory
from pictures.ledger import ledger_figure, share_limit
from pictures.style import to_png_bytes

TERMS = ("bce", "batch_dice", "output_2.asymmetric_unified_focal")


def made(epochs: int = 4, terms: int = 3, classes: int = 5) -> LossHistory:
    generator = np.random.default_rng(epochs)
    return LossHistory(
        epochs=np.arange(epochs) * 5 + 4,
        term_names=TERMS[:terms],
        class_names=tuple(f"part_{index}" for index in range(classes)),
        parts=generator.uniform(0.1, 1.0, (epochs, terms, classes)),
        dice=np.full((epochs, classes), 0.9),
    )


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.images]


def shown(axes: Axes) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan)


def test_the_total_stands_beside_each_term_in_percent() -> None:
    history = made()
    found = panels(ledger_figure(history, title="bce"))
    titles = [axes.get_title().replace("\n", "") for axes in found]
    assert titles == ["all terms", *TERMS]
    total, *terms = map(shown, found)
    expected = 100 * history.parts.sum(1) / history.parts.sum((1, 2))[:, None]
    np.testing.assert_allclose(total, expected.T)
    np.testing.assert_allclose(sum(terms), total)
    np.testing.assert_allclose(total.sum(0), 100)


def test_a_single_term_is_not_shown_twice() -> None:
    (axes,) = panels(ledger_figure(made(terms=1), title="bce"))
    assert axes.get_title() == "all terms"


def test_terms_of_a_single_class_stand_without_a_total_that_is_always_the_same() -> None:
    found = panels(ledger_figure(made(classes=1), title="bce"))
    assert [axes.get_title().replace("\n", "") for axes in found] == list(TERMS)


def test_rows_are_classes_and_columns_epochs() -> None:
    figure = ledger_figure(made(epochs=3), title="bce")
    to_png_bytes(figure)
    first = panels(figure)[0]
    assert [text.get_text() for text in first.get_yticklabels()] == list(made().class_names)
    named = {
        round(at): text.get_text()
        for at, text in zip(first.get_xticks(), first.get_xticklabels(), strict=True)
        if text.get_text()
    }
    assert named == {0: "4", 1: "9", 2: "14"}
    assert first.get_xlabel() == "epoch"


@pytest.mark.parametrize("limit", [None, 0.8])
def test_all_panels_have_one_scale_with_its_unit(limit: float | None) -> None:
    history = made()
    figure = ledger_figure(history, title="bce", limit=limit)
    end = 100 * (share_limit([history]) if limit is None else limit)
    for axes in panels(figure):
        assert axes.images[0].get_clim() == pytest.approx((0, end))
    (bar,) = [axes for axes in figure.axes if not axes.images]
    assert bar.get_ylabel() == "share of the loss in %\n(an even share: 20)"
    assert bar.get_ylim() == pytest.approx((0, end))


def test_a_line_crosses_the_epochs_that_part_ways_and_no_others() -> None:
    history = made(epochs=6, terms=2)
    history.parts[:, :, 3] = 0.01
    history.dice[[1, 2, 4], 3] = 0.1
    figure = ledger_figure(history, title="bce")
    first, *others = panels(figure)
    ends = [np.asarray(line.get_xdata()).tolist() for line in first.lines]
    assert ends == [[0.5, 2.5], [3.5, 4.5]]
    assert all(np.asarray(line.get_ydata()).tolist() == [3, 3] for line in first.lines)
    assert not any(axes.lines for axes in others)
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text() == "share of the loss and Dice part ways"
    assert not ledger_figure(made(), title="bce").legends


def test_epochs_without_a_share_are_left_blank() -> None:
    history = made()
    history.parts[2] = np.nan
    total = shown(panels(ledger_figure(history, title="bce"))[0])
    assert np.isnan(total[:, 2]).all()
    assert not np.isnan(np.delete(total, 2, axis=1)).any()


@pytest.mark.parametrize(
    ("shares", "limit"),
    [
        ([0.2, 0.2, 0.2, 0.2, 0.2], 0.2),
        ([0.41, 0.39, 0.2, 0.0, 0.0], 0.45),
        ([1.0, 0.0, 0.0, 0.0, 0.0], 1.0),
        ([np.nan, 1.0, 0.0, 0.0, 0.0], 1.0),
    ],
)
def test_a_scale_holds_all_shares(shares: list[float], limit: float) -> None:
    history = replace(made(terms=1), parts=np.array([[shares]] * 4))
    assert share_limit([history]) == pytest.approx(limit)


def test_a_shared_scale_holds_the_largest() -> None:
    even = replace(made(terms=1), parts=np.ones((4, 1, 5)))
    uneven = replace(made(terms=1), parts=np.array([[[4.0, 1, 1, 1, 1]]] * 4))
    assert share_limit([even, uneven]) == pytest.approx(0.5)


@pytest.mark.parametrize(("epochs", "terms", "classes"), [(1, 1, 1), (40, 3, 5), (300, 2, 2)])
def test_nothing_that_is_written_leaves_the_picture(epochs: int, terms: int, classes: int) -> None:
    title = "bce+batch_dice+asymmetric_unified_focal seed 0: where the loss of val comes from"
    history = made(epochs, terms, classes)
    figure = ledger_figure(
        replace(history, class_names=("right_ventricle",) * classes), title=title
    )
    to_png_bytes(figure)
    inside = figure.bbox
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == 1
    boxes += [box for axes in figure.axes if (box := axes.get_tightbbox())]
    for box in boxes:
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1
        assert inside.y0 <= box.y0
        assert box.y1 <= inside.y1
    widths = [axes.get_window_extent().width for axes in panels(figure)]
    assert min(widths) > 100
