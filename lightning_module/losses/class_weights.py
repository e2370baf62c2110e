"""Weights of classes from how often they occur in the training masks."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from errors import InputError

Rule = Literal["inverse_frequency", "median_frequency", "effective_number"]


def class_weights_by(
    rule: Rule,
    areas: NDArray[np.int64],
    pixels: NDArray[np.int64],
    class_names: Sequence[str],
) -> list[float]:
    """Weights that make rare classes count more.

    With n_k pixels of class k among N:

    - ``inverse_frequency``: ``N / n_k``.
    - ``median_frequency``: ``median(f) / f_k``, where ``f_k`` is the share of class k in the slices
      that hold it (Eigen and Fergus, ICCV 2015).
    - ``effective_number``: ``(1 - b) / (1 - b^n_k)``, ``b = 1 - 1 / N`` (Cui et al., CVPR 2019).

    The first and the last are scaled to a mean of 1 over classes, so that the size of the loss
    stays what it is; the median's are as published, 1 for the class in the middle.

    Args:
        rule: Name of the rule.
        areas: Pixels of each class in each training slice, shape ``(S, K)``.
        pixels: Pixels of each slice, shape ``(S,)``.
        class_names: Names of the K classes.

    Returns:
        One weight a class.

    Raises:
        InputError: If a class occurs in no training slice.
    """
    counts = areas.sum(0).astype(np.float64)
    total = float(pixels.sum())
    absent = np.flatnonzero(counts == 0)
    if absent.size:
        msg = (
            f"--model.class_weights: found {rule}, but class {class_names[absent[0]]} is in no "
            "training slice; give a list of weights, or leave the class out"
        )
        raise InputError(msg)
    if rule == "median_frequency":
        shown = np.where(areas > 0, pixels[:, np.newaxis], 0).sum(0)
        frequency = counts / shown
        return list((np.median(frequency) / frequency).tolist())
    if rule == "inverse_frequency":
        weights = total / counts
    else:
        # expm1 and log1p: 1 - b^n is a difference of nearly equal numbers.
        weights = 1 / -np.expm1(counts * np.log1p(-1 / total))
    return list((weights / weights.mean()).tolist())
