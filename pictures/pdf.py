"""Figures as PDF, with text that can be searched and edited."""

import io

import matplotlib
from matplotlib.figure import Figure

from pictures.style import PNG_DPI, figure_style

_TRUETYPE = 42  # journals refuse matplotlib's own default, type 3


def to_pdf_bytes(figure: Figure) -> bytes:
    """A figure as PDF: the same bytes for the same figure.

    Args:
        figure: The figure to draw.
    """
    buffer = io.BytesIO()
    metadata = {"CreationDate": None, "Creator": None, "Producer": None}
    with figure_style(), matplotlib.rc_context({"pdf.fonttype": _TRUETYPE}):
        figure.savefig(buffer, format="pdf", dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()
