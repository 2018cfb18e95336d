"""The host's cross attention: its kernel, where it can be replaced, patches around others."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from comfy.ldm.modules.attention import attention_pytorch, optimized_attention
from torch import Tensor
from torch.nn.attention import SDPBackend

from .conditionings import Conds

Replace = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
"""Takes the place of a block's attention: q, k, v after the projections, and the host's options."""

Place = tuple[str, int, int]
"""A transformer block: part of the UNet, number in it, depth."""

WrapPatch = Callable[[Replace | None], Replace]
"""Makes a patch of a block from the one that stands there already, None for the host's attention.
It decides whether and when to call that one."""

Prepare = Callable[[Any, Conds, Tensor], Any]
"""From what a MODEL wraps, the conditionings and the noise level of one evaluation: what our
patches need to know in it, None when they do nothing."""

PatchesOf = Callable[[Any, Mapping[str, Any], Tensor | None], Mapping[Place, WrapPatch]]
"""From what was prepared, the transformer options and the context of one pass of the UNet: the
patches of its blocks."""


def cross_attention(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
    """Attention after the projections, (B, N, heads * d), inside a patch of a block.

    extra_options: what the host hands to the patch
    """
    return optimized_attention(
        q,
        k,
        v,
        extra_options["n_heads"],
        attn_precision=extra_options.get("attn_precision"),
        transformer_options=extra_options,
    )


def attention_and_logsumexp(
    q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """As `cross_attention`, and with it log sum exp(q k / sqrt(d)) over the keys, (B, heads, N, 1)
    in fp32, where the kernel that computes it has that anyway; None where it has not, such as
    another program's attention. So nobody needs to make a map of all queries and keys.
    """
    queries, keys, values = (_by_head(t, extra_options["n_heads"]) for t in (q, k, v))
    kernel = _kernel(queries, keys, values, extra_options)
    if kernel is None:
        return cross_attention(q, k, v, extra_options), None
    out, logsumexp = kernel(queries, keys, values)
    return out.transpose(1, 2).flatten(2), logsumexp[:, :, : q.shape[1], None]


def _flash(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, logsumexp, *_ = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)
    return out, logsumexp


def _efficient(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    # its logsumexp is longer than the queries, a multiple of 32
    op = torch.ops.aten._scaled_dot_product_efficient_attention
    out, logsumexp, *_ = op(q, k, v, None, compute_log_sumexp=True)
    return out, logsumexp


def _flash_on_cpu(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)


FusedKernel = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]

_KERNELS: Mapping[tuple[str, int], FusedKernel] = {
    ("cuda", SDPBackend.FLASH_ATTENTION.value): _flash,
    ("cuda", SDPBackend.EFFICIENT_ATTENTION.value): _efficient,
    ("cpu", SDPBackend.FLASH_ATTENTION.value): _flash_on_cpu,
}
"""The kernels behind torch's attention that tell the logsumexp, by device and torch's number."""


def _kernel(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> FusedKernel | None:
    """What the host's attention would compute these (B, heads, N, d) with, if it is torch's own."""
    overridden = "optimized_attention_override" in extra_options
    if overridden or optimized_attention is not attention_pytorch or q.shape[-1] % 8:
        return None  # torch pads heads of other widths, which the kernels themselves do not
    return _KERNELS.get((q.device.type, torch._fused_sdp_choice(q, k, v)))


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def patch_place(path: str) -> Place:
    """The host's name of a transformer block for patches: input_blocks.1.1.transformer_blocks.0 is
    ("input", 1, 0); the middle block counts as number 0."""
    parts = path.split(".")
    name = parts[0].removesuffix("_blocks").removesuffix("_block")
    return name, 0 if name == "middle" else int(parts[1]), int(parts[-1])


def with_wrapped_attention(model: Any, key: str, prepare: Prepare, patches_of: PatchesOf) -> Any:
    """A clone of the MODEL whose blocks' cross attention is patched around others' patches.

    Ours stand in no list of patches, as the host's own way would have it: there the last pack to
    set one wins, and some packs call a method of their own on the one they find. They are made anew
    for each pass of the UNet, around whatever stands in the lists by then. So the order in which
    nodes were connected does not matter.

    key: where in the transformer options the patches find what was prepared
    """
    clone = model.clone()
    clone.add_wrapper_with_key("calc_cond_batch", "personalize", _preparing(key, prepare))
    clone.add_wrapper_with_key("apply_model", "personalize", _patching(key, patches_of))
    return clone


def _preparing(key: str, prepare: Prepare) -> Callable[..., Any]:
    """Wrapper around one evaluation of the model."""

    def wrapper(
        executor: Any,
        model: Any,
        conds: Conds,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
    ) -> Any:
        prepared = prepare(model, conds, timestep)
        if prepared is not None:
            options = {**model_options.get("transformer_options", {}), key: prepared}
            model_options = {**model_options, "transformer_options": options}
        return executor(model, conds, x, timestep, model_options)

    return wrapper


def _patching(key: str, patches_of: PatchesOf) -> Callable[..., Any]:
    """Wrapper around one pass of the UNet, of which an evaluation may have several."""

    def wrapper(
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = MappingProxyType({}),
        **more: Any,
    ) -> Any:
        if key in transformer_options:
            ours = patches_of(transformer_options[key], transformer_options, c_crossattn)
            transformer_options = _wrapped(transformer_options, ours)
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **more)

    return wrapper


def _wrapped(options: Mapping[str, Any], ours: Mapping[Place, WrapPatch]) -> Mapping[str, Any]:
    if not ours:
        return options
    replaced = options.get("patches_replace", {})
    theirs = replaced.get("attn2", {})
    new = {place: wrap(theirs.get(place) or theirs.get(place[:2])) for place, wrap in ours.items()}
    return {**options, "patches_replace": {**replaced, "attn2": {**theirs, **new}}}
