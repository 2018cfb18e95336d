"""Weights of a concept that act in its own prompts alone, so that several stand side by side.

A prompt's keys and values are linear in the weights, W c + strength dW c. So the second part is
added to the keys and values of the chunks of a batch whose prompt names the concept, and several
concepts' weights never meet, nor do they act in negative prompts. The batch stays whole.
"""

from collections.abc import Container, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..host.attention import (
    Place,
    Replace,
    WrapPatch,
    cross_attention,
    patch_place,
    with_wrapped_attention,
)
from ..host.conditionings import BatchPart, Conds, batch_parts
from .mentions import Mentions

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

KeyAndValue = tuple[Tensor, Tensor]
"""Differences of to_k and to_v of one cross attention."""


class LocalWeights:
    """The differences of one applied concept, by transformer block, and the patches that add them.

    differences: by path of the layer, such as `middle_block.1.transformer_blocks.0.attn2.to_k`
    """

    def __init__(
        self, placeholder: str, differences: Mapping[str, Tensor], strength: float
    ) -> None:
        self.mentions = Mentions(placeholder)
        self.key = f"personalize_weights_{placeholder}"
        self._pairs = {
            patch_place(path.removesuffix(".attn2.to_k")): tuple(
                strength * differences[path.removesuffix("to_k") + name]
                for name in ("to_k", "to_v")
            )
            for path in differences
            if path.endswith(".attn2.to_k")
        }
        self._moved: dict[tuple[torch.device, torch.dtype], dict[Place, KeyAndValue]] = {}

    def prepare(self, model: Any, conds: Conds, timestep: Tensor) -> Any:
        """Which conditionings name the concept."""
        return self.mentions.rows_in(conds)

    def patches_of(
        self, named: Container[BatchPart], options: Mapping[str, Any], texts: Tensor | None
    ) -> Mapping[Place, WrapPatch]:
        """Of all blocks, if the batch names the concept."""
        batch = batch_parts(options)
        which = [n for n, part in enumerate(batch) if part in named]
        if not which or texts is None:
            return {}
        rows = torch.arange(len(texts)).view(len(batch), -1)[which].flatten()
        return {place: partial(self._wrap, place, texts[rows], rows) for place in self._pairs}

    def _wrap(self, place: Place, context: Tensor, rows: Tensor, inner: Replace | None) -> Replace:
        return partial(self._attend, place, inner, context, rows)

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

    def _at(self, like: Tensor) -> dict[Place, KeyAndValue]:
        """The differences on a device and in a type, moved there once."""
        where = like.device, like.dtype
        if where not in self._moved:
            self._moved[where] = {
                place: (to_k.to(like), to_v.to(like)) for place, (to_k, to_v) in self._pairs.items()
            }
        return self._moved[where]


def with_local_weights(model: "ModelPatcher", weights: LocalWeights) -> "ModelPatcher":
    """A clone of the MODEL whose cross attention has the weights in the concept's own prompts."""
    return with_wrapped_attention(model, weights.key, weights.prepare, weights.patches_of)
