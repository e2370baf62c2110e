"""Small pieces of HTML that several sections of the report are made of."""

import html
import math
import re
from collections.abc import Mapping


def notice(text: str) -> str:
    """A paragraph that stands out; the text is escaped."""
    return f'<p class="note">{html.escape(text)}</p>'


def breakable(name: str) -> str:
    """A name, escaped, that a browser may break after its signs."""
    return re.sub("([+_=,(])", r"\1<wbr>", html.escape(name))


def number(value: float) -> str:
    """A number with three significant digits and no exponent: 1230, 12.0, 0.00123.

    Args:
        value: NaN gives ``none``.
    """
    if math.isnan(value):
        return "none"
    if not value or math.isinf(value):
        return f"{value + 0.0:g}"  # never as minus zero
    rounded = float(f"{value:.3g}")
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def span(low: float, high: float) -> str:
    """Two ends in words, one number where they read the same; empty where either is NaN."""
    if math.isnan(low) or math.isnan(high):
        return ""
    ends = dict.fromkeys((number(low), number(high)))
    return " to ".join(ends)


def left_out_notes(what: str, reasons: Mapping[str, str]) -> str:
    """A note for all runs that are left out of something; empty where there are none."""
    if not reasons:
        return ""
    return notice(f"Not in {what}: {'; '.join(f'{run}: {why}' for run, why in reasons.items())}.")
