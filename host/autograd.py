"""Gradients through the host's loaded modules, whose weights are inference tensors."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .frozen_layers import is_quantised_linear

_CASTS = "comfy_cast_weights"  # the host's layers cast their weights at each use when it is set


@contextmanager
def differentiable(*modules: nn.Module) -> Iterator[None]:
    """Let autograd save the modules' parameters and buffers, without copying them.

    Quantised weights of linear layers stay as they are: `frozen_layers` computes with them.

    The host loads weights under inference mode, and autograd refuses to save inference tensors.
    Plain tensors on the same memory stand in the modules until the block ends. They are frozen:
    never hand them to an optimizer, the memory is the user's model.
    """
    swapped: list[tuple[dict[str, Any], str, Tensor, Tensor]] = []
    copied, device = 0, None
    try:
        for slots, name, tensor in _slots(modules):
            if _must_change(tensor):
                alias = _alias(tensor)
                if alias is None:
                    alias, device = _copy(tensor), tensor.device
                    copied += alias.nbytes
                if isinstance(tensor, nn.Parameter):
                    alias = nn.Parameter(alias, requires_grad=False)
                slots[name] = alias
                swapped.append((slots, name, tensor, alias))
        if copied:
            _tell_copies(str(device), copied >> 20)
        yield
    finally:
        for slots, name, original, alias in swapped:
            if slots.get(name) is alias:  # the host may have patched the weight meanwhile
                slots[name] = original


@cache  # once is enough: a session enters again after each preview
def _tell_copies(device: str, megabytes: int) -> None:
    logging.warning(
        f"While it lasts, this training keeps copies of {megabytes} MB of weights: the device "
        f"{device} cannot share a weight's memory between two tensors, or they are quantised."
    )


def _must_change(tensor: Tensor) -> bool:
    quantised = isinstance(tensor, QuantizedTensor)
    return quantised or tensor.is_inference() or tensor.requires_grad or is_hybrid(tensor)


def _copy(tensor: Tensor) -> Tensor:
    """An ordinary tensor of the same values."""
    with torch.inference_mode(False):
        return tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor.clone()


def _slots(modules: tuple[nn.Module, ...]) -> Iterator[tuple[dict[str, Any], str, Tensor]]:
    for root in modules:
        for module in root.modules():
            kept = module.weight if is_quantised_linear(module) else None
            for slots in (module._parameters, module._buffers):
                for name, tensor in list(slots.items()):
                    if tensor is not None and tensor is not kept:
                        yield slots, name, tensor


def _alias(tensor: Tensor) -> Tensor | None:
    """The same memory as a tensor that autograd accepts, None where a device cannot share it.

    Why not `tensor.detach()`: what comes of an inference tensor is one again. Its storage is not.
    """
    if isinstance(tensor, QuantizedTensor):
        return None  # several tensors that only the host's kernels read, without gradients
    with torch.inference_mode(False):
        if not tensor.is_inference():
            return tensor.data if is_hybrid(tensor) else tensor.detach()
        plain = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        place = tensor.storage_offset(), tensor.size(), tensor.stride()
        try:
            return plain.set_(tensor.untyped_storage(), *place)
        except (RuntimeError, NotImplementedError):  # a memory that torch sees as opaque: DirectML
            return None


def is_quantised(module: nn.Module) -> bool:
    """Whether some weights are of the host's quantised kinds, such as scaled fp8."""
    return any(isinstance(weight, QuantizedTensor) for weight in module.parameters())


def addresses(tensor: Tensor) -> tuple[int, ...]:
    """Where its numbers are in memory; a quantised one has several parts."""
    if not isinstance(tensor, QuantizedTensor):
        return (tensor.data_ptr(),)
    names, _ = tensor.__tensor_flatten__()
    return tuple(getattr(tensor, name).data_ptr() for name in names)


def is_hybrid(tensor: Tensor) -> bool:
    """Whether a tensor was made in inference mode and given ordinary memory outside of it.

    Such a weight says that it is no inference tensor, but no operation takes it, since it has no
    version counter. Other programs make them by moving a loaded model outside of inference mode.
    """
    if tensor.is_inference():
        return False
    try:
        return tensor._version < 0
    except RuntimeError:
        return True


@contextmanager
def replaced_weights(weights: Mapping[nn.Module, nn.Parameter]) -> Iterator[None]:
    """Let the host's layers compute with other weights, cast to their input's type.

    Autograd reaches the weights given; those that the layers own stay as they are.
    """
    own = {layer: (layer._parameters["weight"], vars(layer).get(_CASTS)) for layer in weights}
    try:
        for layer, weight in weights.items():
            layer._parameters["weight"] = weight
            setattr(layer, _CASTS, True)
        yield
    finally:
        for layer, (weight, casts) in own.items():
            layer._parameters["weight"] = weight
            if casts is None:
                delattr(layer, _CASTS)
            else:
                setattr(layer, _CASTS, casts)


@contextmanager
def hooked(hooks: Mapping[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    """A block in which each layer's result goes through its hook, after those that were there."""
    with ExitStack() as stack:
        for layer, hook in hooks.items():
            stack.callback(layer.register_forward_hook(hook).remove)
        yield


@contextmanager
def first_row_detached(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Let no gradient through the first row of what these layers return, (B, T, c)."""
    with hooked(dict.fromkeys(layers, _detach_first_row)):
        yield


def _detach_first_row(_layer: nn.Module, _inputs: Any, rows: Tensor) -> Tensor:
    return torch.cat([rows[:, :1].detach(), rows[:, 1:]], dim=1)


@contextmanager
def checkpointed(unet: nn.Module) -> Iterator[None]:
    """Recompute residual and transformer blocks in the backward pass instead of keeping them.

    One block at a time: a `SpatialTransformer` has up to ten of them, and what one needs is there
    again while its own backward pass lasts.
    """
    blocks = [m for m in unet.modules() if isinstance(m, (ResBlock, BasicTransformerBlock))]
    patched = {block: vars(block)["forward"] for block in blocks if "forward" in vars(block)}
    try:
        for block in blocks:
            block.forward = _recomputed(block.forward)
        yield
    finally:
        for block in blocks:
            del block.forward
            if block in patched:  # another pack's patch, which the host has put there
                block.forward = patched[block]


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        # the UNet writes its position into these options as it goes: keep them as they are now
        args = tuple(dict(a) if isinstance(a, dict) else a for a in args)
        kwargs = {k: dict(v) if isinstance(v, dict) else v for k, v in kwargs.items()}
        # nothing in a block is random: to keep torch's random state would make a GPU wait
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
