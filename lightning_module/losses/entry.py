"""What is known of a loss term: its formula and source, what it is for, and which laws it keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

SIGMOID = ("sigmoid",)
SOFTMAX = ("softmax",)
EITHER = (*SIGMOID, *SOFTMAX)


@dataclass(frozen=True)
class Entry:
    """A loss term with what a user wants to know of it.

    Attributes:
        term: Its class.
        formula: One line, with p the probabilities, z the logits, y the truth of 0 and 1.
        source: Where the formula is from.
        range: The values that it takes.
        empty: What it does on a mask without foreground.
        smooth: Its smoothing constant, by argument and value.
        outputs: The networks it is for: a sigmoid a class, a softmax over classes, or either.
        minimum: Its value at the perfect prediction.
        why_own: Where MONAI has the loss: why this package computes it itself.
        exempt: Laws that do not hold of it, by name, each with the reason.
    """

    term: type[nn.Module]
    formula: str
    source: str
    range: str
    empty: str
    smooth: str = "none"
    outputs: tuple[str, ...] = EITHER
    minimum: float = 0.0
    why_own: str = ""
    exempt: Mapping[str, str] = field(default_factory=dict)
