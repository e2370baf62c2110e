"""The name under which a loss is compared with others."""

import inspect
from pathlib import Path

from jsonargparse import Namespace

from lightning_module.module import SegmentationModule

# Settings of the module that make another loss of the same terms.
_SETTINGS = (
    "outputs",
    "class_weights",
    "normalize",
    "output_weights",
    "output_losses",
    "regularization",
    "count_padding",
)


def loss_label(model: Namespace, case_weights: str | None) -> str:
    """The loss, with whatever else than its terms makes it another one.

    It tells runs apart wherever they are laid side by side: weighed and not weighed, for example.

    Args:
        model: Settings of the module.
        case_weights: Table of the weights of cases, if there is one.

    Returns:
        The expression, and the settings that are not the default ones, in brackets.
    """
    defaults = inspect.signature(SegmentationModule).parameters
    other = {
        name: model[name]
        for name in _SETTINGS
        if _plain(model[name]) != _plain(defaults[name].default)
    }
    if case_weights is not None:
        other["case_weights"] = Path(case_weights).name
    settings = ", ".join(f"{name}={_plain(value)}" for name, value in other.items())
    return f"{model.loss} ({settings})" if settings else str(model.loss)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, list | tuple) else value
