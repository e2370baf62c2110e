"""The interactive curves of the report, as plotly figures in JSON, and the numbers behind them."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from comparison.figures import CONTROL, attack_title
from pictures.curves import axis_words
from pictures.style import loss_styles
from robustness.counts import CLEAN
from robustness.curves import areas

_COLUMNS = ("point", "dice", "low", "high", "seed_low", "seed_high", "change")


def figure_data(curves: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The numbers behind all curves, to be read back from the page.

    Args:
        curves: Curves of each loss.

    Returns:
        By loss: ``clean``, ``seeds``, ``cases``, ``auc`` by attack, and ``attacks`` by name with
        ``axis``, ``point, dice, low, high, seed_low, seed_high, change``; None where undefined.
    """
    return {loss: _loss_data(found) for loss, found in curves.items()}


def chart(curves: Mapping[str, pd.DataFrame], attack: str) -> str:
    """The plotly figure of an attack as JSON: a line and a band a loss, the control on demand.

    Args:
        curves: Curves of each loss.
        attack: Name of the attack.
    """
    styles = loss_styles(curves)
    figure = go.Figure()
    axis = attack
    for loss, style in styles.items():
        found = curves[loss]
        curve = found[found["attack"] == attack]
        axis = str(curve["axis"].iloc[0])
        points = curve["point"].tolist()
        _add_band(figure, loss, points, curve, style.color)
        figure.add_scatter(
            x=points,
            y=curve["dice"].tolist(),
            name=loss,
            legendgroup=loss,
            mode="lines+markers",
            line={"color": style.color},
            customdata=curve["change"].tolist(),
            hovertemplate="Dice %{y:.3f}, mean change of a pixel %{customdata:.5f}",
        )
        control = found[found["attack"] == attack + CONTROL]
        if not control.empty:
            figure.add_scatter(
                x=control["point"].tolist(),
                y=control["dice"].tolist(),
                name=f"{loss}, random pixels",
                mode="lines",
                line={"color": style.color, "dash": "dash"},
                visible="legendonly",
                hovertemplate="Dice %{y:.3f}",
            )
    volumes = int(next(iter(curves.values()))["cases"].iloc[0])
    figure.update_layout(
        template="plotly_white",
        title={"text": attack_title(attack), "font": {"size": 15}},
        xaxis_title=axis_words(axis),
        yaxis_title=f"mean Dice over {volumes} volumes",
        yaxis_range=[0, 1],
        hovermode="x unified",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        height=420,
    )
    text: str = figure.to_json()
    return text


def json_for_page(value: object) -> str:
    """JSON that may stand inside a script element: no ``</`` ends it early."""
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False, sort_keys=True)
    return text.replace("</", "<\\/").replace("<!--", "<\\!--")


def _add_band(
    figure: go.Figure, loss: str, points: list[float], curve: pd.DataFrame, color: str
) -> None:
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    low, high = curve["low"].tolist(), curve["high"].tolist()
    figure.add_scatter(
        x=points + points[::-1],
        y=high + low[::-1],
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.15)",
        line={"width": 0},
        mode="lines",
        legendgroup=loss,
        showlegend=False,
        hoverinfo="skip",
    )


def _loss_data(found: pd.DataFrame) -> dict[str, Any]:
    clean = found[found["attack"] == CLEAN].iloc[0]
    attacks = {}
    for name in [str(attack) for attack in found["attack"].unique() if attack != CLEAN]:
        curve = found[found["attack"] == name]
        attacks[name] = {
            "axis": str(curve["axis"].iloc[0]),
            **{column: _plain(curve[column].tolist()) for column in _COLUMNS},
        }
    return {
        "clean": _plain([clean["dice"]])[0],
        "seeds": int(clean["seeds"]),
        "cases": int(clean["cases"]),
        "auc": areas(found),
        "attacks": attacks,
    }


def _plain(values: list[float]) -> list[float | None]:
    """Numbers as JSON knows them: it has no NaN."""
    return [None if math.isnan(value) else float(value) for value in values]
