"""The host's cross attention: its kernel, where it can be replaced, patches around others."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

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
