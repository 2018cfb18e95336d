"""CatVersion's equation: self-attention with residual keys and values beside the prompt's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Residuals:
    """Residual tokens of one layer: keys, values (n, d); logit_bias is added to their logits."""

    keys: Tensor
    values: Tensor
    logit_bias: float


def attend_with_residuals(
    attn: Any,
    x: Tensor,
    mask: Tensor,
    kernel: Callable[..., Tensor],
    *,
    residuals: Sequence[Residuals],
    rows: int | None = None,
) -> Tensor:
    """softmax(Q [dK; K]^T / sqrt(d) + [b; causal]) [dV; V] (CatVersion, Zhao et al. 2023, eq. 5).

    attn: the layer, with q_proj, k_proj, v_proj, out_proj and its number of heads
    x: (B, T, d) normalised input; mask: (T, T) causal; every query may look at the residual tokens
    kernel: computes attention from q, k, v, the number of heads and a mask (B, T, n + T)
    residuals: of this layer; several stand side by side
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
    return attn.out_proj(kernel(q, k, v, attn.heads, wide))
