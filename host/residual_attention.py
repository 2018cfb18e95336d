"""Self-attention of the host's text layers with residual keys and values beside the prompt's."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from comfy.clip_model import CLIPAttention
from torch import Tensor


@dataclass(frozen=True)
class Residuals:
    """Residual tokens of one layer: keys, values (n, d); logit_bias is added to their logits."""

    keys: Tensor
    values: Tensor
    logit_bias: float


Layers = dict[int, Sequence[Residuals]]
"""Residuals by layer of the text encoder; several of one layer stand side by side."""


def attend_with_residuals(
    attn: CLIPAttention,
    x: Tensor,
    mask: Tensor,
    attention: Callable[..., Tensor],
    residuals: Sequence[Residuals],
    rows: int | None = None,
) -> Tensor:
    """softmax(Q [dK; K]^T / sqrt(d) + [b; causal]) [dV; V] (CatVersion, Zhao et al. 2023, eq. 5).

    x: (B, T, d) normalised input; mask: (T, T) causal; every query may look at the residual tokens
    rows: the first batch rows that have residuals, None for all; the others attend as without them
    Returns (B, T, d), projected as the layer does.
    """
    q, k, v = attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)
    batch, length = x.shape[:2]
    keys = torch.cat([r.keys.to(k) for r in residuals])
    values = torch.cat([r.values.to(v) for r in residuals])
    bias = torch.cat([mask.new_full((r.keys.shape[0],), r.logit_bias) for r in residuals])
    columns = bias.expand(batch, length, -1)
    if rows is not None and rows < batch:
        columns = columns.clone()
        columns[rows:] = -torch.finfo(mask.dtype).max
    k = torch.cat([keys.expand(batch, -1, -1), k], dim=1)
    v = torch.cat([values.expand(batch, -1, -1), v], dim=1)
    wide = torch.cat([columns, mask.expand(batch, -1, -1)], dim=2)
    return attn.out_proj(attention(q, k, v, attn.heads, wide))


_ACTIVE: ContextVar[tuple[Layers, int] | None] = ContextVar("active_residuals", default=None)


@contextmanager
def active_residuals(layers: Layers, rows: int) -> Iterator[None]:
    """A block in which the patched layers attend to residuals in the first `rows` prompts."""
    token = _ACTIVE.set((layers, rows))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


class ResidualSelfAttention:
    """Stands for the `forward` of one layer's self-attention; does nothing outside of a block of
    `active_residuals`, so that all other prompts are encoded by the untouched layer."""

    def __init__(self, forward: Callable[..., Tensor], attn: CLIPAttention, layer: int) -> None:
        self.forward, self.attn, self.layer = forward, attn, layer

    def __call__(
        self, x: Tensor, mask: Tensor | None = None, optimized_attention: Any = None
    ) -> Tensor:
        layers, rows = _ACTIVE.get() or ({}, 0)
        residuals = layers.get(self.layer)
        if not residuals or mask is None:
            return self.forward(x, mask, optimized_attention)
        return attend_with_residuals(self.attn, x, mask, optimized_attention, residuals, rows)


def self_attention_path(text_key: str, layer: int) -> str:
    """Path of a layer's self-attention in the CLIP's model. Patch its `.forward`, not the module:
    another module there would change the weights' names, and LoRA on them would silently vanish."""
    return f"{text_key}.transformer.text_model.encoder.layers.{layer}.self_attn"
