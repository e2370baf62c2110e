"""The interactive curves of the report, as plotly figures in JSON, and the numbers behind them."""

import html
import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from comparison.figures import BAND, attack_title, axis_label
from comparison.selection import Selection
from comparison.table import CONTROL
from pictures.style import LossStyle, loss_styles
from robustness.counts import CLEAN
from robustness.curves import areas

_COLUMNS = ("point", "dice", "low", "high", "seed_low", "seed_high", "change")
_SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}


def figure_data(curves: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The numbers behind all curves, to be read back from the page.

    Args:
        curves: Curves of each loss.

    Returns:
        By loss: ``clean, seeds, cases, auc`` by attack, and ``attacks`` by name with ``axis`` and
        ``point, dice, low, high, seed_low, seed_high, change``; None where undefined.
    """
    return {loss: _loss_data(found) for loss, found in curves.items()}


def chart(selection: Selection, curves: Mapping[str, pd.DataFrame], attack: str) -> str:
    """The plotly figure of an attack as JSON: a line and a band a loss, the control on demand.

    Args:
        selection: The runs.
        curves: Curves of each loss.
        attack: Name of the attack.
    """
    figure = go.Figure()
    for loss, style in loss_styles(curves).items():
        _add_loss(figure, loss, curves[loss], attack, style)
    first = next(iter(curves.values()))
    figure.update_layout(
        template="plotly_white",
        title={"text": html.escape(attack_title(attack)), "font": {"size": 15}},
        xaxis_title=html.escape(axis_label(selection, first[first["attack"] == attack])),
        yaxis_title=f"mean Dice over {int(first['cases'].iloc[0])} volumes",
        yaxis_range=[0, 1],
        hovermode="x unified",
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        height=420,
    )
    text: str = figure.to_json()
    return text


def json_for_page(value: object) -> str:
    """JSON that may stand inside a script element, which no ``<`` of it can end or comment out.

    Args:
        value: JSON as text, or what is to become JSON.
    """
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False, sort_keys=True)
    return text.replace("<", "\\u003c")


def _add_loss(
    figure: go.Figure, loss: str, found: pd.DataFrame, attack: str, style: LossStyle
) -> None:
    curve = found[found["attack"] == attack]
    points = curve["point"].tolist()
    # plotly reads names as HTML.
    name = html.escape(loss)
    red, green, blue = (int(style.color[start : start + 2], 16) for start in (1, 3, 5))
    bars = {}
    if int(found["seeds"].iloc[0]) > 1:
        bars = {
            "type": "data",
            "symmetric": False,
            "array": (curve["seed_high"] - curve["dice"]).tolist(),
            "arrayminus": (curve["dice"] - curve["seed_low"]).tolist(),
            "thickness": 1,
        }
    figure.add_scatter(
        x=points + points[::-1],
        y=curve["high"].tolist() + curve["low"].tolist()[::-1],
        name=f"{name}, {BAND}",
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.15)",
        line={"width": 0},
        mode="lines",
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=points,
        y=curve["dice"].tolist(),
        error_y=bars or None,
        name=name,
        legendgroup=name,
        mode="lines+markers",
        line={"color": style.color},
        marker={"symbol": _SYMBOLS[style.marker], "size": 7},
        customdata=curve[["low", "high", "change"]].to_numpy().tolist(),
        hovertemplate="Dice %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], "
        "mean change of a pixel %{customdata[2]:.5f}",
    )
    clean = float(found.loc[found["attack"] == CLEAN, "dice"].iloc[0])
    figure.add_scatter(
        x=[points[0], points[-1]],
        y=[clean, clean],
        name=f"{name}, no attack",
        mode="lines",
        line={"color": style.color, "dash": "dot", "width": 1},
        legendgroup=name,
        showlegend=False,
        hoverinfo="skip",
    )
    control = found[found["attack"] == attack + CONTROL]
    if not control.empty:
        figure.add_scatter(
            x=control["point"].tolist(),
            y=control["dice"].tolist(),
            name=f"{name}, random pixels",
            mode="lines",
            line={"color": style.color, "dash": "dash"},
            visible="legendonly",
            customdata=control["change"].tolist(),
            hovertemplate="Dice %{y:.3f}, mean change of a pixel %{customdata:.5f}",
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
    under = areas(found)
    return {
        "clean": _plain([clean["dice"]])[0],
        "seeds": int(clean["seeds"]),
        "cases": int(clean["cases"]),
        "auc": dict(zip(under, _plain(list(under.values())), strict=True)),
        "attacks": attacks,
    }


def _plain(values: list[float]) -> list[float | None]:
    """Numbers as JSON knows them: it has no NaN."""
    return [None if math.isnan(value) else float(value) for value in values]
