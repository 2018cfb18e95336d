"""Weights of a concept that act in its own prompts alone: Custom Diffusion and DETEX side by side.

A prompt's keys and values are linear in the weights, W c + strength dW c. So the second part is
added to the keys and values of the chunks of a batch whose prompt names the concept, and several
concepts' weights never meet, nor do they act in negative prompts. The batch stays whole.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..host.attention import Place, Replace, cross_attention, patch_place
from .local_attention import chunks_of, mentioned

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

Pair = tuple[Tensor, Tensor]
"""Differences of to_k and to_v of one cross attention."""


class LocalWeights:
    """The differences of one applied concept, by transformer block, and the wrappers that add them.

    differences: by path of the layer, such as `middle_block.1.transformer_blocks.0.attn2.to_k`
    """

    def __init__(
        self, placeholder: str, differences: Mapping[str, Tensor], strength: float
    ) -> None:
        self.placeholder = placeholder
        self.key = f"personalize_weights_{placeholder}"
        self._pairs = {
            patch_place(path.removesuffix(".attn2.to_k")): tuple(
                strength * differences[path.removesuffix("to_k") + name]
                for name in ("to_k", "to_v")
            )
            for path in differences
            if path.endswith(".attn2.to_k")
        }
        self._moved: dict[tuple[torch.device, torch.dtype], dict[Place, Pair]] = {}

    def tell_patches(
        self,
        executor: Any,
        model: Any,
        conds: list[list[dict[str, Any]] | None],
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any],
    ) -> Any:
        """Wrapper around one evaluation of the model: which conditionings name the concept."""
        options = dict(model_options.get("transformer_options", {}))
        options[self.key] = frozenset(mentioned(conds, self.placeholder))
        model_options = {**model_options, "transformer_options": options}
        return executor(model, conds, x, timestep, model_options)

    def join(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = MappingProxyType({}),
        **more: Any,
    ) -> Any:
        """Wrapper around a pass of the UNet: patches its blocks if the batch names the concept."""
        chunks = chunks_of(transformer_options)
        named = transformer_options.get(self.key, frozenset())
        which = [n for n, chunk in enumerate(chunks) if chunk in named]
        if which and c_crossattn is not None:
            rows = torch.arange(len(c_crossattn)).view(len(chunks), -1)[which].flatten()
            transformer_options = self._joined(transformer_options, c_crossattn[rows], rows)
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **more)

    def _joined(self, options: Mapping[str, Any], context: Tensor, rows: Tensor) -> dict[str, Any]:
        replaced = options.get("patches_replace", {})
        theirs = replaced.get("attn2", {})
        ours = {
            place: partial(
                self._attend, place, theirs.get(place) or theirs.get(place[:2]), context, rows
            )
            for place in self._pairs
        }
        return {**options, "patches_replace": {**replaced, "attn2": {**theirs, **ours}}}

    def _attend(
        self,
        place: Place,
        inner: Replace | None,
        context: Tensor,
        rows: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        extra_options: dict[str, Any],
    ) -> Tensor:
        pair = self._at(k)[place]
        more = (context.to(k) @ difference.T for difference in pair)
        rows = rows.to(k.device)
        k, v = (kept.index_add(0, rows, extra) for kept, extra in zip((k, v), more, strict=True))
        return (inner or cross_attention)(q, k, v, extra_options)

    def _at(self, like: Tensor) -> dict[Place, Pair]:
        """The differences on a device and in a type, moved there once."""
        where = like.device, like.dtype
        if where not in self._moved:
            self._moved[where] = {
                place: (to_k.to(like), to_v.to(like)) for place, (to_k, to_v) in self._pairs.items()
            }
        return self._moved[where]


def with_local_weights(model: "ModelPatcher", weights: LocalWeights) -> "ModelPatcher":
    """A clone of the MODEL whose cross attention has the weights in the concept's own prompts."""
    clone: Any = model.clone()
    clone.add_wrapper_with_key("calc_cond_batch", "personalize", weights.tell_patches)
    clone.add_wrapper_with_key("apply_model", "personalize", weights.join)
    return clone
