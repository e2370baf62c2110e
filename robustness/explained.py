"""What an explanation explains: objectives summed over all pixels, a mask, or one pixel.

Each factory gives an :data:`~robustness.objectives.Objective`: ``(logits, target, valid) -> (B,)``,
the sum of a pixel's value over pixels and classes. The value is the probability or the logit, or
any other function of the logits that keeps their shape, such as a tempered probability. Padding is
ordinary, as in the paper's sum of probabilities.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from robustness.attack import AttackBatch
from robustness.names import find_named
from robustness.objectives import Objective

PixelValue = Callable[[Tensor], Tensor]
# A mask that moves with the image, and the same one as it is on the clean slices.
PREDICTED, FROZEN = "predicted", "frozen"


def probability(logits: Tensor) -> Tensor:
    """sigmoid(z) of each pixel and class, same shape."""
    return logits.sigmoid()


def logit(logits: Tensor) -> Tensor:
    """The logit itself, which does not fade where a network is sure."""
    return logits


def all_pixels(value: PixelValue = probability) -> Objective:
    """Sum over all pixels and classes; with the probability it is the paper's objective.

    Args:
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape.

    Returns:
        The objective.

    References:
        Simonyan et al., Deep inside convolutional networks, 2013, section 3, for one class score.
    """

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return value(logits).flatten(1).sum(dim=1)

    return objective


def predicted_foreground(value: PixelValue = probability) -> Objective:
    """Sum over the pixels with z > 0 of whatever image is at hand.

    The mask moves with the image, so the objective jumps where a pixel crosses the threshold:
    integrated gradients and DeepLIFT do not add up on it. :func:`frozen_prediction` does not jump.

    Args:
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape.

    Returns:
        The objective.

    References:
        Vinogradova, Dibrov, Myers: Towards interpretable semantic segmentation via
        gradient-weighted class activation mapping, AAAI 2020 (sum over a set of pixels).
    """

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return _sum_where(logits.detach() > 0, value(logits))

    return objective


def true_mask(value: PixelValue = probability) -> Objective:
    """Sum over the true foreground, as far as the truth is known.

    Args:
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape.

    Returns:
        The objective.
    """

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        return _sum_where((target > 0) & valid, value(logits))

    return objective


def frozen_mask(mask: Tensor, value: PixelValue = probability) -> Objective:
    """Sum over given pixels, the same ones for every disturbed copy of a slice.

    Args:
        mask: True where pixels are summed, bool, shape ``(B, K, H, W)`` of the batch.
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape.

    Returns:
        The objective. It raises ValueError for logits of another shape than the mask's: it
        belongs to the batch that it was made for.
    """

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        _check_shape(mask, logits)
        return _sum_where(mask, value(logits))

    return objective


def frozen_prediction(batch: AttackBatch, value: PixelValue = probability) -> Objective:
    """Sum over the foreground that is predicted on the clean slices; takes one forward pass.

    Args:
        batch: The clean slices.
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape.

    Returns:
        The objective, for this batch alone.

    References:
        Vinogradova, Dibrov, Myers: Towards interpretable semantic segmentation via
        gradient-weighted class activation mapping, AAAI 2020.
    """
    return frozen_mask(batch.logits(batch.image) > 0, value)


def decision_margin(batch: AttackBatch, value: PixelValue = logit) -> Objective:
    """How clearly the clean prediction stands: sum of value where z > 0, minus sum elsewhere.

    The prediction is that of the clean slices and takes one forward pass. With the logit it is
    the sum of |z| on the clean slices, each pixel's distance from the threshold.

    Args:
        batch: The clean slices.
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape.

    Returns:
        The objective, for this batch alone.
    """
    foreground = batch.logits(batch.image) > 0

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        _check_shape(foreground, logits)
        values = value(logits)
        return torch.where(foreground.clone(), values, -values).flatten(1).sum(dim=1)

    return objective


def one_pixel(
    row: int, column: int, class_index: int = 0, value: PixelValue = probability
) -> Objective:
    """The value of one pixel and class.

    Args:
        row: From 0, down.
        column: From 0, to the right.
        class_index: From 0.
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape.

    Returns:
        The objective. It raises ValueError where the logits have no such pixel.
    """
    place = (class_index, row, column)

    def objective(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        shape = tuple(logits.shape[1:])
        if not all(0 <= at < size for at, size in zip(place, shape, strict=True)):
            msg = (
                f"one_pixel: class, row and column are {place}, expected them to lie in logits of "
                f"shape {shape}, counted from 0"
            )
            raise ValueError(msg)
        return value(logits)[:, class_index, row, column]

    return objective


# What is summed over, by name; `one_pixel` needs to know which.
EXPLAINED: dict[str, Callable[[AttackBatch, PixelValue], Objective]] = {
    "all": lambda batch, value: all_pixels(value),
    PREDICTED: lambda batch, value: predicted_foreground(value),
    "truth": lambda batch, value: true_mask(value),
    FROZEN: frozen_prediction,
    "margin": decision_margin,
}


# Of the sums, with the value of a pixel in place of ``{}``.
_WORDS = {
    "all": "sum of {}",
    "predicted": "sum of {} where foreground is predicted",
    "truth": "sum of {} in the truth",
    "frozen": "sum of {} in the clean prediction",
    "margin": "sum of {} in the clean prediction, less that outside",
}


def explained(name: str, batch: AttackBatch, value: PixelValue = probability) -> Objective:
    """What is explained of a batch, by name.

    Args:
        name: One of ``EXPLAINED``, or a loss or other objective among ``batch.objectives``.
        batch: The clean slices; ``frozen`` and ``margin`` take a forward pass on them.
        value: Gives each pixel's value for logits ``(B, K, H, W)``, same shape; objectives of the
            batch have their own.

    Returns:
        The objective.

    Raises:
        ValueError: If the name is unknown.
    """
    check_explained(name, batch.objectives)
    return EXPLAINED[name](batch, value) if name in EXPLAINED else batch.objectives[name]


def check_explained(name: str, objectives: Mapping[str, Objective]) -> None:
    """Refuse a name that :func:`explained` does not know.

    Args:
        name: As there.
        objectives: Those of the batches.

    Raises:
        ValueError: If it is neither among ``EXPLAINED`` nor among them.
    """
    find_named("explained", name, {**objectives, **EXPLAINED})


def explained_words(name: str, value: str = "p") -> str:
    """What is explained, in words for pictures: ``sum of p``, or the objective's name.

    Args:
        name: As in :func:`explained`.
        value: A pixel's value in short: ``p`` for the probability, ``z`` for the logit.
    """
    return _WORDS[name].format(value) if name in _WORDS else name.replace("_", " ")


def _check_shape(mask: Tensor, logits: Tensor) -> None:
    if mask.shape != logits.shape:
        msg = (
            f"the frozen mask has shape {tuple(mask.shape)}, the logits {tuple(logits.shape)}; "
            "make the objective again for each batch"
        )
        raise ValueError(msg)


def _sum_where(mask: Tensor, values: Tensor) -> Tensor:
    """Sum over some pixels of each image; the mask may come from inference mode."""
    return torch.where(mask.clone(), values, 0).flatten(1).sum(dim=1)
