"""The host's cross attention: its kernel, where it can be replaced, patches that join others."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

Replace = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
"""Takes the place of a block's attention: q, k, v after the projections, and the host's options."""

Place = tuple[str, int, int]
"""A transformer block: part of the UNet, number in it, depth."""

Around = Callable[[Replace | None], Replace]
"""Makes a patch that calls the one which stands there already, None for the host's attention."""

Conds = Sequence[Sequence[dict[str, Any]] | None]
"""Lists of conditionings, such as positive and negative."""

Tell = Callable[[Any, Conds, Tensor], Any]
"""From the model, the conditionings and the noise level to what patches are told, None for rest."""

Patches = Callable[[Any, Mapping[str, Any], Tensor | None], Mapping[Place, Around]]
"""From what was told, the options and the texts of a batch to the patches of its blocks."""


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


def with_joined_patches(model: Any, key: str, tell: Tell, patches: Patches) -> Any:
    """A clone of the MODEL with patches that join the others' at each evaluation.

    They stand in no list of patches: in such a list the last pack to set one wins, and some call a
    method of their own on the one they find. So the order of the nodes does not matter.

    key: where in the transformer options the patches are told
    """
    clone = model.clone()
    clone.add_wrapper_with_key("calc_cond_batch", "personalize", _telling(key, tell))
    clone.add_wrapper_with_key("apply_model", "personalize", _joining(key, patches))
    return clone


def _telling(key: str, tell: Tell) -> Callable[..., Any]:
    """Wrapper around one evaluation of the model."""

    def wrapper(
        executor: Any,
        model: Any,
        conds: Conds,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
    ) -> Any:
        told = tell(model, conds, timestep)
        if told is not None:
            options = {**model_options.get("transformer_options", {}), key: told}
            model_options = {**model_options, "transformer_options": options}
        return executor(model, conds, x, timestep, model_options)

    return wrapper


def _joining(key: str, patches: Patches) -> Callable[..., Any]:
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
            ours = patches(transformer_options[key], transformer_options, c_crossattn)
            transformer_options = _joined(transformer_options, ours)
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **more)

    return wrapper


def _joined(options: Mapping[str, Any], ours: Mapping[Place, Around]) -> Mapping[str, Any]:
    if not ours:
        return options
    replaced = options.get("patches_replace", {})
    theirs = replaced.get("attn2", {})
    new = {
        place: around(theirs.get(place) or theirs.get(place[:2])) for place, around in ours.items()
    }
    return {**options, "patches_replace": {**replaced, "attn2": {**theirs, **new}}}
