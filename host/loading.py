"""Models as plain modules on their device, whatever memory the host was started with."""

import copy
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.quant_ops import QuantizedTensor
from torch import nn


def load_whole(patchers: Sequence[Any], memory: Any) -> None:
    """Load models with all their weights and patches; memory: bytes that computing needs.

    What the host leaves behind (--novram) it brings to the device at each use, in a buffer that the
    next layer overwrites while autograd still needs it; and LoRAs on such a weight are no part of
    it, so that projections would be trained from other weights than the model samples with.
    """
    # The host's weights are inference tensors, and it moves them by `weight.data = moved`. Outside
    # of inference mode `moved` would be an ordinary tensor, and the weight a hybrid that no
    # operation takes any more: here, and in the user's next sampling.
    with torch.inference_mode():
        model_management.load_models_gpu(
            list(patchers), memory_required=memory, force_full_load=True
        )
        for patcher in patchers:
            if patcher.model.model_lowvram:
                patcher.partially_load(patcher.load_device, 1e32)


def unload(patcher: ModelPatcher) -> None:
    """Take a model's weights from its device, and no other's."""
    loaded = model_management.current_loaded_models
    others = [one for one in loaded if one.model is None or not patcher.is_clone(one.model)]
    _free(patcher.load_device, others)


def unload_others(patchers: Sequence[ModelPatcher]) -> None:
    """Take from the device of the first of these models what is none of them.

    The host would do so itself only where it finds memory short, and it does not know how much a
    training needs. On a CPU nothing would be gained.
    """
    device = patchers[0].load_device
    if device.type == "cpu":
        return
    loaded = model_management.current_loaded_models
    own = [one for one in loaded if one.model and any(p.is_clone(one.model) for p in patchers)]
    _free(device, own)


def _free(device: torch.device, kept: list[Any]) -> None:
    memory: Any = 1e30  # all of it
    with torch.inference_mode():
        model_management.free_memory(memory, device, keep_loaded=kept)


@contextmanager
def training() -> Iterator[None]:
    """Tell the host's layers that gradients are wanted, as its own trainer does."""
    before = getattr(model_management, "in_training", False)
    model_management.in_training = True
    try:
        yield
    finally:
        model_management.in_training = before


def plain_clone(patcher: Any) -> ModelPatcher:
    """A clone whose weights stay where they are loaded.

    With dynamic VRAM, the host's default on NVIDIA, a weight is anywhere and may go at any time,
    also between a forward and its backward pass. The host then keeps a plain model beside the
    dynamic one, which it reads from the model's file once; without that file ours is made of the
    weights that are in memory.
    """
    if not patcher.is_dynamic():
        return patcher.clone()
    try:
        with torch.inference_mode():
            return _in_model_types(patcher.get_non_dynamic_delegate())
    except Exception as error:  # a file may be gone, replaced or locked, or never have been told
        logging.warning(
            f"The host cannot read this {type(patcher.model).__name__} from its file again "
            f"({error}); the training takes the weights that are in memory."
        )
        with torch.inference_mode():
            return _twin(patcher)


def uncompiled(clone: ModelPatcher) -> ModelPatcher:
    """A clone that is ours, with the modules that were compiled instead of what torch made of them.

    torch compiles for the weights and the code that it met, and a training changes both: it would
    compile all again, with gradients, and go on without what it cannot compile. The host's own
    node compiles in a wrapper of sampling, which a training does not run; others patch objects.
    """
    for path, patch in list(clone.object_patches.items()):
        # of a compiled function; a compiled module has it, too, for its forward
        function = getattr(patch, "_torchdynamo_orig_callable", None)
        original = getattr(patch, "_orig_mod", function)
        if original is not None:
            clone.object_patches[path] = original
    return clone


def _in_model_types(plain: ModelPatcher) -> ModelPatcher:
    """Where dynamic VRAM is on, layers take a file's tensors as they are, and the host casts them
    to the model's type on their way to the device. To a plain model it does not."""
    for module in plain.model.modules():
        for name, weight in module._parameters.items():
            module._parameters[name] = _typed(module, name, weight)
    return plain


_DYNAMIC = ("_v", "_pin", "_prefetch", "dynamic_")
"""How the names begin of what dynamic loading notes in a module."""

_OWN = ("comfy_cast_weights", "comfy_patched_weights", "prev_comfy_cast_weights")
_FUNCTIONS = tuple(f"{kind}_{name}" for kind in ("weight", "bias") for name in (
    "function", "lowvram_function"))  # fmt: skip


def _twin(patcher: Any) -> ModelPatcher:
    """A clone with modules of its own; their weights share the memory of the given ones.

    The host casts a dynamic weight to the model's type on its way to the device; here it is cast
    now, if the file has another type.
    """
    unload(patcher)  # brings every weight back as it was read
    modules: dict[int, nn.Module] = {}
    for module in patcher.model.modules():
        modules[id(module)] = _shell(module)
    for module in patcher.model.modules():
        own = modules[id(module)]
        for name, child in module._modules.items():
            own._modules[name] = modules.get(id(child)) if child is not None else None
    model = modules[id(patcher.model)]
    for name, value in _FRESH.items():
        setattr(model, name, value)
    return patcher.clone(disable_dynamic=True, model_override=(model, ({}, {}, {}, set())))


_FRESH = {
    "model_loaded_weight_memory": 0,
    "model_offload_buffer_memory": 0,
    "lowvram_patch_counter": 0,
    "model_lowvram": False,
    "current_weight_patches_uuid": None,
    "current_patcher": None,
}
"""The host's notes in a model that is loaded nowhere."""


def _shell(module: nn.Module) -> nn.Module:
    """The module without its children and without what dynamic loading has noted."""
    own = copy.copy(module)
    for name in list(vars(own)):
        if name.startswith(_DYNAMIC) or name in _OWN or name in _FUNCTIONS:
            delattr(own, name)
    own._modules = dict(module._modules)
    own._buffers = dict(module._buffers)
    own._parameters = {
        name: _own(_typed(module, name, weight)) for name, weight in module._parameters.items()
    }
    return own


def _own(weight: Any) -> Any:
    """A parameter that can be moved without the given one."""
    return None if weight is None else nn.Parameter(weight.detach(), requires_grad=False)


def _typed(module: nn.Module, name: str, weight: Any) -> Any:
    """A parameter of a dynamic model in the model's type, the same one if it has it."""
    if weight is None or isinstance(weight, QuantizedTensor):
        return weight
    dtype = getattr(module, f"{name}_comfy_model_dtype", None) or weight.dtype
    if weight.is_meta:  # the file lacks it
        return nn.Parameter(torch.zeros(weight.shape, dtype=dtype), requires_grad=False)
    if weight.dtype == dtype:
        return weight
    return nn.Parameter(weight.detach().to(dtype), requires_grad=False)
