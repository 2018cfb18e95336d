"""The self-attention of the host's text layers, and where another one can take its place."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from comfy.clip_model import CLIPAttention
from comfy.sd import CLIP
from torch import Tensor

from ..concepts.bases import TextLayer

Kernel = Callable[..., Tensor]
"""The host's attention: q, k, v (B, T, d), number of heads, mask -> (B, T, d)."""

LayerAttention = Callable[[Any, Tensor, Tensor, Kernel], Tensor]
"""Takes the place of a layer's self-attention: the layer's own with its projections, its normalised
input (B, T, d), the causal mask (T, T) and the kernel; returns (B, T, d) as the layer does."""

LayerAttentions = Mapping[TextLayer, LayerAttention]

_ACTIVE: ContextVar[LayerAttentions | None] = ContextVar("active_text_attention", default=None)


@contextmanager
def active_attention(layers: LayerAttentions) -> Iterator[None]:
    """A block in which these layers of a CLIP `with_open_layers` attend so."""
    token = _ACTIVE.set(layers)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


class OpenSelfAttention:
    """Stands for the `forward` of one layer's self-attention; does nothing outside of a block of
    `active_attention`, so that all other prompts are encoded by the untouched layer."""

    def __init__(
        self, forward: Callable[..., Tensor], attn: CLIPAttention, layer: TextLayer
    ) -> None:
        self.forward, self.attn, self.layer = forward, attn, layer

    def __call__(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        optimized_attention: Any = None,
        **more: Any,
    ) -> Tensor:
        """more: what hosts may hand to a layer beside these; it reaches the layer's own"""
        attend = (_ACTIVE.get() or {}).get(self.layer)
        if attend is None or mask is None:
            return self.forward(x, mask, optimized_attention, **more)
        return attend(self.attn, x, mask, optimized_attention)


def open_layers(clip: CLIP, layers: Iterable[TextLayer]) -> None:
    """Let other attention take the place of these layers' in a clone of a CLIP that is ours."""
    for layer in layers:
        path = self_attention_path(layer)
        forward = clip.patcher.get_model_object(f"{path}.forward")
        if not isinstance(forward, OpenSelfAttention):
            attn: Any = clip.patcher.get_model_object(path)
            patched = OpenSelfAttention(forward, attn, layer)
            clip.patcher.add_object_patch(f"{path}.forward", patched)


def self_attention_path(layer: TextLayer) -> str:
    """Path of a layer's self-attention in the CLIP's model. Patch its `.forward`, not the module:
    another module there would change the weights' names, and LoRA on them would silently vanish."""
    return f"{layer.encoder}.transformer.text_model.encoder.layers.{layer.index}.self_attn"
