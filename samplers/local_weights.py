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
from .named_samples import NamedSamples, named_samples

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class LocalWeights:
    """The differences of one applied concept, by transformer block, and the patches that add them.

    differences: by path of the layer, such as `middle_block.1.transformer_blocks.0.attn2.to_k`
    """

    def __init__(
        self, placeholder: str, differences: Mapping[str, Tensor], strength: float
    ) -> None:
        self.mentions = Mentions(placeholder)
        self.key = f"personalize_weights_{placeholder}"
        self._weights = {
            patch_place(path.removesuffix(".attn2.to_k")): strength
            * torch.cat([difference, differences[path.removesuffix("to_k") + "to_v"]])
            for path, difference in differences.items()
            if path.endswith(".attn2.to_k")
        }
        self._moved: dict[tuple[torch.device, torch.dtype], dict[Place, Tensor]] = {}

    def prepare(self, model: Any, conds: Conds, timestep: Tensor) -> Any:
        """Which conditionings name the concept."""
        return self.mentions.rows_in(conds)

    def patches_of(
        self, named: Container[BatchPart], options: Mapping[str, Any], texts: Tensor | None
    ) -> Mapping[Place, WrapPatch]:
        """Of all blocks, if the batch names the concept."""
        if texts is None:
            return {}
        rows = tuple((0,) if part in named else () for part in batch_parts(options))
        if not any(rows):
            return {}
        prompts = NamedPrompts(rows, texts)
        return {place: partial(self._wrap, place, prompts) for place in self._weights}

    def _wrap(self, place: Place, prompts: "NamedPrompts", inner: Replace | None) -> Replace:
        return partial(self._attend, place, prompts, inner or cross_attention)

    def _attend(
        self,
        place: Place,
        prompts: "NamedPrompts",
        inner: Replace,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        extra_options: dict[str, Any],
    ) -> Tensor:
        samples, context = prompts.at(k)
        more = context @ self._at(k)[place].T  # keys and values side by side
        k, v = (
            samples.add(kept, extra)
            for kept, extra in zip((k, v), more.split(k.shape[-1], dim=-1), strict=True)
        )
        return inner(q, k, v, extra_options)

    def _at(self, like: Tensor) -> dict[Place, Tensor]:
        """The differences on a device and in a type, moved there once."""
        where = like.device, like.dtype
        if where not in self._moved:
            self._moved[where] = {place: both.to(like) for place, both in self._weights.items()}
        return self._moved[where]


class NamedPrompts:
    """The prompts of one pass that name the concept, moved and cast once for all blocks.

    rows: of each part of the batch, none where it does not; texts: of the whole batch, (B, T, d)
    """

    def __init__(self, rows: tuple[tuple[int, ...], ...], texts: Tensor) -> None:
        self._rows, self._texts = rows, texts
        self._found: tuple[NamedSamples, Tensor] | None = None

    def at(self, keys: Tensor) -> tuple[NamedSamples, Tensor]:
        """Which they are, and what they say, (n, T, d), where and in what type the keys are."""
        if self._found is None or self._found[1].dtype != keys.dtype:
            samples = named_samples(self._rows, len(self._texts), keys.device)
            assert samples is not None  # some part has rows
            self._found = samples, samples.of(self._texts.to(keys))
        return self._found


def with_local_weights(model: "ModelPatcher", weights: LocalWeights) -> "ModelPatcher":
    """A clone of the MODEL whose cross attention has the weights in the concept's own prompts."""
    return with_wrapped_attention(model, weights.key, weights.prepare, weights.patches_of)
