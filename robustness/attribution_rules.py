"""Backward rules of DeepLIFT and of guided backpropagation, put in place of torch's functions.

Rules are tied to the functions that a network calls and not to its modules: a module that is used
several times, an activation that is called as a function and an objective's sigmoid all get theirs.
A function without a rule is refused by name, since a plain gradient in its place would go unseen.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from robustness.attribution_functions import (
    CHOICES,
    ELEMENTWISE,
    MAX_POOL,
    MAXIMUM,
    NO_ACTIVATION,
    is_linear,
    plain_name,
)

# Where image and baseline lie this close, the slope stands in for the quotient of differences.
CLOSE = 1e-6

Call = Callable[..., Any]


class Rules(TorchFunctionMode, ABC):
    """Watches each function of torch that works on what depends on the image.

    Parameters must not need gradients, so that what needs one depends on the image.

    Args:
        method: Name of the method, for errors.
        path: Names of the modules that are running, outermost first; from :func:`running_modules`.
    """

    def __init__(self, method: str, path: list[str]) -> None:
        super().__init__()
        self._method = method
        self._path = path

    def __torch_function__(
        self,
        func: Call,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Call a function, under its rule where it has one."""
        kwargs = dict(kwargs or {})
        if not args and "input" in kwargs:
            # Functions may be given their image by name.
            args = (kwargs.pop("input"),)
        dependent = [_depends(value) for value in (*args, *kwargs.values())]
        if not any(dependent):
            return func(*args, **kwargs)
        name = plain_name(func.__name__)
        if self.has_rule(name) and dependent[0] and sum(dependent) == 1:
            return self.apply(name, func, args, kwargs)
        result = func(*args, **kwargs)
        if _depends(result) and not self.is_plain(name, dependent):
            self._refuse(func.__name__)
        return result

    @abstractmethod
    def has_rule(self, name: str) -> bool:
        """Whether :meth:`apply` is to be called for a function."""

    @abstractmethod
    def is_plain(self, name: str, dependent: list[bool]) -> bool:
        """Whether the plain gradient of a function is right; ``dependent`` for each argument."""

    @abstractmethod
    def apply(
        self, name: str, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        """The result of a function with a rule, whose first argument alone depends on the image."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """What to do where a function is refused; given as a class attribute."""

    def _refuse(self, function: str) -> NoReturn:
        where = f"module {self._path[-1] or 'network'}" if self._path else "objective"
        msg = f"{self._method}: {function} in the {where} has no rule; {self.advice}"
        raise ValueError(msg)


class GuidedRules(Rules):
    """A ReLU passes back what is above 0 alone, where it is switched on."""

    advice = "it is defined for ReLU alone: choose another method, or a network with ReLU"

    def has_rule(self, name: str) -> bool:
        """ReLU alone."""
        return name == "relu"

    def is_plain(self, name: str, dependent: list[bool]) -> bool:
        """All but activations, and choices that may be one written by hand."""
        return name in NO_ACTIVATION or (name not in CHOICES and is_linear(name, dependent))

    def apply(
        self, name: str, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        """ReLU of a tensor, with the guided gradient."""
        traced = _trace(func, args, kwargs)
        guided: Tensor = _GuidedReLU.apply(args[0])  # type: ignore[no-untyped-call]
        return _put(args[0], guided, in_place=traced.in_place)


class RescaleRules(Rules):
    """The rescale rule: each nonlinear function passes back dy/dx between baseline and image.

    The first pass, at the baseline, writes down what goes into each nonlinear function and what
    comes out; after :meth:`rewind` a second pass, at the image, reads it in the same order.

    For a function of each entry the multiplier is (y - y0) / (x - x0), and its slope where both
    are closer than ``CLOSE``. A maximum, over a window or along one axis as that of classes behind
    a softmax, with y at entry i and baseline y0 at entry j gives i the share (max(y, y0) - y0) /
    (x_i - x0_i) and j the share (y - max(y, y0)) / (x_j - x0_j), which add up to y - y0.

    References:
        Shrikumar, Greenside, Kundaje: Learning important features through propagating activation
        differences, ICML 2017, section 3.5.1 (rescale). Lundberg and Lee's SHAP and Ancona et
        al.'s DeepExplain share out maxima in this way.
    """

    advice = (
        "choose integrated_gradients, which needs no rules, or a network and an objective of "
        "layers that work on each entry alone (norm: batch)"
    )

    def __init__(self, method: str, path: list[str]) -> None:
        super().__init__(method, path)
        self._written: list[tuple[Tensor, ...]] = []
        self._next: int | None = None

    def rewind(self) -> None:
        """Go from the pass at the baseline to the pass at the image."""
        self._next = 0

    def has_rule(self, name: str) -> bool:
        """Functions of each entry, and maxima."""
        return name in ELEMENTWISE or name in {MAX_POOL, MAXIMUM}

    def is_plain(self, name: str, dependent: list[bool]) -> bool:
        """Linear functions."""
        return is_linear(name, dependent)

    def apply(
        self, name: str, func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Tensor:
        """The result of a nonlinear function, with the multiplier for its gradient."""
        if name == MAX_POOL:
            return self._max_pool(args, kwargs)
        if name == MAXIMUM:
            return self._maximum(*args, **kwargs)
        image: Tensor = args[0]
        traced = _trace(func, args, kwargs)
        value = traced.value.to(image.dtype)
        if self._next is None:
            self._written.append((image.detach().clone(), traced.value))
            multiplier = torch.zeros_like(value)
        else:
            before, after = self._read(image.shape)
            change = image.detach().double() - before
            close = change.abs() < CLOSE
            quotient = (traced.value - after) / torch.where(close, 1, change)
            multiplier = torch.where(close, traced.slope, quotient).to(image.dtype)
        result = value + multiplier * (image - image.detach())
        return _put(image, result, in_place=traced.in_place)

    def _max_pool(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        settings = {name: value for name, value in kwargs.items() if name != "return_indices"}
        image: Tensor = args[0]
        pooled: tuple[Tensor, Tensor] = functional.max_pool2d_with_indices(
            image.detach(), *args[1:6], **settings
        )
        value, place = pooled
        return self._shared_out(image, value, place, _at)

    def _maximum(
        self,
        image: Tensor,
        dim: int | Sequence[int] = (),
        keepdim: bool = False,
    ) -> Tensor:
        axes = (dim,) if isinstance(dim, int) else tuple(dim)
        if len(axes) != 1:
            self._refuse(f"{MAXIMUM} over {len(axes) or 'all'} axes")
        value, place = image.detach().max(axes[0], keepdim=True)
        result = self._shared_out(
            image, value, place, lambda entries, where: entries.gather(axes[0], where)
        )
        return result if keepdim else result.squeeze(axes[0])

    def _shared_out(
        self,
        image: Tensor,
        value: Tensor,
        place: Tensor,
        entries_at: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """A maximum, with the multipliers of the entry that it is now and of that before."""
        # Zero, and a gradient to each entry.
        change = image - image.detach()
        if self._next is None:
            self._written.append((image.detach().clone(), value, place))
            return value + 0 * entries_at(change, place)
        before, after, place_before = self._read(image.shape)
        way = image.detach() - before
        larger = torch.maximum(value, after)
        result = value
        for where, share, slope in (
            (place, larger - after, 1.0),
            (place_before, value - larger, 0.0),
        ):
            step = entries_at(way, where)
            close = step.abs() < CLOSE
            multiplier = torch.where(close, slope, share / torch.where(close, 1, step))
            result = result + multiplier * entries_at(change, where)
        return result

    def _read(self, shape: torch.Size) -> tuple[Tensor, ...]:
        place = self._next or 0
        if place >= len(self._written) or self._written[place][0].shape != shape:
            msg = (
                f"{self._method}: the network takes another way for the image than for the "
                "baseline; choose integrated_gradients, which may"
            )
            raise ValueError(msg)
        self._next = place + 1
        return self._written[place]


class _Traced(NamedTuple):
    """A function's value and slope at each entry, and whether it writes over its argument."""

    value: Tensor
    slope: Tensor
    in_place: bool


def _trace(func: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Traced:
    """Call a function of each entry on a copy, which it may write over.

    In double precision: a quotient of small differences would hold little but rounding.
    """
    rest = [_double(value) for value in args[1:]]
    named = {name: _double(value) for name, value in kwargs.items()}
    with torch.enable_grad():
        leaf = args[0].detach().double().clone().requires_grad_()
        copy = leaf.clone()
        result: Tensor = func(copy, *rest, **named)
        (slope,) = torch.autograd.grad(result.sum(), leaf)
    return _Traced(result.detach(), slope, result is copy)


def _double(value: object) -> object:
    return value.double() if isinstance(value, Tensor) else value


def _put(image: Tensor, result: Tensor, *, in_place: bool) -> Tensor:
    return image.copy_(result) if in_place else result


class _GuidedReLU(torch.autograd.Function):
    """ReLU whose gradient is cut at 0 on its way back.

    References:
        Springenberg et al.: Striving for simplicity: the all convolutional net, ICLR workshop
        2015, section 3.4.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:  # noqa: ANN401 - torch gives it no type
        on = image > 0
        ctx.save_for_backward(on)
        return torch.where(on, image, 0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        (on,) = ctx.saved_tensors
        return torch.where(on, gradient.clamp(min=0), 0)


def _depends(value: object) -> bool:
    """Whether a value, or one in a sequence of them, depends on the image."""
    if isinstance(value, Tensor):
        return value.requires_grad
    return isinstance(value, list | tuple) and any(_depends(one) for one in value)


def _at(image: Tensor, place: Tensor) -> Tensor:
    """Entries of images ``(B, C, H, W)`` at row-major indices of a plane ``(B, C, h, w)``."""
    return image.flatten(2).gather(2, place.flatten(2)).reshape(place.shape)
