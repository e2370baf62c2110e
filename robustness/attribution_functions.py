"""What attribution needs to know of torch's functions, and of the modules that call them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

# Names are those of `plain_name`.
# Batch norm is linear with the statistics of training, which is how evaluation takes it.
LINEAR = frozenset({
    "add", "radd", "iadd", "sub", "rsub", "isub", "neg", "cat", "concat", "concatenate",
    "stack", "sum", "mean", "flatten", "reshape", "view", "viewas", "expand", "expandas",
    "permute", "transpose", "t", "movedim", "contiguous", "clone", "to", "float", "double",
    "type", "typeas", "getitem", "get", "chunk", "split", "splitwithsizes", "unbind",
    "narrow", "select", "indexselect", "gather", "squeeze", "unsqueeze", "unflatten",
    "repeat", "flip", "roll", "pad", "interpolate", "upsample", "avgpool2d",
    "adaptiveavgpool2d", "pixelshuffle", "pixelunshuffle", "unfold", "fold", "dropout",
    "dropout2d", "featuredropout", "alphadropout", "batchnorm", "where", "maskedfill",
    "requiresgrad",
})  # fmt: skip
# Linear as long as only the first operand of a division, or one operand of a product, depends on
# the image.
PRODUCTS = frozenset({
    "mul", "rmul", "imul", "multiply", "matmul", "rmatmul", "linear", "conv2d",
    "convtranspose2d",
})  # fmt: skip
QUOTIENTS = frozenset({
    "div", "truediv", "idiv", "itruediv", "divide",
})  # fmt: skip
ELEMENTWISE = frozenset({
    "relu", "relu6", "leakyrelu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu",
    "mish", "sigmoid", "tanh", "softplus", "logsigmoid", "hardtanh", "hardswish",
    "hardsigmoid", "softsign", "softshrink", "hardshrink", "tanhshrink", "threshold", "clamp",
    "clampmin", "clampmax", "clip", "exp", "expm1", "log", "log1p", "sqrt", "square", "pow",
    "abs", "sin", "cos", "erf", "reciprocal",
})  # fmt: skip
MAX_POOL = "maxpool2d"
# Over an axis: the strongest of several classes.
MAXIMUM = "amax"
# Functions of several entries at once that guided backpropagation leaves as they are.
NO_ACTIVATION = frozenset({
    "instancenorm", "groupnorm", "layernorm", "localresponsenorm", "maxpool2d",
    "adaptivemaxpool2d", "amax",
})  # fmt: skip
# A choice between entries may be an activation written by hand.
CHOICES = frozenset({
    "where", "maskedfill",
})  # fmt: skip


def plain_name(name: str) -> str:
    """A function's name as in the tables: `__radd__` is `radd`, `add_` is `add`."""
    return name.replace("_", "")


def is_linear(name: str, dependent: list[bool]) -> bool:
    """Whether a function is linear in what depends on the image.

    Args:
        name: From :func:`plain_name`.
        dependent: Whether each argument depends on the image.
    """
    if name in QUOTIENTS:
        return dependent == [True, False]
    return name in LINEAR or (name in PRODUCTS and sum(dependent) == 1)


@contextmanager
def running_modules(network: nn.Module, method: str) -> Iterator[list[str]]:
    """The names of the modules that are running at any time; hooks are removed afterwards.

    Args:
        network: Any module.
        method: Name of the method, for errors.

    Yields:
        A list that grows and shrinks as modules begin and end; the network itself is ``""``.

    Raises:
        ValueError: If a module is compiled, so that its functions cannot be seen.
    """
    path: list[str] = []
    handles: list[RemovableHandle] = []

    def begin(name: str) -> Callable[..., None]:
        return lambda module, inputs: path.append(name)

    def end(module: nn.Module, inputs: object, outputs: object) -> None:
        path.pop()

    try:
        for name, module in network.named_modules():
            if _is_compiled(module):
                msg = (
                    f"{method}: module {name or 'network'} is compiled, so that its activations "
                    "cannot be seen; give the network as it was before"
                )
                raise ValueError(msg)
            handles.extend(
                (
                    module.register_forward_pre_hook(begin(name)),
                    module.register_forward_hook(end),
                )
            )
        yield path
    finally:
        for handle in handles:
            handle.remove()


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module was scripted or compiled, in one of torch's two ways."""
    return (
        isinstance(module, torch.jit.ScriptModule)
        or hasattr(module, "_orig_mod")
        or module._compiled_call_impl is not None
    )
