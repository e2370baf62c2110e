"""The one look of all figures: colours that colour-blind readers tell apart, fonts, sizes, PNGs."""

import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito, Color Universal Design, 2008; black and its yellow, weak on white, are left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
TRUTH_COLOR = "#009E73"
PREDICTION_COLOR = "#D55E00"
MUTED = "#5F6368"
PROBABILITY_MAP = "gray"
PNG_DPI = 120

_TERMS = ("bce", "dice", "batch_dice", "focal")
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 9.0,
    "figure.titlesize": 11.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.formatter.use_mathtext": False,
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "figure.facecolor": "white",
    "image.interpolation": "nearest",
}


@dataclass(frozen=True)
class LossStyle:
    """How the lines of a loss look."""

    color: str
    marker: str


def figure_style() -> AbstractContextManager[None]:
    """The settings under which a figure is drawn; matplotlib's own are as before afterwards."""
    return matplotlib.rc_context(_SETTINGS)  # type: ignore[arg-type]


def order_losses(labels: Iterable[str]) -> list[str]:
    """Loss labels in the order of every figure and table.

    Fewer terms come first, then the terms as the paper names them, then others by name.
    """

    def rank(label: str) -> tuple[int, list[int], str]:
        terms = label.split("+")
        known = [_TERMS.index(term) if term in _TERMS else len(_TERMS) for term in terms]
        return len(terms), known, label

    return sorted(set(labels), key=rank)


def loss_styles(labels: Iterable[str]) -> dict[str, LossStyle]:
    """A colour and a marker for each loss, the same for the same set of labels.

    Args:
        labels: Loss labels in any order.

    Returns:
        Styles in the order of :func:`order_losses`. The markers come round after another number
        of losses than the colours, so that 42 losses differ in one or the other.
    """
    return {
        label: LossStyle(PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)])
        for index, label in enumerate(order_losses(labels))
    }


def wrap_label(label: str, width: int = 16) -> str:
    """A loss label broken into lines after ``+`` where it is longer than ``width`` characters."""
    lines = [""]
    for term in label.replace("+", "+\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(term) > width:
            lines.append(term)
        else:
            lines[-1] += term
    return "\n".join(lines)


def grid_figsize(
    rows: int,
    columns: int,
    image_shape: tuple[int, int],
    *,
    extra_inches: tuple[float, float],
    longer_inches: float = 1.7,
) -> tuple[float, float]:
    """Size of a figure that holds a grid of images.

    Args:
        rows: Number of rows of images.
        columns: Number of columns of images.
        image_shape: Height and width of an image in pixels.
        extra_inches: Width and height that titles, labels and colour bars need.
        longer_inches: The longer side of an image.

    Returns:
        Width and height in inches.
    """
    longer = max(image_shape)
    height, width = (longer_inches * side / longer for side in image_shape)
    return columns * (width + 0.12) + extra_inches[0], rows * (height + 0.12) + extra_inches[1]


def to_png_bytes(figure: Figure, dpi: int = PNG_DPI) -> bytes:
    """A figure as PNG: the same bytes for the same figure.

    Args:
        figure: The figure to draw.
        dpi: Pixels per inch.
    """
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def to_webp_bytes(png: bytes) -> bytes:
    """The same pixels as lossless WebP, half as large, for pages that carry their pictures.

    Args:
        png: From :func:`to_png_bytes`.
    """
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")  # figures are opaque
    picture.save(buffer, format="WEBP", lossless=True, quality=50)
    return buffer.getvalue()
