"""How much memory a training step of a UNet needs, counted on tensors without memory.

A UNet of the same shapes is run forward and backward on torch's meta device, as a training runs the
real one: every tensor that is made is noted until it is gone. Attention counts as the fused kernels
of GPUs do it, which keep no maps. What a GPU needs beside it (its driver, its convolutions' own
work space, gaps between tensors) is not counted.
"""

import json
import weakref
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from comfy import model_management, ops
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from .attention_maps import AttentionReader, cross_attentions
from .autograd import checkpointed, replaced_weights
from .denoiser import CELL
from .frozen_layers import frozen_layers

META = torch.device("meta")
TOKENS = 77


class Allocated(TorchDispatchMode):
    """Notes the bytes of tensors made inside the block: now, and at the most.

    before: tensors that were there, whose views do not count
    """

    def __init__(self, before: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._before = [tensor.untyped_storage() for tensor in before]
        self._known = {storage._cdata for storage in self._before}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_flatten(result)[0]:
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@dataclass(frozen=True)
class StepShape:
    """What decides how much memory a step needs.

    rows: pictures at once, those of the class included; side: of the pictures, in pixels
    dtype: that the UNet computes in; weights: that it is kept in
    whole: whether the keys and values of its cross attention are trained whole
    maps: whether the maps of half the latents' side are read, as DETEX does
    """

    rows: int
    side: int
    dtype: torch.dtype
    weights: torch.dtype
    checkpointing: bool = False
    whole: bool = False
    maps: bool = False


def meta_unet(config: Mapping[str, Any], weights: torch.dtype) -> nn.Module:
    """A UNet of these shapes, the host's `unet_config`, without memory."""
    shapes = {k: v for k, v in config.items() if k not in ("dtype", "device", "operations")}
    unet = UNetModel(**shapes, dtype=weights, device=META, operations=ops.manual_cast)
    return unet.requires_grad_(False)


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of a device: those that are free now, and all that it has."""

    free: int
    total: int

    @classmethod
    def of(cls, device: torch.device) -> "DeviceMemory":
        free: Any = model_management.get_free_memory(device)
        total: Any = model_management.get_total_memory(device)
        return cls(free, total)


@lru_cache
def needed(config: str, shape: StepShape) -> int:
    """`step_bytes` of a UNet of these shapes, `unet_config` as JSON; counted once."""
    return step_bytes(_counted_unet(config, shape.weights), json.loads(config), shape)


@lru_cache(maxsize=1)
def _counted_unet(config: str, weights: torch.dtype) -> nn.Module:
    """Made once for all counts of a training: a UNet of SDXL takes seconds, without memory, too."""
    return meta_unet(json.loads(config), weights)


def shapes_text(config: Mapping[str, Any]) -> str:
    """A host's `unet_config`, without the types that it holds."""
    plain = {k: v for k, v in config.items() if not isinstance(v, torch.dtype)}
    return json.dumps(plain, sort_keys=True, default=str)


def weight_bytes(module: nn.Module) -> int:
    """Of all parameters of a module, in the types that they are kept in."""
    return sum(weight.nbytes for weight in module.parameters())


def step_bytes(unet: nn.Module, config: Mapping[str, Any], shape: StepShape) -> int:
    """The most that a step needs beside what is there before it: activations and gradients.

    unet: of `meta_unet`, with these shapes
    """
    latents = shape.side // CELL
    context = _empty(shape.rows, TOKENS, config["context_dim"]).requires_grad_(True)
    x = _empty(shape.rows, config["in_channels"], latents, latents).to(shape.dtype)
    vector = config.get("adm_in_channels")
    y = _empty(shape.rows, vector).to(shape.dtype) if vector else None
    reader = AttentionReader(_half_sized(unet, x, y, context, shape) if shape.maps else {})
    trained = _projections(unet) if shape.whole else {}
    with ExitStack() as stack:
        stack.enter_context(replaced_weights(trained))
        stack.enter_context(frozen_layers(unet))
        if shape.checkpointing:
            stack.enter_context(checkpointed(unet))
        allocated = stack.enter_context(Allocated([*unet.parameters(), *trained.values()]))
        with torch.enable_grad(), reader.reading():
            loss = _run(unet, x, y, context.to(shape.dtype)).float().square().mean()
            if shape.maps:
                places = torch.empty(shape.rows, 2, dtype=torch.long, device=META)
                loss = loss + reader.word_maps(places).square().mean()
            torch.autograd.grad(loss, [context, *trained.values()])
    return allocated.peak


def _run(unet: nn.Module, x: Tensor, y: Tensor | None, context: Tensor) -> Tensor:
    t = torch.empty(len(x), device=META)
    options = {"optimized_attention_override": _fused}
    return unet(x, t, context=context, y=y, transformer_options=options)


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, device=META)


def _projections(unet: nn.Module) -> dict[nn.Module, nn.Parameter]:
    """fp32 copies of what Custom Diffusion trains, by layer."""
    return {
        layer: nn.Parameter(_empty(*layer.weight.shape))
        for attention in cross_attentions(unet).values()
        for layer in (attention.get_submodule("to_k"), attention.get_submodule("to_v"))
        if isinstance(layer.weight, Tensor)
    }


def _half_sized(
    unet: nn.Module, x: Tensor, y: Tensor | None, context: Tensor, shape: StepShape
) -> dict[str, nn.Module]:
    """Cross attentions whose maps have half the side of the latents."""
    every = cross_attentions(unet)
    probe = AttentionReader(every)
    with probe.reading(), torch.no_grad():
        _run(unet, x, y, context.to(shape.dtype))
    wanted = x.shape[-1] // 2
    return {path: every[path] for path, side in probe.sides().items() if side == wanted}


def _fused(_chosen: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *_: Any, **__: Any) -> Any:
    return _FusedAttention.apply(q, k, v, heads)


class _FusedAttention(torch.autograd.Function):
    """What a fused kernel takes and keeps; it computes nothing."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
        out, lse = torch.empty_like(q), torch.empty(q.shape[0], heads, q.shape[1], device=q.device)
        ctx.save_for_backward(q, k, v, out, lse)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        q, k, v, _, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None
