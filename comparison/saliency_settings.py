"""With what settings a run's methods drew their maps, and how two of them differ, in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from robustness.pictured import SliceMaps
from robustness.spread_table import SpreadFile

Settings = Mapping[str, Any]


def spread_settings(found: SpreadFile) -> dict[str, Settings]:
    """Settings by method of a table of spread; none known of a method that its list has not."""
    stored: list[dict[str, Any]] = json.loads(found.metadata.get("methods", "[]"))
    named = {str(settings.get("method")): settings for settings in stored}
    return {str(method): named.get(str(method), {}) for method in found.frame["method"].unique()}


def map_settings(found: Sequence[SliceMaps]) -> dict[str, Settings]:
    """Settings by method of the maps of one run, with their unit."""
    return {
        str(method): {**json.loads(str(settings)), "unit": str(unit)}
        for one in found
        for method, settings, unit in zip(one.methods, one.settings, one.units, strict=True)
    }


def differing(found: Settings, asked: Settings, where: str) -> str:
    """What differs between two settings of a method, in words; empty where nothing does.

    Args:
        found: Those at hand.
        asked: Those that they should be.
        where: What the latter are of.

    Returns:
        Such as ``with samples 5 instead of 25 as in bce, seed 0``.
    """
    if not found and asked:
        return f"with unknown settings and not those of {where}"
    words = [
        f"{name.replace('_', ' ')} {_told(found, name)} instead of {_told(asked, name)}"
        for name in sorted({*found, *asked})
        if name not in found or name not in asked or found[name] != asked[name]
    ]
    return f"with {' and '.join(words)} as in {where}" if words else ""


def _told(settings: Settings, name: str) -> str:
    if name not in settings:
        return "unknown"
    value = settings[name]
    return value if isinstance(value, str) and value else json.dumps(value)
