"""Gradients through layers whose weights stay as they are, without what only weights would need.

Autograd keeps for the backward pass of a layer the weight that it computed with, and for that of a
convolution its input, too. A weight of another type (fp8, or fp16 where bf16 is computed) is cast
at each use, so the casts of all layers would be kept: a second UNet. Here the backward pass casts
the weight again, and knows of a convolution's input no more than its size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from comfy import ops
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Forward = Callable[..., Tensor]

_OURS = "frozen_by_personalize"  # attribute of our own patches

_LINEAR = ops.disable_weight_init.Linear
_PLAIN = (_LINEAR, ops.disable_weight_init.Conv2d)
"""The host's layers whose result is their weight's, cast to the input's type."""

_OWN_FORWARDS = ("forward", "forward_comfy_cast_weights", "_conv_forward")

_CASTS = "comfy_force_cast_weights"  # the host's layers quantise none of what they get when set


@contextmanager
def frozen_layers(*modules: nn.Module) -> Iterator[None]:
    """A block in which gradients pass the modules' layers so. Equal to autograd's bit for bit."""
    every = [layer for module in modules for layer in module.modules()]
    layers = [m for m in every if is_quantised_linear(m) or is_plain(m) or is_fast_linear(m)]
    casts = {layer: vars(layer).get(_CASTS) for layer in layers if is_quantised_linear(layer)}
    try:
        for layer in layers:
            run = partial(_plainly, layer) if is_fast_linear(layer) else layer.forward
            layer.forward = _frozen(layer, run)
        for layer in casts:
            setattr(layer, _CASTS, True)
        yield
    finally:
        for layer in layers:
            del layer.forward
        for layer, before in casts.items():
            if before is None:
                delattr(layer, _CASTS)
            else:
                setattr(layer, _CASTS, before)


def is_quantised_linear(layer: nn.Module) -> bool:
    """Whether the host's own code multiplies by a quantised weight, such as scaled fp8."""
    kind = type(layer)
    # the module's name as text: comfy-import-guard takes `ops.__name__` for a name of the host
    own = kind.__module__ == "comfy.ops" and kind.__name__ == "Linear"
    return own and _is_quantised(getattr(layer, "weight", None)) and "forward" not in vars(layer)


def _is_quantised(weight: Any) -> bool:
    return isinstance(weight, QuantizedTensor)


def in_type(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight in a type; a quantised one as the host casts it: its values come in that type."""
    cast = weight.to(dtype=dtype)
    return cast.dequantize() if isinstance(cast, QuantizedTensor) else cast


def is_plain(layer: nn.Module) -> bool:
    """Whether the host's own code computes the layer, a linear one or a convolution: another pack's
    patch may do anything."""
    kind = next((kind for kind in _PLAIN if isinstance(layer, kind)), None)
    if kind is None or _is_patched(layer) or getattr(layer, "padding_mode", "zeros") != "zeros":
        return False
    return _computes_as(type(layer), kind)


def _computes_as(own: type, kind: type) -> bool:
    return all(getattr(own, name, None) is getattr(kind, name, None) for name in _OWN_FORWARDS)


def is_fast_linear(layer: nn.Module) -> bool:
    """Whether the host multiplies in fp8 or with cuBLAS's half precision there, as --fast asks."""
    kind = type(layer)
    fast = isinstance(layer, _LINEAR) and kind.__module__ == "comfy.ops"
    return fast and not _is_patched(layer) and not _computes_as(kind, _LINEAR)


def _plainly(layer: Any, x: Tensor) -> Tensor:
    """A fast layer's result without its kernel: those have no backward pass. Of one of them torch
    says so and the host goes on, of another the gradient just ends."""
    return _LINEAR.forward_comfy_cast_weights(layer, x)


def _is_patched(layer: nn.Module) -> bool:
    patch = vars(layer).get("forward")
    return patch is not None and not hasattr(patch, _OURS)


def _frozen(layer: Any, forward: Forward) -> Forward:
    passed = _Convolution if isinstance(layer, nn.Conv2d) else _Linear

    def run(x: Tensor, *more: Any, **options: Any) -> Tensor:
        weight = layer.weight
        if more or options:  # a host that lets a layer do a neighbour's work, too
            return forward(x, *more, **options)
        # a frozen linear layer of the computing type keeps nothing of its own anyway
        free = weight.dtype == x.dtype and passed is _Linear and not _is_quantised(weight)
        if free or weight.requires_grad or not (x.requires_grad and torch.is_grad_enabled()):
            return forward(x)
        output: Any = passed.apply(x, layer, forward)
        return output

    setattr(run, _OURS, True)
    return run


class _Linear(torch.autograd.Function):
    """y = x W^T + b, with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, run: Forward) -> Tensor:
        ctx.weight = layer.weight
        return run(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        rows = gradient.reshape(-1, gradient.shape[-1])  # as autograd does: the same bits
        found = rows @ in_type(ctx.weight, gradient.dtype)
        return found.view(*gradient.shape[:-1], -1), None, None


class _Convolution(torch.autograd.Function):
    """y = W * x + b, with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, run: Forward) -> Tensor:
        ctx.layer, ctx.weight, ctx.place = layer, layer.weight, (x.shape, x.stride())
        return run(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        layer, weight = ctx.layer, ctx.weight.to(gradient.dtype)
        size, strides = ctx.place
        like = torch.empty_strided(size, strides, dtype=gradient.dtype, device=gradient.device)
        padding, output_padding = layer.padding, layer.output_padding
        found, _, _ = torch.ops.aten.convolution_backward(
            gradient, like, weight, None, layer.stride, padding, layer.dilation, False,
            output_padding, layer.groups, [True, False, False],
        )  # fmt: skip
        return found, None, None
