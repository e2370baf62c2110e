"""Checks of the module's settings, before anything is built from them."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from errors import InputError
from lightning_module.losses.class_weights import Rule

Outputs = Literal["sigmoid", "softmax"]


def check_settings(
    class_names: Sequence[str],
    *,
    outputs: str,
    learning_rate: float,
    weight_decay: float,
    regularization: float,
    output_weights: Sequence[float],
) -> None:
    """Raise InputError on settings no training can have; ``SegmentationModule`` describes them."""
    if outputs not in get_args(Outputs):
        msg = f"--model.outputs: found {outputs}, expected sigmoid or softmax; choose one"
        raise InputError(msg)
    if not class_names:
        msg = "--model.class_names: found none, expected at least one; name the classes"
        raise InputError(msg)
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        msg = f"--model.learning_rate: found {learning_rate}, expected a number above 0; change it"
        raise InputError(msg)
    for option, value in (("weight_decay", weight_decay), ("regularization", regularization)):
        if not (math.isfinite(value) and value >= 0):
            msg = f"--model.{option}: found {value}, expected 0 or more; change it"
            raise InputError(msg)
    if not all(math.isfinite(weight) and weight >= 0 for weight in output_weights) or not any(
        output_weights[:1]
    ):
        msg = (
            f"--model.output_weights: found {list(output_weights)}, expected finite numbers of at "
            "least 0, the first above; correct the list"
        )
        raise InputError(msg)


def check_class_weights(weights: list[float] | Rule | None, class_names: Sequence[str]) -> None:
    """Raise InputError on weights for other classes or of an unknown rule."""
    if isinstance(weights, str) and weights not in get_args(Rule):
        msg = (
            f"--model.class_weights: found {weights}, expected a list of numbers or one of "
            f"{', '.join(get_args(Rule))}; choose one"
        )
        raise InputError(msg)
    if isinstance(weights, list) and len(weights) != len(class_names):
        msg = (
            f"--model.class_weights: found {len(weights)}, expected {len(class_names)}, "
            f"one a class ({', '.join(class_names)}); correct the list"
        )
        raise InputError(msg)
