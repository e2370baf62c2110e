"""What must hold of every loss term, as checks that tests and ``losses --check`` run alike.

Each law takes a term and answers None where it holds, else one line that says where it broke.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

_SATURATED = 50.0
_STEEPNESS = 6.0
_CLOSE = 1e-5


class Law(NamedTuple):
    """A law of loss terms.

    Attributes:
        statement: What must hold, as a sentence.
        check: Called with the term, whether its classes exclude each other, and its stated minimum.
    """

    statement: str
    check: Callable[[nn.Module, bool, float], str | None]


class Images(NamedTuple):
    """A batch for a law: target of 0 and 1, ``(B, K, H, W)``, and valid, ``(B, 1, H, W)``."""

    target: Tensor
    valid: Tensor

    def logits(self, *, right: float) -> Tensor:
        """Logits of size ``right`` towards the truth, or away from it where it is negative."""
        return right * (2 * self.target - 1)


def _shapes(term: nn.Module, exclusive: bool, _: float) -> str | None:
    images = _blobs(exclusive)
    rows = 1 if getattr(term, "over_batch", False) else len(images.target)
    found = tuple(_value(term, images.logits(right=1.0), images).shape)
    expected = (rows, images.target.shape[1])
    return None if found == expected else f"returned shape {found}, expected {expected}"


def _finite(term: nn.Module, exclusive: bool, _: float) -> str | None:
    for target_name, images in _extremes(exclusive):
        for logits_name, logits in _extreme_logits(images):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                given = logits.to(dtype).requires_grad_()
                with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                    value = _value(term, given, images)
                (gradient,) = torch.autograd.grad(value.sum(), given)
                for name, tensor in (("value", value), ("gradient", gradient)):
                    if not tensor.isfinite().all():
                        kind = str(dtype).removeprefix("torch.")
                        return f"{name} not finite on {target_name}, {logits_name}, in {kind}"
    return None


def _gradient(term: nn.Module, exclusive: bool, _: float) -> str | None:
    images = _cropped(_blobs(exclusive), 6)
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(images.target.shape, generator=generator, dtype=torch.float64)
    double = Images(images.target.double(), images.valid)
    try:
        torch.autograd.gradcheck(
            lambda given: _value(term.double(), given, double), (1.5 * logits).requires_grad_()
        )
    except RuntimeError as error:
        return f"gradient differs from finite differences: {' '.join(str(error).split())[:200]}"
    finally:
        term.float()
    return None


def _minimum(term: nn.Module, exclusive: bool, minimum: float) -> str | None:
    images = _blobs(exclusive)
    value = _value(term, images.logits(right=_SATURATED), images)
    if (value - minimum).abs().max() < 1e-3:  # noqa: PLR2004 - smoothing leaves less than this
        return None
    return f"{_list(value)} at the perfect prediction, expected {minimum:g}"


def _improves(term: nn.Module, exclusive: bool, _: float) -> str | None:
    images = _blobs(exclusive)
    steps = torch.linspace(-_STEEPNESS, _STEEPNESS, 13).tolist()
    # A background that is left out is none of the term's business.
    first = int(exclusive and not getattr(term, "background", True))
    values = torch.stack(
        [_value(term, images.logits(right=step), images)[:, first:] for step in steps]
    )
    rise = values.diff(dim=0).max().item()
    if rise > _CLOSE:
        where = steps[int(values.diff(dim=0).flatten(1).amax(1).argmax())]
        return f"rises by {rise:.2g} as logits improve from {where:g} on"
    if not (values[-1] < values[0]).all():
        return "is the same for the inverted and for the right prediction"
    return None


def _order(term: nn.Module, exclusive: bool, _: float) -> str | None:
    images = _blobs(exclusive)
    logits = _noisy(images)
    order = torch.arange(len(logits) - 1, -1, -1)
    value = _value(term, logits, images)
    turned = _value(term, logits[order], Images(images.target[order], images.valid[order]))
    expected = value if len(value) == 1 else value[order]
    return _difference(turned, expected, "depends on the order of the batch")


def _padding(term: nn.Module, exclusive: bool, _: float) -> str | None:
    images = _blobs(exclusive)
    logits = _noisy(images)
    margin = (0, 5, 0, 3)
    padded = Images(pad(images.target, margin, value=1.0), pad(images.valid, margin, value=False))
    if exclusive:
        padded.target[:, 1:][~padded.valid.expand_as(padded.target[:, 1:])] = 0
    wide = pad(logits, margin, value=3.0).requires_grad_()
    value = _value(term, wide, padded)
    (gradient,) = torch.autograd.grad(value.sum(), wide)
    if masked_gradient := gradient[~padded.valid.expand_as(gradient)].abs().max().item():
        return f"has a gradient of {masked_gradient:.2g} in pixels that do not count"
    return _difference(value, _value(term, logits, images), "changes with pixels that do not count")


def _weights(term: nn.Module, exclusive: bool, _: float) -> str | None:
    images = _blobs(exclusive)
    logits = _noisy(images)
    weight = torch.ones(len(logits))
    weight[-1] = 0
    value: Tensor = term(logits, images.target, images.valid, weight)
    if not getattr(term, "over_batch", False):
        return _difference(value, _value(term, logits, images), "uses sample weights by image")
    fewer = _value(term, logits[:-1], Images(images.target[:-1], images.valid[:-1]))
    return _difference(value, fewer, "counts an image of weight 0")


LAWS: dict[str, Law] = {
    "shape": Law("one value a class, of each image or of the batch", _shapes),
    "finite": Law("finite value and gradient on any mask, logits of +-50, half precision", _finite),
    "gradient": Law("the gradient is that of finite differences, in float64", _gradient),
    "minimum": Law("the stated minimum, 0 if none is, at the perfect prediction", _minimum),
    "improves": Law("falls as the prediction improves along a line", _improves),
    "order": Law("does not depend on the order of the batch", _order),
    "padding": Law("pixels that are not valid change nothing", _padding),
    "weights": Law("sample weights count in terms over the batch, and there only", _weights),
}


def broken_law(law: Law, term: nn.Module, *, exclusive: bool, minimum: float) -> str | None:
    """Hold a term against a law, also a term that raises.

    Args:
        law: One of ``LAWS``.
        term: The term.
        exclusive: Whether its classes exclude each other.
        minimum: Its stated value at the perfect prediction.

    Returns:
        None where the law holds, else one line that says where it broke.
    """
    try:
        return law.check(term, exclusive, minimum)
    except Exception as error:  # whatever somebody's own term raises is a finding, not a crash
        return f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _value(term: nn.Module, logits: Tensor, images: Images) -> Tensor:
    value: Tensor = term(logits, images.target, images.valid)
    return value


def _blobs(exclusive: bool) -> Images:
    """Three images of 16 x 18 pixels with two discs of different sizes that do not touch."""
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(18), indexing="ij")
    discs = []
    for shift, (large, small) in enumerate(((14, 6), (10, 5), (12, 3))):
        discs.append(
            [
                (rows - 5 - shift) ** 2 + (columns - 5) ** 2 < large,
                (rows - 6 - shift) ** 2 + (columns - 13) ** 2 < small,
            ]
        )
    target = torch.stack([torch.stack(pair) for pair in discs]).float()
    return Images(_with_background(target) if exclusive else target, _all_valid(target))


def _extremes(exclusive: bool) -> Iterator[tuple[str, Images]]:
    blobs = _blobs(exclusive)
    yield "two discs", blobs
    empty, full = torch.zeros(2, 2, 16, 18), torch.ones(2, 2, 16, 18)
    if exclusive:
        full[:, 1] = 0
        empty, full = _with_background(empty), _with_background(full)
    yield "an empty mask", Images(empty, _all_valid(empty))
    yield "a full mask", Images(full, _all_valid(full))
    yield "no valid pixel", Images(blobs.target, torch.zeros_like(blobs.valid))


def _extreme_logits(images: Images) -> Iterator[tuple[str, Tensor]]:
    shape = images.target.shape
    yield "perfect", images.logits(right=_SATURATED)
    yield "inverted", images.logits(right=-_SATURATED)
    yield "logits 0", torch.zeros(shape)
    yield "logits 50", torch.full(shape, _SATURATED)
    yield "logits -50", torch.full(shape, -_SATURATED)


def _noisy(images: Images) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return images.logits(right=1.0) + torch.randn(images.target.shape, generator=generator)


def _cropped(images: Images, size: int) -> Images:
    return Images(images.target[..., 4 : 4 + size, 4 : 4 + size], images.valid[..., :size, :size])


def _with_background(target: Tensor) -> Tensor:
    return torch.cat([1 - target.amax(1, keepdim=True), target], 1)


def _all_valid(target: Tensor) -> Tensor:
    return torch.ones_like(target[:, :1], dtype=torch.bool)


def _difference(found: Tensor, expected: Tensor, complaint: str) -> str | None:
    if found.shape == expected.shape and torch.allclose(found, expected, rtol=_CLOSE, atol=_CLOSE):
        return None
    return f"{complaint}: {_list(found)} instead of {_list(expected)}"


def _list(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.4g}" for value in values.flatten().tolist()) + "]"
