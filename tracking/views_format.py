"""Writes a dashboard down as MLflow's UI saves a view of its charts, and reads it back.

MLflow does not document the format: its version is pinned, and a test opens what is written here in
a browser.
"""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

TAG_PREFIX = "mlflow.sharedViewState."
TAG_LIMIT = 20_000  # the most characters that MLflow takes as the value of an experiment's tag
_DEFLATED = "deflate;"
_OWN = "segstress"  # the view's hash; MLflow leaves it out when somebody saves the view again


@dataclass(frozen=True)
class Chart:
    """A card that shows one metric of all runs; its key stands above the card.

    Attributes:
        metric: Key of the metric.
        axis: Key of the metric that is the horizontal axis of a line; the step where it is empty.
        kind: ``LINE`` or ``BAR``.
        unit_range: Whether the vertical axis goes from 0 to 1 in all runs.
    """

    metric: str
    axis: str = ""
    kind: Literal["LINE", "BAR"] = "LINE"
    unit_range: bool = False


@dataclass(frozen=True)
class Grid:
    """A card that shows pictures: one row a picture, one column a run."""

    images: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """Cards under a heading.

    Attributes:
        title: The heading; each of a view has another.
        cards: What it shows.
        columns: How many cards stand side by side.
        height: Height of a card in pixels.
    """

    title: str
    cards: tuple[Chart | Grid, ...]
    columns: int = 2
    height: int = 360


@dataclass(frozen=True)
class View:
    """A dashboard.

    Attributes:
        key: By which an address names it.
        name: By which people choose it.
        sections: What it shows, from the top.
        group_by: Param whose values runs are averaged over; empty shows each run by itself.
    """

    key: str
    name: str
    sections: tuple[Section, ...]
    group_by: str = ""


def view_state(view: View, metrics: Iterable[str], images: Iterable[str]) -> dict[str, Any]:
    """What MLflow's UI keeps of a page of charts.

    Args:
        view: The dashboard.
        metrics: All metrics of the runs: MLflow adds a card for each that a view does not mention,
            so that those it does not show are put down as removed.
        images: All pictures of the runs; likewise.

    Returns:
        The state, as plain values; the same arguments give the same one.
    """
    sections, charts = [], []
    for index, section in enumerate(view.sections):
        sections.append(
            {
                "uuid": f"s{index}",
                "name": section.title,
                "columns": section.columns,
                "cardHeight": section.height,
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        )
        charts += [_card(card, f"s{index}") for card in section.cards]
    shown = {chart["metricKey"] for chart in charts if "metricKey" in chart}
    single = {chart["imageKeys"][0] for chart in charts if len(chart.get("imageKeys", ())) == 1}
    charts += [
        {"type": "BAR", "metricKey": key, "deleted": True} for key in sorted({*metrics} - shown)
    ]
    charts += [
        {"type": "IMAGE", "imageKeys": [key], "deleted": True} for key in sorted({*images} - single)
    ]
    for number, chart in enumerate(charts):
        chart["uuid"] = f"c{number}"
    grouped = {"mode": "param", "groupByData": view.group_by}
    return {
        "compareRunSections": sections,
        "compareRunCharts": charts,
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "runsHiddenMode": "SHOW_ALL",
        "useGroupedValuesInCharts": True,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [grouped]}
        if view.group_by
        else None,
        "autoRefreshEnabled": True,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "searchFilter": "",
    }


def known_keys(state: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The metrics and the pictures that a state was made for.

    Args:
        state: From :func:`view_state`.
    """
    charts = state.get("compareRunCharts", [])
    metrics = {str(chart["metricKey"]) for chart in charts if chart.get("metricKey")}
    images = {str(key) for chart in charts for key in chart.get("imageKeys", [])}
    return metrics, images


def encode(name: str, state: dict[str, Any], *, created: int, updated: int) -> str:
    """The value of the tag that holds a view.

    Args:
        name: Name of the view.
        state: From :func:`view_state`.
        created: When it was first written, in milliseconds since 1970.
        updated: When it was written last.
    """
    packed = base64.b64encode(zlib.compress(_text(state).encode(), 9)).decode()
    envelope = {
        "name": name,
        "createdAt": created,
        "updatedAt": updated,
        "state": _DEFLATED + packed,
        _OWN: _digest(name, state),
    }
    return json.dumps(envelope)


@dataclass(frozen=True)
class StoredView:
    """A view as a store holds it.

    Attributes:
        name: Its name.
        created: When it was first written, in milliseconds since 1970.
        state: What it shows.
        own: Whether it is as SegStress wrote it, and not saved again by somebody.
    """

    name: str
    created: int
    state: dict[str, Any]
    own: bool


def decode(value: str) -> StoredView | None:
    """Read the value of a tag; None if it holds no view that can be read.

    Args:
        value: From :func:`encode`, or from MLflow's UI.
    """
    try:
        envelope = json.loads(value)
        name, created = str(envelope["name"]), int(envelope["createdAt"])
        packed = str(envelope["state"]).removeprefix(_DEFLATED)
        state = json.loads(zlib.decompress(base64.b64decode(packed, validate=True)))
        own = envelope.get(_OWN) == _digest(name, state)
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, zlib.error):
        return None
    return StoredView(name, created, state, own) if isinstance(state, dict) else None


def _card(card: Chart | Grid, section: str) -> dict[str, Any]:
    common = {"metricSectionId": section, "deleted": False, "isGenerated": False}
    if isinstance(card, Grid):
        shown = {"imageKeys": list(card.images), "step": 0, "showRunParams": False}
        return {"type": "IMAGE", **common, **shown}
    chart = {
        "type": card.kind,
        **common,
        "metricKey": card.metric,
        "selectedMetricKeys": [card.metric],
        "runsCountToCompare": 100,
    }
    if card.kind == "BAR":
        return chart
    limits = {"yMin": 0, "yMax": 1} if card.unit_range else {}
    return chart | {
        "xAxisKey": "metric" if card.axis else "step",
        "selectedXAxisMetricKey": card.axis,
        "useGlobalXaxisKey": False,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": limits,
        "lineSmoothness": 0,
        "useGlobalLineSmoothing": False,
        "ignoreOutliers": False,
    }


def _text(state: object) -> str:
    return json.dumps(state, separators=(",", ":"), sort_keys=True)


def _digest(name: str, state: object) -> str:
    return hashlib.sha256(f"{name}\n{_text(state)}".encode()).hexdigest()
